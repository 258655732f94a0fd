//! A connection where sqlx has none: packets, and statements with their answers as text. The login is in [`super::signature`].
//!
//! <https://mariadb.com/docs/server/reference/clientserver-protocol>, "Protocol Data Types" and "Result Set Packets".

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::session::Row;
use super::verdict::Trouble;
use crate::net::Duplex;

/// The longest packet that is read, in bytes. Far below the length at which the protocol splits packets.
pub(super) const PACKET_BYTES_MAX: u32 = 1 << 20;
/// The most rows of an answer.
const ROWS_MAX: usize = 10_000;
/// Goodbye, and a statement as text.
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

/// What a packet begins with.
pub(super) const OK: u8 = 0;
/// The end of a list; in a login, the wish for another method.
pub(super) const END: u8 = 0xfe;
const ERROR: u8 = 0xff;
const NULL: u8 = 0xfb;

/// The longest packet that only says that a list is over.
const END_BYTES_MAX: usize = 8;

/// A connection to a server.
pub(super) struct Wire {
    pub(super) stream: Box<dyn Duplex>,
    /// The number of the next packet of this exchange.
    pub(super) next: u8,
}

impl Wire {
    /// The next packet. One that says no is an error.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await.map_err(lost)?;
        let [low, middle, high, number] = head;
        let length = u32::from_le_bytes([low, middle, high, 0]);
        if length > PACKET_BYTES_MAX {
            return Err(foreign());
        }
        let mut packet = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.stream.read_exact(&mut packet).await.map_err(lost)?;
        self.next = number.wrapping_add(1);
        match packet.split_first() {
            Some((&ERROR, answer)) => Err(refused(answer).unwrap_or_else(foreign)),
            Some(_) => Ok(packet),
            None => Err(foreign()),
        }
    }

    /// Sends a packet, whole.
    pub(super) async fn send(&mut self, parts: &[&[u8]]) -> Result<(), Trouble> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let [low, middle, high, 0, ..] = length.to_le_bytes() else { return Err(foreign()) };
        // As long as it gets, so that no copy stays behind where it grows.
        let mut packet = Zeroizing::new(Vec::with_capacity(length + 4));
        packet.extend_from_slice(&[low, middle, high, self.next]);
        parts.iter().for_each(|part| packet.extend_from_slice(part));
        self.next = self.next.wrapping_add(1);
        self.stream.write_all(&packet).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    /// Says goodbye.
    pub(super) async fn end(mut self) -> Result<(), Trouble> {
        self.next = 0;
        self.send(&[&[COM_QUIT]]).await
    }

    /// Sends a statement. The rows of its answer, if it has any.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Trouble> {
        self.next = 0;
        self.send(&[&[COM_QUERY], sql.as_bytes()]).await?;
        let head = self.receive().await?;
        if head.first() == Some(&OK) {
            return Ok(Vec::new());
        }
        let mut rest = &head[..];
        let columns = length(&mut rest).filter(|_| rest.is_empty()).ok_or_else(foreign)?;
        // What the columns are called, and the end of that.
        while !is_end(&self.receive().await?) {}
        let mut rows = Vec::new();
        loop {
            let packet = self.receive().await?;
            if is_end(&packet) {
                return Ok(rows);
            }
            if rows.len() == ROWS_MAX {
                return Err(foreign());
            }
            rows.push(row(&packet, columns).ok_or_else(foreign)?);
        }
    }
}

fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() <= END_BYTES_MAX
}

/// The values of a row, all of which it must have and nothing else.
fn row(mut packet: &[u8], columns: usize) -> Option<Row> {
    let mut values = Vec::new();
    while values.len() < columns {
        if let Some((&NULL, rest)) = packet.split_first() {
            packet = rest;
            values.push(None);
            continue;
        }
        let bytes = length(&mut packet)?;
        let (value, rest) = packet.split_at_checked(bytes)?;
        packet = rest;
        values.push(Some(value.to_vec()));
    }
    packet.is_empty().then_some(Row(values))
}

/// A number in front of what it counts ("length encoded integer").
fn length(rest: &mut &[u8]) -> Option<usize> {
    let (first, after) = rest.split_first()?;
    let bytes = match *first {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        NULL | ERROR => return None,
        small => {
            *rest = after;
            return Some(usize::from(small));
        }
    };
    let (number, after) = after.split_at_checked(bytes)?;
    *rest = after;
    let number = number.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number).ok()
}

/// The server's no: its number, and its words. Before the login they come without the state of SQL.
fn refused(answer: &[u8]) -> Option<Trouble> {
    let (number, words) = answer.split_first_chunk::<2>()?;
    let words = if words.first() == Some(&b'#') { words.get(6..)? } else { words };
    Some(Trouble::Answer { number: u16::from_le_bytes(*number), words: String::from_utf8_lossy(words).into_owned() })
}

fn lost(error: std::io::Error) -> Trouble {
    Trouble::Lost(error.to_string())
}

/// What the server sent is not of this protocol.
pub(super) fn foreign() -> Trouble {
    Trouble::Lost("the server does not keep to the protocol".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is made of an answer with these bytes.
    fn answered(bytes: &[u8]) -> Result<Vec<Row>, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(1 << 20);
            theirs.write_all(bytes).await.expect("written");
            theirs.shutdown().await.expect("closed");
            Wire { stream: Box::new(ours), next: 0 }.ask("SELECT 1").await
        })
    }

    fn packets(payloads: &[&[u8]]) -> Vec<u8> {
        let numbered = payloads.iter().zip(1..);
        let framed = numbered.map(|(payload, number)| {
            let length = u8::try_from(payload.len()).expect("short");
            [&[length, 0, 0, number], *payload].concat()
        });
        framed.collect::<Vec<_>>().concat()
    }

    #[test]
    fn rows_are_read_with_their_nulls_and_long_texts() {
        let long = [b'x'; 200];
        let (named, end) = (b"\x03def whatever", [END, 0, 0, 2, 0]);
        let row = [&[NULL, 0, 0xfc, 200, 0][..], &long].concat();
        let rows = answered(&packets(&[&[3], named, named, named, &end, &row, &end])).ok().expect("rows");
        let [Row(values)] = &rows[..] else { panic!("one row") };
        assert_eq!(values, &[None, Some(vec![]), Some(long.to_vec())]);
        assert!(rows[0].text(0).is_err() && rows[0].text(3).is_err());
        assert!(answered(&packets(&[&[OK, 0, 0, 2, 0, 0, 0]])).is_ok_and(|rows| rows.is_empty()));
    }

    #[test]
    fn a_no_has_its_number_and_its_words() {
        for answer in [&b"\xff\x15\x04#28000Access denied"[..], b"\xff\x15\x04Access denied"] {
            let Err(Trouble::Answer { number, words }) = answered(&packets(&[answer])) else { panic!("a no") };
            assert_eq!((number, words.as_str()), (1045, "Access denied"));
        }
    }

    proptest! {
        #[test]
        fn i11_whatever_a_server_sends_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = answered(&bytes);
            let _ = answered(&packets(&[&[2], &[END], &bytes, &[END]]));
        }
    }
}
