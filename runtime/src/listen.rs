//! Listening sockets: made in order by the main thread, one per worker and address, accepted from by the worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use monoio::io::CancelHandle;
use monoio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket as SystemSocket, TcpKeepalive, Type};

use crate::Socket;
use crate::limits::check_reserve;
pub use crate::steer::{steer_by_core, steer_by_source};

/// Connections that wait to be accepted, per socket; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Bytes that the kernel takes of a connection before they can be sent (`TCP_NOTSENT_LOWAT`): what is in flight is not
/// counted, so throughput is not bounded by it, but a client that reads slowly is seen, and cannot make the kernel
/// hold megabytes for it. Writes go on when half of it is sent, so this is also how finely a slow reader is measured.
const UNSENT_BYTES: u32 = 16 * 1024;
/// A peer that vanished without a word is noticed after this much silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Binds and listens on `address`, together with the other sockets that share it (`SO_REUSEPORT`).
///
/// The sockets of one address form a group whose order is the order of these calls, which [`steer_by_source`] relies
/// on: make them in one thread, one after the other. `TCP_NODELAY`, keep-alive and the bound on unsent bytes are set
/// here because accepted connections inherit them, which saves system calls per connection.
///
/// # Errors
///
/// `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, `EMFILE`.
pub fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(address);
    let socket = SystemSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails if another process listens on `address`, which `SO_REUSEPORT` would hide: two gateways of one user would
/// share the port and each serve half of the clients. Binds without the option and lets go at once.
///
/// # Errors
///
/// `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = SystemSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// The address that a listening socket got, with the port that the kernel chose for port 0.
///
/// # Errors
///
/// Not an IP socket.
pub fn local_address(listener: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    SockRef::from(&listener)
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A worker's end of a listening socket.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    /// A second descriptor of the same socket, for what the runtime's listener does not offer.
    control: OwnedFd,
}

impl Acceptor {
    /// Takes a socket made by [`bind`]. Call it on the worker, inside its executor.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn new(listener: OwnedFd) -> io::Result<Self> {
        let control = listener.try_clone()?;
        // A blocking socket would block the whole thread on epoll; older kernels answer EAGAIN on a ring to a
        // non-blocking one.
        SockRef::from(&control).set_nonblocking(monoio::utils::is_legacy())?;
        Ok(Self {
            listener: TcpListener::from_std(listener.into())?,
            control,
        })
    }

    /// Waits for a connection, until `cancel` says otherwise (then `ECANCELED`). Never drop the future: a
    /// connection that was accepted meanwhile would be lost. Several calls may wait at once on io_uring, and each loop
    /// turn takes one connection for each; on epoll only one call may wait, and takes whatever there is.
    ///
    /// # Errors
    ///
    /// `ECANCELED`; `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, at once and again and again: back off; what concerns
    /// one connection only (`ECONNABORTED`). A connection that would take one of the descriptors kept back
    /// ([`crate::limits::reserve_open_files`]) is closed, and is `EMFILE`.
    pub async fn accept(&self, cancel: CancelHandle) -> io::Result<(Rc<Socket>, SocketAddr)> {
        let (stream, peer) = self.listener.cancelable_accept(cancel).await?;
        let socket = Socket::from(stream);
        check_reserve(&socket)?;
        Ok((Rc::new(socket), peer))
    }

    /// Answers no new client from now on: they try again in a second and find the successor, or a refusal. Whoever has
    /// begun a handshake can end it, and is accepted. Give them a round trip before [`Acceptor::finish`].
    ///
    /// # Errors
    ///
    /// The kernel refuses the filter; then nothing has changed.
    pub fn refuse_new(&self) -> io::Result<()> {
        const LOAD_BYTE: u16 = 0x30;
        const AND: u16 = 0x54;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        // The filter sees the TCP header; byte 13 has the flags, of which a first packet has SYN and not ACK.
        let drop_first_packets = [
            SockFilter::new(LOAD_BYTE, 0, 0, 13),
            SockFilter::new(AND, 0, 0, 0x12),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        SockRef::from(&self.control).attach_filter(&drop_first_packets)
    }

    /// Ends listening without losing a client: new ones are not answered (they try again in a second and find the
    /// successor, or a refusal), and `each` gets those who were already connected and wait.
    ///
    /// Call it when no `accept` is under way. The group's other sockets are not touched.
    ///
    /// # Errors
    ///
    /// The kernel refuses the filter; the queue has been emptied even so.
    pub fn finish(self, mut each: impl FnMut(Rc<Socket>, SocketAddr)) -> io::Result<()> {
        let control = SystemSocket::from(self.control);
        // One instruction, `return 0`: the socket takes in no packet, so no handshake ends after the last accept.
        let drop_all = [SockFilter::new(0x06, 0, 0, 0)];
        let filtered = control.attach_filter(&drop_all);
        control.set_nonblocking(true)?;
        loop {
            match control.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(monoio::utils::is_legacy())?;
                    if let (Ok(stream), Some(peer)) =
                        (TcpStream::from_std(stream.into()), peer.as_socket())
                    {
                        each(Rc::new(stream.into()), peer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return filtered,
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

/// An error of `accept` that concerns one connection and not the listener: the next call may do better at once.
#[must_use]
pub fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO | libc::EPERM | libc::ENETDOWN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Choice, Executor, Options, Reader};
    use monoio::io::Canceller;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_port_in_use_is_noticed() {
        let first = bind(loopback()).unwrap();
        let address = local_address(first.as_fd()).unwrap();
        bind(address).expect("our own sockets share the port");
        assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn refusing_new_clients_keeps_those_who_are_connected() {
        for choice in [Choice::Auto, Choice::Epoll] {
            let mut executor = Executor::new(Options {
                choice,
                entries: 256,
            })
            .unwrap();
            executor.block_on(async {
                let listener = bind(loopback()).unwrap();
                let address = local_address(listener.as_fd()).unwrap();
                let acceptor = Acceptor::new(listener).unwrap();
                let early = Socket::connect_tcp(address).await.unwrap();
                acceptor.refuse_new().unwrap();
                let late = Socket::connect_tcp(address);
                let late = monoio::time::timeout(Duration::from_millis(200), late).await;
                assert!(late.is_err(), "a new client is not answered");
                let waiting = Canceller::new();
                let (server, _) = acceptor.accept(waiting.handle()).await.unwrap();
                // The connection inherits the filter, which lets everything through but a first packet.
                early
                    .send_all(crate::Buf::copy_of(b"hi"), |_| {})
                    .await
                    .0
                    .unwrap();
                assert_eq!(Reader::new(server).fill().await.unwrap(), 2);
            });
        }
    }

    #[test]
    fn finishing_serves_who_was_connected_and_answers_nobody_new() {
        for choice in [Choice::Auto, Choice::Epoll] {
            let mut executor = Executor::new(Options {
                choice,
                entries: 256,
            })
            .unwrap();
            executor.block_on(async {
                let listener = bind(loopback()).unwrap();
                let address = local_address(listener.as_fd()).unwrap();
                let acceptor = Acceptor::new(listener).unwrap();
                let early = Socket::connect_tcp(address).await.unwrap();
                let mut accepted = Vec::new();
                let waiting = Canceller::new();
                let (stream, _) = acceptor.accept(waiting.handle()).await.unwrap();
                accepted.push(stream);
                let late = Socket::connect_tcp(address).await.unwrap();
                acceptor.finish(|stream, _| accepted.push(stream)).unwrap();
                assert_eq!(accepted.len(), 2);
                for (client, server) in [early, late].iter().zip(accepted) {
                    client
                        .send_all(crate::Buf::copy_of(b"hi"), |_| {})
                        .await
                        .0
                        .unwrap();
                    assert_eq!(Reader::new(server).fill().await.unwrap(), 2);
                }
                assert!(
                    Socket::connect_tcp(address).await.is_err(),
                    "nobody listens"
                );
            });
        }
    }
}
