//! SSH key pairs in OpenSSH's own format (PROTOCOL.key of its sources), which every client of the last ten years reads.

use std::fmt;

use ed25519_compact::{KeyPair, Seed};
use keywheel_protocol::{Fields, Secret};
use zeroize::Zeroizing;

use super::{Random, draw};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Characters of base64 in a line, as ssh-keygen writes them.
const LINE: usize = 70;
/// The length that unencrypted private parts are padded to a multiple of.
const BLOCK: usize = 8;
/// The longest private key that is read, in bytes: RSA of 16,384 bits has less.
const KEY_BYTES_MAX: usize = 16 << 10;

/// A type of key pair that this process has no library for; a worker makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairType {
    /// RSA with that many bits: 2048, 3072 or 4096.
    Rsa(u32),
    /// ECDSA on the curve of NIST with that many bits: 256, 384 or 521.
    Ecdsa(u32),
}

impl PairType {
    /// What `keywheel-rotator key-pair` calls it.
    pub fn name(self) -> String {
        match self {
            Self::Rsa(bits) => format!("rsa-{bits}"),
            Self::Ecdsa(bits) => format!("ecdsa-{bits}"),
        }
    }

    /// What finding the private key costs, in bits: NIST SP 800-57 part 1, table 2, and for the sizes that are not in it the
    /// formula of FIPS 140-2's implementation guidance, section 7.5.
    pub(super) fn strength_bits(self) -> f64 {
        match self {
            Self::Rsa(..=2048) => 112.0,
            Self::Rsa(..=3072) => 128.0,
            Self::Rsa(_) => 152.0,
            Self::Ecdsa(bits) => f64::from(bits / 2),
        }
    }

    /// The secret of a pair whose two parts a worker has made, `public` and `private` in base64: `private_key` and
    /// `public_key`. None if it is another type than this.
    pub fn fields(self, parts: &Fields, random: Random<'_>) -> Option<Fields> {
        let [public, private] = ["public", "private"].map(|part| draw::from_base64(parts.get(part)?.expose()));
        let (public, private) = (public?, private?);
        let expected = match self {
            Self::Rsa(_) => "ssh-rsa".to_owned(),
            Self::Ecdsa(bits) => format!("ecdsa-sha2-nistp{bits}"),
        };
        let of_type = |part: &[u8]| take(part).is_some_and(|(kind, _)| kind == expected.as_bytes());
        (of_type(&public) && of_type(&private)).then(|| pair(&public, &private, random))
    }
}

impl fmt::Display for PairType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::Ecdsa(bits) => write!(f, "ECDSA P-{bits}"),
        }
    }
}

/// Draws an Ed25519 pair (RFC 8709; OpenSSH 6.5 of 2014 and later): `private_key` and `public_key`.
pub(super) fn key_pair(random: Random<'_>) -> Fields {
    let mut secret = Zeroizing::new([0; 32]);
    random(&mut *secret);
    // aws-lc-rs could do it, and would make the daemon larger by a sixth.
    let key = *KeyPair::from_seed(Seed::new(*secret)).pk;
    let (mut public, mut private) = (Vec::new(), Zeroizing::new(Vec::with_capacity(256)));
    put(&mut public, b"ssh-ed25519");
    put(&mut public, &key);
    private.extend_from_slice(&public);
    put(&mut private, &Zeroizing::new([*secret, key].concat()));
    pair(&public, &private, random)
}

fn pair(public: &[u8], private: &[u8], random: Random<'_>) -> Fields {
    let mut fields = Fields::new();
    fields.insert("private_key", armour(public, private, random));
    fields.insert("public_key", Secret::new(line(public)));
    fields
}

/// The key file without a passphrase.
fn armour(public: &[u8], private: &[u8], random: Random<'_>) -> Secret {
    let mut check = [0; 4];
    random(&mut check);
    let mut section = Zeroizing::new(Vec::with_capacity(private.len() + 32));
    section.extend_from_slice(&check);
    section.extend_from_slice(&check);
    section.extend_from_slice(private);
    // No comment: it would have to change with the account.
    put(&mut section, b"");
    let padding = (1..).take((BLOCK - section.len() % BLOCK) % BLOCK);
    section.extend(padding);
    let mut file = Zeroizing::new(Vec::with_capacity(public.len() + section.len() + 64));
    file.extend_from_slice(MAGIC);
    for nothing in [b"none".as_slice(), b"none", b""] {
        put(&mut file, nothing);
    }
    file.extend_from_slice(&1_u32.to_be_bytes());
    put(&mut file, public);
    put(&mut file, &section);
    let digits = draw::to_base64(&file);
    let mut text = Zeroizing::new(String::with_capacity(digits.len() + digits.len() / LINE + 128));
    text.push_str(BEGIN);
    for (index, digit) in digits.chars().enumerate() {
        if index % LINE == 0 {
            text.push('\n');
        }
        text.push(digit);
    }
    text.push('\n');
    text.push_str(END);
    text.push('\n');
    Secret::new(std::mem::take(&mut *text))
}

/// The line of `authorized_keys` for a public blob.
fn line(public: &[u8]) -> String {
    let kind = String::from_utf8_lossy(take(public).map_or(b"", |(kind, _)| kind)).into_owned();
    format!("{kind} {}", *draw::to_base64(public))
}

/// The `public_key` of a private key in OpenSSH's format.
///
/// # Errors
/// What is wrong with the key, and what to do.
pub fn public_key(private: &Secret) -> Result<Secret, &'static str> {
    let text = private.expose();
    if text.len() > KEY_BYTES_MAX {
        return Err("the key is longer than any that is known");
    }
    let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body =
        body.ok_or("it is no private key in OpenSSH's format; `ssh-keygen -p -N '' -f FILE` turns others into it")?;
    let file = draw::from_base64(body).ok_or("the key is damaged")?;
    let damaged = "the key is damaged";
    let rest = file.strip_prefix(MAGIC).ok_or(damaged)?;
    let (cipher, rest) = take(rest).ok_or(damaged)?;
    let (_, rest) = take(rest).ok_or(damaged)?;
    let (_, rest) = take(rest).ok_or(damaged)?;
    if cipher != b"none" {
        return Err("the key has a passphrase; take it off with `ssh-keygen -p -N '' -f FILE`: the store encrypts it");
    }
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(damaged)?;
    let (public, _) = take(rest).filter(|_| *count == 1_u32.to_be_bytes()).ok_or(damaged)?;
    take(public).ok_or(damaged)?;
    Ok(Secret::new(line(public)))
}

/// Appends a string of RFC 4251: its length in four bytes, and itself.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// Takes a string of RFC 4251 off the front.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) {
        let mut next = 1_u8;
        move |bytes: &mut [u8]| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_mul(5).wrapping_add(3);
            }
        }
    }

    /// What ssh-keygen makes of a private key.
    fn keygen(private: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, private).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        let output = Command::new("ssh-keygen").args(["-y", "-f"]).arg(&path).output().expect("ssh-keygen runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    #[test]
    fn ssh_keygen_reads_the_pairs_and_gives_the_same_public_key() {
        let mut random = counting();
        let mut before = String::new();
        for _ in 0..6 {
            let pair = key_pair(&mut random);
            let [private, public] = ["private_key", "public_key"].map(|name| pair.get(name).expect(name));
            assert_eq!(keygen(private.expose()), public.expose());
            assert_eq!(public_key(private).expect("its public key").expose(), public.expose());
            assert_ne!(before, public.expose());
            public.expose().clone_into(&mut before);
        }
    }

    #[test]
    fn what_is_no_usable_key_is_told_with_the_remedy() {
        let mut random = counting();
        let pair = key_pair(&mut random);
        let good = pair.get("private_key").expect("a key").expose().to_owned();
        let said = |text: String| public_key(&Secret::new(text)).expect_err("refused");
        assert!(said("hunter2".to_owned()).contains("ssh-keygen -p"));
        assert!(said(good.replace('b', "!")).contains("damaged"));
        assert!(said(format!("{BEGIN}\n{END}")).contains("damaged"));
        for length in (0..good.len()).step_by(7) {
            let cut = format!("{}\n{END}\n", &good[..length]);
            assert!(public_key(&Secret::new(cut)).is_err() || length > 150, "{length}");
        }
        assert!(said("x".repeat(KEY_BYTES_MAX + 1)).contains("longer"));
    }
}
