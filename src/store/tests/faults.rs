//! Each call by which the store changes the disk fails once, or for good, or is the last one that a process makes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use nix::errno::Errno;

use super::super::fault;
use super::*;

/// Credentials of the scenario: so many before the compaction, and so many in all.
const EARLY: usize = 4;
const LATE: usize = 6;

/// What was acknowledged: the version of each credential.
type Acknowledged = Rc<RefCell<Vec<u32>>>;

/// One life of a store, with everything it does to the disk. What fails is tried once more, as the daemon does.
fn live(scratch: &Scratch, told: &Acknowledged) -> Result<(), StoreError> {
    let mut opened = again(|| scratch.open())?;
    opened.writer.be_witnessed(&scratch.root.path().join("audit.position")).or_else(|error| match error {
        // The daemon says so and serves all the same.
        StoreError::Io { .. } | StoreError::NoSpace { .. } => Ok(None),
        error => Err(error),
    })?;
    let writer = &mut opened.writer;
    for number in 0..LATE {
        if number == EARLY {
            again(|| writer.maintain())?;
            again(|| writer.compact())?;
        }
        let version = told.borrow().get(number).copied().unwrap_or(0) + 1;
        again(|| writer.commit(batch(number, version)))?;
        let mut told = told.borrow_mut();
        let count = told.len().max(number + 1);
        told.resize(count, 0);
        told[number] = version;
    }
    again(|| writer.maintain())
}

fn again<T>(mut what: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    what().or_else(|error| if error.is_in_doubt() { Err(error) } else { what() })
}

fn assert_kept(scratch: &Scratch, told: &[u32], context: &str) {
    let opened = scratch.open().unwrap_or_else(|error| panic!("{context}: {error}"));
    for (number, version) in told.iter().enumerate() {
        let record = opened.reader.record(&name(number)).unwrap_or_else(|error| panic!("{context}: {error}"));
        let stored = record.map_or(0, |record| record.next_version.0 - 1);
        assert!(stored >= *version, "{context}: credential {number} has version {stored}, told {version}");
        for version in 1..=stored {
            let secret = opened.reader.secret(&name(number), Version(version)).expect("read");
            let secret = secret.unwrap_or_else(|| panic!("{context}: version {version} of {number} is lost"));
            assert_eq!(secret.get("password").expect("set").expose(), password(number, version), "{context}");
        }
    }
}

fn fill_to_the_end(scratch: &Scratch, context: &str) {
    let told = Acknowledged::default();
    live(scratch, &told).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_kept(scratch, &told.borrow(), context);
}

/// Runs the scenario with the `which`-th call failing, and all that follow if `lasting`; whether there was such a call,
/// and where.
fn fail(errno: Errno, which: u32, lasting: bool) -> Option<&'static str> {
    let scratch = Scratch::new();
    let (told, count, place) = (Acknowledged::default(), Cell::new(0), Rc::new(Cell::new(None)));
    let seen = Rc::clone(&place);
    let hook = move |point: &'static str| {
        count.set(count.get() + 1);
        if count.get() == which {
            seen.set(Some(point));
        }
        let fails = count.get() == which || (lasting && count.get() > which);
        if fails { Err(io::Error::from(errno)) } else { Ok(()) }
    };
    let outcome = fault::tests::with(hook, || live(&scratch, &told));
    let place = place.get()?;
    let context = format!("{errno} at call {which} ({place}), lasting: {lasting}");
    if let Err(error) = &outcome {
        let words = error.to_string();
        let names = words.contains(&scratch.dir().display().to_string()) || words.contains("index");
        assert!(names, "{context}: {words}");
        assert!(!words.contains(MARKER), "{words}");
        assert!(error.remedy().is_some() || errno != Errno::ENOSPC, "{context}: {words}");
    }
    // The fault is over: what was told is there, and the store does all it should.
    assert_kept(&scratch, &told.borrow(), &context);
    fill_to_the_end(&scratch, &context);
    Some(place)
}

fn every_call_fails(errno: Errno, lasting: &[bool]) {
    let mut places = BTreeSet::new();
    for lasting in lasting.iter().copied() {
        let mut which = 1;
        while let Some(place) = fail(errno, which, lasting) {
            places.insert(place);
            which += 1;
        }
        assert!(which > 60, "the scenario has many calls: {which}");
    }
    let never = fault::ALL.iter().filter(|point| !places.contains(**point)).collect::<Vec<_>>();
    // Only a torn end is cut off, and only a failed append is taken back.
    assert!(never.iter().all(|point| **point == "cut"), "never came to {never:?}");
}

#[test]
fn i1_a_full_disk_at_every_call_loses_nothing_acknowledged() {
    every_call_fails(Errno::ENOSPC, &[false, true]);
}

#[test]
fn i1_an_io_error_at_every_call_loses_nothing_acknowledged() {
    every_call_fails(Errno::EIO, &[false, true]);
}

#[test]
fn i1_a_read_only_disk_at_every_call_loses_nothing_acknowledged() {
    every_call_fails(Errno::EROFS, &[true]);
}

#[test]
fn i1_too_many_open_files_at_every_call_lose_nothing_acknowledged() {
    every_call_fails(Errno::EMFILE, &[false]);
}

#[test]
fn i1_a_kill_before_and_within_every_call_loses_nothing_acknowledged() {
    let scratch = Scratch::new();
    let told = Acknowledged::default();
    let images = Rc::new(RefCell::new(Vec::new()));
    let (dir, at, taken) = (scratch.dir(), Rc::clone(&told), Rc::clone(&images));
    let hook = move |point: &'static str| {
        if dir.exists() {
            let image = Scratch::new();
            copy_dir(&dir, &image.dir());
            taken.borrow_mut().push((point, image, at.borrow().clone()));
        }
        Ok(())
    };
    fault::tests::with(hook, || live(&scratch, &told)).unwrap_or_else(|error| panic!("{error}"));
    let images = images.take();
    let compaction = images.iter().filter(|(_, image, _)| image.dir().join("journal.new").exists()).count();
    assert!(images.len() > 60 && compaction > 5, "{} images, {compaction} of them in a compaction", images.len());
    for (number, (point, image, told)) in images.into_iter().enumerate() {
        let context = format!("killed at call {number} ({point})");
        assert_kept(&image, &told, &context);
        fill_to_the_end(&image, &context);
    }
}

#[test]
fn too_many_open_files_are_no_reason_to_make_the_index_again() {
    let scratch = Scratch::new();
    fill(&mut scratch.opened().writer, 2);
    let hook = |point: &'static str| if point == "index open" { Err(Errno::EMFILE.into()) } else { Ok(()) };
    let error = fault::tests::with(hook, || scratch.refusal());
    assert!(error.to_string().contains("Too many open files"), "{error}");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("LimitNOFILE")), "{error:?}");
    let opened = scratch.opened();
    assert_eq!(opened.notes, Vec::<String>::new());
    assert_filled(&opened.reader, 2);
}

/// What the kernel may do after an error of fsync(2): the data is gone, and the next flush succeeds.
#[test]
fn i1_data_that_a_failed_flush_has_lost_is_never_built_upon() {
    for which in 1..=4 {
        let scratch = Scratch::new();
        let mut opened = scratch.opened();
        let (journal, count, flushed) = (scratch.journal(), Cell::new(0), Cell::new(0));
        let hook = move |point: &'static str| {
            if point != "flush journal" {
                return Ok(());
            }
            count.set(count.get() + 1);
            let bytes = fs::read(&journal).expect("read");
            if count.get() != which {
                flushed.set(bytes.len());
                return Ok(());
            }
            let kept = flushed.get().max(super::super::frame::HEADER_BYTES);
            let lost = [&bytes[..kept], &vec![0; bytes.len() - kept]].concat();
            fs::write(&journal, lost).expect("written");
            Err(Errno::EIO.into())
        };
        let told = fault::tests::with(hook, || {
            (0..6).filter(|number| opened.writer.commit(batch(*number, 1)).is_ok()).count()
        });
        assert_eq!(told, which - 1, "nothing is taken after the failure");
        drop(opened);
        assert_filled(&scratch.opened().reader, which - 1);
    }
}
