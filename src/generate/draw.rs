//! The draw: every secret that a policy allows is equally likely, and nothing of it stays behind.

use keywheel_protocol::Secret;
use zeroize::{Zeroize, Zeroizing};

use super::Random;
use super::alphabet::Alphabet;
use super::words::Passphrase;

/// The digits of hexadecimal keys.
pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";
/// The digits of base64 (RFC 4648, section 4).
pub(super) const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A string over the alphabet. Strings that lack some class are thrown away whole: repairing one would favour some
/// strings over others.
pub(super) fn password(alphabet: &Alphabet, length: u32, random: Random<'_>) -> Secret {
    let mut source = Source::new(random);
    let mut text = Zeroizing::new(String::with_capacity(length as usize));
    loop {
        for place in 0..length {
            let characters = alphabet.at(place);
            text.push(char::from(characters[source.below(characters.len())]));
        }
        if alphabet.is_met_by(text.as_bytes()) {
            return finish(text);
        }
        text.zeroize();
    }
}

pub(super) fn passphrase(policy: &Passphrase, random: Random<'_>) -> Secret {
    let mut source = Source::new(random);
    let mut text = Zeroizing::new(String::with_capacity(policy.bytes_max()));
    for place in 0..policy.words {
        if place > 0 {
            text.push(policy.separator);
        }
        let start = text.len();
        text.push_str(policy.word(source.below(policy.words_to_draw_from())));
        if policy.capitals
            && let Some(first) = text.get_mut(start..start + 1)
        {
            first.make_ascii_uppercase();
        }
    }
    if policy.digits > 0 {
        text.push(policy.separator);
    }
    for _ in 0..policy.digits {
        text.push(char::from(policy.digit_set[source.below(policy.digit_set.len())]));
    }
    finish(text)
}

pub(super) fn hex(bytes: usize, random: Random<'_>) -> Secret {
    let mut key = Zeroizing::new(vec![0; bytes]);
    random(&mut key);
    let mut text = Zeroizing::new(String::with_capacity(bytes * 2));
    for byte in key.iter() {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    finish(text)
}

pub(super) fn base64(bytes: usize, random: Random<'_>) -> Secret {
    let mut key = Zeroizing::new(vec![0; bytes]);
    random(&mut key);
    finish(to_base64(&key))
}

/// In standard base64 with padding.
pub(super) fn to_base64(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(3) * 4));
    for group in bytes.chunks(3) {
        let mut bits = 0;
        for place in 0..3 {
            bits = bits << 8 | u32::from(group.get(place).copied().unwrap_or(0));
        }
        for place in 0..4 {
            let digit = char::from(BASE64[(bits >> (18 - 6 * place)) as usize & 63]);
            text.push(if place <= group.len() { digit } else { '=' });
        }
        bits.zeroize();
    }
    text
}

/// The bytes of base64 with padding, white space between its digits left out.
pub(super) fn from_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    let (mut bits, mut places) = (0_u32, 0);
    let digits = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for digit in digits {
        if digit == b'=' {
            continue;
        }
        let value = BASE64.iter().position(|known| *known == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        places += 6;
        if places >= 8 {
            places -= 8;
            bytes.push((bits >> places & 0xff) as u8);
        }
    }
    bits.zeroize();
    Some(bytes)
}

/// Hands the buffer itself over: no copy.
fn finish(mut text: Zeroizing<String>) -> Secret {
    Secret::new(std::mem::take(&mut *text))
}

/// Numbers without bias from random bytes.
struct Source<'a> {
    random: Random<'a>,
    buffer: Zeroizing<[u8; 128]>,
    used: usize,
}

impl<'a> Source<'a> {
    fn new(random: Random<'a>) -> Self {
        let buffer = Zeroizing::new([0; 128]);
        Self { random, used: buffer.len(), buffer }
    }

    /// A number below `bound` (1 to 65,536), each equally likely: 16 random bits, drawn again where the last,
    /// incomplete run of `bound` numbers begins.
    fn below(&mut self, bound: usize) -> usize {
        let even = 65_536 - 65_536 % bound;
        loop {
            let drawn = self.next_u16();
            if drawn < even {
                return drawn % bound;
            }
        }
    }

    fn next_u16(&mut self) -> usize {
        if self.used == self.buffer.len() {
            (self.random)(&mut *self.buffer);
            self.used = 0;
        }
        let drawn = usize::from(self.buffer[self.used]) << 8 | usize::from(self.buffer[self.used + 1]);
        self.used += 2;
        drawn
    }
}
