//! The entry that is made for a lease, as the settings want it.

use std::collections::HashSet;

use keywheel_protocol::{Reply, Request};
use ldap3::dn_escape;

use super::root::{Attributes, Flavour};
use super::scheme::Octets;
use super::target::wrong;
use crate::settings::{Leased, Settings};

/// What the value of `description` begins with, by which an entry is known to be made here.
const MARK: &str = "keywheel lease ";

/// The class of an entry, and what it must have, unless the settings say otherwise.
const CLASS: &str = "inetOrgPerson";
const ATTRIBUTES: &str = "uid={}; cn={}; sn={}";
const AD_CLASS: &str = "user";
/// The longest sAMAccountName of a user (MS-SAMR 3.1.1.6).
const AD_NAME_MAX: usize = 20;
/// `userAccountControl` of a user that may not log in yet, and of one that may.
const AD_DISABLED: &str = "514";
pub(super) const AD_ENABLED: &str = "512";
/// The class that takes no entry without a password.
const NEEDS_PASSWORD: &str = "simpleSecurityObject";

/// The most groups of one entry.
const GROUPS_MAX: usize = 32;

/// Names and values of an entry's attributes.
pub(super) type Values = Vec<(Octets, HashSet<Octets>)>;

/// An entry to be made, found or taken away.
pub(super) struct Entry<'a> {
    /// The account's name, which is the value of its first attribute.
    pub(super) account: &'a str,
    /// Its distinguished name.
    pub(super) name: String,
    /// The entry above it.
    pub(super) parent: &'a str,
    naming: &'a str,
    /// Its classes.
    pub(super) classes: Vec<&'a str>,
    attributes: Vec<(&'a str, String)>,
    /// The groups that it becomes a member of.
    pub(super) groups: Vec<&'a str>,
    /// The attribute of the groups that names their members.
    pub(super) member: &'a str,
    flavour: Flavour,
}

impl<'a> Entry<'a> {
    /// Checks the settings.
    pub(super) fn of(request: &'a Request, leased: &Leased<'a>, flavour: Flavour) -> Result<Self, Reply> {
        let settings = Settings(&request.credential);
        let account = leased.account;
        if account.contains('=') {
            return Err(wrong("the account of leases is the first part of their names, a word such as \"report\""));
        }
        let template = settings
            .text("lease_dn")?
            .ok_or_else(|| wrong("leases need lease_dn on the credential, such as uid={},ou=leases,dc=example"))?;
        let (naming, parent) = template
            .split_once("={},")
            .filter(|(naming, parent)| is_word(naming) && !parent.trim().is_empty() && !parent.contains("{}"))
            .ok_or_else(|| {
                wrong("lease_dn must be one attribute with {} and the entry above: uid={},ou=leases,dc=example")
            })?;
        let ad = flavour == Flavour::Ad;
        if ad && account.len() > AD_NAME_MAX {
            let message = format!(
                "{account} has {} characters, and Active Directory takes {AD_NAME_MAX}: give the credential a shorter account",
                account.len()
            );
            return Err(wrong(&message));
        }
        let class = settings.text("object_class")?;
        let classes = list(class.unwrap_or(if ad { AD_CLASS } else { CLASS }), ',');
        let mut attributes = pairs(settings.text("attributes")?.unwrap_or_default(), account)?;
        if class.is_none() && !ad {
            for (name, value) in pairs(ATTRIBUTES, account)? {
                if !attributes.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                    attributes.push((name, value));
                }
            }
        }
        let groups = list(settings.text("groups")?.unwrap_or_default(), ';');
        if groups.len() > GROUPS_MAX {
            return Err(wrong(&format!("groups names more than {GROUPS_MAX} groups")));
        }
        Ok(Self {
            account,
            name: format!("{naming}={},{parent}", dn_escape(account)),
            parent,
            naming,
            classes,
            attributes,
            groups,
            member: settings.text("member")?.unwrap_or("member"),
            flavour,
        })
    }

    /// What marks it.
    pub(super) fn mark(&self) -> String {
        format!("{MARK}{}", self.account)
    }

    /// Whether the entry that was read was made for this very lease.
    pub(super) fn is_marked(&self, found: &Attributes) -> bool {
        found.all("description").contains(&self.mark())
    }

    /// How groups name it.
    pub(super) fn as_member(&self) -> &str {
        if self.member.eq_ignore_ascii_case("memberUid") { self.account } else { &self.name }
    }

    /// Whether there is no such entry without a password.
    pub(super) fn needs_password(&self) -> bool {
        self.classes.iter().any(|class| class.eq_ignore_ascii_case(NEEDS_PASSWORD))
    }

    /// All its attributes; `password` is a value of `userPassword`.
    pub(super) fn values(&self, password: Option<Octets>) -> Values {
        let of = |text: &str| Octets::of(text.as_bytes());
        let mut values: Vec<(String, HashSet<Octets>)> = Vec::new();
        let mut add =
            |name: &str, value: Octets| match values.iter_mut().find(|(had, _)| had.eq_ignore_ascii_case(name)) {
                Some((_, set)) => drop(set.insert(value)),
                None => values.push((name.to_owned(), HashSet::from([value]))),
            };
        for class in &self.classes {
            add("objectClass", of(class));
        }
        add(self.naming, of(self.account));
        add("description", of(&self.mark()));
        for (name, value) in &self.attributes {
            add(name, of(value));
        }
        if self.flavour == Flavour::Ad {
            add("sAMAccountName", of(self.account));
            add("userAccountControl", of(AD_DISABLED));
        }
        if let Some(password) = password {
            add("userPassword", password);
        }
        values.into_iter().map(|(name, set)| (of(&name), set)).collect()
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn list(text: &str, between: char) -> Vec<&str> {
    text.split(between).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// `name=value; name=value`, with the account where a value has `{}`.
fn pairs<'a>(text: &'a str, account: &str) -> Result<Vec<(&'a str, String)>, Reply> {
    let pair = |part: &'a str| {
        let pair = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match pair.filter(|(name, value)| is_word(name) && !value.is_empty()) {
            Some((name, _))
                if ["description", "userPassword", "unicodePwd"].iter().any(|own| own.eq_ignore_ascii_case(name)) =>
            {
                Err(wrong(&format!("attributes must not have {name}: it is written by keywheel itself")))
            }
            Some((name, value)) => Ok((name, value.replace("{}", account))),
            None => Err(wrong("attributes must be names and values: ou=reports; employeeType=lease")),
        }
    };
    list(text, ';').into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_protocol::{Reason, Step};
    use serde_json::{Value, json};

    fn entry(credential: Value, flavour: Flavour) -> Result<(String, Vec<String>), String> {
        let credential = credential.as_object().expect("an object").clone();
        let request = Request {
            step: Step::Apply,
            target: serde_json::Map::new(),
            credential,
            token: None,
            subject: None,
            login: None,
            deadline_ms: 1,
        };
        let leased = Leased { model: "report", account: "report_a,b", expires_at: None, expires_in_s: None };
        let made = Entry::of(&request, &leased, flavour).map(|entry| {
            let named = |(name, values): (Octets, HashSet<Octets>)| {
                let text = |octets: &Octets| String::from_utf8_lossy(octets.as_ref()).into_owned();
                let mut values: Vec<String> = values.iter().map(text).collect();
                values.sort();
                format!("{}={}", text(&name), values.join("+"))
            };
            (entry.name.clone(), entry.values(None).into_iter().map(named).collect())
        });
        made.map_err(|reply| match reply {
            Reply::No { reason: Reason::Unsupported, message, .. } => message,
            reply => panic!("{reply:?}"),
        })
    }

    #[test]
    fn an_entry_is_what_the_settings_say_and_its_name_is_escaped() {
        let dn = json!({ "lease_dn": "cn={},ou=leases,dc=ex", "attributes": "sn=x; cn=second {}" });
        let (name, values) = entry(dn, Flavour::OpenLdap).expect("an entry");
        assert_eq!(name, "cn=report_a\\2cb,ou=leases,dc=ex");
        let expected = [
            "objectClass=inetOrgPerson",
            "cn=report_a,b+second report_a,b",
            "description=keywheel lease report_a,b",
            "sn=x",
            "uid=report_a,b",
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn what_is_no_entry_is_said() {
        for (settings, words) in [
            (json!({}), "lease_dn on the credential"),
            (json!({ "lease_dn": "ou=leases,dc=ex" }), "one attribute with {}"),
            (json!({ "lease_dn": "uid={},ou={},dc=ex" }), "one attribute with {}"),
            (json!({ "lease_dn": "uid={},dc=ex", "attributes": "word" }), "names and values"),
            (json!({ "lease_dn": "uid={},dc=ex", "attributes": "Description=x" }), "keywheel itself"),
            (json!({ "lease_dn": "uid={},dc=ex", "groups": "x;".repeat(33) }), "more than 32"),
        ] {
            let message = entry(settings, Flavour::OpenLdap).expect_err("refused");
            assert!(message.contains(words), "{message}");
        }
    }
}
