//! The promises of a rotator whose provider makes the secret.

use std::thread::sleep;
use std::time::{Duration, Instant};

use keywheel_protocol::{Fields, Reason, Reply, Step};

use super::online::{Stage, judge_told, made_up_password};
use super::report::{Outcome, Report};
use super::worker::Answer;
use super::{ContractError, Secrets};

/// How long a retired key may go on being taken without a warning.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// Runs them. What is at the provider afterwards is the new key, or the first one again with `restore`.
pub(super) fn run(stage: &Stage<'_>, secrets: &Secrets, report: &mut Report) -> Result<(), ContractError> {
    let (current, mut told) = (&secrets.current, Vec::new());
    if !stage.expect_yes("verify says yes to the current key", Step::Verify, current, None, report, &mut told)? {
        return Ok(());
    }
    let mut wrong = Fields::new();
    for (name, _) in current.iter() {
        wrong.insert(name, made_up_password()?);
    }
    let answer = stage.ask(&stage.request(Step::Verify, Some(&wrong), None), &mut told)?;
    report.judge("verify says no (credential) to a wrong key", (!is_refused(&answer)).then(|| answer.to_string()));
    stage.unreachable(current, None, secrets.login(current), report, &mut told)?;

    let mut apply = |name: &'static str, report: &mut Report| {
        let answer = stage.ask(&stage.request(Step::Apply, None, Some(secrets.login(current))), &mut told)?;
        let words = format!("{answer}, or a yes without fields");
        let fields = match answer {
            Answer::Reply(Reply::Yes(yes)) => yes.fields.filter(|fields| !fields.is_empty()),
            _ => None,
        };
        report.judge(name, fields.is_none().then_some(words));
        Ok::<_, ContractError>(fields)
    };
    let Some(lost) = apply("apply gives a new key", report)? else { return Ok(()) };
    let Some(new) = apply("apply again, same token, gives one that can be used", report)? else { return Ok(()) };
    stage.expect_yes("verify says yes to the new key", Step::Verify, &new, None, report, &mut told)?;
    stage.expect_yes("the current key is still taken", Step::Verify, current, None, report, &mut told)?;
    let same = lost.iter().all(|(name, value)| new.get(name).is_some_and(|other| other.expose() == value.expose()));
    if !same {
        refused(stage, "the key whose answer was lost is gone", &lost, report, &mut told)?;
    }
    let (old, kept) = if stage.exam.restore { (&new, current) } else { (current, &new) };
    for name in ["retire says yes", "retire again is harmless"] {
        stage.expect_yes(name, Step::Retire, old, Some(secrets.login(kept)), report, &mut told)?;
    }
    refused(stage, "the retired key is refused", old, report, &mut told)?;
    stage.expect_yes("the other key is still taken", Step::Verify, kept, None, report, &mut told)?;
    judge_told(&[current, &new, &lost, &wrong], secrets, &told, report);
    Ok(())
}

fn is_refused(answer: &Answer) -> bool {
    matches!(answer, Answer::Reply(Reply::No { reason: Reason::Credential, .. }))
}

fn refused(
    stage: &Stage<'_>,
    name: &'static str,
    key: &Fields,
    report: &mut Report,
    told: &mut Vec<String>,
) -> Result<(), ContractError> {
    let start = Instant::now();
    loop {
        let answer = stage.ask(&stage.request(Step::Verify, Some(key), None), told)?;
        if is_refused(&answer) {
            report.add(name, Outcome::Passed);
            return Ok(());
        }
        if start.elapsed() > REFUSED_WITHIN {
            // Some services remember keys for a while; that is no fault of the rotator.
            report.add(name, Outcome::Warned(format!("not within {REFUSED_WITHIN:?}: {answer}")));
            return Ok(());
        }
        sleep(Duration::from_millis(200));
    }
}
