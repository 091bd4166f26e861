//! What a chunked body may look like, and where it is cut on its way in.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "tests may overflow and fail"
)]

use super::*;

const CHUNKS: ChunkedOutput = ChunkedOutput::Chunked { trailers: true };

/// Feeds `input` in pieces of `step` octets, keeping what is not consumed, as a connection does.
fn in_steps(input: &[u8], step: usize) -> (Vec<u8>, Result<bool, ChunkError>, usize) {
    let mut reader = ChunkedReader::new();
    let (mut out, mut buffer, mut payload) = (Vec::new(), Vec::new(), 0);
    for piece in input.chunks(step) {
        buffer.extend_from_slice(piece);
        match reader.transcode(&buffer, CHUNKS, &mut out) {
            Ok(done) => {
                buffer.drain(..done.consumed);
                payload += done.payload;
            }
            // A failed step does not say what it read before.
            Err(error) => return (out, Err(error), 0),
        }
    }
    (out, Ok(reader.is_ended()), payload)
}

#[test]
fn any_partition_gives_the_same_body_or_error() {
    for input in [
        &b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"[..],
        b"005;a=\"b c\"\r\nhello\r\n0;x\r\nX: 1\r\nHost: b\r\nY:2\r\n\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\r\nzz\r\n",
        b"5;a\rb",
        b"0\r\n\rX",
        b"0\r\nX Y\r\n\r\n",
        b"10000000000000000\r\n",
    ] {
        let whole = in_steps(input, input.len());
        for step in 1..input.len() {
            assert_eq!(in_steps(input, step), whole, "{step} of {input:?}");
        }
    }
}

#[test]
fn an_error_is_found_at_its_octet() {
    for (prefix, error) in [
        (&b"z"[..], ChunkError::Size),
        (b"5 ", ChunkError::SizeEnd),
        (b"5\n", ChunkError::SizeEnd),
        (b"5;a\0", ChunkError::Extension),
        (b"5\r\nhelloX", ChunkError::DataEnd),
        (b"0\r\nX: \0", ChunkError::Trailer),
        (b"ffffffffffffffff", ChunkError::SizeTooLarge),
    ] {
        assert_eq!(
            ChunkedReader::new().verify(prefix),
            Err(error),
            "{prefix:?}"
        );
        let before = prefix.len() - 1;
        assert!(
            ChunkedReader::new().verify(&prefix[..before]).is_ok(),
            "{prefix:?}"
        );
    }
}

#[test]
fn what_is_canonical_is_what_would_be_written() {
    for (input, canonical) in [
        (&b"5\r\nhello\r\n0\r\n\r\n"[..], true),
        (b"A\r\n0123456789\r\n", true),
        (b"a\r\n0123456789\r\n", true),
        (b"5\r\nhel", true),
        (b"05\r\nhello\r\n0\r\n\r\n", false),
        (b"5;a\r\nhello\r\n", false),
        (b"5\r\nhello\r\n00\r\n\r\n", false),
        (b"0\r\nX: 1\r\n\r\n", false),
        (b"0\r\nX: 1", false),
    ] {
        let verified = ChunkedReader::new().verify(input).unwrap();
        assert_eq!(verified.canonical, canonical, "{input:?}");
        let mut out = Vec::new();
        let output = ChunkedOutput::Chunked { trailers: false };
        let written = ChunkedReader::new()
            .transcode(input, output, &mut out)
            .unwrap();
        assert_eq!(written, verified);
        assert!(!canonical || out == input[..verified.consumed], "{input:?}");
    }
}

#[test]
fn the_last_chunk_waits_until_it_is_known_what_follows() {
    for held in [&b"0"[..], b"0\r", b"0\r\n", b"0\r\n\r"] {
        let mut reader = ChunkedReader::new();
        let input = [b"1\r\nx\r\n", held].concat();
        let done = reader.verify(&input).unwrap();
        assert_eq!(
            (done.consumed, done.canonical, done.ended),
            (6, true, false),
            "{held:?}"
        );
    }
}

#[test]
fn the_promise_of_a_chunk_counts_before_its_data() {
    let mut reader = ChunkedReader::new();
    let done = reader.verify(b"5\r\nhello\r\n1000\r\nxx").unwrap();
    assert_eq!((done.payload, reader.payload_promised()), (7, 5 + 0x1000));
}

#[test]
fn nothing_is_read_beyond_the_end() {
    let mut reader = ChunkedReader::new();
    let done = reader.verify(b"0\r\n\r\n5\r\nhello\r\n").unwrap();
    assert_eq!((done.consumed, done.ended), (5, true));
    let more = reader.verify(b"5\r\nhello\r\n").unwrap();
    assert_eq!((more.consumed, more.payload, more.ended), (0, 0, true));
}
