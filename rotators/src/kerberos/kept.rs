//! The keytab on this host.

use keywheel_protocol::{Reason, Reply};

use super::keytab::{Keytab, Record};
use crate::deadline::Deadline;
use crate::file_swap::SwapFile;

/// The keys of one principal in a keytab that may hold others' as well.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) path: &'a str,
    pub(super) principal: &'a str,
    pub(super) deadline: Deadline,
}

impl Kept<'_> {
    /// What is in the file.
    pub(super) fn read(&self) -> Result<Keytab, Reply> {
        self.parse(SwapFile::read(self.path).map_err(|reply| self.missing(reply))?.contents())
    }

    /// Whether the file holds this very key with this number, in every encryption type.
    pub(super) fn holds(&self, kvno: u32, keys: &[Record]) -> Result<bool, Reply> {
        let keytab = self.read()?;
        let same = |key: &Record| {
            keytab.of(self.principal, kvno).any(|kept| kept.enctype == key.enctype && kept.key() == key.key())
        };
        Ok(!keys.is_empty() && keys.iter().all(same))
    }

    /// Puts these keys into the file, as the newest: what has their number or a higher one is nobody's.
    pub(super) fn put(&self, kvno: u32, keys: &[Record]) -> Result<(), Reply> {
        self.edit(|keytab| {
            keytab.remove(|record| record.principal == self.principal && record.kvno >= kvno);
            keys.iter().for_each(|key| keytab.add(key.numbered(kvno)));
        })
    }

    /// Takes the keys with this number and higher ones out.
    pub(super) fn remove_from(&self, kvno: u32) -> Result<(), Reply> {
        self.edit(|keytab| keytab.remove(|record| record.principal == self.principal && record.kvno >= kvno))
    }

    /// Takes the keys with lower numbers out.
    pub(super) fn remove_before(&self, kvno: u32) -> Result<(), Reply> {
        self.edit(|keytab| keytab.remove(|record| record.principal == self.principal && record.kvno < kvno))
    }

    /// Whether the file could be replaced, as far as that is seen without doing it.
    pub(super) fn could_be_put(&self) -> Result<(), Reply> {
        let file = SwapFile::read(self.path).map_err(|reply| self.missing(reply))?;
        self.parse(file.contents())?;
        file.rehearse()
    }

    fn edit(&self, change: impl FnOnce(&mut Keytab)) -> Result<(), Reply> {
        let file = SwapFile::lock(self.path, self.deadline).map_err(|reply| self.missing(reply))?;
        let mut keytab = self.parse(file.contents())?;
        let before = keytab.to_bytes();
        change(&mut keytab);
        let after = keytab.to_bytes();
        if before != after {
            file.replace(&after)?;
        }
        Ok(())
    }

    fn parse(&self, contents: &[u8]) -> Result<Keytab, Reply> {
        Keytab::parse(contents).ok_or_else(|| {
            let message = format!("{} is no keytab of version 2, or is damaged; it was left alone", self.path);
            Reply::no(Reason::Unsupported, message)
        })
    }

    /// "Missing" would be said of the principal.
    fn missing(&self, reply: Reply) -> Reply {
        match reply {
            Reply::No { reason: Reason::Missing, message, .. } => {
                let path = self.path;
                let help = format!(
                    "{message}; make it with the owner and mode that it shall have: `install -m 0640 /dev/null {path}`"
                );
                Reply::no(Reason::Unsupported, help)
            }
            other => other,
        }
    }
}
