//! The hosts that trust the authority, each with its file as it was read: all are changed, or it is said which were.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::{Reason, Reply};

use crate::ssh::remote::File;
use crate::ssh::wire::take;
use crate::ssh::{Session, lines};

/// A host that the login is open at.
pub(super) struct Site {
    /// Its name.
    pub(super) host: String,
    /// The connection that edits the file.
    pub(super) session: Session,
    /// The file as it was read.
    pub(super) text: String,
}

impl Site {
    /// The keys that sshd reads out of the file.
    pub(super) fn keys(&self) -> impl Iterator<Item = lines::Line<'_>> {
        trusted(&self.text)
    }

    /// Whether the key is one of them.
    pub(super) fn trusts(&self, key: (&str, &str)) -> bool {
        self.keys().any(|line| (line.kind, line.blob) == key)
    }

    /// A line that sshd can't read, counted from 1.
    pub(super) fn unreadable(&self) -> Option<usize> {
        self.text.lines().position(|line| says_something(line) && key(line).is_none()).map(|place| place + 1)
    }
}

/// The keys that sshd reads out of a file of authorities: at the first line that is none it gives up (`sshkey_in_file`).
pub(super) fn trusted(text: &str) -> impl Iterator<Item = lines::Line<'_>> {
    text.lines().filter(|line| says_something(line)).map_while(key)
}

fn says_something(line: &str) -> bool {
    !matches!(line.trim_start().chars().next(), None | Some('#'))
}

/// A key without options, whose blob has the name that stands before it.
fn key(line: &str) -> Option<lines::Line<'_>> {
    let line = lines::parse(line).filter(|line| line.options.is_empty())?;
    let blob = STANDARD.decode(line.blob).ok()?;
    (take(&mut blob.as_slice())? == line.kind.as_bytes()).then_some(line)
}

/// A host, and what its file shall be.
pub(super) type Edit<'a> = (&'a Site, String);

/// Whether each of these hosts would let its file be replaced, as far as that shows.
pub(super) fn may_be_replaced(file: &File<'_>, edits: &[Edit<'_>]) -> Result<(), Reply> {
    edits.iter().try_for_each(|(site, _)| file.may_be_replaced(&site.session).map_err(|reply| named(reply, &site.host)))
}

/// Replaces the file at each of these hosts. What a first host says is said; once one was changed, every trouble leaves the
/// whole in doubt, and the same step comes again.
pub(super) fn replace(file: &File<'_>, edits: &[Edit<'_>]) -> Result<(), Reply> {
    let mut done: Vec<&str> = Vec::new();
    for (place, (site, new)) in edits.iter().enumerate() {
        if let Err(reply) = file.replace(&site.session, &site.text, new) {
            let left: Vec<&str> = edits.iter().skip(place + 1).map(|(site, _)| site.host.as_str()).collect();
            return Err(partly(reply, &done, &site.host, &left));
        }
        done.push(&site.host);
    }
    Ok(())
}

/// The verdict on a change that failed at one host, after it was made at others.
fn partly(reply: Reply, done: &[&str], at: &str, left: &[&str]) -> Reply {
    if done.is_empty() {
        return named(reply, at);
    }
    let (Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message }) = reply else {
        return reply;
    };
    let left = if left.is_empty() { String::new() } else { format!("; not tried at {}", left.join(", ")) };
    Reply::in_doubt(format!("the file was replaced at {}; at {at}: {message}{left}", done.join(", ")))
}

/// The same with the host's name before its words.
pub(super) fn named(reply: Reply, host: &str) -> Reply {
    let name = |message: String| if message.contains(host) { message } else { format!("{host}: {message}") };
    match reply {
        Reply::Yes(_) => reply,
        Reply::No { reason, message, retry_after_s } => Reply::No { reason, message: name(message), retry_after_s },
        Reply::NotReached { message } => Reply::NotReached { message: name(message) },
        Reply::InDoubt { message } => Reply::InDoubt { message: name(message) },
    }
}

/// What to say where a key would be the last one to go.
pub(super) fn last_one(host: &str, path: &str) -> Reply {
    let message = format!("it is the only authority in {path} at {host}; the new one is not there");
    Reply::no(Reason::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn reading_ends_at_the_first_line_that_is_no_key() {
        let good = format!("# a comment\n\n  ssh-ed25519 {BLOB} ops\n");
        assert_eq!(trusted(&format!("{good}{good}")).count(), 2);
        for odd in [format!("restrict ssh-ed25519 {BLOB}"), format!("ssh-rsa {BLOB}"), "nonsense".to_owned()] {
            assert_eq!(trusted(&format!("{good}{odd}\n{good}")).count(), 1, "{odd}");
        }
    }

    #[test]
    fn i3_a_refusal_after_a_change_elsewhere_is_in_doubt_and_says_where() {
        let refused = || Reply::no(Reason::Privilege, "nothing was changed: Permission denied");
        let Reply::No { reason: Reason::Privilege, message, .. } = partly(refused(), &[], "b", &["c"]) else {
            panic!("nothing was changed anywhere")
        };
        assert!(message.starts_with("b: "), "{message}");
        for reply in [refused(), Reply::not_reached("nothing was changed: gone"), Reply::in_doubt("gone")] {
            let Reply::InDoubt { message } = partly(reply, &["a", "z"], "b", &["c"]) else {
                panic!("a change was made")
            };
            assert!(message.starts_with("the file was replaced at a, z; at b: "), "{message}");
            assert!(message.ends_with("; not tried at c"), "{message}");
        }
    }
}
