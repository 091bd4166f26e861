//! One stream socket, TCP or Unix, that may be read, written and shut down by different parties of one thread.
#![expect(
    unsafe_code,
    reason = "monoio takes `&mut` for a read or a write although both only clone the descriptor; one reader and one \
              writer at a time is what its own `into_split` allows, which offers neither readiness nor cancellation"
)]

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{AsyncWriteRent, CancelHandle, CancelableAsyncReadRent};
use monoio::net::{TcpStream, UnixStream};
use socket2::SockRef;

use crate::Buf;

enum Stream {
    Tcp(UnsafeCell<TcpStream>),
    Unix(UnsafeCell<UnixStream>),
}

/// A connected stream socket, owned by one thread and shared there through an `Rc`.
///
/// One read and one write may be under way at once. The descriptor is closed when the last `Rc` is gone and the
/// kernel has given back the last buffer.
pub struct Socket {
    stream: Stream,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("fd", &self.as_fd()).finish()
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Tcp(UnsafeCell::new(stream)),
        }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self {
            stream: Stream::Unix(UnsafeCell::new(stream)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = match &self.stream {
            // SAFETY: a shared borrow for the length of the call; the `&mut` made elsewhere never outlive the call
            // that starts an operation, and nothing runs between.
            Stream::Tcp(tcp) => unsafe { &*tcp.get() }.as_raw_fd(),
            // SAFETY: as above.
            Stream::Unix(unix) => unsafe { &*unix.get() }.as_raw_fd(),
        };
        // SAFETY: the stream keeps the descriptor open for as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Socket {
    /// Connects to a TCP address, with `TCP_NODELAY`.
    ///
    /// Dropping the future gives the attempt up and closes the socket, so a timeout may wrap it.
    ///
    /// # Errors
    ///
    /// What `connect(2)` says; no descriptor left.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_addr(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into())
    }

    /// Connects to a Unix stream socket.
    ///
    /// # Errors
    ///
    /// What `connect(2)` says; no descriptor left.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(UnixStream::connect(path).await?.into())
    }

    /// Reads once, appending to `buf`, until `cancel` says otherwise (then `ECANCELED`). 0 bytes: the end.
    ///
    /// At most one at a time; [`crate::Reader`] keeps that.
    pub(crate) async fn recv(&self, buf: Buf, cancel: CancelHandle) -> (io::Result<usize>, Buf) {
        debug_assert!(buf.spare() > 0, "a read into no space looks like the end");
        match &self.stream {
            Stream::Tcp(tcp) => {
                // SAFETY: the operation clones the descriptor and takes the buffer; it uses `&mut` only until it
                // is submitted. monoio's `OwnedReadHalf` does the same.
                let tcp = unsafe { &mut *tcp.get() };
                tcp.cancelable_read(buf, cancel).await
            }
            Stream::Unix(unix) => {
                // SAFETY: as above.
                let unix = unsafe { &mut *unix.get() };
                unix.cancelable_read(buf, cancel).await
            }
        }
    }

    /// Writes once; the number of bytes taken may be less than there are.
    async fn send(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        match &self.stream {
            Stream::Tcp(tcp) => {
                // SAFETY: as in `recv`; monoio's `OwnedWriteHalf` does the same.
                let tcp = unsafe { &mut *tcp.get() };
                tcp.write(buf).await
            }
            Stream::Unix(unix) => {
                // SAFETY: as above.
                let unix = unsafe { &mut *unix.get() };
                unix.write(buf).await
            }
        }
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
            let (sent, back) = self.send(buf).await;
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

    /// Waits until there is something to read, the end, or an error, without holding a buffer.
    ///
    /// # Errors
    ///
    /// The kernel refuses to poll.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(tcp) => {
                // SAFETY: a shared borrow: `readable` takes `&self` and clones the descriptor.
                let tcp = unsafe { &*tcp.get() };
                tcp.readable(false).await
            }
            Stream::Unix(unix) => {
                // SAFETY: as above.
                let unix = unsafe { &*unix.get() };
                unix.readable(false).await
            }
        }
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

/// A pair of sockets connected to each other, for tests.
///
/// # Errors
///
/// No descriptor left.
pub fn pair() -> io::Result<(Rc<Socket>, Rc<Socket>)> {
    let (left, right) = UnixStream::pair()?;
    Ok((Rc::new(left.into()), Rc::new(right.into())))
}
