//! What can be wrong with a generation policy.

use super::LENGTH_MAX;

/// A policy that can't be used. [`PolicyError::remedy`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A number outside of its range.
    #[error("{key} = {value} is outside of {min} to {max}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it was set to.
        value: u32,
        /// The smallest allowed value.
        min: u32,
        /// The greatest allowed value.
        max: u32,
    },
    /// A key that means nothing for this kind.
    #[error("{key} means nothing for a secret of kind {kind}")]
    Unused {
        /// The key.
        key: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// Two keys that both set the length.
    #[error("{one} and {other} both set the length")]
    Both {
        /// One key.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// `symbol_set` without `symbols`.
    #[error("symbol_set is given, but symbols are not used")]
    SymbolSetUnused,
    /// A character that can't be a symbol.
    #[error("{0:?} can't be a symbol: symbols are printable ASCII characters other than letters, digits and the space")]
    NotASymbol(char),
    /// All characters of a class are forbidden.
    #[error("no character is left of {class} after what is forbidden")]
    EmptyClass {
        /// The class's key.
        class: &'static str,
    },
    /// `start_with_letter` without letters.
    #[error("the first character is to be a letter, but no letters are used")]
    NoLetters,
    /// The minimums add up to more than the length.
    #[error("the minimums of the classes add up to {sum}, the length is {length}")]
    Minimums {
        /// Their sum.
        sum: u32,
        /// The length.
        length: u32,
    },
    /// The minimums prescribe nearly everything.
    #[error("with {length} characters the minimums of the classes leave too little to chance")]
    TooTight {
        /// The length.
        length: u32,
    },
    /// The longest secret has fewer bits.
    #[error("{bits} bits are out of reach even at the greatest length, {length_max}")]
    BitsOutOfReach {
        /// What was asked for.
        bits: u32,
        /// Characters or words.
        length_max: u32,
    },
    /// A key that is not whole bytes.
    #[error("a key of {bits} bits is not a whole number of bytes")]
    Bytes {
        /// What was asked for.
        bits: u32,
    },
    /// No key pair has that many bits.
    #[error("a key pair of kind {kind} has no {bits} bits")]
    PairBits {
        /// What was asked for.
        bits: u32,
        /// The kind.
        kind: &'static str,
        /// What there is.
        known: [u32; 3],
    },
    /// `forbid` names a digit that the encoding needs.
    #[error("{needed:?} is forbidden, but a secret of kind {kind} needs it")]
    ForbiddenDigit {
        /// The character.
        needed: char,
        /// The kind.
        kind: &'static str,
    },
    /// The character between the words is forbidden.
    #[error("{0:?} stands between the words and is forbidden")]
    ForbiddenSeparator(char),
    /// Too few words are left.
    #[error("only {0} words are left after what is forbidden")]
    FewWords(usize),
}

impl PolicyError {
    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Range { key, min, max, .. } => format!("set {key} to a number from {min} to {max}"),
            Self::Unused { key, .. } => format!("remove {key}, or choose another kind"),
            Self::Both { one, other } => format!("keep one of {one} and {other}"),
            Self::SymbolSetUnused => "add `symbols = 1`, or remove symbol_set".to_owned(),
            Self::NotASymbol(_) => "remove it from symbol_set".to_owned(),
            Self::EmptyClass { class } => format!("forbid fewer characters, or remove {class}"),
            Self::NoLetters => "add `lower = 1`, or set `start_with_letter = false`".to_owned(),
            Self::Minimums { sum, .. } if *sum > LENGTH_MAX => "lower the minimums".to_owned(),
            Self::Minimums { sum, .. } => format!("set length to {sum} or more, or lower the minimums"),
            Self::TooTight { .. } => "lower the minimums, or raise the length".to_owned(),
            Self::BitsOutOfReach { .. } => "ask for fewer bits, or allow more characters".to_owned(),
            Self::Bytes { bits } => format!("use a multiple of 8, e.g. {}", bits.next_multiple_of(8)),
            Self::PairBits { known: [one, two, three], .. } => format!("set bits to {one}, {two} or {three}"),
            Self::ForbiddenDigit { needed, .. } => format!("remove {needed:?} from forbid, or choose another kind"),
            Self::ForbiddenSeparator(_) => "give another one in symbol_set, e.g. `symbol_set = \".\"`".to_owned(),
            Self::FewWords(_) => "forbid fewer letters, or choose another kind".to_owned(),
        })
    }
}
