//! What the kinds that talk to a server have in common: how far a step had come, and what its failure means then (I3).

use keywheel_protocol::{By, Reason, Reply, Request, Step, Yes};

use crate::deadline::Deadline;
use crate::settings::Pair;

/// The longest text of a server that is passed on, in characters.
const WORDS_MAX: usize = 400;

/// How far the step had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing that changes anything was sent.
    Question,
    /// The change was sent.
    Change,
}

/// Runs a step to its end.
pub(crate) fn run(step: impl Future<Output = Result<Reply, Reply>>) -> Reply {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Reply::not_reached(format!("the worker has no event loop: {error}")),
    };
    let reply = runtime.block_on(step).unwrap_or_else(|reply| reply);
    // A name that is still being looked up must not hold up the answer.
    runtime.shutdown_background();
    reply
}

/// What a kind does at each step; `describe` is answered without it.
pub(crate) struct Steps<A, V, R, D, H> {
    pub(crate) apply: A,
    pub(crate) verify: V,
    pub(crate) retire: R,
    pub(crate) discover: D,
    pub(crate) rehearse: H,
}

/// Performs the step that is asked for, within its deadline.
pub(crate) fn answer<A, V, R, D, H>(request: &Request, steps: Steps<A, V, R, D, H>) -> Reply
where
    A: AsyncFn(&Request, Deadline) -> Result<Reply, Reply>,
    V: AsyncFn(&Request, Deadline) -> Result<Reply, Reply>,
    R: AsyncFn(&Request, Deadline) -> Result<Reply, Reply>,
    D: AsyncFn(&Request, Deadline) -> Result<Reply, Reply>,
    H: AsyncFn(&Request, Deadline) -> Result<Reply, Reply>,
{
    run(async {
        let deadline = Deadline::after_ms(request.deadline_ms);
        match request.step {
            Step::Apply => (steps.apply)(request, deadline).await,
            Step::Verify => (steps.verify)(request, deadline).await,
            Step::Retire => (steps.retire)(request, deadline).await,
            Step::Discover => (steps.discover)(request, deadline).await,
            Step::Rehearse => (steps.rehearse)(request, deadline).await,
            Step::Describe => Err(Reply::no(Reason::Unsupported, "this kind does not answer that step")),
        }
    })
}

/// Who makes the change, and the login to make it with: an account can change no password but its own.
pub(crate) fn changer<'a>(request: &'a Request, subject: &Pair<'_>) -> Result<(By, Pair<'a>), Reply> {
    let login = Pair::login(request)?;
    let by = request.login.as_ref().map_or(By::Account, |login| login.by);
    if by == By::Account && login.username != subject.username {
        let message =
            format!("{} can't change the password of {}; give the target an admin", login.username, subject.username);
        return Err(Reply::no(Reason::Unsupported, message));
    }
    Ok((by, login))
}

/// A yes with a note.
pub(crate) fn noted(note: Option<String>) -> Reply {
    Reply::Yes(Yes { note, ..Yes::default() })
}

/// Whether the server refused the login itself.
pub(crate) fn is_refused_login(reply: &Reply) -> bool {
    matches!(reply, Reply::No { reason: Reason::Credential, .. })
}

/// The verdict on a deadline that passed.
pub(crate) fn of_silence(stage: Stage) -> Reply {
    lost(stage, "the server did not answer in time")
}

/// The verdict on a connection that went.
pub(crate) fn lost(stage: Stage, what: &str) -> Reply {
    match stage {
        Stage::Question => Reply::not_reached(format!("{what}; nothing was changed")),
        Stage::Change => Reply::in_doubt(format!("{what}; the change may have taken hold")),
    }
}

/// The verdict on a no that came after a part of the change was made: it is no longer a no.
pub(crate) fn begun(reply: Reply) -> Reply {
    match reply {
        Reply::No { message, .. } | Reply::NotReached { message } => Reply::in_doubt(message),
        reply => reply,
    }
}

/// The verdict on a no that may be a yes another time.
pub(crate) fn try_later(words: &str) -> Reply {
    Reply::not_reached(format!("nothing was changed: {words}"))
}

/// One line of at most 400 characters.
pub(crate) fn short(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WORDS_MAX { line } else { line.chars().take(WORDS_MAX).chain("…".chars()).collect() }
}
