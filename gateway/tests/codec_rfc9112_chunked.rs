//! The codec against RFC 9112 section 7.1 (chunked transfer coding). Each test says the clause in its own words.

use gateway::data::codec::{ChunkedOutput, ChunkedReader};

/// Body as written for a receiver that takes trailers, and what follows it; or the rule broken; or `waits`.
fn dechunk(input: &str) -> Result<(String, &str), &'static str> {
    let mut out = Vec::new();
    let output = ChunkedOutput::Chunked { trailers: true };
    let done = ChunkedReader::new()
        .transcode(input.as_bytes(), output, &mut out)
        .map_err(|error| error.name())?;
    let body = String::from_utf8(out).map_err(|_| "not UTF-8")?;
    let rest = input.get(done.consumed..).unwrap_or_default();
    if done.ended {
        Ok((body, rest))
    } else {
        Err("waits")
    }
}

/// Sizes are hexadecimal in either case, leading zeros allowed; a size of 0 is the end.
#[test]
fn chunks_are_read_to_the_last() {
    let body = "5\r\nhello\r\n00A\r\n0123456789\r\n000\r\n\r\nNEXT";
    let canonical = "5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(dechunk(body), Ok((canonical.to_owned(), "NEXT")));
    assert_eq!(dechunk("0\r\n\r\n"), Ok(("0\r\n\r\n".to_owned(), "")));
}

/// A size has digits and nothing else, and fits.
#[test]
fn what_is_no_size_is_refused() {
    for (size, name) in [
        ("", "chunk_size"),
        (" 5", "chunk_size"),
        ("+5", "chunk_size"),
        ("-1", "chunk_size"),
        ("zz", "chunk_size"),
        (";a", "chunk_size"),
        ("0x5", "chunk_size_end"),
        ("5_0", "chunk_size_end"),
        ("5 ", "chunk_size_end"),
        ("5\t", "chunk_size_end"),
        ("5 ;a", "chunk_size_end"),
        ("5\rh", "chunk_size_end"),
        ("5\n", "chunk_size_end"),
        ("8000000000000000", "chunk_size_too_large"),
        ("FFFFFFFFFFFFFFFF0", "chunk_size_too_large"),
        ("00000000000000005", "chunk_size_too_large"),
    ] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(dechunk(&body).err(), Some(name), "{size:?}");
    }
    assert_eq!(dechunk("7fffffffffffffff\r\nhello").err(), Some("waits"));
}

/// The data of a chunk is followed by CRLF and nothing else.
#[test]
fn chunk_data_ends_in_crlf() {
    for end in ["", "X", "\n", "\rX", "\n\r", " \r\n"] {
        let body = format!("5\r\nhello{end}0\r\n\r\n");
        assert_eq!(dechunk(&body).err(), Some("chunk_data_end"), "{end:?}");
    }
}

/// 7.1.1: extensions are understood as far as to find their end, bounded, and not forwarded.
#[test]
fn extensions_are_dropped_or_refused() {
    for extension in [
        ";a",
        ";a=b",
        ";a=\"b;\\\"c d\"",
        "; a = b",
        ";a ;b",
        ";a;b=c;d=\"\"",
    ] {
        let body = format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n");
        assert_eq!(
            dechunk(&body),
            Ok(("5\r\nhello\r\n0\r\n\r\n".to_owned(), "")),
            "{extension}"
        );
    }
    for extension in [
        ";",
        ";;",
        ";=",
        ";a=",
        ";a\0",
        ";a\rb",
        ";a\n",
        ";a[=b",
        ";a=\"b",
        ";a=\"b\"c",
        ";a b",
        ";a ",
        ";\x7f",
        ";a=\"\\\x01\"",
    ] {
        let body = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(
            dechunk(&body).err(),
            Some("chunk_extension"),
            "{extension:?}"
        );
    }
    let long = |length: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(length));
    assert!(dechunk(&long(255)).is_ok());
    assert_eq!(dechunk(&long(256)).err(), Some("chunk_extension_too_long"));
    let chunk = format!("ff;{}\r\n{}\r\n", "a".repeat(255), "x".repeat(255));
    assert!(dechunk(&(chunk.repeat(64) + "0\r\n\r\n")).is_ok());
    assert_eq!(
        dechunk(&chunk.repeat(65)).err(),
        Some("chunk_extension_too_long")
    );
}

/// 7.1.2: trailers are fields; those that frame, route or identify are never forwarded.
#[test]
fn trailers_are_filtered() {
    let body = "0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\nHost: b\r\n\
        Authorization: x\r\nCookie: a\r\nSet-Cookie: a\r\nX-Forwarded-For: 1\r\nX-Forwarded-Any: 1\r\nTrailer: x\r\n\
        X_Y: 1\r\nX-T:  a  \r\nX-U:b\r\n\r\n";
    let kept = "0\r\nGrpc-Status: 0\r\nX-T: a\r\nX-U:b\r\n\r\n";
    assert_eq!(dechunk(body), Ok((kept.to_owned(), "")));
    for line in [
        "X", " X: 1", "X : 1", ": 1", "X: \0", "X: a\rb", "X: a\nb", "X: \x01",
    ] {
        assert_eq!(
            dechunk(&format!("0\r\n{line}\r\n\r\n")).err(),
            Some("trailer"),
            "{line:?}"
        );
    }
    let long = format!("0\r\nX: {}\r\n\r\n", "a".repeat(4100));
    assert_eq!(dechunk(&long).err(), Some("trailers_too_large"));
    let many = format!("0\r\n{}\r\n", "X-Abcdef: 1\r\n".repeat(1261));
    assert_eq!(dechunk(&many).err(), Some("trailers_too_large"));
}

/// Framing is bounded by what it carries: 16 KiB and eight times the payload.
#[test]
fn a_body_of_tiny_chunks_with_fat_framing_is_refused() {
    assert!(dechunk(&("1\r\nx\r\n".repeat(20_000) + "0\r\n\r\n")).is_ok());
    let fat = "0000000000000001;aaaaaa\r\nx\r\n".repeat(1_100);
    assert_eq!(dechunk(&fat).err(), Some("chunk_overhead"));
}

/// A receiver of HTTP/1.0 gets payload only; one that takes no trailers gets none.
#[test]
fn the_receiver_decides_the_form() {
    let body = b"5;a\r\nhello\r\n0\r\nX: 1\r\n\r\n";
    for (output, expected) in [
        (ChunkedOutput::Bare, &b"hello"[..]),
        (
            ChunkedOutput::Chunked { trailers: false },
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            ChunkedOutput::Chunked { trailers: true },
            b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
        ),
    ] {
        let mut out = Vec::new();
        let done = ChunkedReader::new().transcode(body, output, &mut out);
        assert!(done.is_ok_and(|done| done.ended));
        assert_eq!(out, expected);
    }
}
