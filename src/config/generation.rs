//! `[generation.*]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::section::{Notes, Section};
use super::targets::named;
use crate::generate::{ENTROPY_BITS_MIN, Kind, Policy, Spec};
use crate::ids::CredentialName;

const KINDS: [(&str, Kind); 7] = [
    ("password", Kind::Password),
    ("passphrase", Kind::Passphrase),
    ("hex", Kind::Hex),
    ("base64", Kind::Base64),
    ("ssh-ed25519", Kind::SshEd25519),
    ("ssh-ecdsa", Kind::SshEcdsa),
    ("ssh-rsa", Kind::SshRsa),
];

/// The policies by name. One that is refused stands there as the default, so that what names it is not called
/// dangling too.
pub(super) fn read<'a>(notes: &'a Notes, all: Option<&Section<'a>>) -> BTreeMap<String, Arc<Policy>> {
    let mut policies = BTreeMap::new();
    for (name, place, node) in all.into_iter().flat_map(Section::entries) {
        let Some(section) = Section::of_node(notes, place, node) else { continue };
        named::<CredentialName>(notes, name, place, "a policy");
        let policy = policy(notes, &section).unwrap_or_default();
        policies.insert(name.to_owned(), Arc::new(policy));
    }
    policies
}

fn policy(notes: &Notes, section: &Section) -> Option<Policy> {
    let number = |key, max| section.number(key, 0..=max).and_then(|number| u32::try_from(number).ok());
    let classes = ["lower", "upper", "digits", "symbols"];
    let [lower, upper, digits, symbols] = classes.map(|class| number(class, 512));
    let default = Spec::default();
    let named = lower.is_some() || upper.is_some() || digits.is_some() || symbols.is_some();
    let spec = Spec {
        kind: section.choice("kind", &KINDS).unwrap_or(Kind::Password),
        length: number("length", 4096),
        bits: number("bits", 16_384),
        words: number("words", 64),
        lower: if named { lower } else { default.lower },
        upper: if named { upper } else { default.upper },
        digits: if named { digits } else { default.digits },
        symbols: if named { symbols } else { default.symbols },
        symbol_set: section.text("symbol_set").map(|(text, _)| text.to_owned()),
        forbid: section.text("forbid").map(|(text, _)| text.to_owned()).unwrap_or_default(),
        start_with_letter: section.boolean("start_with_letter").unwrap_or(default.start_with_letter),
        no_look_alikes: section.boolean("no_look_alikes").unwrap_or(default.no_look_alikes),
    };
    let weak = section.text("weak").filter(|(reason, _)| !reason.trim().is_empty());
    section.finish(&[]);
    match Policy::new(spec) {
        Ok(policy) if policy.entropy_bits() < ENTROPY_BITS_MIN && weak.is_none() => {
            notes.problem(
                &section.place,
                format!("{:.0} bits of entropy are fewer than {ENTROPY_BITS_MIN:.0}", policy.entropy_bits()),
                "make it longer, or say why it can't be: `weak = \"the reason\"`".to_owned(),
            );
            None
        }
        Ok(policy) => Some(policy),
        Err(error) => {
            notes.problem(&section.place, error.to_string(), error.remedy());
            None
        }
    }
}
