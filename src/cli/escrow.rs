//! `escrow`: what the escrow log holds, on any host, with the secret key of one of its recipients.

use std::fs::File;
use std::io::BufReader;

use keywheel_protocol::Secret;

use crate::backup;
use crate::cli::args::Escrow;
use crate::cli::backup::BackupError;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::out::{self, Out, Tone};
use crate::cli::prompt;
use crate::escrow;

/// `escrow`: without a name, what there is; with one, the secrets of that credential, oldest first, one JSON object a line.
/// [`Exit::Unwell`] if some lines could not be read.
///
/// # Errors
/// [`BackupError`], and those of [`prompt`] and [`Out::print`].
pub(super) fn escrow(args: &Escrow, out: &Out) -> Result<Exit, CliError> {
    let identities = backup::identities(&args.identities, |words| {
        prompt::secret(words, false).ok().map(|text| Secret::new(text.as_str().to_owned()))
    })?;
    let cannot = |source| BackupError::Read { path: args.file.clone(), source };
    let mut log = BufReader::new(File::open(&args.file).map_err(cannot)?);
    let wanted = |entry: &escrow::Entry| args.name.as_ref().is_none_or(|name| entry.name == *name);
    let found = escrow::read(&mut log, &identities, wanted).map_err(|error| cannot(error.source))?;
    if args.name.is_some() {
        for entry in &found.entries {
            let mut line = serde_json::to_string(entry).map_err(|error| cannot(error.into()))?;
            line.push('\n');
            out::write(line.as_bytes())?;
        }
    } else {
        let mut table = out.table(&["NAME", "VERSION", "WRITTEN"]);
        for entry in &found.entries {
            let version = entry.version.map_or_else(|| "imported".to_owned(), |version| version.to_string());
            table.row([
                (Tone::Plain, entry.name.as_str()),
                (Tone::Plain, version.as_str()),
                (Tone::Plain, entry.at.to_string().as_str()),
            ]);
        }
        out.print(&table.render(""))?;
    }
    for (lines, what) in [(&found.damaged, "damaged"), (&found.for_others, "for other recipients")] {
        if let Some(first) = lines.first() {
            out::warn(&format!("{} lines are {what}, the first is line {first}", lines.len()));
        }
    }
    if found.entries.is_empty() && (args.name.is_some() || !found.for_others.is_empty()) {
        return Ok(Exit::NoInput);
    }
    let unread = found.damaged.len() + found.for_others.len();
    Ok(if unread == 0 { Exit::Ok } else { Exit::Unwell })
}
