//! What a server knows of a user, and the commands that change it.

use aws_lc_rs::digest::{SHA256, digest};
use keywheel_protocol::{Reason, Reply, Secret};
use redis::{Cmd, Value};

use super::session::{Failure, Session};
use crate::step::Stage;

/// What `ACL GETUSER` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    /// `on`, `off`, `nopass` …
    pub(super) flags: Vec<String>,
    /// SHA-256 of the passwords, in lower-case hexadecimal digits.
    pub(super) hashes: Vec<String>,
}

/// A user as the server has it.
pub(super) enum Known {
    /// The server has ACLs, and the user.
    User(User),
    /// The server has ACLs, and no such user.
    Nobody,
    /// The server is older than ACLs: it has one password.
    NoAcl,
}

impl User {
    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }
}

/// The form in which ACLs hold a password: what is sent and logged is no password then.
pub(super) fn hash(password: &Secret) -> String {
    digest(&SHA256, password.expose().as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks for a user.
pub(super) async fn known(session: &mut Session, name: &str) -> Result<Known, Reply> {
    let mut get = redis::cmd("ACL");
    get.arg("GETUSER").arg(name);
    match session.command(&get).await {
        Ok(Value::Nil) => Ok(Known::Nobody),
        Ok(value) => Ok(Known::User(read(&value))),
        Err(Failure::Server(words)) if words.contains("unknown command") => Ok(Known::NoAcl),
        Err(failure) => Err(session.verdict(failure, Stage::Question)),
    }
}

/// Reads the answer to `ACL GETUSER`: names and values in turn, in RESP2 one list, in RESP3 a map.
fn read(value: &Value) -> User {
    let mut user = User::default();
    for (name, value) in pairs(value) {
        match name.as_str() {
            "flags" => user.flags = texts(value),
            "passwords" => user.hashes = texts(value),
            _ => {}
        }
    }
    user
}

/// Names and values of an answer.
pub(super) fn pairs(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Map(pairs) => pairs.iter().filter_map(|(name, value)| Some((text(name)?, value))).collect(),
        Value::Array(items) => {
            items.chunks_exact(2).filter_map(|pair| Some((text(pair.first()?)?, pair.get(1)?))).collect()
        }
        _ => Vec::new(),
    }
}

/// The texts of a list.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) | Value::Set(items) => items.iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

/// An answer that is text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// `ACL SETUSER` with these rules.
pub(super) fn set_user<'a>(name: &str, rules: impl IntoIterator<Item = &'a str>) -> Cmd {
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg(name);
    for rule in rules {
        set.arg(rule);
    }
    set
}

/// The rules of a user without its passwords, to make another after its image.
pub(super) async fn rules(session: &mut Session, name: &str) -> Result<Vec<String>, Reply> {
    let mut list = redis::cmd("ACL");
    list.arg("LIST");
    let lines = texts(&session.ask(&list).await?);
    let prefix = format!("user {name} ");
    let line = lines.iter().find_map(|line| line.strip_prefix(&prefix));
    line.map(rules_of).ok_or_else(|| {
        Reply::no(Reason::Missing, format!("{} has neither of the two users; make {name}", session.place()))
    })
}

/// Takes the rules of a line of `ACL LIST` apart. A selector, in parentheses, is one rule.
fn rules_of(line: &str) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    let mut selector = false;
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        match rules.last_mut() {
            Some(last) if selector => {
                last.push(' ');
                last.push_str(word);
            }
            _ => rules.push(word.to_owned()),
        }
        selector = rules.last().is_some_and(|last| last.starts_with('(') && !last.ends_with(')'));
    }
    rules.retain(|rule| !rule.starts_with(['#', '>']) && rule != "nopass");
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_acl_file() {
        let hash = hash(&Secret::new("secret".to_owned()));
        assert_eq!(hash, "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
    }

    #[test]
    fn rules_are_copied_without_passwords_and_selectors_stay_whole() {
        let line = "on nopass #2bb8 sanitize-payload ~app:* resetchannels &* -@all +get (~tmp:* -@all +set +del) (%R~x +@read)";
        let expected = [
            "on",
            "sanitize-payload",
            "~app:*",
            "resetchannels",
            "&*",
            "-@all",
            "+get",
            "(~tmp:* -@all +set +del)",
            "(%R~x +@read)",
        ];
        assert_eq!(rules_of(line), expected);
    }

    #[test]
    fn both_forms_of_the_answer_are_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let flags = Value::Array(vec![bulk("on"), bulk("allkeys")]);
        let list = Value::Array(vec![bulk("flags"), flags.clone(), bulk("passwords"), Value::Array(vec![bulk("ab")])]);
        let map = Value::Map(vec![(bulk("flags"), flags), (bulk("passwords"), Value::Set(vec![bulk("ab")]))]);
        let user = User { flags: vec!["on".into(), "allkeys".into()], hashes: vec!["ab".into()] };
        assert_eq!(
            (read(&list), read(&map)),
            (user, User { flags: vec!["on".into(), "allkeys".into()], hashes: vec!["ab".into()] })
        );
    }
}
