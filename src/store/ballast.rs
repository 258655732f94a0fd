//! Room kept for what must be written: a file that is given up when the disk is full.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::error::{StoreError, io_error};
use super::fault;
use super::files;

/// Below this much free space the ballast goes at once. sled writes whole segments of half a MiB when it pleases, and
/// one such write that finds the disk full ends its service, so the last of the space is not for us to use up.
const RELEASE_BELOW_BYTES: u64 = 4 << 20;
/// Below this much free space, and as much again as is to be written, nothing is written at all.
const REFUSE_BELOW_BYTES: u64 = 1 << 20;

/// The smallest ballast: less would not be worth giving up.
const BYTES_MIN: u64 = 4 << 20;

/// The ballast of a store.
pub(super) struct Ballast {
    dir: PathBuf,
    bytes: u64,
    in_place: bool,
}

impl Ballast {
    /// The ballast in `dir`, as large as the floor of free space. It is made by [`Ballast::restore`].
    pub(super) fn new(dir: &Path, floor_bytes: u64) -> Self {
        let bytes = floor_bytes.max(BYTES_MIN);
        let in_place = std::fs::metadata(dir.join(NAME)).is_ok_and(|found| found.len() == bytes);
        Self { dir: dir.to_owned(), bytes, in_place }
    }

    /// Whether a rotation may start: the ballast is in place and free space is at or above the floor.
    pub(super) fn has_room(&self) -> bool {
        self.in_place && files::free_bytes(&self.dir).is_ok_and(|free| free >= self.bytes)
    }

    /// Gives the ballast up; whether there was one.
    pub(super) fn release(&mut self) -> bool {
        self.in_place = false;
        std::fs::remove_file(self.dir.join(NAME)).is_ok()
    }

    /// Whether `bytes` can be written without filling the disk up, giving the ballast up for it if need be.
    pub(super) fn make_room_for(&mut self, bytes: u64) -> Result<(), StoreError> {
        let needed = bytes.saturating_mul(2);
        let mut left = self.free_bytes()?;
        if self.in_place && left < RELEASE_BELOW_BYTES.saturating_add(needed) {
            self.release();
            left = self.free_bytes()?;
        }
        if left < REFUSE_BELOW_BYTES.saturating_add(needed) {
            return Err(StoreError::NoSpace { doing: "write to the store", path: self.dir.clone() });
        }
        Ok(())
    }

    /// Makes the ballast again if that leaves the floor free; whether it is in place then.
    pub(super) fn restore(&mut self) -> Result<bool, StoreError> {
        let path = self.dir.join(NAME);
        if self.in_place {
            return Ok(true);
        }
        files::remove_if_there(&path)?;
        if self.free_bytes()? < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        let file = files::make_private(&path)?;
        match allocate(&file, self.bytes).map_err(io_error("make", &path)) {
            Ok(()) => self.in_place = true,
            Err(StoreError::NoSpace { .. }) => files::remove_if_there(&path)?,
            Err(error) => return Err(error),
        }
        Ok(self.in_place)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        files::free_bytes(&self.dir).map_err(io_error("ask for the free space of", &self.dir))
    }
}

const NAME: &str = "ballast";

/// Gives the file real blocks.
fn allocate(mut file: &std::fs::File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
    fault::at("allocate")?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP) => io::copy(&mut io::Read::take(io::repeat(0x5a), bytes), &mut file).map(drop),
        done => Ok(done?),
    }
}
