//! Upgraded connections: which may be upgraded, when bytes begin to pass, and how a tunnel ends.

use std::net::Shutdown;

use crate::request_cost::ring_operations;
use crate::support::{
    Client, Driver, Gateway, Launch, Upstream, eventually, has_io_uring, ok, to_upstream,
};

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

fn start(driver: Driver, upstream: &Upstream, route: &str) -> Gateway {
    Launch::new(driver)
        .rest(&to_upstream(&[upstream.address], "idle_timeout = \"1s\""))
        .rest(route)
        .start()
}

fn with_websocket(driver: Driver, upstream: &Upstream) -> Gateway {
    start(driver, upstream, "upgrade = [\"websocket\"]")
}

#[test]
fn much_at_once_goes_through_in_large_pieces() {
    const BYTES: usize = 16 << 20;
    /// In pieces of 4 KiB it is thirteen thousand.
    const OPERATIONS_MAX: u64 = 5_000;
    if !has_io_uring("tunnels::much_at_once_goes_through_in_large_pieces") {
        return;
    }
    let upstream = Upstream::start(|mut exchange| {
        if exchange.head().is_none() {
            return;
        }
        exchange.send(SWITCHING);
        exchange.send(vec![b'x'; BYTES]);
        exchange.wait_closed();
    });
    let gateway = Launch::new(Driver::IoUring)
        .one_worker()
        .rest(&to_upstream(&[upstream.address], ""))
        .rest("upgrade = [\"websocket\"]")
        .start();
    let mut client = Client::connect(gateway.address);
    let before = ring_operations(gateway.pid());
    client.send(UPGRADE);
    assert_eq!(client.head().unwrap().status, 101);
    assert_eq!(client.reading().bytes(BYTES).len(), BYTES);
    let made = ring_operations(gateway.pid()) - before;
    assert!(made <= OPERATIONS_MAX, "{made} operations");
}

on_both_drivers! {
    fn bytes_pass_both_ways_after_the_upstreams_101(driver) {
        let upstream = Upstream::start(|mut exchange| {
            let Some(request) = exchange.head() else { return };
            assert_eq!(request.values("upgrade"), ["websocket"]);
            assert_eq!(request.values("connection").len(), 1);
            // The first words of the new protocol come in the same segment.
            exchange.send(format!("{SWITCHING}hello"));
            assert_eq!(exchange.reading.bytes(4), b"ping");
            exchange.send("pong");
            exchange.reading.rest();
        });
        let gateway = with_websocket(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send(UPGRADE);
        assert_eq!(client.head().unwrap().status, 101);
        assert_eq!(client.reading().bytes(5), b"hello");
        client.send("ping");
        assert_eq!(client.reading().bytes(4), b"pong");
        drop(client);
        let record = gateway.record_of("/chat");
        assert_eq!(record["http.response.status_code"], 101);
        assert_eq!(record["http.request.body.size"], 4);
        gateway.wait_until_quiet();
    }

    fn what_a_client_sends_before_the_101_waits_for_it(driver) {
        let upstream = Upstream::start(|mut exchange| {
            if exchange.head().is_none() { return };
            // Nothing may have followed the head by now: it is read after the answer only.
            exchange.send(SWITCHING);
            let early = exchange.reading.bytes(5);
            exchange.send(early);
            exchange.reading.rest();
        });
        let gateway = with_websocket(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send(format!("{UPGRADE}early"));
        assert_eq!(client.head().unwrap().status, 101);
        assert_eq!(client.reading().bytes(5), b"early");
    }

    fn an_upgrade_that_the_upstream_declines_leaves_plain_http(driver) {
        let upstream = Upstream::saying("no");
        let gateway = with_websocket(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send(UPGRADE);
        assert_eq!(client.response().text(), "no");
        assert_eq!(client.get("/next").text(), "no");
    }

    fn a_protocol_that_the_route_does_not_name_is_not_asked_for(driver) {
        let upstream = Upstream::answering(|request, _| {
            ok(&format!("{:?}{:?}", request.values("upgrade"), request.values("connection")))
        });
        for route in ["", "upgrade = [\"other\"]"] {
            let gateway = start(driver, &upstream, route);
            let mut client = Client::connect(gateway.address);
            client.send(UPGRADE);
            assert_eq!(client.response().text(), "[][]");
        }
    }

    fn a_101_that_nobody_asked_for_is_502(driver) {
        let upstream = Upstream::answering(|_, _| SWITCHING.to_owned());
        let gateway = with_websocket(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/plain").status, 502);
    }

    fn a_half_close_goes_through_and_the_other_way_stays_open(driver) {
        let upstream = Upstream::start(|mut exchange| {
            if exchange.head().is_none() { return };
            exchange.send(SWITCHING);
            let (said, orderly) = exchange.reading.rest();
            assert!(orderly, "the client's end came as an end");
            exchange.send(said);
            exchange.close();
        });
        let gateway = with_websocket(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send(UPGRADE);
        assert_eq!(client.head().unwrap().status, 101);
        client.send("last words");
        client.stream().shutdown(Shutdown::Write).unwrap();
        let (echo, orderly) = client.reading().rest();
        assert_eq!((echo.as_slice(), orderly), (&b"last words"[..], true));
        gateway.wait_until_quiet();
    }

    fn a_tunnel_in_which_nothing_moves_is_ended(driver) {
        let upstream = Upstream::start(|mut exchange| {
            if exchange.head().is_none() { return };
            exchange.send(SWITCHING);
            exchange.reading.rest();
        });
        let gateway = with_websocket(driver, &upstream);
        let mut client = Client::connect(gateway.address);
        client.send(UPGRADE);
        assert_eq!(client.head().unwrap().status, 101);
        // idle_timeout is a second; the read ends because the gateway closes.
        client.reading().rest();
        eventually("no connection left", || {
            let open = gateway.metrics().sum("ringgate_upstream_connections", &[]);
            (open == 0.0).then_some(())
        });
    }

    fn tunnels_in_which_nothing_moves_hold_no_buffer_and_no_thread(driver) {
        const TUNNELS: usize = 500;
        /// A buffer each way would be 8 KiB more, a thread's stack far more. `scripts/idle-memory` measures 10,000.
        const BYTES_EACH_MAX: u64 = 5 * 1024;
        let upstream = Upstream::start(|mut exchange| {
            if exchange.head().is_none() { return };
            exchange.send(SWITCHING);
            while let [byte] = exchange.reading.bytes(1)[..] {
                exchange.send([byte]);
            }
        });
        let gateway = Launch::new(driver)
            .access_log("path = \"off\"\n")
            .rest(&to_upstream(&[upstream.address], ""))
            .rest("upgrade = [\"websocket\"]")
            .start();
        let tunnel = || {
            let mut client = Client::connect(gateway.address);
            client.send(UPGRADE);
            assert_eq!(client.head().unwrap().status, 101);
            client.send("x");
            assert_eq!(client.reading().bytes(1), b"x");
            client
        };
        // What is made once is there before the measurement.
        let warm: Vec<Client> = (0..50).map(|_| tunnel()).collect();
        let (threads, resident) = (gateway.threads(), gateway.resident_bytes());
        let mut tunnels: Vec<Client> = (0..TUNNELS).map(|_| tunnel()).collect();
        eventually("little memory each", || {
            let grown = gateway.resident_bytes().saturating_sub(resident);
            (grown <= TUNNELS as u64 * BYTES_EACH_MAX).then_some(())
        });
        assert_eq!(gateway.threads(), threads);
        for client in &mut tunnels {
            client.send("y");
            assert_eq!(client.reading().bytes(1), b"y", "it is still open");
        }
        drop((warm, tunnels));
        gateway.wait_until_quiet();
    }
}
