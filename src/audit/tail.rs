//! The last lines of a log, found from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much is read at a time, in bytes.
const STEP: u64 = 64 << 10;

/// The last `n` lines, oldest first. However long the log is, only its end is read.
///
/// # Errors
/// The file can't be read.
pub fn tail(path: &Path, n: usize) -> io::Result<Vec<String>> {
    let file = File::open(path)?;
    let mut from = file.metadata()?.len();
    // The end of the log as far as it was read, its pieces in the order of the file.
    let mut end: Vec<u8> = Vec::new();
    while from > 0 && newlines(&end) <= n {
        let step = from.min(STEP);
        from -= step;
        let mut piece = vec![0; usize::try_from(step).unwrap_or_default()];
        file.read_exact_at(&mut piece, from)?;
        piece.append(&mut end);
        end = piece;
    }
    let text = end.strip_suffix(b"\n").unwrap_or(&end);
    let lines: Vec<&[u8]> = if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == b'\n').collect() };
    let skipped = lines.len().saturating_sub(n);
    Ok(lines.into_iter().skip(skipped).map(|line| String::from_utf8_lossy(line).into_owned()).collect())
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
