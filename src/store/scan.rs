//! Reading the journal from its start: every frame is verified, and what can't be is examined.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::frame::{
    self, FRAME_BYTES_MAX, FRAME_BYTES_MIN, HEADER_BYTES, Header, Position, claimed_length, claimed_sequence,
};
use super::seal::Keys;

/// How much is read at once.
const READ_BYTES: usize = 1 << 18;
/// What a disk writes whole or not at all, at least.
const SECTOR_BYTES: u64 = 512;
/// Zeros that can't be chance within a sealed frame.
const ZEROS_MIN: usize = 16;

/// A place in the journal's file: behind the frame that led to `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What has been committed there.
    pub(super) position: Position,
    /// The byte at which the next frame starts.
    pub(super) offset: u64,
}

/// What a whole journal holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    /// Behind the last frame that is whole.
    pub(super) end: Place,
    /// Behind the commit that was looked for.
    pub(super) mark: Option<Place>,
    /// What follows the last whole frame.
    pub(super) tail: Option<Tail>,
}

/// Bytes at the end of the journal that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// How many.
    pub(super) bytes: u64,
    /// What they look like.
    pub(super) shape: Shape,
    /// A later commit that is intact behind them.
    pub(super) later: Option<u64>,
}

/// What the bytes in a frame's place look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The first part of the frame that was due there.
    Cut,
    /// Whole sectors of it are zeros: the file was extended, and its data never reached the disk.
    Zeroed,
    /// Neither, so not what an unfinished append leaves behind.
    Altered,
}

/// A step of reading.
pub(super) enum Step<'a> {
    /// A verified frame, chained to the one before it.
    Frame(frame::Opened<'a>),
    /// The file ends here.
    End,
    /// There are bytes that are no frame.
    Invalid,
}

/// Reads frames in order.
pub(super) struct Frames<'a> {
    keys: &'a Keys,
    epoch: u64,
    reader: BufReader<&'a File>,
    left: u64,
    place: Place,
    buffer: Vec<u8>,
}

impl<'a> Frames<'a> {
    /// Reads on from `from`.
    pub(super) fn new(file: &'a File, keys: &'a Keys, epoch: u64, from: Place) -> io::Result<Self> {
        let left = file.metadata()?.len().saturating_sub(from.offset);
        let mut reader = BufReader::with_capacity(READ_BYTES, file);
        reader.seek(SeekFrom::Start(from.offset))?;
        Ok(Self { keys, epoch, reader, left, place: from, buffer: Vec::new() })
    }

    /// Behind the last frame that was returned.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> io::Result<Step<'_>> {
        if self.left == 0 {
            return Ok(Step::End);
        }
        if self.left < FRAME_BYTES_MIN as u64 {
            return Ok(Step::Invalid);
        }
        let mut start = [0; 4];
        self.reader.read_exact(&mut start)?;
        let Some(length) = claimed_length(start).filter(|length| *length as u64 <= self.left) else {
            return Ok(Step::Invalid);
        };
        self.buffer.resize(length, 0);
        self.buffer[..4].copy_from_slice(&start);
        self.reader.read_exact(&mut self.buffer[4..])?;
        let before = self.place.position;
        match frame::open(self.keys, self.epoch, &mut self.buffer) {
            Some(opened) if opened.previous == before.digest && opened.position.sequence == before.sequence + 1 => {
                self.place = Place { position: opened.position, offset: self.place.offset + length as u64 };
                self.left -= length as u64;
                Ok(Step::Frame(opened))
            }
            _ => Ok(Step::Invalid),
        }
    }
}

/// Verifies the whole journal and looks for the commit `mark` in it.
pub(super) fn scan(file: &File, keys: &Keys, header: &Header, mark: u64) -> io::Result<Scan> {
    let start = Place { position: header.base, offset: HEADER_BYTES as u64 };
    let mut found = (header.base.sequence == mark).then_some(start);
    let mut frames = Frames::new(file, keys, header.epoch, start)?;
    let whole = loop {
        match frames.next()? {
            Step::Frame(opened) if opened.position.sequence == mark => found = Some(frames.place()),
            Step::Frame(_) => {}
            Step::End => break true,
            Step::Invalid => break false,
        }
    };
    let end = frames.place();
    let tail = if whole { None } else { Some(examine(file, keys, header.epoch, end)?) };
    Ok(Scan { end, mark: found, tail })
}

/// The last commit that can be read anywhere in the journal; that of `end` if there is none behind it.
pub(super) fn last_intact(file: &File, keys: &Keys, header: &Header, end: Place) -> io::Result<u64> {
    let bytes = file.metadata()?.len().saturating_sub(end.offset);
    let mut tail = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut tail, end.offset)?;
    let mut last = end.position.sequence;
    let mut at = 0;
    while let Some((found, sequence)) = next_intact(keys, header.epoch, last, &tail[at..]) {
        last = last.max(sequence);
        at += found + 1;
    }
    Ok(last)
}

fn examine(file: &File, keys: &Keys, epoch: u64, end: Place) -> io::Result<Tail> {
    let bytes = file.metadata()?.len().saturating_sub(end.offset);
    // One append never leaves more than this; of a longer tail the start is enough to find an intact frame in.
    let mut tail = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(2 * FRAME_BYTES_MAX)];
    file.read_exact_at(&mut tail, end.offset)?;
    let later = later_frame(keys, epoch, end.position.sequence, &tail);
    let shape = if bytes > FRAME_BYTES_MAX as u64 { Shape::Altered } else { shape(keys, epoch, end, &tail) };
    Ok(Tail { bytes, shape, later })
}

/// The sequence of a frame that is intact somewhere behind the first byte of `tail`.
fn later_frame(keys: &Keys, epoch: u64, last: u64, tail: &[u8]) -> Option<u64> {
    next_intact(keys, epoch, last, tail.get(1..)?).map(|(_, sequence)| sequence)
}

/// The first frame in `bytes` that is intact and later than `last`: at which byte, and its sequence.
fn next_intact(keys: &Keys, epoch: u64, last: u64, bytes: &[u8]) -> Option<(usize, u64)> {
    let most = last + 2 + (bytes.len() / FRAME_BYTES_MIN) as u64;
    (0..bytes.len().saturating_sub(FRAME_BYTES_MIN - 1)).find_map(|at| {
        let rest = &bytes[at..];
        let sequence = claimed_sequence(rest).filter(|sequence| (last + 1..=most).contains(sequence))?;
        let length = claimed_length(*rest.first_chunk()?).filter(|length| *length <= rest.len())?;
        frame::open(keys, epoch, &mut rest[..length].to_vec()).map(|_| (at, sequence))
    })
}

fn shape(keys: &Keys, epoch: u64, end: Place, tail: &[u8]) -> Shape {
    if frame::open(keys, epoch, &mut tail.to_vec()).is_some() {
        // Whole but for its length or its place in the chain.
        return Shape::Altered;
    }
    let mut from = 0;
    while from < tail.len() {
        let sector_ends = SECTOR_BYTES - (end.offset + from as u64) % SECTOR_BYTES;
        let to = tail.len().min(from + sector_ends as usize);
        let sector = &tail[from..to];
        if (sector.len() >= ZEROS_MIN || tail.len() < ZEROS_MIN) && sector.iter().all(|byte| *byte == 0) {
            return Shape::Zeroed;
        }
        from = to;
    }
    let longer = tail.first_chunk().is_none_or(|start| claimed_length(*start).is_some_and(|claim| claim > tail.len()));
    let in_sequence = claimed_sequence(tail).is_none_or(|sequence| sequence == end.position.sequence + 1);
    let chained = tail.get(12..28).is_none_or(|previous| previous == end.position.digest);
    if longer && in_sequence && chained { Shape::Cut } else { Shape::Altered }
}
