//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, SettingKind, Step, Strategy};

use crate::declare::{choice, default, port, required, setting, text, trust};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let mut target = vec![
        required(text("host", "name or address of the broker")),
        port("15671", "the port of its management API"),
        choice("tls", &["required", "disabled"], "whether the management API is spoken to over TLS"),
        choice(
            "proof",
            &["amqp", "management"],
            "how a password is proved: by a login over AMQP to the virtual host, or by the management API",
        ),
        default("5671", setting("amqp_port", SettingKind::Port, "the port of AMQP, for the proof")),
        choice("amqp_tls", &["required", "disabled"], "whether AMQP is spoken over TLS"),
    ];
    target.extend(trust());
    Description {
        kind: "rabbitmq".to_owned(),
        summary: "Users of RabbitMQ, by hash through the management API, so that the broker never sees a new password"
            .to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Alternate, Strategy::Replace, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target,
        credential: vec![
            required(text("account", "the user")),
            default("/", text("vhost", "the virtual host that the proof over AMQP opens")),
        ],
    }
}
