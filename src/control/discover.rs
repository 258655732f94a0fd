//! The accounts of a target, and who manages them here.

use keywheel_protocol::{Account, By, Login, Request, Step};

use super::login::{deadline, told};
use super::{Control, plain};
use crate::api::{ApiError, Discovered, ErrorCode, Found};
use crate::config::{Config, Credential};
use crate::ids::{CredentialName, TargetName};

impl Control {
    /// The accounts of a target, and who manages them here.
    pub(super) async fn discover(&self, name: &TargetName) -> Result<Discovered, ApiError> {
        let config = self.config();
        let target = config.targets.get(name).ok_or_else(|| ApiError {
            code: ErrorCode::NotFound,
            message: format!("there is no target {name}"),
            remedy: Some("`keywheel list` shows the targets".to_owned()),
        })?;
        let login = match &target.admin {
            Some(admin) => {
                let fields = self.secret(&self.record(admin)?, admin)?;
                Some(Login { by: By::Admin, fields })
            }
            None => None,
        };
        let request = Request {
            step: Step::Discover,
            target: target.settings.clone(),
            credential: serde_json::Map::new(),
            token: None,
            subject: None,
            login,
            deadline_ms: deadline(target),
        };
        let yes = told(self.workers.step(target, request).await)?;
        let leased = self.leased_accounts(&config, name)?;
        let managed: Vec<_> = config.credentials.values().filter(|one| one.target.name == *name).collect();
        let found = |account: Account| {
            let manager = managed.iter().find(|credential| credential.accounts.contains(&account.name));
            let is_admin = manager.is_some_and(|manager| target.admin.as_ref() == Some(&manager.name));
            let beyond = manager.filter(|_| !is_admin).map(|_| beyond_its_use(&account)).unwrap_or_default();
            let lease = || leased.iter().find(|(made, _)| account.name.contains(made)).map(|(_, lease)| lease.clone());
            let managed_by = manager.map(|manager| manager.name.clone()).or_else(lease);
            Found { account, managed_by, beyond_its_use: beyond }
        };
        let accounts = yes.accounts.unwrap_or_default().into_iter().map(found).collect();
        Ok(Discovered { accounts, note: yes.note })
    }

    /// The accounts that were made at this target, each with the lease that it was made for. A target may call one by more
    /// than its name, such as by a distinguished name; the id of the lease in it is nobody else's.
    fn leased_accounts(&self, config: &Config, target: &TargetName) -> Result<Vec<(String, CredentialName)>, ApiError> {
        let mut accounts = Vec::new();
        for record in self.reader.records() {
            let record = record.map_err(|error| plain(ErrorCode::Io, &error.to_string()))?;
            let credential = record.name.leased().and_then(|_| config.credential(&record.name));
            let account = |one: &Credential| one.accounts.last().filter(|_| one.target.name == *target).cloned();
            accounts.extend(credential.and_then(|one| account(&one)).map(|account| (account, record.name)));
        }
        Ok(accounts)
    }
}

/// Facts by which an account may do more than an application that was given its password needs.
const POWERS: &[&str] = &[
    "administrator",
    "all_commands",
    "bypass_row_security",
    "create_database",
    "create_role",
    "create_user",
    "grant_option",
    "nopass",
    "privileged",
    "replication",
    "super",
    "superuser",
];

fn beyond_its_use(account: &Account) -> Vec<String> {
    let has = |power: &&&str| account.facts.get(**power) == Some(&serde_json::Value::Bool(true));
    POWERS.iter().filter(has).map(|power| (*power).to_owned()).collect()
}
