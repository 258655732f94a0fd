//! Passwords that nobody knows, for accounts that are out of turn.

use keywheel_protocol::{Reply, Secret};
use zeroize::Zeroizing;

/// 128 random bits and one character of each class, for targets that ask for them.
///
/// # Errors
/// No randomness; nothing was changed.
pub(crate) fn password() -> Result<Secret, Reply> {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    getrandom::fill(&mut bytes[..]).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
    let mut text = String::with_capacity(40);
    for byte in bytes.iter() {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push_str("-Aa1");
    Ok(Secret::new(text))
}
