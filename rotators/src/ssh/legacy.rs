//! Which algorithms a host is spoken to with, and what belongs to the time of SHA-1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh2::MethodType;

/// Algorithms of the last ten years, by what they are for. Those before, with SHA-1 and CBC, need a reason.
pub(super) const MODERN: &[(MethodType, &str)] = &[
    (
        MethodType::Kex,
        "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,\
         diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,\
         diffie-hellman-group14-sha256",
    ),
    (MethodType::CryptCs, "aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"),
    (MethodType::CryptSc, "aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"),
    (MethodType::MacCs, "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512"),
    (MethodType::MacSc, "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512"),
    // What an RSA key of an account signs with.
    (MethodType::SignAlgo, "rsa-sha2-512,rsa-sha2-256"),
];

/// Types of host keys, each asked for by itself when the one that the host prefers is not known here.
pub(super) const HOST_KEYS: &[&str] = &[
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
    "rsa-sha2-512,rsa-sha2-256",
];

/// The first OpenSSH that takes an RSA key's signature with SHA-2.
const RSA_WITH_SHA2: (u32, u32) = (7, 2);

/// Where the type of an RSA key without a passphrase ends in OpenSSH's format, in characters of base64.
const TYPE_ENDS: usize = 72;

/// Whether the host is an OpenSSH before RSA with SHA-2. It does not say so either, and the library signs with SHA-1 then.
pub(super) fn knows_no_sha2(banner: &str) -> bool {
    let version = banner.split_once("-OpenSSH_").and_then(|(_, version)| version.split_once('.'));
    let version = version.and_then(|(major, rest)| {
        let minor = rest.split(|at: char| !at.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    version.is_some_and(|version: (u32, u32)| version < RSA_WITH_SHA2)
}

/// Whether it is an RSA key. In OpenSSH's format the type stands in front, before anything secret; a key in another format may be one
/// unless it says what it is.
pub(super) fn may_be_rsa(key: &str) -> bool {
    let Some(body) = key.trim_start().strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----") else {
        return !key.contains("BEGIN EC PRIVATE KEY");
    };
    let front: String = body.chars().filter(|at| !at.is_ascii_whitespace()).take(TYPE_ENDS).collect();
    STANDARD.decode(front).is_ok_and(|front| front.ends_with(b"ssh-rsa"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_openssh_before_rsa_with_sha2_is_known_by_its_banner() {
        for old in ["SSH-2.0-OpenSSH_7.1p2 Debian-1", "SSH-2.0-OpenSSH_6.6.1", "SSH-1.99-OpenSSH_4.3"] {
            assert!(knows_no_sha2(old), "{old}");
        }
        for other in ["SSH-2.0-OpenSSH_7.2", "SSH-2.0-OpenSSH_10.0p2 x", "SSH-2.0-dropbear_2014.63", "SSH-2.0-OpenSSH_"]
        {
            assert!(!knows_no_sha2(other), "{other}");
        }
    }

    #[test]
    fn a_key_says_in_front_whether_it_is_rsa() {
        let begins = |line: &str| may_be_rsa(&format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{line}"));
        let none = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAA";
        assert!(begins(&format!("{none}lwAAAAdzc2gtcn\nNhAAAAAwEAAQAA")));
        assert!(!begins(&format!("{none}MwAAAAtzc2gtZW\nQyNTUxOQAAACAA")));
        assert!(
            may_be_rsa("-----BEGIN RSA PRIVATE KEY-----\nMII") && !may_be_rsa("-----BEGIN EC PRIVATE KEY-----\nMII")
        );
    }
}
