//! Where the built-in server listens: TCP with a socket for each thread, or one Unix socket that threads share.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use monoio::io::Canceller;
use monoio::net::UnixListener;
use runtime::{Socket, listen};
use socket2::{Domain, SockAddr, SockRef, Socket as SystemSocket, Type};

/// An address to listen on: `127.0.0.1:9000`, `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix stream socket. Its file is made, and removed at the end.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("write unix:/path/of.sock".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "write ADDRESS:PORT, or unix:/path/of.sock".into()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Clients that wait to be accepted, on a Unix socket.
const BACKLOG: i32 = 4096;

/// A socket for one thread.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(OwnedFd),
    Unix(OwnedFd),
}

/// An address that is listened on, and the sockets that no thread has taken yet.
#[derive(Debug)]
pub(super) struct Bound {
    /// With the port that it got.
    pub(super) place: Listen,
    sockets: Vec<Listener>,
}

impl Bound {
    pub(super) fn new(place: &Listen, threads: u32) -> io::Result<Self> {
        let cannot = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
        };
        match place {
            Listen::Tcp(address) => Self::tcp(*address, threads),
            Listen::Unix(path) => Self::unix(path, threads),
        }
        .map_err(cannot)
    }

    fn tcp(address: SocketAddr, threads: u32) -> io::Result<Self> {
        if address.port() != 0 {
            listen::probe(address)?;
        }
        let first = listen::bind(address)?;
        let address = listen::local_address(first.as_fd())?;
        let mut sockets = vec![Listener::Tcp(first)];
        for _ in 1..threads {
            sockets.push(Listener::Tcp(listen::bind(address)?));
        }
        for Listener::Tcp(socket) | Listener::Unix(socket) in &sockets {
            // The bound is for clients who read slowly on purpose; here it would only make long answers cost more.
            SockRef::from(socket).set_tcp_notsent_lowat(u32::MAX)?;
        }
        Ok(Self {
            place: Listen::Tcp(address),
            sockets,
        })
    }

    fn unix(path: &Path, threads: u32) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        remove_stale(path, &address)?;
        let socket = SystemSocket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        let mut bound = Self {
            place: Listen::Unix(path.to_owned()),
            sockets: Vec::new(),
        };
        socket.listen(BACKLOG)?;
        for _ in 0..threads {
            bound
                .sockets
                .push(Listener::Unix(socket.try_clone()?.into()));
        }
        Ok(bound)
    }

    /// A socket for one more thread.
    pub(super) fn take(&mut self) -> Option<Listener> {
        self.sockets.pop()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.place {
            // Somebody else may have removed it.
            drop(std::fs::remove_file(path));
        }
    }
}

/// Removes the file of a server that is gone. One that lives answers, and `bind` then says that the address is in use.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        let probe = SystemSocket::new(Domain::UNIX, Type::STREAM, None)?;
        let refused = probe.connect(address).map_err(|error| error.kind());
        if refused == Err(io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A thread's end of a listening socket.
pub(super) enum Acceptor {
    Tcp(listen::Acceptor),
    Unix(UnixListener),
}

impl Acceptor {
    /// Call it on the thread, inside its executor.
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(socket) => Self::Tcp(listen::Acceptor::new(socket)?),
            Listener::Unix(socket) => {
                // As `runtime::listen::Acceptor` has it for TCP.
                SockRef::from(&socket).set_nonblocking(monoio::utils::is_legacy())?;
                Self::Unix(UnixListener::from_std(socket.into())?)
            }
        })
    }

    /// Waits for a connection. Never drop the future.
    pub(super) async fn accept(&self) -> io::Result<Rc<Socket>> {
        match self {
            Self::Tcp(acceptor) => {
                let never = Canceller::new();
                Ok(acceptor.accept(never.handle()).await?.0)
            }
            Self::Unix(listener) => Ok(Rc::new(listener.accept().await?.0.try_into()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in ["127.0.0.1:9000", "[::1]:0", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["", "9000", "localhost:80", "unix:"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
