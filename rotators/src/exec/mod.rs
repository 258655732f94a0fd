//! Commands of the operator's own: one for each step, the secrets on standard input, the answer by the exit status.
//!
//! For people with a shell script. Who wants the answers told apart more finely writes an executable that keeps the
//! protocol (`PROTOCOL.md`).

mod describe;

pub(crate) use describe::describe;

use keywheel_protocol::{Account, By, Reason, Reply, Request, Step, Yes};
use zeroize::Zeroizing;

use crate::command::{self, Ended, Failure};
use crate::deadline::Deadline;
use crate::failpoint;
use crate::settings::{Pair, Settings};
use crate::step::{self, Stage, Steps, noted, short};

/// The most accounts that are taken from a list.
const ACCOUNTS_MAX: usize = 10_000;

/// Performs one step.
pub(crate) fn answer(request: &Request) -> Reply {
    step::answer(request, Steps { apply, verify, retire, discover, rehearse })
}

async fn apply(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = of_one_line(Pair::subject(request)?)?;
    let program = Settings(&request.target).required("apply")?;
    if Settings(&request.credential).leased()?.is_some() && Settings(&request.target).text("retire")?.is_none() {
        let message = "the target has no command `retire`, which would drop the account of a lease; name one";
        return Err(Reply::no(Reason::Unsupported, message));
    }
    let login = login_of(request)?;
    failpoint::hit("worker.apply.before");
    let ended = run(program, request, Some(subject), login, deadline).await;
    let ended = ended.map_err(|failure| of_failure(failure, Stage::Change))?;
    verdict(&ended, Reason::Unsupported, Stage::Change)
}

/// Has the operator's command say what apply would. Without one nobody is asked.
async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = of_one_line(Pair::subject(request)?)?;
    let Some(program) = Settings(&request.target).text("rehearse")? else {
        let note = "the target has no command `rehearse`: whether it would take the change was not asked";
        return Ok(noted(Some(note.to_owned())));
    };
    let ended = run(program, request, Some(subject), login_of(request)?, deadline).await;
    let ended = ended.map_err(|failure| of_failure(failure, Stage::Question))?;
    verdict(&ended, Reason::Unsupported, Stage::Question)
}

/// The login to make a change with, if the target takes one.
fn login_of(request: &Request) -> Result<Option<Pair<'_>>, Reply> {
    request.login.as_ref().map(|_| of_one_line(Pair::login(request)?)).transpose()
}

async fn verify(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = of_one_line(Pair::subject(request)?)?;
    let program = Settings(&request.target).required("verify")?;
    let ended = run(program, request, Some(subject), None, deadline).await;
    let ended = ended.map_err(|failure| of_failure(failure, Stage::Question))?;
    verdict(&ended, Reason::Credential, Stage::Question)
}

async fn retire(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let settings = Settings(&request.credential);
    if settings.text("strategy")?.unwrap_or("replace") == "replace" {
        return Ok(noted(Some("the old password ended when the new one was set".to_owned())));
    }
    let subject = of_one_line(Pair::subject(request)?)?;
    let Some(program) = Settings(&request.target).text("retire")? else {
        let message = "the target has no command `retire`, and without one the old password lives on; name one, or use strategy \
                       \"replace\"";
        return Err(Reply::no(Reason::Unsupported, message));
    };
    let login = login_of(request)?;
    let ended = run(program, request, Some(subject), login, deadline).await;
    let ended = ended.map_err(|failure| of_failure(failure, Stage::Change))?;
    verdict(&ended, Reason::Unsupported, Stage::Change)
}

async fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let Some(program) = Settings(&request.target).text("discover")? else {
        return Err(Reply::no(Reason::Unsupported, "the target has no command `discover`"));
    };
    let login = login_of(request)?;
    let ended = run(program, request, None, login, deadline).await;
    let ended = ended.map_err(|failure| of_failure(failure, Stage::Question))?;
    verdict(&ended, Reason::Unsupported, Stage::Question)?;
    let names = ended.output.lines().map(str::trim).filter(|name| !name.is_empty()).take(ACCOUNTS_MAX);
    let accounts = names.map(|name| Account { name: name.to_owned(), ..Account::default() }).collect();
    Ok(Reply::Yes(Yes { accounts: Some(accounts), ..Yes::default() }))
}

/// Runs a command: the subject's password is the first line of its input, the login's the second; what is not secret
/// stands in variables.
async fn run(
    program: &str,
    request: &Request,
    subject: Option<Pair<'_>>,
    login: Option<Pair<'_>>,
    deadline: Deadline,
) -> Result<Ended, Failure> {
    let step = match request.step {
        Step::Apply => "apply",
        Step::Verify => "verify",
        Step::Retire => "retire",
        Step::Discover => "discover",
        Step::Rehearse => "rehearse",
        Step::Describe => "",
    };
    let mut variables = vec![("KEYWHEEL_STEP", step)];
    variables.extend(subject.map(|subject| ("KEYWHEEL_ACCOUNT", subject.username)));
    variables.extend(login.map(|login| ("KEYWHEEL_LOGIN", login.username)));
    let by = request.login.as_ref().map(|login| match login.by {
        By::Account => "account",
        By::Admin => "admin",
    });
    variables.extend(by.map(|by| ("KEYWHEEL_BY", by)));
    let leased = Settings(&request.credential).leased().ok().flatten();
    variables.extend(leased.map(|leased| ("KEYWHEEL_MODEL", leased.model)));
    variables.extend(leased.and_then(|leased| Some(("KEYWHEEL_EXPIRES_AT", leased.expires_at?))));
    variables.extend(request.token.as_deref().map(|token| ("KEYWHEEL_TOKEN", token)));
    for (name, variable) in [("host", "KEYWHEEL_HOST"), ("strategy", "KEYWHEEL_STRATEGY")] {
        let given = request.target.get(name).or_else(|| request.credential.get(name));
        variables.extend(given.and_then(serde_json::Value::as_str).map(|value| (variable, value)));
    }
    let port = request.target.get("port").map(ToString::to_string);
    variables.extend(port.as_deref().map(|port| ("KEYWHEEL_PORT", port)));
    let secrets = subject.iter().chain(&login);
    let length = secrets.clone().map(|pair| pair.password.expose().len() + 1).sum();
    let mut input = Zeroizing::new(Vec::with_capacity(length));
    for pair in secrets {
        input.extend_from_slice(pair.password.expose().as_bytes());
        input.push(b'\n');
    }
    command::run(program, &variables, input, deadline).await
}

/// What an exit status says, as sysexits.h has the numbers. What is not in the list is a program that fell over: what it
/// changed before is not known.
fn verdict(ended: &Ended, refused: Reason, stage: Stage) -> Result<Reply, Reply> {
    let words = |otherwise: &str| {
        let first = ended.words.lines().map(str::trim).find(|line| !line.is_empty());
        short(first.unwrap_or(otherwise))
    };
    match ended.status {
        Some(0) => Ok(noted(ended.words.lines().find(|line| !line.trim().is_empty()).map(short))),
        Some(1) => Err(Reply::no(refused, words("the command said no (exit status 1)"))),
        Some(65) => Err(Reply::no(Reason::Policy, words("the target's policy refused the value (exit status 65)"))),
        Some(67) => Err(Reply::no(Reason::Missing, words("there is no such account (exit status 67)"))),
        Some(69) => Err(Reply::not_reached(words("the target was not reached (exit status 69)"))),
        Some(75) => Err(Reply::not_reached(words("not now (exit status 75)"))),
        Some(77) => Err(Reply::no(Reason::Privilege, words("the login may not make this change (exit status 77)"))),
        Some(78) => Err(Reply::no(Reason::Unsupported, words("the command can't do it (exit status 78)"))),
        Some(status) => Err(step::lost(stage, &format!("the command ended with {status}: {}", words("no words")))),
        None => Err(step::lost(stage, &format!("a signal ended the command: {}", words("no words")))),
    }
}

fn of_failure(failure: Failure, stage: Stage) -> Reply {
    match failure {
        Failure::NotStarted(words) => Reply::no(Reason::Unsupported, words),
        Failure::Silence => step::lost(stage, "the command was still running when its time was over, and was killed"),
    }
}

/// The pair, if its password is one line: the next one is another secret.
fn of_one_line(pair: Pair<'_>) -> Result<Pair<'_>, Reply> {
    if pair.password.expose().contains(['\n', '\r']) {
        return Err(Reply::no(Reason::Unsupported, "a password of several lines can't be given to a command"));
    }
    Ok(pair)
}
