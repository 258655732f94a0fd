//! Accounts of a Unix host that are made for one lease (`ephemeral`), and dropped when it ends.
//!
//! The password is set last, so a login that works proves that all the rest is there.

use std::thread::sleep;
use std::time::Duration;

use keywheel_protocol::{By, Reason, Reply, Request};

use super::wanted::Wanted;
use super::{changing_session, chpasswd, dialect, root};
use crate::deadline::Deadline;
use crate::settings::{Leased, Pair};
use crate::ssh::{Ran, Session, Target, quoted};
use crate::step::{Stage, begun, noted, try_later};

/// How often an account whose processes were killed is tried to be dropped, and the pause before the next time.
const DROPS_MAX: u32 = 20;
const DROP_PAUSE: Duration = Duration::from_millis(200);

/// `getent` found nothing.
const NOT_FOUND: i32 = 2;
/// `useradd`: there is no such group; the name is taken, by an account or a group. `userdel`: there is no such account; it has processes; its
/// home could not be removed, but it was.
const NO_GROUP: i32 = 6;
const TAKEN: i32 = 9;
const GONE: i32 = 6;
const BUSY: i32 = 8;
const HOME_STAYS: i32 = 12;
/// `pkill` found nothing to kill.
const NOTHING_KILLED: i32 = 1;

/// The account that the settings want, at the host, by an admin.
struct Host<'a> {
    wanted: Wanted<'a>,
    target: Target,
    session: Session,
}

/// Makes the account, or takes up the one that an earlier try has made, and gives it its password.
pub(super) fn make(
    request: &Request,
    leased: &Leased<'_>,
    subject: Pair<'_>,
    deadline: Deadline,
) -> Result<Reply, Reply> {
    let host = Host::of(request, leased, deadline)?;
    if subject.username != leased.account {
        return Err(unsupported(&format!("{} is not the account of this lease", subject.username)));
    }
    match host.home()? {
        // The host went down while it was made.
        Some(home) if host.wanted.own_home && home == host.wanted.home && !host.is("-d", &home)? => {
            host.drop_account(&home, deadline).and_then(|_| host.add()).map_err(begun)?;
        }
        Some(_) => {
            let ran = host.root(&host.wanted.renew(), Stage::Change)?;
            if ran.status != 0 {
                return Err(refusal(&ran, "its end could not be set"));
            }
        }
        None => host.add().map_err(|refused| host.take_back(refused, deadline))?,
    }
    let set = chpasswd::set(&host.target, &host.session, subject);
    set.map_err(|refused| host.take_back(refused, deadline))?;
    Ok(noted(host.session.note.clone()))
}

/// Ends the account: no new login, its processes if so wanted, then itself.
pub(super) fn end(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let host = Host::of(request, leased, deadline)?;
    let Some(home) = host.home()? else {
        return Ok(noted(Some(format!("there is no account {}", leased.account))));
    };
    host.drop_account(&home, deadline).map(noted)
}

/// Everything of [`make`] and [`end`] that can be known without a change.
pub(super) fn rehearse(request: &Request, leased: &Leased<'_>, deadline: Deadline) -> Result<Reply, Reply> {
    let host = Host::of(request, leased, deadline)?;
    let commands = host.wanted.commands();
    if !host.target.sudo && host.ask("test \"$(id -u)\" = 0")?.status != 0 {
        let message = "the admin is not root and sudo is not set: it can't make accounts";
        return Err(Reply::no(Reason::Privilege, message));
    }
    for command in commands {
        let program = command.split(' ').next().unwrap_or_default();
        if host.ask(&format!("command -v {program}"))?.status != 0 {
            return Err(unsupported(&format!("the host has no {program}, which leases need")));
        }
        if host.target.sudo && host.ask(&format!("sudo -n -l {command}"))?.status != 0 {
            let message = format!("the admin may not run this by sudo: {command}");
            return Err(Reply::no(Reason::Privilege, message));
        }
    }
    let wanted = &host.wanted;
    for group in wanted.groups.iter().chain(&wanted.group) {
        if host.ask(&format!("getent group {}", quoted(group)))?.status != 0 {
            return Err(Reply::no(Reason::Missing, format!("there is no group {group} on the host")));
        }
    }
    let above = wanted.home.rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above });
    if wanted.own_home && !host.is("-d", above)? {
        return Err(Reply::no(Reason::Missing, format!("there is no folder {above} to make a home in")));
    }
    if !host.is("-x", wanted.shell)? {
        return Err(Reply::no(Reason::Missing, format!("there is no shell {} on the host", wanted.shell)));
    }
    let note = "the rights are there; whether the host's policy takes the password shows only then".to_owned();
    Ok(noted(Some(host.session.note.clone().map_or(note.clone(), |met| format!("{met}; {note}")))))
}

impl<'a> Host<'a> {
    fn of(request: &'a Request, leased: &Leased<'a>, deadline: Deadline) -> Result<Self, Reply> {
        if request.login.as_ref().is_none_or(|login| login.by != By::Admin) {
            return Err(unsupported("an account for each lease takes an admin"));
        }
        if dialect(request)?.is_some() {
            return Err(unsupported("an account for each lease takes a Unix host, no device"));
        }
        let wanted = Wanted::of(request, leased)?;
        let target = Target::of(request)?;
        let session = changing_session(request, &target, deadline)?;
        Ok(Self { wanted, target, session })
    }

    /// The home of the account, if it is there.
    fn home(&self) -> Result<Option<String>, Reply> {
        let ran = self.ask(&format!("getent passwd {}", self.wanted.quoted()))?;
        match ran.status {
            0 => Ok(Some(ran.output.trim_end().split(':').nth(5).unwrap_or_default().to_owned())),
            NOT_FOUND => Ok(None),
            _ => Err(unsupported(&format!("nothing was changed: the host's accounts can't be read: {}", ran.said()))),
        }
    }

    fn add(&self) -> Result<(), Reply> {
        let ran = self.root(&self.wanted.useradd(), Stage::Change)?;
        match ran.status {
            0 => Ok(()),
            // Another try of this very step was quicker.
            TAKEN if self.home()?.is_some() => Ok(()),
            NO_GROUP => Err(Reply::no(Reason::Missing, format!("no account was made: {}", ran.said()))),
            _ => Err(refusal(&ran, "no account was made")),
        }
    }

    /// A no leaves nothing behind; what is in doubt is asked again.
    fn take_back(&self, refused: Reply, deadline: Deadline) -> Reply {
        if matches!(refused, Reply::InDoubt { .. }) {
            return refused;
        }
        let gone = self.home().and_then(|home| match home {
            Some(home) => self.drop_account(&home, deadline).map(drop),
            None => Ok(()),
        });
        if gone.is_ok() { refused } else { begun(refused) }
    }

    /// Drops the account, whose home is `home`. What the operator should know of it.
    fn drop_account(&self, home: &str, deadline: Deadline) -> Result<Option<String>, Reply> {
        let (wanted, name) = (&self.wanted, self.wanted.name);
        let ran = self.root(&wanted.expire(), Stage::Change)?;
        if !matches!(ran.status, 0 | GONE) {
            return Err(refusal(&ran, "the account is still there"));
        }
        // The settings may have changed since it was made: what is not its own home now is left alone.
        let with_home = wanted.own_home && home == wanted.home;
        for _ in 0..DROPS_MAX {
            if wanted.kills {
                let ran = self.root(&wanted.kill(), Stage::Change)?;
                if !matches!(ran.status, 0 | NOTHING_KILLED) || denied(&ran) {
                    return Err(refusal(&ran, &format!("{name} can no longer log in, but its processes stay")));
                }
            }
            let ran = self.root(&wanted.userdel(with_home), Stage::Change)?;
            match ran.status {
                0 | GONE => return Ok(None),
                HOME_STAYS => return Ok(Some(format!("{name} was dropped, but its home stays: {}", ran.said()))),
                BUSY if !wanted.kills => {
                    let words = format!("{name} can no longer log in, and is dropped when its processes end");
                    return Err(Reply::not_reached(format!("{words}: {}", ran.said())));
                }
                BUSY if deadline.left() > DROP_PAUSE => sleep(DROP_PAUSE),
                BUSY => break,
                _ => return Err(refusal(&ran, &format!("{name} can no longer log in, but could not be dropped"))),
            }
        }
        Err(Reply::not_reached(format!("{name} can no longer log in, but its processes do not end though killed")))
    }

    /// Whether `test` says so of a path.
    fn is(&self, test: &str, path: &str) -> Result<bool, Reply> {
        Ok(self.ask(&format!("test {test} {}", quoted(path)))?.status == 0)
    }

    fn ask(&self, command: &str) -> Result<Ran, Reply> {
        self.session.run(&format!("{}{command}", super::SBIN), b"", Stage::Question)
    }

    fn root(&self, command: &str, stage: Stage) -> Result<Ran, Reply> {
        self.session.run(&root(&self.target, command), b"", stage)
    }
}

fn denied(ran: &Ran) -> bool {
    let words = ran.words.to_lowercase();
    ["sudo:", "permission denied", "not permitted"].iter().any(|said| words.contains(said))
}

/// The verdict on a command that said no, after which this is so.
fn refusal(ran: &Ran, so: &str) -> Reply {
    let words = format!("{so}: {}", ran.said());
    match ran.status {
        _ if denied(ran) => Reply::no(Reason::Privilege, words),
        _ if ran.said().contains("try again later") => try_later(&ran.said()),
        _ => unsupported(&words),
    }
}

fn unsupported(message: &str) -> Reply {
    Reply::no(Reason::Unsupported, message)
}
