//! The reading side of a socket: one buffer, one read that may stay armed while other things are waited for.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::io::{CancelHandle, Canceller};
use pin_project_lite::pin_project;

use crate::spare::Spare;
use crate::{Buf, SMALL_BYTES, Socket, ring};

type Outcome = (io::Result<usize>, Buf);

/// Long enough for the worker to have been in the kernel once: the runtime's timers know no less.
const TURN: Duration = Duration::from_millis(1);

/// Places for reads that one thread keeps for whoever reads next; more are freed. Some 300 bytes each.
const PLACES_MAX: usize = 512;

thread_local! {
    static PLACES: RefCell<Spare<Box<Place>>> = const { RefCell::new(Spare::new()) };
}

/// As for blocks: frees the places that nobody has needed since the last call.
pub(crate) fn trim_places() {
    PLACES.with(|places| places.borrow_mut().trim());
}

/// A place for one future of a type without a name, so that a read costs no allocation: the place is boxed, and each
/// read is built in it.
trait RecvSlot {
    fn start(self: Pin<&mut Self>, socket: &Rc<Socket>, buf: Buf);
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome>;
    /// Makes the read end, if it has not; its result comes from `poll`. False: it has ended, or not begun.
    fn cancel(self: Pin<&mut Self>, socket: &Socket) -> bool;
    /// Forgets the read. Loses what it brought, unless it is on epoll and was pending when it was polled last.
    fn forget(self: Pin<&mut Self>);
}

pin_project! {
    struct Slot<F, M> {
        #[pin]
        future: Option<F>,
        make: M,
        // Only where a read cannot be found by its descriptor.
        canceller: Option<Canceller>,
    }
}

impl<F, M> RecvSlot for Slot<F, M>
where
    F: Future<Output = Outcome>,
    M: Fn(&Rc<Socket>, Buf, Option<CancelHandle>) -> F,
{
    fn start(self: Pin<&mut Self>, socket: &Rc<Socket>, buf: Buf) {
        let mut this = self.project();
        debug_assert!(this.future.is_none(), "one read at a time");
        let handle = this.canceller.as_ref().map(Canceller::handle);
        this.future.set(Some((this.make)(socket, buf, handle)));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            debug_assert!(false, "polled without a read");
            return Poll::Pending;
        };
        let outcome = std::task::ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(outcome)
    }

    fn cancel(self: Pin<&mut Self>, socket: &Socket) -> bool {
        let Some(canceller) = self.project().canceller else {
            return ring::cancel_read(socket);
        };
        *canceller = std::mem::take(canceller).cancel();
        true
    }

    fn forget(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }
}

/// Whether a read is given up without a canceller of its own, on the driver that runs.
fn needs_no_canceller() -> bool {
    ring::cancels_reads() || monoio::utils::is_legacy()
}

fn new_slot(needs_no_canceller: bool) -> Pin<Box<dyn RecvSlot>> {
    if needs_no_canceller {
        let make = |socket: &Rc<Socket>, buf, _| socket.recv(buf);
        return Box::pin(Slot {
            future: None,
            make,
            canceller: None,
        });
    }
    let make = |socket: &Rc<Socket>, buf, cancel: Option<CancelHandle>| {
        let (socket, cancel) = (
            Rc::clone(socket),
            cancel.unwrap_or_else(|| Canceller::new().handle()),
        );
        async move { socket.cancelable_recv(buf, cancel).await }
    };
    Box::pin(Slot {
        future: None,
        make,
        canceller: Some(Canceller::new()),
    })
}

/// What a reader needs only while it reads or holds bytes.
struct Place {
    slot: Pin<Box<dyn RecvSlot>>,
    buf: Buf,
    /// The slot has no canceller.
    plain: bool,
}

impl Place {
    fn take() -> Box<Self> {
        let plain = needs_no_canceller();
        let kept = PLACES.try_with(|places| places.borrow_mut().take());
        // A thread has one driver, but for tests.
        let kept = kept.ok().flatten().filter(|place| place.plain == plain);
        kept.unwrap_or_else(|| {
            Box::new(Self {
                slot: new_slot(plain),
                buf: Buf::empty(),
                plain,
            })
        })
    }

    fn give(mut self: Box<Self>) {
        self.slot.as_mut().forget();
        self.buf = Buf::empty();
        // The pool is gone while the thread ends; the place is freed then.
        let _gone = PLACES.try_with(|places| places.borrow_mut().give(self, PLACES_MAX));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (result, buf) = std::task::ready!(self.slot.as_mut().poll(cx));
        self.buf = buf;
        Poll::Ready(result)
    }
}

/// The reading side of a socket.
///
/// A read that was started stays started when the future that waits for it is dropped: its bytes are there for the
/// next one who asks. So waiting for a read may be raced against anything, and nothing is lost.
///
/// While a read is armed its buffer is the kernel's, and [`Reader::buf`] shows an empty one. A reader that neither
/// reads nor holds bytes is a few words ([`Reader::rest`]).
pub struct Reader {
    socket: Rc<Socket>,
    place: Option<Box<Place>>,
    /// Size of the block that a read takes when the buffer has none.
    read_size: u32,
    armed: bool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("socket", &self.socket)
            .field("armed", &self.armed)
            .field("data", &self.data().len())
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader on `socket`, without a buffer yet. Allocates nothing.
    #[must_use]
    pub const fn new(socket: Rc<Socket>) -> Self {
        Self {
            socket,
            place: None,
            read_size: SMALL,
            armed: false,
        }
    }

    /// Bytes that a read should take at once when the buffer has no block yet; [`SMALL_BYTES`] at first.
    pub fn set_read_size(&mut self, bytes: usize) {
        self.read_size = u32::try_from(bytes).unwrap_or(SMALL);
    }

    /// The socket.
    #[must_use]
    pub const fn socket(&self) -> &Rc<Socket> {
        &self.socket
    }

    /// What was read and not consumed; empty while a read is armed.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.place.as_ref().map_or(&[], |place| place.buf.data())
    }

    /// The buffer, to consume from or to take.
    pub fn buf(&mut self) -> &mut Buf {
        debug_assert!(!self.armed, "the buffer is the kernel's");
        &mut self.place.get_or_insert_with(Place::take).buf
    }

    /// A read is under way.
    #[must_use]
    pub const fn is_armed(&self) -> bool {
        self.armed
    }

    /// Starts a read that appends to the buffer, unless one is under way or its result waits to be fetched.
    ///
    /// Takes a block from the pool if the buffer has none and grows the buffer if it is full.
    #[inline]
    pub fn arm(&mut self) {
        if self.armed {
            return;
        }
        let place = self.place.get_or_insert_with(Place::take);
        let buf = &mut place.buf;
        if buf.is_empty() {
            if buf.capacity() == 0 {
                *buf = Buf::with_capacity(self.read_size as usize);
            }
            buf.leave_headroom();
        } else if buf.spare() == 0 {
            buf.reserve(buf.capacity());
        }
        let buf = std::mem::replace(buf, Buf::empty());
        self.socket.began();
        place.slot.as_mut().start(&self.socket, buf);
        self.armed = true;
    }

    /// Polls the armed read: the bytes appended, 0 at the end of the stream. Starts one if there is none.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.arm();
        self.poll_armed(cx)
    }

    fn poll_armed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.place {
            Some(place) => {
                let result = std::task::ready!(place.poll(cx));
                self.armed = false;
                self.socket.ended();
                Poll::Ready(result)
            }
            None => {
                debug_assert!(false, "polled without a read");
                Poll::Pending
            }
        }
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
        if !self.armed {
            return None;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_armed(&mut cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Gives the armed read up, so that the buffer can be dropped. Waits for the kernel to let go of it.
    ///
    /// Returns what the read brought if it ended first, `None` if it did not or if there was none.
    pub async fn cancel(&mut self) -> Option<io::Result<usize>> {
        if !self.armed {
            return None;
        }
        if monoio::utils::is_legacy() {
            // There a read happens when it is polled: one that is pending has taken nothing from the socket.
            let ended = self.try_fill();
            if ended.is_none() {
                self.forget();
            }
            return ended;
        }
        let result = loop {
            if self.tell_to_end() {
                break self.fill().await;
            }
            // One that was started in this turn of the worker is with the kernel in the next.
            let mut turn = Box::pin(monoio::time::sleep(TURN));
            let ended = poll_fn(|cx| match self.poll_armed(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => turn.as_mut().poll(cx).map(|()| None),
            });
            if let Some(result) = ended.await {
                break result;
            }
        };
        let cancelled =
            matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED));
        (!cancelled).then_some(result)
    }

    fn forget(&mut self) {
        if let Some(place) = &mut self.place {
            place.slot.as_mut().forget();
            self.socket.ended();
        }
        self.armed = false;
    }

    /// False: the read has ended, or not begun.
    fn tell_to_end(&mut self) -> bool {
        let socket = &self.socket;
        self.place
            .as_mut()
            .is_some_and(|place| place.slot.as_mut().cancel(socket))
    }

    /// Gives back all that it holds while nothing is to be read. No read may be armed, no byte be left.
    pub fn rest(&mut self) {
        debug_assert!(!self.armed && self.data().is_empty(), "bytes would be lost");
        if let Some(place) = self.place.take_if(|_| !self.armed) {
            place.give();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.give();
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 4096")]
const SMALL: u32 = SMALL_BYTES as u32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::pair;
    use crate::{Choice, Executor, Options};

    fn on_all_drivers(test: impl AsyncFn()) {
        for choice in [Choice::Auto, Choice::Epoll] {
            Executor::new(Options {
                choice,
                entries: 256,
            })
            .unwrap()
            .block_on(test());
        }
        Executor::new(Options {
            choice: Choice::Auto,
            entries: 256,
        })
        .unwrap()
        .without_cancel_by_descriptor()
        .block_on(test());
    }

    #[test]
    fn a_ring_is_found_and_takes_cancels_by_descriptor() {
        let mut executor = Executor::new(Options {
            choice: Choice::Auto,
            entries: 256,
        })
        .unwrap();
        if executor.report().flags.contains("DEFER_TASKRUN") && kernel_at_least(6, 6) {
            assert!(executor.block_on(async { ring::cancels_reads() }));
        }
        assert!(!ring::cancels_reads(), "only while it runs");
    }

    fn kernel_at_least(major: u32, minor: u32) -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
    }

    async fn send(socket: &Socket, text: &str) {
        let (sent, buf) = socket.send_all(Buf::copy_of(text.as_bytes()), |_| {}).await;
        sent.unwrap();
        assert_eq!(buf.data(), text.as_bytes(), "given back as it was");
    }

    #[test]
    fn a_read_survives_the_one_who_waited_for_it() {
        on_all_drivers(async || {
            let (left, right) = pair().unwrap();
            let mut reader = Reader::new(left);
            let waited = monoio::time::timeout(Duration::from_millis(1), reader.fill());
            assert!(waited.await.is_err());
            send(&right, "AAAA").await;
            assert_eq!(reader.fill().await.unwrap(), 4);
            assert_eq!(reader.data(), b"AAAA");
        });
    }

    #[test]
    fn reads_append_and_grow() {
        on_all_drivers(async || {
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
        on_all_drivers(async || {
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
        on_all_drivers(async || {
            let (left, _right) = pair().unwrap();
            let mut reader = Reader::new(Rc::clone(&left));
            reader.arm();
            assert!(reader.try_fill().is_none());
            left.shutdown(std::net::Shutdown::Read);
            assert_eq!(reader.fill().await.unwrap(), 0);
        });
    }
}
