//! The sockets: hand-out and systemd's, the server that control shares, and who is on the other end of them.

pub mod handout;
pub mod peer;
mod proc;
pub mod server;
pub mod systemd;
