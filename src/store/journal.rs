//! The journal's writing end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{StoreError, io_error};
use super::fault;
use super::files;
use super::frame::{self, BadHeader, FORMAT, HEADER_BYTES, Header, Position};
use super::inventory::Inventory;
use super::ops::Op;
use super::scan::Place;
use super::seal::Keys;

/// What outgrown buffers are cut back to between commits.
const BUFFER_BYTES: usize = 256 << 10;

/// An open journal.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    header: Header,
    end: Place,
    frame: Vec<u8>,
}

/// Why an append failed.
pub(super) enum AppendError {
    /// Nothing was appended.
    Nothing(StoreError),
    /// Nothing was appended because the disk is full.
    Full(StoreError),
    /// What was appended could not be taken back.
    Doubt(StoreError),
}

/// Where the journal is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// Puts an empty journal in place, durably.
pub(super) fn make(dir: &Path, keys: &Keys) -> Result<(), StoreError> {
    files::write_atomically(&path(dir), &Header::first().seal(keys)?)
}

/// Opens the journal's file and reads its header.
pub(super) fn open(dir: &Path, keys: &Keys) -> Result<(File, Header), StoreError> {
    let path = path(dir);
    let file = files::open_private(&path)?;
    read_header(&file, path, keys).map(|header| (file, header))
}

/// The same for reading only.
pub(super) fn open_to_read(dir: &Path, keys: &Keys) -> Result<(File, Header), StoreError> {
    let path = path(dir);
    let file = files::open_to_read(&path)?;
    read_header(&file, path, keys).map(|header| (file, header))
}

/// Whether anything was ever committed to the journal in `dir`.
pub(super) fn holds_commits(dir: &Path) -> bool {
    std::fs::metadata(path(dir)).is_ok_and(|found| found.len() > HEADER_BYTES as u64)
}

fn read_header(file: &File, path: PathBuf, keys: &Keys) -> Result<Header, StoreError> {
    let mut bytes = [0; HEADER_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(StoreError::JournalHeader { path }),
        read => read.map_err(io_error("read", &path))?,
    }
    match Header::open(&bytes, keys) {
        Ok(header) => Ok(header),
        Err(BadHeader::Damaged) => Err(StoreError::JournalHeader { path }),
        Err(BadHeader::Foreign) => Err(StoreError::JournalForeign { path }),
        Err(BadHeader::Newer(found)) => Err(StoreError::NewerFormat { path, found, known: FORMAT }),
    }
}

impl Journal {
    /// A journal that goes on at `end`, the end of its file.
    pub(super) fn new(file: File, path: PathBuf, header: Header, end: Place) -> Self {
        Self { file, path, header, end, frame: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// What it starts with.
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Its last commit.
    pub(super) fn position(&self) -> Position {
        self.end.position
    }

    /// Its length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.end.offset
    }

    /// Appends the frame of `ops`, which lead to `live`, with one write. It is durable after [`Journal::sync`] and not before.
    pub(super) fn append(&mut self, keys: &Keys, ops: &[Op], live: &Inventory) -> Result<Position, AppendError> {
        self.frame.clear();
        self.frame.shrink_to(BUFFER_BYTES);
        let position = frame::seal(keys, self.header.epoch, self.end.position, ops, live, &mut self.frame)
            .map_err(AppendError::Nothing)?;
        if let Err(error) = fault::write_all_at("append", &self.file, &self.frame, self.end.offset) {
            let error = io_error("append to", &self.path)(error);
            return Err(match files::cut(&self.file, self.end.offset) {
                Err(_) => AppendError::Doubt(error),
                Ok(()) if matches!(error, StoreError::NoSpace { .. }) => AppendError::Full(error),
                Ok(()) => AppendError::Nothing(error),
            });
        }
        self.end = Place { position, offset: self.end.offset + self.frame.len() as u64 };
        Ok(position)
    }

    /// Makes what was appended durable. After an error it may never be tried again: the kernel may have dropped the
    /// data and say yes the next time (fsync(2), and <https://lwn.net/Articles/752063/>).
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        fault::at("flush journal").and_then(|()| self.file.sync_data()).map_err(io_error("flush", &self.path))
    }
}
