use std::process::{Command, Output};

use super::*;

/// Runs the test `name` of this binary with a small file system of its own at `dir`, which goes with the process.
/// `None` where this user may not mount.
fn on_small_disk(name: &str, dir: &Path, options: &str) -> Option<Output> {
    let inside = other_process(name);
    let mount = r#"mount -t tmpfs -o "$1" none "$2" || exit 77; shift 2; exec "$@""#;
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", mount, "sh", options])
        .arg(dir)
        .arg(inside.get_program())
        .args(inside.get_args())
        .env("KEYWHEEL_TEST_DISK", dir)
        .output()
        .expect("`unshare` of util-linux is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(77) || said.contains("unshare:") {
        println!("not run, since this user may not mount: {said}");
        return None;
    }
    Some(output)
}

fn assert_passed(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success() && said.contains("1 passed") && said.contains("checked"), "{said}");
}

#[test]
fn i1_a_full_disk_costs_the_ballast_and_then_an_error_but_no_credential() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    if let Some(output) = on_small_disk("disk::inside_a_full_disk", scratch.path(), "size=24m,mode=0700") {
        assert_passed(&output);
    }
}

/// Runs inside of the small file system.
#[test]
fn inside_a_full_disk() {
    let Some(disk) = std::env::var_os("KEYWHEEL_TEST_DISK") else { return };
    let (dir, hog) = (Path::new(&disk).join("store"), Path::new(&disk).join("hog"));
    let mut opened = open_at(&dir).unwrap_or_else(|error| panic!("{error}"));
    fill(&mut opened.writer, 5);
    assert!(opened.writer.has_room());
    let hog_all = || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&hog).expect("opened");
        let _ = std::io::copy(&mut std::io::repeat(1), &mut file);
    };

    hog_all();
    assert!(!opened.writer.has_room(), "nothing is free");
    let more = opened.writer.commit(batch(5, 1)).expect("the ballast makes room");
    assert_eq!(more, 6);
    assert!(!dir.join("ballast").exists());
    assert!(!opened.writer.has_room());
    opened.writer.maintain().expect("maintained, without a ballast");
    assert!(!opened.writer.has_room());

    hog_all();
    let mut last = 6;
    let error = loop {
        // Up to the end of the last block that the journal has.
        match opened.writer.commit(batch(last as usize, 1)) {
            Ok(sequence) => last = sequence,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(error.remedy().expect("a remedy").contains("free some space"), "{error:?}");
    assert_filled(&opened.reader, last as usize);

    fs::remove_file(&hog).expect("removed");
    opened.writer.maintain().expect("maintained");
    assert!(opened.writer.has_room() && dir.join("ballast").exists(), "all is well again");
    fill_up_to(&mut opened.writer, last as usize, 9);
    drop(opened);
    let opened = open_at(&dir).unwrap_or_else(|error| panic!("{error}"));
    assert_filled(&opened.reader, 9.max(last as usize));
    drop(opened);

    // And a start on a full disk, which sled alone can't do.
    hog_all();
    let opened = open_at(&dir).unwrap_or_else(|error| panic!("{error}"));
    assert_filled(&opened.reader, 9.max(last as usize));
    assert!(!opened.writer.has_room());
    println!("checked");
}

fn fill_up_to(writer: &mut Writer, from: usize, to: usize) {
    for number in from..to {
        writer.commit(batch(number, 1)).expect("committed");
    }
}

#[test]
fn a_read_only_disk_is_refused_with_words() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    if let Some(output) = on_small_disk("disk::inside_a_read_only_disk", scratch.path(), "size=24m,mode=0700") {
        assert_passed(&output);
    }
}

/// Runs inside of the small file system.
#[test]
fn inside_a_read_only_disk() {
    let Some(disk) = std::env::var_os("KEYWHEEL_TEST_DISK") else { return };
    let dir = Path::new(&disk).join("store");
    fill(&mut open_at(&dir).unwrap_or_else(|error| panic!("{error}")).writer, 2);
    let remount = |mode: &str| {
        let status = Command::new("mount").args(["-o", mode]).arg(&disk).status().expect("ran");
        assert!(status.success());
    };
    remount("remount,ro");
    let error = open_at(&dir).err().expect("refused");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    assert!(error.remedy().expect("a remedy").contains("for writing"), "{error:?}");
    let error = open_at(&Path::new(&disk).join("new")).err().expect("refused");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    remount("remount,rw");
    assert_filled(&open_at(&dir).unwrap_or_else(|error| panic!("{error}")).reader, 2);
    println!("checked");
}
