//! Reading the settings and secrets of a request. The daemon has checked them against the description; what is wrong all
//! the same is answered, never trusted.

use std::fs::File;
use std::io::Read;

use keywheel_protocol::{Fields, Reason, Reply, Request, Secret};
use serde_json::{Map, Value};

/// The settings of a target or a credential.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a>(pub(crate) &'a Map<String, Value>);

/// The longest file of settings of its own that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

impl<'a> Settings<'a> {
    /// The text of the file whose path is called `name`, and that path, if there is one.
    pub(crate) fn file(self, name: &str) -> Result<Option<(&'a str, String)>, Reply> {
        let Some(path) = self.text(name)? else { return Ok(None) };
        let refused = |why: String| Reply::no(Reason::Unsupported, format!("{path} {why}"));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        read.map_err(|error| refused(format!("can't be read: {error}")))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(refused(format!("has more than {FILE_BYTES_MAX} bytes")));
        }
        Ok(Some((path, text)))
    }

    /// The text called `name`, if there is one.
    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, Reply> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && !text.contains('\0') => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a text that is not empty")),
        }
    }

    /// The text called `name`, which must be there.
    pub(crate) fn required(self, name: &str) -> Result<&'a str, Reply> {
        self.text(name)?.ok_or_else(|| Reply::no(Reason::Unsupported, format!("the setting {name} is missing")))
    }

    /// The number called `name`, within `range`; `default` if it is absent.
    pub(crate) fn number(self, name: &str, range: std::ops::RangeInclusive<u32>, default: u32) -> Result<u32, Reply> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(default),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| range.contains(number));
        number.ok_or_else(|| wrong(name, &format!("a number from {} to {}", range.start(), range.end())))
    }

    /// The truth value called `name`; false if it is absent.
    pub(crate) fn flag(self, name: &str) -> Result<bool, Reply> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// The accounts used in turn, if there are two (`alternate`).
    pub(crate) fn accounts(self) -> Result<Option<[&'a str; 2]>, Reply> {
        let Some(value) = self.0.get("accounts") else { return Ok(None) };
        match value.as_array().map(Vec::as_slice) {
            Some([Value::String(one), Value::String(two)]) if one != two && !one.is_empty() && !two.is_empty() => {
                Ok(Some([one, two]))
            }
            _ => Err(wrong("accounts", "a list of two different names")),
        }
    }

    /// The account of a lease, under strategy `ephemeral`.
    pub(crate) fn leased(self) -> Result<Option<Leased<'a>>, Reply> {
        if self.text("strategy")? != Some("ephemeral") {
            return Ok(None);
        }
        let [model, account] = self.accounts()?.ok_or_else(|| wrong("accounts", "a model and the lease's account"))?;
        Ok(Some(Leased {
            model,
            account,
            expires_at: self.text("expires_at")?,
            expires_in_s: self.0.get("expires_in_s").and_then(Value::as_u64),
        }))
    }
}

/// An account made for one lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leased<'a> {
    /// The account whose rights it gets.
    pub(crate) model: &'a str,
    /// Its own name.
    pub(crate) account: &'a str,
    /// When it ends (RFC 3339, UTC). Absent in a rehearsal.
    pub(crate) expires_at: Option<&'a str>,
    /// The seconds until then.
    pub(crate) expires_in_s: Option<u64>,
}

fn wrong(name: &str, expected: &str) -> Reply {
    Reply::no(Reason::Unsupported, format!("the setting {name} must be {expected}"))
}

/// A user name and a password out of the fields of a version.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a Secret,
}

impl<'a> Pair<'a> {
    /// The subject of the request.
    pub(crate) fn subject(request: &'a Request) -> Result<Self, Reply> {
        request.subject.as_ref().ok_or_else(|| missing("subject")).and_then(|fields| Self::of(fields, "subject"))
    }

    /// The subject of an `apply`, if its password can be set: at most `bytes_max` long and plain.
    pub(crate) fn settable(request: &'a Request, bytes_max: usize) -> Result<Self, Reply> {
        let subject = Self::subject(request)?;
        let length = subject.password.expose().len();
        if length > bytes_max {
            let message = format!("the password has {length} bytes, and {bytes_max} is the most that is set");
            return Err(Reply::no(Reason::Policy, message));
        }
        if !is_plain(subject.password) {
            let message = "the password must be of printable ASCII characters: clients and servers differ in how they encode others";
            return Err(Reply::no(Reason::Policy, message));
        }
        Ok(subject)
    }

    /// The login of the request.
    pub(crate) fn login(request: &'a Request) -> Result<Self, Reply> {
        request.login.as_ref().ok_or_else(|| missing("login")).and_then(|login| Self::of(&login.fields, "login"))
    }

    fn of(fields: &'a Fields, whose: &str) -> Result<Self, Reply> {
        let field = |name: &str| fields.get(name).ok_or_else(|| missing(&format!("{whose}.{name}")));
        let (username, password) = (field("username")?.expose(), field("password")?);
        if username.is_empty() || username.contains('\0') || password.expose().contains('\0') {
            let what = format!("the {whose}'s username is empty, or it or the password contains a NUL character");
            return Err(Reply::no(Reason::Unsupported, what));
        }
        Ok(Self { username, password })
    }
}

fn missing(what: &str) -> Reply {
    Reply::no(Reason::Unsupported, format!("the request has no {what}, which this step needs"))
}

/// Whether anyone can type and every system takes the password: printable ASCII. Beyond it, what two systems make of the
/// same characters differs (RFC 4013, RFC 8265).
pub(crate) fn is_plain(password: &Secret) -> bool {
    !password.expose().is_empty() && password.expose().bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_with_a_setting_is_said_and_names_it() {
        let value = json!({ "cost": 99, "create": "yes", "accounts": ["a", "a"], "path": "", "port": "7" });
        let settings = Settings(value.as_object().expect("an object"));
        let said = |reply: Reply| {
            let Reply::No { reason: Reason::Unsupported, message, .. } = reply else { panic!("{reply:?}") };
            message
        };
        assert!(
            said(settings.number("cost", 4..=17, 10).expect_err("too high"))
                .contains("cost must be a number from 4 to 17")
        );
        assert!(said(settings.flag("create").expect_err("a word")).contains("create"));
        assert!(said(settings.accounts().expect_err("the same")).contains("two different"));
        assert!(said(settings.required("host").expect_err("absent")).contains("host is missing"));
        assert!(settings.text("path").is_err());
        assert_eq!(settings.number("port", 1..=65_535, 5432).expect("a port"), 7);
        assert_eq!(settings.number("other", 1..=65_535, 5432).expect("a port"), 5432);
    }
}
