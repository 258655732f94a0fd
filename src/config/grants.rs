//! `[grant.*]`.

use std::path::PathBuf;

use super::daemon::{groups, users};
use super::section::{Notes, Section, absolute};
use super::tree::Place;
use crate::policy::{GrantSpec, Grants};

/// The grants, each with the place of its name.
pub(super) fn read<'a>(notes: &'a Notes, all: Option<&Section<'a>>) -> Vec<(GrantSpec, Place)> {
    let mut grants = Vec::new();
    for (name, place, node) in all.into_iter().flat_map(Section::entries) {
        let Some(section) = Section::of_node(notes, place, node) else { continue };
        let texts = |key| section.texts(key).into_iter().map(|(text, _)| text.to_owned()).collect();
        let exes: Vec<PathBuf> =
            section.texts("exe").into_iter().filter_map(|(text, place)| absolute(notes, text, place)).collect();
        let sha256 = section.texts("sha256").into_iter().filter_map(|(text, place)| sum(notes, text, place)).collect();
        let spec = GrantSpec {
            name: name.to_owned(),
            credentials: texts("credentials"),
            anyone: section.boolean("anyone").unwrap_or(false),
            users: users(notes, &section, "user"),
            groups: groups(notes, &section, "group"),
            units: texts("unit"),
            exes,
            sha256,
        };
        section.finish(&[]);
        // One at a time, so that each is refused at its own place. A condition that could not be read is a problem
        // already; without it the grant would say more than it was meant to.
        match Grants::new(vec![spec.clone()]) {
            Ok(_) => grants.push((spec, place.clone())),
            Err(error) => notes.problem(place, error.to_string(), None),
        }
    }
    grants
}

fn sum(notes: &Notes, text: &str, place: &Place) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().filter_map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    if text.len() != 64 || digits.len() != 64 {
        let help = "`sha256sum FILE` prints it".to_owned();
        notes.problem(place, "a SHA-256 sum has 64 hexadecimal digits", help);
        return None;
    }
    let mut sum = [0; 32];
    for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(sum)
}
