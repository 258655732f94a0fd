//! Finding the grants that cover a name without looking at all of them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::PATTERN_BYTES_MAX;
use super::error::{PatternProblem, WrongPattern};
use super::glob::fits;
use crate::ids::CredentialName;

/// Exact names in a map; patterns under the characters before their first star, and those that begin with a star under
/// the characters behind their last one. So only those are tried of which an end is the name's.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Box<str>, Vec<u32>>,
    by_beginning: Bucketed,
    by_ending: Bucketed,
}

/// Patterns under the literal end they have.
#[derive(Clone, Debug, Default)]
struct Bucketed {
    buckets: HashMap<Box<str>, Vec<Pattern>>,
    /// Lengths of the keys, longest first.
    lengths: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// What is left without the literal end.
    rest: Box<str>,
    grant: u32,
}

impl Index {
    /// Adds a name or pattern of a grant. Grants are added in ascending order.
    pub(super) fn add(&mut self, pattern: &str, grant: u32) -> Result<(), WrongPattern> {
        check(pattern).map_err(|problem| WrongPattern { pattern: pattern.to_owned(), problem })?;
        match (pattern.find('*'), pattern.rfind('*')) {
            (Some(0), Some(last)) => {
                let (rest, ending) = pattern.split_at(last + 1);
                self.by_ending.add(ending, rest, grant);
            }
            (Some(first), _) => {
                let (beginning, rest) = pattern.split_at(first);
                self.by_beginning.add(beginning, rest, grant);
            }
            (None, _) => self.exact.entry(pattern.into()).or_default().push(grant),
        }
        Ok(())
    }

    /// To be called after the last [`Index::add`].
    pub(super) fn finish(&mut self) {
        self.by_beginning.finish();
        self.by_ending.finish();
    }

    /// Visits the grants whose names or patterns fit: exact names first, then the longest beginnings, then the longest
    /// endings.
    pub(super) fn each<B>(&self, name: &str, mut visit: impl FnMut(u32) -> ControlFlow<B>) -> ControlFlow<B> {
        for grant in self.exact.get(name).into_iter().flatten() {
            visit(*grant)?;
        }
        self.by_beginning.each(|length| name.split_at_checked(length), &mut visit)?;
        let ending = |length| name.split_at_checked(name.len().checked_sub(length)?);
        self.by_ending.each(|length| ending(length).map(|(rest, key)| (key, rest)), &mut visit)
    }
}

impl Bucketed {
    fn add(&mut self, key: &str, rest: &str, grant: u32) {
        self.buckets.entry(key.into()).or_default().push(Pattern { rest: rest.into(), grant });
    }

    fn finish(&mut self) {
        self.lengths = self.buckets.keys().map(|key| key.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
    }

    /// `split` gives the name's end of a length, and what is left of the name.
    fn each<'a, B>(
        &self,
        split: impl Fn(usize) -> Option<(&'a str, &'a str)>,
        visit: &mut impl FnMut(u32) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (key, rest) in self.lengths.iter().filter_map(|length| split(*length)) {
            for pattern in self.buckets.get(key).into_iter().flatten() {
                if fits(pattern.rest.as_bytes(), rest.as_bytes(), Some(b'/')) {
                    visit(pattern.grant)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// A pattern must be able to fit a name: with each run of stars replaced by a letter it must be one.
fn check(pattern: &str) -> Result<(), PatternProblem> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternProblem::Long(pattern.len()));
    }
    if pattern.contains("***") {
        return Err(PatternProblem::Stars);
    }
    let example = pattern.replace("**", "a").replace('*', "a");
    example.parse::<CredentialName>()?;
    Ok(())
}
