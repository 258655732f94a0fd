//! The accounts that may be changed: a file of root's that names each of them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use keywheel_protocol::{Reason, Reply};

use crate::accounts::{Account, Class, is_name};

/// The largest file that is read: tens of thousands of names.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The names, each with the class of account that it may be.
pub(crate) struct Allowed {
    place: String,
    lines: Vec<(String, Class)>,
}

impl Allowed {
    /// Reads the file, if nobody but root can have written it.
    pub(crate) fn read(path: &Path) -> Result<Self, Reply> {
        let place = path.display().to_string();
        let refused = |words: String| Reply::no(Reason::Unsupported, words);
        // A link is not followed: what it leads to was not checked.
        let opened =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|error| refused(format!("the list of accounts {place} can't be read: {error}")))?;
        is_roots_alone(&file, path).map_err(|words| refused(format!("{words}; nothing is done by such a list")))?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| refused(format!("{place}: {error}")))?;
        let lines = parse(&text).map_err(|(line, words)| refused(format!("{place} line {line}: {words}")))?;
        Ok(Self { place, lines })
    }

    /// Whether the account may be changed.
    pub(crate) fn check(&self, account: &Account) -> Result<(), Reply> {
        let name = &account.name;
        let Some((_, class)) = self.lines.iter().find(|(listed, _)| listed == name) else {
            return Err(self.unnamed(name));
        };
        if *class == account.class || account.class == Class::Ordinary {
            return Ok(());
        }
        let (place, uid, word) = (&self.place, account.uid, account.class.word());
        let words =
            format!("{name} has uid {uid}; the line in {place} must read `{name} {word}` if it is meant to be changed");
        Err(Reply::no(Reason::Privilege, words))
    }

    /// The answer about a name that is not there.
    pub(crate) fn unnamed(&self, name: &str) -> Reply {
        let words = format!("{} does not name {name}; a line with its name, written by root, allows it", self.place);
        Reply::no(Reason::Privilege, words)
    }

    /// Whether the file names it.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.lines.iter().any(|(listed, _)| listed == name)
    }
}

/// Checks the file that was opened, and the folders that lead to it: whoever can write one of these can put another file in
/// its place.
fn is_roots_alone(file: &File, path: &Path) -> Result<(), String> {
    let look =
        |path: &Path, found: std::io::Result<Metadata>| found.map_err(|error| format!("{}: {error}", path.display()));
    let found = look(path, file.metadata())?;
    if !found.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        let at = path.display();
        return Err(format!("{at} can be written by others than root; chown root {at} and chmod go-w {at}"));
    }
    let folder = path.parent().map(Path::canonicalize).transpose();
    let folder = folder.map_err(|error| format!("{}: {error}", path.display()))?;
    for folder in folder.iter().flat_map(|folder| folder.ancestors()) {
        let found = look(folder, folder.metadata())?;
        // In a sticky folder (/tmp) only root can replace what is root's.
        let guarded = found.mode() & 0o022 == 0 || found.mode() & 0o1000 != 0;
        if found.uid() != 0 || !guarded {
            return Err(format!("the folder {} can be written by others than root", folder.display()));
        }
    }
    Ok(())
}

/// One account a line; what is not understood makes the whole file void, since it may have been meant to forbid something.
fn parse(text: &str) -> Result<Vec<(String, Class)>, (usize, String)> {
    let mut lines: Vec<(String, Class)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |words: String| Err((index + 1, words));
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(name) = words.next() else { continue };
        let class = match words.next() {
            None => Class::Ordinary,
            Some("system") => Class::System,
            Some("superuser") => Class::Superuser,
            Some(other) => return wrong(format!("{other:?} is neither system nor superuser")),
        };
        if words.next().is_some() {
            return wrong("one account a line: a name, and perhaps system or superuser".to_owned());
        }
        if !is_name(name) {
            return wrong(format!("{name:?} is no name of an account; patterns are not known here"));
        }
        if lines.iter().any(|(known, _)| known == name) {
            return wrong(format!("{name} stands there twice"));
        }
        lines.push((name.to_owned(), class));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_one_account_and_what_else_it_may_be() {
        let lines = parse("# accounts\n\napp\n  postgres system # of the cluster\nroot superuser\n").expect("lines");
        let named = |name: &str, class| (name.to_owned(), class);
        assert_eq!(
            lines,
            [named("app", Class::Ordinary), named("postgres", Class::System), named("root", Class::Superuser)]
        );
        for (text, line) in
            [("a\n*\n", 2), ("app all\n", 1), ("a b c\n", 1), ("a\n\na\n", 3), ("a:b\n", 1), ("-x\n", 1)]
        {
            assert_eq!(parse(text).expect_err(text).0, line, "{text}");
        }
    }
}
