//! The words that keywheel and its rotators share: [`Secret`], the [`message`]s of the line protocol,
//! and the three-valued [`Reply`].
//!
//! Both sides of the pipe link this crate and nothing of each other. The protocol itself is described for authors of
//! rotators in `rotators/PROTOCOL.md`.

mod describe;
mod message;
mod permissions;
mod secret;
mod wire;

pub use describe::{Access, Description, Makes, Origin, Overlap, Setting, SettingKind, Strategy};
pub use message::{Account, By, Lockout, Login, Reason, Reply, Request, Step, Yes};
pub use permissions::Permissions;
pub use secret::{Fields, Secret};
pub use wire::{
    LINE_BYTES_MAX, WireError, decode_fields, decode_reply, decode_request, encode_fields, encode_reply, encode_request,
};

/// The version of the line protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;
