//! The agent's table of users (usmUserTable, RFC 3414, section 5), and the one object of net-snmp that matters to it.

use keywheel_protocol::{Reason, Reply};

use super::ber::Value;
use super::keys::{Auth, Privacy};
use super::message::Binding;
use super::oid::Oid;
use super::session::{Agent, Answer, User};
use super::verdict;

const ENTRY: &[u32] = &[1, 3, 6, 1, 6, 3, 15, 1, 2, 2, 1];
const SPIN_LOCK: &[u32] = &[1, 3, 6, 1, 6, 3, 15, 1, 2, 1, 0];
const AUTH_PROTOCOLS: &[u32] = &[1, 3, 6, 1, 6, 3, 10, 1, 1];
const PRIVACY_PROTOCOLS: &[u32] = &[1, 3, 6, 1, 6, 3, 10, 1, 2];
/// UCD-SNMP-MIB's versionSavePersistentData.0: written, net-snmp writes its users to its file at once.
const SAVE: &[u32] = &[1, 3, 6, 1, 4, 1, 2021, 100, 13, 0];
/// sysObjectID.0, and what net-snmp has there.
const SYSTEM: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 2, 0];
const NET_SNMP: &[u32] = &[1, 3, 6, 1, 4, 1, 8072];

/// The longest name of a user (SnmpAdminString of usmUserName).
const NAME_BYTES_MAX: usize = 32;

/// The columns, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    SecurityName = 3,
    CloneFrom = 4,
    AuthProtocol = 5,
    AuthKeyChange = 6,
    OwnAuthKeyChange = 7,
    PrivProtocol = 8,
    PrivKeyChange = 9,
    OwnPrivKeyChange = 10,
    StorageType = 12,
    Status = 13,
}

impl Column {
    /// The MIB's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SecurityName => "usmUserSecurityName",
            Self::CloneFrom => "usmUserCloneFrom",
            Self::AuthProtocol => "usmUserAuthProtocol",
            Self::AuthKeyChange => "usmUserAuthKeyChange",
            Self::OwnAuthKeyChange => "usmUserOwnAuthKeyChange",
            Self::PrivProtocol => "usmUserPrivProtocol",
            Self::PrivKeyChange => "usmUserPrivKeyChange",
            Self::OwnPrivKeyChange => "usmUserOwnPrivKeyChange",
            Self::StorageType => "usmUserStorageType",
            Self::Status => "usmUserStatus",
        }
    }

    /// The column itself.
    pub(super) fn oid(self) -> Oid {
        Oid(ENTRY.to_vec()).with(&[self as u32])
    }

    /// The object of one user: the index is the engine's name and the user's, each with its length before it.
    pub(super) fn of(self, engine: &[u8], user: &str) -> Oid {
        let text = |bytes: &[u8]| -> Vec<u32> {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            std::iter::once(length).chain(bytes.iter().map(|byte| u32::from(*byte))).collect()
        };
        self.oid().with(&text(engine)).with(&text(user.as_bytes()))
    }
}

/// Engine and user out of an object of a column.
pub(super) fn index(object: &Oid, column: Column) -> Option<(Vec<u8>, String)> {
    let index = object.0.strip_prefix(&column.oid().0[..])?;
    let (length, rest) = index.split_first()?;
    let (engine, rest) = rest.split_at_checked(usize::try_from(*length).ok()?)?;
    let (length, name) = rest.split_first()?;
    let bytes = |arcs: &[u32]| arcs.iter().map(|arc| u8::try_from(*arc).ok()).collect::<Option<Vec<u8>>>();
    let name = bytes(name).filter(|name| usize::try_from(*length).is_ok_and(|length| name.len() == length))?;
    Some((bytes(engine)?, String::from_utf8_lossy(&name).into_owned()))
}

/// Values of usmUserStatus (RFC 2579, RowStatus).
pub(super) mod row_status {
    pub(in super::super) const ACTIVE: i64 = 1;
    pub(in super::super) const NOT_READY: i64 = 3;
    pub(in super::super) const CREATE_AND_GO: i64 = 4;
    pub(in super::super) const DESTROY: i64 = 6;
}

/// A status in the MIB's words.
pub(super) fn status_words(status: i64) -> &'static str {
    match status {
        row_status::ACTIVE => "active",
        2 => "notInService",
        row_status::NOT_READY => "notReady",
        _ => "unknown",
    }
}

/// Where a row is kept (RFC 2579, StorageType).
pub(super) fn storage_words(storage: i64) -> &'static str {
    match storage {
        1 => "other",
        2 => "volatile",
        3 => "nonVolatile",
        4 => "permanent",
        5 => "readOnly",
        _ => "unknown",
    }
}

const VOLATILE: i64 = 2;
const READ_ONLY: i64 = 5;

/// The protocols of a row, in the words of the settings where they are known here.
pub(super) fn auth_words(protocol: &Oid) -> String {
    match protocol.0.strip_prefix(AUTH_PROTOCOLS) {
        Some([1]) => "none".to_owned(),
        Some([arc]) => {
            Auth::ALL.iter().find(|auth| auth.arc() == *arc).map_or(protocol.to_string(), |auth| auth.name().to_owned())
        }
        _ => protocol.to_string(),
    }
}

/// See [`auth_words`].
pub(super) fn privacy_words(protocol: &Oid) -> String {
    match protocol.0.strip_prefix(PRIVACY_PROTOCOLS) {
        Some([1]) => "none".to_owned(),
        Some([arc]) => {
            let known = Privacy::ALL.iter().find(|privacy| privacy.arc() == *arc);
            known.map_or(protocol.to_string(), |privacy| privacy.name().to_owned())
        }
        _ => protocol.to_string(),
    }
}

/// A user name that the index of the table can hold.
pub(super) fn named(user: &str) -> Result<(), Reply> {
    if user.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Reply::no(
        Reason::Unsupported,
        format!("{user} is no user of SNMP: its name has more than {NAME_BYTES_MAX} bytes"),
    ))
}

/// What a login sees of a user and of the agent, before a change.
pub(super) struct View {
    status: Option<i64>,
    storage: Option<i64>,
    /// Of the lock that one SET at a time passes; no other value is taken.
    pub(super) spin_lock: Option<i64>,
    /// Whether the agent can be told to save its users.
    saves: bool,
    net_snmp: bool,
}

impl View {
    /// Reads it. A login that is good and may see nothing gives a view of nothing.
    pub(super) async fn of(agent: &mut Agent, by: &User, user: &str) -> Result<Self, Reply> {
        named(user)?;
        let engine = agent.engine_id().to_vec();
        let of = |column: Column| column.of(&engine, user);
        let [lock, save, system] = [SPIN_LOCK, SAVE, SYSTEM].map(|oid| Oid(oid.to_vec()));
        let names = [of(Column::Status), of(Column::StorageType), lock, save, system];
        let Answer { status, bindings, .. } = agent.get(by, &names).await?;
        if status != 0 && !verdict::is_forbidden(status) {
            let message = format!("the agent refused to be read by {}: {}", by.name, verdict::words(status));
            return Err(Reply::no(Reason::Unsupported, message));
        }
        let value =
            |at: usize| bindings.get(at).filter(|(name, _)| status == 0 && *name == names[at]).map(|(_, value)| value);
        let number = |at| match value(at) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        };
        let net_snmp = matches!(value(4), Some(Value::Oid(oid)) if oid.0.starts_with(NET_SNMP));
        Ok(Self { status: number(0), storage: number(1), spin_lock: number(2), saves: number(3).is_some(), net_snmp })
    }

    /// Whether the user's row can be seen.
    pub(super) fn has_row(&self) -> bool {
        self.status.is_some()
    }

    /// A row that can't be changed, as far as it shows.
    pub(super) fn checked(&self, user: &str) -> Result<(), Reply> {
        if self.storage == Some(READ_ONLY) {
            let message = format!("the row of {user} is readOnly (usmUserStorageType)");
            return Err(Reply::no(Reason::Unsupported, message));
        }
        Ok(())
    }

    /// What becomes of new keys when the agent ends, if that is to be known.
    pub(super) fn warning(&self, user: &str) -> Option<String> {
        if self.storage == Some(VOLATILE) {
            return Some(format!("{user} is volatile (usmUserStorageType): it is gone when the agent ends"));
        }
        let unsaved = "net-snmp writes new keys to its file when it ends in good order only, and a crash or a SIGHUP before \
                       brings the old ones back; let this login read and write versionSavePersistentData \
                       (1.3.6.1.4.1.2021.100.13.0)";
        (self.net_snmp && !self.saves).then(|| unsaved.to_owned())
    }

    /// Has the agent save its users, after a change that is made and stays so. What the operator should know of it.
    pub(super) async fn save(&self, agent: &mut Agent, by: &User, user: &str) -> Option<String> {
        if !self.saves {
            return self.warning(user);
        }
        let save = vec![(Oid(SAVE.to_vec()), Value::Integer(1))];
        // Again and again would do no harm.
        let why = match agent.try_out(by, save).await {
            Ok(Answer { status: 0, .. }) => return self.warning(user),
            Ok(answer) => verdict::words(answer.status).to_owned(),
            Err(Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message }) => message,
            Err(Reply::Yes(_)) => return None,
        };
        Some(format!(
            "the agent did not save its users ({why}): a crash or a SIGHUP of net-snmp brings the old keys back; let {} write \
             versionSavePersistentData",
            by.name
        ))
    }
}

/// The lock of a change, as it must stand in front of it.
pub(super) fn locked_by(lock: i64) -> Binding {
    (Oid(SPIN_LOCK.to_vec()), Value::Integer(lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_made_and_read() {
        let engine = [0x80, 0, 0x1f, 0x88, 4];
        let object = Column::Status.of(&engine, "app");
        assert_eq!(object.to_string(), "1.3.6.1.6.3.15.1.2.2.1.13.5.128.0.31.136.4.3.97.112.112");
        assert_eq!(index(&object, Column::Status), Some((engine.to_vec(), "app".to_owned())));
        assert_eq!(index(&object, Column::CloneFrom), None);
        for odd in [&[][..], &[5, 1], &[1, 1, 3, 1], &[1, 300, 1, 97], &[1, 1, 1, 300], &[u32::MAX, 1]] {
            assert_eq!(index(&Column::Status.oid().with(odd), Column::Status), None, "{odd:?}");
        }
    }
}
