//! SSH key pairs of the types that the daemon has no library for: RSA, which servers before OpenSSH 5.7 take alone, and
//! ECDSA. They are made in the cage like everything else here, and nothing of them is kept.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::{Fields, Reason, Reply, Secret, Yes};
use zeroize::Zeroizing;

use crate::ssh::wire::{put, put_number};

/// A type of key pair.
enum Form {
    Rsa(KeySize),
    /// The name of the type, and of the curve (RFC 5656, section 10.1).
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static str, &'static str),
}

/// A pair as OpenSSH's file of a private key has it, without its frame: the public part, and of the private part what stands
/// between the check bytes and the comment.
struct Parts {
    public: Vec<u8>,
    private: Zeroizing<Vec<u8>>,
}

/// A pair of the type `name`, `rsa-2048`, `rsa-3072`, `rsa-4096`, `ecdsa-256`, `ecdsa-384` or `ecdsa-521`: the fields
/// `public` and `private` in base64 are the two parts of OpenSSH's file of a private key.
pub(crate) fn reply(name: &str) -> Reply {
    let form = match name {
        "rsa-2048" => Form::Rsa(KeySize::Rsa2048),
        "rsa-3072" => Form::Rsa(KeySize::Rsa3072),
        "rsa-4096" => Form::Rsa(KeySize::Rsa4096),
        "ecdsa-256" => Form::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "ecdsa-sha2-nistp256", "nistp256"),
        "ecdsa-384" => Form::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ecdsa-sha2-nistp384", "nistp384"),
        "ecdsa-521" => Form::Ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING, "ecdsa-sha2-nistp521", "nistp521"),
        _ => return Reply::no(Reason::Unsupported, format!("no key pair is called {name:?}")),
    };
    let parts = match form {
        Form::Rsa(size) => rsa(size),
        Form::Ecdsa(algorithm, kind, curve) => ecdsa(algorithm, kind, curve),
    };
    match parts {
        Ok(parts) => {
            let mut fields = Fields::new();
            fields.insert("public", Secret::new(STANDARD.encode(&parts.public)));
            fields.insert("private", Secret::new(STANDARD.encode(&*parts.private)));
            Reply::Yes(Yes { fields: Some(fields), ..Yes::default() })
        }
        Err(Unspecified) => Reply::not_reached("the library made no key pair"),
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, kind: &str, curve: &str) -> Result<Parts, Unspecified> {
    let pair = EcdsaKeyPair::generate(algorithm)?;
    let number: EcPrivateKeyBin = pair.private_key().as_be_bytes()?;
    let mut public = Vec::new();
    for part in [kind.as_bytes(), curve.as_bytes(), pair.public_key().as_ref()] {
        put(&mut public, part);
    }
    // Room for all of it: what a vector grows out of is not wiped.
    let mut private = Zeroizing::new(Vec::with_capacity(public.len() + 128));
    private.extend_from_slice(&public);
    put_number(&mut private, number.as_ref());
    Ok(Parts { public, private })
}

fn rsa(size: KeySize) -> Result<Parts, Unspecified> {
    let pair = RsaPair::generate(size)?;
    let document: Pkcs8V1Der = pair.as_der()?;
    let [n, e, d, p, q, inverse] = numbers(document.as_ref()).ok_or(Unspecified)?;
    let mut public = Vec::new();
    put(&mut public, b"ssh-rsa");
    put_number(&mut public, e);
    put_number(&mut public, n);
    let mut private = Zeroizing::new(Vec::with_capacity(5 * n.len()));
    put(&mut private, b"ssh-rsa");
    for number in [n, e, d, inverse, p, q] {
        put_number(&mut private, number);
    }
    Ok(Parts { public, private })
}

/// n, e, d, p, q and the inverse of q of an RSA key in PKCS#8 (RFC 5208, section 5; RFC 8017, appendix A.1.2).
fn numbers(mut document: &[u8]) -> Option<[&[u8]; 6]> {
    const INTEGER: u8 = 0x02;
    const OCTETS: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let mut info = element(&mut document, SEQUENCE)?;
    let (_version, _algorithm) = (element(&mut info, INTEGER)?, element(&mut info, SEQUENCE)?);
    let mut key = element(&mut info, OCTETS)?;
    let mut key = element(&mut key, SEQUENCE)?;
    let mut number = || element(&mut key, INTEGER);
    let _version = number()?;
    let (n, e, d, p, q) = (number()?, number()?, number()?, number()?, number()?);
    let (_d_p, _d_q) = (number()?, number()?);
    Some([n, e, d, p, q, number()?])
}

/// Takes an element of this tag off the front of a document in DER (X.690): its contents.
fn element<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (head, rest) = from.split_first_chunk::<2>()?;
    let (length, rest) = match *head {
        [found, _] if found != tag => return None,
        [_, short @ 0..=0x7f] => (usize::from(short), rest),
        [_, long] => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(digits, _)| digits.len() <= 3)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_document_is_not_read_past_its_end() {
        let pair = RsaPair::generate(KeySize::Rsa2048).expect("a pair");
        let document: Pkcs8V1Der = pair.as_der().expect("a document");
        let whole = document.as_ref();
        assert_eq!(numbers(whole).expect("numbers")[1], [1, 0, 1]);
        assert!((0..whole.len()).all(|length| numbers(&whole[..length]).is_none()));
        assert!(element(&mut [0x30, 0x84, 1, 1, 1, 1].as_slice(), 0x30).is_none());
    }

    #[test]
    fn a_type_that_is_not_known_is_named() {
        let Reply::No { message, .. } = reply("rsa-1024") else { panic!("made") };
        assert!(message.contains("rsa-1024"), "{message}");
    }
}
