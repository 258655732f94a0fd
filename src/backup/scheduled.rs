//! The files of scheduled backups: their names say when they were made, so nothing else has to remember it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::file::write_new;
use crate::time::Timestamp;

/// How the names start, so that no other file is taken for one.
const PREFIX: &str = "keywheel-scheduled-";
/// How they end.
const SUFFIX: &str = ".age";
/// What stands between: UTC, so that names sort as they were made.
const STAMP: &str = "%Y%m%dT%H%M%SZ";

/// How far after now a backup may be dated and count all the same: clocks are steered back by as much.
const LATER_MAX: Duration = Duration::from_secs(60);

/// The scheduled backups in a folder, oldest first. None in a folder that is not there.
///
/// # Errors
/// The system's.
pub fn list(directory: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let made = entry.file_name().to_str().and_then(made_at);
        if let Some(made) = made.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            files.push((made, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a backup is dated after `now`, and so by a clock that was wrong, then or now. Which is newer nobody knows.
#[must_use]
pub fn is_later(made: Timestamp, now: Timestamp) -> bool {
    now + LATER_MAX < made
}

/// Writes the backup made at `now`, and removes all but the newest `keep`, this one among them. It is written before any
/// old one goes. One that [`is_later`] is neither counted nor removed. `floor` bytes of the file system stay free.
///
/// # Errors
/// The system's; then no backup was removed, or, where it says so, too few.
pub fn store(directory: &Path, now: Timestamp, file: &[u8], keep: usize, floor: u64) -> io::Result<PathBuf> {
    if !directory.exists() {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
    }
    let space = statvfs(directory)?;
    let free = space.blocks_available().saturating_mul(space.fragment_size());
    if free < floor.saturating_add(file.len() as u64) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "too little free space; rotations need what is left"));
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What a crash left of one that was being written.
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.strip_prefix('.').is_some_and(|name| name.starts_with(PREFIX)))
        {
            fs::remove_file(entry.path())?;
        }
    }
    let path = directory.join(format!("{PREFIX}{}{SUFFIX}", now.to_utc().format(STAMP)));
    write_new(&path, file)?;
    let mut others = list(directory)?;
    others.retain(|(made, other)| *other != path && !is_later(*made, now));
    for (_, old) in &others[..(others.len() + 1).saturating_sub(keep.max(1))] {
        fs::remove_file(old)?;
    }
    Ok(path)
}

fn made_at(name: &str) -> Option<Timestamp> {
    let stamp = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    chrono::NaiveDateTime::parse_from_str(stamp, STAMP).ok().map(|moment| moment.and_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let folder = dir.path().join("backups");
        let foreign = ["keywheel-scheduled-2026.age", "keywheel.age", "keywheel-scheduled-20260101T000000Z.age.txt"];
        assert!(list(&folder).expect("listed").is_empty());
        for day in 0..5 {
            store(&folder, Timestamp::from_seconds(day * 86_400), b"x", 3, 0).expect("stored");
            if day == 0 {
                fs::write(folder.join(format!(".{PREFIX}19700101T000000Z.age.17")), b"half").expect("written");
                for name in foreign {
                    fs::write(folder.join(name), b"mine").expect("written");
                }
                fs::create_dir(folder.join("keywheel-scheduled-19690101T000000Z.age")).expect("made");
            }
        }
        let files = list(&folder).expect("listed");
        let days: Vec<i64> = files.iter().map(|(made, _)| made.seconds() / 86_400).collect();
        assert_eq!(days, [2, 3, 4]);
        assert_eq!(fs::read_dir(&folder).expect("listed").count(), 3 + foreign.len() + 1);
    }

    #[test]
    fn the_one_just_written_stays_and_those_dated_after_it_are_neither_counted_nor_removed() {
        let day = |day: i64| Timestamp::from_seconds(day * 86_400);
        for keep in 1..4 {
            let dir = tempfile::tempdir().expect("a scratch folder");
            for before in 1..6 {
                store(dir.path(), day(before), b"x", 5, 0).expect("stored");
            }
            let seconds = day(6) + Duration::from_secs(30);
            store(dir.path(), seconds, b"x", 6, 0).expect("stored");
            for later in [20_000, 25_000] {
                store(dir.path(), day(later), b"x", 9, 0).expect("stored");
            }
            let written = store(dir.path(), day(6), b"x", keep, 0).expect("stored");
            let files = list(dir.path()).expect("listed");
            assert!(files.iter().any(|(_, file)| *file == written), "{keep}: {files:?}");
            assert_eq!(files.iter().filter(|(made, _)| is_later(*made, day(6))).count(), 2, "{keep}: {files:?}");
            // The clock was steered back by some seconds since: that one counts.
            assert_eq!(files.len(), keep + 2, "{keep}: {files:?}");
        }
    }

    #[test]
    fn the_space_that_rotations_need_is_left() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let error = store(dir.path(), Timestamp::from_seconds(1), b"x", 3, u64::MAX).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(list(dir.path()).expect("listed").is_empty());
    }
}
