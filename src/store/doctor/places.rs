//! The folder itself: is it there, whose is it, what lies in it, and how much room is left.

use super::super::{beside, compact, error::StoreError, files};
use super::{Finding, Places, Repair, State};

/// Looks at what can be seen without the lock and without a key. Whether there is a store to go on with.
pub(super) fn look(places: &Places, findings: &mut Vec<Finding>) -> bool {
    let dir = places.store.dir.as_path();
    match files::wrong_entries(dir) {
        Ok(None) => {
            findings.push(absent(places));
            return false;
        }
        Ok(Some(wrong)) if wrong.is_empty() => {
            let text = format!("{} and all in it are this user's alone", dir.display());
            findings.push(Finding::new("folder", State::Ok, text));
        }
        Ok(Some(wrong)) => findings.extend(wrong.iter().map(|error| match error {
            StoreError::WeakMode { path, wanted, .. } => {
                Finding::of("folder", State::Damaged, error).repair(Repair::Mode(path.clone(), *wanted))
            }
            _ => Finding::of("folder", State::Damaged, error),
        })),
        Err(error) => {
            findings.push(Finding::of("folder", State::Damaged, &error));
            return false;
        }
    }
    room(places, findings);
    leftovers(places, findings);
    true
}

fn absent(places: &Places) -> Finding {
    let dir = places.store.dir.display();
    if places.witness.exists() {
        let text = format!("there is no store in {dir}, but {} has seen one", places.witness.display());
        return Finding::new("folder", State::Damaged, text).remedy(format!(
            "is its file system mounted? if so, restore {dir} from a backup; for a new store, remove {}",
            places.witness.display()
        ));
    }
    Finding::new("folder", State::Ok, format!("there is no store in {dir} yet; the first start makes one"))
}

fn room(places: &Places, findings: &mut Vec<Finding>) {
    let dir = places.store.dir.as_path();
    let floor = places.store.free_floor_bytes;
    findings.push(match files::free_bytes(dir) {
        Ok(free) if free < floor => {
            let text =
                format!("{} MiB are free, fewer than the floor of {} MiB: no rotation starts", free >> 20, floor >> 20);
            Finding::new("room", State::Damaged, text)
                .remedy(format!("free some space on the file system of {}", dir.display()))
        }
        Ok(free) => Finding::new("room", State::Ok, format!("{} MiB are free", free >> 20)),
        Err(error) => {
            let text = format!("the free space of {} is not known: {error}", dir.display());
            Finding::new("room", State::Unseen, text)
        }
    });
}

fn leftovers(places: &Places, findings: &mut Vec<Finding>) {
    let dir = places.store.dir.as_path();
    let unfinished = compact::path(dir);
    if unfinished.exists() {
        let text = format!("{} is what an unfinished compaction left; the start removes it", unfinished.display());
        findings.push(Finding::new("leftovers", State::Heals, text).repair(Repair::Start));
    }
    let mut kept: Vec<_> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-"))
        .map(|entry| entry.path().display().to_string())
        .collect();
    kept.sort();
    if !kept.is_empty() {
        let text = format!("kept aside by earlier repairs: {}; remove them when all is well", kept.join(", "));
        findings.push(Finding::new("leftovers", State::Ok, text));
    }
}

/// Names what unfinished commands left beside the store. It can go when the store is found to be whole; before that it
/// may be of use.
pub(super) fn left_beside(places: &Places, opened: bool, findings: &mut Vec<Finding>) {
    let dir = places.store.dir.as_path();
    let whole =
        opened && dir.exists() && findings.iter().all(|finding| finding.state == State::Ok || finding.what == "room");
    for beside::Left { path, by } in beside::left_beside(dir) {
        let text = format!("{} was left by an unfinished `{by}`, and holds secrets", path.display());
        let finding = Finding::new("leftovers", State::Damaged, text);
        findings.push(if whole {
            let remedy = format!("give the same `{by}` again, or `keywheel doctor --repair` to remove it");
            finding.remedy(remedy).repair(Repair::RemoveLeft(path))
        } else {
            finding.remedy(format!(
                "give the same `{by}` again; `keywheel doctor --repair` removes it once the store is found to be whole"
            ))
        });
    }
}
