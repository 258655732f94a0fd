//! The lines of a password file, byte for byte.

/// A password file's contents. What is not the line of the user in question comes out as it went in: comments, order,
/// line ends, text after a second colon, bytes that are no UTF-8.
#[derive(Debug)]
pub(super) struct Lines {
    /// Each with its line end, if it has one.
    lines: Vec<Vec<u8>>,
}

/// The parts of a line with a user.
struct Entry<'a> {
    user: &'a [u8],
    hash: &'a [u8],
    /// A further colon and what follows, and the line end.
    rest: &'a [u8],
}

impl Lines {
    pub(super) fn of(contents: &[u8]) -> Self {
        Self { lines: contents.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() }
    }

    /// The hash of the first line of `user`: the one that servers take.
    pub(super) fn hash(&self, user: &str) -> Option<&str> {
        let entry = self.lines.iter().filter_map(|line| entry(line)).find(|entry| entry.user == user.as_bytes())?;
        std::str::from_utf8(entry.hash).ok()
    }

    /// All users and their hashes.
    pub(super) fn users(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines
            .iter()
            .filter_map(|line| entry(line))
            .filter_map(|entry| Some((std::str::from_utf8(entry.user).ok()?, std::str::from_utf8(entry.hash).ok()?)))
    }

    /// Gives `user` another hash. False if there is no such user.
    pub(super) fn set(&mut self, user: &str, hash: &str) -> bool {
        let Some(line) = self.line_of(user) else { return false };
        let Some(old) = entry(line) else { return false };
        *line = [old.user, b":", hash.as_bytes(), old.rest].concat();
        true
    }

    /// Adds a user at the end, in the manner in which the last line ends.
    pub(super) fn add(&mut self, user: &str, hash: &str) {
        let crlf = self.lines.last().is_some_and(|line| line.ends_with(b"\r\n"));
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        if let Some(last) = self.lines.last_mut().filter(|line| !line.ends_with(b"\n")) {
            last.push(b'\n');
        }
        self.lines.push([user.as_bytes(), b":", hash.as_bytes(), end].concat());
    }

    /// Removes every line of `user`: a second one would otherwise come into force.
    pub(super) fn remove(&mut self, user: &str) {
        self.lines.retain(|line| entry(line).is_none_or(|entry| entry.user != user.as_bytes()));
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.lines.concat()
    }

    fn line_of(&mut self, user: &str) -> Option<&mut Vec<u8>> {
        self.lines.iter_mut().find(|line| entry(line).is_some_and(|entry| entry.user == user.as_bytes()))
    }
}

fn entry(line: &[u8]) -> Option<Entry<'_>> {
    if line.starts_with(b"#") {
        return None;
    }
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (user, after) = (&line[..colon], &line[colon + 1..]);
    let end = after.iter().position(|byte| matches!(byte, b':' | b'\r' | b'\n')).unwrap_or(after.len());
    (!user.is_empty()).then_some(Entry { user, hash: &after[..end], rest: &after[end..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] =
        b"# app:comment\n\nbob:$apr1$x$y\r\napp:old:a comment: kept\n:odd\n\xff\xfe:z\napp:second\nlast:h";

    #[test]
    fn one_line_changes_and_every_other_byte_stays() {
        let mut lines = Lines::of(FILE);
        assert_eq!(lines.hash("app"), Some("old"));
        assert!(lines.set("app", "NEW"));
        let expected = String::from_utf8_lossy(FILE).replace("app:old:", "app:NEW:");
        assert_eq!(String::from_utf8_lossy(&lines.into_bytes()), expected);
        let mut lines = Lines::of(FILE);
        assert!(lines.set("last", "H"));
        assert!(lines.into_bytes().ends_with(b"\nlast:H"), "a file without a last line end keeps without");
        assert!(!Lines::of(FILE).set("#", "x") && !Lines::of(FILE).set("nobody", "x"));
    }

    #[test]
    fn a_user_is_added_on_a_line_of_its_own() {
        for (before, after) in [("", "u:h\n"), ("a:b", "a:b\nu:h\n"), ("a:b\r\n", "a:b\r\nu:h\r\n")] {
            let mut lines = Lines::of(before.as_bytes());
            lines.add("u", "h");
            assert_eq!(lines.into_bytes(), after.as_bytes());
        }
    }

    #[test]
    fn a_removed_user_has_no_second_line_left() {
        let mut lines = Lines::of(FILE);
        lines.remove("app");
        assert_eq!(lines.hash("app"), None);
        assert_eq!(lines.users().map(|(user, _)| user).collect::<Vec<_>>(), ["bob", "last"]);
    }
}
