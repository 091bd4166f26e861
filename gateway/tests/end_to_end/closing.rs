//! The close of a connection: whatever a client still sends, it gets the whole of its last answer (RFC 9112, section 9.6: "if a
//! server performs an immediate close of a TCP connection, there is a significant risk that the client will not be able to read
//! the last HTTP response"). The clients here take little at a time, so that most of an answer waits in the gateway's kernel,
//! which throws it away at a reset.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, LONG, Launch, Upstream, eventually, to_upstream};

/// Of an answer that the gateway's kernel takes at once, and a client does not.
const WAITING_BYTES: usize = 16 << 10;
/// Of one that the gateway takes whole before its client does, and that does not fit into what is between the two.
const TAKEN_BYTES: usize = 128 << 10;
/// The longest body of a refusal, which does not fit there.
const PAGE_BYTES: usize = 64 << 10;
/// More than the kernels between hold, and than is read to keep a connection.
const BODY_BYTES: usize = 8 << 20;

fn answer(bytes: usize) -> String {
    let body = "a".repeat(bytes);
    format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{body}")
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY_BYTES}\r\n\r\n")
}

/// The whole answer comes, of so many bytes, and then an end in order.
#[track_caller]
fn gets_it_whole(client: &mut Client, status: u16, bytes: usize) {
    let answer = client.response();
    assert_eq!((answer.status, answer.body.len()), (status, bytes));
    assert!(answer.closes() && client.is_closed());
}

/// A gateway that answers without an upstream, and refuses, with long bodies.
fn with_long_answers(driver: Driver, lines: &str, bytes: usize) -> Gateway {
    let page = "p".repeat(bytes);
    Launch::new(driver)
        .one_worker()
        .listener(&format!("error_bodies = \"long\"\n{lines}"))
        .rest(&format!(
            "[error_bodies.long]\nbodies = [{{ status = \"4xx\", body = \"{page}\" }}]\n\
             [[routes]]\nname = \"fixed\"\npath = \"/fixed\"\nrespond = {{ status = 200, body = \"{page}\" }}\n\
             [[routes]]\nname = \"short\"\npath = \"/short\"\nmax_body = \"1000B\"\nrespond = {{ status = 200, body = \"x\" }}\n"
        ))
        .start()
}

/// An upstream that reads only the head of a request, answers when it is told to, and closes when the gateway has got the answer;
/// and how to tell it.
fn closing_upstream(bytes: usize) -> (Upstream, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |mut exchange| {
        exchange.head();
        if released.lock().unwrap().recv_timeout(LONG).is_ok() {
            exchange.send(answer(bytes));
            exchange.wait_until_taken();
            exchange.reset();
        }
    });
    (upstream, release)
}

on_both_drivers! {
    fn a_client_that_reads_only_when_it_has_sent_all_gets_its_answer(driver) {
        let gateway = with_long_answers(driver, "", PAGE_BYTES);
        for (path, status) in [("/fixed", 200), ("/short", 413), ("/nowhere", 404), ("/a/%zz", 400)] {
            let mut client = Client::with_small_buffers(gateway.address);
            client.send(post(path));
            client.send(vec![b'b'; BODY_BYTES]);
            gets_it_whole(&mut client, status, PAGE_BYTES);
        }
    }

    fn a_client_that_sends_all_before_it_reads_gets_the_answer_of_an_upstream_that_does_not_read(driver) {
        let (upstream, release) = closing_upstream(TAKEN_BYTES);
        let gateway = Launch::new(driver).one_worker().rest(&to_upstream(&[upstream.address], "")).start();
        for framing in ["Content-Length: 8388608", "Transfer-Encoding: chunked"] {
            let mut client = Client::with_small_buffers(gateway.address);
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"));
            release.send(()).unwrap();
            if framing.starts_with("Content") {
                client.send(vec![b'b'; BODY_BYTES]);
            } else {
                client.send(format!("100000\r\n{}\r\n", "b".repeat(1 << 20)).repeat(8) + "0\r\n\r\n");
            }
            gets_it_whole(&mut client, 200, TAKEN_BYTES);
        }
    }

    fn a_client_that_goes_on_sending_slowly_loses_nothing_of_its_answer(driver) {
        let gateway = with_long_answers(driver, "", WAITING_BYTES);
        let mut client = Client::with_small_buffers(gateway.address);
        client.send(post("/fixed"));
        client.wait_for_answer();
        // Three seconds.
        client.drip_for(b"b", 60);
        gets_it_whole(&mut client, 200, WAITING_BYTES);
    }

    fn a_client_that_goes_on_when_its_time_is_over_gets_the_whole_408(driver) {
        let gateway = with_long_answers(driver, "header_timeout = \"500ms\"", WAITING_BYTES);
        for start in ["GET /fixed HTTP/1.1\r\nHost: t", "GET"] {
            let mut client = Client::with_small_buffers(gateway.address);
            client.send(start);
            client.wait_for_answer();
            client.drip_for(b"b", 10);
            gets_it_whole(&mut client, 408, WAITING_BYTES);
        }
    }

    fn a_client_that_goes_on_with_its_body_when_its_time_is_over_gets_the_whole_408(driver) {
        let upstream = Upstream::start(|mut exchange| {
            exchange.head();
            exchange.wait_closed();
        });
        let page = "p".repeat(WAITING_BYTES);
        let gateway = Launch::new(driver)
            .one_worker()
            .listener("body_timeout = \"500ms\"\nerror_bodies = \"long\"")
            .rest(&format!("[error_bodies.long]\nbodies = [{{ status = 408, body = \"{page}\" }}]\n"))
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let mut client = Client::with_small_buffers(gateway.address);
        client.send(post("/"));
        client.send("b");
        client.wait_for_answer();
        client.drip_for(b"b", 10);
        gets_it_whole(&mut client, 408, WAITING_BYTES);
        assert_eq!(gateway.record_of("/")["error.type"], "body_timeout");
    }

    fn a_client_that_has_sent_its_next_request_loses_nothing_when_the_gateway_drains(driver) {
        let (upstream, release) = closing_upstream(WAITING_BYTES);
        let mut gateway = Launch::new(driver)
            .one_worker()
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let mut client = Client::with_small_buffers(gateway.address);
        let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        client.send(request);
        eventually("the request at the upstream", || (upstream.requests() == 1).then_some(()));
        gateway.signal(libc::SIGTERM);
        eventually("no listener", || Client::try_connect(gateway.address).is_err().then_some(()));
        release.send(()).unwrap();
        client.wait_for_answer();
        client.drip_for(request, 10);
        gets_it_whole(&mut client, 200, WAITING_BYTES);
        drop(client);
        assert_eq!(gateway.exit_code(), Some(0));
    }

    fn a_client_that_goes_on_for_ever_does_not_hold_up_the_drain(driver) {
        let mut gateway = Launch::new(driver)
            .one_worker()
            .runtime("drain_timeout = \"1s\"")
            .rest("[[routes]]\nname = \"all\"\npath_prefix = \"/\"\nrespond = { status = 200, body = \"x\" }\n")
            .start();
        let mut client = Client::connect(gateway.address);
        client.send(post("/"));
        client.wait_for_answer();
        let start = Instant::now();
        gateway.signal(libc::SIGTERM);
        client.drip(b"b");
        // The gateway's end of sending comes at once.
        while gateway.is_running() {
            client.send_what_goes(b"b");
            assert!(start.elapsed() < LONG);
        }
        assert_eq!(gateway.exit_code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    fn a_client_that_does_not_close_is_closed(driver) {
        let gateway = with_long_answers(driver, "", WAITING_BYTES);
        let mut client = Client::connect(gateway.address);
        let start = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: t t\r\n\r\n");
        gets_it_whole(&mut client, 400, WAITING_BYTES);
        assert!(start.elapsed() < Duration::from_secs(4), "the end is seen at once");
        gateway.wait_until_quiet();
        assert!(start.elapsed() > Duration::from_secs(4), "it could still have sent");
    }
}
