//! Text from elsewhere, made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal, or a reader's eye, could be led astray by `c`: control characters (ESC and its 8-bit kin
/// included), line and paragraph separators, and the marks that reorder text.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` on one line, with what could mislead written as `\n`, `\t` or `\u{1b}`.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_treacherous(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

/// The same, but newlines stay.
pub(super) fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Equivalent JSON without anything that could mislead: `\u001b` for what serde leaves as it is. `text` is valid JSON,
/// so treacherous characters but white space stand in strings only.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    let must = |c: char| is_treacherous(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(must) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if must(c) {
            // All of them lie in the basic plane: one escape each.
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_drive_a_terminal_is_spelled_out() {
        for (raw, shown) in [
            ("billing/db", "billing/db"),
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("größe 界", "größe 界"),
        ] {
            assert_eq!(line(raw), shown);
        }
        assert_eq!(lines("a\n\u{1b}[1m"), "a\n\\u{1b}[1m");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({"a\u{9b}": "x\u{1b}\u{7f}\u{202e}\n"});
        let text = value.to_string();
        let clean = json(&text);
        assert!(clean.is_ascii(), "{clean}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).expect("json"), value);
        let pretty = serde_json::to_string_pretty(&value).expect("json");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&pretty)).expect("json"), value);
    }
}
