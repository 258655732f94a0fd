//! The file under the log: opened so that nobody else can write it, and read from its end.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::chain::{Damage, Head, Link, digest_of, walk};
use super::log::AuditError;

/// How much of a file is read to find its last line, to begin with.
const END_BYTES: u64 = 64 << 10;

/// How much of its end is checked at most when a log is opened. The whole is what `keywheel audit verify` checks.
const CHECKED_BYTES_MAX: u64 = 16 << 20;

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    device: u64,
    inode: u64,
    /// Whether it is a regular file, which can be cut and renamed.
    pub regular: bool,
}

impl Id {
    pub(super) fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino(), regular: found.is_file() }
    }
}

/// Opens or makes the log (mode 0640 whatever the umask: its group may read it). Symbolic links are not followed. A regular file must
/// be this user's or root's, with no right to write for others, in a folder of which the same is true.
pub(super) fn open(path: &Path) -> Result<(File, Metadata), AuditError> {
    let failed = AuditError::of(path, "opened");
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o640);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NOCTTY).bits());
    let file = match options.clone().create_new(true).open(path) {
        Ok(made) => {
            made.set_permissions(Permissions::from_mode(0o640)).map_err(&failed)?;
            made
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path).map_err(&failed)?,
        Err(error) => return Err(failed(error)),
    };
    let found = file.metadata().map_err(&failed)?;
    if found.is_file() {
        check(path, &found, 0o022)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let found = fs::metadata(folder).map_err(&failed)?;
        // In a folder with the sticky bit others can't touch this file, only put theirs beside it.
        let sticky = found.mode() & 0o1000 != 0;
        check(folder, &found, if sticky { 0 } else { 0o002 })?;
    }
    Ok((file, found))
}

fn check(path: &Path, found: &Metadata, writable: u32) -> Result<(), AuditError> {
    let user = geteuid().as_raw();
    if found.uid() != user && found.uid() != 0 {
        return Err(AuditError::Owner { path: path.to_owned(), owner: found.uid(), user });
    }
    match found.mode() & 0o7777 {
        mode if mode & writable != 0 => Err(AuditError::Mode { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}

/// What the end of a log says.
#[derive(Debug, Default)]
pub(super) struct End {
    /// Bytes up to the end of the last whole line.
    pub length: u64,
    /// The last line, if it is one of the chain.
    pub last: Option<Head>,
    /// Whether there is more after the last whole line.
    pub torn: bool,
    /// What is wrong with the last lines, one sentence.
    pub wrong: Option<String>,
}

/// Reads the end of a log, and checks it back to the line that the store remembers as `head`.
pub(super) fn end(file: &mut File, head: Option<Head>) -> io::Result<End> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(End::default());
    }
    let mut window = END_BYTES;
    loop {
        let start = found.len().saturating_sub(window);
        let (from, bytes) = whole_lines(file, start)?;
        let length = from + bytes.len() as u64;
        let first = bytes.split(|byte| *byte == b'\n').next().and_then(Link::of);
        let reaches = match (&first, head) {
            (Some(first), Some(head)) => first.seq <= head.sequence,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if reaches || start == 0 || window >= CHECKED_BYTES_MAX {
            let verdict = walk(bytes.as_slice(), head)?;
            let sound = Some(verdict.head).filter(|_| verdict.records > 0);
            // After a break the chain goes on from the very last line, so that one break stays one.
            let last = last_line(&bytes).or(sound);
            let wrong = verdict.damage.map(|damage| wrong(&damage, sound));
            return Ok(End { length, last, torn: length < found.len(), wrong });
        }
        window *= 4;
    }
}

fn wrong(damage: &Damage, sound: Option<Head>) -> String {
    match (damage, sound) {
        (Damage::Cut { .. } | Damage::Forged(_), _) => damage.to_string(),
        (Damage::NotALine(_) | Damage::Broken(_), Some(sound)) => {
            format!("the line after record {} does not follow it", sound.sequence)
        }
        (Damage::NotALine(_) | Damage::Broken(_), None) => "its last lines are not those of an audit log".to_owned(),
    }
}

fn last_line(lines: &[u8]) -> Option<Head> {
    let line = lines.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    Link::of(line).map(|link| Head { sequence: link.seq, digest: digest_of(line) })
}

/// The whole lines from `start` on, less the one that `start` falls into, and where they begin.
fn whole_lines(file: &mut File, start: u64) -> io::Result<(u64, Vec<u8>)> {
    // One byte earlier: if it is a newline, a line begins at `start`.
    let before = start.saturating_sub(1);
    file.seek(SeekFrom::Start(before))?;
    let mut reader = BufReader::new(file);
    let skipped = if start == 0 { 0 } else { reader.skip_until(b'\n')? as u64 };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.truncate(whole);
    Ok((before + skipped, bytes))
}
