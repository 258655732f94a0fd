//! Journal, index and witness: what each says of the store's history, and whether they agree.

use std::path::Path;
use std::sync::Arc;

use super::super::error::{Evidence, StoreError, io_error};
use super::super::frame::{Header, Position};
use super::super::scan::{self, Scan};
use super::super::seal::Keys;
use super::super::verdict::{self, Found, Refusal};
use super::super::{journal, open, witness};
use super::index::{self, Seen};
use super::{Finding, Places, Repair, State, start_of};

/// Looks at all three.
pub(super) fn look(places: &Places, keys: &Arc<Keys>, findings: &mut Vec<Finding>) {
    let dir = places.store.dir.as_path();
    let seen = match index::look(dir, &places.scratch, keys) {
        Ok(seen) => seen,
        Err(error) => {
            let remedy = "name a folder with room for a copy of `sled` with --scratch";
            findings.push(Finding::of("index", State::Unseen, &error).remedy(remedy));
            return;
        }
    };
    let Judged { finding, plan, end } = journal_says(dir, keys, &seen);
    findings.push(finding);
    findings.extend(plan.map(|plan| index_says(&plan.index, &seen)));
    if !seen.lost.is_empty() {
        let names: Vec<_> = seen.lost.iter().map(|(name, version)| format!("{name} version {version}")).collect();
        let text = format!("no secret is stored for {}", names.join(", "));
        findings.push(
            Finding::new("records", State::Damaged, text)
                .remedy("`keywheel adopt NAME` with the value in force, or `keywheel reconcile NAME`"),
        );
    } else if seen.whole.is_some() {
        let text = format!("every value opens; {} credentials have every version that may be in force", seen.records);
        findings.push(Finding::new("records", State::Ok, text));
    }
    if let Some(end) = end {
        findings.push(witness_says(places, keys, end));
    }
}

/// What the journal is like.
struct Judged {
    finding: Finding,
    /// What the start would do, if it would go on.
    plan: Option<verdict::Plan>,
    /// Where the store would stand then, or after the repair.
    end: Option<Position>,
}

impl Judged {
    fn refused(finding: Finding, end: Option<Position>) -> Self {
        Self { finding, plan: None, end }
    }

    fn error(error: &StoreError) -> Self {
        Self::refused(Finding::of("journal", State::Damaged, error), None)
    }
}

fn journal_says(dir: &Path, keys: &Keys, seen: &Seen) -> Judged {
    let path = journal::path(dir);
    // What the index could bring back, if the journal can't be read at all.
    let unread = |error: &StoreError| match seen.whole.map(|head| head.position) {
        Some(position) => {
            let finding = Finding::of("journal", State::Damaged, error);
            Judged::refused(by_index(finding, position), Some(position))
        }
        None => Judged::error(error),
    };
    let reached = if let Found::Upto(position) = seen.found { position.sequence } else { 0 };
    if !path.exists() {
        let index_at = (reached > 0).then_some(reached);
        return unread(&StoreError::JournalMissing { path, index_at });
    }
    let (file, header) = match journal::open_to_read(dir, keys) {
        Ok(opened) => opened,
        Err(error @ (StoreError::JournalHeader { .. } | StoreError::JournalForeign { .. })) => return unread(&error),
        Err(error) => return Judged::error(&error),
    };
    let scan = match scan::scan(&file, keys, &header, reached) {
        Ok(scan) => scan,
        Err(error) => return Judged::error(&io_error("read", &path)(error)),
    };
    match verdict::judge(&header, &scan, start_of(&header), &seen.found) {
        Ok(plan) => {
            let end = scan.end.position;
            Judged { finding: goes_on(&plan, &path, end), plan: Some(plan), end: Some(end) }
        }
        Err(refusal) => match scan::last_intact(&file, keys, &header, scan.end) {
            Ok(last) => refused(&refusal, &path, &header, &scan, last, seen),
            Err(error) => Judged::error(&io_error("read", &path)(error)),
        },
    }
}

fn goes_on(plan: &verdict::Plan, path: &Path, end: Position) -> Finding {
    let path = path.display();
    let Some(bytes) = plan.cut else {
        return Finding::new("journal", State::Ok, format!("{path} is whole, up to commit {}", end.sequence));
    };
    let text = format!(
        "the last {bytes} bytes of {path} are an unfinished write that was never acknowledged; the start cuts them off"
    );
    Finding::new("journal", State::Heals, text).repair(Repair::Start)
}

/// A refusal of the start, and the best that can be done about it.
fn refused(refusal: &Refusal, path: &Path, header: &Header, scan: &Scan, last_intact: u64, seen: &Seen) -> Judged {
    let finding = Finding::of("journal", State::Damaged, &open::refused(refusal.clone(), path, scan));
    let needed = last_intact.max(header.snapshot);
    if let Some(position) = seen.whole.map(|head| head.position).filter(|position| position.sequence >= needed) {
        // It holds more than what can still be read of the journal, so nothing is lost by going on with it.
        if position.sequence > scan.end.position.sequence {
            return Judged::refused(by_index(finding, position), Some(position));
        }
    }
    let end = Some(scan.end.position);
    match refusal {
        Refusal::Damaged { evidence: Evidence::Altered, sequence } => {
            let cut = Repair::CutJournal { offset: scan.end.offset, sequence: *sequence };
            Judged::refused(accepting(finding, cut), end)
        }
        Refusal::Older { made } if header.snapshot < *made => {
            Judged::refused(accepting(finding, Repair::DropIndex(*made)), end)
        }
        Refusal::Damaged { .. } | Refusal::Older { .. } => Judged::refused(finding, None),
    }
}

fn by_index(finding: Finding, position: Position) -> Finding {
    let text = format!("{}; the index beside it is whole, up to commit {}", finding.text, position.sequence);
    Finding { text, ..finding }
        .remedy("`keywheel doctor --repair` writes a new journal from the index, and keeps the old one aside")
        .repair(Repair::JournalFromIndex)
}

fn accepting(finding: Finding, repair: Repair) -> Finding {
    let restore = finding.remedy.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
    finding
        .remedy(format!(
            "{restore}; if there is none, `keywheel doctor --accept-older` will {}, and have each version proved by a \
             login before it is handed out",
            repair.plan()
        ))
        .repair(repair)
}

fn index_says(plan: &verdict::Index, seen: &Seen) -> Finding {
    let heals = |text: String, repair| Finding::new("index", State::Heals, text).repair(repair);
    match (plan, &seen.gap) {
        (verdict::Index::Rebuild(why), _) => {
            let text = format!("the index can't be used ({why}); the start makes it again from the journal");
            heals(text, Repair::Start)
        }
        (verdict::Index::Keep | verdict::Index::CatchUp(_), Some(gap)) => {
            // The start does not open every value, and a daemon that meets this one refuses to hand it out.
            Finding::new("index", State::Damaged, gap.clone())
                .remedy("`keywheel doctor --repair` makes the index again from the journal")
                .repair(Repair::Rebuild)
        }
        (verdict::Index::CatchUp(_), None) if seen.found == Found::Nothing => {
            heals("the index is missing; the start makes it again from the journal".to_owned(), Repair::Start)
        }
        (verdict::Index::CatchUp(_), None) => {
            heals("the index is behind the journal; the start brings it forward".to_owned(), Repair::Start)
        }
        (verdict::Index::Keep, None) => Finding::new("index", State::Ok, "the index agrees with the journal"),
    }
}

fn witness_says(places: &Places, keys: &Keys, end: Position) -> Finding {
    const WHAT: &str = "age";
    let path = places.witness.as_path();
    let testimony = match witness::read(path, keys) {
        Ok(testimony) => testimony,
        Err(error) => return Finding::of(WHAT, State::Damaged, &error),
    };
    match witness::judge(&testimony, end, path) {
        Ok(Some(note)) => {
            let said = note.split(", and was").next().unwrap_or_default();
            Finding::new(WHAT, State::Heals, format!("{said}; the start makes it anew"))
        }
        Ok(None) if testimony == witness::Testimony::Nothing => {
            let text = format!("{} is not there yet, so an older copy could not be told", path.display());
            Finding::new(WHAT, State::Ok, text)
        }
        Ok(None) => Finding::new(WHAT, State::Ok, format!("the store is as new as {} has seen", path.display())),
        Err(error) => {
            let finding = Finding::of(WHAT, State::Damaged, &error);
            match error {
                StoreError::OlderCopy { store, seen, .. } => finding.repair(Repair::AcceptCopy(seen - store)),
                StoreError::OtherHistory { .. } => finding.repair(Repair::AcceptCopy(1)),
                _ => finding,
            }
        }
    }
}
