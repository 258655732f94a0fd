//! Whether a store found on disk may be opened, and what has to be done first. Pure: the facts come in, the decision
//! goes out.
//!
//! The rule: what was, or may have been, acknowledged is never given up. Bytes at the journal's end are cut off only if
//! they are what an unfinished append leaves behind (the first part of a frame, or sectors of zeros where the data
//! never arrived) and nothing contradicts it: no intact frame behind them, and no index that holds the commit already.

use super::error::Evidence;
use super::frame::{Header, Position};
use super::scan::{Place, Scan, Shape};

/// What was found of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none, or an empty one.
    Nothing,
    /// It can't be used, and why.
    Unusable(String),
    /// It is good and holds everything up to here.
    Upto(Position),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Cut the journal off behind its last whole frame; how many bytes go.
    pub(super) cut: Option<u64>,
    /// What to do with the index.
    pub(super) index: Index,
}

/// What to do with the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Index {
    /// It agrees with the journal.
    Keep,
    /// Apply the journal from here on.
    CatchUp(Place),
    /// Make a new one from the journal, because of this.
    Rebuild(String),
}

/// Why a store is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The frame that should hold this commit is damaged.
    Damaged {
        /// Which commit.
        sequence: u64,
        /// Why it can't be a torn end.
        evidence: Evidence,
    },
    /// The journal ends before a commit that was made.
    Older {
        /// The commit that is known to have been made.
        made: u64,
    },
}

/// Decides.
pub(super) fn judge(header: &Header, scan: &Scan, start: Place, found: &Found) -> Result<Plan, Refusal> {
    let last = scan.end.position.sequence;
    let reached = match found {
        Found::Upto(position) => position.sequence,
        Found::Nothing | Found::Unusable(_) => 0,
    };
    let cut = match scan.tail {
        None if header.snapshot > last => return Err(Refusal::Older { made: header.snapshot }),
        None if reached > last => return Err(Refusal::Older { made: reached }),
        None => None,
        Some(tail) => {
            let evidence = match tail.later {
                Some(later) => Some(Evidence::Later(later)),
                None if header.snapshot > last => Some(Evidence::Snapshot),
                None if reached > last => Some(Evidence::Acknowledged),
                None if tail.shape == Shape::Altered => Some(Evidence::Altered),
                None => None,
            };
            if let Some(evidence) = evidence {
                return Err(Refusal::Damaged { sequence: last + 1, evidence });
            }
            Some(tail.bytes)
        }
    };
    let index = match found {
        Found::Unusable(why) => Index::Rebuild(why.clone()),
        Found::Nothing if last == 0 => Index::Keep,
        Found::Nothing => Index::CatchUp(start),
        Found::Upto(position) if position.sequence < header.base.sequence => Index::Rebuild(format!(
            "it ends at commit {}, and the compacted journal starts at {}",
            position.sequence, header.base.sequence
        )),
        Found::Upto(position) => match scan.mark {
            Some(mark) if mark.position == *position && position.sequence == last => Index::Keep,
            Some(mark) if mark.position == *position => Index::CatchUp(mark),
            _ => Index::Rebuild(format!("its commit {} is not the journal's", position.sequence)),
        },
    };
    Ok(Plan { cut, index })
}

#[cfg(test)]
mod tests {
    use super::super::scan::Tail;
    use super::*;

    fn at(sequence: u64) -> Position {
        Position { sequence, digest: [sequence as u8; 16] }
    }

    fn place(sequence: u64) -> Place {
        Place { position: at(sequence), offset: sequence * 100 }
    }

    /// A journal of commits `base + 1 ..= last`.
    struct Case {
        base: u64,
        snapshot: u64,
        last: u64,
        tail: Option<Tail>,
        found: Found,
    }

    impl Case {
        fn judge(self) -> Result<Plan, Refusal> {
            let header = Header { epoch: 1, base: at(self.base), snapshot: self.snapshot };
            let mark = match self.found {
                Found::Upto(position) => {
                    (self.base..=self.last).contains(&position.sequence).then(|| place(position.sequence))
                }
                Found::Nothing | Found::Unusable(_) => None,
            };
            let scan = Scan { end: place(self.last), mark, tail: self.tail };
            judge(&header, &scan, place(self.base), &self.found)
        }
    }

    const PLAIN: Case = Case { base: 0, snapshot: 0, last: 5, tail: None, found: Found::Nothing };

    fn tail(shape: Shape, later: Option<u64>) -> Option<Tail> {
        Some(Tail { bytes: 77, shape, later })
    }

    fn plan(cut: Option<u64>, index: Index) -> Result<Plan, Refusal> {
        Ok(Plan { cut, index })
    }

    #[test]
    fn a_whole_journal_decides_over_the_index() {
        let upto = |sequence| Found::Upto(at(sequence));
        assert_eq!(Case { found: upto(5), ..PLAIN }.judge(), plan(None, Index::Keep));
        assert_eq!(Case { found: upto(3), ..PLAIN }.judge(), plan(None, Index::CatchUp(place(3))));
        assert_eq!(Case { ..PLAIN }.judge(), plan(None, Index::CatchUp(place(0))));
        assert_eq!(Case { last: 0, ..PLAIN }.judge(), plan(None, Index::Keep));
        let broken = Found::Unusable("it is broken".into());
        assert_eq!(Case { found: broken, ..PLAIN }.judge(), plan(None, Index::Rebuild("it is broken".into())));
        let other = Found::Upto(Position { sequence: 4, digest: [99; 16] });
        assert!(matches!(Case { found: other, ..PLAIN }.judge(), Ok(Plan { index: Index::Rebuild(_), .. })));
    }

    #[test]
    fn i1_a_journal_that_ends_before_what_was_committed_is_refused() {
        assert_eq!(Case { found: Found::Upto(at(6)), ..PLAIN }.judge(), Err(Refusal::Older { made: 6 }));
        let compacted = Case { base: 3, snapshot: 8, ..PLAIN };
        assert_eq!(compacted.judge(), Err(Refusal::Older { made: 8 }));
    }

    #[test]
    fn a_torn_end_is_cut_off() {
        for shape in [Shape::Cut, Shape::Zeroed] {
            for found in [Found::Upto(at(5)), Found::Upto(at(2)), Found::Nothing, Found::Unusable("x".into())] {
                let plan = Case { tail: tail(shape, None), found, ..PLAIN }.judge().expect("opens");
                assert_eq!(plan.cut, Some(77));
            }
        }
    }

    #[test]
    fn i1_damage_that_may_have_been_acknowledged_is_refused() {
        let refused = |case: Case| match case.judge() {
            Err(Refusal::Damaged { sequence: 6, evidence }) => evidence,
            other => panic!("{other:?}"),
        };
        for shape in [Shape::Cut, Shape::Zeroed, Shape::Altered] {
            let later = Case { tail: tail(shape, Some(7)), found: Found::Upto(at(5)), ..PLAIN };
            assert_eq!(refused(later), Evidence::Later(7));
            let acknowledged = Case { tail: tail(shape, None), found: Found::Upto(at(6)), ..PLAIN };
            assert_eq!(refused(acknowledged), Evidence::Acknowledged);
            let compacted = Case { base: 3, snapshot: 6, tail: tail(shape, None), ..PLAIN };
            assert_eq!(refused(compacted), Evidence::Snapshot);
        }
        let altered = Case { tail: tail(Shape::Altered, None), found: Found::Upto(at(5)), ..PLAIN };
        assert_eq!(refused(altered), Evidence::Altered);
    }

    #[test]
    fn an_index_from_before_the_compaction_is_rebuilt_or_brought_forward() {
        let compacted = |found| Case { base: 3, snapshot: 4, found, ..PLAIN };
        assert_eq!(compacted(Found::Upto(at(3))).judge(), plan(None, Index::CatchUp(place(3))));
        assert!(matches!(compacted(Found::Upto(at(2))).judge(), Ok(Plan { index: Index::Rebuild(_), .. })));
        assert_eq!(compacted(Found::Nothing).judge(), plan(None, Index::CatchUp(place(3))));
    }
}
