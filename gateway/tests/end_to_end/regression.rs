//! Faults that were found once and must not come back.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::{Client, Launch, Upstream, eventually, get, ok, to_upstream};

on_both_drivers! {
    fn answers_to_pipelined_requests_are_not_hoarded(driver) {
        let body = "x".repeat(100_000);
        let gateway = Launch::new(driver)
            .rest(&format!("[[routes]]\nname = \"big\"\nrespond = {{ body = \"{body}\" }}\n"))
            .start();
        get(gateway.address, "/");
        let before = gateway.resident_bytes();
        let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(100));
        }
        for client in &mut clients {
            assert_eq!(client.response().body.len(), body.len());
        }
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "100 MB of answers asked for, {grown} bytes held");
    }

    fn a_client_that_never_stops_does_not_keep_the_others_waiting(driver) {
        let gateway = Launch::new(driver)
            .one_worker()
            .rest("[[routes]]\nname = \"own\"\nrespond = { body = \"own\" }\n")
            .start();
        let flood = Client::connect(gateway.address);
        let (mut sending, reading) = (flood.sender(), flood.sender());
        let requests = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(500);
        let writer = thread::spawn(move || while sending.write_all(requests.as_bytes()).is_ok() {});
        let reader = thread::spawn(move || std::io::copy(&mut &reading, &mut std::io::sink()));
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(get(gateway.address, "/").text(), "own");
            assert!(asked.elapsed() < Duration::from_secs(3), "waited {:?}", asked.elapsed());
        }
        drop(flood.stream().shutdown(std::net::Shutdown::Both));
        writer.join().unwrap();
        drop(reader.join().unwrap());
    }

    fn a_worker_that_replaced_a_dead_one_hears_of_the_drain(driver) {
        let mut gateway = Launch::new(driver)
            .one_worker()
            .environment("RINGGATE_FAULTS", "1")
            .rest("[[routes]]\nname = \"own\"\nrespond = { body = \"own\" }\n")
            .start();
        let mut client = Client::connect(gateway.address);
        client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Ringgate-Fault: worker\r\n\r\n");
        while client.try_response(true).is_some() {}
        eventually("the worker's successor", || {
            let restarts = gateway.metrics().sum("ringgate_worker_restarts_total", &[]);
            (restarts >= 1.0).then_some(())
        });
        assert_eq!(gateway.get("/").text(), "own");
        let told = Instant::now();
        gateway.signal(libc::SIGTERM);
        eventually("the end", || gateway.exit_code());
        assert!(told.elapsed() < Duration::from_secs(10), "ended after {:?}", told.elapsed());
    }

    fn empty_lines_do_not_hold_a_connection_for_ever(driver) {
        let gateway = Launch::new(driver)
            .listener("header_timeout = \"1s\"")
            .rest("[[routes]]\nname = \"own\"\nrespond = { body = \"own\" }\n")
            .start();
        let began = Instant::now();
        Client::connect(gateway.address).drip(b"\r\n");
        assert!(began.elapsed() < Duration::from_secs(10), "ended after {:?}", began.elapsed());
    }

    fn a_client_that_pauses_is_not_the_upstreams_fault(driver) {
        let upstream = Upstream::start(|mut exchange| {
            while let Some((request, _)) = exchange.request() {
                if request.target() == "/stalls" {
                    exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                    return exchange.wait_closed();
                }
                exchange.send(ok(&"x".repeat(8_000_000)));
            }
        });
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "idle_timeout = \"1s\""))
            .start();
        let mut client = Client::connect(gateway.address);
        SockRef::from(client.stream()).set_recv_buffer_size(8192).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.head().unwrap().status, 200);
        // By when an upstream's own pauses, begun later than the client's, have twice been held against it.
        for _ in 0..2 {
            let mut witness = Client::connect(gateway.address);
            witness.send("GET /stalls HTTP/1.1\r\nHost: test\r\n\r\n");
            assert!(witness.try_response(true).is_none(), "half a body was taken for all of it");
        }
        assert_eq!(client.reading().bytes(8_000_000).len(), 8_000_000);
    }

    fn who_asks_on_while_the_last_answer_goes_out_gets_all_of_it(driver) {
        const SIZE: usize = 1_000_000;
        // Without a length: to a client of HTTP/1.0 its end is the connection's.
        let upstream = Upstream::answering(|_, _| {
            let body = "x".repeat(SIZE);
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SIZE:x}\r\n{body}\r\n0\r\n\r\n")
        });
        let gateway = Launch::new(driver).rest(&to_upstream(&[upstream.address], "")).start();
        let request = "GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n";
        for _ in 0..4 {
            let mut client = Client::connect(gateway.address);
            SockRef::from(client.stream()).set_recv_buffer_size(4096).unwrap();
            client.send(request);
            assert_eq!(client.head().unwrap().status, 200);
            client.send(request);
            assert_eq!(client.reading().bytes(SIZE).len(), SIZE);
        }
    }

    fn who_ends_its_side_and_reads_nothing_has_left_where_that_counts(driver) {
        let (tell, told) = std::sync::mpsc::channel();
        let upstream = Upstream::start(move |mut exchange| {
            if exchange.request().is_some() {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
                while exchange.send([b'x'; 100_000]) {}
                let _whoever_waits = tell.send(());
            }
        });
        let gateway = Launch::new(driver)
            .listener("abort_on_client_fin = true\nwrite_timeout = \"10m\"\nmin_write_rate = \"off\"")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let mut client = Client::connect(gateway.address);
        SockRef::from(client.stream()).set_recv_buffer_size(4096).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.head().unwrap().status, 200);
        client.stream().shutdown(std::net::Shutdown::Write).unwrap();
        told.recv_timeout(crate::support::LONG).expect("the upstream's connection ends");
    }

    fn a_connection_with_part_of_a_request_unsent_is_not_used_again(driver) {
        let (go_on, waiting) = std::sync::mpsc::channel::<()>();
        let waiting = std::sync::Mutex::new(waiting);
        let spoiled = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let found = std::sync::Arc::clone(&spoiled);
        // Answers before it reads the body, which it does only when the next request has been sent.
        let upstream = Upstream::with_small_buffers(move |mut exchange| {
            while let Some(request) = exchange.head() {
                exchange.send(ok("early"));
                let [length] = request.values("content-length")[..] else { continue };
                waiting.lock().unwrap().recv_timeout(crate::support::LONG).unwrap();
                let body = exchange.reading.bytes(length.parse().unwrap());
                if body.iter().any(|&byte| byte != b'b') {
                    found.lock().unwrap().push(length.to_owned());
                }
            }
        });
        let gateway = Launch::new(driver)
            .one_worker()
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        // How much the kernel takes on the way is its own affair: the sizes go past it in steps that are shorter than
        // what the gateway holds itself.
        for size in (1..=40).map(|step| step * 16 * 1024) {
            let mut client = Client::connect(gateway.address);
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"));
            let mut sender = client.sender();
            let sending = thread::spawn(move || drop(sender.write_all(&vec![b'b'; size])));
            assert_eq!(client.response().text(), "early");
            let mut other = Client::connect(gateway.address);
            other.send("GET /after HTTP/1.1\r\nHost: test\r\n\r\n");
            go_on.send(()).unwrap();
            assert_eq!(other.response().text(), "early");
            drop(client);
            sending.join().unwrap();
        }
        let spoiled = spoiled.lock().unwrap();
        assert!(spoiled.is_empty(), "another's request inside of bodies of {spoiled:?} bytes");
    }

    fn half_a_chunk_line_that_nobody_wants_does_not_hold_the_worker(driver) {
        const BODY: &str = "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
        let gateway = Launch::new(driver)
            .one_worker()
            .rest("[[routes]]\nname = \"own\"\nrespond = { body = \"own\" }\n")
            .start();
        let mut other = Client::connect(gateway.address);
        for split in 0..BODY.len() {
            let (first, rest) = BODY.split_at(split);
            let mut client = Client::connect(gateway.address);
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{first}"));
            assert_eq!(client.response().text(), "own");
            assert_eq!(other.get("/").text(), "own", "after {first:?}");
            client.send(rest);
            assert_eq!(client.get("/").text(), "own", "after {first:?} and the rest");
        }
    }

    fn idle_connections_of_one_worker_do_not_shut_the_others_out(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "max_connections = 2"))
            .start();
        for _ in 0..20 {
            assert_eq!(get(gateway.address, "/").status, 200);
        }
    }
}
