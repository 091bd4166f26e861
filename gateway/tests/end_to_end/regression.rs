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
            .listener("header_timeout = \"3s\"")
            .rest("[[routes]]\nname = \"own\"\nrespond = { body = \"own\" }\n")
            .start();
        let mut client = Client::connect(gateway.address);
        let mut sender = client.sender();
        let began = Instant::now();
        let dripping = thread::spawn(move || {
            while sender.write_all(b"\r\n").is_ok() && began.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(1500));
            }
        });
        client.reading().rest();
        assert!(began.elapsed() < Duration::from_secs(10), "ended after {:?}", began.elapsed());
        drop(client);
        dripping.join().unwrap();
    }

    fn a_client_that_pauses_is_not_the_upstreams_fault(driver) {
        let upstream = Upstream::answering(|_, _| ok(&"x".repeat(8_000_000)));
        let gateway = Launch::new(driver)
            .rest(&to_upstream(&[upstream.address], "idle_timeout = \"1s\""))
            .start();
        let mut client = Client::connect(gateway.address);
        SockRef::from(client.stream()).set_recv_buffer_size(8192).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        thread::sleep(Duration::from_secs(3));
        assert_eq!(client.response().body.len(), 8_000_000);
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
