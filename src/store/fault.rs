//! Faults of the disk that a test asks for. Every call by which the store changes its files passes here first; without
//! tests and the feature `failpoints` that is nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The places, for the tests that loop over them.
#[cfg(any(test, feature = "failpoints"))]
pub(super) const ALL: &[&str] = &[
    "open",
    "mkdir",
    "write",
    "flush",
    "cut",
    "rename",
    "flush folder",
    "remove",
    "allocate",
    "append",
    "flush journal",
    "witness",
    "index open",
    "index apply",
    "index flush",
];

/// Passes, or fails as the test wants it.
///
/// # Errors
/// The one that the test asked for.
#[cfg(any(test, feature = "failpoints"))]
pub(super) fn at(point: &'static str) -> io::Result<()> {
    debug_assert!(ALL.contains(&point), "{point} is not listed");
    #[cfg(test)]
    tests::asked(point)?;
    asked_by_environment(point)
}

/// Passes.
#[cfg(not(any(test, feature = "failpoints")))]
#[inline]
pub(super) fn at(_point: &'static str) -> io::Result<()> {
    Ok(())
}

/// Writes all of `bytes`; a fault may come before and in the middle, as on a real disk.
pub(super) fn write_all_at(point: &'static str, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    at(point)?;
    #[cfg(any(test, feature = "failpoints"))]
    let (bytes, offset) = {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all_at(first, offset)?;
        at(point)?;
        (second, offset + first.len() as u64)
    };
    file.write_all_at(bytes, offset)
}

/// `KEYWHEEL_DISK_FAULT` is `POINT=ERRNO:N`: the N-th call there fails with that number, and with `N+` all that follow.
#[cfg(feature = "failpoints")]
fn asked_by_environment(point: &'static str) -> io::Result<()> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static HITS: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("KEYWHEEL_DISK_FAULT") else { return Ok(()) };
    let Some((name, (errno, count))) =
        wanted.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)))
    else {
        return Ok(());
    };
    if name != point {
        return Ok(());
    }
    let hit = HITS.fetch_add(1, Ordering::SeqCst) + 1;
    let (first, on) = count.strip_suffix('+').map_or((count, false), |first| (first, true));
    let first: u32 = first.parse().unwrap_or(1);
    match errno.parse() {
        Ok(errno) if hit == first || (on && hit > first) => Err(io::Error::from_raw_os_error(errno)),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(all(test, not(feature = "failpoints")))]
fn asked_by_environment(_point: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::io;

    /// What a test wants at a point: to see it, and perhaps an error.
    type Hook = Box<dyn FnMut(&'static str) -> io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Has `hook` asked at each point that this thread comes to, while `body` runs.
    pub(in crate::store) fn with<T>(
        hook: impl FnMut(&'static str) -> io::Result<()> + 'static,
        body: impl FnOnce() -> T,
    ) -> T {
        HOOK.with(|asked| *asked.borrow_mut() = Some(Box::new(hook)));
        let outcome = body();
        HOOK.with(|asked| *asked.borrow_mut() = None);
        outcome
    }

    pub(super) fn asked(point: &'static str) -> io::Result<()> {
        HOOK.with(|asked| asked.borrow_mut().as_mut().map_or(Ok(()), |hook| hook(point)))
    }
}
