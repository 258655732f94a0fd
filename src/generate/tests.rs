//! Generation against brute force, and its spread against chance.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

trait Password {
    fn expose(&self) -> &str;
}

impl Password for Fields {
    fn expose(&self) -> &str {
        self.get("password").expect("a password").expose()
    }
}

/// A generator that gives the same bytes for the same seed.
fn seeded(seed: u64) -> impl FnMut(&mut [u8]) {
    // xorshift64* (Marsaglia 2003, Vigna 2016).
    let mut state = seed | 1;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            *byte = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0];
        }
    }
}

/// A password of 8 characters from `a b`, `X`, `0 1` and `-`, as far as the classes are given.
fn tiny(lower: Option<u32>, upper: Option<u32>, digits: Option<u32>, symbols: Option<u32>, letter: bool) -> Spec {
    Spec {
        length: Some(8),
        lower,
        upper,
        digits,
        symbols,
        symbol_set: symbols.map(|_| "-".to_owned()),
        forbid: "cdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWYZ23456789".to_owned(),
        start_with_letter: letter,
        ..Spec::default()
    }
}

/// Every string that the specification of [`tiny`] allows, by trying all.
fn allowed_by(spec: &Spec) -> Vec<String> {
    let classes = [("ab", spec.lower), ("X", spec.upper), ("01", spec.digits), ("-", spec.symbols)];
    let all: Vec<char> = classes.iter().filter(|(_, least)| least.is_some()).flat_map(|(set, _)| set.chars()).collect();
    let mut strings = vec![String::new()];
    for _ in 0..8 {
        strings = strings.iter().flat_map(|s| all.iter().map(move |c| format!("{s}{c}"))).collect();
    }
    strings.retain(|s| {
        let enough = classes
            .iter()
            .all(|(set, least)| s.chars().filter(|c| set.contains(*c)).count() >= least.unwrap_or(0) as usize);
        enough && (!spec.start_with_letter || s.starts_with(|c: char| c.is_ascii_alphabetic()))
    });
    strings
}

#[test]
fn entropy_is_the_logarithm_of_the_number_of_secrets_counted_one_by_one() {
    for letter in [false, true] {
        for spec in [
            tiny(Some(0), None, Some(0), None, letter),
            tiny(Some(1), None, Some(1), None, letter),
            tiny(Some(3), None, Some(2), Some(1), letter),
            tiny(Some(0), Some(2), None, Some(2), letter),
            tiny(None, Some(4), Some(4), None, letter),
            tiny(Some(2), Some(1), Some(1), None, letter),
            tiny(Some(0), None, None, None, letter),
        ] {
            let counted = (allowed_by(&spec).len() as f64).log2();
            let policy = Policy::new(spec.clone()).expect("a policy");
            assert!((policy.entropy_bits() - counted).abs() < 1e-9, "{spec:?}: {} {counted}", policy.entropy_bits());
        }
    }
}

#[test]
fn every_allowed_secret_is_equally_likely() {
    let spec = tiny(Some(2), None, Some(5), None, true);
    let mut seen: BTreeMap<String, f64> = allowed_by(&spec).into_iter().map(|s| (s, 0.0)).collect();
    let policy = Policy::new(spec).expect("a policy");
    let mut random = seeded(1);
    let expected = 20.0;
    for _ in 0..seen.len() * 20 {
        let secret = policy.generate(&mut random).expect("drawn");
        *seen.get_mut(secret.expose()).expect("an allowed secret") += 1.0;
    }
    // Chi-square is near normal for that many cells: mean f, variance 2f.
    let chi_square: f64 = seen.values().map(|n| (n - expected) * (n - expected) / expected).sum();
    let freedom = seen.len() as f64 - 1.0;
    let deviation = (chi_square - freedom) / (2.0 * freedom).sqrt();
    assert!(deviation.abs() < 5.0, "{chi_square} with {freedom} degrees of freedom");
}

#[test]
fn each_place_of_the_default_password_shows_no_bias() {
    let policy = Policy::default();
    let mut random = seeded(2);
    let mut counts = vec![BTreeMap::<u8, f64>::new(); 32];
    let rounds = 20_000;
    for _ in 0..rounds {
        for (place, byte) in policy.generate(&mut random).expect("drawn").expose().bytes().enumerate() {
            *counts[place].entry(byte).or_default() += 1.0;
        }
    }
    for (place, seen) in counts.iter().enumerate() {
        assert_eq!(seen.len(), if place == 0 { 52 } else { 66 });
        // Minimums of one in 32 places shift the shares of classes a little; within a class they must not.
        for class in [u8::is_ascii_lowercase as fn(&u8) -> bool, u8::is_ascii_uppercase, u8::is_ascii_digit] {
            let cells: Vec<f64> = seen.iter().filter(|(byte, _)| class(byte)).map(|(_, n)| *n).collect();
            if cells.is_empty() {
                continue;
            }
            let expected = cells.iter().sum::<f64>() / cells.len() as f64;
            let chi_square: f64 = cells.iter().map(|n| (n - expected) * (n - expected) / expected).sum();
            let freedom = cells.len() as f64 - 1.0;
            assert!(chi_square < freedom + 6.0 * (2.0 * freedom).sqrt(), "place {place}: {chi_square} of {freedom}");
        }
    }
}

#[test]
fn the_default_is_what_every_target_takes() {
    let policy = Policy::default();
    assert!((policy.entropy_bits() - 192.0).abs() < 2.0, "{}", policy.entropy_bits());
    assert_eq!(policy.describe(), "32 characters of a-z, A-Z, 0-9 and -._~, a letter first");
    let mut random = seeded(3);
    for _ in 0..500 {
        let secret = policy.generate(&mut random).expect("drawn");
        let text = secret.expose();
        assert_eq!(text.len(), 32);
        assert!(text.starts_with(|c: char| c.is_ascii_alphabetic()), "{text}");
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)), "{text}");
        assert!(text.bytes().any(|b| b.is_ascii_lowercase()) && text.bytes().any(|b| b.is_ascii_uppercase()));
        assert!(text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().any(|b| b"-._~".contains(&b)));
    }
}

#[test]
fn keys_are_encoded_as_the_rfc_says() {
    for (kind, bits, expected) in [
        (Kind::Hex, 64, "666f6f6261727171"),
        (Kind::Base64, 64, "Zm9vYmFycXE="),
        (Kind::Base64, 72, "Zm9vYmFycXFx"),
        (Kind::Base64, 80, "Zm9vYmFycXFxcQ=="),
    ] {
        let policy = Policy::new(Spec { kind, bits: Some(bits), ..Spec::default() }).expect("a policy");
        let drawn = policy.generate(&mut |bytes| {
            bytes.fill(b'q');
            bytes[..6].copy_from_slice(b"foobar");
        });
        assert_eq!(drawn.expect("drawn").expose(), expected);
        assert!((policy.entropy_bits() - f64::from(bits)).abs() < 1e-9);
    }
    let by_length = Policy::new(Spec { kind: Kind::Hex, length: Some(64), ..Spec::default() }).expect("a policy");
    assert!((by_length.entropy_bits() - 256.0).abs() < 1e-9);
}

#[test]
fn passphrases_consist_of_whole_words_and_fit_their_buffer() {
    let spec = Spec { kind: Kind::Passphrase, digits: Some(2), upper: Some(1), ..Spec::default() };
    let policy = Policy::new(spec).expect("a policy");
    assert!(policy.entropy_bits() > 8.0 * 12.92 && policy.entropy_bits() < 8.0 * 12.93 + 6.7);
    let Shape::Passphrase(shape) = &policy.shape else { panic!("a passphrase") };
    let mut random = seeded(4);
    for _ in 0..500 {
        let secret = policy.generate(&mut random).expect("drawn");
        let parts: Vec<&str> = secret.expose().split('-').collect();
        assert_eq!(parts.len(), 9, "{parts:?}");
        for word in &parts[..8] {
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(super::words::WORDS.contains(&word.to_lowercase().as_str()), "{word}");
        }
        assert!(parts[8].len() == 2 && parts[8].bytes().all(|b| b.is_ascii_digit()));
        assert!(secret.expose().len() <= shape.bytes_max());
    }
}

#[test]
fn the_word_list_is_the_one_that_was_counted_on() {
    assert_eq!(*super::words::WORDS, diceware_wordlists::EFF_LONG_WORDLIST);
    let words: std::collections::BTreeSet<_> = super::words::WORDS.iter().collect();
    assert_eq!(words.len(), 7776);
    assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    assert_eq!(words.iter().filter(|word| word.contains('-')).count(), 4);
}

#[test]
fn a_wish_for_bits_is_met_by_the_shortest_secret_that_has_them() {
    for bits in [60, 80, 128, 256, 1000] {
        let policy = Policy::new(Spec { bits: Some(bits), ..Spec::default() }).expect("a policy");
        let Shape::Password { alphabet, length } = &policy.shape else { panic!("a password") };
        assert!(policy.entropy_bits() >= f64::from(bits));
        assert!(*length == LENGTH_MIN || alphabet.entropy_bits(length - 1) < f64::from(bits));
        let kind = Kind::Passphrase;
        let words = Policy::new(Spec { kind, bits: Some(bits.min(500)), ..Spec::default() }).expect("a policy");
        assert!(words.entropy_bits() >= f64::from(bits.min(500)) && words.entropy_bits() < f64::from(bits) + 26.0);
    }
}

#[test]
fn what_is_wrong_is_said_with_a_remedy() {
    let password = Spec::default();
    let cases = [
        (Spec { length: Some(7), ..password.clone() }, "length = 7 is outside of 8 to 512"),
        (Spec { length: Some(513), ..password.clone() }, "length = 513 is outside of 8 to 512"),
        (Spec { length: Some(20), bits: Some(90), ..password.clone() }, "length and bits both set the length"),
        (Spec { words: Some(5), ..password.clone() }, "words means nothing for a secret of kind password"),
        (Spec { lower: Some(u32::MAX), upper: Some(9), ..password.clone() }, "add up to 4294967295"),
        (
            Spec { lower: Some(30), upper: Some(9), length: Some(32), ..password.clone() },
            "the minimums of the classes add up to 39, the length is 32",
        ),
        (
            Spec { lower: Some(0), digits: Some(31), ..password.clone() },
            "with 32 characters the minimums of the classes leave too little to chance",
        ),
        (
            Spec { digits: Some(1), ..password.clone() },
            "the first character is to be a letter, but no letters are used",
        ),
        (
            Spec { lower: Some(1), symbol_set: Some("!".into()), ..password.clone() },
            "symbol_set is given, but symbols are not used",
        ),
        (Spec { symbol_set: Some("!a".into()), ..password.clone() }, "'a' can't be a symbol"),
        (Spec { symbol_set: Some("! ".into()), ..password.clone() }, "' ' can't be a symbol"),
        (Spec { symbol_set: Some("é".into()), ..password.clone() }, "'é' can't be a symbol"),
        (
            Spec { lower: Some(1), digits: Some(1), forbid: "0123456789".into(), ..password.clone() },
            "no character is left of digits",
        ),
        (Spec { bits: Some(4000), ..password.clone() }, "4000 bits are out of reach"),
        (Spec { kind: Kind::Hex, bits: Some(100), ..password.clone() }, "100 bits is not a whole number of bytes"),
        (Spec { kind: Kind::Hex, length: Some(u32::MAX), ..password.clone() }, "outside"),
        (Spec { kind: Kind::Hex, upper: Some(1), ..password.clone() }, "upper means nothing for a secret of kind hex"),
        (Spec { kind: Kind::Hex, forbid: "a".into(), ..password.clone() }, "'a' is forbidden"),
        (Spec { kind: Kind::Base64, forbid: "=".into(), ..password.clone() }, "'=' is forbidden"),
        (Spec { kind: Kind::Base64, length: Some(44), ..password.clone() }, "length means nothing"),
        (Spec { kind: Kind::Passphrase, words: Some(2), ..password.clone() }, "words = 2 is outside of 3 to 40"),
        (Spec { kind: Kind::Passphrase, length: Some(20), ..password.clone() }, "length means nothing"),
        (Spec { kind: Kind::Passphrase, forbid: "-".into(), ..password.clone() }, "'-' stands between the words"),
        (Spec { kind: Kind::Passphrase, forbid: "aeiou".into(), ..password.clone() }, "words are left"),
    ];
    for (spec, expected) in cases {
        let wrong = Policy::new(spec.clone()).expect_err(expected);
        let message = wrong.to_string();
        assert!(message.contains(expected), "{message} / {expected}");
        assert!(wrong.remedy().is_some_and(|remedy| !remedy.is_empty()));
        assert!(!message.ends_with('.'));
    }
}

#[test]
fn a_stricter_policy_is_longer_and_uses_every_class_it_may() {
    let plain = Policy::new(Spec { length: Some(12), lower: Some(0), ..Spec::default() }).expect("a policy");
    let stricter = plain.stricter(1);
    let secret = stricter.generate(&mut seeded(5)).expect("drawn");
    let text = secret.expose();
    assert_eq!(text.len(), 20);
    for class in [u8::is_ascii_lowercase as fn(&u8) -> bool, u8::is_ascii_uppercase, u8::is_ascii_digit] {
        assert!(text.bytes().filter(class).count() >= 2, "{text}");
    }
    assert!(text.bytes().filter(|b| b"-._~".contains(b)).count() >= 2, "{text}");
    let no_symbols = Policy::new(Spec { forbid: "-._~".into(), ..Spec::default() }).expect("a policy");
    assert!(
        no_symbols
            .stricter(3)
            .generate(&mut seeded(6))
            .expect("drawn")
            .expose()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric())
    );
    let longest = Policy::new(Spec { length: Some(512), ..Spec::default() }).expect("a policy");
    assert_eq!(longest.stricter(u32::MAX).generate(&mut seeded(7)).expect("drawn").expose().len(), 512);
    let key = Policy::new(Spec { kind: Kind::Hex, ..Spec::default() }).expect("a policy");
    assert_eq!(key.stricter(2), key);
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let class = || prop::option::of(0u32..5);
    let kind = prop_oneof![Just(Kind::Password), Just(Kind::Password), Just(Kind::Passphrase)];
    let sets = (prop::option::of("[!-/:-@]{1,6}"), "[a-zA-Z0-9!-/]{0,12}", any::<bool>(), any::<bool>());
    (kind, prop::option::of(8u32..64), class(), class(), class(), class(), sets).prop_map(
        |(kind, length, lower, upper, digits, symbols, (symbol_set, forbid, start_with_letter, no_look_alikes))| Spec {
            kind,
            length: length.filter(|_| kind == Kind::Password),
            lower: lower.filter(|_| kind == Kind::Password),
            upper,
            digits,
            symbols: symbols.filter(|_| kind == Kind::Password),
            symbol_set,
            forbid,
            start_with_letter,
            no_look_alikes,
            ..Spec::default()
        },
    )
}

fn check(spec: &Spec, secret: &Fields) -> Result<(), TestCaseError> {
    let text = secret.expose();
    prop_assert!(text.is_ascii() && !text.contains(|c| spec.forbid.contains(c)), "{spec:?} {text}");
    if spec.kind == Kind::Passphrase {
        return Ok(());
    }
    prop_assert!(!spec.no_look_alikes || !text.contains(|c| alphabet::LOOK_ALIKES.contains(c)));
    prop_assert!(!spec.start_with_letter || text.starts_with(|c: char| c.is_ascii_alphabetic()));
    let count = |class: fn(&u8) -> bool| text.bytes().filter(class).count();
    prop_assert!(count(u8::is_ascii_lowercase) >= spec.lower.unwrap_or(0) as usize);
    prop_assert!(count(u8::is_ascii_uppercase) >= spec.upper.unwrap_or(0) as usize);
    prop_assert!(count(u8::is_ascii_digit) >= spec.digits.unwrap_or(0) as usize);
    prop_assert!(count(u8::is_ascii_punctuation) >= spec.symbols.unwrap_or(0) as usize);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_drawn_keeps_the_policy_and_so_does_what_is_drawn_more_strictly(spec in any_spec(), seed: u64) {
        let Ok(policy) = Policy::new(spec.clone()) else { return Ok(()) };
        let mut random = seeded(seed);
        let secret = policy.generate(&mut random).expect("drawn");
        check(&spec, &secret)?;
        prop_assert_eq!(spec.length.is_none_or(|length| secret.expose().len() == length as usize), true);
        for refusals in 1..4 {
            let stricter = policy.stricter(refusals);
            prop_assert!(stricter.entropy_bits() > policy.entropy_bits() - 1e-9, "{:?} {:?}", policy, stricter);
            prop_assert!(stricter.generate(&mut random).expect("drawn").expose().len() > spec.length.unwrap_or(0) as usize);
            check(&spec, &stricter.generate(&mut random).expect("drawn"))?;
        }
    }
}
