//! Named points at which a crash test ends the process as `kill -9` would. Without the feature `failpoints` they are
//! nothing.

/// Every fail point of the daemon, for the tests that loop over all of them.
pub const ALL: &[&str] = &[
    "engine.commit.before",
    "engine.commit.after",
    "engine.effect.before",
    "engine.effect.kept",
    "engine.effect.after",
    "store.commit.before",
    "store.commit.journaled",
    "store.commit.done",
    "store.compact.written",
    "store.compact.renamed",
];

/// Every fail point of `keywheel rekey`.
pub const REKEY: &[&str] =
    &["rekey.key.made", "rekey.before", "rekey.after", "rekey.deep.copied", "rekey.deep.exchanged"];

/// Ends the process with SIGKILL if `KEYWHEEL_FAILPOINT` is `name`, or `name:N` and this is the N-th time here.
#[cfg(feature = "failpoints")]
pub fn hit(name: &'static str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static HITS: AtomicU32 = AtomicU32::new(0);
    debug_assert!(ALL.iter().chain(REKEY).any(|known| *known == name), "{name} is not listed");
    let Ok(wanted) = std::env::var("KEYWHEEL_FAILPOINT") else { return };
    let (wanted, count) = wanted.split_once(':').unwrap_or((wanted.as_str(), "1"));
    if wanted == name && HITS.fetch_add(1, Ordering::SeqCst) + 1 >= count.parse().unwrap_or(1) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_name: &'static str) {}
