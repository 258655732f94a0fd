//! Logins to the realm, and the questions and changes that kadmin is asked for.

use keywheel_protocol::{By, Reason, Reply, Request, Secret};
use zeroize::Zeroizing;

use super::principal::{Policy, Principal};
use super::realm::{Program, Realm};
use super::verdict;
use crate::command::Ended;
use crate::failpoint;
use crate::settings::{Pair, Settings};
use crate::step::{self, Stage};

/// A login to the realm.
pub(super) struct Login<'a> {
    /// Who.
    pub(super) principal: String,
    how: How<'a>,
    pub(super) by: By,
}

#[derive(Clone, Copy)]
enum How<'a> {
    Password(&'a Secret),
    Keytab(&'a str),
}

impl<'a> Login<'a> {
    /// The account itself, with `password`.
    pub(super) fn own(principal: &str, password: &'a Secret) -> Self {
        Self { principal: principal.to_owned(), how: How::Password(password), by: By::Account }
    }

    /// Who makes the change: the target's keytab, or the login of the request.
    pub(super) fn of(request: &'a Request, realm: &Realm<'_>, subject: Option<&Pair<'_>>) -> Result<Self, Reply> {
        let settings = Settings(&request.target);
        if let Some(keytab) = settings.text("admin_keytab")? {
            let principal = realm.principal(settings.required("admin_principal")?)?;
            return Ok(Self { principal, how: How::Keytab(keytab), by: By::Admin });
        }
        let (by, login) = match subject {
            Some(subject) => step::changer(request, subject)?,
            None => (By::Admin, Pair::login(request)?),
        };
        Ok(Self { principal: realm.principal(login.username)?, how: How::Password(of_one_line(login.password)?), by })
    }
}

/// The password, if it is one line: the next one is another answer.
fn of_one_line(password: &Secret) -> Result<&Secret, Reply> {
    if password.expose().is_empty() || password.expose().contains(['\n', '\r']) {
        return Err(Reply::no(Reason::Unsupported, "the login's password is empty, or more than one line"));
    }
    Ok(password)
}

impl Realm<'_> {
    /// What the server says of a principal.
    pub(super) async fn ask_principal(&self, login: &Login<'_>, principal: &str) -> Result<Principal, Reply> {
        let ended = self.kadmin(login, &["getprinc", "-terse", principal], &[], Stage::Question).await?;
        let found = ended.output.lines().find_map(Principal::parse);
        found.ok_or_else(|| Reply::no(Reason::Unsupported, format!("kadmin's answer on {principal} is not understood")))
    }

    /// What the server says of a policy.
    pub(super) async fn ask_policy(&self, login: &Login<'_>, policy: &str) -> Result<Policy, Reply> {
        let ended = self.kadmin(login, &["getpol", "-terse", policy], &[], Stage::Question).await?;
        let found = ended.output.lines().find_map(Policy::parse);
        found.ok_or_else(|| Reply::no(Reason::Unsupported, format!("kadmin's answer on {policy} is not understood")))
    }

    /// Sets a password; with `beside`, as a key of these encryption types beside the one before.
    pub(super) async fn set_password(
        &self,
        login: &Login<'_>,
        principal: &str,
        password: &Secret,
        beside: Option<&[&str]>,
    ) -> Result<(), Reply> {
        let tuples = beside.map(|enctypes| {
            // With this salt the key can be computed here.
            enctypes.iter().map(|enctype| format!("{enctype}:normal")).collect::<Vec<_>>().join(",")
        });
        let mut arguments = vec!["cpw"];
        if let Some(tuples) = &tuples {
            arguments.extend(["-keepold", "-e", tuples]);
        }
        arguments.push(principal);
        failpoint::hit("worker.apply.before");
        self.kadmin(login, &arguments, &[password, password], Stage::Change).await.map(drop)
    }

    /// Takes the keys away that are older than `kvno`.
    pub(super) async fn purge_keys(&self, login: &Login<'_>, principal: &str, kvno: u32) -> Result<(), Reply> {
        let arguments = ["purgekeys", "-keepkvno", &kvno.to_string(), principal];
        self.kadmin(login, &arguments, &[], Stage::Change).await.map(drop)
    }

    /// One command of kadmin. It asks for the login's password first, then for `answers`; it reads no further than asked.
    async fn kadmin(
        &self,
        login: &Login<'_>,
        command: &[&str],
        answers: &[&Secret],
        stage: Stage,
    ) -> Result<Ended, Reply> {
        let lines: Vec<&[u8]> = answers.iter().map(|answer| answer.expose().as_bytes()).collect();
        self.kadmin_reading(login, command, &lines, stage).await
    }

    /// Many commands by one login.
    pub(super) async fn kadmin_lines(&self, login: &Login<'_>, commands: &[String]) -> Result<Ended, Reply> {
        let lines: Vec<&[u8]> = commands.iter().map(String::as_bytes).collect();
        self.kadmin_reading(login, &[], &lines, Stage::Question).await
    }

    async fn kadmin_reading(
        &self,
        login: &Login<'_>,
        command: &[&str],
        lines: &[&[u8]],
        stage: Stage,
    ) -> Result<Ended, Reply> {
        let (mut arguments, mut input) = (vec!["-p", &login.principal], Vec::new());
        match login.how {
            How::Keytab(path) => arguments.extend(["-k", "-t", path]),
            How::Password(password) => input.push(password.expose().as_bytes()),
        }
        arguments.extend(command);
        input.extend(lines);
        let ended = self.run(Program::Kadmin, &arguments, joined(&input), stage).await?;
        if ended.status == Some(0) { Ok(ended) } else { Err(verdict::of(&ended, &login.principal, stage)) }
    }

    /// A login with a password; the ticket goes with the program.
    pub(super) async fn log_in(&self, principal: &str, password: &Secret) -> Result<(), Reply> {
        let input = joined(&[of_one_line(password)?.expose().as_bytes()]);
        self.kinit(&[principal], principal, input).await
    }

    /// A login with the newest key of a keytab.
    pub(super) async fn log_in_by_keytab(&self, principal: &str, keytab: &str) -> Result<(), Reply> {
        self.kinit(&["-k", "-t", keytab, principal], principal, Zeroizing::new(Vec::new())).await
    }

    async fn kinit(&self, arguments: &[&str], who: &str, input: Zeroizing<Vec<u8>>) -> Result<(), Reply> {
        let ended = self.run(Program::Kinit, arguments, input, Stage::Question).await?;
        if ended.status == Some(0) { Ok(()) } else { Err(verdict::of(&ended, who, Stage::Question)) }
    }
}

/// The lines, each with its end, in a buffer that is wiped.
fn joined(lines: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut input = Zeroizing::new(Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum()));
    for line in lines {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    input
}
