//! The built-in server: answers chosen by path, one send and one receive per request.
//!
//! It reads requests well enough to be a test server for well-behaved clients and for proxies; it is not meant to
//! face anybody else.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use monoio::io::Canceller;
use runtime::listen::{self, Acceptor};
use runtime::{Buf, Executor, Reader, Socket};

use crate::chunked::Chunked;
use crate::clock::{Clock, nanos};

/// The paths, for `--help`.
pub(crate) const HELP: &str = "\
Answers by path:
  /status/N       status N
  /bytes/N        a body of N bytes
  /chunked/N      a body of N bytes in chunks
  /delay/MS       after MS milliseconds
  /stall/MS       all connections wait for MS milliseconds
  /short/N        half of the N bytes that were announced, then a close
  /reset          no answer, but a reset
  /garbage        no HTTP
  anything else   a body of 128 bytes; the request body's length is in X-Body-Bytes";

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads, each with a socket of its own.
    pub threads: u32,
    /// What to run on.
    pub driver: runtime::Choice,
}

/// Submission queue entries of a thread's ring.
const RING_ENTRIES: u32 = 512;
/// Calls to accept under way at once on a thread: each loop turn takes one connection for each.
const ACCEPTS: usize = 16;
/// The pause after an accept that failed for want of descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How often a thread looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(20);
/// Bytes of a request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 96;
/// Bytes of answers that wait to be sent before the next request is looked at.
const OUT_BYTES_MAX: usize = 64 * 1024;
macro_rules! ordinary_body {
    () => {
        "This body of 128 bytes comes from the server built into ringgate-load. It is what a small answer of an API weighs, more or less\n"
    };
}
/// The body of an ordinary answer.
const BODY: &[u8] = ordinary_body!().as_bytes();
/// The ordinary answer to a request without a body.
const ORDINARY: &[u8] = concat!(
    "HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n",
    ordinary_body!()
)
.as_bytes();
/// A piece of a longer body.
static FILLING: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// Serves until `stop` is set; `listening` gets the address once connections are taken.
///
/// # Errors
///
/// The address cannot be listened on; no thread or driver to be had.
pub fn run(
    options: Options,
    stop: &Arc<AtomicBool>,
    listening: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    if options.listen.port() != 0 {
        listen::probe(options.listen).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot listen on {}: {error}", options.listen),
            )
        })?;
    }
    let first = listen::bind(options.listen)?;
    let address = listen::local_address(first.as_fd())?;
    let mut sockets = vec![first];
    for _ in 1..options.threads {
        sockets.push(listen::bind(address)?);
    }
    let cores = runtime::cores::allowed();
    let stall = Arc::new(Stall {
        clock: Clock::new(),
        until_ns: AtomicU64::new(0),
    });
    let (ready, all_ready) = channel();
    let mut threads = Vec::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        let (stop, stall, ready) = (Arc::clone(stop), Arc::clone(&stall), ready.clone());
        threads.push(runtime::thread::spawn(
            format!("upstream-{index}"),
            cores.get(index % cores.len().max(1)).copied(),
            move || run_thread(options.driver, socket, &stop, stall, ready),
        )?);
    }
    drop(ready);
    // Each thread lets go of its sender when it is ready or has failed.
    if all_ready.iter().count() == threads.len() {
        listening(address)?;
    } else {
        stop.store(true, Ordering::Relaxed);
    }
    for thread in threads {
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
    }
    Ok(())
}

fn run_thread(
    driver: runtime::Choice,
    listener: OwnedFd,
    stop: &AtomicBool,
    stall: Arc<Stall>,
    ready: Sender<()>,
) -> io::Result<()> {
    let mut executor = Executor::new(runtime::Options {
        choice: driver,
        entries: RING_ENTRIES,
    })?;
    executor.block_on(async {
        let acceptor = Rc::new(Acceptor::new(listener)?);
        for _ in 0..ACCEPTS {
            monoio::spawn(accept(Rc::clone(&acceptor), Arc::clone(&stall)));
        }
        let _ = ready.send(());
        drop(ready);
        while !stop.load(Ordering::Relaxed) {
            monoio::time::sleep(STOP_CHECK).await;
        }
        // The process ends: what is under way ends with it.
        Ok(())
    })
}

async fn accept(acceptor: Rc<Acceptor>, stall: Arc<Stall>) {
    let never = Canceller::new();
    loop {
        match acceptor.accept(never.handle()).await {
            Ok((socket, _)) => {
                monoio::spawn(serve(socket, Arc::clone(&stall)));
            }
            Err(error) if listen::is_about_one_connection(&error) => {}
            Err(_) => monoio::time::sleep(ACCEPT_AGAIN_AFTER).await,
        }
    }
}

async fn serve(socket: Rc<Socket>, stall: Arc<Stall>) {
    let mut connection = Connection {
        stall,
        reader: Reader::new(Rc::clone(&socket)),
        socket,
        out: Buf::small(),
    };
    // The client is gone, or broke the connection: nobody is left to tell.
    drop(connection.serve().await);
}

/// A time until which no thread answers.
#[derive(Debug)]
struct Stall {
    clock: Clock,
    /// Reading of the clock; 0: none.
    until_ns: AtomicU64,
}

impl Stall {
    fn begin(&self, time: Duration) {
        let until_ns = self.clock.now_ns().saturating_add(nanos(time));
        // Relaxed: it guards no other memory.
        self.until_ns.store(until_ns, Ordering::Relaxed);
    }

    /// Waits for its end. Cost where there is none: one load.
    async fn wait(&self) {
        loop {
            let until_ns = self.until_ns.load(Ordering::Relaxed);
            if until_ns == 0 {
                return;
            }
            let now_ns = self.clock.now_ns();
            if now_ns >= until_ns {
                self.until_ns.store(0, Ordering::Relaxed);
                return;
            }
            monoio::time::sleep(Duration::from_nanos(until_ns - now_ns)).await;
        }
    }
}

struct Connection {
    stall: Arc<Stall>,
    socket: Rc<Socket>,
    reader: Reader,
    /// Answers to pipelined requests leave together.
    out: Buf,
}

impl Connection {
    async fn serve(&mut self) -> io::Result<()> {
        while let Some(request) = self.next_request().await? {
            if request.expects_continue {
                self.out.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.flush().await?;
            }
            let body_bytes = self.discard(request.body).await?;
            self.answer(&request, body_bytes).await?;
            if request.closes {
                break;
            }
        }
        self.flush().await?;
        self.socket.shutdown(Shutdown::Write);
        Ok(())
    }

    /// The next request head; `None` if the client has closed or does not speak HTTP, which has been answered.
    async fn next_request(&mut self) -> io::Result<Option<Request>> {
        loop {
            match Request::parse(self.reader.data()) {
                Parsed::Whole(request) => {
                    self.reader.buf().consume(request.head_bytes);
                    return Ok(Some(request));
                }
                Parsed::Wrong => {
                    self.out.extend(
                        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                    return Ok(None);
                }
                Parsed::Partial => {}
            }
            self.flush().await?;
            if self.reader.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads a body to its end and returns its length.
    async fn discard(&mut self, mut body: Body) -> io::Result<u64> {
        let mut body_bytes = 0;
        loop {
            let available = self.reader.data();
            let taken = match body {
                Body::Sized(left) => {
                    let part = left.min(available.len() as u64);
                    body_bytes += part;
                    body = Body::Sized(left - part);
                    usize::try_from(part).unwrap_or(usize::MAX)
                }
                Body::Chunked(state) => {
                    let part = state.advance(available).map_err(io::Error::other)?;
                    body_bytes += part.data_bytes;
                    body = part.next.map_or(Body::Sized(0), Body::Chunked);
                    part.taken
                }
            };
            self.reader.buf().consume(taken);
            if body == Body::Sized(0) {
                return Ok(body_bytes);
            }
            self.flush().await?;
            if self.reader.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn answer(&mut self, request: &Request, body_bytes: u64) -> io::Result<()> {
        self.stall.wait().await;
        match request.answer {
            Answer::Ordinary if body_bytes == 0 && !request.closes && !request.head_only => {
                self.out.extend(ORDINARY);
            }
            Answer::Ordinary => {
                let fields = format!("X-Body-Bytes: {body_bytes}\r\nContent-Length: 128\r\n");
                self.head(200, &fields, request);
                if !request.head_only {
                    self.out.extend(BODY);
                }
            }
            Answer::Status(status) => {
                let fields = match status {
                    204 | 304 => "",
                    _ => "Content-Length: 0\r\n",
                };
                self.head(status, fields, request);
            }
            Answer::Delay(delay) => {
                self.flush().await?;
                monoio::time::sleep(delay).await;
                self.head(200, "Content-Length: 128\r\n", request);
                if !request.head_only {
                    self.out.extend(BODY);
                }
            }
            Answer::Stall(time) => {
                self.stall.begin(time);
                self.stall.wait().await;
                self.out.extend(ORDINARY);
            }
            Answer::Short(count) => {
                self.head(200, &format!("Content-Length: {count}\r\n"), request);
                self.fill(count / 2, request, false).await?;
                self.flush().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Answer::Reset => {
                self.socket.reset_on_close();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Answer::Garbage => {
                self.out.extend(b"This is not HTTP.\r\n\r\n");
                self.flush().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Answer::Bytes(count) => {
                self.head(200, &format!("Content-Length: {count}\r\n"), request);
                self.fill(count, request, false).await?;
            }
            Answer::Chunked(count) => {
                self.head(200, "Transfer-Encoding: chunked\r\n", request);
                self.fill(count, request, true).await?;
                if !request.head_only {
                    self.out.extend(b"0\r\n\r\n");
                }
            }
        }
        if self.out.len() >= OUT_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    fn head(&mut self, status: u16, fields: &str, request: &Request) {
        let connection = if request.closes {
            "Connection: close\r\n"
        } else {
            ""
        };
        let reason = http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("");
        self.out
            .extend(format!("HTTP/1.1 {status} {reason}\r\n{fields}{connection}\r\n").as_bytes());
    }

    /// Sends `count` bytes of body, in pieces that keep the buffer small.
    async fn fill(&mut self, count: u64, request: &Request, chunked: bool) -> io::Result<()> {
        let mut left = if request.head_only { 0 } else { count };
        while left > 0 {
            let part = left.min(FILLING.len() as u64);
            left -= part;
            let data = FILLING.get(..usize::try_from(part).unwrap_or_default());
            let data = data.unwrap_or_default();
            if chunked {
                self.out.extend(format!("{part:x}\r\n").as_bytes());
                self.out.extend(data);
                self.out.extend(b"\r\n");
            } else {
                self.out.extend(data);
            }
            if self.out.len() >= OUT_BYTES_MAX {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::replace(&mut self.out, Buf::empty());
        let (sent, mut out) = self.socket.send_all(out, |_| {}).await;
        out.clear();
        self.out = out;
        sent
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ordinary,
    Status(u16),
    Bytes(u64),
    Chunked(u64),
    Delay(Duration),
    Stall(Duration),
    Short(u64),
    Reset,
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Sized(u64),
    Chunked(Chunked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    head_bytes: usize,
    answer: Answer,
    body: Body,
    head_only: bool,
    closes: bool,
    expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsed {
    Partial,
    Wrong,
    Whole(Request),
}

impl Request {
    fn parse(bytes: &[u8]) -> Parsed {
        if bytes.is_empty() {
            return Parsed::Partial;
        }
        let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let head_bytes = match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {
                return Parsed::Partial;
            }
            Ok(httparse::Status::Partial) | Err(_) => return Parsed::Wrong,
        };
        let mut parsed = Self {
            head_bytes,
            answer: Answer::of(request.path.unwrap_or_default()),
            body: Body::Sized(0),
            head_only: request.method == Some("HEAD"),
            closes: request.version != Some(1),
            expects_continue: false,
        };
        for field in request.headers {
            if !parsed.apply(field.name, field.value) {
                return Parsed::Wrong;
            }
        }
        Parsed::Whole(parsed)
    }

    /// What a field says; false if it cannot be understood.
    fn apply(&mut self, name: &str, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let Some(length) = length else { return false };
                self.body = Body::Sized(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return false;
                }
                self.body = Body::Chunked(Chunked::START);
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                self.closes |= value.eq_ignore_ascii_case(b"close");
                self.closes &= !value.eq_ignore_ascii_case(b"keep-alive");
            }
            6 if name.eq_ignore_ascii_case("expect") => self.expects_continue = true,
            _ => {}
        }
        true
    }
}

impl Answer {
    fn of(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (kind, number) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        match path {
            "/reset" => return Self::Reset,
            "/garbage" => return Self::Garbage,
            _ => {}
        }
        let Ok(number) = number.parse::<u64>() else {
            return Self::Ordinary;
        };
        match kind {
            "status" => u16::try_from(number)
                .ok()
                .filter(|status| (200..600).contains(status))
                .map_or(Self::Ordinary, Self::Status),
            "bytes" => Self::Bytes(number),
            "chunked" => Self::Chunked(number),
            "delay" => Self::Delay(Duration::from_millis(number)),
            "stall" => Self::Stall(Duration::from_millis(number)),
            "short" => Self::Short(number),
            _ => Self::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_choose_the_answer() {
        for (path, answer) in [
            ("/", Answer::Ordinary),
            ("/anything/else", Answer::Ordinary),
            ("/status/429?x=1", Answer::Status(429)),
            ("/status/99", Answer::Ordinary),
            ("/bytes/1048576", Answer::Bytes(1 << 20)),
            ("/chunked/5", Answer::Chunked(5)),
            ("/delay/20", Answer::Delay(Duration::from_millis(20))),
            ("/stall/20", Answer::Stall(Duration::from_millis(20))),
            ("/short/9", Answer::Short(9)),
            ("/reset?x", Answer::Reset),
            ("/reset/5", Answer::Ordinary),
        ] {
            assert_eq!(Answer::of(path), answer, "{path}");
        }
    }

    #[test]
    fn the_ordinary_answer_says_its_length() {
        assert!(ORDINARY.ends_with(BODY));
        assert_eq!(
            ORDINARY.len(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n".len() + 128
        );
    }
}
