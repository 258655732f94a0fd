//! Who may fetch what. Pure: facts about the caller in, a decision out. Deny by default.

mod caller;
mod glob;
mod grants;

pub use caller::{Caller, Needs};
pub use grants::{Decision, GrantError, GrantSpec, Grants};
