//! The file on the host: read, and replaced whole, by a few lines of POSIX shell. Nothing in it is secret.

use aws_lc_rs::digest::{SHA256, digest};
use keywheel_protocol::{Reason, Reply};

use crate::failpoint;
use crate::ssh::{Session, quoted};
use crate::step::Stage;

/// The largest file that is edited, in bytes.
const FILE_BYTES_MAX: usize = 256 << 10;

/// Exit statuses of the scripts.
const MISSING: i32 = 66;
const UNFIT: i32 = 78;
const MOVED_ON: i32 = 75;
/// By a signal, at whatever line: among those that leave it in doubt.
const ENDED: i32 = 143;

/// Whose a file is.
#[derive(Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// The login's own; a relative path begins at its home.
    Own,
    /// Of this account, edited by an admin; a relative path begins at the account's home.
    Account(&'a str),
    /// The host's: its path is absolute, its folder is there, and everyone may read it.
    Host,
}

/// Where the file is, and who it is for.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    /// Whose it is.
    pub(crate) whose: Whose<'a>,
    /// Its path.
    pub(crate) path: &'a str,
    /// What the scripts are run with: nothing, or sudo.
    pub(crate) prefix: &'a str,
}

impl File<'_> {
    /// Sets `$f` and `$d` to the file and its folder. A link could lead an admin's hand to another file, and a folder that
    /// others can write to gives them the same.
    fn place(&self) -> String {
        let home = match self.whose {
            Whose::Own => "h=$HOME".to_owned(),
            Whose::Account(account) => {
                let account = quoted(account);
                format!(
                    "h=$(getent passwd {account} | cut -d: -f6); [ -n \"$h\" ] || {{ echo \"there is no account\" {account} >&2; exit 67; }}"
                )
            }
            Whose::Host => "h=".to_owned(),
        };
        format!(
            "set -u; LC_ALL=C; export LC_ALL; umask 077; {home}; p={}; case $p in /*) f=$p ;; *) f=$h/$p ;; esac; d=${{f%/*}}
if [ -L \"$f\" ] || [ -L \"$d\" ]; then echo \"$f or its folder is a link\" >&2; exit {UNFIT}; fi
if [ -e \"$f\" ] && [ ! -f \"$f\" ]; then echo \"$f is no file\" >&2; exit {UNFIT}; fi
if [ -d \"$d\" ] && [ -n \"$(find \"$d\" -prune \\( -perm -g+w -o -perm -o+w \\))\" ]; then
  echo \"others can write to $d: chmod go-w\" >&2; exit {UNFIT}
fi
",
            quoted(self.path)
        )
    }

    /// Its text; empty if it is not there yet.
    pub(crate) fn read(&self, session: &Session) -> Result<String, Reply> {
        let script = format!("{}[ -e \"$f\" ] || exit {MISSING}; cat \"$f\"", self.place());
        let ran = session.run(&self.command(&script), b"", Stage::Question)?;
        match ran.status {
            0 if ran.output.len() > FILE_BYTES_MAX => {
                let message = format!("{} has more than {FILE_BYTES_MAX} bytes", self.path);
                Err(Reply::no(Reason::Unsupported, message))
            }
            0 => Ok(ran.output),
            MISSING => Ok(String::new()),
            _ => Err(self.refused(ran.status, &ran.said())),
        }
    }

    /// Whether it could be replaced, as far as that shows without doing it.
    pub(crate) fn may_be_replaced(&self, session: &Session) -> Result<(), Reply> {
        // A folder that is not there is made, but for the host's.
        let absent = match self.whose {
            Whose::Host => format!("echo \"there is no folder $d\" >&2; exit {UNFIT}"),
            Whose::Own | Whose::Account(_) => "d=${d%/*}".to_owned(),
        };
        let script = format!(
            "{}if [ ! -d \"$d\" ]; then {absent}; fi
if [ ! -w \"$d\" ]; then echo \"Permission denied: the login can't write to $d\" >&2; exit {UNFIT}; fi",
            self.place()
        );
        let ran = session.run(&self.command(&script), b"", Stage::Question)?;
        if ran.status == 0 { Ok(()) } else { Err(self.refused(ran.status, &ran.said())) }
    }

    /// Puts `new` in the place of `old`, if that is still what stands there: in one step, with the owner and the mode that it had.
    pub(crate) fn replace(&self, session: &Session, old: &str, new: &str) -> Result<(), Reply> {
        let sum = hex(digest(&SHA256, old.as_bytes()).as_ref());
        let made = format!("mkdir \"$d\" && chmod 700 \"$d\" || exit {UNFIT}");
        let (owner, folder, fresh) = match self.whose {
            Whose::Own => (String::new(), made, "chmod 600 \"$t\""),
            Whose::Account(account) => {
                let account = quoted(account);
                let owner = format!("u={account}:$(id -g {account}) || exit {UNFIT}");
                (owner, format!("{made}; chown \"$u\" \"$d\" || exit {UNFIT}"), "chmod 600 \"$t\"; chown \"$u\" \"$t\"")
            }
            Whose::Host => {
                (String::new(), format!("echo \"there is no folder $d\" >&2; exit {UNFIT}"), "chmod 644 \"$t\"")
            }
        };
        let script = format!(
            "{}{owner}
if [ ! -d \"$d\" ]; then {folder}; fi
now=$(cat \"$f\" 2>/dev/null | sha256sum | cut -d' ' -f1)
[ \"$now\" = {sum} ] || {{ echo \"$f was changed meanwhile\" >&2; exit {MOVED_ON}; }}
t=$(mktemp \"$d/.keywheel.XXXXXX\") || exit {UNFIT}
trap 'rm -f \"$t\"' EXIT; trap 'exit {ENDED}' HUP INT PIPE TERM
cat > \"$t\" || exit {UNFIT}
if [ -e \"$f\" ]; then
  chmod \"$(stat -c %a \"$f\")\" \"$t\" && {{ [ \"$(stat -c %u:%g \"$f\")\" = \"$(stat -c %u:%g \"$t\")\" ] || chown \"$(stat -c %u:%g \"$f\")\" \"$t\"; }} || exit {UNFIT}
else {fresh}; fi || exit {UNFIT}
[ \"$(wc -c < \"$t\")\" -eq {} ] || {{ echo 'the disk is full' >&2; exit {UNFIT}; }}
sync \"$t\" 2>/dev/null || sync
mv -f \"$t\" \"$f\" || exit {UNFIT}
sync \"$d\" 2>/dev/null || :",
            self.place(),
            new.len()
        );
        if session.deadline().is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        let ran = session.run(&self.command(&script), new.as_bytes(), Stage::Change)?;
        match ran.status {
            0 => Ok(()),
            // The shell, or the connection, fell over: the last command may have run.
            126..=255 => Err(Reply::in_doubt(format!("the file may have been replaced: {}", ran.said()))),
            _ => Err(self.refused(ran.status, &ran.said())),
        }
    }

    fn command(&self, script: &str) -> String {
        format!("{}sh -c {}", self.prefix, quoted(script))
    }

    fn refused(&self, status: i32, said: &str) -> Reply {
        match status {
            MOVED_ON => Reply::not_reached(format!("nothing was changed: {said}")),
            67 => Reply::no(Reason::Missing, said.to_owned()),
            _ if said.contains("sudo") || said.contains("ermission denied") || said.contains("not permitted") => {
                Reply::no(Reason::Privilege, format!("nothing was changed: {said}"))
            }
            _ => Reply::no(Reason::Unsupported, format!("nothing was changed: {said}")),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
