//! A disk that remembers all that was written to it, so that what any power cut would have left of it can be looked at.
//!
//! It is a server of the NBD protocol (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>), which `nbdfuse`
//! shows as a file; that is mounted as a loop device with a real file system. A power cut leaves what was flushed, and of what
//! came after that any part.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::{eventually, within};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What an image is written by.
const BLOCK: usize = 64 << 10;
static EMPTY: [u8; BLOCK] = [0; BLOCK];

/// One request that changed the disk.
#[derive(Clone)]
pub struct Entry {
    /// What was written, and where; a flush has nothing.
    pub write: Option<(usize, Vec<u8>)>,
    /// What [`Disk::new`] was to look at, when the request came.
    pub seen: Vec<u8>,
}

/// What was written, in order, onto an image that was there before.
#[derive(Clone, Default)]
pub struct Recording {
    base: Vec<u8>,
    entries: Vec<Entry>,
}

impl Recording {
    /// How many requests there were so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// One of them.
    pub fn entry(&self, number: usize) -> Option<&Entry> {
        self.entries.get(number)
    }

    /// The disk after a power cut behind the first `cut` requests. Each sector that was written after the last flush before it
    /// has arrived if `arrived` says so.
    pub fn image(&self, cut: usize, mut arrived: impl FnMut() -> bool) -> Vec<u8> {
        let mut image = self.base.clone();
        let flushed = self.entries[..cut].iter().rposition(|entry| entry.write.is_none()).unwrap_or(0);
        for (number, entry) in self.entries[..cut].iter().enumerate() {
            let Some((at, bytes)) = &entry.write else { continue };
            for (place, sector) in bytes.chunks(SECTOR).enumerate() {
                if number < flushed || arrived() {
                    let at = at + place * SECTOR;
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }
}

/// The disk, mounted. Unmounted on drop.
pub struct Disk {
    recording: Arc<Mutex<Recording>>,
    file: PathBuf,
    mounted: PathBuf,
    nbdfuse: Child,
}

impl Disk {
    /// Makes a file system and mounts it at `folder`. With each request, `watched` is read. Needs root.
    pub fn new(scratch: &Path, filesystem: FileSystem, folder: &Path, watched: &Path) -> Self {
        let base = filesystem.made(&scratch.join("base.img"));
        let size = base.len();
        let recording = Arc::new(Mutex::new(Recording { base: base.clone(), entries: Vec::new() }));
        let socket = scratch.join("nbd.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (kept, watched) = (Arc::clone(&recording), watched.to_owned());
        std::thread::spawn(move || {
            let mut disk = base;
            for client in listener.incoming().flatten() {
                // It goes when it is unmounted.
                let _ = serve(client, &mut disk, |write| {
                    let seen = fs::read(&watched).unwrap_or_default();
                    kept.lock().unwrap_or_else(PoisonError::into_inner).entries.push(Entry { write, seen });
                });
            }
        });
        let file = scratch.join("disk");
        fs::write(&file, b"").expect("a file");
        let mut nbdfuse = Command::new("nbdfuse");
        nbdfuse.arg(&file).arg(format!("nbd+unix:///?socket={}", socket.display())).stdin(Stdio::null());
        let nbdfuse = nbdfuse.spawn().expect("nbdfuse is installed (apt-get install libnbd-bin)");
        eventually("nbdfuse shows the disk", || {
            fs::metadata(&file).is_ok_and(|found| found.len() == size as u64).then_some(())
        });
        mount(&file, folder, filesystem.options());
        Self { recording, file, mounted: folder.to_owned(), nbdfuse }
    }

    /// How many requests there were so far.
    pub fn requests(&self) -> usize {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All that was written up to now, though what is mounted may still hold something back.
    pub fn recording(&self) -> Recording {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.mounted);
        unmount(&self.file);
        if within(super::PATIENCE, || self.nbdfuse.try_wait().ok().flatten()).is_none() {
            let _ = self.nbdfuse.kill();
            let _ = self.nbdfuse.wait();
        }
    }
}

/// An image, mounted as it would be after the power is back. Unmounted on drop.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Writes the image to `file` and mounts it at `folder`.
    pub fn new(image: &[u8], file: &Path, folder: &Path) -> Self {
        let _ = fs::remove_file(file);
        let made = fs::File::create(file).expect("an image");
        made.set_len(image.len() as u64).expect("its length");
        // Most of it is empty.
        for (number, block) in image.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        {
            made.write_all_at(block, (number * BLOCK) as u64).expect("written");
        }
        mount(file, folder, "loop");
        Self(folder.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// What is made on the disk.
#[derive(Clone, Copy, Debug)]
pub enum FileSystem {
    /// Debian's default.
    Ext4,
    /// Red Hat's default.
    Xfs,
    /// openSUSE's default.
    Btrfs,
}

impl FileSystem {
    /// An image with an empty one.
    fn made(self, file: &Path) -> Vec<u8> {
        let (mebibytes, program, arguments): (u64, _, &[&str]) = match self {
            Self::Ext4 => (32, "mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^resize_inode"]),
            Self::Xfs => (300, "mkfs.xfs", &["-q"]),
            Self::Btrfs => (128, "mkfs.btrfs", &["-q"]),
        };
        fs::File::create(file).and_then(|made| made.set_len(mebibytes << 20)).expect("a file");
        run(Command::new(program).args(arguments).arg(file));
        fs::read(file).expect("the image")
    }

    /// Nothing gets to the disk by itself for as long as a test takes, where that can be had.
    fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => "loop,commit=600",
            Self::Xfs => "loop",
        }
    }
}

fn mount(file: &Path, folder: &Path, options: &str) {
    run(Command::new("mount").args(["-o", options]).arg(file).arg(folder));
}

fn unmount(folder: &Path) {
    let done =
        || Command::new("umount").arg(folder).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if within(std::time::Duration::from_secs(5), || done().then_some(())).is_none() {
        let _ = Command::new("umount").arg("--lazy").arg(folder).status();
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One client, from its greeting to its end.
fn serve(client: UnixStream, disk: &mut [u8], mut note: impl FnMut(Option<(usize, Vec<u8>)>)) -> io::Result<()> {
    const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
    const REPLY: u32 = 0x6744_6698;
    let mut client = io::BufReader::new(client);
    // Fixed newstyle, no zeroes.
    send(&client, &[&b"NBDMAGICIHAVEOPT"[..], &3_u16.to_be_bytes()])?;
    number::<4>(&mut client)?;
    loop {
        number::<8>(&mut client)?;
        let (option, length) = (u32::from_be_bytes(number(&mut client)?), u32::from_be_bytes(number(&mut client)?));
        io::copy(&mut (&mut client).take(length.into()), &mut io::sink())?;
        let reply = |kind: u32, data: &[u8]| {
            let parts = [&OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()];
            send(&client, &[&parts.concat(), &(data.len() as u32).to_be_bytes(), data])
        };
        match option {
            // Information, or go: the export's size; it can be flushed.
            6 | 7 => {
                reply(3, &[&[0, 0], &(disk.len() as u64).to_be_bytes()[..], &5_u16.to_be_bytes()].concat())?;
                reply(1, &[])?;
                if option == 7 {
                    break;
                }
            }
            2 => return Ok(()),
            _ => reply(0x8000_0001, &[])?,
        }
    }
    loop {
        number::<6>(&mut client)?;
        let kind = u16::from_be_bytes(number(&mut client)?);
        let handle = number::<8>(&mut client)?;
        let (at, length) = (u64::from_be_bytes(number(&mut client)?), u32::from_be_bytes(number(&mut client)?));
        let range = at as usize..at as usize + length as usize;
        let (error, data) = match kind {
            0 => (0_u32, &disk[range]),
            1 => {
                client.read_exact(&mut disk[range.clone()])?;
                note(Some((range.start, disk[range].to_vec())));
                (0, &[][..])
            }
            2 => return Ok(()),
            3 => {
                note(None);
                (0, &[][..])
            }
            _ => (22, &[][..]),
        };
        send(&client, &[&REPLY.to_be_bytes()[..], &error.to_be_bytes(), &handle, data])?;
    }
}

fn number<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map(|()| bytes)
}

fn send(to: &io::BufReader<UnixStream>, parts: &[&[u8]]) -> io::Result<()> {
    let mut to: &UnixStream = to.get_ref();
    to.write_all(&parts.concat())
}
