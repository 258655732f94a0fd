//! The promises that need no target.

use keywheel_protocol::{Description, Fields, Overlap, PROTOCOL, Reason, Reply, Secret, SettingKind, Step, Strategy};

use super::report::{Outcome, Report};
use super::worker::{Answer, Ended, PROMPT, Worker};
use super::{ContractError, Exam, bare_request, described};

/// What is put where a secret would be, and must not come back.
const MARKER: &str = "kw-marker-7c1f0e";

/// Runs them. Nothing if there is no description, without which the rest makes no sense.
pub(super) fn run(exam: &Exam, report: &mut Report) -> Result<Option<Description>, ContractError> {
    let start = || Worker::start(&exam.worker, &exam.candidate, &[]);

    let mut worker = start()?;
    let mut request = bare_request(Step::Describe);
    request.deadline_ms = u64::try_from(PROMPT.as_millis()).unwrap_or(u64::MAX);
    let first = worker.ask(&request)?;
    let second = worker.ask(&request)?;
    let ended = worker.end();
    let description = match described(first) {
        Ok(description) => description,
        Err(answer) => {
            report.judge("describes itself within 2 s", Some(format!("{answer}{}", ended.words())));
            return Ok(None);
        }
    };
    report.judge("describes itself within 2 s", None);
    report.judge("the description is sound", unsound(&description));
    let again = (!matches!(second, Answer::Reply(Reply::Yes(_)))).then(|| format!("to the second request: {second}"));
    report.judge("answers each line, not only the first", again);
    judge_end("ends with its input, with status 0", &ended, report);

    let mut worker = start()?;
    let unknown = format!("{{\"protocol\":{PROTOCOL},\"step\":\"dance\",\"deadline_ms\":2000}}\n");
    let answer = worker.ask_bytes(unknown.as_bytes(), PROMPT);
    worker.end();
    let refused = matches!(answer, Answer::Reply(Reply::No { reason: Reason::Unsupported, .. }));
    report.judge("an unknown step is unsupported", (!refused).then(|| answer.to_string()));

    let mut worker = start()?;
    let answer = worker.ask_bytes(b"this is \x00 no { request\n", PROMPT);
    let ended = worker.end();
    let complaint = match (&answer, ended.status) {
        (Answer::Reply(Reply::No { .. } | Reply::NotReached { .. }) | Answer::Closed, Some(_)) => None,
        _ => Some(format!("{answer}{}", ended.words())),
    };
    report.judge("garbage is refused, or ends it", complaint);

    let mut worker = start()?;
    let mut request = bare_request(Step::Verify);
    request.subject = Some(Fields::login("nobody", Secret::new(MARKER.to_owned())));
    request.deadline_ms = u64::try_from(PROMPT.as_millis()).unwrap_or(u64::MAX);
    let answer = worker.ask(&request)?;
    let ended = worker.end();
    let yes = matches!(answer, Answer::Reply(Reply::Yes(_)));
    report.judge(
        "without a target nothing is proved",
        yes.then(|| "it said yes to a verify without settings".to_owned()),
    );
    let told = format!("{answer} {}", String::from_utf8_lossy(&ended.stderr)).contains(MARKER);
    let complaint = told.then(|| "the subject's password came back in a message or on standard error".to_owned());
    report.judge("i8: a secret never comes back in words", complaint);
    Ok(Some(description))
}

/// Adds the checks on how a worker ended.
fn judge_end(name: &'static str, ended: &Ended, report: &mut Report) {
    let good = ended.status.is_some_and(|status| status.success());
    report.judge(name, (!good).then(|| ended.words().trim_start_matches("; ").to_owned()));
    let surplus = (ended.surplus > 0).then(|| format!("{} lines too many", ended.surplus));
    report.judge("writes nothing but replies to standard output", surplus);
    if !ended.stderr.is_empty() {
        let words = format!("it wrote to standard error in good times{}", ended.words());
        report.add("is quiet when all is well", Outcome::Warned(words));
    }
}

fn unsound(description: &Description) -> Option<String> {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if !is_name(&description.kind) {
        return Some(format!("the kind {:?} is not of a-z, 0-9, '-' and '_'", description.kind));
    }
    if description.summary.trim().is_empty() {
        return Some("the summary is empty".to_owned());
    }
    if description.strategies.is_empty() {
        return Some("there is no strategy".to_owned());
    }
    if let Some(step) = [Step::Describe, Step::Apply, Step::Verify].iter().find(|s| !description.steps.contains(s)) {
        return Some(format!("the step {step:?} is missing, which every rotator has"));
    }
    let lasting = description.overlap == Overlap::Both
        || description.strategies.iter().any(|strategy| *strategy != Strategy::Replace);
    if lasting && !description.steps.contains(&Step::Retire) {
        return Some("the step Retire is missing: with alternate or overlap, old versions live on".to_owned());
    }
    for settings in [&description.target, &description.credential] {
        for (place, setting) in settings.iter().enumerate() {
            let name = &setting.name;
            if !is_name(name) || settings[..place].iter().any(|other| other.name == *name) {
                return Some(format!("the setting {name:?} has a bad name, or is there twice"));
            }
            let fits = setting.default.as_ref().is_none_or(|default| match &setting.kind {
                SettingKind::Text => true,
                SettingKind::Integer => default.parse::<i64>().is_ok(),
                SettingKind::Boolean => default.parse::<bool>().is_ok(),
                SettingKind::Path => default.starts_with('/'),
                SettingKind::Port => default.parse::<u16>().is_ok_and(|port| port != 0),
                SettingKind::Choice(words) => words.contains(default),
            });
            if !fits || (setting.required && setting.default.is_some()) {
                return Some(format!("the default of {name} does not fit its kind, or it is required as well"));
            }
        }
    }
    None
}
