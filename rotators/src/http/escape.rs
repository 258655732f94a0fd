//! Names and secrets inside addresses.

use keywheel_protocol::Reply;
use zeroize::Zeroizing;

use super::wrong;

/// `text` with everything but letters, digits and `-._~` percent-encoded (RFC 3986, unreserved characters).
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A form of names and values (`application/x-www-form-urlencoded`), where a space is a plus.
pub(crate) fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Zeroizing<String> {
    let pair = |(name, value)| format!("{}={}", encoded(name), encoded(value)).replace("%20", "+");
    let pairs = Zeroizing::new(pairs.into_iter().map(pair).collect::<Vec<_>>());
    Zeroizing::new(pairs.join("&"))
}

/// `text` as one segment of a path. Dots alone would be taken for a step up, however they are written.
pub(crate) fn segment(text: &str) -> Result<String, Reply> {
    if text.is_empty() || text == "." || text == ".." {
        return Err(wrong(&format!("{text:?} can't stand in the path of an address")));
    }
    Ok(encoded(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place() {
        assert_eq!(segment("a/b?c#d%41 é").expect("escaped"), "a%2Fb%3Fc%23d%2541%20%C3%A9");
        assert_eq!(*form([("a b", "c&d+e"), ("f", "")]), "a+b=c%26d%2Be&f=");
        assert_eq!(segment("..a").expect("escaped"), "..a");
        for dots in ["", ".", ".."] {
            assert!(segment(dots).is_err(), "{dots:?}");
        }
    }
}
