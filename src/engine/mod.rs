//! The one loop that changes state: events in, commits, effects out.

pub mod admission;
pub mod breaker;
