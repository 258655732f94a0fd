//! Passphrases from the large word list of the Electronic Frontier Foundation (7,776 words,
//! <https://www.eff.org/dice>, CC BY 3.0 US).

use std::sync::LazyLock;

use super::alphabet::is_wanted;
use super::{PolicyError, Spec};

/// One word a line. As text it is a fifth of what a table of it is in the executable, which few use at all.
pub(super) static WORDS: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("eff_large_wordlist.txt").lines().collect());

/// The fewest words to draw from.
const LIST_MIN: usize = 1024;

/// A checked passphrase policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passphrase {
    /// How many words.
    pub(super) words: u32,
    /// Stands between them.
    pub(super) separator: char,
    /// Whether words begin with a capital.
    pub(super) capitals: bool,
    /// How many digits follow the last word.
    pub(super) digits: u32,
    /// What those are drawn from; not empty if there are any.
    pub(super) digit_set: Vec<u8>,
    /// Places in the list of the words that remain.
    list: Vec<u16>,
    word_bytes_max: usize,
}

impl Passphrase {
    pub(super) fn new(spec: &Spec, words: u32, digits: u32) -> Result<Self, PolicyError> {
        let capitals = spec.upper.is_some_and(|least| least > 0);
        let separator = spec.symbol_set.as_deref().and_then(|set| set.chars().next()).unwrap_or('-');
        if !separator.is_ascii_graphic() || separator.is_ascii_alphanumeric() {
            return Err(PolicyError::NotASymbol(separator));
        }
        if spec.forbid.contains(separator) {
            return Err(PolicyError::ForbiddenSeparator(separator));
        }
        // A word with the separator inside could be read as two: then not every passphrase would be drawn equally
        // often.
        let fits = |word: &str| {
            let capital = word.chars().next().filter(|_| capitals).map(|c| c.to_ascii_uppercase());
            let rest = word.chars().skip(usize::from(capitals));
            capital.into_iter().chain(rest).all(|c| c != separator && !spec.forbid.contains(c))
        };
        let list: Vec<u16> = (0..).zip(WORDS.iter()).filter(|(_, word)| fits(word)).map(|(i, _)| i).collect();
        if list.len() < LIST_MIN {
            return Err(PolicyError::FewWords(list.len()));
        }
        let digit_set: Vec<u8> = (b'0'..=b'9').filter(|digit| is_wanted(spec, char::from(*digit))).collect();
        if digits > 0 && digit_set.is_empty() {
            return Err(PolicyError::EmptyClass { class: "digits" });
        }
        let word_bytes_max = WORDS.iter().map(|word| word.len()).max().unwrap_or(0);
        Ok(Self { words, separator, capitals, digits, digit_set, list, word_bytes_max })
    }

    pub(super) fn entropy_bits(&self) -> f64 {
        f64::from(self.words) * self.word_bits() + self.digit_bits()
    }

    /// The fewest words with which the entropy is at least `bits`.
    pub(super) fn words_for(&self, bits: f64) -> u32 {
        ((bits - self.digit_bits()) / self.word_bits()).ceil().max(1.0) as u32
    }

    pub(super) fn words_to_draw_from(&self) -> usize {
        self.list.len()
    }

    pub(super) fn word(&self, place: usize) -> &'static str {
        WORDS[usize::from(self.list[place])]
    }

    /// The size of the longest passphrase.
    pub(super) fn bytes_max(&self) -> usize {
        self.words as usize * (self.word_bytes_max + 1) + self.digits as usize
    }

    pub(super) fn describe(&self) -> String {
        let digits = match self.digits {
            0 => String::new(),
            1 => " and a digit".to_owned(),
            n => format!(" and {n} digits"),
        };
        format!("{} words{digits}, {:?} between", self.words, self.separator)
    }

    fn word_bits(&self) -> f64 {
        (self.list.len() as f64).log2()
    }

    fn digit_bits(&self) -> f64 {
        if self.digits == 0 { 0.0 } else { f64::from(self.digits) * (self.digit_set.len() as f64).log2() }
    }
}
