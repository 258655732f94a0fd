//! One IAM user, seen and changed with the login's access key.

use keywheel_protocol::{Account, Fields, Reason, Reply, Secret, Yes};
use serde_json::Map;

use super::api::{AccessKey, Aws, Service, first, read, text_of};
use super::memory::{Key, TAG};
use crate::step::Stage;

/// The most users that are listed; a note says so if there are more. One answer has no more.
const USERS_MAX: &str = "1000";

pub(super) struct User<'a> {
    pub(super) aws: &'a Aws,
    pub(super) name: &'a str,
    pub(super) login: AccessKey<'a>,
}

impl User<'_> {
    /// The keys, with their last use.
    pub(super) async fn keys(&self) -> Result<Vec<Key>, Reply> {
        let answer = self.ask("ListAccessKeys", &[]).await?;
        let mut keys = read(&answer, Stage::Question, |document| {
            let members = document.descendants().find(|node| node.tag_name().name() == "AccessKeyMetadata")?;
            let members = members.children().filter(|node| node.tag_name().name() == "member");
            let key = |member| {
                let active = text_of(member, "Status").is_none_or(|status| status == "Active");
                Some(Key { id: text_of(member, "AccessKeyId")?, used: None, active })
            };
            members.map(key).collect::<Option<Vec<_>>>()
        })?;
        for key in &mut keys {
            let parameters = [("Action", "GetAccessKeyLastUsed"), ("AccessKeyId", key.id.as_str())];
            let answer = self.aws.act(Service::Iam, self.login, &parameters, Stage::Question).await?;
            key.used = read(&answer, Stage::Question, |document| Some(first(document, "LastUsedDate")))?;
        }
        Ok(keys)
    }

    /// What the last rotation left as its memory.
    pub(super) async fn tag(&self) -> Result<Option<String>, Reply> {
        let answer = self.ask("ListUserTags", &[]).await?;
        read(&answer, Stage::Question, |document| {
            let mut tags = document.descendants().filter(|node| node.tag_name().name() == "member");
            let tag = tags.find(|tag| text_of(*tag, "Key").as_deref() == Some(TAG));
            Some(tag.and_then(|tag| text_of(tag, "Value")))
        })
    }

    /// Leaves it. It opens nothing: if the answer is lost, nothing has happened.
    pub(super) async fn remember(&self, value: &str) -> Result<(), Reply> {
        self.ask("TagUser", &[("Tags.member.1.Key", TAG), ("Tags.member.1.Value", value)]).await.map(|_| ())
    }

    /// A new key.
    pub(super) async fn create(&self) -> Result<Fields, Reply> {
        let answer = self.change("CreateAccessKey", &[]).await?;
        read(&answer, Stage::Change, |document| {
            let mut fields = Fields::new();
            fields.insert("access_key_id", Secret::new(first(document, "AccessKeyId")?));
            fields.insert("secret_access_key", Secret::new(first(document, "SecretAccessKey")?));
            Some(fields)
        })
    }

    /// Deletes a key.
    pub(super) async fn delete(&self, id: &str) -> Result<(), Reply> {
        self.change("DeleteAccessKey", &[("AccessKeyId", id)]).await.map(|_| ())
    }

    async fn ask(&self, action: &str, more: &[(&str, &str)]) -> Result<crate::http::Answer, Reply> {
        self.act(action, more, Stage::Question).await
    }

    async fn change(&self, action: &str, more: &[(&str, &str)]) -> Result<crate::http::Answer, Reply> {
        self.act(action, more, Stage::Change).await
    }

    async fn act(&self, action: &str, more: &[(&str, &str)], stage: Stage) -> Result<crate::http::Answer, Reply> {
        let parameters = [&[("Action", action), ("UserName", self.name)], more].concat();
        match self.aws.act(Service::Iam, self.login, &parameters, stage).await {
            Err(Reply::No { reason: Reason::Privilege, message, .. }) => Err(Reply::no(
                Reason::Privilege,
                format!("{message}; the login needs iam:{action} on the user {}", self.name),
            )),
            answer => answer,
        }
    }
}

/// The name (ARN) of whoever a key belongs to.
pub(super) async fn caller(aws: &Aws, key: AccessKey<'_>) -> Result<String, Reply> {
    let answer = aws.act(Service::Sts, key, &[("Action", "GetCallerIdentity")], Stage::Question).await?;
    read(&answer, Stage::Question, |document| first(document, "Arn"))
}

/// The users of the AWS account.
pub(super) async fn discover(aws: &Aws, login: AccessKey<'_>) -> Result<Reply, Reply> {
    let parameters = [("Action", "ListUsers"), ("MaxItems", USERS_MAX)];
    let answer = aws.act(Service::Iam, login, &parameters, Stage::Question).await?;
    let (accounts, more) = read(&answer, Stage::Question, |document| {
        let members = document.descendants().filter(|node| node.tag_name().name() == "member");
        let account = |member| {
            let name = text_of(member, "UserName")?;
            let mut facts = Map::new();
            for (fact, element) in
                [("created", "CreateDate"), ("path", "Path"), ("password_last_used", "PasswordLastUsed")]
            {
                facts.extend(text_of(member, element).map(|text| (fact.to_owned(), text.into())));
            }
            Some(Account { name, facts })
        };
        Some((members.filter_map(account).collect(), first(document, "IsTruncated").as_deref() == Some("true")))
    })?;
    let note = more.then(|| format!("only the first {USERS_MAX} users are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}
