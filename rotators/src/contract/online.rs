//! The promises that only the target can show.

use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

use keywheel_protocol::{
    By, Description, Fields, Login, Makes, Origin, Overlap, Reason, Reply, Request, Secret, SettingKind, Step,
};
use serde_json::{Map, Value};

use super::report::{Outcome, Report};
use super::worker::{Answer, Worker};
use super::{ContractError, Exam, Secrets, bare_request, minted, settings};

/// The alphabet of a made-up token, and what is made up of it: another one for each run, since targets keep it.
const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const TOKEN_LENGTH: usize = 26;
/// The alphabet of a made-up password, and its length: 119 bits, no character that any target is known to refuse.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const PASSWORD_LENGTH: usize = 24;
/// How long a target may go on taking the old password without a warning.
const OLD_REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// The deadline that a silent target is met with.
const SHORT_MS: u64 = 1_500;

/// Runs them. What is at the target afterwards is the new password, or the first one again with `restore`.
pub(super) fn run(
    exam: &Exam,
    description: &Description,
    secrets: &Secrets,
    report: &mut Report,
) -> Result<(), ContractError> {
    let target = settings(&description.target, &exam.target, &[])?;
    let credential = settings(&description.credential, &exam.credential, &["account", "accounts", "strategy"])?;
    let passwords = description.makes == Makes::Password;
    let new = match &secrets.new {
        Some(new) => new.duplicate(),
        None if passwords => Fields::login(secrets.current.username().unwrap_or_default(), made_up_password()?),
        None => {
            let words = "it takes key pairs: give one more as `new` beside `current`".to_owned();
            report.add("apply sets a new password", Outcome::Skipped(words));
            return Ok(());
        }
    };
    let token = format!("kw-{}", made_up::<TOKEN_LENGTH>(TOKEN_ALPHABET)?);
    let stage = Stage { exam, description, target, credential, token };
    let (current, mut told) = (&secrets.current, Vec::new());
    if description.origin == Origin::Theirs {
        return minted::run(&stage, secrets, report);
    }

    // The target is not touched unless the current password is proved: nothing of what follows would mean anything.
    if !stage.expect_yes("verify says yes to the current password", Step::Verify, current, None, report, &mut told)? {
        return Ok(());
    }
    // Of key pairs, the new one is wrong until it is set.
    let wrong = match passwords {
        true => Fields::login(current.username().unwrap_or_default(), made_up_password()?),
        false => new.duplicate(),
    };
    let answer = stage.ask(&stage.request(Step::Verify, Some(&wrong), None), &mut told)?;
    let refused = matches!(answer, Answer::Reply(Reply::No { reason: Reason::Credential, .. }));
    report.judge("verify says no (credential) to a wrong password", (!refused).then(|| answer.to_string()));
    stage.unreachable(current, Some(&new), secrets.login(current), report, &mut told)?;

    let by_account = || secrets.login(current);
    if stage.expect_yes("apply sets a new password", Step::Apply, &new, Some(by_account()), report, &mut told)? {
        stage.expect_yes(
            "apply again, same token, is harmless",
            Step::Apply,
            &new,
            Some(by_account()),
            report,
            &mut told,
        )?;
        stage.expect_yes("verify says yes to the new password", Step::Verify, &new, None, report, &mut told)?;
        stage.old_is_refused(current, report, &mut told)?;
        if exam.restore {
            let login = secrets.login(&new);
            stage.expect_yes(
                "the first password is set again",
                Step::Apply,
                current,
                Some(login),
                report,
                &mut told,
            )?;
            stage.expect_yes("and proved", Step::Verify, current, None, report, &mut told)?;
        }
    }
    judge_told(&[current, &new, &wrong], secrets, &told, report);
    Ok(())
}

/// Whether any of these secrets, or the login's, was said.
pub(super) fn judge_told(fields: &[&Fields], secrets: &Secrets, told: &[String], report: &mut Report) {
    let all = fields.iter().copied().chain(secrets.login.as_ref().map(|login| &login.fields));
    let shown = all.flat_map(Fields::iter).any(|(name, value)| {
        let value = value.expose();
        name != "username" && name != "public_key" && value.len() >= 4 && told.iter().any(|text| text.contains(value))
    });
    let complaint = shown.then(|| "a secret came back in a message or on standard error".to_owned());
    report.judge("i8: no secret in messages or on standard error", complaint);
}

trait Duplicate {
    fn duplicate(&self) -> Self;
}

impl Duplicate for Login {
    fn duplicate(&self) -> Self {
        Self { by: self.by, fields: self.fields.duplicate() }
    }
}

impl Secrets {
    /// The login for a change while `in_force` opens the account.
    pub(super) fn login(&self, in_force: &Fields) -> Login {
        match &self.login {
            Some(login) if login.by == By::Admin => login.duplicate(),
            _ => Login { by: By::Account, fields: in_force.duplicate() },
        }
    }
}

/// A target, and one rotation of a credential of it.
pub(super) struct Stage<'a> {
    pub(super) exam: &'a Exam,
    description: &'a Description,
    target: Map<String, Value>,
    credential: Map<String, Value>,
    /// The same for every try, as in one rotation.
    token: String,
}

impl Stage<'_> {
    pub(super) fn request(&self, step: Step, subject: Option<&Fields>, login: Option<Login>) -> Request {
        Request {
            target: self.target.clone(),
            credential: self.credential.clone(),
            token: Some(self.token.clone()),
            subject: subject.map(Fields::duplicate),
            login,
            ..bare_request(step)
        }
    }

    /// One step in a process of its own. What it said is kept in `told`.
    pub(super) fn ask(&self, request: &Request, told: &mut Vec<String>) -> Result<Answer, ContractError> {
        let options = self.description.permissions(&request.target, &request.credential).to_args();
        let mut worker = Worker::start(&self.exam.worker, &self.exam.candidate, &options)?;
        let answer = worker.ask(request)?;
        let ended = worker.end();
        told.push(format!("{answer} {}", String::from_utf8_lossy(&ended.stderr)));
        if let Answer::Reply(Reply::Yes(yes)) = &answer {
            told.extend(yes.note.clone());
        }
        Ok(answer)
    }

    pub(super) fn expect_yes(
        &self,
        name: &'static str,
        step: Step,
        subject: &Fields,
        login: Option<Login>,
        report: &mut Report,
        told: &mut Vec<String>,
    ) -> Result<bool, ContractError> {
        let answer = self.ask(&self.request(step, Some(subject), login), told)?;
        let yes = matches!(answer, Answer::Reply(Reply::Yes(_)));
        report.judge(name, (!yes).then(|| answer.to_string()));
        Ok(yes)
    }

    fn old_is_refused(&self, old: &Fields, report: &mut Report, told: &mut Vec<String>) -> Result<(), ContractError> {
        const NAME: &str = "the old password is refused";
        let strategy = self.credential.get("strategy").and_then(Value::as_str).unwrap_or("replace");
        if self.description.overlap == Overlap::Both
            || strategy != "replace"
            || self.credential.contains_key("accounts")
        {
            report.add(NAME, Outcome::Skipped("old and new both work until the old one is retired".to_owned()));
            return Ok(());
        }
        let start = Instant::now();
        loop {
            let answer = self.ask(&self.request(Step::Verify, Some(old), None), told)?;
            if matches!(answer, Answer::Reply(Reply::No { reason: Reason::Credential, .. })) {
                report.add(NAME, Outcome::Passed);
                return Ok(());
            }
            if start.elapsed() > OLD_REFUSED_WITHIN {
                // Some targets take it for a while; that is no fault of the rotator.
                let words = format!("not within {OLD_REFUSED_WITHIN:?}: {answer}");
                report.add(NAME, Outcome::Warned(words));
                return Ok(());
            }
            sleep(Duration::from_millis(200));
        }
    }

    /// A port that nobody listens on, and one where someone listens and never answers.
    pub(super) fn unreachable(
        &self,
        current: &Fields,
        new: Option<&Fields>,
        login: Login,
        report: &mut Report,
        told: &mut Vec<String>,
    ) -> Result<(), ContractError> {
        const SILENT: &str = "a silent target is answered for before the deadline";
        const DOWN: &str = "a target that is down is not reached";
        // Some kinds prove a password at another port than they change it.
        let ports = self.description.target.iter().filter(|setting| setting.kind == SettingKind::Port);
        let ports: Vec<&str> = ports.map(|setting| setting.name.as_str()).collect();
        let host = self.description.target.iter().find(|setting| setting.name == "host");
        let host = host.filter(|host| self.target.contains_key(&host.name));
        let listener =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let (false, Some(host), Ok((number, listener))) = (ports.is_empty(), host, listener) else {
            for name in [SILENT, DOWN] {
                report.add(name, Outcome::Skipped("it has no settings host and port".to_owned()));
            }
            return Ok(());
        };
        let elsewhere = |step, subject, login| {
            let mut request = self.request(step, subject, login);
            request.target.insert(host.name.clone(), "127.0.0.1".into());
            for port in &ports {
                request.target.insert((*port).to_owned(), number.into());
            }
            request.deadline_ms = SHORT_MS;
            request
        };
        // The listener takes connections into its queue, and nobody ever takes them out.
        let verify = self.ask(&elsewhere(Step::Verify, Some(current), None), told)?;
        let apply = self.ask(&elsewhere(Step::Apply, new, Some(login.duplicate())), told)?;
        let good = matches!(verify, Answer::Reply(Reply::NotReached { .. }))
            && matches!(apply, Answer::Reply(Reply::NotReached { .. } | Reply::InDoubt { .. }));
        report.judge(SILENT, (!good).then(|| format!("verify: {verify}; apply: {apply}")));
        drop(listener);
        let verify = self.ask(&elsewhere(Step::Verify, Some(current), None), told)?;
        let apply = self.ask(&elsewhere(Step::Apply, new, Some(login)), told)?;
        let good = [&verify, &apply].iter().all(|answer| matches!(answer, Answer::Reply(Reply::NotReached { .. })));
        report.judge(DOWN, (!good).then(|| format!("verify: {verify}; apply: {apply}")));
        Ok(())
    }
}

/// A password that any policy of a test target should take: letters and digits, and one of each other class in front.
pub(super) fn made_up_password() -> Result<Secret, ContractError> {
    made_up::<PASSWORD_LENGTH>(ALPHABET).map(|letters| Secret::new(format!("K7-{letters}")))
}

fn made_up<const LENGTH: usize>(alphabet: &[u8; 32]) -> Result<String, ContractError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| alphabet[usize::from(*byte) % alphabet.len()] as char).collect())
}
