//! The sockets: hand-out and systemd's, the server that control shares, and who is on the other end of them.

mod answer;
mod exe;
pub mod handout;
mod lease;
pub mod listen;
pub mod peer;
mod places;
mod proc;
mod refusals;
pub mod server;
mod stop;
pub mod systemd;
#[cfg(test)]
mod tests;
mod views;
mod wire;

pub use lease::{CALLS_MAX, LeaseCall};
pub use proc::sees_executables;
pub use stop::Stop;
