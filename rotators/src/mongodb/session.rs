//! A login, with a deadline for each thing that is waited for.

use std::time::Duration;

use ::mongodb::Client;
use ::mongodb::bson::{Document, doc};
use ::mongodb::error::Error;
use keywheel_protocol::Reply;
use tokio::time::timeout;

use super::verdict;
use crate::deadline::Deadline;
use crate::failpoint;
use crate::step::{Stage, lost, of_silence, short};

/// The driver's client of one login.
pub(super) struct Session {
    client: Client,
    deadline: Deadline,
    /// Whether the driver looks for the primary itself.
    finds_primary: bool,
}

impl Session {
    pub(super) fn new(client: Client, deadline: Deadline, finds_primary: bool) -> Self {
        Self { client, deadline, finds_primary }
    }

    /// The first command, before which the driver connects and logs in.
    pub(super) async fn first(&self, command: Document, user: &str, place: &str) -> Result<Document, Reply> {
        match self.send("admin", command).await {
            Some(answer) => answer.map_err(|error| verdict::of_login(&error, user, place)),
            None => Err(Reply::not_reached(format!("{place} did not answer in time"))),
        }
    }

    /// Asks something.
    pub(super) async fn ask(&self, database: &str, command: Document) -> Result<Document, Reply> {
        self.settle(self.send(database, command).await, Stage::Question)
    }

    /// Sends the change: one command, which the server does whole or not at all. It is done when most members of a replica
    /// set have it: what only the primary has is lost if another one takes over.
    pub(super) async fn change(&self, database: &str, mut command: Document) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        command.extend(self.majority());
        failpoint::hit("worker.apply.before");
        let answer = self.settle(self.send(database, command).await, Stage::Change)?;
        unconfirmed(&answer).map_or(Ok(()), |words| Err(lost(Stage::Change, &words)))
    }

    /// Sends a change that goes before the change: the password stays as it is.
    pub(super) async fn prepare(&self, database: &str, mut command: Document) -> Result<(), Reply> {
        command.extend(self.majority());
        let answer = self.settle(self.send(database, command).await, Stage::Question)?;
        unconfirmed(&answer).map_or(Ok(()), |words| Err(lost(Stage::Question, &words)))
    }

    /// The server gives up waiting for the others while this side still listens.
    fn majority(&self) -> Document {
        let left: Duration = self.deadline.left() / 5 * 4;
        let wait_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        doc! { "writeConcern": { "w": "majority", "wtimeout": wait_ms } }
    }

    async fn send(&self, database: &str, command: Document) -> Option<Result<Document, Error>> {
        let database = self.client.database(database);
        let answer = async { database.run_command(command).await };
        timeout(self.deadline.left(), answer).await.ok()
    }

    fn settle(&self, answer: Option<Result<Document, Error>>, stage: Stage) -> Result<Document, Reply> {
        let answer = answer.ok_or_else(|| of_silence(stage))?;
        answer.map_err(|error| verdict::of(&error, stage, self.finds_primary))
    }
}

/// What the server says if it made the change and could not make sure of it.
fn unconfirmed(answer: &Document) -> Option<String> {
    let words = answer.get_document("writeConcernError").ok()?.get_str("errmsg").unwrap_or_default();
    Some(format!("not confirmed by most of the replica set: {}", short(words)))
}
