//! What the rotator says of itself.

use keywheel_protocol::{Access, Description, Makes, Origin, Overlap, Setting, Step, Strategy};

use crate::declare::{choice, port, required, text, trust};

/// The answer to `describe`.
pub(crate) fn describe() -> Description {
    let mut target = vec![
        Setting {
            access: Access::Read,
            ..required(text("host", "name of the server that takes changes, or the socket of ldapi"))
        },
        port("636", "its port: 636 for ldaps, 389 for starttls; a socket has none"),
        choice("tls", &["ldaps", "starttls", "none"], "how the connection is protected; a socket ignores it"),
    ];
    target.extend(trust());
    target.extend([
        choice("flavour", &["auto", "openldap", "389ds", "ad"], "the server's make, told from its root entry by auto"),
        choice(
            "method",
            &["auto", "passmod", "attribute", "unicodepwd"],
            "how a password is set: unicodepwd on ad, else passmod (RFC 3062), unless it is named",
        ),
        choice(
            "scheme",
            &["server", "SSHA512", "SSHA256", "SSHA"],
            "with method attribute: who hashes, the server or the worker by this scheme",
        ),
        text("base", "where accounts are looked for, the server's naming context if absent"),
        text("user_dn", "the name of an account that is given as a plain word, such as uid={},ou=people,dc=example"),
        text("user_filter", "or the filter that finds it under base without a login, such as (uid={})"),
        text("policy", "name of the password policy's entry, where the account doesn't show it"),
        text("replicas", "further servers, separated by commas, where a login must work as well"),
    ]);
    Description {
        kind: "ldap".to_owned(),
        summary: "Passwords in OpenLDAP, 389 Directory Server and Active Directory".to_owned(),
        origin: Origin::Ours,
        overlap: Overlap::Replaces,
        makes: Makes::Password,
        needs_login: true,
        strategies: vec![Strategy::Replace, Strategy::Alternate, Strategy::Ephemeral],
        steps: vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire, Step::Discover, Step::Rehearse],
        target,
        credential: vec![
            required(text(
                "account",
                "its distinguished name; or on ad its sAMAccountName or user principal name, elsewhere the word in user_dn",
            )),
            text("lease_dn", "the name of an entry made for a lease, such as uid={},ou=leases,dc=example"),
            text("object_class", "its classes, separated by commas; user on ad, else inetOrgPerson, if absent"),
            text("attributes", "what else it has, such as employeeType=lease; mail={}@example.net"),
            text("groups", "names of the groups that it becomes a member of, separated by semicolons"),
            choice(
                "member",
                &["member", "uniqueMember", "memberUid"],
                "the groups' attribute that names their members",
            ),
        ],
    }
}
