//! Serving a request on a kept connection allocates nothing: a real worker, real sockets, limits, metrics and log on, and with
//! whatever a route can ask for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use gateway::telemetry::ring::{RING_BYTES, ring};
use runtime::Choice;

use crate::counting::Counters;
use crate::support::{Running, config, plan};

const WARM_UP: usize = 200;
const REQUESTS: usize = 10_000;

/// Answers whatever ends in an empty line, on as many connections as come.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                while read_to(&mut stream, b"\r\n\r\n") {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: test\r\n\r\nok";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Reads until the bytes so far end in `end`; false: they ended before.
fn read_to(stream: &mut TcpStream, end: &[u8]) -> bool {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !seen.ends_with(end) {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => seen.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    true
}

/// Limits, and sections and keys of the route besides.
fn limited(sections: &str, route: &str) -> String {
    let upstream = upstream();
    format!(
        "[[listeners]]\nname = 'web'\naddress = '127.0.0.1:0'\n{sections}\n\
         [limits.one]\nrate = '1000000/s'\nburst = 1000000\n[limits.two]\nrate = '2000000/s'\nburst = 1000000\n\
         [upstreams.up]\nendpoints = [{{ address = '{upstream}' }}]\n\
         [[routes]]\nname = 'all'\nlimits = ['one', 'two']\nupstream = 'up'\n{route}\n"
    )
}

/// Keys and tokens of the tests of tokens.
fn bearer() -> String {
    const TOKENS: &str = include_str!("../keys/tokens.txt");
    let mut named = TOKENS.lines().filter_map(|line| line.split_once(' '));
    let (_, token) = named.find(|(name, _)| *name == "ES256").unwrap();
    format!("Authorization: Bearer {token}\r\n")
}

fn with_everything() -> String {
    let sections = format!(
        "ban = 'noisy'\nhosts = ['test', '*.test']\n[bans.noisy]\n\
         [network_lists.known]\ndeny = ['192.0.2.0/24']\notherwise = 'allow'\n\
         [cors.pages]\norigins = ['https://app.test']\n\
         [filters.shape]\nmethods = ['GET']\nrequired_headers = {{ user-agent = '[a-z]+' }}\n\
         forbidden_headers = {{ x-debug = '.*' }}\n\
         [security_headers.careful]\n\
         [jwt.main]\nissuer = 'https://id.test/'\naudience = 'https://api.test'\njwks_file = '{}/tests/keys/jwks.json'\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let route = "path = '/{first}/{second}'\nnetwork_lists = ['known']\ncors = 'pages'\nfilters = ['shape']\n\
        security_headers = 'careful'\nauth = ['main']\nrewrite = { path = '/v2/${path.second}' }\n\
        request_headers = { set = { x-a = '${client.address}', x-b = '${path.first}' }, remove = ['accept'] }\n\
        response_headers = { set = { x-c = '${request.id}' }, remove = ['server'] }";
    limited(&sections, route)
}

fn requests_allocate_nothing(choice: Choice, text: &str, fields: &str) {
    let (log, mut records) = ring(0, RING_BYTES, thread::current());
    let counters = Counters::new();
    let worker = Running::start(choice, plan(&config(text)), Some(log), counters);
    let mut client = TcpStream::connect(worker.address).unwrap();
    client.set_nodelay(true).unwrap();
    let request = format!(
        "GET /a/path?and=query HTTP/1.1\r\nHost: test\r\nUser-Agent: test\r\nAccept: */*\r\n{fields}\r\n"
    );
    let mut taken = 0;
    let mut send = |requests| {
        for _ in 0..requests {
            client.write_all(request.as_bytes()).unwrap();
            assert!(read_to(&mut client, b"\r\n\r\nok"));
            while records.take(10, |_| taken += 1) > 0 {}
        }
    };
    send(WARM_UP);
    let before = counters.allocations();
    assert!(
        before > 0,
        "starting and connecting allocate: the count works"
    );
    send(REQUESTS);
    assert_eq!(counters.allocations() - before, 0);
    assert!(taken >= WARM_UP + REQUESTS - 1, "{taken} records");
    worker.end(client);
}

#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    for choice in [Choice::Auto, Choice::Epoll] {
        requests_allocate_nothing(choice, &limited("", ""), "");
    }
}

#[test]
fn neither_does_one_whose_route_asks_for_everything() {
    let fields = format!("Origin: https://app.test\r\n{}", bearer());
    for choice in [Choice::Auto, Choice::Epoll] {
        requests_allocate_nothing(choice, &with_everything(), &fields);
    }
}
