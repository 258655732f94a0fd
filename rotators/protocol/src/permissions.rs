//! What a worker needs of this host: derived from the description and the settings, so that the daemon and the contract
//! suite open the same holes in the cage.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Access, Description, Setting, SettingKind};

/// The holes in a worker's cage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Files and folders that it may read.
    pub read: Vec<PathBuf>,
    /// Files that it may replace.
    pub replace: Vec<PathBuf>,
    /// Programs that it may run, with what they call.
    pub run: Vec<PathBuf>,
    /// TCP ports that it may connect to.
    pub connect: Vec<u16>,
}

impl Permissions {
    /// The same as options of `keywheel-rotator run`.
    pub fn to_args(&self) -> Vec<OsString> {
        let read = self.read.iter().flat_map(|path| ["--read".into(), path.clone().into_os_string()]);
        let replace = self.replace.iter().flat_map(|path| ["--replace".into(), path.clone().into_os_string()]);
        let connect = self.connect.iter().flat_map(|port| ["--connect".into(), port.to_string().into()]);
        let run = self.run.iter().flat_map(|path| ["--run".into(), path.clone().into_os_string()]);
        read.chain(replace).chain(run).chain(connect).collect()
    }
}

impl Description {
    /// What a worker of this kind needs for these settings of a target and a credential. A setting that is absent counts
    /// with its default. A text with an [`Access`] counts if it is an absolute path (a host may be a socket's folder).
    pub fn permissions(&self, target: &Map<String, Value>, credential: &Map<String, Value>) -> Permissions {
        let mut permissions = Permissions::default();
        for (declared, given) in [(&self.target, target), (&self.credential, credential)] {
            for setting in declared {
                if let Some(value) = value_of(setting, given) {
                    permissions.add(setting, &value);
                }
            }
        }
        permissions
    }
}

impl Permissions {
    fn add(&mut self, setting: &Setting, value: &str) {
        if setting.kind == SettingKind::Port {
            // What is no port is refused by whoever checks the settings; here it only opens nothing.
            self.connect.extend(value.parse::<u16>().ok().filter(|port| *port != 0));
        } else if value.starts_with('/') {
            match setting.access {
                Access::None => {}
                Access::Read => self.read.push(value.into()),
                Access::Replace => self.replace.push(value.into()),
                Access::Run => self.run.push(value.into()),
            }
        }
    }
}

fn value_of(setting: &Setting, given: &Map<String, Value>) -> Option<String> {
    match given.get(&setting.name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(_) => None,
        None => setting.default.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Overlap};

    fn setting(name: &str, kind: SettingKind, access: Access, default: Option<&str>) -> Setting {
        let default = default.map(str::to_owned);
        Setting { name: name.to_owned(), kind, required: false, default, help: String::new(), access, logs_in: false }
    }

    #[test]
    fn only_what_the_settings_name_is_opened() {
        let description = Description {
            kind: "x".into(),
            summary: String::new(),
            origin: Origin::Ours,
            overlap: Overlap::Replaces,
            makes: crate::Makes::Password,
            needs_login: true,
            strategies: vec![],
            steps: vec![],
            target: vec![
                setting("host", SettingKind::Text, Access::Read, None),
                setting("port", SettingKind::Port, Access::None, Some("5432")),
                setting("other", SettingKind::Port, Access::None, None),
                setting("ca_file", SettingKind::Path, Access::Read, None),
                setting("note", SettingKind::Path, Access::None, None),
            ],
            credential: vec![setting("path", SettingKind::Path, Access::Replace, None)],
        };
        let map = |pairs: &[(&str, Value)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let by_name = description.permissions(&map(&[("host", "db.example".into())]), &Map::new());
        assert_eq!(by_name, Permissions { connect: vec![5432], ..Permissions::default() });
        let by_socket = description.permissions(
            &map(&[("host", "/run/pg".into()), ("port", 7.into()), ("ca_file", "/ca".into()), ("note", "/n".into())]),
            &map(&[("path", "/etc/x/htpasswd".into())]),
        );
        assert_eq!(by_socket.connect, [7]);
        assert_eq!(by_socket.read, [PathBuf::from("/run/pg"), "/ca".into()]);
        assert_eq!(by_socket.replace, [PathBuf::from("/etc/x/htpasswd")]);
        assert_eq!(by_socket.to_args().len(), 8);
    }
}
