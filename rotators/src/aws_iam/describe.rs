//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Step, Strategy};

use crate::declare::{choice, default, port, required, text, trust};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let mut target = vec![
        default("iam.amazonaws.com", text("host", "name of the IAM endpoint")),
        text("sts_host", "name of the STS endpoint: the region's own if absent, or host where that is set"),
        port("443", "the port of both"),
        choice("tls", &["required", "disabled"], "whether they are spoken to over TLS"),
        default(
            "us-east-1",
            text("region", "the region that requests are signed for; IAM of the main partition has one"),
        ),
    ];
    target.extend(trust());
    Description {
        kind: "aws-iam".to_owned(),
        summary: "Access keys of IAM users in AWS".to_owned(),
        origin: Origin::Theirs,
        overlap: Overlap::Both,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Overlap],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target,
        credential: vec![
            required(text("account", "the IAM user")),
            text(
                "smtp_region",
                "derive the password for the SMTP service of SES in this region as well: field smtp_password",
            ),
        ],
    }
}
