//! RC2 in CBC mode, as stores of Windows and OpenSSL 1 hide certificates: with 40 bits it hides nothing, but is the format.

use rc2::Rc2;
use rc2::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt};
use zeroize::Zeroizing;

const BLOCK_BYTES: usize = 8;

/// Pads and encrypts.
pub(super) fn encrypt(key: &[u8], iv: &[u8], mut data: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let cipher = Rc2::new_with_eff_key_len(key, key.len() * 8);
    let padding = BLOCK_BYTES - data.len() % BLOCK_BYTES;
    let length = data.len() + padding;
    // Eight at most.
    data.resize(length, u8::try_from(padding).unwrap_or_default());
    let mut before: [u8; BLOCK_BYTES] = iv.try_into().unwrap_or_default();
    for block in data.chunks_exact_mut(BLOCK_BYTES) {
        block.iter_mut().zip(before).for_each(|(byte, other)| *byte ^= other);
        let mut whole = Array::from(<[u8; BLOCK_BYTES]>::try_from(&*block).unwrap_or_default());
        cipher.encrypt_block(&mut whole);
        block.copy_from_slice(&whole);
        before = whole.into();
    }
    data
}

/// Decrypts and takes the padding off. Nothing if there is none.
pub(super) fn decrypt(key: &[u8], iv: &[u8], mut data: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    if data.is_empty() || !data.len().is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    let cipher = Rc2::new_with_eff_key_len(key, key.len() * 8);
    let mut before: [u8; BLOCK_BYTES] = iv.try_into().ok()?;
    for block in data.chunks_exact_mut(BLOCK_BYTES) {
        let sealed = <[u8; BLOCK_BYTES]>::try_from(&*block).ok()?;
        let mut whole = Array::from(sealed);
        cipher.decrypt_block(&mut whole);
        block.copy_from_slice(&whole);
        block.iter_mut().zip(before).for_each(|(byte, other)| *byte ^= other);
        before = sealed;
    }
    let padding = usize::from(*data.last()?);
    let length = data.len().checked_sub(padding)?;
    let padded =
        (1..=BLOCK_BYTES).contains(&padding) && data.get(length..)?.iter().all(|byte| usize::from(*byte) == padding);
    data.truncate(length);
    padded.then_some(data)
}
