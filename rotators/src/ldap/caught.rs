//! The LDAP library takes some malformed answers for its own mistakes and panics. To this side they are no answer.

use std::future::poll_fn;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

/// What the library can't read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unreadable;

/// Runs to the end, or to a panic. What the future held is dropped with it; a connection is not used again afterwards.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Unreadable> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Err(Unreadable)),
    })
    .await
}

/// Has a panic name its place only: its words may quote what the server sent, as numbers that nothing could blot out.
pub(super) fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            // Standard error is for accidents, as this one.
            let _ = writeln!(std::io::stderr(), "an answer of the directory could not be read ({place})");
        }));
    });
}
