//! The hash of `caching_sha2_password`: `$A$`, rounds in thousands as three hexadecimal digits, `$`, 20 characters of salt and
//! SHA-256-crypt (Drepper, "Unix crypt using SHA-256 and SHA-512") in 43 more (`sql/auth/sha2_password.cc` of MySQL).
//!
//! Written out here since libraries cut the salt at crypt's 16 characters, and MySQL does not.

use aws_lc_rs::digest::{Context, SHA256};
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

/// The digits of crypt, by value.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SALT_BYTES: usize = 20;
/// Rounds in thousands: what MySQL 8 does unless it is told otherwise.
const THOUSANDS: u32 = 5;
const DIGEST_BYTES: usize = 32;
/// Which bytes of the digest stand in each group of four characters; the last two make three characters.
const ORDER: [[usize; 3]; 10] = [
    [0, 10, 20],
    [21, 1, 11],
    [12, 22, 2],
    [3, 13, 23],
    [24, 4, 14],
    [15, 25, 5],
    [6, 16, 26],
    [27, 7, 17],
    [18, 28, 8],
    [9, 19, 29],
];

/// A hash of the password with a fresh salt.
///
/// # Errors
/// The operating system gave no random bytes.
pub(super) fn hash(password: &Secret) -> Result<String, getrandom::Error> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt)?;
    salt.iter_mut().for_each(|byte| *byte = DIGITS[usize::from(*byte % 64)]);
    let crypted = crypt(password.expose().as_bytes(), &salt, THOUSANDS * 1000);
    Ok(format!("$A${THOUSANDS:03X}${}{crypted}", String::from_utf8_lossy(&salt)))
}

fn crypt(password: &[u8], salt: &[u8], rounds: u32) -> String {
    let beside = sha256(&[password, salt, password]);
    let mut context = Context::new(&SHA256);
    context.update(password);
    context.update(salt);
    context.update(&repeated(beside.as_ref(), password.len()));
    let mut bits = password.len();
    while bits > 0 {
        context.update(if bits & 1 == 1 { &beside[..] } else { password });
        bits >>= 1;
    }
    let mut running = bytes(context);
    let of_password = repeated(&many(password, password.len())[..], password.len());
    let of_salt = repeated(&many(salt, 16 + usize::from(running[0]))[..], salt.len());
    for round in 0..rounds {
        let mut context = Context::new(&SHA256);
        let odd = round % 2 == 1;
        context.update(if odd { &of_password } else { &running[..] });
        if round % 3 != 0 {
            context.update(&of_salt);
        }
        if round % 7 != 0 {
            context.update(&of_password);
        }
        context.update(if odd { &running[..] } else { &of_password });
        running = bytes(context);
    }
    encoded(&running)
}

fn encoded(digest: &[u8; DIGEST_BYTES]) -> String {
    let mut text = String::with_capacity(43);
    let mut put = |bits: u32, characters: u32| {
        (0..characters).for_each(|place| text.push(char::from(DIGITS[(bits >> (6 * place)) as usize & 63])));
    };
    for [high, middle, low] in ORDER {
        put(u32::from(digest[high]) << 16 | u32::from(digest[middle]) << 8 | u32::from(digest[low]), 4);
    }
    put(u32::from(digest[31]) << 8 | u32::from(digest[30]), 3);
    text
}

/// The digest of `text` written `times` times.
fn many(text: &[u8], times: usize) -> Zeroizing<[u8; DIGEST_BYTES]> {
    let mut context = Context::new(&SHA256);
    (0..times).for_each(|_| context.update(text));
    bytes(context)
}

/// `digest` again and again, up to `length` bytes.
fn repeated(digest: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(digest.iter().copied().cycle().take(length).collect())
}

fn sha256(parts: &[&[u8]]) -> Zeroizing<[u8; DIGEST_BYTES]> {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    bytes(context)
}

fn bytes(context: Context) -> Zeroizing<[u8; DIGEST_BYTES]> {
    let mut bytes = Zeroizing::new([0; DIGEST_BYTES]);
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_servers() {
        // What MySQL 9.7.4 made of the password `one`, with 10,000 rounds.
        let salt = b"v4Y\x0f/I\x1e04e L]9#-by\x01e";
        assert_eq!(crypt(b"one", salt, 10_000), "juBcSwXzKJL.m7hij1fyEODh/POlhMvFnlbxtXsg/j7");
    }

    #[test]
    fn each_hash_has_its_own_salt_and_the_form_of_the_server() {
        let password = Secret::new("x".repeat(100));
        let [one, two] = [0, 1].map(|_| hash(&password).expect("random bytes"));
        assert_ne!(one, two);
        assert!(one.starts_with("$A$005$") && one.len() == 70, "{one}");
    }
}
