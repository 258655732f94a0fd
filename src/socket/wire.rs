//! A connection's stream as hyper wants it.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};

/// How much is read at once, in bytes: more than any ordinary request has.
const PIECE: usize = 2048;

/// A connection's stream, shared with whoever asks the kernel about its peer. Borrowed for the time of one call only.
pub(super) type Stream = RefCell<UnixStream>;

/// Reads and writes the stream. It fails when the client takes nothing of an answer
/// for too long: secrets don't wait in memory (I9), nor do places stay taken (I11).
pub(super) struct Wire {
    stream: Rc<Stream>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(stream: Rc<Stream>, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    /// Gives up if `attempt` has been pending for too long.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnOnce(Pin<&mut UnixStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = attempt(Pin::new(&mut self.stream.borrow_mut()), cx);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; PIECE];
        let room = buf.remaining().min(PIECE);
        let mut read = ReadBuf::new(&mut piece[..room]);
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper lets go of the stream right after, and the last handle that goes closes it.
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        // So that hyper never copies an answer into a buffer of its own, which nobody would wipe.
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }
}
