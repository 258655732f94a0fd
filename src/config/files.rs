//! The files of the configuration: found, checked through the open handle, read, parsed and merged.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use toml::de::DeTable;

use super::problem::Problem;
use super::section::{Notes, Source};
use super::tree::{self, Table};

/// The largest file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Files in `conf.d`.
const FILES_MAX: usize = 4096;

/// Reads the main file and `conf.d/*.toml` beside it, by name, into one tree. What can't be read is a problem; the
/// others are read all the same.
pub(super) fn read(main: &Path, notes: &mut Notes) -> Table {
    let mut all = Table::new();
    let mut doubles = Vec::new();
    for path in paths(main, notes) {
        let text = match text(&path) {
            Ok(text) => text,
            Err(problem) => {
                notes.problems.borrow_mut().push(problem);
                continue;
            }
        };
        let index = notes.sources.len();
        let (parsed, errors) = DeTable::parse_recoverable(&text);
        let table = tree::from_toml(index, parsed.get_ref());
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let problem = Problem::at(path.clone(), &text, span, error.message().to_owned(), None);
            notes.problems.borrow_mut().push(problem);
        }
        notes.sources.push(Source { path, text });
        tree::merge(&mut all, table, 1, &mut doubles);
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
            let mut more: Vec<PathBuf> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")))
                .collect();
            more.sort();
            if more.len() > FILES_MAX {
                let message = format!("{} files are more than the {FILES_MAX} that are read", more.len());
                notes.problems.borrow_mut().push(Problem::of_file(folder, message, None));
                more.truncate(FILES_MAX);
            }
            paths.extend(more);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let problem = Problem::of_file(folder, format!("the folder can't be read: {error}"), None);
            notes.problems.borrow_mut().push(problem);
        }
    }
    paths
}

fn text(path: &Path) -> Result<String, Problem> {
    let problem = |message: String, help: Option<String>| Problem::of_file(path.to_owned(), message, help);
    let unreadable = |error: std::io::Error| problem(format!("the file can't be read: {error}"), None);
    // Without O_NONBLOCK, opening a FIFO would wait for someone to write to it.
    let mut file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(unreadable)?;
    // Asked of the open handle: the path may mean another file a moment later.
    let meta = file.metadata().map_err(unreadable)?;
    let shown = path.display();
    if !meta.is_file() {
        return Err(problem("this is not a regular file".to_owned(), None));
    }
    let euid = nix::unistd::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != euid {
        return Err(problem(
            format!("the file belongs to user {}, who could change what keywheel does", meta.uid()),
            Some(format!("`chown root {shown}`")),
        ));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(problem(
            format!("others than the owner can write the file (mode {:o})", meta.mode() & 0o7777),
            Some(format!("`chmod go-w {shown}`")),
        ));
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(problem(format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20), None));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        problem(format!("the file is not UTF-8 (at byte {at})"), Some("save it as UTF-8".to_owned()))
    })
}
