//! Sealing: keys derived per purpose, AES-256-GCM-SIV with the place as associated data, keyed hashes of names.
//!
//! GCM-SIV, since a store that is put back from a snapshot may draw a nonce again, and must survive it (RFC 8452).

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use zeroize::Zeroizing;

use super::error::StoreError;
use super::ops::Tree;
use crate::ids::CredentialName;

/// Bytes of an authentication tag.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes that sealing adds to a value.
pub(super) const SEAL_BYTES: usize = NONCE_LEN + TAG_BYTES;
/// The layout of sealed values; part of what is authenticated.
const SCHEMA: u8 = 1;

/// What a store is called inside its files: 16 random bytes.
pub(super) type StoreId = [u8; 16];
/// The authentication tag of a frame: what the next frame is chained to.
pub(super) type Digest = [u8; TAG_BYTES];
/// A name on disk: a keyed hash.
pub(super) type NameHash = [u8; 16];

/// The keys of one store, all derived from its store key. Wiped on drop by the library.
pub(super) struct Keys {
    store: StoreId,
    root: hkdf::Prk,
    record: LessSafeKey,
    secret: LessSafeKey,
    note: LessSafeKey,
    head: LessSafeKey,
    journal: LessSafeKey,
    names: hmac::Key,
}

impl Keys {
    /// The keys of the store `store`.
    pub(super) fn derive(store: StoreId, key: &[u8; 32]) -> Result<Self, StoreError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &store).extract(key);
        let cipher = |purpose| cipher(&expand(&root, "seal", purpose));
        Ok(Self {
            store,
            record: cipher("record")?,
            secret: cipher("secret")?,
            note: cipher("note")?,
            head: cipher("head")?,
            journal: cipher("journal")?,
            names: hmac::Key::new(hmac::HMAC_SHA256, &*expand(&root, "hash", "names")),
            root,
        })
    }

    /// The store these keys belong to.
    pub(super) fn store(&self) -> &StoreId {
        &self.store
    }

    /// 32 bytes for a purpose outside of the store.
    pub(super) fn for_purpose(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        expand(&self.root, "derived", purpose)
    }

    /// The name of a credential on disk.
    pub(super) fn hash_name(&self, name: &CredentialName) -> NameHash {
        self.hash("credential", name.as_str())
    }

    /// The name of a note on disk.
    pub(super) fn hash_note(&self, key: &str) -> NameHash {
        self.hash("note", key)
    }

    fn hash(&self, kind: &str, name: &str) -> NameHash {
        let mut context = hmac::Context::with_key(&self.names);
        for part in [kind, "\0", name] {
            context.update(part.as_bytes());
        }
        let mut short = NameHash::default();
        short.copy_from_slice(&context.sign().as_ref()[..16]);
        short
    }

    /// Seals `plain` for its place: nonce, ciphertext, tag.
    pub(super) fn seal(&self, tree: Tree, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut sealed = Zeroizing::new(vec![0; plain.len() + SEAL_BYTES]);
        let (nonce, rest) = sealed.split_at_mut(NONCE_LEN);
        let (text, tag) = rest.split_at_mut(plain.len());
        text.copy_from_slice(plain);
        seal_in_place(self.cipher(tree), &place(tree, key), nonce, text, tag)?;
        Ok(std::mem::take(&mut *sealed))
    }

    /// Opens what was sealed for this very place; `None` if it was not, or is damaged.
    pub(super) fn open(&self, tree: Tree, key: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(vec![0; sealed.len().checked_sub(SEAL_BYTES)?]);
        self.open_into(tree, key, sealed, &mut plain).then_some(plain)
    }

    /// The same into a buffer of the right length. After `false` nothing of it may be used.
    pub(super) fn open_into(&self, tree: Tree, key: &[u8], sealed: &[u8], plain: &mut [u8]) -> bool {
        if sealed.len() != plain.len() + SEAL_BYTES {
            return false;
        }
        let (nonce, rest) = sealed.split_at(NONCE_LEN);
        let (text, tag) = rest.split_at(plain.len());
        plain.copy_from_slice(text);
        open_in_place(self.cipher(tree), &place(tree, key), nonce, plain, tag)
    }

    /// Seals a part of the journal in place and fills in its nonce and tag.
    pub(super) fn seal_journal(
        &self,
        place: &[u8],
        nonce: &mut [u8],
        text: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), StoreError> {
        seal_in_place(&self.journal, place, nonce, text, tag)
    }

    /// Opens a part of the journal in place. After `false` nothing of `text` may be used.
    pub(super) fn open_journal(&self, place: &[u8], nonce: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
        open_in_place(&self.journal, place, nonce, text, tag)
    }

    fn cipher(&self, tree: Tree) -> &LessSafeKey {
        match tree {
            Tree::Secret => &self.secret,
            Tree::Note => &self.note,
            Tree::Head => &self.head,
            Tree::Record | Tree::Due | Tree::Flight => &self.record,
        }
    }
}

/// Wraps the store key by the master key; `place` says which store's.
pub(super) fn wrap(master: &[u8; 32], place: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
    let mut wrapped = vec![0; 32 + SEAL_BYTES];
    let (nonce, rest) = wrapped.split_at_mut(NONCE_LEN);
    let (text, tag) = rest.split_at_mut(32);
    text.copy_from_slice(key);
    seal_in_place(&cipher(master)?, place, nonce, text, tag)?;
    Ok(wrapped)
}

/// Undoes [`wrap`]; `None` if the master key is another one or the wrapped key is damaged.
pub(super) fn unwrap(
    master: &[u8; 32],
    place: &[u8],
    wrapped: &[u8],
) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
    if wrapped.len() != 32 + SEAL_BYTES {
        return Ok(None);
    }
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&wrapped[NONCE_LEN..NONCE_LEN + 32]);
    let opened =
        open_in_place(&cipher(master)?, place, &wrapped[..NONCE_LEN], &mut key[..], &wrapped[NONCE_LEN + 32..]);
    Ok(opened.then_some(key))
}

/// Fills `bytes` from the library's generator.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    rand::fill(bytes).map_err(|_| StoreError::Crypto { doing: "draw random bytes" })
}

/// Where a value is at home: the schema, the tree and the key (which holds the version of a secret).
fn place(tree: Tree, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(48);
    place.extend_from_slice(b"keywheel tree\0");
    place.extend_from_slice(&[SCHEMA, tree as u8]);
    place.extend_from_slice(key);
    place
}

fn expand(root: &hkdf::Prk, kind: &str, purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    root.expand(&[b"keywheel 1\0", kind.as_bytes(), b"\0", purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut key[..]))
        .expect("HKDF gives up to 255 blocks, and this is one");
    key
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, StoreError> {
    let key = UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| StoreError::Crypto { doing: "take a key" })?;
    Ok(LessSafeKey::new(key))
}

fn seal_in_place(
    key: &LessSafeKey,
    place: &[u8],
    nonce: &mut [u8],
    text: &mut [u8],
    tag: &mut [u8],
) -> Result<(), StoreError> {
    let failed = |_| StoreError::Crypto { doing: "seal" };
    random(nonce)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(failed)?;
    let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(place), text).map_err(failed)?;
    tag.copy_from_slice(sealed.as_ref());
    Ok(())
}

fn open_in_place(key: &LessSafeKey, place: &[u8], nonce: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
    let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return false };
    key.open_in_place_separate_tag(nonce, Aad::from(place), tag, text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::derive([1; 16], &[2; 32]).expect("derives")
    }

    #[test]
    fn a_sealed_value_opens_in_its_place_and_nowhere_else() {
        let keys = keys();
        let sealed = keys.seal(Tree::Secret, b"a", b"plain").expect("seals");
        assert_eq!(keys.open(Tree::Secret, b"a", &sealed).expect("opens").as_slice(), b"plain");
        assert!(keys.open(Tree::Secret, b"b", &sealed).is_none());
        assert!(keys.open(Tree::Record, b"a", &sealed).is_none());
        assert!(Keys::derive([3; 16], &[2; 32]).expect("derives").open(Tree::Secret, b"a", &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(Tree::Secret, b"a", &flipped).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(keys.open(Tree::Secret, b"a", &sealed[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn equal_values_look_different_each_time() {
        let keys = keys();
        assert_ne!(
            keys.seal(Tree::Note, b"a", b"x").expect("seals"),
            keys.seal(Tree::Note, b"a", b"x").expect("seals")
        );
    }

    #[test]
    fn a_credential_and_a_note_of_one_name_have_different_hashes() {
        let keys = keys();
        assert_ne!(keys.hash_name(&"audit".parse().expect("a name")), keys.hash_note("audit"));
    }

    #[test]
    fn each_purpose_has_its_own_key_and_keeps_it() {
        let keys = keys();
        assert_eq!(keys.for_purpose("audit"), keys.for_purpose("audit"));
        assert_ne!(keys.for_purpose("audit"), keys.for_purpose("backup"));
    }
}
