//! Files that are in memory only, for programs that take nothing but a path: a configuration, a keytab that is being made.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

use keywheel_protocol::Reply;
use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

/// The most that is read of one, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// A file that goes with the worker. The programs that the worker starts inherit it.
pub(super) struct MemoryFile {
    file: File,
    /// Where a program that inherits it finds it.
    pub(super) path: String,
}

impl MemoryFile {
    /// A file with these contents.
    pub(super) fn with(contents: &[u8]) -> Result<Self, Reply> {
        let made = || -> io::Result<Self> {
            // Some hosts insist on the flag, and kernels before 6.3 do not know it.
            let memory = memfd_create("keywheel", MemfdFlags::NOEXEC_SEAL)
                .or_else(|_| memfd_create("keywheel", MemfdFlags::empty()))?;
            let mut file = File::from(memory);
            file.write_all(contents)?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            Ok(Self { file, path })
        };
        made().map_err(|error| Reply::not_reached(format!("nothing was changed: no file in memory: {error}")))
    }

    /// What is in it now.
    pub(super) fn contents(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
