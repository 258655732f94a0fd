//! Places for connections: how many there are, in all and for one user.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use nix::sys::resource::{Resource, getrlimit};

/// Descriptors that connections leave for everything else: store, logs, workers' pipes.
const DESCRIPTORS_KEPT: u64 = 256;

/// Descriptors of one connection: its socket, and the handle on its process.
const DESCRIPTORS_EACH: u64 = 2;

/// Connections that are open, in all and by user, so that no user can take all places.
pub(super) struct Places {
    limit: usize,
    taken: Cell<usize>,
    by_uid: RefCell<HashMap<u32, usize>>,
}

impl Places {
    /// As many as `limit` says, or as there are descriptors for.
    pub(super) fn new(limit: usize) -> Rc<Self> {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let enough_for = descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH;
        let possible = usize::try_from(enough_for).unwrap_or(usize::MAX).max(1);
        if possible < limit {
            tracing::warn!(limit, possible, "fewer connections than configured: too few open files are allowed");
        }
        Rc::new(Self { limit: limit.min(possible), taken: Cell::new(0), by_uid: RefCell::default() })
    }

    /// Takes a place, unless there is none. A user may take three quarters of all.
    pub(super) fn take(self: &Rc<Self>, uid: u32) -> Option<Place> {
        let mut by_uid = self.by_uid.borrow_mut();
        let own = by_uid.get(&uid).copied().unwrap_or_default();
        if self.taken.get() >= self.limit || own >= self.limit - self.limit / 4 {
            return None;
        }
        by_uid.insert(uid, own + 1);
        self.taken.set(self.taken.get() + 1);
        Some(Place { places: self.clone(), uid })
    }

    /// Whether nobody is there.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.get() == 0
    }
}

/// A place, given back on drop.
pub(super) struct Place {
    places: Rc<Places>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.set(self.places.taken.get() - 1);
        let mut by_uid = self.places.by_uid.borrow_mut();
        if let Some(own) = by_uid.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                by_uid.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_all_places_and_places_come_back() {
        let places = Places::new(8);
        let mut taken: Vec<Place> = std::iter::from_fn(|| places.take(1000)).collect();
        assert_eq!(taken.len(), 6);
        taken.extend(std::iter::from_fn(|| places.take(0)));
        assert_eq!(taken.len(), 8);
        drop(taken);
        assert!(places.is_empty() && places.by_uid.borrow().is_empty());
        assert!(places.take(1000).is_some());
        assert!(Places::new(1).take(5).is_some(), "one place is for anyone");
    }
}
