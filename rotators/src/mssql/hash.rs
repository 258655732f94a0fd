//! The hash that SQL Server keeps since 2012: 0x0200, a salt of four bytes, and SHA-512 of the password in UTF-16 with the salt.

use aws_lc_rs::digest::{SHA512, digest};
use keywheel_protocol::{Reply, Secret};
use zeroize::Zeroizing;

/// The hash as a constant of Transact-SQL, with a fresh salt.
///
/// # Errors
/// No randomness; nothing was changed.
pub(super) fn hashed(password: &Secret) -> Result<String, Reply> {
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).map_err(|error| Reply::not_reached(format!("nothing was changed: {error}")))?;
    Ok(with(password, salt))
}

fn with(password: &Secret, salt: [u8; 4]) -> String {
    let mut bytes: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::with_capacity(password.expose().len() * 2 + salt.len()));
    for unit in password.expose().encode_utf16() {
        bytes.extend(unit.to_le_bytes());
    }
    bytes.extend(salt);
    let mut text = String::from("0x0200");
    for byte in salt.iter().chain(digest(&SHA512, &bytes).as_ref()) {
        text.push_str(&format!("{byte:02X}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_servers() {
        // The example for "MSSQL (2012, 2014)" among hashcat's example hashes, mode 1731.
        let example = "0x02000102030434EA1B17802FD95EA6316BD61D2C94622CA3812793E8FB1672487B5C904A45A31B2AB4A78890D563D2FC\
                       F5663E46FE797D71550494BE50CF4915D3F4D55EC375";
        assert_eq!(with(&Secret::new("hashcat".into()), [1, 2, 3, 4]), example);
    }
}
