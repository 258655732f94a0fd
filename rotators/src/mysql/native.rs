//! The hash of `mysql_native_password`: `*` and SHA-1 of SHA-1 of the password, in capital hexadecimal digits
//! (`make_scrambled_password` in the server's `sql/password.c`). Weak, but what these accounts have. Logins are sqlx's, but
//! for accounts that have this method and another.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use keywheel_protocol::Secret;

/// The hash that the server would compute itself.
pub(super) fn hash(password: &Secret) -> String {
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.expose().as_bytes());
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    let mut text = String::from("*");
    for byte in twice.as_ref() {
        text.push_str(&format!("{byte:02X}"));
    }
    text
}

/// The answer to what the server draws for a login.
pub(super) fn answer(password: &Secret, nonce: &[u8]) -> Vec<u8> {
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password.expose().as_bytes());
    let mask = sha1(&[nonce, sha1(once.as_ref()).as_ref()].concat());
    once.as_ref().iter().zip(mask.as_ref()).map(|(byte, mask)| byte ^ mask).collect()
}

/// Whether it has the form of one.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 41 && text.strip_prefix('*').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_servers() {
        // PASSWORD('password'), as the MySQL 5.7 manual shows it in "Password Hashing in MySQL".
        assert_eq!(hash(&Secret::new("password".into())), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
    }
}
