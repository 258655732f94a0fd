//! The lines of an `authorized_keys` file (sshd(8), AUTHORIZED_KEYS FILE FORMAT): what stands there, what comes in, what goes
//! out. All that is not touched stays byte for byte.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// The names that a key can begin with.
const KINDS: &[&str] = &["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

/// One line that names a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// What restricts the key, without the space behind it; may be empty.
    pub(crate) options: &'a str,
    /// The algorithm and the key in base64, one space between them.
    pub(crate) kind: &'a str,
    pub(crate) blob: &'a str,
    /// The rest.
    pub(crate) comment: &'a str,
}

impl Line<'_> {
    /// The fingerprint of its key, as `ssh-keygen -l` prints it.
    pub(crate) fn fingerprint(&self) -> String {
        let bytes = STANDARD.decode(self.blob).unwrap_or_default();
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &bytes)))
    }
}

/// Reads a line; none for empty ones, comments, and what is no key.
pub(crate) fn parse(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (options, rest) = if is_kind(line) { ("", line) } else { line.split_at(end_of_options(line)) };
    let mut words = rest.trim_start().splitn(3, [' ', '\t']);
    let (kind, blob) = (words.next()?, words.next()?);
    let named = is_kind(kind) && !blob.is_empty();
    named.then(|| Line { options, kind, blob, comment: words.next().unwrap_or_default().trim() })
}

fn is_kind(text: &str) -> bool {
    KINDS.iter().any(|kind| text.starts_with(kind))
}

/// Options end at the first space outside quotes; a quote inside them is escaped by a backslash.
fn end_of_options(line: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (place, character) in line.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return place,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    line.len()
}

/// The algorithm and the key of a `public_key`.
pub(crate) fn key_of(public: &str) -> Option<(&str, &str)> {
    parse(public).filter(|line| line.options.is_empty()).map(|line| (line.kind, line.blob))
}

/// The file's keys.
pub(crate) fn keys(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(parse)
}

/// Whether the file has this key.
pub(crate) fn has(text: &str, key: (&str, &str)) -> bool {
    keys(text).any(|line| (line.kind, line.blob) == key)
}

/// The file with one more line.
pub(crate) fn with(text: &str, options: &str, key: (&str, &str), comment: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let (kind, blob) = key;
    let words = [options, kind, blob, comment];
    text.push_str(&words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
    text.push('\n');
    text
}

/// The file without the lines of this key.
pub(crate) fn without(text: &str, key: (&str, &str)) -> String {
    let kept = |line: &&str| parse(line).is_none_or(|line| (line.kind, line.blob) != key);
    text.split_inclusive('\n').filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# of the ops team\nssh-ed25519 AAAA1 ops@host\n\n\
                        from=\"10.0.0.0/8\",command=\"echo \\\"hi there\\\"\" ssh-rsa AAAA2 with some words\n\
                        restrict ecdsa-sha2-nistp256 AAAA3\nnonsense\n  ssh-ed25519 AAAA1 twice";

    #[test]
    fn lines_are_read_as_sshd_reads_them() {
        let found: Vec<Line<'_>> = keys(FILE).collect();
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], Line { options: "", kind: "ssh-ed25519", blob: "AAAA1", comment: "ops@host" });
        assert_eq!(found[1].options, r#"from="10.0.0.0/8",command="echo \"hi there\"""#);
        assert_eq!((found[1].kind, found[1].comment), ("ssh-rsa", "with some words"));
        assert_eq!((found[2].options, found[2].comment), ("restrict", ""));
    }

    #[test]
    fn a_key_comes_and_goes_and_the_rest_stays_byte_for_byte() {
        let key = ("ssh-ed25519", "AAAA9");
        let more = with(FILE, "restrict", key, "app key");
        assert_eq!(more, format!("{FILE}\nrestrict ssh-ed25519 AAAA9 app key\n"));
        assert!(has(&more, key) && !has(FILE, key));
        assert_eq!(without(&more, key), format!("{FILE}\n"));
        let fewer = without(FILE, ("ssh-ed25519", "AAAA1"));
        assert!(fewer.starts_with("# of the ops team\n\nfrom=") && fewer.ends_with("nonsense\n"), "{fewer}");
        assert_eq!(with("", "", key, ""), "ssh-ed25519 AAAA9\n");
    }

    #[test]
    fn a_public_key_is_a_line_without_options() {
        assert_eq!(key_of("ssh-ed25519 AAAA1 comment"), Some(("ssh-ed25519", "AAAA1")));
        for odd in ["", "ssh-ed25519", "restrict ssh-ed25519 AAAA1", "# ssh-ed25519 AAAA1", "hunter2"] {
            assert_eq!(key_of(odd), None, "{odd}");
        }
    }
}
