//! What reading a request head costs: ours, httparse alone (which finds no end, checks no rule and writes nothing),
//! and monoio-http. And what following a chunked body costs.
//!
//! The heads are those of `HEADS`. monoio-http takes the head out of a buffer that it then owns, so it gets a new one
//! each time; filling that is not timed.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway::config::{PathPolicy, UnderscoreHeaders};
use gateway::data::codec::{
    Additions, ChunkedReader, Edits, Fields, ForwardRequest, HeadLimits, HeadScanner, Normalised,
    RequestRules, Scheme, normalise_path, parse_request, write_request_head,
};
use monoio_codec::{Decoded, Decoder as _};
use monoio_http::h1::codec::decoder::RequestHeadDecoder;

/// What a load generator sends, and what a browser sends.
const HEADS: [(&str, &[u8]); 2] = [
    (
        "short",
        b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
    ),
    (
        "browser",
        b"GET /v1/users/4711/orders?page=2&sort=date HTTP/1.1\r\n\
          Host: api.example.com\r\n\
          Connection: keep-alive\r\n\
          sec-ch-ua-platform: \"Linux\"\r\n\
          User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
          Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
          Accept-Language: en-US,en;q=0.5\r\n\
          Accept-Encoding: gzip, deflate, br, zstd\r\n\
          Referer: https://www.example.com/orders/overview?customer=4711\r\n\
          Cookie: session=6d1f5c0c1f5b4f0e9d0c9b8a7f6e5d4c; theme=dark; consent=all\r\n\
          Cache-Control: no-cache\r\n\
          X-Trace: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
    ),
];

const LIMITS: HeadLimits = HeadLimits {
    start_line_max: 8192,
    head_max: 65_536,
    fields_max: 128,
};

const RULES: RequestRules = RequestRules {
    fields_max: 128,
    underscore: UnderscoreHeaders::Drop,
    scheme: Scheme::Http,
    rewrite_host: false,
};

/// A chunk and how many of them a body has.
const CHUNK_BYTES: usize = 1024;
const CHUNKS: usize = 16;

fn heads(criterion: &mut Criterion) {
    for (name, head) in HEADS {
        let mut group = criterion.benchmark_group(format!("codec/head/{name}"));
        group.throughput(Throughput::Bytes(head.len() as u64));
        let mut fields = Fields::new();
        group.bench_function("scan_parse", |bencher| {
            bencher.iter(|| read(black_box(head), &mut fields));
        });
        let mut out = Vec::with_capacity(4096);
        group.bench_function("scan_parse_write", |bencher| {
            bencher.iter(|| {
                out.clear();
                read_and_write(black_box(head), &mut fields, &mut out)
            });
        });
        group.bench_function("httparse", |bencher| {
            bencher.iter(|| {
                let mut slots = [httparse::EMPTY_HEADER; 128];
                httparse::Request::new(&mut slots)
                    .parse(black_box(head))
                    .is_ok_and(|status| status.is_complete())
            });
        });
        group.bench_function("monoio_http", |bencher| {
            bencher.iter_batched(
                || BytesMut::from(head),
                |mut buffer| match RequestHeadDecoder.decode(&mut buffer) {
                    Ok(Decoded::Some(head)) => Some(head),
                    _ => None,
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

/// What a connection does with a head that came in one read.
fn read(head: &[u8], fields: &mut Fields) -> bool {
    match HeadScanner::for_request().scan(head, &LIMITS) {
        Ok(Some(range)) => head
            .get(range)
            .is_some_and(|head| parse_request(head, &RULES, fields).is_ok()),
        _ => false,
    }
}

/// The same, and the head that goes upstream.
fn read_and_write(head: &[u8], fields: &mut Fields, out: &mut Vec<u8>) -> bool {
    let Ok(Some(range)) = HeadScanner::for_request().scan(head, &LIMITS) else {
        return false;
    };
    let head = head.get(range).unwrap_or_default();
    let Ok(request) = parse_request(head, &RULES, fields) else {
        return false;
    };
    let mut normal = Vec::new();
    let path = match normalise_path(request.path.of(head), PathPolicy::Standard, &mut normal) {
        Ok(Normalised::AsIs) => request.path.of(head),
        Ok(_) => &normal,
        Err(_) => return false,
    };
    let forward = ForwardRequest {
        path,
        host: request.authority.unwrap_or_default().of(head),
        client: b"192.0.2.7",
        forwarded: b"",
        trusted: false,
        scheme: Scheme::Http,
        request_id: b"0123456789abcdef0123456789abcdef",
        underscore: UnderscoreHeaders::Drop,
        trailers: false,
        te_trailers: request.te_trailers,
        upgrade: None,
        expect_continue: true,
        additions: Additions::NONE,
        via: None,
        edits: Edits::NONE,
    };
    write_request_head(out, head, &request, fields, &forward);
    !out.is_empty()
}

fn chunked(criterion: &mut Criterion) {
    let mut body = Vec::new();
    for _ in 0..CHUNKS {
        body.extend_from_slice(format!("{CHUNK_BYTES:x}\r\n").as_bytes());
        body.resize(body.len() + CHUNK_BYTES, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut group = criterion.benchmark_group("codec/chunked/16x1KiB");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            let mut reader = ChunkedReader::new();
            let progress = reader.verify(black_box(&body));
            (progress, reader.is_ended())
        });
    });
    group.finish();
}

/// A benchmark of refusals would be fast and meaningless.
fn inputs_are_accepted() {
    for (name, head) in HEADS {
        let mut out = Vec::new();
        assert!(
            read_and_write(head, &mut Fields::new(), &mut out),
            "{name} is refused"
        );
        let decoded = RequestHeadDecoder.decode(&mut BytesMut::from(head));
        assert!(
            matches!(decoded, Ok(Decoded::Some(_))),
            "monoio-http refuses {name}"
        );
    }
}

fn codec(criterion: &mut Criterion) {
    inputs_are_accepted();
    heads(criterion);
    chunked(criterion);
}

criterion_group!(benches, codec);
criterion_main!(benches);
