//! Which of a user's keys is whose.
//!
//! An access key has no label, so the user remembers for it. Before a key is made, the user is tagged with the token of
//! the rotation and the ids of the keys that are there; a key that is not among them afterwards was made by this rotation.
//! If the answer with its secret was lost, it is of no use to anyone, and is deleted when the step comes again.

use keywheel_protocol::{Reason, Reply};

use super::api::brief;

/// The tag's name.
pub(super) const TAG: &str = "keywheel:rotation";

/// How many access keys a user may have.
pub(super) const KEYS_MAX: usize = 2;

/// A key of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: String,
    /// When it was used last, in AWS's words; none if never.
    pub(super) used: Option<String>,
    pub(super) active: bool,
}

/// What the tag says: the token of the last rotation, and the keys that were there before its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory<'a> {
    token: &'a str,
    before: Vec<&'a str>,
}

impl<'a> Memory<'a> {
    pub(super) fn parse(value: &'a str) -> Self {
        let mut words = value.split(' ');
        Self { token: words.next().unwrap_or_default(), before: words.collect() }
    }

    /// The tag's value for a rotation that begins with these keys.
    pub(super) fn written<'k>(token: &str, keys: impl Iterator<Item = &'k Key>) -> String {
        [token].into_iter().chain(keys.map(|key| key.id.as_str())).collect::<Vec<_>>().join(" ")
    }
}

/// The key that must go before a new one can be made, if there is one. `own` is the key that asks, if it is the user's
/// own. A key that may be in use is never named.
pub(super) fn stray<'k>(
    keys: &'k [Key],
    memory: Option<&Memory<'_>>,
    token: &str,
    own: Option<&str>,
) -> Result<Option<&'k Key>, Reply> {
    let made_here = |key: &&Key| {
        let memory = memory.filter(|memory| !memory.before.contains(&key.id.as_str()));
        // One of an earlier rotation counts only if it can't be the current one.
        let lost = memory.is_some_and(|memory| memory.token == token || own.is_some());
        lost && key.used.is_none() && own != Some(key.id.as_str())
    };
    let strays: Vec<&Key> = keys.iter().filter(made_here).collect();
    match strays[..] {
        [stray] => Ok(Some(stray)),
        [] if keys.len() < KEYS_MAX => Ok(None),
        _ => Err(Reply::no(Reason::Unsupported, full(keys))),
    }
}

fn full(keys: &[Key]) -> String {
    let shown = keys.iter().map(|key| {
        let used = key.used.as_ref().map_or("never used".to_owned(), |used| format!("last used {used}"));
        format!("{} ({used}{})", brief(&key.id), if key.active { "" } else { ", inactive" })
    });
    let shown = shown.collect::<Vec<_>>().join(" and ");
    format!("the user has two keys already, which is the most: {shown}; delete the one that is not in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, used: bool) -> Key {
        Key { id: id.to_owned(), used: used.then(|| "2026-01-02".to_owned()), active: true }
    }

    #[test]
    fn only_a_key_that_this_rotation_made_and_nobody_used_is_a_stray() {
        let (one, two) = (key("AKIA1", true), key("AKIA2", false));
        let remembered = "kw-t AKIA1";
        let of = |keys: &[Key], value: Option<&str>, token, own| {
            let memory = value.map(Memory::parse);
            stray(keys, memory.as_ref(), token, own).map(|stray| stray.map(|key| key.id.clone())).map_err(|_| "no")
        };
        let both = [one.clone(), two.clone()];
        assert_eq!(of(&both, Some(remembered), "kw-t", None), Ok(Some("AKIA2".to_owned())));
        // No memory, another rotation's, a key that was there before, one that was used.
        assert_eq!(of(&both, None, "kw-t", None), Err("no"));
        assert_eq!(of(&both, Some("kw-s AKIA1"), "kw-t", None), Err("no"));
        assert_eq!(of(&both, Some("kw-t AKIA1 AKIA2"), "kw-t", None), Err("no"));
        assert_eq!(of(&[one.clone(), key("AKIA2", true)], Some(remembered), "kw-t", None), Err("no"));
        // The user's own key asks: what an earlier rotation made and nobody got can't be the current one.
        assert_eq!(of(&both, Some("kw-s AKIA1"), "kw-t", Some("AKIA1")), Ok(Some("AKIA2".to_owned())));
        assert_eq!(of(&both, Some("kw-s AKIA1"), "kw-t", Some("AKIA2")), Err("no"));
        assert_eq!(of(&[one], Some(remembered), "kw-t", None), Ok(None));
        assert_eq!(of(&[], None, "kw-t", None), Ok(None));
        // The first key of all, its answer lost.
        assert_eq!(of(&[two], Some("kw-t"), "kw-t", None), Ok(Some("AKIA2".to_owned())));
    }

    #[test]
    fn the_tag_is_read_as_it_is_written() {
        let keys = [key("AKIA1", true), key("AKIA2", false)];
        let written = Memory::written("kw-t", keys.iter());
        assert_eq!(Memory::parse(&written), Memory { token: "kw-t", before: vec!["AKIA1", "AKIA2"] });
        assert_eq!(Memory::written("kw-t", [].iter()), "kw-t");
    }
}
