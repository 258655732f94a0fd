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

/// Where the file is, and who it is for.
pub(crate) struct File<'a> {
    /// Whose it is.
    pub(crate) account: &'a str,
    /// Its path; relative to the account's home if it does not begin with a slash.
    pub(crate) path: &'a str,
    /// What the scripts are run with: nothing, or sudo.
    pub(crate) prefix: &'a str,
    /// Whether the account's own login edits it.
    pub(crate) own: bool,
}

impl File<'_> {
    /// Sets `$f` and `$d` to the file and its folder. A link could lead an admin's hand to another file, and a folder that
    /// others can write to gives them the same.
    fn place(&self) -> String {
        let home = if self.own {
            "h=$HOME".to_owned()
        } else {
            let account = quoted(self.account);
            format!(
                "h=$(getent passwd {account} | cut -d: -f6); [ -n \"$h\" ] || {{ echo \"there is no account\" {account} >&2; exit 67; }}"
            )
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

    /// Puts `new` in the place of `old`, if that is still what stands there: in one step, with the owner and the mode that it had.
    pub(crate) fn replace(&self, session: &Session, old: &str, new: &str) -> Result<(), Reply> {
        let sum = hex(digest(&SHA256, old.as_bytes()).as_ref());
        let owner = if self.own { "" } else { "; chown \"$u\" \"$t\"" };
        let account = quoted(self.account);
        let script = format!(
            "{}u={account}:$(id -g {account}) || exit {UNFIT}
if [ ! -d \"$d\" ]; then mkdir \"$d\" && chmod 700 \"$d\" || exit {UNFIT}; {} fi
now=$(cat \"$f\" 2>/dev/null | sha256sum | cut -d' ' -f1)
[ \"$now\" = {sum} ] || {{ echo \"$f was changed meanwhile\" >&2; exit {MOVED_ON}; }}
t=$(mktemp \"$d/.keywheel.XXXXXX\") || exit {UNFIT}
trap 'rm -f \"$t\"' EXIT
cat > \"$t\" || exit {UNFIT}
if [ -e \"$f\" ]; then
  chmod \"$(stat -c %a \"$f\")\" \"$t\" && {{ [ \"$(stat -c %u:%g \"$f\")\" = \"$(stat -c %u:%g \"$t\")\" ] || chown \"$(stat -c %u:%g \"$f\")\" \"$t\"; }} || exit {UNFIT}
else chmod 600 \"$t\"{owner}; fi || exit {UNFIT}
[ \"$(wc -c < \"$t\")\" -eq {} ] || {{ echo 'the disk is full' >&2; exit {UNFIT}; }}
sync \"$t\" 2>/dev/null || sync
mv -f \"$t\" \"$f\" || exit {UNFIT}
sync \"$d\" 2>/dev/null || :",
            self.place(),
            if self.own { String::new() } else { "chown \"$u\" \"$d\" || exit 78;".to_owned() },
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
