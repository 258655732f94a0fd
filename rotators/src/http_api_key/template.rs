//! Texts with placeholders: `{account}`, `{login.password}`; `{{` and `}}` are braces.

use keywheel_protocol::{Fields, Reply};
use zeroize::Zeroizing;

use crate::http::{segment, wrong};

/// The names that stand for something.
const NAMES: &str = "{account}, {extra}, {token}, {key}, {id}, {offset}, {page}, {next}, {login} and {login.FIELD}";

/// What placeholders stand for in one step. What the step has not is absent.
#[derive(Clone, Copy, Default)]
pub(super) struct Values<'a> {
    pub(super) account: Option<&'a str>,
    pub(super) extra: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    /// Which page of the list: how many keys were before it, its number, or what the page before it says.
    pub(super) offset: Option<&'a str>,
    pub(super) page: Option<&'a str>,
    pub(super) next: Option<&'a str>,
    pub(super) login: Option<&'a Fields>,
}

/// Where a text goes to, and so how the values are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Path or query of an address.
    Address,
    /// A header, or a string of a body whose writer escapes.
    Plain,
}

impl<'a> Values<'a> {
    fn get(&self, name: &str) -> Result<&'a str, Reply> {
        let field = |field: &str| self.login.and_then(|fields| fields.get(field)).map(|value| value.expose());
        let value = match name {
            "account" => self.account,
            "extra" => self.extra,
            "token" => self.token,
            "key" => self.key,
            "id" => self.id,
            "offset" => self.offset,
            "page" => self.page,
            "next" => self.next,
            // A key of the service itself, or the admin's password.
            "login" => field("key").or_else(|| field("password")),
            _ => match name.strip_prefix("login.") {
                Some(name) => field(name),
                None => return Err(wrong(&format!("{{{name}}} is no placeholder; there are {NAMES}"))),
            },
        };
        let help = match name {
            "account" | "extra" => format!("; set {name} on the credential"),
            "offset" | "page" | "next" => "; it stands for a page of the list".to_owned(),
            "key" | "id" => "; import it with the fields key and key_id".to_owned(),
            _ => String::new(),
        };
        value.ok_or_else(|| wrong(&format!("the service's requests need {{{name}}}, which is not there{help}")))
    }
}

/// The parts of a template: text as it stands, and names of placeholders.
enum Part<'t> {
    Text(&'t str),
    Name(&'t str),
}

fn parts(template: &str) -> Result<Vec<Part<'_>>, Reply> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at(at);
        parts.push(Part::Text(text));
        if tail.starts_with("{{") || tail.starts_with("}}") {
            parts.push(Part::Text(&tail[..1]));
            rest = &tail[2..];
        } else if let Some((name, after)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) {
            parts.push(Part::Name(name));
            rest = after;
        } else {
            return Err(wrong(&format!("a brace stands alone in {template:?}; a plain one is written twice")));
        }
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// Whether the template uses the placeholder `name`.
pub(super) fn uses(template: &str, name: &str) -> bool {
    parts(template).is_ok_and(|parts| parts.iter().any(|part| matches!(part, Part::Name(other) if *other == name)))
}

/// The text with all placeholders filled in. Never grows, so that no copy of a secret stays behind.
pub(super) fn fill(template: &str, values: &Values<'_>, position: Position) -> Result<Zeroizing<String>, Reply> {
    let mut filled = Vec::new();
    for part in parts(template)? {
        filled.push(Zeroizing::new(match (part, position) {
            (Part::Text(text), _) => text.to_owned(),
            (Part::Name(name), Position::Plain) => values.get(name)?.to_owned(),
            (Part::Name(name), Position::Address) => segment(values.get(name)?)?,
        }));
    }
    let mut text = Zeroizing::new(String::with_capacity(filled.iter().map(|part| part.len()).sum()));
    for part in &filled {
        text.push_str(part);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_protocol::Secret;

    fn filled(template: &str, position: Position) -> Result<String, String> {
        let login = Fields::login("admin", Secret::new("pass\"word".to_owned()));
        let values = Values { account: Some("a/b ?"), token: Some("kw-1"), login: Some(&login), ..Values::default() };
        fill(template, &values, position).map(|text| text.to_string()).map_err(|reply| format!("{reply:?}"))
    }

    #[test]
    fn values_are_escaped_by_where_they_stand() {
        let template = "/x/{account}?t={token}";
        assert_eq!(filled(template, Position::Address).expect("filled"), "/x/a%2Fb%20%3F?t=kw-1");
        assert_eq!(filled("{{{account}}} {login}", Position::Plain).expect("filled"), "{a/b ?} pass\"word");
        assert_eq!(filled("{login.username}", Position::Plain).expect("filled"), "admin");
    }

    #[test]
    fn what_can_not_be_filled_in_is_named() {
        for (template, words) in [
            ("{acount}", "{acount} is no placeholder"),
            ("{id}", "{id}, which is not there"),
            ("{extra}", "set extra on the credential"),
            ("{login.otp}", "{login.otp}"),
            ("a { b", "a brace stands alone"),
            ("a } b", "a brace stands alone"),
        ] {
            let message = filled(template, Position::Plain).expect_err("refused");
            assert!(message.contains(words) && !message.contains("word"), "{message}");
        }
        assert!(uses("/a/{id}", "id") && !uses("/a/{{id}}", "id") && !uses("/{idx}", "id"));
    }
}
