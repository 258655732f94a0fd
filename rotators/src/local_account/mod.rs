//! Passwords of Unix accounts on this host.
//!
//! The daemon has no rights of root. What needs them is done by `keywheel-account`, which systemd starts for each call; what it
//! takes and refuses is decided there, by files of root's.

mod describe;
mod helper;

pub(crate) use describe::describe;

use keywheel_account::{Ask, PASSWORD_BYTES_MAX, Task};
use keywheel_protocol::{Reason, Reply, Request, Secret, Step};

use crate::deadline::Deadline;
use crate::failpoint;
use crate::nobodys;
use crate::settings::{Pair, Settings};
use crate::step::{self, noted};

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        match request.step {
            Step::Apply => apply(request, deadline).await,
            Step::Rehearse => {
                let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
                call(request, &of(Task::Check, subject.username, subject.password, None), deadline).await
            }
            Step::Verify => {
                let subject = Pair::subject(request)?;
                call(request, &of(Task::Verify, subject.username, subject.password, None), deadline).await
            }
            Step::Retire => retire(request, deadline).await,
            Step::Discover => {
                call(request, &Ask { task: Task::List, account: None, password: None, old: None }, deadline).await
            }
            Step::Describe => Err(Reply::no(Reason::Unsupported, "this kind does not answer that step")),
        }
    })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::settable(request, PASSWORD_BYTES_MAX)?;
    failpoint::hit("worker.apply.before");
    call(request, &of(Task::Set, subject.username, subject.password, None), deadline).await
}

/// Sets a password that nobody knows on the account that is out of turn, if the old one still opens it: the helper does both
/// at once, so that no change can come between.
async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = Pair::subject(request)?;
    let Some(accounts) = Settings(&request.credential).accounts()? else {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    };
    let name = subject.username;
    if !accounts.contains(&name) {
        return Err(Reply::no(Reason::Unsupported, format!("{name} is none of the accounts")));
    }
    let password = nobodys::password()?;
    match call(request, &of(Task::Set, name, &password, Some(subject.password)), deadline).await? {
        Reply::Yes(_) => Ok(noted(Some(format!("{name} has a password that nobody knows now; open sessions stay")))),
        Reply::No { reason: Reason::Credential, .. } => Ok(Reply::yes()),
        Reply::No { reason: Reason::Locked | Reason::Missing, message, .. } => Ok(noted(Some(message))),
        other => Ok(other),
    }
}

fn of(task: Task, account: &str, password: &Secret, old: Option<&Secret>) -> Ask {
    let (password, old) = (Some(password.duplicate()), old.map(Secret::duplicate));
    Ask { task, account: Some(account.to_owned()), password, old }
}

async fn call(request: &Request, ask: &Ask, deadline: Deadline) -> Result<Reply, Reply> {
    let socket = Settings(&request.target).text("socket")?.unwrap_or(describe::SOCKET);
    helper::ask(socket, ask, deadline).await
}
