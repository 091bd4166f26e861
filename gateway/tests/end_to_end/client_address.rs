//! Who the client is: the peer, or who trusted proxies say, by header or by PROXY protocol; and what upstreams are told.

use std::sync::mpsc;

use crate::support::{
    Client, Driver, Gateway, LONG, Launch, Request, Upstream, ok, send, to_upstream,
};

/// A gateway that trusts 127.0.0.1, 10.0.0.0/8 and fd00::/8, with more lines of `[client_ip]` and a listener.
fn behind_proxies(driver: Driver, upstream: &Upstream, client_ip: &str, listener: &str) -> Gateway {
    Launch::new(driver)
        .listener(listener)
        .rest(&format!(
            "[client_ip]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\", \"fd00::/8\"]\n{client_ip}\n"
        ))
        .rest(&to_upstream(&[upstream.address], ""))
        .start()
}

fn recording() -> (Upstream, mpsc::Receiver<Request>) {
    let (requests, received) = mpsc::channel();
    let upstream = Upstream::answering(move |request, _| {
        drop(requests.send(request.clone()));
        ok("ok")
    });
    (upstream, received)
}

/// A header of version 2 that names this IPv4 source, with something more behind the addresses.
fn version_2(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
    bytes.extend(source);
    bytes.extend([127, 0, 0, 1]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 80, 0x04, 0, 1, 7]);
    bytes
}

on_both_drivers! {
    fn from_a_stranger_nothing_about_the_client_is_believed(driver) {
        let (upstream, received) = recording();
        let gateway = Launch::new(driver)
            .rest("[client_ip]\ntrusted_proxies = [\"10.0.0.0/8\"]\nheader = \"forwarded\"\n")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        send(
            gateway.address,
            "GET /x HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n\
             X-Real-IP: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\r\n",
        );
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.values("forwarded"), ["for=127.0.0.1"]);
        assert_eq!(request.values("x-real-ip"), [""; 0]);
        assert_eq!(request.values("x-forwarded-proto"), ["http"]);
        assert_eq!(request.values("x-forwarded-host"), ["test"]);
        assert_eq!(gateway.record_of("/x")["client.address"], "127.0.0.1");
    }

    fn trusted_proxies_name_the_client_from_the_right(driver) {
        let (upstream, received) = recording();
        let gateway = behind_proxies(driver, &upstream, "", "");
        for (path, lines, client, chain) in [
            ("/none", "", "127.0.0.1", "127.0.0.1"),
            ("/one", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1", "192.0.2.1, 127.0.0.1"),
            // What the client itself has sent is dropped, not passed on.
            ("/spoofed", "X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\n", "192.0.2.1", "192.0.2.1, 127.0.0.1"),
            ("/two", "X-Forwarded-For: 1.1.1.1, 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2\r\n", "192.0.2.1", "192.0.2.1, 10.0.0.2, 127.0.0.1"),
            ("/broken", "X-Forwarded-For: 192.0.2.1, evil, 10.0.0.2\r\n", "10.0.0.2", "10.0.0.2, 127.0.0.1"),
            ("/v6", "X-Forwarded-For: \"x\", [2001:db8::1]:80, fd00::1\r\n", "2001:db8::1", "2001:db8::1, fd00::1, 127.0.0.1"),
            ("/other", "Forwarded: for=192.0.2.9\r\nX-Real-IP: 192.0.2.9\r\n", "127.0.0.1", "127.0.0.1"),
        ] {
            send(
                gateway.address,
                &format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-Forwarded-Proto: https\r\n{lines}\r\n"),
            );
            let request = received.recv_timeout(LONG).unwrap();
            assert_eq!(request.values("x-forwarded-for"), [chain], "{path}");
            assert_eq!(request.values("forwarded"), [""; 0], "{path}");
            assert_eq!(request.values("x-real-ip"), [""; 0], "{path}");
            assert_eq!(request.values("x-forwarded-proto"), ["https"]);
            let record = gateway.record_of(path);
            assert_eq!(record["client.address"], client, "{path}");
            assert_eq!(record["network.peer.address"], "127.0.0.1");
        }
    }

    fn forwarded_names_the_client_and_is_sent_on(driver) {
        let (upstream, received) = recording();
        let gateway = behind_proxies(driver, &upstream, "header = \"forwarded\"", "");
        send(
            gateway.address,
            "GET /x HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.9\r\n\
             Forwarded: for=1.1.1.1, for=\"[2001:db8::7]:4711\";proto=https, for=10.0.0.2\r\n\r\n",
        );
        let request = received.recv_timeout(LONG).unwrap();
        assert_eq!(request.values("forwarded"), ["for=\"[2001:db8::7]\", for=10.0.0.2, for=127.0.0.1"]);
        assert_eq!(request.values("x-forwarded-for"), ["2001:db8::7, 10.0.0.2, 127.0.0.1"]);
        assert_eq!(gateway.record_of("/x")["client.address"], "2001:db8::7");
    }

    fn limits_and_routes_go_by_the_client_that_is_believed(driver) {
        let gateway = Launch::new(driver)
            .rest("[client_ip]\ntrusted_proxies = [\"127.0.0.1\"]\n[limits.one]\nrate = \"1/h\"\n")
            .rest("[[routes]]\nname = \"in\"\npath = \"/in\"\nclient_networks = [\"192.0.2.0/24\"]\nrespond = {}\n")
            .rest("[[routes]]\nname = \"one\"\npath = \"/one\"\nlimits = [\"one\"]\nrespond = {}\n")
            .start();
        let mut client = Client::connect(gateway.address);
        let mut ask = |path: &str, from: &str| {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {from}\r\n\r\n"));
            client.response().status
        };
        assert_eq!((ask("/in", "192.0.2.7"), ask("/in", "198.51.100.7")), (200, 404));
        assert_eq!((ask("/one", "192.0.2.7"), ask("/one", "192.0.2.8")), (200, 200));
        assert_eq!((ask("/one", "192.0.2.7"), ask("/one", "9.9.9.9, 192.0.2.7")), (429, 429));
        // A client of IPv6 is its network.
        assert_eq!((ask("/one", "2001:db8::1"), ask("/one", "2001:db8::2")), (200, 429));
    }

    fn the_proxy_protocol_names_the_client(driver) {
        let (upstream, received) = recording();
        let gateway = behind_proxies(driver, &upstream, "", "proxy_protocol = \"any\"");
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
        for (path, header, chain) in [
            ("/v1", b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 80\r\n".to_vec(), "192.0.2.1"),
            ("/v2", version_2([192, 0, 2, 2], 4000), "192.0.2.2"),
            // A proxy behind the proxy is asked by its header.
            ("/chained", version_2([10, 0, 0, 9], 4000), "1.1.1.1, 10.0.0.9"),
            // Nobody has vouched for what the request says of itself.
            ("/unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
            ("/local", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "127.0.0.1"),
        ] {
            let mut client = Client::connect(gateway.address);
            // In two pieces, and the request in the same piece as the end of the header.
            client.send(&header[..9]);
            client.send([&header[9..], get(path).as_bytes()].concat());
            assert_eq!(client.response().status, 200, "{path}");
            let request = received.recv_timeout(LONG).unwrap();
            assert_eq!(request.values("x-forwarded-for"), [chain], "{path}");
            // It holds for the connection, not for a request.
            assert_eq!(client.get("/again").status, 200);
            drop(received.recv_timeout(LONG).unwrap());
            let first = chain.split(',').next().unwrap();
            assert_eq!(gateway.record_of(path)["client.address"], first);
        }
    }

    fn a_connection_without_its_proxy_header_is_closed(driver) {
        let (upstream, _received) = recording();
        let gateway = behind_proxies(driver, &upstream, "", "proxy_protocol = \"v2\"\nheader_timeout = \"300ms\"");
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 80\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c............",
            // Too slow.
            b"\r\n\r\n\0\r\nQUIT\n\x21",
        ] {
            let mut client = Client::connect(gateway.address);
            client.send(bytes);
            client.is_closed();
        }
        gateway.wait_until_quiet();
        let refused = gateway.metric("ringgate_rejected_requests_total", &[("reason", "proxy_protocol")]);
        assert_eq!(refused, 4.0);
        assert_eq!(upstream.requests(), 0);
    }

    fn a_proxy_header_from_a_stranger_is_not_read(driver) {
        let (upstream, _received) = recording();
        let gateway = Launch::new(driver)
            .listener("proxy_protocol = \"any\"")
            .rest("[client_ip]\ntrusted_proxies = [\"10.0.0.0/8\"]\n")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let mut client = Client::connect(gateway.address);
        // It may be closed before this is sent.
        drop(std::io::Write::write_all(&mut client.sender(), b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n"));
        client.is_closed();
        assert_eq!(upstream.requests(), 0);
    }

    fn proxy_bytes_on_a_listener_without_it_are_a_bad_request(driver) {
        let gateway = Launch::new(driver).start();
        let mut client = Client::connect(gateway.address);
        client.send("PROXY TCP4 192.0.2.1 127.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.response().status, 400);
        client.is_closed();
    }

    fn an_upstream_is_told_by_the_proxy_protocol_and_no_connection_serves_two_clients(driver) {
        for (version, is_text) in [("v1", true), ("v2", false)] {
            let (starts, received) = mpsc::channel();
            let upstream = Upstream::start(move |mut exchange| {
                let start = if is_text {
                    let mut line = Vec::new();
                    while !line.ends_with(b"\r\n") {
                        let byte = exchange.reading.bytes(1);
                        if byte.is_empty() {
                            return;
                        }
                        line.extend(byte);
                    }
                    line
                } else {
                    exchange.reading.bytes(28)
                };
                drop(starts.send(start));
                while exchange.request().is_some() {
                    exchange.send(ok("ok"));
                }
            });
            let gateway = Launch::new(driver)
                .one_worker()
                .rest("[client_ip]\ntrusted_proxies = [\"127.0.0.1\"]\n")
                .rest(&to_upstream(&[upstream.address], &format!("proxy_protocol = \"{version}\"")))
                .start();
            let port = gateway.address.port();
            let mut client = Client::connect(gateway.address);
            for from in [None, Some([192, 0, 2, 1])] {
                let own = client.stream().local_addr().unwrap().port();
                let line = from.map_or_else(String::new, |from| {
                    format!("X-Forwarded-For: {}\r\n", std::net::Ipv4Addr::from(from))
                });
                client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{line}\r\n"));
                assert_eq!(client.response().status, 200);
                let start = received.recv_timeout(LONG).unwrap();
                let (source, source_port) = from.map_or(([127, 0, 0, 1], own), |from| (from, 0));
                if is_text {
                    let source = std::net::Ipv4Addr::from(source);
                    let start = String::from_utf8(start).unwrap();
                    assert_eq!(start, format!("PROXY TCP4 {source} 127.0.0.1 {source_port} {port}\r\n"));
                } else {
                    assert_eq!(start[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
                    assert_eq!(start[16..20], source);
                    assert_eq!(start[24..28], [source_port.to_be_bytes(), port.to_be_bytes()].concat());
                }
            }
            assert_eq!(upstream.accepted(), 2);
        }
    }
}
