//! The table of the built-in kinds. Everything that lists, describes or serves them reads it.

use keywheel_protocol::{Description, Reply, Request, Yes};

use crate::{
    aws_iam, exec, file, htpasswd, http_api_key, kerberos, keystore, ldap, local, local_account, mongodb, mssql, mysql,
    postgres, rabbitmq, redis, snmp, ssh_ca, ssh_key, ssh_password,
};

/// A built-in kind of target.
#[derive(Debug)]
pub struct Kind {
    /// Its name, as in `kind = "…"` of a target.
    pub name: &'static str,
    /// What it says of itself.
    pub describe: fn() -> Description,
    /// Performs any step but `describe`. Never retries, keeps nothing between calls, and answers before the deadline.
    pub answer: fn(&Request) -> Reply,
}

/// All of them, in the order of their names.
pub const KINDS: &[Kind] = &[
    Kind { name: "aws-iam", describe: aws_iam::describe, answer: aws_iam::answer },
    Kind { name: "exec", describe: exec::describe, answer: exec::answer },
    Kind { name: "file", describe: file::describe, answer: file::answer },
    Kind { name: "htpasswd", describe: htpasswd::describe, answer: htpasswd::answer },
    Kind { name: "http-api-key", describe: http_api_key::describe, answer: http_api_key::answer },
    Kind { name: "kerberos", describe: kerberos::describe, answer: kerberos::answer },
    Kind { name: "keystore", describe: keystore::describe, answer: keystore::answer },
    Kind { name: "ldap", describe: ldap::describe, answer: ldap::answer },
    Kind { name: "local", describe: local::describe, answer: local::answer },
    Kind { name: "local-account", describe: local_account::describe, answer: local_account::answer },
    Kind { name: "mongodb", describe: mongodb::describe, answer: mongodb::answer },
    Kind { name: "mssql", describe: mssql::describe, answer: mssql::answer },
    Kind { name: "mysql", describe: mysql::describe, answer: mysql::answer },
    Kind { name: "postgres", describe: postgres::describe, answer: postgres::answer },
    Kind { name: "rabbitmq", describe: rabbitmq::describe, answer: rabbitmq::answer },
    Kind { name: "redis", describe: redis::describe, answer: redis::answer },
    Kind { name: "snmp", describe: snmp::describe, answer: snmp::answer },
    Kind { name: "ssh-ca", describe: ssh_ca::describe, answer: ssh_ca::answer },
    Kind { name: "ssh-key", describe: ssh_key::describe, answer: ssh_key::answer },
    Kind { name: "ssh-password", describe: ssh_password::describe, answer: ssh_password::answer },
];

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The reply to `request`, `describe` included.
    pub fn reply(&self, request: &Request) -> Reply {
        if request.step == keywheel_protocol::Step::Describe {
            let description = Some(Box::new((self.describe)()));
            Reply::Yes(Yes { description, ..Yes::default() })
        } else {
            (self.answer)(request)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_each_kind_knows_its_name() {
        assert!(KINDS.is_sorted_by_key(|kind| kind.name));
        for kind in KINDS {
            let description = (kind.describe)();
            assert_eq!(description.kind, kind.name);
            assert!(!description.summary.is_empty() && !description.strategies.is_empty());
            for setting in description.target.iter().chain(&description.credential) {
                assert!(!setting.help.is_empty() && !setting.help.ends_with('.'), "{}: {}", kind.name, setting.name);
            }
        }
    }
}
