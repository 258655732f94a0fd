//! One server's change: what is sent to it for this user, this strategy and this age of server.

use keywheel_protocol::{By, Reason, Reply, Request, Strategy};
use redis::Cmd;

use super::persist::Home;
use super::session::{DEFAULT, Session};
use super::target::Target;
use super::user::{self, Known};
use crate::settings::{Pair, Settings};

/// A change that was thought through and not sent yet.
pub(super) struct Plan {
    commands: Vec<Cmd>,
    home: Home,
    /// The hash that the user has afterwards, where the server shows it.
    shown: Option<String>,
    /// What the operator should know.
    pub(super) note: Option<String>,
}

impl Plan {
    /// What `apply` sends, from what the server says now.
    pub(super) async fn set(
        session: &mut Session,
        target: &Target<'_>,
        request: &Request,
        subject: Pair<'_>,
    ) -> Result<Self, Reply> {
        let settings = Settings(&request.credential);
        let strategy = strategy(settings)?;
        let home = Home::of(session, target).await?;
        let name = subject.username;
        let hash = user::hash(subject.password);
        let (new, mut note) = (format!("#{hash}"), None);
        let mut commands = Vec::new();
        match user::known(session, name).await? {
            Known::User(_) if name == DEFAULT && home != Home::AclFile => {
                commands.push(requirepass(session, strategy, subject)?);
            }
            Known::NoAcl => commands.push(requirepass(session, strategy, subject)?),
            Known::User(user) if user.is("off") => {
                let message =
                    format!("{name} is off at {}; if it should not be, ACL SETUSER {name} on", session.place());
                return Err(Reply::no(Reason::Locked, message));
            }
            Known::User(user) if strategy == Strategy::Overlap => {
                if !user.hashes.contains(&hash) && user.hashes.len() > 1 {
                    let message = format!("{name} had {} passwords before; keywheel knows one", user.hashes.len());
                    note = Some(format!("{message}: see ACL GETUSER {name} at {}", session.place()));
                }
                commands.push(user::set_user(name, [new.as_str()]));
            }
            Known::User(_) => commands.push(user::set_user(name, ["resetpass", new.as_str()])),
            Known::Nobody => {
                let rules = image(session, request, settings, name).await?;
                note = Some(format!("{name} was made at {} after the image of the other user", session.place()));
                let rules = ["reset", new.as_str()].into_iter().chain(rules.iter().map(String::as_str));
                // The model of leases may be one that nobody logs in as.
                let on = (strategy == Strategy::Ephemeral).then_some("on");
                commands.push(user::set_user(name, rules.chain(on)));
            }
        }
        if target.masterauth {
            commands.extend(masterauth(subject));
        }
        let by_acl = commands.first().is_some_and(|command| command.args_iter().next().is_some_and(is_acl));
        Ok(Self { commands, home, shown: by_acl.then_some(hash), note })
    }

    /// What `retire` sends: under `overlap` the one password is taken away, under `alternate` all of them are. None if
    /// there is nothing to take away any more.
    pub(super) async fn retire(
        session: &mut Session,
        target: &Target<'_>,
        strategy: Strategy,
        subject: Pair<'_>,
    ) -> Result<Option<Self>, Reply> {
        let name = subject.username;
        let hash = user::hash(subject.password);
        let Known::User(user) = user::known(session, name).await? else { return Ok(None) };
        if !user.hashes.contains(&hash) {
            return Ok(None);
        }
        if user.hashes.len() == 1 && strategy == Strategy::Overlap {
            let message = format!("it is the only password of {name} at {}; the new one is not there", session.place());
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let home = Home::of(session, target).await?;
        let old = format!("!{hash}");
        let rule = if strategy == Strategy::Overlap { old.as_str() } else { "resetpass" };
        let commands = vec![user::set_user(name, [rule])];
        Ok(Some(Self { commands, home, shown: None, note: None }))
    }

    /// What ends a lease: the user goes, and its connections with it. None if there is no such user.
    pub(super) async fn end(session: &mut Session, target: &Target<'_>, name: &str) -> Result<Option<Self>, Reply> {
        let Known::User(_) = user::known(session, name).await? else { return Ok(None) };
        let home = Home::of(session, target).await?;
        let mut delete = redis::cmd("ACL");
        delete.arg("DELUSER").arg(name);
        Ok(Some(Self { commands: vec![delete], home, shown: None, note: None }))
    }

    /// Sends it, writes it down, and reads it back.
    pub(super) async fn carry_out(self, session: &mut Session, name: &str) -> Result<(), Reply> {
        let mut sent = false;
        for command in &self.commands {
            session.change(command).await.map_err(|reply| if sent { half(reply) } else { reply })?;
            sent = true;
        }
        self.home.keep(session).await?;
        let Some(hash) = self.shown else { return Ok(()) };
        match user::known(session, name).await {
            Ok(Known::User(user)) if user.hashes.contains(&hash) => Ok(()),
            Ok(_) => Err(Reply::in_doubt(format!("{} said yes, but {name} has not the new password", session.place()))),
            Err(reply) => Err(half(reply)),
        }
    }
}

/// A no after the first of several commands is no longer a no.
pub(super) fn half(reply: Reply) -> Reply {
    match reply {
        Reply::No { message, .. } | Reply::NotReached { message } => Reply::in_doubt(message),
        reply => reply,
    }
}

/// The strategy of the request.
pub(super) fn strategy(settings: Settings<'_>) -> Result<Strategy, Reply> {
    match settings.text("strategy")?.unwrap_or("overlap") {
        "overlap" => Ok(Strategy::Overlap),
        "replace" => Ok(Strategy::Replace),
        "alternate" => Ok(Strategy::Alternate),
        "ephemeral" => Ok(Strategy::Ephemeral),
        other => Err(Reply::no(Reason::Unsupported, format!("strategy {other} is not known here"))),
    }
}

fn is_acl(argument: redis::Arg<&[u8]>) -> bool {
    matches!(argument, redis::Arg::Simple(bytes) if bytes == b"ACL")
}

/// The one password of a server: its configuration keeps it as it is, and sets it again at each start, whatever an ACL
/// said of the default user meanwhile.
fn requirepass(session: &Session, strategy: Strategy, subject: Pair<'_>) -> Result<Cmd, Reply> {
    let place = session.place();
    if subject.username != DEFAULT {
        let message =
            format!("{place} is older than Redis 6: it has one password and no users; the account is {DEFAULT}");
        return Err(Reply::no(Reason::Unsupported, message));
    }
    if strategy != Strategy::Replace {
        let message = format!(
            "{place} keeps the password of {DEFAULT} as requirepass, and that is one; set strategy = \"replace\", or give the server an \
             aclfile"
        );
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("requirepass").arg(subject.password.expose());
    Ok(set)
}

/// What a server needs to log in to its master.
fn masterauth(subject: Pair<'_>) -> Vec<Cmd> {
    let set = |name: &str, value: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set
    };
    let mut commands = Vec::new();
    if subject.username != DEFAULT {
        commands.push(set("masteruser", subject.username));
    }
    commands.push(set("masterauth", subject.password.expose()));
    commands
}

/// The rules for a user that is not there: those of the other one of two.
async fn image(
    session: &mut Session,
    request: &Request,
    settings: Settings<'_>,
    name: &str,
) -> Result<Vec<String>, Reply> {
    let accounts = settings.accounts()?;
    let other = accounts.and_then(|accounts| accounts.into_iter().find(|account| *account != name));
    let by_admin = request.login.as_ref().is_some_and(|login| login.by == By::Admin);
    match other {
        Some(other) if by_admin => user::rules(session, other).await,
        _ => Err(Reply::no(Reason::Missing, format!("{} has no user {name}", session.place()))),
    }
}
