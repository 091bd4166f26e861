//! One stream socket, TCP or Unix, that may be read, written and shut down by different parties of one thread.
#![expect(
    unsafe_code,
    reason = "monoio takes `&mut` for a read or a write although both only clone the descriptor; one reader and one \
              writer at a time is what its own `into_split` allows, which offers neither readiness nor cancellation"
)]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent};
use monoio::net::{TcpStream, UnixStream};
use pin_project_lite::pin_project;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::Buf;
use crate::limits::check_reserve;

/// A connected stream socket, owned by one thread and shared there through an `Rc`.
///
/// One read and one write may be under way at once. The descriptor is closed when the last `Rc` is gone and the
/// kernel has given back the last buffer.
pub struct Socket {
    /// Also of a Unix socket: what is done with it here is the same, and the path of a request has no branch for it.
    stream: UnsafeCell<ManuallyDrop<TcpStream>>,
    /// Operations that were begun and whose end nobody has seen. Never too few; one that was given up counts for ever.
    under_way: Cell<u32>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("fd", &self.as_fd()).finish()
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream: UnsafeCell::new(ManuallyDrop::new(stream)),
            under_way: Cell::new(0),
        }
    }
}

impl TryFrom<UnixStream> for Socket {
    type Error = io::Error;

    /// Fails where the driver cannot take one more descriptor, or an operation on `stream` is under way.
    fn try_from(stream: UnixStream) -> io::Result<Self> {
        // SAFETY: the descriptor was the stream's own, and is now of nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
        Ok(TcpStream::from_std(fd.into())?.into())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: a shared borrow for the length of the call; the `&mut` made elsewhere never outlive the call that
        // starts an operation, and nothing runs between.
        let fd = unsafe { &*self.stream.get() }.as_raw_fd();
        // SAFETY: the stream keeps the descriptor open for as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: taken once, and `self` is gone after this.
        let stream = unsafe { ManuallyDrop::take(self.stream.get_mut()) };
        // By the driver a close is an operation, one more that cancels it in vain, and a piece of the heap. It must be
        // the driver's where an operation still has a share in the descriptor, which is closed after its end.
        if self.under_way.get() == 0 {
            // SAFETY: the descriptor was the stream's own, and is now of nobody else.
            drop(unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) });
        }
    }
}

impl Socket {
    /// An operation begins; [`Socket::ended`] when its result is there.
    pub(crate) fn began(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    /// The future of an operation was ready.
    pub(crate) fn ended(&self) {
        debug_assert!(self.under_way.get() > 0, "ends what has not begun");
        self.under_way.set(self.under_way.get().saturating_sub(1));
    }

    /// The address of this end; `None`: a Unix socket, or one that is gone. Costs a system call.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        SockRef::from(self).local_addr().ok()?.as_socket()
    }

    /// Connects to a TCP address, with `TCP_NODELAY`.
    ///
    /// Where nobody listens on a port of this host's, a connect may meet itself: when the kernel lets it come from that very
    /// port. It would be answered by what it says, and keep the port from who is to listen there; that is refused.
    ///
    /// Dropping the future gives the attempt up and closes the socket, so a timeout may wrap it.
    ///
    /// # Errors
    ///
    /// What `connect(2)` says; no descriptor left but those kept back.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_addr(address).await?;
        stream.set_nodelay(true)?;
        let socket = Self::from(stream);
        check_reserve(&socket)?;
        let own = socket.local_address();
        if own.is_some_and(|own| (own.ip(), own.port()) == (address.ip(), address.port())) {
            socket.reset_on_close();
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        Ok(socket)
    }

    /// Connects to a Unix stream socket.
    ///
    /// # Errors
    ///
    /// What `connect(2)` says; no descriptor left.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        let socket = Self::try_from(UnixStream::connect(path).await?)?;
        check_reserve(&socket)?;
        Ok(socket)
    }

    /// Starts to read, appending to `buf`. 0 bytes: the end.
    ///
    /// At most one at a time; [`crate::Reader`] keeps that, and counts it by [`Socket::began`]. On a ring the operation is
    /// under way when this returns, on epoll when the future is polled. On a ring, dropping the future may lose bytes.
    pub(crate) fn recv(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)> + use<> {
        debug_assert!(buf.spare() > 0, "a read into no space looks like the end");
        // SAFETY: `read` clones the descriptor and takes the buffer; it uses `&mut` only until it returns, and the
        // future that it returns holds neither. monoio's `OwnedReadHalf` does the same.
        let stream: &'static mut TcpStream = unsafe { &mut *self.stream.get() };
        stream.read(buf)
    }

    /// As [`Socket::recv`], under way when it is polled, until `cancel` says otherwise (then `ECANCELED`).
    pub(crate) async fn cancelable_recv(
        &self,
        buf: Buf,
        cancel: CancelHandle,
    ) -> (io::Result<usize>, Buf) {
        debug_assert!(buf.spare() > 0, "a read into no space looks like the end");
        // SAFETY: the operation clones the descriptor and takes the buffer; it uses `&mut` only until it is submitted,
        // and `self` is borrowed for as long.
        let stream = unsafe { &mut *self.stream.get() };
        stream.cancelable_read(buf, cancel).await
    }

    /// Starts to write; the number of bytes taken may be less than there are. As to when, see [`Socket::recv`].
    fn send(&self, buf: Buf) -> impl Future<Output = (io::Result<usize>, Buf)> + use<> {
        // SAFETY: as in `recv`; monoio's `OwnedWriteHalf` does the same.
        let stream: &'static mut TcpStream = unsafe { &mut *self.stream.get() };
        stream.write(buf)
    }

    /// Writes all of `buf` and gives it back as it was; `progress` hears of the bytes as the kernel takes them.
    ///
    /// Only one write may be under way. Dropping the future leaves the connection in an unknown state: bytes may
    /// still go out, so it must be closed then.
    ///
    /// # Errors
    ///
    /// The peer is gone (`EPIPE`, `ECONNRESET`), or the socket was shut down by a deadline. A write of no bytes is
    /// no error.
    pub async fn send_all(
        &self,
        mut buf: Buf,
        mut progress: impl FnMut(usize),
    ) -> (io::Result<()>, Buf) {
        let mut total = 0;
        let result = loop {
            if buf.is_empty() {
                break Ok(());
            }
            self.began();
            // Built where it stays: `.await` would move it there.
            let mut sending = pin!(self.send(buf));
            let (sent, back) = poll_fn(|cx| sending.as_mut().poll(cx)).await;
            self.ended();
            buf = back;
            match sent {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    progress(count);
                    total += count;
                    buf.skip(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        buf.unconsume(total);
        (result, buf)
    }

    /// Sends what the kernel takes at once, without the driver: the number of bytes.
    ///
    /// For one who sends little and has nothing else to do in this turn: the bytes leave now and not at the end of the
    /// turn, and there is no completion to wait for. No other write may be under way. Cost: one system call.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: nothing was taken, wait in [`Socket::send_all`]; else as there.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    /// Waits until there is something to read, the end, or an error, without holding a buffer.
    ///
    /// # Errors
    ///
    /// The kernel refuses to poll.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        // SAFETY: a shared borrow: `readable` takes `&self` and clones the descriptor.
        let stream = unsafe { &*self.stream.get() };
        self.began();
        Counted {
            socket: self,
            operation: stream.readable(false),
        }
    }

    /// Whether bytes are there that nobody has read. Costs a system call.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let mut byte = [MaybeUninit::uninit()];
        matches!(SockRef::from(self).recv_with_flags(&mut byte, flags), Ok(count) if count > 0)
    }

    /// Bytes that were sent and that the peer has not acknowledged, the end that [`Socket::shutdown`] makes counted as one more;
    /// 0: its kernel has got everything. Costs a system call.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: the request writes one `int` to where it points, which outlives the call, and the descriptor is open.
        let asked =
            unsafe { libc::ioctl(self.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        // Of a connection that is gone nothing is on its way.
        if asked == 0 {
            usize::try_from(count).unwrap_or(0)
        } else {
            0
        }
    }

    /// Throws away up to `most` bytes of what has come on a TCP connection, which are not copied: how many there were, 0 at
    /// the end. No read may be under way. Costs a system call.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: nothing has come; else what `recv(2)` says.
    pub fn throw_away(&self, most: usize) -> io::Result<usize> {
        let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
        // SAFETY: of TCP the kernel writes nothing with `MSG_TRUNC` (tcp(7)), and on any other socket it finds that the null
        // pointer is none to write to; the descriptor is open.
        let count =
            unsafe { libc::recv(self.as_fd().as_raw_fd(), std::ptr::null_mut(), most, flags) };
        usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
    }

    /// The peer has reset the connection, or both sides have ended it; with `or_ended` also: the peer has. Reads nothing,
    /// so it is found behind bytes that nobody wants yet. Costs a system call.
    #[must_use]
    pub fn is_gone(&self, or_ended: bool) -> bool {
        let asked = if or_ended {
            PollFlags::RDHUP
        } else {
            PollFlags::empty()
        };
        let mut fds = [PollFd::new(self, asked)];
        // Errors and hang-ups are reported unasked.
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(found) if found > 0)
    }

    /// `shutdown(2)`: a pending read ends with 0 bytes, a pending write with `EPIPE`. Errors mean that the peer is
    /// gone already, which is what was wanted.
    pub fn shutdown(&self, how: Shutdown) {
        drop(SockRef::from(self).shutdown(how));
    }

    /// Makes the coming close a reset, which also frees what the kernel still holds for a reader that never reads.
    pub fn reset_on_close(&self) {
        drop(SockRef::from(self).set_linger(Some(Duration::ZERO)));
    }
}

pin_project! {
    /// An operation whose end its socket hears of. No `async` block, which would be larger.
    struct Counted<'a, F> {
        socket: &'a Socket,
        #[pin]
        operation: F,
    }
}

impl<F: Future> Future for Counted<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.operation.poll(cx));
        this.socket.ended();
        Poll::Ready(output)
    }
}

/// A pair of sockets connected to each other, for tests.
///
/// # Errors
///
/// No descriptor left.
pub fn pair() -> io::Result<(Rc<Socket>, Rc<Socket>)> {
    let (left, right) = UnixStream::pair()?;
    Ok((Rc::new(left.try_into()?), Rc::new(right.try_into()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use monoio::io::Canceller;

    use crate::listen::{Acceptor, bind, local_address, probe};
    use crate::{Choice, Executor, Options, Reader};

    fn on_both_drivers(test: impl AsyncFn()) {
        for choice in [Choice::Auto, Choice::Epoll] {
            let options = Options {
                choice,
                entries: 256,
            };
            Executor::new(options).unwrap().block_on(test());
        }
    }

    #[test]
    fn a_connect_that_meets_itself_is_refused() {
        on_both_drivers(async || {
            // Of the ports that connects come from, which are the even ones first; listeners get odd ones.
            let address = (0..1000)
                .map(|_| bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap())
                .map(|free| local_address(free.as_fd()).unwrap().port() & !1)
                .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
                .find(|address| probe(*address).is_ok())
                .unwrap();
            for _ in 0..20_000 {
                let connected = Socket::connect_tcp(address).await;
                let refused = connected.expect_err("nobody listens");
                assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            }
        });
    }

    #[test]
    fn a_socket_that_nothing_uses_is_closed_when_it_is_dropped() {
        on_both_drivers(async || {
            let (left, right) = pair().unwrap();
            let (sent, _) = left.send_all(Buf::copy_of(b"bye"), |_| {}).await;
            sent.unwrap();
            drop(left);
            // Without a turn of the driver in between.
            assert!(right.is_gone(true));
            assert!(right.has_unread());
        });
    }

    #[test]
    fn a_socket_that_a_read_still_uses_is_closed_after_the_read() {
        on_both_drivers(async || {
            let (left, right) = pair().unwrap();
            let mut reader = Reader::new(Rc::clone(&left));
            reader.arm();
            drop((reader, left));
            let mut other = Reader::new(right);
            assert_eq!(other.fill().await.unwrap(), 0);
        });
    }

    #[test]
    fn what_was_sent_counts_until_it_is_acknowledged_and_what_came_is_thrown_away() {
        on_both_drivers(async || {
            let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let address = local_address(listener.as_fd()).unwrap();
            let acceptor = Acceptor::new(listener).unwrap();
            let left = Socket::connect_tcp(address).await.unwrap();
            let (right, _) = acceptor.accept(Canceller::new().handle()).await.unwrap();
            let nothing = right.throw_away(100).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            assert_eq!(left.try_send(&[b'x'; 1000]).unwrap(), 1000);
            left.shutdown(Shutdown::Write);
            right.readable().await.unwrap();
            assert_eq!(right.throw_away(600).unwrap(), 600);
            assert_eq!(right.throw_away(600).unwrap(), 400);
            assert_eq!(right.throw_away(600).unwrap(), 0, "the end");
            // That of the end may come a little later.
            let all_taken = async {
                while left.unacknowledged() > 0 {
                    monoio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let most = Duration::from_secs(30);
            monoio::time::timeout(most, all_taken).await.unwrap();
            // Nobody reads it, and more than fits is not acknowledged.
            let pieces = (0..1000).map_while(|_| right.try_send(&[b'y'; 65_536]).ok());
            assert!(pieces.sum::<usize>() > right.unacknowledged());
            assert!(right.unacknowledged() > 0);
        });
    }

    #[test]
    fn unread_bytes_are_seen_and_stay() {
        on_both_drivers(async || {
            let (left, right) = pair().unwrap();
            assert!(!right.has_unread());
            let (sent, _) = left.send_all(Buf::copy_of(b"x"), |_| {}).await;
            sent.unwrap();
            assert!(right.has_unread() && right.has_unread());
            let mut reader = Reader::new(Rc::clone(&right));
            assert_eq!(reader.fill().await.unwrap(), 1);
            drop(left);
            assert!(!right.has_unread(), "the end is no byte");
        });
    }
}
