//! Which processes still run with which version, by the end of the audit log. Nothing is kept for it at hand-out.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::api::Holder;
use crate::ids::{CredentialName, Version};
use crate::time::Timestamp;

/// The last records of the audit log that are looked through.
pub(super) const RECORDS_MAX: usize = 10_000;

/// Processes that are told of.
const HOLDERS_MAX: usize = 100;

/// How far the start of a process, which is counted from boot, may seem to lie behind a moment of the wall clock.
const SLACK: Duration = Duration::from_secs(1);

/// A record as far as it matters here.
#[derive(Deserialize)]
struct Line<'a> {
    event: &'a str,
    time: String,
    credential: Option<&'a str>,
    version: Option<Version>,
    caller: Option<Who>,
}

#[derive(Deserialize)]
struct Who {
    uid: u32,
    pid: i32,
    unit: Option<String>,
    exe: Option<String>,
}

/// The processes that fetched `name` and still run, each with the version that it fetched last; the latest fetch first.
/// `began` gives the moment at which the process of a number began. One that began after the fetch is another process.
pub(super) fn holders(
    lines: &[String],
    name: &CredentialName,
    began: impl Fn(i32) -> Option<Timestamp>,
) -> Vec<Holder> {
    let mut seen = BTreeSet::new();
    let mut holders = Vec::new();
    for line in lines.iter().rev() {
        // A quick look spares most of the reading.
        if !line.contains(name.as_str()) {
            continue;
        }
        let Ok(line) = serde_json::from_str::<Line<'_>>(line) else { continue };
        let (Some(version), Some(who)) = (line.version, line.caller) else { continue };
        let Some(fetched) = Timestamp::parse(&line.time) else { continue };
        if line.event != "fetch" || line.credential != Some(name.as_str()) || !seen.insert(who.pid) {
            continue;
        }
        if began(who.pid).is_none_or(|began| began > fetched + SLACK) {
            continue;
        }
        let Who { uid, pid, unit, exe } = who;
        holders.push(Holder { pid, uid, unit, exe, version, fetched });
        if holders.len() == HOLDERS_MAX {
            break;
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: &str, second: i64, name: &str, version: u32, pid: i32) -> String {
        let time = format!("{:#}", Timestamp::from_seconds(second));
        format!(
            r#"{{"seq":1,"time":"{time}","event":"{event}","credential":"{name}","version":{version},"grant":"g","caller":{{"uid":7,"gid":7,"pid":{pid},"unit":"app.service"}},"prev":""}}"#
        )
    }

    #[test]
    fn each_process_that_runs_is_told_with_what_it_fetched_last() {
        let lines = [
            record("fetch", 10, "app/db", 1, 100),
            record("fetch", 11, "app/db", 1, 200),
            record("fetch", 12, "app/dbx", 9, 300),
            record("fetch", 13, "app/db", 1, 400),
            record("fetch", 14, "app/db", 1, 500),
            "no record".to_owned(),
            record("promote", 15, "app/db", 2, 600),
            record("fetch", 16, "app/db", 2, 100),
        ];
        // 400 has ended, and the number of 500 is another's by now.
        let began = |pid| match pid {
            400 => None,
            500 => Some(Timestamp::from_seconds(16)),
            _ => Some(Timestamp::from_seconds(1)),
        };
        let found = holders(&lines, &"app/db".parse().expect("a name"), began);
        let found: Vec<_> = found.iter().map(|holder| (holder.pid, holder.version, holder.fetched.seconds())).collect();
        assert_eq!(found, [(100, Version(2), 16), (200, Version(1), 11)]);
    }

    #[test]
    fn no_more_are_told_of_than_the_limit() {
        let lines: Vec<String> = (1..=300).map(|pid| record("fetch", 10, "a", 1, pid)).collect();
        assert_eq!(holders(&lines, &"a".parse().expect("a name"), |_| Some(Timestamp(0))).len(), HOLDERS_MAX);
    }
}
