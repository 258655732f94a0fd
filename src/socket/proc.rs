//! What `/proc` says of a process. By number, so whoever asks makes sure before and after that the number still means
//! the same process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

/// Executables larger than this are not hashed.
const HASH_BYTES_MAX: u64 = 1 << 30;

/// Hashes remembered.
const HASHES_MAX: usize = 1024;

/// The largest file of `/proc` that is read.
const PROC_BYTES_MAX: u64 = 64 << 10;

/// User, group and supplementary groups.
pub(super) struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// The effective ids, from `/proc/PID/status`.
pub(super) fn ids(pid: i32) -> io::Result<Ids> {
    let status = read(pid, "status")?;
    let numbers = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    match (numbers("Uid:").get(1), numbers("Gid:").get(1)) {
        (Some(uid), Some(gid)) => Ok(Ids { uid: *uid, gid: *gid, groups: numbers("Groups:") }),
        (_, _) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The executable's path. One that was deleted or replaced since it was started has no path that means it.
pub(super) fn exe(pid: i32) -> io::Result<Option<PathBuf>> {
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    let deleted = path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
    Ok(Some(path).filter(|_| !deleted))
}

/// When the process was started, in clock ticks since boot: with its number it tells it from every other (proc(5),
/// field 22 of `stat`).
pub(super) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = read(pid, "stat")?;
    // The second field is the command in parentheses, which may hold anything; the rest follows its last one.
    let after = stat.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
    let field = after.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The systemd unit, and its invocation.
pub(super) fn unit(pid: i32) -> io::Result<(Option<String>, Option<String>)> {
    let unit = unit_of(&read(pid, "cgroup")?);
    let invocation = unit.as_ref().and_then(|unit| {
        let link = fs::read_link(format!("/run/systemd/units/invocation:{unit}")).ok()?;
        link.into_os_string().into_string().ok()
    });
    Ok((unit, invocation))
}

/// The unit in a `/proc/PID/cgroup`: the first part of the path that is not a slice, as systemd itself reads it.
/// Whatever stands deeper is made by the unit, or by a user whose manager may name its groups as it likes.
fn unit_of(cgroup: &str) -> Option<String> {
    let path_of = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let systemd = controllers == "name=systemd" || (number == "0" && controllers.is_empty());
        systemd.then(|| path.to_owned())
    };
    // On a hybrid hierarchy the named one is systemd's, and it stands before the unified one.
    let path = cgroup.lines().filter_map(path_of).find(|path| path != "/")?;
    let part = path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))?;
    let unit = part.strip_prefix('_').unwrap_or(part);
    let known = [".service", ".scope", ".socket", ".mount", ".swap"];
    known.iter().any(|suffix| unit.ends_with(suffix)).then(|| unit.to_owned())
}

/// SHA-256 of the executable, read through the process's own handle on it. Remembered by device, inode, size and times.
pub(super) fn sha256(pid: i32) -> io::Result<[u8; 32]> {
    type Key = (u64, u64, u64, i64, i64, i64, i64);
    static KNOWN: LazyLock<Mutex<HashMap<Key, [u8; 32]>>> = LazyLock::new(Mutex::default);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = File::open(format!("/proc/{pid}/exe"))?;
    let key_of = |file: &File| -> io::Result<Key> {
        let m = file.metadata()?;
        Ok((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
    };
    let key = key_of(&file)?;
    if let Some(hash) = known().get(&key) {
        return Ok(*hash);
    }
    if key.2 > HASH_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => context.update(&buffer[..n]),
        }
    }
    if key_of(&file)? != key {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    let mut known = known();
    if known.len() >= HASHES_MAX {
        known.clear();
    }
    known.insert(key, hash);
    Ok(hash)
}

fn read(pid: i32, what: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(format!("/proc/{pid}/{what}"))?.take(PROC_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_outermost_one() {
        for (cgroup, unit) in [
            ("0::/system.slice/billing.service", Some("billing.service")),
            ("0::/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("0::/system.slice/billing.service/worker", Some("billing.service")),
            ("12:pids:/x\n1:name=systemd:/system.slice/old.service\n0::/\n", Some("old.service")),
            ("0::/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("0::/init.scope", Some("init.scope")),
            ("0::/", None),
            ("", None),
            ("0::/plain/billing.service", None),
        ] {
            assert_eq!(unit_of(cgroup).as_deref(), unit, "{cgroup:?}");
        }
    }

    #[test]
    fn a_user_who_names_a_group_like_a_service_is_still_the_user() {
        let forged = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/billing.service";
        assert_eq!(unit_of(forged).as_deref(), Some("user@1000.service"));
    }

    #[test]
    fn this_process_is_known_by_its_own_facts() {
        let pid = i32::try_from(std::process::id()).expect("small");
        let own = std::env::current_exe().expect("known");
        assert_eq!(exe(pid).expect("read"), Some(own.clone()));
        let ids = ids(pid).expect("read");
        assert_eq!(ids.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(start_time(pid).expect("read"), start_time(pid).expect("read"));
        let bytes = fs::read(own).expect("read");
        let expected = aws_lc_rs::digest::digest(&SHA256, &bytes);
        assert_eq!(sha256(pid).expect("hashed").as_slice(), expected.as_ref());
    }
}
