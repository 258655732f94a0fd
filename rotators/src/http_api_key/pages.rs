//! A list that comes in pages. None may be left out: the key that is looked for may stand on any of them, and a list that ends too
//! early would leave a second key behind.

use keywheel_protocol::Reply;
use reqwest::Url;
use serde_json::Value;

use super::keys::text_at;
use super::service::{LINK, List};
use super::template::Values;
use crate::http::{Answer, Call, wrong};

/// The most pages that are asked for.
const PAGES_MAX: usize = 1_000;

/// Where answers of well-known services say that there is more, and where how many there are in all. Looked at when the service's
/// file finds no next page.
const MORE: &[&str] = &[
    "/next",
    "/next_page",
    "/next_token",
    "/next_cursor",
    "/nextPageToken",
    "/nextLink",
    "/has_more",
    "/hasMore",
    "/links/next",
    "/_links/next",
    "/pagination/next",
    "/_pagination/next",
    "/meta/next",
    "/response_metadata/next_cursor",
];
const TOTALS: &[&str] =
    &["/total", "/total_count", "/totalCount", "/pagination/total", "/_pagination/total", "/meta/total"];

/// The pages that were asked for and the one that is next.
pub(super) struct Pages<'a> {
    list: &'a List,
    asked: usize,
    then: Then,
}

enum Then {
    /// The first page, or one that is counted.
    Counted,
    /// What `{next}` stands for.
    Mark(String),
    /// Path and query.
    Address(String),
    End,
}

/// One page.
pub(super) struct Page<'a> {
    pub(super) answer: &'a Answer,
    pub(super) json: &'a Value,
    /// Path and query that it was asked by.
    pub(super) path: &'a str,
    /// How many keys are on it, and how many of them on no page before.
    pub(super) keys: usize,
    pub(super) fresh: usize,
}

impl<'a> Pages<'a> {
    pub(super) fn of(list: &'a List) -> Self {
        Self { list, asked: 0, then: Then::Counted }
    }

    /// The request for the next page, if there is one; `seen` keys were before it.
    pub(super) fn call(&self, values: &Values<'_>, seen: usize) -> Result<Option<Call>, Reply> {
        let (offset, page) = (seen.to_string(), (self.asked + 1).to_string());
        let ask = &self.list.ask;
        match (&self.then, &self.list.next_request) {
            (Then::End, _) => Ok(None),
            (Then::Mark(next), Some(request)) => {
                ask.call_for(request, &Values { next: Some(next), ..*values }).map(Some)
            }
            (Then::Address(path), _) => ask.call_at(path, values).map(Some),
            (Then::Counted | Then::Mark(_), _) => {
                ask.call(&Values { offset: Some(&offset), page: Some(&page), ..*values }).map(Some)
            }
        }
    }

    /// Takes note of a page, with which `seen` keys were seen.
    pub(super) fn turn(&mut self, page: &Page<'_>, seen: usize) -> Result<(), Reply> {
        self.asked += 1;
        self.then = self.after(page)?;
        match self.then {
            Then::End if !self.list.counts_pages() && says_more(page, seen) => Err(wrong(&format!(
                "the service's list goes on after {seen} keys, and its file does not say how: a new key could be among the others; \
                 ask for all at once in list.request, or set list.next or {{offset}} or {{page}}"
            ))),
            Then::End => Ok(()),
            _ if page.keys > 0 && page.fresh == 0 => {
                Err(wrong(&format!("the service's list has the same keys again on page {}", self.asked)))
            }
            _ if self.asked >= PAGES_MAX => Err(wrong(&format!(
                "the service's list has more than {PAGES_MAX} pages, the most that is looked through"
            ))),
            _ => Ok(()),
        }
    }

    fn after(&self, page: &Page<'_>) -> Result<Then, Reply> {
        if self.list.counts_pages() {
            return Ok(if page.keys == 0 { Then::End } else { Then::Counted });
        }
        let next = match self.list.next.as_deref() {
            Some(LINK) => page.answer.next().map(str::to_owned),
            Some(pointer) => text_at(page.json, pointer),
            None => None,
        };
        match next {
            None => Ok(Then::End),
            Some(mark) if self.list.next_request.is_some() => Ok(Then::Mark(mark)),
            Some(address) => within(page.path, &address).map(Then::Address),
        }
    }
}

/// Path and query of an address on a page. It is asked for at the server that is set, whatever host the address names: a service
/// behind a proxy may know itself by another name, and the login goes nowhere else.
fn within(path: &str, address: &str) -> Result<String, Reply> {
    let joined = Url::parse("http://service").and_then(|base| base.join(path)).and_then(|page| page.join(address));
    let url = joined.map_err(|error| wrong(&format!("the next page of the service's list is no address: {error}")))?;
    Ok(url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())))
}

/// Whether a page on which the file finds no next one says that there is one all the same.
fn says_more(page: &Page<'_>, seen: usize) -> bool {
    let at = |pointer: &&str| page.json.pointer(pointer);
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(more) => *more,
        Value::Number(number) => number.as_u64().is_some_and(|number| number > 0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    };
    let totals = TOTALS.iter().filter_map(at).filter_map(Value::as_u64).filter_map(|total| usize::try_from(total).ok());
    page.answer.next().is_some()
        || totals.chain(page.answer.total()).any(|total| total > seen)
        || MORE.iter().filter_map(at).any(is_something)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_at_the_server_that_is_set() {
        let of = |address: &str| within("/api/keys?limit=2", address).expect("an address");
        assert_eq!(of("https://elsewhere.example/api/keys?limit=2&page=2"), "/api/keys?limit=2&page=2");
        assert_eq!(of("/other?x=1#y"), "/other?x=1");
        assert_eq!(of("?page=2"), "/api/keys?page=2");
        assert_eq!(of("//elsewhere.example/api"), "/api");
        assert!(within("/api", "http://[").is_err());
    }
}
