//! The upstream that is built in, so that a gateway without a configuration has something to stand before.
//!
//! Any path answers what it was asked, as JSON; `/status/{code}`, `/bytes/{n}` and `/delay/{ms}` choose how. Bodies
//! are counted and never kept.

#![expect(
    clippy::disallowed_types,
    reason = "the control thread is tokio's; sockets are made before it runs"
)]

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::{Body as _, Frame, SizeHint};
use serde::Serialize;

use super::serve::{self, Bounds};

/// Longest body of `/bytes`, in bytes.
pub const BYTES_MAX: u64 = 1 << 30;
/// Longest wait of `/delay`.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

const BOUNDS: Bounds = Bounds {
    connections_max: 4096,
    // Longer than any pool keeps a connection, so that the gateway and not its upstream closes it.
    header_timeout: Duration::from_secs(3600),
    single_request: None,
};

/// Listens on a port of the kernel's choice on the loopback address; ask the listener which.
///
/// TCP and not a Unix socket: no file stays behind, and the gateway's path to it is the one to a real upstream.
///
/// # Errors
/// As the kernel says.
pub fn bind() -> io::Result<TcpListener> {
    serve::bind((Ipv4Addr::LOCALHOST, 0).into())
}

pub(super) fn spawn(listener: TcpListener) -> io::Result<()> {
    serve::spawn(listener, Router::new().fallback(answer), BOUNDS)
}

async fn answer(peer: ConnectInfo<SocketAddr>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body_bytes = match count(body).await {
        Ok(count) => count,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let path = head.uri.path();
    let (choice, value) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .unzip();
    let number = value.and_then(|value| value.parse::<u64>().ok());
    match choice {
        Some("status") => match number.and_then(|code| u16::try_from(code).ok()) {
            Some(code @ 200..=599) => match StatusCode::from_u16(code) {
                Ok(status) => (status, echo(&head, body_bytes, peer.0)).into_response(),
                Err(_) => usage("/status/{code}: code is 200 to 599"),
            },
            _ => usage("/status/{code}: code is 200 to 599"),
        },
        Some("bytes") => match number {
            Some(left @ 0..=BYTES_MAX) => {
                let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
                (kind, Body::new(Pattern { left })).into_response()
            }
            _ => usage("/bytes/{n}: n is 0 to 1073741824"),
        },
        Some("delay") => match number.map(Duration::from_millis) {
            Some(delay) if delay <= DELAY_MAX => {
                tokio::time::sleep(delay).await;
                echo(&head, body_bytes, peer.0)
            }
            _ => usage("/delay/{ms}: ms is 0 to 60000"),
        },
        _ => echo(&head, body_bytes, peer.0),
    }
}

fn usage(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()
}

/// Reads a body to its end and forgets it.
async fn count(mut body: Body) -> Result<u64, axum::Error> {
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

fn echo(head: &Parts, body_bytes: u64, peer: SocketAddr) -> Response {
    #[derive(Serialize)]
    struct Echo<'a> {
        method: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        version: String,
        headers: Vec<(&'a str, String)>,
        body_bytes: u64,
        peer: SocketAddr,
    }
    let value = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    axum::Json(Echo {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        version: format!("{:?}", head.version),
        headers: head
            .headers
            .iter()
            .map(|(name, v)| (name.as_str(), value(v.as_bytes())))
            .collect(),
        body_bytes,
        peer,
    })
    .into_response()
}

/// Bytes of a body in one piece.
const PIECE_BYTES: usize = 64 * 1024;

/// The byte at offset `o` of a body is `(o % 65536) % 251`: a lost or doubled piece of any length but a multiple of
/// 65536 shows.
static PIECE: [u8; PIECE_BYTES] = {
    let mut piece = [0; PIECE_BYTES];
    let mut at = 0;
    while at < PIECE_BYTES {
        #[expect(clippy::cast_possible_truncation, reason = "below 251")]
        let byte = (at % 251) as u8;
        piece[at] = byte;
        at += 1;
    }
    piece
};

/// A body of known length that exists one piece at a time.
struct Pattern {
    left: u64,
}

impl http_body::Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = usize::try_from(self.left)
            .unwrap_or(PIECE_BYTES)
            .min(PIECE_BYTES);
        if bytes == 0 {
            return Poll::Ready(None);
        }
        self.left -= bytes as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..bytes])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
