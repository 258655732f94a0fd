//! Keys made for one lease (`ephemeral`), and revoked when it ends.
//!
//! A lease may end before it is known whether its key was made, and a key's value is in one answer only. So the label comes
//! from the lease's name, which every step is told, instead of from the rotation.

use aws_lc_rs::digest::{SHA256, digest};
use keywheel_protocol::{Reply, Request};

use super::keys::Keys;
use super::{retire, sweep};
use crate::settings::Leased;
use crate::step::noted;

/// What labels are written in, as the tokens of rotations are.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The length of one without what it begins with: 130 bits.
const LABEL_LETTERS: usize = 26;

/// What the lease's key is labelled with: of the shape and length of a token.
pub(super) fn label(leased: &Leased<'_>) -> String {
    let digest = digest(&SHA256, leased.account.as_bytes());
    let letters =
        digest.as_ref().iter().filter_map(|byte| LETTERS.get(usize::from(byte & 31)).map(|&byte| char::from(byte)));
    "kw-".chars().chain(letters.take(LABEL_LETTERS)).collect()
}

/// Revokes the lease's key, and any that a lost answer has left.
pub(super) async fn end(request: &Request, keys: &Keys<'_>, leased: &Leased<'_>) -> Result<Reply, Reply> {
    let known = request.subject.as_ref().is_some_and(|subject| subject.get("key").is_some());
    let reply = if known { retire(request, keys).await? } else { Reply::yes() };
    match sweep(keys, &label(leased)).await? {
        0 => Ok(reply),
        strays => Ok(noted(Some(format!("{strays} key of this lease, whose value was not known, was revoked")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_leases_own_and_looks_like_a_token() {
        let of = |account| label(&Leased { model: "app", account, expires_at: None, expires_in_s: None });
        assert_eq!(of("app_k3vq"), of("app_k3vq"));
        assert_ne!(of("app_k3vq"), of("app_k3vr"));
        let label = of("app_k3vq");
        assert_eq!(label.len(), 29);
        assert!(label.bytes().all(|byte| byte == b'-' || LETTERS.contains(&byte)), "{label}");
    }
}
