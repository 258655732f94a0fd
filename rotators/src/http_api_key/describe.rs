//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Step, Strategy};

use crate::declare::{choice, file, port, required, text, trust};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let mut target = vec![
        required(text("host", "name or address of the service")),
        port("443", "its port"),
        choice("tls", &["required", "disabled"], "whether it is spoken to over TLS"),
        required(file("service", "the file that describes the service's requests, in TOML")),
    ];
    target.extend(trust());
    Description {
        kind: "http-api-key".to_owned(),
        summary: "API keys of any service that makes, lists and revokes them over HTTP".to_owned(),
        origin: Origin::Theirs,
        overlap: Overlap::Both,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Overlap, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Rehearse],
        target,
        credential: vec![
            text("account", "whose keys they are, for services where they belong to an account"),
            text("extra", "a further name that the service's requests need, such as an organisation"),
        ],
    }
}
