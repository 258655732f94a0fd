//! How PKCS#12 makes keys of pass phrases (RFC 7292, appendix B): for the check of the whole store, and for encryption in old
//! stores.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{Algorithm, Context};
use zeroize::Zeroizing;

/// What the bytes are for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Key = 1,
    Vector = 2,
    Mac = 3,
}

/// Fills `out`.
pub(super) fn derive(
    hash: &'static Algorithm,
    purpose: Use,
    passphrase: &str,
    salt: &[u8],
    iterations: NonZeroU32,
    out: &mut [u8],
) {
    let block = hash.block_len();
    // Characters of two bytes each, and a zero at the end.
    let mut password = Zeroizing::new(Vec::with_capacity(passphrase.len() * 2 + 2));
    password.extend(passphrase.encode_utf16().flat_map(u16::to_be_bytes));
    password.extend([0, 0]);
    let repeated = |bytes: &[u8]| bytes.len().div_ceil(block) * block;
    let (salt_length, password_length) = (repeated(salt), repeated(&password));
    let mut input = Zeroizing::new(Vec::with_capacity(salt_length + password_length));
    input.extend(salt.iter().cycle().take(salt_length));
    input.extend(password.iter().cycle().take(password_length));
    let diversifier = vec![purpose as u8; block];
    for piece in out.chunks_mut(hash.output_len()) {
        let mut first = Context::new(hash);
        first.update(&diversifier);
        first.update(&input);
        let mut digest = first.finish();
        for _ in 1..iterations.get() {
            digest = aws_lc_rs::digest::digest(hash, digest.as_ref());
        }
        piece.copy_from_slice(digest.as_ref().get(..piece.len()).unwrap_or_default());
        let added: Zeroizing<Vec<u8>> = Zeroizing::new(digest.as_ref().iter().copied().cycle().take(block).collect());
        for part in input.chunks_mut(block) {
            // The sum of both and one, as large numbers.
            let mut carry = 1;
            for (byte, more) in part.iter_mut().zip(added.iter()).rev() {
                let sum = u16::from(*byte) + u16::from(*more) + carry;
                let [high, low] = sum.to_be_bytes();
                (*byte, carry) = (low, u16::from(high));
            }
        }
    }
}
