//! Making secrets: policies, and the draw itself without bias. Pure: randomness is a parameter.

mod alphabet;
mod count;
mod draw;
mod error;
mod ssh;
mod words;

#[cfg(test)]
mod tests;

use keywheel_protocol::{Fields, Makes, Secret};

use alphabet::{Alphabet, Class};
pub use error::PolicyError;
pub use ssh::{PairType, public_key};
use words::Passphrase;

/// Random bytes for the draw; fills the whole slice.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// The entropy below which a policy needs a stated reason, in bits.
pub const ENTROPY_BITS_MIN: f64 = 80.0;
/// The shortest password, in characters.
pub const LENGTH_MIN: u32 = 8;
/// The longest password, in characters.
pub const LENGTH_MAX: u32 = 512;
/// The fewest words of a passphrase.
pub const WORDS_MIN: u32 = 3;
/// The most words of a passphrase.
pub const WORDS_MAX: u32 = 40;
/// The most digits at the end of a passphrase.
pub const PASSPHRASE_DIGITS_MAX: u32 = 9;
/// The shortest key, in bits.
pub const KEY_BITS_MIN: u32 = 64;
/// The longest key, in bits.
pub const KEY_BITS_MAX: u32 = 4096;
/// How many strings may be drawn on average for one that meets the minimums. Beyond it the policy is refused: it
/// prescribes nearly every character and leaves little to chance.
pub const DRAWS_MAX: f64 = 4096.0;

const LENGTH_DEFAULT: u32 = 32;
const WORDS_DEFAULT: u32 = 8;
const KEY_BITS_DEFAULT: u32 = 256;
/// Characters added to a password for each value that a target refused.
const STRICTER_LENGTH: u32 = 8;

/// What kind of secret a policy makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Characters of up to four classes.
    #[default]
    Password,
    /// Words of the EFF's large list.
    Passphrase,
    /// A key as lower-case hexadecimal digits.
    Hex,
    /// A key in standard base64 with padding (RFC 4648, section 4).
    Base64,
    /// An SSH key pair, Ed25519.
    SshEd25519,
    /// An SSH key pair, ECDSA.
    SshEcdsa,
    /// An SSH key pair, RSA.
    SshRsa,
}

/// A generation policy as it is configured.
///
/// A class that is `None` is not used; `Some(n)` is used with at least `n` of it. A password for which no class is
/// given uses all four with at least one of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What is made.
    pub kind: Kind,
    /// Password: characters, [`LENGTH_MIN`] to [`LENGTH_MAX`]. Hex: digits.
    pub length: Option<u32>,
    /// Keys: bits, a multiple of 8 from [`KEY_BITS_MIN`] to [`KEY_BITS_MAX`]. ECDSA: 256, 384 or 521. RSA: 2048, 3072 or
    /// 4096. Passwords and passphrases: the least entropy, from which the length follows. Not together with `length` or
    /// `words`.
    pub bits: Option<u32>,
    /// Passphrase: words, [`WORDS_MIN`] to [`WORDS_MAX`].
    pub words: Option<u32>,
    /// `a-z`.
    pub lower: Option<u32>,
    /// `A-Z`. Passphrase: each word begins with a capital.
    pub upper: Option<u32>,
    /// `0-9`. Passphrase: that many digits at the end.
    pub digits: Option<u32>,
    /// The symbols of `symbol_set`.
    pub symbols: Option<u32>,
    /// Printable ASCII other than letters, digits and space; `-._~` if it is not given. Passphrase: its first character
    /// stands between the words, `-` if it is not given.
    pub symbol_set: Option<String>,
    /// Characters that never occur.
    pub forbid: String,
    /// The first character of a password is a letter. Passphrases start with one anyhow, keys can't be told to.
    pub start_with_letter: bool,
    /// None of `0 O 1 l I |`, for secrets that people type.
    pub no_look_alikes: bool,
}

impl Default for Spec {
    /// 32 characters of letters, digits and `-._~`, at least one of each, a letter first: 193 bits.
    ///
    /// The symbols are the unreserved ones of RFC 3986: they mean nothing to shells (behind a letter), URLs, connection
    /// strings, INI files, LDAP filters and names, and count as the fourth class of Active Directory's complexity rule.
    fn default() -> Self {
        Self {
            kind: Kind::Password,
            length: None,
            bits: None,
            words: None,
            lower: None,
            upper: None,
            digits: None,
            symbols: None,
            symbol_set: None,
            forbid: String::new(),
            start_with_letter: true,
            no_look_alikes: false,
        }
    }
}

/// A checked generation policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it was made from, for [`Policy::stricter`].
    spec: Spec,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Password { alphabet: Alphabet, length: u32 },
    Passphrase(Passphrase),
    Hex { bytes: usize },
    Base64 { bytes: usize },
    Ed25519,
    Pair(PairType),
}

impl Policy {
    /// Checks a policy. Low entropy is no error here: compare [`Policy::entropy_bits`] with [`ENTROPY_BITS_MIN`].
    ///
    /// # Errors
    /// What contradicts itself, is out of range, or leaves nothing to draw from.
    pub fn new(spec: Spec) -> Result<Self, PolicyError> {
        let shape = match spec.kind {
            Kind::Password => password(&spec)?,
            Kind::Passphrase => Shape::Passphrase(passphrase(&spec)?),
            Kind::Hex => Shape::Hex {
                bytes: key_bytes(&spec, "hexadecimal", draw::HEX, spec.length.map(|n| n.saturating_mul(4)))?,
            },
            Kind::Base64 => Shape::Base64 { bytes: base64_bytes(&spec)? },
            Kind::SshEd25519 => ed25519(&spec)?,
            Kind::SshEcdsa => Shape::Pair(PairType::Ecdsa(pair_bits(&spec, "ssh-ecdsa", [256, 384, 521], 256)?)),
            Kind::SshRsa => Shape::Pair(PairType::Rsa(pair_bits(&spec, "ssh-rsa", [2048, 3072, 4096], 3072)?)),
        };
        Ok(Self { spec, shape })
    }

    /// Makes Ed25519 key pairs.
    pub fn ssh_key() -> Self {
        let spec = Spec { kind: Kind::SshEd25519, ..Spec::default() };
        Self { spec, shape: Shape::Ed25519 }
    }

    /// The bits of entropy of what [`Policy::generate`] draws: the logarithm of how many secrets there are, all of them
    /// equally likely.
    pub fn entropy_bits(&self) -> f64 {
        match &self.shape {
            Shape::Password { alphabet, length } => alphabet.entropy_bits(*length),
            Shape::Passphrase(passphrase) => passphrase.entropy_bits(),
            Shape::Hex { bytes } | Shape::Base64 { bytes } => *bytes as f64 * 8.0,
            // What finding the private key of a curve of 256 bits costs.
            Shape::Ed25519 => 128.0,
            Shape::Pair(pair) => pair.strength_bits(),
        }
    }

    /// What the policy makes.
    pub fn makes(&self) -> Makes {
        match self.shape {
            Shape::Password { .. } | Shape::Passphrase(_) | Shape::Hex { .. } | Shape::Base64 { .. } => Makes::Password,
            Shape::Ed25519 | Shape::Pair(_) => Makes::SshKey,
        }
    }

    /// The type of key pair that a worker has to make, where this process has no library for it; [`PairType::fields`] turns
    /// what it makes into the secret.
    pub fn pair_type(&self) -> Option<PairType> {
        match self.shape {
            Shape::Pair(pair) => Some(pair),
            Shape::Password { .. }
            | Shape::Passphrase(_)
            | Shape::Hex { .. }
            | Shape::Base64 { .. }
            | Shape::Ed25519 => None,
        }
    }

    /// A new secret: `password`, or `private_key` and `public_key`; none where [`Policy::pair_type`] says that a worker makes
    /// it. Every buffer on the way to it is wiped.
    ///
    /// Does not return as long as `random` gives the same few bytes for ever.
    pub fn generate(&self, random: Random<'_>) -> Option<Fields> {
        let password = |password: Secret| {
            let mut fields = Fields::new();
            fields.insert("password", password);
            fields
        };
        Some(match &self.shape {
            Shape::Password { alphabet, length } => password(draw::password(alphabet, *length, random)),
            Shape::Passphrase(passphrase) => password(draw::passphrase(passphrase, random)),
            Shape::Hex { bytes } => password(draw::hex(*bytes, random)),
            Shape::Base64 { bytes } => password(draw::base64(*bytes, random)),
            Shape::Ed25519 => ssh::key_pair(random),
            Shape::Pair(_) => return None,
        })
    }

    /// The policy to use after a target refused `refusals` values (1 or more) of this one: longer, with more of every
    /// class that `forbid` leaves, within the limits. Keys stay as they are: their form is their user's.
    #[must_use]
    pub fn stricter(&self, refusals: u32) -> Self {
        let steps = refusals.clamp(1, LENGTH_MAX);
        match &self.shape {
            Shape::Password { alphabet, length } => self.stricter_password(alphabet, *length, steps),
            Shape::Passphrase(now) => self.stricter_passphrase(now, steps),
            Shape::Hex { .. } | Shape::Base64 { .. } | Shape::Ed25519 | Shape::Pair(_) => self.clone(),
        }
    }

    /// What is made, in words, e.g. `32 characters of a-z, A-Z, 0-9 and -._~, a letter first`.
    pub fn describe(&self) -> String {
        match &self.shape {
            Shape::Password { alphabet, length } => format!("{length} characters of {}", alphabet.describe()),
            Shape::Passphrase(passphrase) => passphrase.describe(),
            Shape::Hex { bytes } => format!("a key of {} bits in hexadecimal", bytes * 8),
            Shape::Base64 { bytes } => format!("a key of {} bits in base64", bytes * 8),
            Shape::Ed25519 => "an Ed25519 key pair".to_owned(),
            Shape::Pair(pair) => format!("an {pair} key pair"),
        }
    }

    /// Minimums rise as far as the draw can still meet them by chance.
    fn stricter_password(&self, alphabet: &Alphabet, length: u32, steps: u32) -> Self {
        let length = length.saturating_add(steps.saturating_mul(STRICTER_LENGTH)).min(LENGTH_MAX);
        let least = |class: Class, more: u32| {
            let before = alphabet.least(class);
            let usable = before.is_some() || Alphabet::is_usable(class, &self.spec);
            if usable { Some(before.unwrap_or(0).max(1 + more)) } else { None }
        };
        for more in (0..=steps.min(length / 8)).rev() {
            let spec = Spec {
                length: Some(length),
                bits: None,
                lower: least(Class::Lower, more),
                upper: least(Class::Upper, more),
                digits: least(Class::Digits, more),
                symbols: least(Class::Symbols, more),
                symbol_set: least(Class::Symbols, more).and(self.spec.symbol_set.clone()),
                ..self.spec.clone()
            };
            if let Ok(stricter) = Self::new(spec) {
                return stricter;
            }
        }
        self.clone()
    }

    /// Capitals and digits come in as far as `forbid` leaves them.
    fn stricter_passphrase(&self, now: &Passphrase, steps: u32) -> Self {
        let longer =
            Spec { words: Some(now.words.saturating_add(steps).min(WORDS_MAX)), bits: None, ..self.spec.clone() };
        let digits = Some(now.digits.saturating_add(steps).min(PASSPHRASE_DIGITS_MAX));
        let capitals = Spec { upper: Some(1), ..longer.clone() };
        let all = Spec { digits, ..capitals.clone() };
        let choices = [all, Spec { digits, ..longer.clone() }, capitals, longer];
        choices.into_iter().find_map(|spec| Self::new(spec).ok()).unwrap_or_else(|| self.clone())
    }
}

impl Default for Policy {
    /// The policy of [`Spec::default`].
    fn default() -> Self {
        Self::new(Spec::default()).expect("the default policy is a good one")
    }
}

fn password(spec: &Spec) -> Result<Shape, PolicyError> {
    if spec.words.is_some() {
        return Err(PolicyError::Unused { key: "words", kind: "password" });
    }
    let alphabet = Alphabet::new(spec)?;
    let sum = alphabet.least_sum();
    if sum > spec.length.unwrap_or(LENGTH_MAX) {
        return Err(PolicyError::Minimums { sum, length: spec.length.unwrap_or(LENGTH_MAX) });
    }
    let length = match (spec.length, spec.bits) {
        (Some(_), Some(_)) => return Err(PolicyError::Both { one: "length", other: "bits" }),
        (Some(length), None) => in_range("length", length, LENGTH_MIN, LENGTH_MAX)?,
        (None, None) => LENGTH_DEFAULT.max(sum),
        (None, Some(bits)) => {
            let bits = in_range("bits", bits, 1, KEY_BITS_MAX)?;
            let first = LENGTH_MIN.max(sum);
            // Entropy grows by at most the alphabet's own bits with each character: no shorter length can do.
            let first = first.max((f64::from(bits) / (alphabet.len() as f64).log2()).floor() as u32);
            (first..=LENGTH_MAX)
                .find(|length| alphabet.entropy_bits(*length) >= f64::from(bits))
                .ok_or(PolicyError::BitsOutOfReach { bits, length_max: LENGTH_MAX })?
        }
    };
    if alphabet.draws(length) > DRAWS_MAX {
        return Err(PolicyError::TooTight { length });
    }
    Ok(Shape::Password { alphabet, length })
}

fn passphrase(spec: &Spec) -> Result<Passphrase, PolicyError> {
    let unused = [("length", spec.length), ("lower", spec.lower), ("symbols", spec.symbols)];
    if let Some((key, _)) = unused.iter().find(|(_, value)| value.is_some()) {
        return Err(PolicyError::Unused { key, kind: "passphrase" });
    }
    let digits = in_range("digits", spec.digits.unwrap_or(0), 0, PASSPHRASE_DIGITS_MAX)?;
    let with = |words| Passphrase::new(spec, words, digits);
    match (spec.words, spec.bits) {
        (Some(_), Some(_)) => Err(PolicyError::Both { one: "words", other: "bits" }),
        (Some(words), None) => with(in_range("words", words, WORDS_MIN, WORDS_MAX)?),
        (None, None) => with(WORDS_DEFAULT),
        (None, Some(bits)) => {
            let enough = with(1)?.words_for(f64::from(bits)).max(WORDS_MIN);
            if enough > WORDS_MAX {
                return Err(PolicyError::BitsOutOfReach { bits, length_max: WORDS_MAX });
            }
            with(enough)
        }
    }
}

/// How many bytes a key has, from `bits` or from what the length comes to.
fn key_bytes(spec: &Spec, kind: &'static str, digits: &[u8], from_length: Option<u32>) -> Result<usize, PolicyError> {
    let classes = [("lower", spec.lower), ("upper", spec.upper), ("digits", spec.digits), ("symbols", spec.symbols)];
    let unused = classes.into_iter().chain([("words", spec.words)]).find(|(_, value)| value.is_some());
    let unused = unused.map(|(key, _)| key).or(spec.symbol_set.as_ref().map(|_| "symbol_set"));
    let unused = unused.or(spec.no_look_alikes.then_some("no_look_alikes"));
    if let Some(key) = unused {
        return Err(PolicyError::Unused { key, kind });
    }
    if let Some(needed) = spec.forbid.chars().find(|c| u8::try_from(*c).is_ok_and(|c| digits.contains(&c))) {
        return Err(PolicyError::ForbiddenDigit { needed, kind });
    }
    let bits = match (spec.bits, from_length) {
        (Some(_), Some(_)) => return Err(PolicyError::Both { one: "length", other: "bits" }),
        (Some(bits), None) | (None, Some(bits)) => bits,
        (None, None) => KEY_BITS_DEFAULT,
    };
    let bits = in_range("bits", bits, KEY_BITS_MIN, KEY_BITS_MAX)?;
    if bits.is_multiple_of(8) { Ok(bits as usize / 8) } else { Err(PolicyError::Bytes { bits }) }
}

fn base64_bytes(spec: &Spec) -> Result<usize, PolicyError> {
    if spec.length.is_some() {
        return Err(PolicyError::Unused { key: "length", kind: "base64" });
    }
    let bytes = key_bytes(spec, "base64", draw::BASE64, None)?;
    if spec.forbid.contains('=') && !bytes.is_multiple_of(3) {
        return Err(PolicyError::ForbiddenDigit { needed: '=', kind: "base64" });
    }
    Ok(bytes)
}

/// The number of bits is one of few.
fn pair_bits(spec: &Spec, kind: &'static str, known: [u32; 3], default: u32) -> Result<u32, PolicyError> {
    if spec.length.is_some() {
        return Err(PolicyError::Unused { key: "length", kind });
    }
    let bits = spec.bits.unwrap_or(default);
    key_bytes(&Spec { bits: None, ..spec.clone() }, kind, b"", None)?;
    if known.contains(&bits) { Ok(bits) } else { Err(PolicyError::PairBits { bits, kind, known }) }
}

/// These have no shape to choose.
fn ed25519(spec: &Spec) -> Result<Shape, PolicyError> {
    let kind = "ssh-ed25519";
    let chosen = [("length", spec.length), ("bits", spec.bits)].into_iter().find(|(_, value)| value.is_some());
    if let Some((key, _)) = chosen {
        return Err(PolicyError::Unused { key, kind });
    }
    key_bytes(spec, kind, b"", None).map(|_| Shape::Ed25519)
}

fn in_range(key: &'static str, value: u32, min: u32, max: u32) -> Result<u32, PolicyError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(PolicyError::Range { key, value, min, max }) }
}
