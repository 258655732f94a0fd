//! What a rotator says of itself: the answer to `describe`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Step;

/// Who makes the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// keywheel does: passwords, key pairs. The candidate is durable before the target hears of it.
    Ours,
    /// The provider does: API keys. The token is durable before the provider is asked, and labels the key.
    Theirs,
}

/// Whether two versions can open the target at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The old version dies as the new one is set.
    Replaces,
    /// Old and new both work until the old one is retired.
    Both,
}

/// What keywheel generates for a kind of origin `ours`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Makes {
    /// A `password`, by the credential's generation policy.
    #[default]
    Password,
    /// An SSH key pair: `private_key` in OpenSSH's format and `public_key`, one line of `authorized_keys` without options.
    SshKey,
}

/// How an operator wants a credential turned over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One account whose secret is replaced.
    Replace,
    /// Two accounts in turn: there is no moment without a valid login.
    Alternate,
    /// A second secret beside the first until the holders have moved on.
    Overlap,
    /// An account made for one lease and dropped after it.
    Ephemeral,
}

/// What a setting's value is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    /// Any string.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An absolute path on this host.
    Path,
    /// A port, 1 to 65535. Of TCP's, the cage lets the worker connect to it and to no other; UDP it does not limit.
    Port,
    /// One of the words listed.
    Choice(Vec<String>),
}

/// What the cage must allow at a path named by a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing: the value is only text to this host.
    #[default]
    None,
    /// Reading the file or folder.
    Read,
    /// Reading and replacing: the folder of the file is opened for writing, as an atomic replace needs it.
    Replace,
    /// Running it: the path is a program, and what it calls may run as well.
    Run,
}

/// One key that `[target.*]` or `[credential.*]` may carry for this kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The key as it stands in the configuration.
    pub name: String,
    /// What its value is.
    pub kind: SettingKind,
    /// Whether it must be present.
    #[serde(default)]
    pub required: bool,
    /// The value taken when it is absent, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// One sentence for `keywheel rotator list` and for error messages.
    #[serde(default)]
    pub help: String,
    /// What the cage must allow at the path.
    #[serde(default)]
    pub access: Access,
    /// Whether a target that has it needs no other login for a change: it names one that has no secret in keywheel.
    #[serde(default)]
    pub logs_in: bool,
}

impl Description {
    /// Whether a change at a target with these settings takes a login that keywheel has the secret of.
    pub fn needs_login(&self, target: &Map<String, Value>) -> bool {
        let own = |setting: &Setting| {
            setting.logs_in
                && target.get(&setting.name).is_some_and(|value| !value.is_null() && value != &Value::Bool(false))
        };
        self.needs_login && !self.target.iter().any(own)
    }
}

/// A rotator's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The kind's name, as in `kind = "…"` of a target.
    pub kind: String,
    /// One sentence on what it rotates.
    pub summary: String,
    /// Who makes the secret.
    pub origin: Origin,
    /// Whether two versions can be valid at once under `replace`. Under the other strategies they always can.
    pub overlap: Overlap,
    /// What a new version is made of (origin `ours`).
    #[serde(default)]
    pub makes: Makes,
    /// Whether a change at the target takes a login: the account's own or an admin's. Where it does not, a first version
    /// is made without knowing the one before.
    #[serde(default = "yes")]
    pub needs_login: bool,
    /// The strategies it knows, the recommended one first.
    pub strategies: Vec<Strategy>,
    /// The steps it answers.
    pub steps: Vec<Step>,
    /// Keys of `[target.*]`.
    #[serde(default)]
    pub target: Vec<Setting>,
    /// Keys of `[credential.*]`, beside those that keywheel itself knows.
    #[serde(default)]
    pub credential: Vec<Setting>,
}

fn yes() -> bool {
    true
}
