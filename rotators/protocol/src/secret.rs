//! Secrets: the types that refuse to be copied, printed or stored by accident.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// One secret string (UTF-8). No `Clone`, `Display` or `Serialize`; `Debug` prints a constant; the bytes are wiped on
/// drop. [`Secret::expose`] is the only door.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of `plain`; its buffer is wiped when the secret is dropped.
    pub fn new(plain: String) -> Self {
        Self(Zeroizing::new(plain))
    }

    /// The plain text. Keep what you do with it short-lived.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A second owner of the same value, wiped on its own. Named, so that copies can be found by search.
    pub fn duplicate(&self) -> Self {
        Self(Zeroizing::new(String::from(self.0.as_str())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What one version of a credential consists of: named secret strings, `username` and `password` for most kinds.
///
/// Names are not secret. All values are treated as secret, since nobody can tell from outside which of them is not.
#[derive(Default)]
pub struct Fields(BTreeMap<String, Secret>);

impl Fields {
    /// Replaces every value that occurs in `text` (but the user name) by `***`, so that a text made by a foreign program
    /// may be logged. Values shorter than four bytes are left alone: hiding them would shred the text and protect nothing.
    pub fn redact(&self, text: &str) -> String {
        redact(text, std::iter::once(self))
    }

    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The usual pair.
    pub fn login(username: &str, password: Secret) -> Self {
        let mut fields = Self::new();
        fields.insert("username", Secret::new(username.to_owned()));
        fields.insert("password", password);
        fields
    }

    /// Sets a field, replacing one of the same name.
    pub fn insert(&mut self, name: &str, value: Secret) {
        self.0.insert(name.to_owned(), value);
    }

    /// The field's value.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// `username` in the clear: it names the account and goes into messages.
    pub fn username(&self) -> Option<&str> {
        self.get("username").map(Secret::expose)
    }

    /// All fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second owner of the same values.
    pub fn duplicate(&self) -> Self {
        Self(self.0.iter().map(|(name, value)| (name.clone(), value.duplicate())).collect())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// [`Fields::redact`] for several sets at once.
pub(crate) fn redact<'a>(text: &str, sets: impl Iterator<Item = &'a Fields>) -> String {
    let mut hidden = vec![false; text.len()];
    let secrets = sets.flat_map(Fields::iter).filter(|(name, _)| *name != "username");
    // All are looked for in the text as it was: one may be a part of another.
    for value in secrets.map(|(_, value)| value.expose()).filter(|value| value.len() >= 4) {
        for at in starts(text, value) {
            hidden[at..at + value.len()].fill(true);
        }
    }
    let mut clean = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        match hidden[at] {
            false => clean.push(letter),
            true if at == 0 || !hidden[at - 1] => clean.push_str("***"),
            true => {}
        }
    }
    clean
}

/// Where `part` begins in `text`, again within itself too.
fn starts(text: &str, part: &str) -> impl Iterator<Item = usize> {
    text.char_indices().map(|(at, _)| at).filter(move |at| text[*at..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_and_no_values() {
        let fields = Fields::login("app", Secret::new("hunter2-marker".into()));
        assert_eq!(format!("{fields:?}"), r#"{"password", "username"}"#);
        assert!(!format!("{:?}", fields.get("password")).contains("marker"));
    }
}
