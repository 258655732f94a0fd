//! The sockets: hand-out, control and systemd, and who is on the other end of them.
