//! One connection of the built-in server.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;

use runtime::{Buf, LARGE_BYTES, Reader, SMALL_BYTES, Socket};

use super::Stall;
use super::request::{Answer, Body, Parsed, Parser, Request};

/// Bytes of answers that wait to be sent before more are made; one piece more fits a block of the pool.
const OUT_BYTES_MAX: usize = 40 * 1024;
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

/// Answers requests until the client closes.
pub(super) async fn serve(socket: Rc<Socket>, stall: Arc<Stall>) {
    let mut connection = Connection {
        stall,
        reader: Reader::new(Rc::clone(&socket)),
        socket,
        parser: Parser::default(),
        out: Buf::empty(),
    };
    // The client is gone, or broke the connection: nobody is left to tell.
    drop(connection.serve().await);
}

struct Connection {
    stall: Arc<Stall>,
    socket: Rc<Socket>,
    reader: Reader,
    parser: Parser,
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
            match self.parser.parse(self.reader.data()) {
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
            // The next request is waited for while the answer goes out: one turn of the loop for both.
            self.reader.arm();
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
                self.shrink();
                return Ok(body_bytes);
            }
            self.flush().await?;
            if self.reader.data().is_empty() && self.reader.buf().capacity() < LARGE_BYTES {
                // More comes than a head's buffer holds: fewer, larger reads.
                *self.reader.buf() = Buf::with_capacity(LARGE_BYTES);
            }
            if self.reader.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Gives a body's buffer back, so that an idle connection holds a small one.
    fn shrink(&mut self) {
        if self.reader.data().is_empty() && self.reader.buf().capacity() > SMALL_BYTES {
            *self.reader.buf() = Buf::empty();
        }
    }

    async fn answer(&mut self, request: &Request, body_bytes: u64) -> io::Result<()> {
        self.stall.wait().await;
        match request.answer {
            Answer::Ordinary if body_bytes == 0 && request.is_plain() => {
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
            Answer::Bytes(count) if request.is_plain() => {
                self.out.extend(b"HTTP/1.1 200 OK\r\nContent-Length: ");
                decimal(count, &mut self.out);
                self.out.extend(b"\r\n\r\n");
                self.fill(count, request, false).await?;
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
        let connection = match request {
            request if request.closes => "Connection: close\r\n",
            request if request.http_1_0 => "Connection: keep-alive\r\n",
            _ => "",
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
        // The block goes back to the pool: an idle connection has nothing to send.
        self.socket.send_all(out, |_| {}).await.0
    }
}

/// Appends `number` in decimal digits.
fn decimal(mut number: u64, out: &mut Buf) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        first = at;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.get(first..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 9, 10, 128, 1 << 32, u64::MAX] {
            let mut out = Buf::small();
            decimal(number, &mut out);
            assert_eq!(out.data(), number.to_string().as_bytes());
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
