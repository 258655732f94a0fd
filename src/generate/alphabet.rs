//! The characters that a password is drawn from, in their classes.

use super::count::{ClassCount, ln_strings};
use super::{PolicyError, Spec};

/// The symbols used unless others are given; see [`Spec::default`].
const DEFAULT_SYMBOLS: &str = "-._~";
/// Characters taken for one another in many fonts.
pub(super) const LOOK_ALIKES: &str = "0O1lI|";

/// A class of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Lower,
    Upper,
    Digits,
    Symbols,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Lower, Self::Upper, Self::Digits, Self::Symbols];

    fn key(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Digits => "digits",
            Self::Symbols => "symbols",
        }
    }

    fn is_letters(self) -> bool {
        matches!(self, Self::Lower | Self::Upper)
    }

    fn asked(self, spec: &Spec) -> Option<u32> {
        match self {
            Self::Lower => spec.lower,
            Self::Upper => spec.upper,
            Self::Digits => spec.digits,
            Self::Symbols => spec.symbols,
        }
    }

    /// What the class consists of once everything unwanted is left out.
    fn characters(self, spec: &Spec) -> Vec<u8> {
        let all = match self {
            Self::Lower => "abcdefghijklmnopqrstuvwxyz",
            Self::Upper => "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            Self::Digits => "0123456789",
            Self::Symbols => spec.symbol_set.as_deref().unwrap_or(DEFAULT_SYMBOLS),
        };
        let mut left: Vec<u8> = all.chars().filter(|c| is_wanted(spec, *c)).filter_map(|c| c.try_into().ok()).collect();
        left.sort_unstable();
        left.dedup();
        left
    }
}

/// Whether nothing forbids this character.
pub(super) fn is_wanted(spec: &Spec, character: char) -> bool {
    let looks_alike = spec.no_look_alikes && LOOK_ALIKES.contains(character);
    !looks_alike && !spec.forbid.contains(character)
}

/// The classes in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alphabet {
    sets: Vec<Set>,
    /// Everything that may stand at the first place.
    first: Vec<u8>,
    /// Everything that may stand at any other.
    all: Vec<u8>,
    start_with_letter: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    class: Class,
    characters: Vec<u8>,
    least: u32,
}

impl Alphabet {
    pub(super) fn new(spec: &Spec) -> Result<Self, PolicyError> {
        let odd = |c: &char| !c.is_ascii_graphic() || c.is_ascii_alphanumeric();
        if let Some(odd) = spec.symbol_set.iter().flat_map(|set| set.chars()).find(odd) {
            return Err(PolicyError::NotASymbol(odd));
        }
        let any_given = Class::ALL.iter().any(|class| class.asked(spec).is_some());
        if any_given && spec.symbols.is_none() && spec.symbol_set.is_some() {
            return Err(PolicyError::SymbolSetUnused);
        }
        let mut sets = Vec::new();
        for class in Class::ALL {
            let characters = class.characters(spec);
            match class.asked(spec) {
                Some(_) if characters.is_empty() => return Err(PolicyError::EmptyClass { class: class.key() }),
                Some(least) => sets.push(Set { class, characters, least }),
                None if !any_given && !characters.is_empty() => sets.push(Set { class, characters, least: 1 }),
                None => {}
            }
        }
        let gather = |wanted: fn(Class) -> bool| -> Vec<u8> {
            sets.iter().filter(|set| wanted(set.class)).flat_map(|set| &set.characters).copied().collect()
        };
        let all = gather(|_| true);
        let first = if spec.start_with_letter { gather(Class::is_letters) } else { all.clone() };
        if all.is_empty() {
            return Err(PolicyError::EmptyClass { class: "any class" });
        }
        if first.is_empty() {
            return Err(PolicyError::NoLetters);
        }
        Ok(Self { sets, first, all, start_with_letter: spec.start_with_letter })
    }

    /// How many characters there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The characters for a place.
    pub(super) fn at(&self, place: u32) -> &[u8] {
        if place == 0 { &self.first } else { &self.all }
    }

    /// The least number of a class, if it is in use.
    pub(super) fn least(&self, class: Class) -> Option<u32> {
        self.sets.iter().find(|set| set.class == class).map(|set| set.least)
    }

    /// Whether the class could be used.
    pub(super) fn is_usable(class: Class, spec: &Spec) -> bool {
        !class.characters(spec).is_empty()
    }

    /// What the minimums add up to.
    pub(super) fn least_sum(&self) -> u32 {
        self.sets.iter().fold(0, |sum, set| sum.saturating_add(set.least))
    }

    /// Whether a string has enough of each class.
    pub(super) fn is_met_by(&self, text: &[u8]) -> bool {
        self.sets.iter().all(|set| {
            let found = text.iter().filter(|c| set.characters.contains(c)).count();
            found >= set.least as usize
        })
    }

    /// The logarithm to base 2 of the number of strings of this length that meet the minimums.
    pub(super) fn entropy_bits(&self, length: u32) -> f64 {
        self.ln_count(length) / std::f64::consts::LN_2
    }

    /// How many strings are drawn on average for one that meets the minimums.
    pub(super) fn draws(&self, length: u32) -> f64 {
        let others = f64::from(length.saturating_sub(1));
        let total = (self.first.len() as f64).ln() + others * (self.all.len() as f64).ln();
        (total - self.ln_count(length)).exp()
    }

    pub(super) fn describe(&self) -> String {
        let sets: Vec<String> = self.sets.iter().map(Set::describe).collect();
        let listed = match sets.as_slice() {
            [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
            _ => sets.concat(),
        };
        if self.start_with_letter { format!("{listed}, a letter first") } else { listed }
    }

    fn ln_count(&self, length: u32) -> f64 {
        let counts = |first: Option<Class>| -> Vec<ClassCount> {
            let left = |set: &Set| set.least.saturating_sub(u32::from(first == Some(set.class)));
            self.sets.iter().map(|set| ClassCount { size: set.characters.len(), least: left(set) }).collect()
        };
        if !self.start_with_letter {
            return ln_strings(&counts(None), length);
        }
        let with_first = |set: &Set| {
            (set.characters.len() as f64).ln() + ln_strings(&counts(Some(set.class)), length.saturating_sub(1))
        };
        let letters = self.sets.iter().filter(|set| set.class.is_letters());
        letters.map(with_first).fold(f64::NEG_INFINITY, super::count::ln_add)
    }
}

impl Set {
    fn describe(&self) -> String {
        let whole = match self.class {
            Class::Lower => (26, "a-z"),
            Class::Upper => (26, "A-Z"),
            Class::Digits => (10, "0-9"),
            Class::Symbols => (0, ""),
        };
        let named = if whole.0 == self.characters.len() {
            whole.1.to_owned()
        } else {
            self.characters.iter().map(|byte| char::from(*byte)).collect()
        };
        if self.least > 1 { format!("{named} (at least {})", self.least) } else { named }
    }
}
