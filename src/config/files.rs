//! The files of the configuration: found, checked through the open handle, read, parsed and merged.

use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use toml::de::DeTable;

use super::problem::{Problem, Source};
use super::secrets;
use super::section::Notes;
use super::tree::{self, Table};

/// The largest file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The longest line. Lines are shown with their problems, so what one problem costs is bounded by this.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Files in `conf.d`.
const FILES_MAX: usize = 4096;

/// Reads the main file and `conf.d/*.toml` beside it, by name, into one tree. What can't be read is a problem; the
/// others are read all the same.
pub(super) fn read(main: &Path, notes: &mut Notes) -> Table {
    let mut all = Table::default();
    let mut doubles = Vec::new();
    for path in paths(main, notes) {
        let text = match text(&path) {
            Ok(text) => text,
            Err(problem) => {
                notes.problem_of(*problem);
                continue;
            }
        };
        let index = notes.sources.len();
        let source = Source::new(path, text);
        let (parsed, errors) = DeTable::parse_recoverable(&source.text);
        let table = tree::from_toml(index, parsed.into_inner());
        // After a mistake, what was meant for a secret may be taken for anything else, and be quoted.
        let guessed = !errors.is_empty() && secrets::may_stand_in(&source.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            notes.problem_of(Problem::at(&source, span, error.message().to_owned(), None));
        }
        notes.sources.push(source);
        if guessed {
            secrets::refuse(notes, &table);
        } else {
            all.merge(table, 1, &mut doubles);
        }
    }
    for (key, first, second) in doubles {
        let help = format!("it stands at {} already", notes.words(&first));
        notes.problem(&second, format!("`{key}` stands twice"), help);
    }
    all
}

fn paths(main: &Path, notes: &Notes) -> Vec<PathBuf> {
    let mut paths = vec![main.to_owned()];
    let folder = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            let trusted = folder.metadata().map_err(|error| unreadable(&folder, &error));
            if let Err(problem) = trusted.and_then(|meta| trustworthy(&folder, "the folder", &meta)) {
                notes.problem_of(*problem);
            }
            let mut more: Vec<PathBuf> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")))
                .collect();
            more.sort();
            if more.len() > FILES_MAX {
                let message = format!("{} files are more than the {FILES_MAX} that are read", more.len());
                notes.problem_of(Problem::of_file(folder, message, None));
                more.truncate(FILES_MAX);
            }
            paths.extend(more);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            notes.problem_of(*unreadable(&folder, &error));
        }
    }
    paths
}

fn text(path: &Path) -> Result<String, Box<Problem>> {
    let unreadable = |error: std::io::Error| unreadable(path, &error);
    // Without O_NONBLOCK, opening a FIFO would wait for someone to write to it.
    let mut file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(unreadable)?;
    // Asked of the open handle: the path may mean another file a moment later.
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(refusal(path, 0, "this is not a regular file".to_owned(), None));
    }
    trustworthy(path, "the file", &meta)?;
    let mut bytes = Vec::new();
    file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let help = "divide it into several in conf.d".to_owned();
        return Err(refusal(path, 0, format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20), Some(help)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let help = format!("save it as UTF-8: `iconv -f LATIN1 -t UTF-8 {}`", path.display());
        refusal(path, line, "this line is not UTF-8".to_owned(), Some(help))
    })?;
    match text.lines().position(|line| line.len() > LINE_BYTES_MAX) {
        None => Ok(text),
        Some(at) => {
            let message = format!("this line is longer than {} KiB", LINE_BYTES_MAX >> 10);
            Err(refusal(path, at + 1, message, Some("write lists on several lines".to_owned())))
        }
    }
}

/// Only root and the daemon's own user may decide what keywheel does.
fn trustworthy(path: &Path, what: &str, meta: &Metadata) -> Result<(), Box<Problem>> {
    let shown = path.display();
    let euid = nix::unistd::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != euid {
        let message = format!("{what} belongs to user {}, who could change what keywheel does", meta.uid());
        return Err(refusal(path, 0, message, Some(format!("`chown root {shown}`"))));
    }
    if meta.mode() & 0o022 != 0 {
        let message = format!("others than the owner can write {what} (mode {:o})", meta.mode() & 0o7777);
        return Err(refusal(path, 0, message, Some(format!("`chmod go-w {shown}`"))));
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Box<Problem> {
    refusal(path, 0, format!("this can't be read: {error}"), None)
}

/// Line 0 stands for the file as a whole.
fn refusal(path: &Path, line: usize, message: String, help: Option<String>) -> Box<Problem> {
    let problem = Problem::of_file(path.to_owned(), message, help);
    Box::new(Problem { line, column: line.min(1), ..problem })
}
