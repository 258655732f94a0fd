use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::time::Clock;

fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("scratch");
    let path = dir.path().join("audit.jsonl");
    (dir, path)
}

fn open(path: &Path, head: Option<Head>) -> (AuditLog, Option<String>) {
    AuditLog::open(path, head, Clock).expect("opens")
}

fn fetch(log: &AuditLog) {
    log.append(&Entry::new("fetch").detail("x")).expect("written");
}

fn filled(path: &Path, lines: usize) -> Head {
    let (log, note) = open(path, None);
    assert_eq!(note, None);
    (0..lines).for_each(|_| fetch(&log));
    log.sync().expect("synced")
}

fn damage(path: &Path) -> Option<Damage> {
    verify(path).expect("read").damage
}

/// Takes the last `n` lines off.
fn cut(path: &Path, n: usize) {
    let text = fs::read_to_string(path).expect("read");
    let kept = text.lines().count() - n;
    fs::write(path, text.split_inclusive('\n').take(kept).collect::<String>()).expect("written");
}

#[test]
fn a_chain_goes_on_over_a_restart() {
    let (_dir, path) = scratch();
    let head = filled(&path, 3);
    let (log, note) = open(&path, Some(head));
    assert_eq!(note, None);
    fetch(&log);
    let verdict = log.verify_self().expect("read");
    assert_eq!((verdict.records, verdict.head.sequence, verdict.damage), (4, 4, None));
}

#[test]
fn records_that_the_store_has_not_heard_of_are_no_reason_to_worry() {
    let (_dir, path) = scratch();
    let early = filled(&path, 2);
    let (log, _) = open(&path, Some(early));
    (0..1000).for_each(|_| fetch(&log));
    drop(log);
    let (log, note) = open(&path, Some(early));
    assert_eq!(note, None);
    fetch(&log);
    assert_eq!(log.verify_self().expect("read").records, 1003);
}

#[test]
fn every_changed_removed_or_reordered_line_is_found() {
    let (_dir, path) = scratch();
    let head = filled(&path, 6);
    let text = fs::read_to_string(&path).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..6 {
        let mut changed = lines.clone();
        let forged = changed[at].replace("fetch", "fatch");
        changed[at] = &forged;
        let mut removed = lines.clone();
        removed.remove(at);
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % 6);
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        let mut torn = lines.clone();
        torn[at] = &torn[at][..torn[at].len() - 5];
        let cases =
            [("changed", changed), ("removed", removed), ("swapped", swapped), ("doubled", doubled), ("torn", torn)];
        for (what, tampered) in cases {
            fs::write(&path, tampered.join("\n") + "\n").expect("write");
            let against = verify_against(&path, head).expect("read").damage;
            // A first line that is missing may stand in an older file.
            assert_eq!(against.is_some(), (what, at) != ("removed", 0), "{what} {at}");
            let alone = damage(&path);
            let invisible = (what == "removed" && (at == 0 || at == 5)) || (what == "changed" && at == 5);
            assert_eq!(alone.is_some(), !invisible, "{what} {at} without the remembered head");
            if what == "changed" && at < 5 {
                assert_eq!(alone, Some(Damage::Broken(at as u64 + 2)), "the line is named");
            }
        }
    }
}

#[test]
fn a_log_that_was_made_anew_is_found_by_the_head() {
    let (dir, path) = scratch();
    let head = filled(&path, 3);
    // Lines of the same millisecond would be the same lines.
    std::thread::sleep(std::time::Duration::from_millis(2));
    let forged = dir.path().join("forged");
    filled(&forged, 5);
    let against = |path: &Path| verify_against(path, head).expect("read").damage;
    assert_eq!((against(&path), against(&forged)), (None, Some(Damage::Forged(3))));
    fs::rename(&forged, &path).expect("renamed");
    let (_, note) = open(&path, Some(head));
    assert!(note.expect("noted").contains("record 3 is not the one that was written"));
}

#[test]
fn removed_last_lines_are_found_by_the_running_log_and_by_the_next_start() {
    let (_dir, path) = scratch();
    let (log, _) = open(&path, None);
    (0..4).for_each(|_| fetch(&log));
    let head = log.sync().expect("synced");
    cut(&path, 2);
    let damage = log.verify_self().expect("read").damage;
    assert_eq!(damage, Some(Damage::Cut { found: 2, written: 4 }));
    drop(log);
    let (log, note) = open(&path, Some(head));
    assert!(note.expect("noted").contains("record 4 was written"));
    // It is in the log, and the gap stays visible.
    assert!(tail(&path, 1).expect("read")[0].contains("tampered"));
    assert_eq!(log.verify_self().expect("read").damage, Some(Damage::Broken(3)));
}

#[test]
fn lines_removed_in_mid_flight_are_said_in_the_next_record() {
    let (_dir, path) = scratch();
    let (log, _) = open(&path, None);
    (0..4).for_each(|_| fetch(&log));
    cut(&path, 1);
    fetch(&log);
    assert!(tail(&path, 1).expect("read")[0].contains("after record 4"));
    assert!(log.verify_self().expect("read").damage.is_some());
}

#[test]
fn foreign_lines_are_found() {
    let (_dir, path) = scratch();
    let (log, _) = open(&path, None);
    fetch(&log);
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend_from_slice(b"{\"seq\":2}");
    fs::write(&path, bytes).expect("written");
    fetch(&log);
    let lines = tail(&path, 10).expect("read");
    assert!(lines[2].contains("fetch") && lines[3].contains("somebody else"), "{lines:?}");
    assert_eq!(log.verify_self().expect("read").damage, Some(Damage::NotALine(2)));
}

#[test]
fn a_file_that_is_no_log_is_said_at_the_start() {
    let (_dir, path) = scratch();
    fs::write(&path, "hello\nworld\n").expect("written");
    let (_, note) = open(&path, None);
    assert!(note.expect("noted").contains("not those of an audit log"));
    let (_dir, path) = scratch();
    let (_, note) = open(&path, Some(Head { sequence: 7, digest: [1; 32] }));
    assert!(note.expect("noted").contains("records up to 7"));
}

#[test]
fn i7_a_full_disk_refuses_and_leaves_the_chain_whole() {
    let (log, _) = open(Path::new("/dev/full"), None);
    for _ in 0..2 {
        let error = log.append(&Entry::new("fetch")).expect_err("no space");
        assert!(error.to_string().contains("No space left"), "{error}");
    }
}

#[test]
fn i7_a_write_that_was_cut_short_is_taken_back() {
    // A file size limit cuts a write short as a full disk does. It is the process's own, so the test runs as its own.
    const CHILD: &str = "KEYWHEEL_TEST_SHORT_WRITE";
    let Some(path) = std::env::var_os(CHILD).map(PathBuf::from) else {
        let (_dir, path) = scratch();
        let this = std::env::current_exe().expect("known");
        let name = "audit::tests::i7_a_write_that_was_cut_short_is_taken_back";
        let status = std::process::Command::new(this).args(["--exact", name]).env(CHILD, &path).status();
        assert!(status.expect("run").success());
        return;
    };
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::signal::{SigSet, Signal};
    // Blocked, the signal leaves the write with EFBIG. Threads of this process inherit it only from here.
    SigSet::from(Signal::SIGXFSZ).thread_block().expect("blocked");
    let (log, _) = open(&path, None);
    fetch(&log);
    let length = fs::metadata(&path).expect("there").len();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("limit");
    setrlimit(Resource::RLIMIT_FSIZE, length + 40, hard).expect("limit");
    log.append(&Entry::new("fetch")).expect_err("too large");
    assert_eq!(fs::metadata(&path).expect("there").len(), length);
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("limit");
    fetch(&log);
    let verdict = log.verify_self().expect("read");
    assert_eq!((verdict.records, verdict.damage), (2, None));
}

#[test]
fn a_torn_line_is_removed_and_said() {
    let (_dir, path) = scratch();
    let head = filled(&path, 2);
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend_from_slice(b"{\"seq\":3,\"ti");
    fs::write(&path, bytes).expect("write");
    assert_eq!(damage(&path), Some(Damage::NotALine(3)));
    let (log, note) = open(&path, Some(head));
    assert!(note.expect("noted").contains("not whole"));
    assert_eq!(log.verify_self().expect("read").damage, None);
}

#[test]
fn complaint_20_a_removed_or_renamed_file_is_noticed_and_the_chain_goes_on_in_a_new_one() {
    let (dir, path) = scratch();
    let (log, _) = open(&path, None);
    fetch(&log);
    fs::remove_file(&path).expect("removed");
    fetch(&log);
    let older = dir.path().join("audit.jsonl.1");
    fs::rename(&path, &older).expect("renamed");
    fetch(&log);
    let lines = tail(&path, 10).expect("read");
    assert!(lines[0].contains("fetch") && lines[1].contains("renamed away or removed"), "{lines:?}");
    let verdict = log.verify_self().expect("read");
    assert_eq!((verdict.records, verdict.head.sequence, verdict.damage), (2, 5, None));
    assert_eq!(damage(&older), None);
    // Both together are one chain.
    let whole = fs::read(&older).and_then(|first| Ok([first, fs::read(&path)?].concat())).expect("read");
    fs::write(&older, whole).expect("written");
    assert_eq!(damage(&older), None);
}

#[test]
fn a_log_that_others_may_write_is_refused() {
    let (dir, path) = scratch();
    filled(&path, 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).expect("mode");
    assert!(matches!(AuditLog::open(&path, None, Clock), Err(AuditError::Mode { mode: 0o620, .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    assert!(matches!(AuditLog::open(&path, None, Clock), Err(AuditError::Mode { .. })));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).expect("mode");
    open(&path, None);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("link");
    assert!(matches!(AuditLog::open(&link, None, Clock), Err(AuditError::System { .. })));
}

#[test]
fn entries_from_many_threads_make_one_chain() {
    let (_dir, path) = scratch();
    let (log, _) = open(&path, None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
                runtime.block_on(async {
                    for _ in 0..200 {
                        log.append_shared(&Entry::new("fetch")).await.expect("written");
                    }
                });
            });
        }
    });
    let verdict = log.verify_self().expect("read");
    assert_eq!((verdict.records, verdict.damage), (1600, None));
}

#[test]
fn the_tail_is_the_last_lines_however_long_the_log_is() {
    let (_dir, path) = scratch();
    filled(&path, 2000);
    assert!(fs::metadata(&path).expect("there").len() > 200_000);
    let text = fs::read_to_string(&path).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    for n in [0, 1, 3, 700, 2000, 5000] {
        assert_eq!(tail(&path, n).expect("read"), lines[lines.len().saturating_sub(n)..], "{n}");
    }
    fs::write(&path, "").expect("written");
    assert!(tail(&path, 3).expect("read").is_empty());
}

#[test]
fn hostile_text_stays_inside_its_line() {
    let (_dir, path) = scratch();
    let (log, _) = open(&path, None);
    let name = "x\n{\"seq\":9}\u{1b}[2J\u{9b}2J\u{202e}";
    log.append(&Entry::new("refuse").asked(name).detail(&"\u{0}".repeat(9000))).expect("written");
    let text = fs::read_to_string(&path).expect("read");
    assert_eq!(text.lines().count(), 1);
    assert!(text.len() < 4000 && !text.contains(['\u{1b}', '\u{9b}', '\u{202e}']));
    assert_eq!(damage(&path), None);
}
