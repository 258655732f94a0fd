//! One connection to a directory, with a deadline for each thing that is waited for.

use std::collections::HashSet;

use keywheel_protocol::{Reply, Secret};
use ldap3::adapters::EntriesOnly;
use ldap3::controls::{Assertion, Control, ControlType, PagedResults, RawControl};
use ldap3::exop::PasswordModify;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Mod, Scope, SearchEntry, SearchOptions};
use tokio::time::timeout;

use super::caught::caught;
use super::entry::Values;
use super::ppolicy::{self, Offence, Told};
use super::root::Root;
use super::scheme::Octets;
use super::target::{Target, Tls};
use super::verdict::{self, rc};
use crate::deadline::Deadline;
use crate::settings::Pair;
use crate::step::{Stage, lost, of_silence};

/// How many entries a server is asked for at a time.
const PAGE: i32 = 500;
/// The most entries that one answer may have: some servers send a few more than they are asked for.
const ENTRIES_MAX: usize = 2_000;

/// The No-Op control of OpenLDAP (draft-zeilenga-ldap-noop): a change is tried, and not made. Sent as critical: a server, or a
/// database behind it, that does not know it must refuse.
const NO_OP: &str = "1.3.6.1.4.1.4203.666.5.2";

/// A connection. It belongs to nobody until [`Self::bind`].
pub(super) struct Session {
    ldap: Ldap,
    deadline: Deadline,
    /// The server, as messages name it.
    pub(super) place: String,
    /// What the server says of itself.
    pub(super) root: Root,
}

/// A login that the server took.
pub(super) struct Bound {
    /// The name that was logged in with.
    pub(super) name: String,
    /// Why the login is good for nothing but changing the password.
    pub(super) useless: Option<&'static str>,
    /// Seconds until the password expires.
    pub(super) expires_s: Option<u64>,
}

/// What a search found, and what the server said at its end.
pub(super) struct Found {
    pub(super) entries: Vec<SearchEntry>,
    pub(super) result: LdapResult,
}

impl Session {
    /// Connects to `host` and asks it what it is.
    pub(super) async fn open(target: &Target, host: &str, deadline: Deadline) -> Result<Self, Reply> {
        let (place, url) = match &target.tls {
            _ if host.starts_with('/') => (host.to_owned(), format!("ldapi://{}", host.replace('/', "%2F"))),
            tls => {
                let scheme = if matches!(tls, Tls::FromTheStart(_)) { "ldaps" } else { "ldap" };
                let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                (format!("{host} port {}", target.port), format!("{scheme}://{shown}:{}", target.port))
            }
        };
        let settings = match &target.tls {
            Tls::FromTheStart(config) => LdapConnSettings::new().set_config(config.clone()),
            Tls::OnRequest(config) => LdapConnSettings::new().set_config(config.clone()).set_starttls(true),
            Tls::No => LdapConnSettings::new(),
        };
        let connected = timeout(deadline.left(), caught(LdapConnAsync::with_settings(settings, &url))).await;
        let (connection, ldap) = match connected {
            Err(_) => return Err(Reply::not_reached(format!("{place} did not answer in time"))),
            Ok(Err(_)) => return Err(Reply::not_reached(format!("{place} did not answer as a directory does"))),
            Ok(Ok(Err(error))) => return Err(verdict::of_connecting(&error, &place)),
            Ok(Ok(Ok(pair))) => pair,
        };
        // Its panics end this task and nothing else; whoever waits for an answer learns that none will come.
        tokio::spawn(connection.drive());
        let mut this = Self { ldap, deadline, place, root: Root::default() };
        this.root = Root::read(&mut this, target.flavour).await?;
        Ok(this)
    }

    /// Logs in. An empty password would be no login at all, but count as one (RFC 4513, 5.1.2).
    pub(super) async fn bind(&mut self, name: &str, login: Pair<'_>) -> Result<Bound, Reply> {
        if login.password.expose().is_empty() || name.is_empty() {
            return Err(verdict::empty_password(login.username));
        }
        let ldap = self.ldap.with_controls(ppolicy::asked());
        let answer = ldap.simple_bind(name, login.password.expose());
        let result = settle(self.deadline, Stage::Question, answer).await?;
        let told = ppolicy::told(&result.ctrls);
        if result.rc != rc::SUCCESS {
            return Err(verdict::of_login(&result, told, login.username, &self.place));
        }
        let useless = match told {
            Told { error: Some(Offence::MustChange), .. } => Some("its password must be changed first"),
            Told { error: Some(Offence::Expired), .. } => Some("its password has expired"),
            Told { graces: Some(_), .. } => Some("its password has expired, and this was one of its last logins"),
            _ => None,
        };
        Ok(Bound { name: name.to_owned(), useless, expires_s: told.expires_s })
    }

    /// Searches, for at most `limit` entries. A server that shows less says so in the result.
    pub(super) async fn search(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
        limit: i32,
    ) -> Result<Found, Reply> {
        let options = SearchOptions::new().sizelimit(limit);
        let ldap = self.ldap.with_search_options(options);
        let found = collect(ldap, base, scope, filter, attributes);
        settle(self.deadline, Stage::Question, found).await
    }

    /// One entry, if it is there and may be seen.
    pub(super) async fn read(&mut self, name: &str, attributes: &[&str]) -> Result<Option<SearchEntry>, Reply> {
        let found = self.search(name, Scope::Base, "(objectClass=*)", attributes, 1).await?;
        Ok(found.entries.into_iter().next())
    }

    /// The next page of a search, with the cookie of the one before; gives the cookie of the next, empty at the end.
    pub(super) async fn page(
        &mut self,
        base: &str,
        filter: &str,
        attributes: &[&str],
        cookie: Vec<u8>,
    ) -> Result<(Found, Vec<u8>), Reply> {
        let ldap = self.ldap.with_controls(RawControl::from(PagedResults { size: PAGE, cookie }));
        let found = async {
            let found = collect(ldap, base, Scope::Subtree, filter, attributes).await?;
            let cookie = found.result.ctrls.iter().find_map(|Control(kind, raw)| match kind {
                Some(ControlType::PagedResults) => Some(raw.parse::<PagedResults>().cookie),
                _ => None,
            });
            Ok((found, cookie.unwrap_or_default()))
        };
        settle(self.deadline, Stage::Question, found).await
    }

    /// Sends a change of an entry, and gives the server's answer.
    pub(super) async fn modify(&mut self, name: &str, changes: Vec<Mod<Octets>>) -> Result<(LdapResult, Told), Reply> {
        self.in_time()?;
        let ldap = self.ldap.with_controls(ppolicy::asked());
        let result = settle(self.deadline, Stage::Change, ldap.modify(name, changes)).await?;
        let told = ppolicy::told(&result.ctrls);
        Ok((result, told))
    }

    /// Has the server try a change of an entry without making it, and gives its answer.
    pub(super) async fn try_modify(
        &mut self,
        name: &str,
        changes: Vec<Mod<Octets>>,
    ) -> Result<(LdapResult, Told), Reply> {
        let no_op = RawControl { ctype: NO_OP.to_owned(), crit: true, val: None };
        let ldap = self.ldap.with_controls(vec![no_op, ppolicy::asked()]);
        let result = settle(self.deadline, Stage::Question, ldap.modify(name, changes)).await?;
        let told = ppolicy::told(&result.ctrls);
        Ok((result, told))
    }

    /// Makes an entry, and gives the server's answer.
    pub(super) async fn add(&mut self, name: &str, values: Values) -> Result<LdapResult, Reply> {
        self.in_time()?;
        settle(self.deadline, Stage::Change, self.ldap.add(name, values)).await
    }

    /// Has the server look at an entry that it must not make, and gives its answer. The control for that is an assertion
    /// (RFC 4528) that holds for no entry. The No-Op control spoils the database here: OpenLDAP 2.5 then remembers
    /// attributes which it has not stored, and can't read the next entry that has them ("internal error in
    /// mdb_entry_decode").
    pub(super) async fn try_add(&mut self, name: &str, values: Values) -> Result<LdapResult, Reply> {
        let never = Assertion::new("(!(objectClass=*))");
        let ldap = self.ldap.with_controls(RawControl { crit: true, ..never });
        settle(self.deadline, Stage::Question, ldap.add(name, values)).await
    }

    /// Deletes an entry, and gives the server's answer.
    pub(super) async fn delete(&mut self, name: &str) -> Result<LdapResult, Reply> {
        self.in_time()?;
        settle(self.deadline, Stage::Change, self.ldap.delete(name)).await
    }

    /// Sends the extended operation that changes a password.
    pub(super) async fn passmod(
        &mut self,
        name: &str,
        old: Option<&Secret>,
        new: &Secret,
    ) -> Result<(LdapResult, Told), Reply> {
        self.in_time()?;
        let ldap = self.ldap.with_controls(ppolicy::asked());
        let operation =
            PasswordModify { user_id: Some(name), old_pass: old.map(Secret::expose), new_pass: Some(new.expose()) };
        let result = settle(self.deadline, Stage::Change, ldap.extended(operation)).await?.1;
        let told = ppolicy::told(&result.ctrls);
        Ok((result, told))
    }

    fn in_time(&self) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        Ok(())
    }
}

/// One change of an attribute.
pub(super) fn replace(attribute: &str, value: Octets) -> Mod<Octets> {
    Mod::Replace(Octets::of(attribute.as_bytes()), HashSet::from([value]))
}

/// What a search finds; reading an entry may panic. A server that sends more than it was asked for is not believed.
async fn collect(
    ldap: &mut Ldap,
    base: &str,
    scope: Scope,
    filter: &str,
    attributes: &[&str],
) -> Result<Found, LdapError> {
    let mut stream = ldap.streaming_search_with(EntriesOnly::new(), base, scope, filter, attributes).await?;
    let mut entries = Vec::new();
    while let Some(entry) = stream.next().await? {
        if entries.len() == ENTRIES_MAX {
            return Err(LdapError::EndOfStream);
        }
        entries.push(SearchEntry::construct(entry));
    }
    Ok(Found { entries, result: stream.finish().await })
}

async fn settle<T>(
    deadline: Deadline,
    stage: Stage,
    answer: impl Future<Output = Result<T, LdapError>>,
) -> Result<T, Reply> {
    match timeout(deadline.left(), caught(answer)).await {
        Err(_) => Err(of_silence(stage)),
        Ok(Err(_)) => Err(lost(stage, "the directory's answer can't be read")),
        Ok(Ok(Err(error))) => Err(verdict::of_failure(&error, stage)),
        Ok(Ok(Ok(answer))) => Ok(answer),
    }
}
