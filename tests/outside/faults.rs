//! Faults of targets, disks, stores, configurations and clocks: each gives a clear error or a defined state, and what is
//! handed out afterwards logs in.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::kit::{
    QUICK, SmallDisk, about_daemon, begin, by_admin_config, credential, fetch, files_under, htpasswd_target, own_role,
    own_role_config, password_line, pause, role_by_admin, rotate, settled, settles_and_logs_in, succeeds,
};
use crate::support::{Daemon, PATIENCE, PgOptions, Postgres, Setup, eventually, free_port, within};

/// Waits until the status's detail of a credential has these words.
fn says(daemon: &Daemon, name: &str, words: &str) {
    let said = within(PATIENCE, || {
        let status = daemon.status(name);
        status["detail"].as_str().is_some_and(|detail| detail.contains(words)).then_some(())
    });
    assert!(said.is_some(), "{words:?} is not in {}\n{}", daemon.status(name), daemon.log());
}

/// The files of the store whose name starts so.
fn store_files(daemon: &Daemon, start: &str) -> Vec<PathBuf> {
    let store = daemon.scratch.at("state/store");
    files_under(&store)
        .into_iter()
        .filter(|path| path.strip_prefix(&store).is_ok_and(|path| path.to_string_lossy().starts_with(start)))
        .collect()
}

#[test]
fn a_wrong_password_of_the_admin_waits_and_goes_on_when_it_is_adopted() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = role_by_admin(&pg);
    let before = rotate(&daemon, "app/db");
    pg.admin("ALTER ROLE admin PASSWORD 'another-one-by-hand'");
    assert!(begin(&daemon, "app/db"));
    says(&daemon, "app/db", "refused");
    assert_eq!(fetch(&daemon, "app/db"), before, "nothing has changed at the target");
    assert!(pg.login_works("app", &before.password));
    daemon.keywheel_ok(&["adopt", "pg/admin"], "another-one-by-hand");
    let after = settles_and_logs_in(&daemon, &pg, "app/db");
    assert!(after.version > before.version);
}

#[test]
fn i4_a_server_that_is_away_and_comes_back_costs_nothing() {
    let mut pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    pg.stop();
    assert!(begin(&daemon, "app/db"));
    says(&daemon, "app/db", "not reached");
    assert_eq!(fetch(&daemon, "app/db").password, "first-of-app");
    pg.start_again();
    let after = settles_and_logs_in(&daemon, &pg, "app/db");
    assert_eq!(after.version, 2);
}

#[test]
fn i4_a_target_that_does_not_answer_is_left_alone_and_tried_again() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let nowhere = own_role_config(&pg).replace(&format!("port = {}", pg.port), &format!("port = {}", free_port()));
    let daemon = Setup::new().config(own_role_config(&pg)).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    daemon.configure(&nowhere);
    daemon.keywheel_ok(&["reload"], "");
    assert!(begin(&daemon, "app/db"));
    eventually("the circuit breaker opens", || {
        about_daemon(&daemon)["broken_targets"].as_array().is_some_and(|broken| broken.len() == 1).then_some(())
    });
    let status = String::from_utf8_lossy(&daemon.keywheel(&["status"], "").stdout).into_owned();
    assert!(status.contains("pg"), "{status}");
    daemon.configure(&own_role_config(&pg));
    daemon.keywheel_ok(&["reload"], "");
    assert_eq!(settles_and_logs_in(&daemon, &pg, "app/db").version, 2);
}

#[test]
fn i3_a_server_that_hangs_is_given_up_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let held = thread::spawn(move || silent.incoming().take(100).flatten().collect::<Vec<_>>().len());
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    let hanging =
        own_role_config(&pg).replace(&format!("port = {}", pg.port), &format!("port = {port}\nstep_timeout = \"1s\""));
    daemon.configure(&hanging);
    daemon.keywheel_ok(&["reload"], "");
    let began = Instant::now();
    let verified = daemon.keywheel(&["verify", "app/db"], "");
    assert!(!verified.status.success() && began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(begin(&daemon, "app/db"));
    eventually("it says that the server is slow", || {
        daemon.status("app/db")["detail"]
            .as_str()
            .filter(|detail| detail.contains("reached") || detail.contains("doubt"))
            .map(str::to_owned)
    });
    assert_eq!(fetch(&daemon, "app/db").password, "first-of-app");
    daemon.configure(&own_role_config(&pg));
    daemon.keywheel_ok(&["reload"], "");
    assert_eq!(settles_and_logs_in(&daemon, &pg, "app/db").version, 2);
    drop(held);
}

#[test]
fn i1_a_server_that_is_killed_and_started_again_and_again_in_mid_rotation_costs_nothing() {
    let mut pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    for round in 0..6 {
        begin(&daemon, "app/db");
        pause(40 * round);
        if round % 2 == 0 {
            pg.kill9()
        } else {
            pg.stop()
        }
        pause(100);
        pg.start_again();
        settles_and_logs_in(&daemon, &pg, "app/db");
    }
    let last = rotate(&daemon, "app/db");
    assert!(pg.login_works("app", &last.password));
}

#[test]
fn a_role_that_does_not_exist_is_named_and_the_credential_is_at_rest() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = Setup::new().config(by_admin_config(&pg, "account = \"nobody-has-made-it\"")).start();
    daemon.keywheel_ok(&["import", "pg/admin"], &pg.superuser_password);
    let output = daemon.keywheel(&["rotate", "app/db", "--wait"], "");
    assert!(!output.status.success());
    let status = settled(&daemon, "app/db");
    assert_eq!(status["phase"], "resting", "{status}");
    assert!(status["detail"].as_str().is_some_and(|words| words.contains("nobody-has-made-it")), "{status}");
    pg.create_login("nobody-has-made-it", "x");
    let made = rotate(&daemon, "app/db");
    assert!(pg.login_works("nobody-has-made-it", &made.password));
}

#[test]
fn i1_a_full_disk_stops_new_rotations_and_loses_none_in_flight() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let setup = Setup::new();
    let small = SmallDisk::mount(&setup.scratch.at("state"), "24m");
    let config = own_role_config(&pg).replace("[limits]", "[limits]\nfree_floor = \"1MiB\"");
    let mut daemon = setup.config(config).start();
    // Goes before the folder that it is in.
    let small = small;
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    let before = rotate(&daemon, "app/db");
    small.fill();
    let refused = daemon.keywheel(&["rotate", "app/db"], "");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && (words.contains("full") || words.contains("space")), "{words}");
    assert_eq!(fetch(&daemon, "app/db"), before);
    assert!(!about_daemon(&daemon)["held"].as_array().expect("a list").is_empty());
    daemon.kill9();
    daemon.spawn();
    let state = eventually("it serves or says why not", || match daemon.poll() {
        Some(status) => Some(Some(status)),
        None => daemon.healthy().then_some(None),
    });
    println!("started on a full disk: {state:?}");
    assert!(state.is_none() || daemon.log().contains("No space"), "{}", daemon.log());
    if state.is_none() {
        assert_eq!(fetch(&daemon, "app/db"), before);
        daemon.kill9();
    }
    small.empty();
    daemon.start();
    settles_and_logs_in(&daemon, &pg, "app/db");
    // The disk fills up while a rotation is in flight.
    begin(&daemon, "app/db");
    small.fill();
    settled(&daemon, "app/db");
    let kept = fetch(&daemon, "app/db");
    assert!(pg.login_works("app", &kept.password), "{kept:?}");
    small.empty();
    eventually("there is room again", || {
        about_daemon(&daemon)["held"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    rotate(&daemon, "app/db");
    settles_and_logs_in(&daemon, &pg, "app/db");
}

#[test]
fn a_store_that_cannot_be_written_is_refused_with_words() {
    let setup = Setup::new();
    let state = setup.scratch.at("state");
    let small = SmallDisk::mount(&state, "24m");
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let config = format!(
        "{}{target}{}",
        QUICK.replace("[limits]", "[limits]\nfree_floor = \"1MiB\""),
        credential("web/app", "web", "account = \"app\"")
    );
    let mut daemon = setup.config(config).start();
    // Goes before the folder that it is in.
    let _small = small;
    daemon.keywheel_ok(&["import", "web/app"], "first");
    daemon.sigterm();
    let remount = |how: &str| succeeds(Command::new("mount").args(["-o", how]).arg(&state));
    assert!(remount("remount,ro"));
    let ended = daemon.run_to_end();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.log);
    assert!(ended.log.contains("ead-only"), "{}", ended.log);
    // What only looks needs to write nothing.
    let looked = daemon.keywheel(&["doctor", "--config", &daemon.config.display().to_string()], "");
    assert_eq!(looked.status.code(), Some(0), "{}", String::from_utf8_lossy(&looked.stdout));
    assert!(remount("remount,rw"));
    daemon.start();
    assert_eq!(fetch(&daemon, "web/app").password, "first");
}

/// A kernel that finds an error in a file system has it take no more, whoever has files open there.
#[test]
fn i1_a_file_system_that_turns_read_only_under_a_daemon_loses_nothing() {
    let setup = Setup::new();
    let (image, state) = (setup.scratch.at("image"), setup.scratch.at("state"));
    fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
    assert!(succeeds(Command::new("/usr/sbin/mkfs.ext4").arg("-q").arg(&image)));
    let mount = || {
        let mut mount = Command::new("mount");
        assert!(succeeds(mount.args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(&state)), "mount needs root");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("its mode");
        SmallDisk(state.clone())
    };
    let mounted = mount();
    let (_, target) = htpasswd_target(&setup.scratch, &password_line("first"));
    let limits = QUICK.replace("[limits]", "[limits]\nfree_floor = \"1MiB\"");
    let app = credential("web/app", "web", "account = \"app\"");
    let mut daemon = setup.config(format!("{limits}{target}{app}")).start();
    daemon.keywheel_ok(&["import", "web/app"], "first");
    let before = rotate(&daemon, "web/app");
    let source = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&state).output().expect("findmnt");
    let device = String::from_utf8_lossy(&source.stdout).trim().trim_start_matches("/dev/").to_owned();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "an error\n").expect("the kernel finds an error");
    let refused = daemon.keywheel(&["rotate", "web/app", "--wait"], "");
    let said = [&refused.stdout[..], &refused.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!refused.status.success() && said.contains("ead-only"), "{said}\n{}", daemon.log());
    assert_eq!(fetch(&daemon, "web/app"), before, "what is stored is handed out");
    let held = about_daemon(&daemon)["held"].to_string();
    assert!(held.contains("ead-only"), "{held}");
    daemon.sigterm();
    assert!(succeeds(Command::new("umount").arg(&state)));
    // It mended what was wrong, which is no failure.
    let _ = Command::new("/usr/sbin/e2fsck").args(["-f", "-y"]).arg(&image).output().expect("e2fsck");
    let _again = mount();
    daemon.start();
    assert_eq!(fetch(&daemon, "web/app").password, before.password);
    assert_eq!(rotate(&daemon, "web/app").version, before.version + 1);
    drop(mounted);
}

/// Needs the feature `failpoints`: a disk that fails to flush can't be had for the asking.
#[cfg(feature = "failpoints")]
#[test]
fn i1_a_journal_that_cannot_be_flushed_stops_the_store_and_is_looked_into_at_the_next_start() {
    use crate::kit::{serves_or_ends, try_fetch};
    const EIO: i32 = nix::errno::Errno::EIO as i32;
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = own_role(&pg);
    for flush in [1, 2, 3, 4] {
        daemon.sigterm();
        daemon.set_env("KEYWHEEL_DISK_FAULT", &format!("flush journal={EIO}:{flush}"));
        daemon.spawn();
        let serves = serves_or_ends(&mut daemon);
        assert!(serves || daemon.log().contains("Input/output error"), "flush {flush}: {}", daemon.log());
        if serves {
            begin(&daemon, "app/db");
            let held = eventually("it says that the store takes no more", || {
                let held = about_daemon(&daemon)["held"].as_array().filter(|held| !held.is_empty()).cloned();
                held.map(|held| held[0].to_string())
            });
            assert!(held.contains("Input/output error"), "flush {flush}: {held}");
            daemon.wait_for_log("Input/output error");
            match try_fetch(&daemon, "app/db") {
                Ok(kept) => assert!(pg.login_works(&kept.username, &kept.password), "flush {flush}: {kept:?}"),
                // Between ask and proof nothing is handed out.
                Err(said) => assert!(said.contains("it is being rotated"), "flush {flush}: {said}"),
            }
            daemon.sigterm();
        }
        daemon.set_env("KEYWHEEL_DISK_FAULT", "");
        daemon.start();
        settles_and_logs_in(&daemon, &pg, "app/db");
        rotate(&daemon, "app/db");
    }
}

#[test]
fn i4_too_many_open_files_are_said_so_and_gone_with_the_limit() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    let before = rotate(&daemon, "app/db");
    let pid = daemon.pid();
    let limit = |most: usize| {
        assert!(succeeds(Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={most}:")])));
    };
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    // From none left to as many as a connection takes, but not a worker's pipes.
    for more in 0..6 {
        limit(open + more);
        let _ = begin(&daemon, "app/db");
        pause(300);
        limit(1024);
        let after = settles_and_logs_in(&daemon, &pg, "app/db");
        assert!(after.version >= before.version, "{more}: {after:?}");
    }
    assert!(daemon.log().contains("Too many open files"), "it says so: {}", daemon.log());
    let last = fetch(&daemon, "app/db").version;
    assert_eq!(rotate(&daemon, "app/db").version, last + 1);
}

#[test]
fn i1_complaint_25_a_damaged_index_is_rebuilt_from_the_journal() {
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = own_role(&pg);
    for damage in 0..3 {
        rotate(&daemon, "app/db");
        daemon.sigterm();
        let files = store_files(&daemon, "sled");
        assert!(!files.is_empty());
        for file in files {
            let mut bytes = fs::read(&file).expect("a file of the index");
            match damage {
                0 => bytes.iter_mut().skip(1).step_by(97).for_each(|byte| *byte ^= 0x55),
                1 => bytes.truncate(bytes.len() / 2),
                _ => bytes.clear(),
            }
            fs::write(&file, bytes).expect("damaged");
        }
        daemon.start();
        settles_and_logs_in(&daemon, &pg, "app/db");
    }
    assert!(daemon.log().contains("index"), "it says so: {}", daemon.log());
}

#[test]
fn a_damaged_journal_is_refused_with_words_and_nothing_is_changed() {
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = own_role(&pg);
    rotate(&daemon, "app/db");
    daemon.sigterm();
    let journal = store_files(&daemon, "journal").pop().expect("the journal");
    let good = fs::read(&journal).expect("the journal");
    for place in [good.len() / 4, good.len() / 2, good.len() * 3 / 4] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&journal, &bad).expect("damaged");
        let ended = daemon.run_to_end();
        assert_eq!(ended.status.code(), Some(74), "byte {place} of {}: {}", good.len(), ended.log);
        let last = ended.log.lines().rev().take(3).collect::<Vec<_>>().join(" ");
        assert!(last.contains("journal") && last.contains("help:"), "{last}");
        assert_eq!(fs::read(&journal).expect("the journal"), bad, "the damaged journal is evidence");
    }
    fs::write(&journal, &good).expect("mended");
    daemon.start();
    settles_and_logs_in(&daemon, &pg, "app/db");
}

#[test]
fn a_second_daemon_on_the_same_folders_is_turned_away() {
    let pg = Postgres::start(PgOptions::default());
    let daemon = own_role(&pg);
    let config = fs::read_to_string(&daemon.config).expect("the configuration");
    let elsewhere = daemon.scratch.folder("run2", 0o755);
    let other_sockets = daemon.scratch.file(
        "second.toml",
        config.replace(&daemon.scratch.at("run").display().to_string(), &elsewhere.display().to_string()),
        0o600,
    );
    for (file, words) in [(&daemon.config, "another keywheeld is running"), (&other_sockets, "another")] {
        let second = Command::new(env!("CARGO_BIN_EXE_keywheeld")).arg("--config").arg(file).output().expect("runs");
        let said = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(74), "{said}");
        assert!(said.contains(words), "{said}");
    }
    assert!(daemon.healthy());
    rotate(&daemon, "app/db");
    settles_and_logs_in(&daemon, &pg, "app/db");
}

#[test]
fn i12_unknown_keys_and_weak_modes_are_refused_all_at_once() {
    let setup = Setup::new();
    let (_, target) = htpasswd_target(&setup.scratch, "app:x\n");
    let wrong =
        format!("{target}colour = \"red\"\n{}[limts]\nhistory = 5\n", credential("web/app", "web", "acount = \"app\""));
    let mut daemon = setup.config(wrong).prepare();
    let ended = daemon.run_to_end();
    assert_eq!(ended.status.code(), Some(78), "{}", ended.log);
    for words in ["colour", "acount", "did you mean `account`", "limts", "keywheel.toml:", "^^^^^^"] {
        assert!(ended.log.contains(words), "{words}: {}", ended.log);
    }
    let checked = daemon.keywheel(&["check", "--config", &daemon.config.display().to_string()], "");
    assert_eq!(checked.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("^^^^^^"));
    daemon.configure("");
    fs::set_permissions(daemon.scratch.at("master.key"), fs::Permissions::from_mode(0o644)).expect("a weak mode");
    let ended = daemon.run_to_end();
    assert!(ended.status.code().is_some_and(|code| code == 74 || code == 78), "{}", ended.log);
    assert!(ended.log.contains("master.key") && ended.log.contains("chmod"), "{}", ended.log);
}

#[test]
fn i4_sigterm_ends_it_within_ten_seconds_in_mid_rotation() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let pg = Postgres::start(PgOptions::default());
    let mut daemon = own_role(&pg);
    let hanging = own_role_config(&pg).replace(&format!("port = {}", pg.port), &format!("port = {port}"));
    daemon.configure(&hanging);
    daemon.keywheel_ok(&["reload"], "");
    begin(&daemon, "app/db");
    daemon.wait_for_phase("app/db", "staged");
    let began = Instant::now();
    let status = daemon.sigterm();
    println!("SIGTERM with a step that hangs: {status} after {:?}", began.elapsed());
    assert!(status.success() && began.elapsed() < Duration::from_secs(10), "{status} {:?}", began.elapsed());
    drop(silent);
    daemon.configure(&own_role_config(&pg));
    daemon.start();
    settles_and_logs_in(&daemon, &pg, "app/db");
    for _ in 0..5 {
        begin(&daemon, "app/db");
        assert!(daemon.sigterm().success());
        daemon.start();
        settles_and_logs_in(&daemon, &pg, "app/db");
    }
}
