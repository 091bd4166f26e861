//! What bounds a client or an upstream that is slow, and a gateway that has no room left.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{Client, Launch, Upstream, eventually, ok, to_upstream};

/// A listener whose queue is full, so that the kernel answers nobody; and those who fill it.
fn deaf() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&anywhere.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // In progress, for ever.
        drop(socket.connect(&address.into()));
        sockets.push(socket);
    }
    (address, sockets)
}

/// A response without an end.
fn endless() -> Upstream {
    Upstream::start(|mut exchange| {
        exchange.request();
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            1_u64 << 40
        ));
        while exchange.send([0; 65_536]) {}
    })
}

/// A client that has asked for `endless`, with as small a buffer of its own as the kernel allows.
fn asking(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    let socket = SockRef::from(client.stream());
    socket.set_recv_buffer_size(2048).unwrap();
    client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    client
}

/// What the kernel may hold of a response that nobody reads: the bound on unsent bytes (16 KiB), a segment of loopback beyond
/// it, and what the smallest of receive buffers lets out. Without the bound it is megabytes.
const SENT_AND_HELD_MAX: u64 = 96 * 1024;

/// Bytes of the connection `from` here `to` there that the other side has not acknowledged, sent or not.
fn unacknowledged(from: SocketAddr, to: SocketAddr) -> u64 {
    let text = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => format!(
            "{:08X}:{:04X}",
            u32::from_ne_bytes(ip.octets()),
            address.port()
        ),
        IpAddr::V6(_) => panic!("an IPv4 address"),
    };
    let (from, to) = (text(from), text(to));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = table.lines().map(|line| line.split_whitespace());
    let mut queues = lines.find_map(|mut words| {
        (words.nth(1)? == from && words.next()? == to).then(|| words.nth(1))?
    });
    let queue = queues.take().and_then(|queues| queues.split(':').next());
    queue.map_or(0, |queue| u64::from_str_radix(queue, 16).unwrap())
}

const SLOW_LIMIT: Duration = Duration::from_secs(10);

/// After how long each of three was ended that had [`SLOW_LIMIT`]: one that never reads, one that reads half a KiB each second,
/// and one whose body drips.
fn slow_clients(address: SocketAddr) -> [Duration; 3] {
    let start = Instant::now();
    let never_reads = asking(address);
    let reads_little = asking(address);
    let mut drips = Client::connect(address);
    drips.send("POST /drip HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    let mut ended = [None; 3];
    let mut beat = start;
    eventually("all three ended", || {
        if beat.elapsed() >= Duration::from_millis(250) {
            beat = Instant::now();
            let mut some = [0; 128];
            let mut stream: &TcpStream = reads_little.stream();
            drop(stream.read(&mut some));
            drips.send_what_goes("x");
        }
        for (client, ended) in [&never_reads, &reads_little, &drips]
            .into_iter()
            .zip(&mut ended)
        {
            if client.has_ended() {
                ended.get_or_insert_with(|| start.elapsed());
            }
        }
        ended.iter().all(Option::is_some).then_some(())
    });
    ended.map(|took| took.unwrap())
}

on_both_drivers! {
    fn a_connect_that_nobody_answers_is_504(driver) {
        let (address, _full) = deaf();
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[address], "connect_timeout = \"200ms\""))
            .start();
        assert_eq!(gateway.get("/x").problem(504), "connect_timeout");
        let record = gateway.record_of("/x");
        assert_eq!(record["error.type"], "connect_timeout");
        assert_eq!(record["ringgate.end"], "upstream_timeout");
        let timeouts = gateway.metric("ringgate_timeouts_total", &[("kind", "upstream_connect")]);
        assert_eq!(timeouts, 1.0);
    }

    fn a_name_without_an_address_is_502(driver) {
        let rest = to_upstream(&[], "").replace(
            "endpoints = []",
            "endpoints = [{ address = \"nowhere.invalid:80\" }]",
        );
        let gateway = Launch::new(driver).rest(&rest).start();
        assert_eq!(gateway.get("/x").problem(502), "no_address");
        assert_eq!(gateway.record_of("/x")["ringgate.end"], "upstream_unresolved");
    }

    fn without_descriptors_an_upstream_is_out_of_reach(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], ""))
            .rest("[[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { body = \"own\" }\n")
            .start();
        let mut client = Client::connect(gateway.address);
        // Answered, so accepted.
        assert_eq!(client.get("/own").text(), "own");
        gateway.take_descriptors();
        let answer = client.get("/x");
        assert_eq!(answer.problem(503), "no_descriptors");
        assert_eq!(answer.value("retry-after"), "1");
        assert!(!answer.closes(), "the client's own connection is as good as before");
        let is_noted = |record: &serde_json::Value| record["error.type"] == "no_descriptors";
        eventually("its record", || gateway.records().iter().any(is_noted).then_some(()));
    }

    fn who_comes_when_everything_is_taken_is_told_to_come_back(driver) {
        let upstream = Upstream::start(|mut exchange| exchange.wait_closed());
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "max_connections = 1"))
            .start();
        let mut first = Client::connect(gateway.address);
        first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the only place taken", || {
            let used = gateway.metric("ringgate_upstream_connections", &[("state", "active")]);
            (used == 1.0).then_some(())
        });
        let answer = gateway.get("/");
        assert_eq!(answer.problem(503), "upstream_full");
        assert_eq!(answer.value("retry-after"), "1");
    }

    fn a_response_head_that_drips_gets_no_more_time(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.request();
            exchange.send("HTTP/1.1 200 OK\r\nX: ");
            while !exchange.ends_within(Duration::from_millis(50)) {
                exchange.send("x");
            }
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "first_byte_timeout = \"500ms\""))
            .start();
        let start = Instant::now();
        assert_eq!(gateway.get("/x").problem(504), "first_byte_timeout");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    }

    fn interim_responses_give_an_upstream_no_more_time(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.request();
            for _ in 0..3 {
                exchange.send("HTTP/1.1 102 Processing\r\n\r\n");
                exchange.ends_within(Duration::from_millis(200));
            }
            exchange.wait_closed();
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "first_byte_timeout = \"500ms\""))
            .start();
        let mut client = Client::connect(gateway.address);
        let start = Instant::now();
        client.send("GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut answer = client.response();
        while answer.status == 102 {
            answer = client.response();
        }
        assert_eq!(answer.problem(504), "first_byte_timeout");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    fn who_breaks_a_connection_before_its_answer_is_passed_over_once(driver) {
        let bad = Upstream::start(|mut exchange| {
            exchange.head();
            exchange.reset();
        });
        let good = Upstream::answering(|_, body| ok(&format!("{} bytes", body.len())));
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&to_upstream(&[bad.address, good.address], "keepalive_max = 0"))
            .start();
        for number in 0..6 {
            assert_eq!(gateway.get(&format!("/{number}")).text(), "0 bytes");
        }
        assert!(bad.requests() >= 1 && gateway.metric("ringgate_retries_total", &[]) >= 1.0);
        // What may not be repeated is not, and what has a body neither.
        let mut refused = 0;
        for _ in 0..6 {
            let mut client = Client::connect(gateway.address);
            client.send("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
            refused += usize::from(client.response().status == 502);
        }
        assert!(refused >= 1);
        let closing = Upstream::start(|mut exchange| {
            exchange.head();
            exchange.close();
        });
        let both_bad = Launch::new(driver)
            .one_worker()
            .rest(&to_upstream(&[bad.address, closing.address], "keepalive_max = 0"))
            .start();
        let before = bad.requests();
        assert_eq!(both_bad.get("/").problem(502), "closed_before_response");
        assert_eq!((bad.requests() - before, closing.requests()), (1, 1), "once each");
    }

    fn the_kernel_holds_little_for_a_client_that_does_not_read(driver) {
        const RUNS: usize = 50;
        let upstream = endless();
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let client = asking(gateway.address);
        let here = client.stream().local_addr().unwrap();
        // Filled when it has been the same for a while.
        let (mut held, mut same) = (0, 0);
        eventually("a full send buffer", || {
            let now = unacknowledged(gateway.address, here);
            same = if now == held && now > 0 { same + 1 } else { 0 };
            held = now;
            (same == RUNS).then_some(())
        });
        assert!(held <= SENT_AND_HELD_MAX, "{held} bytes wait in the kernel");
    }

    fn slow_clients_are_ended_in_time_and_see_it(driver) {
        let upstream = endless();
        let gateway = Launch::new(driver)
            .listener("write_timeout = \"10s\"\nmin_write_rate = \"1KiB/s\"\nmin_body_rate = \"1KiB/s\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let mut late = Vec::new();
        // A machine that is busy with other tests may hold up a gateway, and then no client is blamed for it.
        for tries in 1..=3 {
            let ended = slow_clients(gateway.address);
            assert!(ended.iter().all(|&took| took >= SLOW_LIMIT), "{ended:?}");
            let writes = gateway.metric("ringgate_timeouts_total", &[("kind", "write")]);
            let bodies = gateway.metric("ringgate_timeouts_total", &[("kind", "body")]);
            assert_eq!((writes, bodies), (2.0 * f64::from(tries), f64::from(tries)));
            if ended.iter().all(|&took| took < SLOW_LIMIT + Duration::from_secs(1)) {
                return;
            }
            late.push(ended);
        }
        panic!("{late:?}");
    }
}
