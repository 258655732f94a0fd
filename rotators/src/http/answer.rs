//! What a server answered, and what that means where a kind knows nothing better.

use keywheel_protocol::{Reason, Reply};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LINK, LOCATION, RETRY_AFTER};
use serde_json::Value;
use zeroize::Zeroizing;

use super::wrong;
use crate::step::{Stage, lost, short};

/// The keys under which services put their words, the most telling first.
const WORDS: &[&str] = &["reason", "message", "error_description", "detail", "error"];

/// The headers in which services say how many items a list has on all its pages.
const TOTALS: &[&str] = &["x-total-count", "x-total"];

/// A whole answer.
pub(crate) struct Answer {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
    kind: String,
    location: Option<String>,
    retry_after_s: Option<u64>,
    next: Option<String>,
    total: Option<usize>,
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: Zeroizing<Vec<u8>>) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            status,
            body,
            kind: text(CONTENT_TYPE).unwrap_or_default(),
            location: text(LOCATION),
            retry_after_s: text(RETRY_AFTER).and_then(|text| text.parse().ok()),
            next: headers.get_all(LINK).iter().find_map(|links| next_of(links.to_str().ok()?)).map(str::to_owned),
            total: TOTALS.iter().find_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse().ok()),
        }
    }

    /// The address of the list's next page, as the header `Link` has it (RFC 8288).
    pub(crate) fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// How many items the list has on all its pages, if a header says so.
    pub(crate) fn total(&self) -> Option<usize> {
        self.total
    }

    /// The status, as a number.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether it is one of the 2xx.
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// The body, as text.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    /// The body as JSON. What can't be read after a change leaves it in doubt.
    pub(crate) fn json(&self, stage: Stage) -> Result<Value, Reply> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The parser's own words may quote the body.
            let place = format!("line {}, column {}", error.line(), error.column());
            lost(stage, &format!("the answer (status {}) is not JSON: {place}", self.status()))
        })
    }

    /// The server's words of a refusal. Of a success nothing is quoted: there may be a secret in it.
    pub(crate) fn words(&self) -> String {
        let status = self.status.as_u16();
        let reason =
            self.status.canonical_reason().map_or_else(|| status.to_string(), |text| format!("{status} {text}"));
        if self.is_success() {
            return reason;
        }
        let said = match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => WORDS.iter().find_map(|key| value.get(key)?.as_str().map(str::to_owned)),
            Err(_) if self.kind.starts_with("text/plain") => self.text().map(str::to_owned),
            Err(_) => None,
        };
        match said.filter(|said| !said.trim().is_empty()) {
            Some(said) => short(format!("{said} (status {status})")),
            None => reason,
        }
    }

    /// The verdict on an answer that is no success and has no better meaning. A status of the 4xx says that the request was
    /// not carried out; one of the 5xx says nothing about it.
    pub(crate) fn verdict(&self, stage: Stage) -> Reply {
        let words = self.words();
        match self.status.as_u16() {
            401 => Reply::no(Reason::Credential, words),
            403 => Reply::no(Reason::Privilege, words),
            404 | 410 => Reply::no(Reason::Missing, words),
            408 | 425 | 429 => {
                let wait = self.retry_after_s.map(|seconds| format!("; it asks for {seconds} s")).unwrap_or_default();
                Reply::not_reached(format!("nothing was changed: {words}{wait}"))
            }
            300..=399 => {
                let place = self.location.as_deref().map(|place| format!(" to {}", short(place))).unwrap_or_default();
                wrong(&format!(
                    "the server redirects{place} ({words}), which is not followed; name the right host, port and tls"
                ))
            }
            400..=499 => wrong(&words),
            _ => lost(stage, &format!("the server answered {words}")),
        }
    }
}

/// The target of the link with the relation `next`.
fn next_of(links: &str) -> Option<&str> {
    let mut rest = links;
    loop {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = |parameter: &str| {
            let (name, value) = parameter.trim().trim_end_matches([',', ' ']).split_once('=')?;
            let mut relations = value.trim_matches('"').split_whitespace();
            Some(name.eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next")))
        };
        if parameters.split(';').any(|parameter| is_next(parameter) == Some(true)) {
            return Some(target);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        let github = "<https://h/k?page=1>; rel=\"prev\", <https://h/k?page=3>; rel=\"next\", <https://h/k?page=9>; rel=\"last\"";
        assert_eq!(next_of(github), Some("https://h/k?page=3"));
        assert_eq!(next_of("</k?a=1,2;3>;title=x; REL=\"last Next\""), Some("/k?a=1,2;3"));
        assert_eq!(next_of("<?page=2>; rel=next"), Some("?page=2"));
        for none in ["", "<a", "<a>", "<a>; rel=\"prev\", <b>; title=\"next\"", "<next>; rel=prev"] {
            assert_eq!(next_of(none), None, "{none}");
        }
    }

    fn answer(status: u16, kind: &str, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().expect("a value"));
        headers.insert(RETRY_AFTER, "7".parse().expect("a value"));
        let status = StatusCode::from_u16(status).expect("a status");
        Answer::new(status, &headers, Zeroizing::new(body.as_bytes().to_vec()))
    }

    #[test]
    fn i3_a_status_means_what_it_says_about_the_change() {
        let kind = |status, stage| match answer(status, "", "").verdict(stage) {
            Reply::No { reason, .. } => format!("{reason:?}"),
            Reply::NotReached { .. } => "not reached".to_owned(),
            other => format!("{other:?}").chars().take(7).collect(),
        };
        for (status, asked, changing) in [
            (401, "Credential", "Credential"),
            (403, "Privilege", "Privilege"),
            (404, "Missing", "Missing"),
            (302, "Unsupported", "Unsupported"),
            (422, "Unsupported", "Unsupported"),
            (429, "not reached", "not reached"),
            (500, "not reached", "InDoubt"),
            (503, "not reached", "InDoubt"),
        ] {
            assert_eq!(kind(status, Stage::Question), asked, "{status}");
            assert_eq!(kind(status, Stage::Change), changing, "{status}");
        }
    }

    #[test]
    fn a_refusal_is_quoted_and_a_success_never() {
        assert_eq!(
            answer(400, "application/json", r#"{"error":"e","reason":"too short"}"#).words(),
            "too short (status 400)"
        );
        assert_eq!(answer(400, "text/plain; charset=utf-8", "no\nway").words(), "no way (status 400)");
        assert_eq!(answer(502, "text/html", "<html>").words(), "502 Bad Gateway");
        assert_eq!(answer(200, "application/json", r#"{"message":"marker"}"#).words(), "200 OK");
        let Err(reply) = answer(200, "", "{\"key\": marker").json(Stage::Change) else { panic!("it is JSON") };
        assert!(matches!(&reply, Reply::InDoubt { message } if !message.contains("marker")), "{reply:?}");
    }
}
