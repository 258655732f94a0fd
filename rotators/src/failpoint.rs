//! Named points at which a crash test ends the worker. Without the feature `failpoints` none of this is compiled in.

/// Every point, for a test that loops over all of them.
pub const FAIL_POINTS: &[&str] = &[
    // The login worked, the change is about to be sent.
    "worker.apply.before",
    // The change took hold, the reply is about to be written.
    "worker.apply.after",
    "worker.verify.before",
    "worker.verify.after",
    // The old version is useless, the reply is about to be written.
    "worker.retire.after",
];

/// Arms a point. False if there is none of this name, or none at all in this build.
pub fn arm(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    if FAIL_POINTS.contains(&name) {
        return ARMED.set(name.to_owned()).is_ok();
    }
    let _ = name;
    false
}

/// Ends the process at once, without any cleaning up, if this point is armed.
pub(crate) fn hit(name: &str) {
    debug_assert!(FAIL_POINTS.contains(&name), "{name} is not in the table");
    #[cfg(feature = "failpoints")]
    if ARMED.get().is_some_and(|armed| armed == name) {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(feature = "failpoints")]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
