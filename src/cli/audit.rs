//! `audit verify` by the daemon, which holds the key of the chain.

use serde_json::json;

use crate::api::AuditVerdict;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};

/// Has the daemon check its audit log; [`Exit::Unwell`] if it is damaged.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn verify(client: &Client, out: &Out) -> Result<Exit, CliError> {
    let reply = client.call::<AuditVerdict>("audit-verify", &json!({})).await?;
    if out.json {
        out.print_json(&reply.raw)?;
    }
    verdict(&reply.value, out)
}

/// Says what was found.
///
/// # Errors
/// Those of [`Out::print`].
pub(super) fn verdict(verdict: &AuditVerdict, out: &Out) -> Result<Exit, CliError> {
    let Some(damage) = &verdict.damage else {
        out.say(&format!("{} audit records, each as it was written", verdict.records))?;
        return Ok(Exit::Ok);
    };
    if !out.json {
        let text = format!("the audit log is damaged after {} good records: {damage}", verdict.records);
        out.print(&format!("{}\n", out.paint(Tone::Bad, &text)))?;
    }
    Ok(Exit::Unwell)
}
