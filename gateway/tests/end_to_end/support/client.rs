//! A client that sends exactly the bytes that a test gives it.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::LONG;
use super::http::{Reading, Response};

/// Between two pieces of a client that drips.
const PACE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Client {
    reading: Reading<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, LONG)?)
    }

    /// Connects from an address of its own.
    pub(crate) fn connect_from(from: SocketAddr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect_timeout(&to.into(), LONG).unwrap();
        Self::over(socket.into()).unwrap()
    }

    /// Connects, and the kernel takes little of what comes and is not read.
    pub(crate) fn with_small_buffers(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        // Of segments of 64 KiB, as loopback has them, the sender's kernel holds megabytes.
        socket.set_tcp_mss(536).unwrap();
        socket.connect_timeout(&address.into(), LONG).unwrap();
        Self::over(socket.into()).unwrap()
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        Ok(Self {
            reading: Reading::new(stream),
        })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.reading.stream
    }

    pub(crate) fn reading(&mut self) -> &mut Reading<TcpStream> {
        &mut self.reading
    }

    /// A second handle, to send on from another thread.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream().try_clone().unwrap()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reading.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to a gateway that may have seen enough, and closed, before the last byte.
    pub(crate) fn send_what_goes(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.reading.stream.write_all(bytes.as_ref()));
    }

    /// Sends `GET target` with a Host.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// The next response, interim ones too.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response(true).expect("a whole response")
    }

    /// The next response to HEAD.
    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.try_response(false).expect("a whole response")
    }

    /// The next response; `None`: the connection ended before it was whole.
    pub(crate) fn try_response(&mut self, with_body: bool) -> Option<Response> {
        let mut response = self.head()?;
        if with_body && response.status >= 200 && ![204, 304].contains(&response.status) {
            response.body = self.reading.body(&response.fields, true)?;
        }
        Some(response)
    }

    /// The next response's head alone.
    pub(crate) fn head(&mut self) -> Option<Response> {
        let (line, fields) = self.reading.head()?;
        let status = line.strip_prefix("HTTP/1.1 ").unwrap();
        let status = status.get(..3).unwrap().parse().unwrap();
        Some(Response {
            status,
            fields,
            body: Vec::new(),
        })
    }

    /// The gateway closes the connection and sends nothing more before it; true: in order, not by a reset.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        let (rest, orderly) = self.reading.rest();
        assert_eq!(String::from_utf8_lossy(&rest), "", "bytes before the close");
        orderly
    }

    /// The other side has ended the connection, whatever of it was not read.
    pub(crate) fn has_ended(&self) -> bool {
        super::process::ends_within(self.stream(), Duration::ZERO)
    }

    /// Sends `piece` again and again, each [`PACE`], until the other side has ended the connection.
    pub(crate) fn drip(&mut self, piece: &[u8]) {
        let start = Instant::now();
        while !super::process::ends_within(self.stream(), PACE) {
            assert!(start.elapsed() < LONG, "nobody ends a client that drips");
            self.send_what_goes(piece);
        }
    }

    /// Waits until the first bytes of an answer are there, and leaves them.
    #[track_caller]
    pub(crate) fn wait_for_answer(&self) {
        assert_eq!(self.stream().peek(&mut [0]).unwrap(), 1);
    }

    /// Sends `piece`, each [`PACE`], so many times; the other side must not end the connection meanwhile.
    #[track_caller]
    pub(crate) fn drip_for(&mut self, piece: &[u8], times: u32) {
        for time in 0..times {
            let ended = super::process::ends_within(self.stream(), PACE);
            assert!(!ended, "ended after {time} of {times} pieces");
            self.send(piece);
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn abort(self) {
        let socket = socket2::SockRef::from(self.stream());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends no more.
    pub(crate) fn finish_sending(&self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }
}

/// `GET target` on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str) -> Response {
    Client::connect(address).get(target)
}

/// A request on a connection of its own.
#[track_caller]
pub(crate) fn send(address: SocketAddr, request: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(request);
    client.response()
}
