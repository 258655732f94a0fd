//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Step, Strategy};

use super::keys::{Auth, Privacy};
use crate::declare::{choice, default, port, required, text};

/// sysUpTime.0, which every agent has.
pub(super) const UP_TIME: &str = "1.3.6.1.2.1.1.3.0";

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let auth = Auth::ALL.map(Auth::name);
    let privacy = Privacy::ALL.map(Privacy::name);
    Description {
        kind: "snmp".to_owned(),
        summary: "Keys of SNMPv3 users, authentication and privacy at once, changed without being sent".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Alternate],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target: vec![
            required(text("host", "name or address of the agent")),
            port("161", "its UDP port"),
            choice("auth", &auth, "how its users authenticate messages"),
            choice("priv", &privacy, "how they encrypt them"),
            text(
                "legacy_reason",
                "why this agent may be spoken to with MD5, SHA-1 or DES; without a reason they are off",
            ),
            default(UP_TIME, text("verify_oid", "the object that is read to prove a user, by number")),
        ],
        credential: vec![required(text("account", "the user (usmUserName)"))],
    }
}
