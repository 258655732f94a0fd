//! What `/proc` says of a process. By number, so whoever asks makes sure before and after that the number still means
//! the same process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Duration;

/// A clock tick of `/proc` (`USER_HZ`, 100 on every architecture that Rust knows), in milliseconds.
const TICK_MS: u64 = 10;

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

/// Whether this process may ask what processes of other users run: it needs `CAP_SYS_PTRACE` for it (capabilities(7)).
pub fn sees_executables() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(effective.trim(), 16).is_ok_and(|bits| bits >> CAP_SYS_PTRACE & 1 == 1)
}

/// When the process was started, since boot: with its number it tells it from every other (proc(5), field 22 of `stat`).
pub(super) fn start_time(pid: i32) -> io::Result<Duration> {
    let stat = read(pid, "stat")?;
    // The second field is the command in parentheses, which may hold anything; the rest follows its last one.
    let after = stat.rsplit_once(')').map(|(_, after)| after).unwrap_or_default();
    let ticks = after.split_ascii_whitespace().nth(19).and_then(|field| field.parse::<u64>().ok());
    ticks.map(|ticks| Duration::from_millis(ticks * TICK_MS)).ok_or_else(|| io::ErrorKind::InvalidData.into())
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
        let ids = ids(pid).expect("read");
        assert_eq!(ids.uid, nix::unistd::geteuid().as_raw());
        let started = start_time(pid).expect("read");
        let now = crate::time::Clock.since_boot();
        assert!(started <= now && now - started < Duration::from_secs(3600), "{started:?} {now:?}");
    }
}
