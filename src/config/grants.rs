//! `[grant.*]`.

use std::path::PathBuf;

use super::daemon::{groups, users};
use super::section::{Notes, Section, absolute};
use super::targets::named;
use super::tree::Place;
use crate::ids::CredentialName;
use crate::policy::{GrantError, GrantSpec, Grants};

/// A grant as read.
pub(super) struct Granted {
    pub spec: GrantSpec,
    /// Where it is named.
    pub place: Place,
    /// Each name or pattern of a credential, with its place.
    pub patterns: Vec<(String, Place)>,
}

/// The grants that are right by themselves.
pub(super) fn read<'a>(notes: &'a Notes, all: Option<&Section<'a>>) -> Vec<Granted> {
    let mut grants = Vec::new();
    for (name, place, node) in all.into_iter().flat_map(Section::entries) {
        let Some(section) = Section::of_node(notes, place, node) else { continue };
        let before = notes.count();
        named::<CredentialName>(notes, name, place, "a grant");
        let patterns = section.texts("credentials");
        let exes: Vec<PathBuf> =
            section.texts("exe").into_iter().filter_map(|(text, place)| absolute(notes, text, place)).collect();
        let sha256 = section.texts("sha256").into_iter().filter_map(|(text, place)| sum(notes, text, place)).collect();
        let units = section.texts("unit");
        let spec = GrantSpec {
            name: name.to_owned(),
            credentials: patterns.iter().map(|(text, _)| (*text).to_owned()).collect(),
            anyone: section.boolean("anyone").unwrap_or(false),
            users: users(notes, &section, "user"),
            groups: groups(notes, &section, "group"),
            units: units.iter().map(|(text, _)| (*text).to_owned()).collect(),
            exes,
            sha256,
        };
        section.finish(&[]);
        for (text, place) in &patterns {
            let credentials = vec![(*text).to_owned()];
            let alone = GrantSpec { name: name.to_owned(), credentials, anyone: true, ..GrantSpec::default() };
            refuse(notes, place, Grants::new(vec![alone]));
        }
        for (text, place) in &units {
            let (credentials, units) = (vec!["any".to_owned()], vec![(*text).to_owned()]);
            let alone = GrantSpec { name: name.to_owned(), credentials, units, ..GrantSpec::default() };
            refuse(notes, place, Grants::new(vec![alone]));
        }
        // What could not be read is a problem already. That a grant without it has no condition, or names nothing,
        // would only mislead.
        if notes.count() == before {
            refuse(notes, place, Grants::new(vec![spec.clone()]));
        }
        if notes.count() == before && whoever_runs_it(&spec) {
            notes.warning(
                place,
                "the program alone lets every local user in: a process can connect, leave the connection to another, and become \
                 this program before it is looked at",
                "add `user` or `unit`".to_owned(),
            );
        }
        if notes.count() == before {
            let patterns = patterns.into_iter().map(|(text, place)| (text.to_owned(), place.clone())).collect();
            grants.push(Granted { spec, place: place.clone(), patterns });
        }
    }
    grants
}

/// Whether nothing but the program is asked for: whoever may start it can be it for a moment.
fn whoever_runs_it(spec: &GrantSpec) -> bool {
    let program = !spec.exes.is_empty() || !spec.sha256.is_empty();
    program && spec.users.is_empty() && spec.groups.is_empty() && spec.units.is_empty()
}

/// One at a time, so that each mistake is shown where it stands.
fn refuse(notes: &Notes, place: &Place, made: Result<Grants, GrantError>) {
    if let Err(error) = made {
        notes.problem(place, error.to_string(), error.remedy());
    }
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
