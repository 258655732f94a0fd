//! The line protocol's server: one JSON line in, one JSON line out, until the input ends.

use std::io::{self, ErrorKind, Read, Write};

use keywheel_protocol::{LINE_BYTES_MAX, Reason, Reply, Request, Step, decode_request, encode_reply};
use zeroize::Zeroize;

use crate::{Kind, failpoint};

/// Answers requests for `kind` until `input` ends or nobody reads `output` any more.
///
/// A line that is no request is answered with a `no`, so that whoever sent it learns why, and the next line is read.
///
/// # Errors
/// What reading or writing failed with, a closed `output` excepted.
pub fn serve(kind: &Kind, input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next()? {
        let reply = match line {
            Line::Whole(bytes) => match decode_request(bytes) {
                Ok(request) => answer(kind, &request),
                Err(error) => Reply::no(Reason::Unsupported, error.to_string()),
            },
            Line::TooLong => Reply::no(Reason::Unsupported, format!("the line is longer than {LINE_BYTES_MAX} bytes")),
        };
        let bytes = encode_reply(&reply)
            .or_else(|error| encode_reply(&Reply::in_doubt(format!("the answer could not be written: {error}"))));
        let Ok(bytes) = bytes else { return Err(ErrorKind::InvalidData.into()) };
        match output.write_all(&bytes).and_then(|()| output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            done => done?,
        }
    }
    Ok(())
}

fn answer(kind: &Kind, request: &Request) -> Reply {
    if request.step == Step::Verify {
        failpoint::hit("worker.verify.before");
    }
    let reply = redacted(kind.reply(request), request);
    match (request.step, &reply) {
        (Step::Apply, Reply::Yes(_)) => failpoint::hit("worker.apply.after"),
        (Step::Verify, _) => failpoint::hit("worker.verify.after"),
        (Step::Retire, Reply::Yes(_)) => failpoint::hit("worker.retire.after"),
        _ => {}
    }
    reply
}

/// The target's words are passed on, and it is not known what all targets put into theirs: the secrets of the request are
/// taken out.
fn redacted(reply: Reply, request: &Request) -> Reply {
    let clean = |text: String| request.redact(&text);
    match reply {
        Reply::Yes(mut yes) => {
            yes.note = yes.note.map(clean);
            Reply::Yes(yes)
        }
        Reply::No { reason, message, retry_after_s } => Reply::No { reason, message: clean(message), retry_after_s },
        Reply::NotReached { message } => Reply::NotReached { message: clean(message) },
        Reply::InDoubt { message } => Reply::InDoubt { message: clean(message) },
    }
}

enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Lines of an input, in one buffer that never grows and is wiped: the standard library's buffered readers leave copies.
struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// How much of the buffer was ever filled: the rest of its pages is never touched, nor wiped.
    touched: usize,
    /// How much of the buffer is filled.
    filled: usize,
    /// The length of the line that was handed out last, to be dropped next time.
    used: usize,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, buffer: vec![0; LINE_BYTES_MAX], touched: 0, filled: 0, used: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.drop_used();
        let mut searched = 0;
        let mut too_long = false;
        loop {
            if let Some(at) = self.buffer[searched..self.filled].iter().position(|byte| *byte == b'\n') {
                self.used = searched + at + 1;
                let line = if too_long { Line::TooLong } else { Line::Whole(&self.buffer[..self.used]) };
                return Ok(Some(line));
            }
            searched = self.filled;
            if self.filled == self.buffer.len() {
                // The rest of an endless line is skipped without being kept.
                too_long = true;
                self.used = self.filled;
                self.drop_used();
                searched = 0;
            }
            match self.input.read(&mut self.buffer[self.filled..]) {
                // A last line without its end was cut off: it is not a request.
                Ok(0) => return Ok(None),
                Ok(more) => {
                    self.filled += more;
                    self.touched = self.touched.max(self.filled);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn drop_used(&mut self) {
        self.buffer.copy_within(self.used..self.filled, 0);
        let left = self.filled - self.used;
        self.buffer[left..self.filled].fill(0);
        (self.filled, self.used) = (left, 0);
    }
}

impl<R> Drop for Lines<R> {
    fn drop(&mut self) {
        self.buffer[..self.touched].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_protocol::{Yes, decode_reply};

    fn echo(request: &Request) -> Reply {
        let note = request.subject.as_ref().and_then(|fields| fields.get("password")).map(|p| p.expose().to_owned());
        Reply::Yes(Yes { note, ..Yes::default() })
    }

    const ECHO: Kind = Kind { name: "echo", describe: crate::htpasswd::describe, answer: echo };

    fn talk(input: &[u8]) -> Vec<Reply> {
        let mut output = Vec::new();
        serve(&ECHO, input, &mut output).expect("served");
        output.split_inclusive(|byte| *byte == b'\n').map(|line| decode_reply(line).expect("a reply")).collect()
    }

    #[test]
    fn each_line_has_one_answer_and_what_is_no_request_is_told_so() {
        let long = format!("{{\"{}\"}}\n", "x".repeat(LINE_BYTES_MAX + 10));
        let good = r#"{"protocol":1,"step":"describe","deadline_ms":1000}"#;
        let unknown = r#"{"protocol":1,"step":"dance","deadline_ms":1000}"#;
        let replies = talk(format!("garbage\n\n{good}\n{long}{unknown}\n{good}\n{{\"cut off").as_bytes());
        let kinds: Vec<bool> = replies.iter().map(|reply| matches!(reply, Reply::Yes(_))).collect();
        assert_eq!(kinds, [false, false, true, false, false, true]);
        for reply in replies {
            assert!(matches!(reply, Reply::Yes(_) | Reply::No { reason: Reason::Unsupported, .. }), "{reply:?}");
        }
    }

    #[test]
    fn i8_a_secret_of_the_request_never_comes_back_in_words() {
        let line =
            br#"{"protocol":1,"step":"verify","subject":{"username":"u","password":"marker-1"},"deadline_ms":9}"#;
        let replies = talk(&[line.as_slice(), b"\n"].concat());
        let [Reply::Yes(yes)] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!(yes.note.as_deref(), Some("***"));
    }

    #[test]
    fn lines_that_arrive_in_pieces_are_put_together() {
        struct Pieces<'a>(&'a [u8]);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(3).min(buffer.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let mut lines = Lines::new(Pieces(b"first\nsecond line\nrest"));
        assert!(matches!(lines.next(), Ok(Some(Line::Whole(b"first\n")))));
        assert!(matches!(lines.next(), Ok(Some(Line::Whole(b"second line\n")))));
        assert!(matches!(lines.next(), Ok(None)));
        assert_eq!(lines.filled, 4, "only the rest is kept");
    }
}
