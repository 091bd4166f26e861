//! The reading side of a socket: one buffer, one read that may stay armed while other things are waited for.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use monoio::io::{CancelHandle, Canceller};

use crate::{Buf, SMALL_BYTES, Socket};

type Outcome = (io::Result<usize>, Buf);

/// A place for one future of a type without a name, so that a read costs no allocation: the place is boxed once per
/// connection and each read is built in it.
trait RecvSlot {
    fn start(&mut self, socket: Rc<Socket>, buf: Buf, cancel: CancelHandle);
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome>;
}

struct Slot<F, M> {
    future: Pin<Box<Option<F>>>,
    make: M,
}

impl<F, M> RecvSlot for Slot<F, M>
where
    F: Future<Output = Outcome>,
    M: Fn(Rc<Socket>, Buf, CancelHandle) -> F,
{
    fn start(&mut self, socket: Rc<Socket>, buf: Buf, cancel: CancelHandle) {
        debug_assert!(self.future.is_none(), "one read at a time");
        self.future.set(Some((self.make)(socket, buf, cancel)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            debug_assert!(false, "polled without a read");
            return Poll::Pending;
        };
        let outcome = std::task::ready!(future.poll(cx));
        self.future.set(None);
        Poll::Ready(outcome)
    }
}

fn new_slot() -> Box<dyn RecvSlot> {
    let make = |socket: Rc<Socket>, buf, cancel| async move { socket.recv(buf, cancel).await };
    Box::new(Slot {
        future: Box::pin(None),
        make,
    })
}

/// The reading side of a socket.
///
/// A read that was started stays started when the future that waits for it is dropped: its bytes are there for the
/// next one who asks. So waiting for a read may be raced against anything, and nothing is lost.
///
/// While a read is armed its buffer is the kernel's, and [`Reader::buf`] shows an empty one.
pub struct Reader {
    socket: Rc<Socket>,
    slot: Box<dyn RecvSlot>,
    canceller: Canceller,
    armed: bool,
    ready: Option<io::Result<usize>>,
    buf: Buf,
    /// Size of the block that a read takes when the buffer has none.
    read_size: usize,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("socket", &self.socket)
            .field("armed", &self.armed)
            .field("buf", &self.buf)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader on `socket`, without a buffer yet. Allocates the place for its reads.
    #[must_use]
    pub fn new(socket: Rc<Socket>) -> Self {
        Self {
            socket,
            slot: new_slot(),
            canceller: Canceller::new(),
            armed: false,
            ready: None,
            buf: Buf::empty(),
            read_size: SMALL_BYTES,
        }
    }

    /// Bytes that a read should take at once when the buffer has no block yet; [`SMALL_BYTES`] at first.
    pub fn set_read_size(&mut self, bytes: usize) {
        self.read_size = bytes;
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Rc<Socket> {
        &self.socket
    }

    /// What was read and not consumed; empty while a read is armed.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.buf.data()
    }

    /// The buffer, to consume from or to take.
    pub fn buf(&mut self) -> &mut Buf {
        debug_assert!(!self.armed, "the buffer is the kernel's");
        &mut self.buf
    }

    /// A read is under way.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Starts a read that appends to the buffer, unless one is under way or its result waits to be fetched.
    ///
    /// Takes a block from the pool if the buffer has none and grows the buffer if it is full.
    pub fn arm(&mut self) {
        if self.armed || self.ready.is_some() {
            return;
        }
        if self.buf.capacity() == 0 {
            self.buf = Buf::with_capacity(self.read_size);
        } else if self.buf.spare() == 0 {
            self.buf.reserve(self.buf.capacity());
        }
        let buf = std::mem::replace(&mut self.buf, Buf::empty());
        self.slot
            .start(Rc::clone(&self.socket), buf, self.canceller.handle());
        self.armed = true;
        // The first poll submits the operation. Nobody waits yet: whoever does polls again with its own waker.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = self.poll_armed(&mut cx) {
            self.ready = Some(result);
        }
    }

    fn poll_armed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (result, buf) = std::task::ready!(self.slot.poll(cx));
        self.armed = false;
        self.buf = buf;
        Poll::Ready(result)
    }

    /// Polls the armed read: the bytes appended, 0 at the end of the stream. Starts one if there is none.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.arm();
        if let Some(result) = self.ready.take() {
            return Poll::Ready(result);
        }
        self.poll_armed(cx)
    }

    /// Waits until bytes were appended to the buffer: how many, 0 at the end of the stream. May be dropped and
    /// called again without loss.
    ///
    /// # Errors
    ///
    /// `ECONNRESET` and what else `recv(2)` says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// The result of the armed read if it has ended; does not wait and does not start one.
    pub fn try_fill(&mut self) -> Option<io::Result<usize>> {
        if self.armed {
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(result) = self.poll_armed(&mut cx) {
                return Some(result);
            }
        }
        self.ready.take()
    }

    /// Gives the armed read up, so that the buffer can be dropped. Waits for the kernel to let go of it.
    ///
    /// Returns what the read brought if it ended first, `None` if it did not or if there was none.
    pub async fn cancel(&mut self) -> Option<io::Result<usize>> {
        if self.armed {
            self.canceller = std::mem::take(&mut self.canceller).cancel();
            let result = poll_fn(|cx| self.poll_armed(cx)).await;
            let cancelled =
                matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED));
            return (!cancelled).then_some(result);
        }
        self.ready.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::pair;
    use crate::{Choice, Executor, Options};

    fn on_both_drivers(test: impl AsyncFn()) {
        for choice in [Choice::Auto, Choice::Epoll] {
            Executor::new(Options {
                choice,
                entries: 256,
            })
            .unwrap()
            .block_on(test());
        }
    }

    async fn send(socket: &Socket, text: &str) {
        let (sent, buf) = socket.send_all(Buf::copy_of(text.as_bytes()), |_| {}).await;
        sent.unwrap();
        assert_eq!(buf.data(), text.as_bytes(), "given back as it was");
    }

    #[test]
    fn a_read_survives_the_one_who_waited_for_it() {
        on_both_drivers(async || {
            let (left, right) = pair().unwrap();
            let mut reader = Reader::new(left);
            let waited = monoio::time::timeout(std::time::Duration::from_millis(1), reader.fill());
            assert!(waited.await.is_err());
            send(&right, "AAAA").await;
            assert_eq!(reader.fill().await.unwrap(), 4);
            assert_eq!(reader.data(), b"AAAA");
        });
    }

    #[test]
    fn reads_append_and_grow() {
        on_both_drivers(async || {
            let (left, right) = pair().unwrap();
            let mut reader = Reader::new(left);
            for count in 1..=3 {
                send(&right, &"x".repeat(SMALL_BYTES)).await;
                while reader.data().len() < count * SMALL_BYTES {
                    reader.fill().await.unwrap();
                }
            }
            assert!(reader.data().iter().all(|&byte| byte == b'x'));
        });
    }

    #[test]
    fn a_cancelled_read_gives_the_buffer_back_and_loses_nothing() {
        on_both_drivers(async || {
            let (left, right) = pair().unwrap();
            let mut reader = Reader::new(left);
            let mut sent = 0;
            for round in 0..100 {
                reader.arm();
                if round % 2 == 1 {
                    send(&right, "ab").await;
                    sent += 2;
                }
                let got = reader.cancel().await.map_or(0, Result::unwrap);
                assert!(!reader.is_armed());
                assert_eq!(reader.data().len(), got);
                sent -= got;
                reader.buf().clear();
            }
            send(&right, "after").await;
            while sent + 5 > reader.data().len() {
                reader.fill().await.unwrap();
            }
            assert!(reader.data().ends_with(b"after"));
        });
    }

    #[test]
    fn a_shutdown_ends_a_pending_read() {
        on_both_drivers(async || {
            let (left, _right) = pair().unwrap();
            let mut reader = Reader::new(Rc::clone(&left));
            reader.arm();
            assert!(reader.try_fill().is_none());
            left.shutdown(std::net::Shutdown::Read);
            assert_eq!(reader.fill().await.unwrap(), 0);
        });
    }
}
