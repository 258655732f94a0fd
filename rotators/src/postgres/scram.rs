//! The SCRAM-SHA-256 verifier that PostgreSQL stores instead of a password.
//!
//! RFC 5802, section 3, with SHA-256 (RFC 7677), in PostgreSQL's notation
//! (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>):
//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

/// PostgreSQL's own default; RFC 7677 asks for no less.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
const SALT_BYTES: usize = 16;

/// A verifier of `password` with a fresh salt.
///
/// # Errors
/// The system's generator gave no random bytes.
pub(super) fn verifier(password: &Secret) -> Result<String, getrandom::Error> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    Ok(with_salt(password, &salt))
}

fn with_salt(password: &Secret, salt: &[u8]) -> String {
    let mut salted = Zeroizing::new([0; digest::SHA256_OUTPUT_LEN]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.expose().as_bytes(), salted.as_mut_slice());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let [salt, stored_key, server_key] =
        [salt, stored_key.as_ref(), server_key.as_ref()].map(|b| BASE64_STANDARD.encode(b));
    format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored_key}:{server_key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_the_one_of_rfc_7677s_example() {
        // Section 3: user `user`, password `pencil`, this salt; the keys follow from the exchange printed there.
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        assert_eq!(
            with_salt(&Secret::new("pencil".into()), &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn each_verifier_has_a_salt_of_its_own() {
        let password = Secret::new("pencil".into());
        assert_ne!(verifier(&password).expect("made"), verifier(&password).expect("made"));
    }
}
