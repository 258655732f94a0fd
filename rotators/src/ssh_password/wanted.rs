//! The account that is made for a lease, as the settings want it, and the commands that make and end it.
//!
//! All that enters a command line of the host is checked here first.

use keywheel_protocol::{Reason, Reply, Request};

use crate::settings::{Leased, Settings};
use crate::ssh::quoted;
use crate::time;

/// The longest name of an account on Linux, in bytes (`useradd`, and 32 with its NUL in utmp).
const NAME_BYTES_MAX: usize = 32;
/// What stands behind the credential's `account` in the name: an underscore and as many characters of a-z and 2-7.
const ID_CHARS: usize = 8;
/// The most groups of one account.
const GROUPS_MAX: usize = 32;
/// The longest path of a shell or a home, in bytes.
const PATH_BYTES_MAX: usize = 200;
/// The shell, unless the settings name another. Every Unix host has it.
const SHELL: &str = "/bin/sh";
/// The home of an account that has none, as Debian calls it.
const NO_HOME: &str = "/nonexistent";
/// What whoever reads `/etc/passwd` sees of an account's origin.
const COMMENT: &str = "keywheel-lease";
const DAY_S: u64 = 86_400;

/// An account to be made, found or ended.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// What it is started with.
    pub(super) shell: &'a str,
    /// Its home directory.
    pub(super) home: String,
    /// Whether the home is made for it, and removed with it.
    pub(super) own_home: bool,
    /// Its first group; one of its own without.
    pub(super) group: Option<&'a str>,
    /// The other groups.
    pub(super) groups: Vec<&'a str>,
    /// Whether its processes are killed when the lease ends.
    pub(super) kills: bool,
    /// The first day on which the host itself refuses it, in days since 1970 as in `/etc/shadow`.
    day: u64,
}

impl<'a> Wanted<'a> {
    /// Checks the settings.
    pub(super) fn of(request: &'a Request, leased: &Leased<'a>) -> Result<Self, Reply> {
        let settings = Settings(&request.credential);
        let name = leased.account;
        checked_name(leased)?;
        let template = settings.text("home")?;
        let own_home = template.is_some_and(|home| home.contains("{}"));
        let home = template.map_or_else(|| NO_HOME.to_owned(), |home| home.replace("{}", name));
        let shell = settings.text("shell")?.unwrap_or(SHELL);
        for (setting, path) in [("home", home.as_str()), ("shell", shell)] {
            if !is_path(path) {
                let message = format!("{setting} must be a path from / on, of letters, digits and . _ - /, without ..");
                return Err(wrong(&message));
            }
        }
        if own_home && !template.is_some_and(|home| home.ends_with("/{}")) {
            return Err(wrong("a home that is made for the account must end with its name: /home/{}"));
        }
        let listed = settings.text("groups")?.unwrap_or_default().split(',').map(str::trim);
        let groups: Vec<_> = listed.filter(|group| !group.is_empty()).collect();
        let group = settings.text("primary_group")?;
        if let Some(group) = groups.iter().chain(&group).find(|group| !is_name(group)) {
            return Err(wrong(&format!("{group:?} is no name of a group")));
        }
        if groups.len() > GROUPS_MAX {
            return Err(wrong(&format!("groups names more than {GROUPS_MAX} groups")));
        }
        let kills = match settings.text("sessions")?.unwrap_or("end") {
            "end" => true,
            "wait" => false,
            other => return Err(wrong(&format!("sessions = {other:?} is not known"))),
        };
        let end = u64::try_from(time::now()).unwrap_or_default().saturating_add(leased.expires_in_s.unwrap_or(0));
        Ok(Self { name, shell, home, own_home, group, groups, kills, day: end / DAY_S + 1 })
    }

    /// The command that makes it, without a password: nobody can log in by one yet.
    pub(super) fn useradd(&self) -> String {
        let home = if self.own_home { "-m" } else { "-M" };
        let group = match self.group {
            Some(group) => format!("-N -g {}", quoted(group)),
            None => "-U".to_owned(),
        };
        let groups =
            if self.groups.is_empty() { String::new() } else { format!(" -G {}", quoted(&self.groups.join(","))) };
        let (shell, path) = (quoted(self.shell), quoted(&self.home));
        format!("useradd -c {COMMENT} -e {} -s {shell} {home} -d {path} {group}{groups} {}", self.day, self.quoted())
    }

    /// The command that sets its end, when an earlier try has made it.
    pub(super) fn renew(&self) -> String {
        format!("usermod -e {} {}", self.day, self.quoted())
    }

    /// The command that keeps it from logging in any more, by password or by key.
    pub(super) fn expire(&self) -> String {
        format!("usermod -e 1 {}", self.quoted())
    }

    /// The command that kills what it runs.
    pub(super) fn kill(&self) -> String {
        format!("pkill -KILL -U {}", self.quoted())
    }

    /// The command that drops it.
    pub(super) fn userdel(&self, with_home: bool) -> String {
        format!("userdel {}{}", if with_home { "-r " } else { "" }, self.quoted())
    }

    /// Everything that is done by root: what a rehearsal asks the right for.
    pub(super) fn commands(&self) -> Vec<String> {
        let mut all = vec![self.useradd(), "chpasswd".to_owned(), self.renew(), self.expire()];
        all.extend(self.kills.then(|| self.kill()));
        all.push(self.userdel(self.own_home));
        all
    }

    /// Its name as a word of the shell.
    pub(super) fn quoted(&self) -> String {
        quoted(self.name)
    }
}

/// Only names that keywheel makes are ever made or dropped: no account of anybody's is called so.
fn checked_name(leased: &Leased<'_>) -> Result<(), Reply> {
    let (model, account) = (leased.model, leased.account);
    let id = account.strip_prefix(model).and_then(|rest| rest.strip_prefix('_'));
    let is_id = |id: &str| id.len() == ID_CHARS && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    if !is_name(model) || !id.is_some_and(is_id) {
        let message = "the account of leases is the first part of their names: a-z first, then a-z, 0-9, - and _";
        return Err(wrong(message));
    }
    if account.len() > NAME_BYTES_MAX {
        let most = NAME_BYTES_MAX - ID_CHARS - 1;
        return Err(wrong(&format!("{account} is too long a name: give the credential an account of at most {most}")));
    }
    Ok(())
}

/// What `useradd` takes as a name without being told to be lenient, on every system.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.starts_with('/')
        && !path.split('/').any(|part| matches!(part, "." | ".."))
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/'))
}

fn wrong(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_protocol::Step;
    use serde_json::{Value, json};

    const NAME: &str = "report_k3vq72aa";

    fn wanted(settings: Value, then: impl FnOnce(Result<Wanted<'_>, Reply>)) {
        let mut credential = json!({ "strategy": "ephemeral", "accounts": ["report", NAME] });
        let all = credential.as_object_mut().expect("an object");
        all.extend(settings.as_object().expect("an object").clone());
        let Value::Object(credential) = credential else { panic!("{credential}") };
        let (step, target, deadline_ms) = (Step::Apply, serde_json::Map::new(), 1);
        let request = Request { step, target, credential, token: None, subject: None, login: None, deadline_ms };
        let leased = Settings(&request.credential).leased().expect("settings").expect("a lease");
        then(Wanted::of(&request, &leased));
    }

    #[test]
    fn what_is_run_is_made_of_checked_words_and_never_of_a_secret() {
        wanted(json!({ "expires_in_s": 60 }), |wanted| {
            let wanted = wanted.expect("settings");
            let made = wanted.useradd();
            assert!(made.starts_with("useradd -c keywheel-lease -e "), "{made}");
            assert!(made.ends_with(&format!(" -s '/bin/sh' -M -d '/nonexistent' -U '{NAME}'")), "{made}");
            assert!(wanted.commands().contains(&format!("pkill -KILL -U '{NAME}'")));
        });
        let all = json!({ "home": "/srv/{}", "shell": "/bin/bash", "primary_group": "users", "groups": "adm, www-data", "sessions": "wait" });
        wanted(all, |wanted| {
            let wanted = wanted.expect("settings");
            let made = wanted.useradd();
            let end = format!("-m -d '/srv/{NAME}' -N -g 'users' -G 'adm,www-data' '{NAME}'");
            assert!(made.ends_with(&end), "{made}");
            let commands = wanted.commands();
            assert!(commands.iter().all(|command| !command.contains("pkill")), "{commands:?}");
            assert_eq!(commands.last(), Some(&format!("userdel -r '{NAME}'")));
        });
        wanted(json!({ "home": "/srv/shared" }), |wanted| {
            assert_eq!(wanted.expect("settings").commands().last(), Some(&format!("userdel '{NAME}'")));
        });
    }

    #[test]
    fn the_host_refuses_it_from_the_day_after_its_end_on() {
        let day = |seconds: u64| {
            let mut found = 0;
            wanted(json!({ "expires_in_s": seconds }), |wanted| found = wanted.expect("settings").day);
            found
        };
        let today = u64::try_from(time::now()).expect("a time") / DAY_S;
        assert!((today + 11..=today + 12).contains(&day(10 * DAY_S)));
        assert!(day(u64::MAX) > today, "no overflow");
    }

    #[test]
    fn what_could_be_more_than_one_word_or_somebody_elses_is_refused() {
        for settings in [
            json!({ "accounts": ["report", "root"] }),
            json!({ "accounts": ["root", "root_abcdefg"] }),
            json!({ "accounts": ["re port", "re port_k3vq72aa"] }),
            json!({ "accounts": ["-report", "-report_k3vq72aa"] }),
            json!({ "accounts": ["Report", "Report_k3vq72aa"] }),
            json!({ "accounts": ["report", "report_k3vq72a'"] }),
            json!({ "accounts": ["abcdefghijklmnopqrstuvwx", "abcdefghijklmnopqrstuvwx_k3vq72aa"] }),
            json!({ "home": "/home/{}/.." }),
            json!({ "home": "home/{}" }),
            json!({ "home": "/home/x{}" }),
            json!({ "home": "/home/$(id)" }),
            json!({ "shell": "/bin/sh -c" }),
            json!({ "shell": "bash" }),
            json!({ "groups": "adm, a:b" }),
            json!({ "groups": "-R" }),
            json!({ "primary_group": "users,root" }),
            json!({ "sessions": "stay" }),
        ] {
            let shown = settings.to_string();
            wanted(settings, |wanted| {
                assert!(matches!(wanted, Err(Reply::No { reason: Reason::Unsupported, .. })), "{shown}");
            });
        }
    }
}
