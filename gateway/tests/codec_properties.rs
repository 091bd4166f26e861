//! What holds for any octets: drawn at random from fragments of messages, and from the fuzzers' corpus.

#[path = "codec_support/checks.rs"]
mod checks;
#[path = "codec_support/oracle.rs"]
mod oracle;
#[path = "codec_support/streams.rs"]
mod streams;

use gateway::data::codec::{CHUNK_END, ChunkHead, ChunkedOutput, ChunkedReader, LAST_CHUNK};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence};

/// Octets of which most are `fragments`, so that a parser gets somewhere, and some are anything.
fn octets_like(fragments: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        30 => select(fragments).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
        1 => vec(any::<u8>(), 1..2),
    ];
    vec(fragment, 0..14).prop_map(|parts| parts.concat())
}

const FIELDS: &[&str] = &[
    "Host: a.test\r\n",
    "Host: a.test\r\n",
    "Host: a.test\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 007\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tCHUNKED \r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Connection: x-a, te\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "TE: trailers\r\n",
    "X-A: b\r\n",
    "x-a:b \r\n",
    "X-Empty:\r\n",
    "X_Y: z\r\n",
    "Expect: 100-continue\r\n",
    "Max-Forwards: 5\r\n",
    "X-Forwarded-For: 1\r\n",
    "Forwarded: a\r\n",
    "X-Request-Id: 7\r\n",
    "Trailer: x\r\n",
    "Cookie: a=b\r\n",
    "Keep-Alive: 5\r\n",
    " fold\r\n",
    "X : y\r\n",
    "X: \u{e9}\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\t",
    ":",
    ",",
    " ",
];

fn head_like(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("")];
    (select(starts), octets_like(FIELDS), end)
        .prop_map(|(start, fields, end)| [start.as_bytes(), &fields, end.as_bytes()].concat())
}

/// Messages in a row, after an octet for the check that reads them.
fn messages_like(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let message = (
        head_like(starts),
        prop_oneof![
            Just(String::new()),
            Just("hello".to_owned()),
            Just("hello, with more".to_owned()),
            octets_like(CHUNKS).prop_map(|body| String::from_utf8_lossy(&body).into_owned()),
        ],
    )
        .prop_map(|(head, body)| [head, body.into_bytes()].concat());
    (any::<u8>(), vec(message, 1..4))
        .prop_map(|(first, messages)| [vec![first], messages.concat()].concat())
}

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "POST /a HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "OPTIONS http://a.test HTTP/1.1\r\n",
    "GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n",
    "\r\nGET / HTTP/1.1\r\n",
    "PUT /?",
    "X ",
    "",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 204 \r\n",
    "HTTP/1.1 304 N\r\n",
    "HTTP/1.1 101 S\r\n",
    "HTTP/1.1 103 E\r\n",
    "HTTP/1.1 205 R\r\n",
    "HTTP/1.1 404\r\n",
    "HTTP/1.1 200 \u{e9}\r\n",
    "HTTP/1.1 ",
    "",
];

const CHUNKS: &[&str] = &[
    "5\r\nhello\r\n",
    "5\r\nhello\r\n",
    "005\r\nhello\r\n",
    "A\r\n0123456789\r\n",
    "5;a=b\r\nhello\r\n",
    "1;a=\"b\\\" c\"\r\nx\r\n",
    "0\r\n\r\n",
    "0\r\n",
    "00;x\r\n",
    "X-T: 1\r\n",
    "Host: a\r\n",
    "X:y\r\n",
    "\r\n",
    "\n",
    "\r",
    ";",
    "5",
    "5\r\nhel",
    "0",
];

const CONFIG: &[&str] = &[
    "version = 1\n",
    "[[listeners]]\n",
    "name = \"a\"\n",
    "address = \"127.0.0.1:80\"\n",
    "[[routes]]\n",
    "upstream = \"u\"\n",
    "[upstreams.u]\n",
    "endpoints = [{ address = \"builtin:demo\" }]\n",
    "[limits.x]\n",
    "rate = \"5/s\"\n",
    "key = \"client_ip\"\n",
    "path = \"/a\"\n",
    "respond = { status = 204 }\n",
    "[admin]\n",
    "listen = \"off\"\n",
    "${X}",
    "\"",
    "= 7\n",
    "{",
    "[",
    "\u{e9}",
    "tolerate = [\"length-and-encoding\"]\n",
    "count_only = [\"path_ambiguous\"]\n",
    "path_policy = \"strict\"\n",
    "timeout = \"1s\"\n",
];

const PATHS: &[&str] = &[
    "/", "/", "/", "a", "B", ".", "..", "/.", "/..", "/../", "//", "%2f", "%5C", "%2e", "%252e",
    "%25", "%61", "%3f", "%20", "%09", "%00", ";", ";a=b", "\\", "?", "#", "~", "%", "%zz",
    "%c3%a9",
];

/// Seeds of failures are printed and kept beside this file, and tried first from then on.
fn config() -> Config {
    let seeds = FileFailurePersistence::Direct("tests/codec_properties.proptest-regressions");
    Config {
        failure_persistence: Some(Box::new(seeds)),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn request_heads_have_one_reading(data in head_like(REQUEST_LINES)) {
        checks::request_head(&data);
    }

    #[test]
    fn response_heads_have_one_reading(data in head_like(STATUS_LINES)) {
        checks::response_head(&data);
    }

    #[test]
    fn chunked_bodies_have_one_reading(data in octets_like(CHUNKS)) {
        checks::chunked(&data);
    }

    #[test]
    fn paths_have_one_normal_form(data in octets_like(PATHS)) {
        checks::path(&data);
    }

    #[test]
    fn connections_read_as_another_reader_reads_them(data in messages_like(REQUEST_LINES)) {
        streams::connection(&data);
    }

    #[test]
    fn responses_read_as_another_reader_reads_them(data in messages_like(STATUS_LINES)) {
        streams::response(&data);
    }

    #[test]
    fn any_configuration_is_taken_or_complained_of(data in octets_like(CONFIG)) {
        streams::config(&data);
    }

    #[test]
    fn arbitrary_octets_never_panic(data in vec(any::<u8>(), 0..300)) {
        streams::connection(&data);
        streams::response(&data);
        streams::config(&data);
        checks::request_head(&data);
        checks::response_head(&data);
        checks::chunked(&data);
        checks::path(&data);
    }

    #[test]
    fn chunks_written_are_read_back(payloads in vec(vec(any::<u8>(), 1..600), 0..8)) {
        let mut body = Vec::new();
        for payload in &payloads {
            body.extend_from_slice(ChunkHead::new(payload.len() as u64).as_bytes());
            body.extend_from_slice(payload);
            body.extend_from_slice(CHUNK_END);
        }
        body.extend_from_slice(LAST_CHUNK);
        let verified = ChunkedReader::new().verify(&body);
        assert!(verified.is_ok_and(|done| done.ended && done.canonical && done.consumed == body.len()));
        let mut out = Vec::new();
        let done = ChunkedReader::new().transcode(&body, ChunkedOutput::Bare, &mut out);
        assert!(done.is_ok());
        assert_eq!(out, payloads.concat());
        checks::chunked(&body);
    }
}

/// The fuzzers' corpus as plain tests: whatever they once found stays found.
#[test]
fn the_fuzzers_corpus_passes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, check) in [
        ("request_head", checks::request_head as fn(&[u8])),
        ("response_head", checks::response_head),
        ("chunked", checks::chunked),
        ("path", checks::path),
        ("connection", streams::connection),
        ("response", streams::response),
        ("config", streams::config),
        ("proxy_header", checks::proxy_header),
        ("forwarded", checks::forwarded),
    ] {
        let folder = root.join(target);
        let entries = std::fs::read_dir(&folder).expect("a folder of the corpus");
        let files: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(!files.is_empty(), "no corpus in {}", folder.display());
        for file in files {
            check(&std::fs::read(&file).expect("a readable file"));
        }
    }
}
