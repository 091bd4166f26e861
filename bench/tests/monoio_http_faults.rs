//! Why monoio-http is not on the request path: what version 0.3.12 does with bytes that a stranger may send. A test that
//! fails here is good news, and a reason to think again.
#![expect(
    clippy::expect_used,
    clippy::disallowed_types,
    reason = "helpers of tests; a plain socket plays the client"
)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use http::request::Parts;
use monoio::io::stream::Stream as _;
use monoio::{FusionDriver, RuntimeBuilder};
use monoio_codec::{Decoded, Decoder as _};
use monoio_http::common::body::Body as _;
use monoio_http::common::request::Request;
use monoio_http::h1::codec::decoder::{
    ChunkedBodyDecoder, FillPayload as _, RequestDecoder, RequestHeadDecoder,
};

fn run<F: Future>(future: F) -> F::Output {
    RuntimeBuilder::<FusionDriver>::new()
        .enable_timer()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Path and body of each request that is read from `bytes`, up to the first error.
fn requests(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    run(async {
        let mut decoder = RequestDecoder::new(bytes);
        let mut found = Vec::new();
        while let Some(Ok(request)) = decoder.next().await {
            let request: Request = request;
            let (head, mut body) = request.into_parts();
            if decoder.fill_payload().await.is_err() {
                break;
            }
            let mut bytes = Vec::new();
            while let Some(Ok(part)) = body.next_data().await {
                bytes.extend_from_slice(&part);
            }
            found.push((head.uri.path().to_owned(), bytes));
        }
        found
    })
}

fn paths(bytes: &[u8]) -> Vec<String> {
    requests(bytes).into_iter().map(|(path, _)| path).collect()
}

fn head(bytes: &[u8]) -> Option<Parts> {
    match RequestHeadDecoder.decode(&mut BytesMut::from(bytes)) {
        Ok(Decoded::Some(head)) => Some(head),
        _ => None,
    }
}

#[test]
fn a_long_field_name_panics_it() {
    let long = "a".repeat(70_000);
    let bytes = format!("GET / HTTP/1.1\r\nHost: x\r\n{long}: 1\r\n\r\n");
    let result = catch_unwind(AssertUnwindSafe(|| head(bytes.as_bytes())));
    assert!(result.is_err());
}

#[test]
fn a_head_may_grow_without_end() {
    let mut bytes = BytesMut::from(&b"GET / HTTP/1.1\r\nX: "[..]);
    bytes.resize(1 << 20, b'a');
    let decoded = RequestHeadDecoder.decode(&mut bytes);
    assert!(matches!(decoded, Ok(Decoded::Insufficient)));
}

/// RFC 9112 section 2.2 lets a recipient take a bare LF for a line end. One half of this codec does, the other not.
#[test]
fn a_bare_line_feed_swallows_the_request_behind_it() {
    let found = paths(
        b"GET /a HTTP/1.1\nHost: x\n\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n\
          GET /c HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(found, ["/a", "/c"]);
}

/// RFC 9112 section 6.3: differing lengths MUST be treated as an error.
#[test]
fn of_two_lengths_the_first_counts() {
    let found = requests(
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc\
          GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(
        found,
        [
            ("/a".to_owned(), b"abc".to_vec()),
            ("/smuggled".to_owned(), Vec::new())
        ]
    );
}

/// RFC 9112 section 6.1: chunked framing overrides the length, here it does not.
#[test]
fn a_second_transfer_encoding_is_not_seen() {
    let found = requests(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\
          Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n\
          GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(
        found.first(),
        Some(&("/a".to_owned(), b"0\r\n\r\n".to_vec()))
    );
}

/// RFC 9112 section 3.2: none, or two, MUST be answered with 400.
#[test]
fn any_number_of_hosts_will_do() {
    assert!(head(b"GET / HTTP/1.1\r\n\r\n").is_some());
    let two = head(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(two.map(|head| head.headers.len()), Some(2));
}

/// RFC 9112 section 7.1: a size has at least one digit.
#[test]
fn an_empty_size_ends_a_chunked_body() {
    let mut bytes = BytesMut::from(&b"\r\n\r\nGET /smuggled HTTP/1.1\r\n"[..]);
    let decoded = ChunkedBodyDecoder::default().decode(&mut bytes);
    assert!(matches!(decoded, Ok(Decoded::Some(None))));
}

/// RFC 9112 sections 7.1.1 and 7.1.2: a recipient MUST be able to read past extensions and trailers.
#[test]
fn extensions_and_trailers_are_errors() {
    let mut extension = BytesMut::from(&b"3;a=b\r\nabc\r\n0\r\n\r\n"[..]);
    assert!(
        ChunkedBodyDecoder::default()
            .decode(&mut extension)
            .is_err()
    );
    let mut trailer = BytesMut::from(&b"0\r\nX-T: 1\r\n\r\n"[..]);
    assert!(ChunkedBodyDecoder::default().decode(&mut trailer).is_err());
}

/// A body of any length is held in memory before its first octet is passed on; chunks likewise.
#[test]
fn a_chunk_is_not_streamed() {
    let mut bytes = BytesMut::from(&b"100000\r\n"[..]);
    bytes.resize(8 + (1 << 20) - 1, b'x');
    let decoded = ChunkedBodyDecoder::default().decode(&mut bytes);
    assert!(matches!(decoded, Ok(Decoded::Insufficient)));
}

/// RFC 9113 section 8.1.1: such a request is malformed, which is an error of its stream.
#[test]
fn one_http2_frame_panics_the_thread() {
    let get = b"\x82\x84\x86\x01\x01a";
    assert!(survives(get), "GET, `/`, http, `:authority: a`");
    let with_status = b"\x08\x03100\x82\x84\x86\x01\x01a";
    assert!(!survives(with_status), "the same with `:status: 100`");
}

/// Whether a server's thread outlives a request of these HTTP/2 fields.
fn survives(fields: &[u8]) -> bool {
    let (sender, address) = mpsc::channel::<SocketAddr>();
    let server = thread::Builder::new().spawn(move || {
        run(async move {
            let listener = monoio::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("an address");
            sender.send(address).expect("the test waits for it");
            let (stream, _) = listener.accept().await.expect("a client");
            let mut connection = monoio_http::h2::server::Builder::new()
                .handshake::<_, bytes::Bytes>(stream)
                .await
                .expect("a handshake");
            while let Some(Ok(_)) = connection.accept().await {}
        });
    });
    let server = server.expect("a thread");
    let mut client = TcpStream::connect(address.recv().expect("an address")).expect("a connection");
    let length = u8::try_from(fields.len()).expect("a short block");
    let mut bytes =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&[0, 0, length, 1, 4, 0, 0, 0, 1]);
    bytes.extend_from_slice(fields);
    client.write_all(&bytes).expect("a send");
    client.shutdown(Shutdown::Write).expect("an end");
    // Until the server has closed: whether by a reset or in order does not matter.
    let wait = Some(Duration::from_secs(10));
    client.set_read_timeout(wait).expect("a timeout");
    drop(client.read_to_end(&mut Vec::new()));
    server.join().is_ok()
}
