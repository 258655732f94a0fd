//! A connection that is logged in, with a deadline for each thing that is waited for.

use keywheel_protocol::Reply;
use tiberius::{Client, Row};
use tokio::time::timeout;
use tokio_util::compat::Compat;
use zeroize::Zeroizing;

use super::verdict;
use crate::deadline::Deadline;
use crate::failpoint;
use crate::net::Duplex;
use crate::step::{Stage, of_silence};

/// The login of one step.
pub(super) struct Session {
    client: Client<Compat<Box<dyn Duplex>>>,
    deadline: Deadline,
}

/// A row of texts; none stands for NULL.
pub(super) type Texts = Vec<Option<String>>;

impl Session {
    pub(super) fn new(client: Client<Compat<Box<dyn Duplex>>>, deadline: Deadline) -> Self {
        Self { client, deadline }
    }

    /// A statement that waits for a lock is given up by the server while this side still listens.
    pub(super) async fn prepare(&mut self) -> Result<(), Reply> {
        let left = self.deadline.left();
        let wait_ms = (left - left / 5).as_millis().max(1);
        self.run(&format!("SET LOCK_TIMEOUT {wait_ms}"), Stage::Question).await.map(drop)
    }

    /// The rows of a question, all of whose columns are NVARCHAR.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<Texts>, Reply> {
        let rows = self.run(sql, Stage::Question).await?;
        let text = |row: &Row, column| {
            row.try_get::<&str, usize>(column)
                .map(|text| text.map(str::to_owned))
                .map_err(|error| verdict::of(&error, Stage::Question))
        };
        rows.iter().map(|row| (0..row.len()).map(|column| text(row, column)).collect()).collect()
    }

    /// Sends the change: one statement, which the server does whole or not at all.
    pub(super) async fn change(&mut self, sql: &Zeroizing<String>) -> Result<(), Reply> {
        if self.deadline.is_over() {
            return Err(Reply::not_reached("there was no time left to make the change; nothing was sent"));
        }
        failpoint::hit("worker.apply.before");
        self.run(sql, Stage::Change).await.map(drop)
    }

    async fn run(&mut self, sql: &str, stage: Stage) -> Result<Vec<Row>, Reply> {
        let answer = async { self.client.simple_query(sql).await?.into_results().await };
        match timeout(self.deadline.left(), answer).await {
            Ok(Ok(results)) => Ok(results.into_iter().flatten().collect()),
            Ok(Err(error)) => Err(verdict::of(&error, stage)),
            Err(_) => Err(of_silence(stage)),
        }
    }
}

/// `text` as a constant of Transact-SQL.
pub(super) fn literal(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("N'{}'", Zeroizing::new(text.replace('\'', "''")).as_str()))
}

/// `name` as an identifier of Transact-SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}
