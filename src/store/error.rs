//! What can go wrong with the store: what happened, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::ids::CredentialName;

/// What went wrong with the store. The message says what happened, [`StoreError::remedy`] what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb with its object: `open the journal`.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk is full. Nothing was changed.
    #[error("no space left to {doing} {}", path.display())]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("the store {} is in use by {}", dir.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The store's folder.
        dir: PathBuf,
        /// Who, as far as the lock file tells.
        holder: Option<i32>,
    },
    /// Others than the owner have rights to a file or folder of the store, or to a key file.
    #[error("{} has mode {mode:04o}, which lets others than its owner in", path.display())]
    WeakMode {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The bits it should have.
        wanted: u32,
    },
    /// A file or folder belongs to somebody else.
    #[error("{} belongs to user {owner}, not to user {wanted} that runs this program", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
        /// This process's effective user number.
        wanted: u32,
    },
    /// A file is not what it should be: a symbolic link, a device, a folder in a file's place.
    #[error("{} is not a {wanted}", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// `regular file` or `folder`.
        wanted: &'static str,
    },
    /// There is no key where it should be.
    #[error("there is no master key in {}", path.display())]
    KeyMissing {
        /// Where.
        path: PathBuf,
    },
    /// systemd has not passed the key.
    #[error("systemd has passed no credential {name} (there is no {})", path.display())]
    CredentialMissing {
        /// Its name.
        name: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// A key file that holds no key.
    #[error("{} holds {bytes} bytes, which is neither a key of 32 bytes nor 64 hexadecimal digits", path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// How long it is; reading stops early.
        bytes: usize,
    },
    /// A file of a first secret without one.
    #[error("{} is empty, or not UTF-8", path.display())]
    SecretFile {
        /// Which.
        path: PathBuf,
    },
    /// A passphrase that is too short.
    #[error("the passphrase has fewer than {min} characters")]
    Passphrase {
        /// The least number of characters.
        min: usize,
    },
    /// The master key does not open the keyring. Nothing was touched.
    #[error("the master key (or passphrase) does not open {}: it is not the one this store was made with, or the file is damaged", path.display())]
    WrongKey {
        /// The keyring.
        path: PathBuf,
    },
    /// A key was given to a store that is opened by a passphrase, or the other way round.
    #[error("{} is opened by {wanted}, and {given} was given", path.display())]
    KeySource {
        /// The keyring.
        path: PathBuf,
        /// `a passphrase` or `a master key`.
        wanted: &'static str,
        /// The other one.
        given: &'static str,
    },
    /// A keyring that can't be understood.
    #[error("{} is damaged: {trouble}", path.display())]
    Keyring {
        /// The keyring.
        path: PathBuf,
        /// What is wrong with it.
        trouble: String,
    },
    /// There is a journal and no keyring.
    #[error("{} is missing, and without it the journal beside it can't be opened", path.display())]
    KeyringMissing {
        /// Where the keyring should be.
        path: PathBuf,
    },
    /// A file written by a later keywheel.
    #[error("{} has format {found}; this keywheel knows formats up to {known}", path.display())]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The last format known.
        known: u32,
    },
    /// There is a keyring and no journal: credentials were here.
    #[error("{} is missing, and the store was not empty of one{}", path.display(), index_at.map_or_else(String::new, |at| format!(" (the folder `sled` beside it still holds the state as of commit {at})")))]
    JournalMissing {
        /// Where the journal should be.
        path: PathBuf,
        /// The commit that sled has reached, if sled opens.
        index_at: Option<u64>,
    },
    /// The journal's first bytes are not what was written.
    #[error("the header of {} is damaged", path.display())]
    JournalHeader {
        /// The journal.
        path: PathBuf,
    },
    /// The journal of another store.
    #[error("{} belongs to another store", path.display())]
    JournalForeign {
        /// The journal.
        path: PathBuf,
    },
    /// A frame that was, or may have been, acknowledged is damaged.
    #[error("{} is damaged at byte {offset}, in commit {sequence}{evidence}", path.display())]
    JournalDamaged {
        /// The journal.
        path: PathBuf,
        /// Where the damaged frame starts.
        offset: u64,
        /// The commit it holds.
        sequence: u64,
        /// Why it can't be a torn end.
        evidence: Evidence,
    },
    /// The journal ends before what sled knows to have been committed.
    #[error("{} ends at commit {journal}, but commit {index} was made: it was cut, or replaced by an older copy", path.display())]
    JournalOlder {
        /// The journal.
        path: PathBuf,
        /// Its last commit.
        journal: u64,
        /// The commit that is known to have been made.
        index: u64,
    },
    /// The store's witness in another folder has seen a later commit: an older copy of the store was put back.
    #[error("the store ends at commit {store}, but {} has seen commit {seen}: an older copy of the store was put back", witness.display())]
    OlderCopy {
        /// The witness.
        witness: PathBuf,
        /// The store's last commit.
        store: u64,
        /// The last commit that was made.
        seen: u64,
    },
    /// The store's witness has seen another commit of the same number.
    #[error("commit {sequence} of the store is not the one that {} has seen: this copy of the store went its own way", witness.display())]
    OtherHistory {
        /// The witness.
        witness: PathBuf,
        /// The commit.
        sequence: u64,
    },
    /// The witness belongs to another store.
    #[error("{} has seen another store than this one: the store's folder was exchanged, or is not mounted and a new store was made in its place", witness.display())]
    AnotherStore {
        /// The witness.
        witness: PathBuf,
    },
    /// What is stored in one place was damaged or moved there from another.
    #[error("the {tree}{} in the store is damaged", credential.as_ref().map_or_else(String::new, |name| format!(" of {name}")))]
    Damaged {
        /// What it is: `record`, `secret`, `note`, `wake-up entry`.
        tree: &'static str,
        /// Whose, where that is known.
        credential: Option<CredentialName>,
    },
    /// sled failed.
    #[error("the store's index failed to {doing}: {trouble}")]
    Index {
        /// What was being done.
        doing: &'static str,
        /// sled's words.
        trouble: String,
    },
    /// sled holds fewer or other values than were committed.
    #[error("the store's index does not hold what was committed ({found} of {expected} values)")]
    Incomplete {
        /// How many values were committed and not deleted.
        expected: u64,
        /// How many were found whole.
        found: u64,
    },
    /// Something is larger than the store takes.
    #[error("{what} has {bytes} bytes; the store takes at most {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A value can't be written as JSON.
    #[error("the {what} can't be encoded: {trouble}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why, without its content.
        trouble: String,
    },
    /// The cipher or the random generator failed.
    #[error("the cryptographic library failed to {doing}")]
    Crypto {
        /// What was being done.
        doing: &'static str,
    },
    /// An earlier write ended in doubt, so the writer stopped for good.
    #[error("the store takes no more commits: {why}")]
    Stopped {
        /// What happened. The commit at which it happened may or may not be on disk; the next start finds out.
        why: String,
    },
}

/// Why a damaged frame can't be the torn end of an unfinished append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// This later commit is intact.
    Later(u64),
    /// sled holds it, or a later one.
    Acknowledged,
    /// It belongs to the state that was flushed before the journal was put in place.
    Snapshot,
    /// It is whole, but not what was written.
    Altered,
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Later(sequence) => write!(f, " (commit {sequence} behind it is intact)"),
            Self::Acknowledged => f.write_str(", which was acknowledged"),
            Self::Snapshot => f.write_str(", which is part of the compacted state"),
            Self::Altered => f.write_str(" (its bytes were altered; an unfinished write leaves other traces)"),
        }
    }
}

/// What is left without any key.
pub const KEY_LOST: &str =
    "if it is lost, move the store away and `keywheel restore` the newest backup, which needs neither key nor TPM";

impl StoreError {
    /// What to do next, as a sentence without a full stop.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                format!("mount the file system of {} for writing", path.display())
            }
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("give the user that runs keywheeld the right to {}", path.display())
            }
            Self::Io { source, .. } if source.raw_os_error() == Some(Errno::EMFILE as i32) => {
                "raise the limit of open files: LimitNOFILE= in the unit, `ulimit -n` in a shell".to_owned()
            }
            Self::NoSpace { path, .. } => {
                format!("free some space on the file system of {}", path.display())
            }
            Self::Locked { .. } => "stop that process first (`systemctl stop keywheeld`), or give this one another \
                 folder; operators' commands go through the running daemon's socket"
                .to_owned(),
            Self::WeakMode { path, wanted, .. } => format!("chmod {wanted:04o} {}", path.display()),
            Self::Owner { path, wanted, .. } => {
                format!("chown {wanted} {}, or run this program as its owner", path.display())
            }
            Self::Kind { path, wanted } => format!("put a {wanted} at {}", path.display()),
            Self::KeyMissing { path } => format!(
                "put the copy that you keep elsewhere at {0}, or make one for a new store with `keywheel key create {0}`; {KEY_LOST}",
                path.display()
            ),
            Self::CredentialMissing { name, .. } => {
                format!("give the unit a line `LoadCredentialEncrypted={name}:FILE`; {KEY_LOST}")
            }
            Self::KeyFile { path, .. } => format!(
                "put the copy that you keep elsewhere at {}, or make a key with `openssl rand -hex 32` for a new store; {KEY_LOST}",
                path.display()
            ),
            Self::SecretFile { path } => format!("write the secret into {}, as one line of text", path.display()),
            Self::Passphrase { min } => format!("choose one of at least {min} characters, best four random words"),
            Self::WrongKey { .. } => format!(
                "give the key or passphrase that the store was made with; if that is the one, restore the keyring from a copy \
                 of this store; {KEY_LOST}"
            ),
            Self::KeySource { wanted, .. } => format!("name {wanted} in [key] of the configuration"),
            Self::Keyring { path, .. } | Self::KeyringMissing { path } => {
                format!("restore {} from a backup of this store", path.display())
            }
            Self::NewerFormat { .. } => "start the keywheel that wrote it, or a later one".to_owned(),
            Self::JournalMissing { path, .. } | Self::JournalOlder { path, .. } => {
                format!("put the newest {} back, or restore the store's folder from a backup", path.display())
            }
            Self::OlderCopy { .. } | Self::OtherHistory { .. } => {
                "put the newest copy back; if there is none, `keywheel \
                 doctor --accept-older` goes on with this one, and has each version proved by a login before it is \
                 handed out"
                    .to_owned()
            }
            Self::AnotherStore { witness } => {
                format!(
                    "put the right store back (is its file system mounted?); if this one is meant, remove {}",
                    witness.display()
                )
            }
            Self::JournalHeader { path } | Self::JournalForeign { path } => {
                format!("restore {} from a backup of this store", path.display())
            }
            Self::JournalDamaged { path, offset, evidence, .. } => damaged_remedy(path, *offset, *evidence),
            Self::Damaged { .. } | Self::Index { .. } | Self::Incomplete { .. } => {
                "restart keywheeld: it rebuilds the index from the journal".to_owned()
            }
            Self::Stopped { .. } => "find out what is wrong with the disk, then restart keywheeld".to_owned(),
            Self::Io { .. } | Self::TooLarge { .. } | Self::Encode { .. } | Self::Crypto { .. } => return None,
        })
    }

    /// Whether files of the store are damaged or missing, so that more is to be said than what to restore.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Keyring { .. }
                | Self::KeyringMissing { .. }
                | Self::JournalMissing { .. }
                | Self::JournalHeader { .. }
                | Self::JournalForeign { .. }
                | Self::JournalDamaged { .. }
                | Self::JournalOlder { .. }
        )
    }

    /// Whether the batch at hand may have become durable in spite of the error (I3). A restart finds out.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }
}

fn damaged_remedy(path: &Path, offset: u64, evidence: Evidence) -> String {
    let restore = format!("restore {} from a backup", path.display());
    match evidence {
        Evidence::Altered => format!(
            "{restore}; if there is none, `truncate --size={offset} {}` (on a copy first) gives up this commit, the \
             last one, and nothing else",
            path.display()
        ),
        Evidence::Acknowledged | Evidence::Later(_) | Evidence::Snapshot => {
            format!("{restore}; keep the whole folder as it is, the folder `sled` in it may hold what the journal lost")
        }
    }
}

/// Turns a failed system call into an error that names the file.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| {
        let path = path.to_owned();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            StoreError::NoSpace { doing, path }
        } else {
            StoreError::Io { doing, path, source }
        }
    }
}
