//! `rotate`: the wish, and what became of it for each credential.

use std::time::Duration;

use crate::api::{Rotate, Rotated, Select};
use crate::cli::args;
use crate::cli::client::Client;
use crate::cli::error::{CliError, exit_of};
use crate::cli::escape;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};
use crate::cli::status::count;
use crate::cli::watch;

/// Begins rotations, or says what would happen; with `--wait` watches them to their end.
///
/// # Errors
/// Those of [`Client::call`] and [`Out::print`].
pub(super) async fn rotate(
    args: args::Rotate,
    client: &Client,
    limit: Option<Duration>,
    out: &Out,
) -> Result<Exit, CliError> {
    let select = match (args.all, args.target) {
        (true, _) => Select::All,
        (false, Some(target)) => Select::Target(target),
        (false, None) => Select::Names(args.names),
    };
    let wish = Rotate { select, dry_run: args.dry_run, retire_now: args.retire_now };
    let reply = client.call::<Rotated>("rotate", &wish).await?;
    if args.wait {
        return watch::watch(reply.value, wish.select, client, limit, out).await;
    }
    if out.json {
        out.print_json(&reply.raw)?;
    } else {
        out.print(&page(&reply.value, args.dry_run, out))?;
    }
    Ok(exit(&reply.value))
}

/// What is said when rotations were begun, or would be.
fn page(rotated: &Rotated, dry_run: bool, out: &Out) -> String {
    let mut page = String::new();
    for row in &rotated.rows {
        let name = escape::line(row.name.as_str());
        match &row.error {
            Some(error) => {
                page.push_str(&format!("{name}: {}\n", out.paint(Tone::Bad, &error.message)));
                if let Some(remedy) = &error.remedy {
                    page.push_str(&format!("  help: {}\n", escape::line(remedy)));
                }
            }
            None if out.quiet => {}
            None if dry_run => page.push_str(&format!("{name}: {}\n", out.paint(Tone::Good, "fit to be rotated"))),
            None => page.push_str(&format!("{name}: {}\n", out.paint(Tone::Busy, "begun"))),
        }
        for (number, step) in row.plan.iter().enumerate() {
            page.push_str(&format!("  {}. {}\n", number + 1, escape::line(step)));
        }
    }
    if !out.quiet {
        let fit = rotated.rows.iter().filter(|row| row.error.is_none()).count();
        page.push_str(&if dry_run {
            format!("{} of {} fit; nothing was changed\n", fit, count(rotated.rows.len(), "credential"))
        } else {
            format!(
                "{} of {} begun; `keywheel status` shows how they go, `--wait` watches\n",
                fit,
                count(rotated.rows.len(), "rotation")
            )
        });
    }
    page
}

/// 0 if all were begun; the code of the errors if they agree; [`Exit::Unavailable`] if they don't.
fn exit(rotated: &Rotated) -> Exit {
    let mut codes = rotated.rows.iter().filter_map(|row| row.error.as_ref()).map(|error| exit_of(error.code));
    match codes.next() {
        None => Exit::Ok,
        Some(first) if codes.all(|code| code == first) => first,
        Some(_) => Exit::Unavailable,
    }
}
