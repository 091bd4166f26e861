//! An upstream that does what a test's script says, on a thread per connection.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::LONG;
use super::http::{Reading, Request};

/// Accepts until it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    requests: AtomicUsize,
    ended: AtomicBool,
}

impl Upstream {
    /// Runs `script` on each connection.
    pub(crate) fn start(script: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        Self::on(listener(|_| {}), script)
    }

    /// As [`Upstream::start`], and the kernel keeps little of what is sent to it and not read.
    pub(crate) fn with_small_buffers(script: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let small = |socket: &Socket| {
            socket.set_recv_buffer_size(4096).unwrap();
            // Of segments of 64 KiB, as loopback has them, the sender's kernel holds megabytes.
            socket.set_tcp_mss(536).unwrap();
        };
        Self::on(listener(small), script)
    }

    /// As [`Upstream::start`], at an address that was another's before.
    pub(crate) fn start_at(
        address: SocketAddr,
        script: impl Fn(Exchange) + Send + Sync + 'static,
    ) -> Self {
        Self::on(listener_at(address, |_| {}), script)
    }

    fn on(listener: TcpListener, script: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let (script, shared) = (Arc::new(script), Arc::clone(&counts));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                let exchange = Exchange::new(stream, number, Arc::clone(&shared));
                let script = Arc::clone(&script);
                thread::spawn(move || script(exchange));
            }
        });
        Self { address, counts }
    }

    /// Answers every request on every connection with what `answer` makes of it: a whole response, as bytes.
    pub(crate) fn answering(
        answer: impl Fn(&Request, &[u8]) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |mut exchange| {
            while let Some((request, body)) = exchange.request() {
                exchange.send(answer(&request, &body));
            }
        })
    }

    /// Answers everything with 200 and the body `text`.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::answering(move |_, _| ok(text))
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Request heads read so far.
    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.counts.ended.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
    }
}

/// A listener with room for all that a test connects at once: the standard library's has 128 places, and a client that
/// finds none waits for a second.
fn listener(prepare: impl Fn(&Socket)) -> TcpListener {
    listener_at(SocketAddr::from(([127, 0, 0, 1], 0)), prepare)
}

fn listener_at(address: SocketAddr, prepare: impl Fn(&Socket)) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Another may take its place while the kernel remembers its connections.
    socket.set_reuse_address(true).unwrap();
    prepare(&socket);
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

/// 200 with a body.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One connection of an [`Upstream`]. What fails because the other side is gone ends the script, not the test.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) reading: Reading<TcpStream>,
    /// Which connection it is, from 0.
    pub(crate) number: usize,
    counts: Arc<Counts>,
}

impl Exchange {
    fn new(stream: TcpStream, number: usize, counts: Arc<Counts>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(2 * LONG)).unwrap();
        stream.set_write_timeout(Some(2 * LONG)).unwrap();
        Self {
            reading: Reading::new(stream),
            number,
            counts,
        }
    }

    /// The next request's head; `None`: the gateway closed.
    pub(crate) fn head(&mut self) -> Option<Request> {
        let (line, fields) = self.reading.head()?;
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        Some(Request { line, fields })
    }

    /// The next request; `None`: the gateway closed before it was whole.
    pub(crate) fn request(&mut self) -> Option<(Request, Vec<u8>)> {
        let request = self.head()?;
        let body = self.reading.body(&request.fields, false)?;
        Some((request, body))
    }

    /// Sends; false: the gateway is gone.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reading.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Waits until the gateway has ended the connection, and no longer than `most`; false: it has not.
    pub(crate) fn ends_within(&self, most: Duration) -> bool {
        super::process::ends_within(&self.reading.stream, most)
    }

    /// Waits until the gateway's kernel has got all that was sent.
    pub(crate) fn wait_until_taken(&self) {
        super::eventually("all of it taken", || {
            (super::process::unacknowledged(&self.reading.stream) == 0).then_some(())
        });
    }

    /// Ends the connection, in order.
    pub(crate) fn close(&self) {
        drop(self.reading.stream.shutdown(Shutdown::Both));
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.reading.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the gateway has closed.
    pub(crate) fn wait_closed(&mut self) {
        while !self.reading.bytes(1).is_empty() {}
    }
}
