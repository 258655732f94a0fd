//! What the rotator says of itself.

use keywheel_protocol::{Description, Makes, Origin, Overlap, Step, Strategy};

use crate::declare::{choice, default, required, text};
use crate::ssh;

/// Where the hosts read the authorities from, if no other place is named.
pub(super) const PATH: &str = "/etc/ssh/keywheel_user_ca.pub";

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let mut target = ssh::settings();
    target.push(text("also", "further hosts with the same settings, divided by commas"));
    target.push(default(PATH, text("trusted_keys", "the file that TrustedUserCAKeys of their sshd_config names")));
    Description {
        kind: "ssh-ca".to_owned(),
        summary: "Keys of an SSH certificate authority, and short-lived certificates signed by it".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Both,
        makes: Makes::SshKey,
        needs_login: true,
        strategies: vec![Strategy::Overlap, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target,
        credential: vec![
            required(text("account", "the account on the hosts that certificates log in as")),
            default("user", choice("certificate", &["user", "host"], "ephemeral: who a certificate is for")),
            text("principals", "accounts or host names in a certificate, divided by commas; the account if absent"),
            default(
                "permit-pty",
                text("extensions", "ephemeral: what a user's certificate permits, divided by commas"),
            ),
        ],
    }
}
