//! AWS Signature Version 4, and the password for SES that is derived in the same way.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>. Written out here: the
//! SDK's own crate brings its runtime and a second set of HTTP types along for these few lines.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_protocol::Secret;
use zeroize::Zeroizing;

/// The end of each scope, and of each chain of keys.
const TERMINATOR: &str = "aws4_request";

/// What is signed. Headers are in the order of their names, which are in lower case.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    /// As `20150830T123600Z`.
    pub(super) time: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Signed<'_> {
    /// The value of the header `Authorization`.
    pub(super) fn authorization(&self, access_key_id: &str, secret: &Secret) -> String {
        let date = self.time.get(..8).unwrap_or_default();
        let scope = format!("{date}/{}/{}/{TERMINATOR}", self.region, self.service);
        let names = self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let body = hex(digest(&SHA256, self.body).as_ref());
        let canonical = format!("{}\n/\n{}\n{headers}\n{names}\n{body}", self.method, self.query);
        let canonical = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{canonical}", self.time);
        let signature = hex(&chain(secret, &[date, self.region, self.service, TERMINATOR, &to_sign]));
        format!("AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

/// The password for the SMTP service of SES, as
/// <https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html> derives it; date and version are constants there.
pub(super) fn smtp_password(secret: &Secret, region: &str) -> Secret {
    let signature = chain(secret, &["11111111", region, "ses", TERMINATOR, "SendRawEmail"]);
    let versioned = Zeroizing::new([&[4_u8], &signature[..]].concat());
    Secret::new(STANDARD.encode(&versioned[..]))
}

/// Each part is authenticated by the key that the one before it gave.
fn chain(secret: &Secret, parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let first = Zeroizing::new(format!("AWS4{}", secret.expose()).into_bytes());
    parts.iter().fold(first, |key, part| {
        Zeroizing::new(hmac::sign(&hmac::Key::new(HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970 as `20150830T123600Z`.
pub(super) fn stamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days from 1970 on: years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + year_of_era + era * 400;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned())
    }

    #[test]
    fn the_signature_is_the_one_of_the_documentation() {
        // The worked example of the AWS General Reference, "Signature Version 4 signing process".
        let signed = Signed {
            method: "GET",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &[
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ],
            body: b"",
            time: "20150830T123600Z",
            region: "us-east-1",
            service: "iam",
        };
        assert_eq!(
            signed.authorization("AKIDEXAMPLE", &secret()),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn the_key_for_signing_is_the_one_of_the_documentation() {
        let key = chain(&secret(), &["20150830", "us-east-1", "iam", "aws4_request"]);
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn the_password_for_smtp_is_the_one_of_the_published_script() {
        let password = smtp_password(&secret(), "eu-central-1");
        assert_eq!(password.expose(), "BFq1bUleea4+YP7D6Lc6/NX08j1iw+oCCO7+eiXACxiK");
    }

    #[test]
    fn times_are_written_as_signatures_want_them() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(stamp(seconds), text);
        }
    }
}
