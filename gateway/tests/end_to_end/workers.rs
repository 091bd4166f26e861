//! What a panic costs: of a connection, that connection; of a worker, its connections and nothing more.

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, to_upstream};

const OWN: &str = "[[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { body = \"own\" }\n";

/// A gateway whose requests to `/own` may ask for faults.
fn faulty(driver: Driver, upstream: &Upstream) -> Gateway {
    let gateway = Launch::new(driver)
        .environment("RINGGATE_FAULTS", "1")
        .rest(&to_upstream(&[upstream.address], "keepalive_max = 0"))
        .rest(OWN)
        .start();
    assert!(
        gateway
            .said()
            .iter()
            .any(|line| line.contains("ANY CLIENT CAN MAKE THIS GATEWAY PANIC"))
    );
    gateway
}

/// Asks for a fault and sees its connection end without an answer.
fn ask_for(gateway: &Gateway, fault: &str) {
    let mut client = Client::connect(gateway.address);
    client.send(format!(
        "GET /own HTTP/1.1\r\nHost: test\r\nX-Ringgate-Fault: {fault}\r\n\r\n"
    ));
    // A worker may get the answer out before it dies.
    while client.try_response(true).is_some() {}
}

/// Clients on every worker.
fn clients_on_both_workers(gateway: &Gateway) -> Vec<Client> {
    let mut clients = Vec::new();
    eventually("a client on each worker", || {
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/own").text(), "own");
        clients.push(client);
        let metrics = gateway.metrics();
        let on = |worker| metrics.sum("ringgate_connections", &[("worker", worker)]);
        (on("0") >= 2.0 && on("1") >= 2.0).then_some(())
    });
    clients
}

on_both_drivers! {
    fn faults_are_not_to_be_had_unless_asked_for_at_the_start(driver) {
        let gateway = Launch::new(driver).rest(OWN).start();
        let mut client = Client::connect(gateway.address);
        for fault in ["connection", "worker"] {
            client.send(format!("GET /own HTTP/1.1\r\nHost: test\r\nX-Ringgate-Fault: {fault}\r\n\r\n"));
            assert_eq!(client.response().text(), "own");
        }
        assert_eq!(client.get("/own").text(), "own");
    }

    fn a_panic_in_a_connection_ends_that_connection_only(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = faulty(driver, &upstream);
        let mut others = clients_on_both_workers(&gateway);
        let files = gateway.open_files();
        for _ in 0..20 {
            ask_for(&gateway, "connection");
        }
        for client in &mut others {
            assert_eq!(client.get("/").text(), "ok");
        }
        eventually("the descriptors back", || (gateway.open_files() <= files).then_some(()));
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("ringgate_connection_panics_total", &[]), 20.0);
        assert_eq!(metrics.sum("ringgate_worker_restarts_total", &[]), 0.0);
        eventually("their places back", || {
            let metrics = gateway.metrics();
            let open = metrics.sum("ringgate_connections", &[]);
            let active = metrics.sum("http_server_active_requests", &[]);
            (open == f64::from(u32::try_from(others.len()).unwrap()) && active == 0.0).then_some(())
        });
    }

    fn a_dead_worker_is_replaced_and_its_clients_see_a_close(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = faulty(driver, &upstream);
        let quiet = {
            gateway.wait_until_quiet();
            gateway.open_files()
        };
        for death in 1..=3_u32 {
            let clients = clients_on_both_workers(&gateway);
            let open = clients.len();
            let start = std::time::Instant::now();
            ask_for(&gateway, "worker");
            // Every client either is closed or is still served, by a worker that lives.
            let mut closed = 0;
            for mut client in clients {
                client.send("GET /own HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
                if client.try_response(true).is_none() {
                    closed += 1;
                }
            }
            let took = start.elapsed();
            assert!(closed >= 2 && closed < open, "{closed} of {open} closed");
            assert!(took.as_secs() < 5, "clients of a dead worker waited {took:?}");
            // On the same socket: nobody falls into a hole.
            for _ in 0..20 {
                assert_eq!(gateway.get("/own").text(), "own");
            }
            eventually("both workers at work", || {
                let metrics = gateway.metrics();
                let restarts = metrics.sum("ringgate_worker_restarts_total", &[]);
                (restarts == f64::from(death)).then_some(())
            });
            drop(clients_on_both_workers(&gateway));
        }
        gateway.wait_until_quiet();
        eventually("the descriptors back", || (gateway.open_files() <= quiet).then_some(()));
        assert!(gateway.said().iter().any(|line| line.contains("a worker died and is replaced")));
    }

    fn clients_of_a_dead_worker_see_the_close_within_a_second(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = faulty(driver, &upstream);
        // The best of a few: a busy machine may hold up one of them, not all.
        let quickest = (1..=3_u32).map(|death| {
            let clients = clients_on_both_workers(&gateway);
            let handles: Vec<_> = clients.iter().map(Client::sender).collect();
            let start = std::time::Instant::now();
            ask_for(&gateway, "worker");
            let (ended, ends) = std::sync::mpsc::channel();
            for mut client in clients {
                let ended = ended.clone();
                std::thread::spawn(move || {
                    client.reading().rest();
                    ended.send(start.elapsed()).unwrap_or_default();
                });
            }
            // Two of them at least were on the worker that died.
            let took = (0..2).map(|_| ends.recv_timeout(crate::support::LONG).unwrap()).max().unwrap();
            for handle in handles {
                drop(handle.shutdown(std::net::Shutdown::Both));
            }
            eventually("the new worker", || {
                let restarts = gateway.metric("ringgate_worker_restarts_total", &[]);
                (restarts == f64::from(death)).then_some(())
            });
            gateway.wait_until_quiet();
            took
        });
        let quickest = quickest.min().unwrap();
        assert!(quickest.as_millis() < 1000, "{quickest:?}");
    }

    fn places_of_a_dead_worker_return(driver) {
        let upstream = Upstream::start(|mut exchange| exchange.wait_closed());
        let gateway = Launch::new(driver)
            .environment("RINGGATE_FAULTS", "1")
            .one_worker()
            .listener("max_connections = 4")
            .rest(&to_upstream(&[upstream.address], "max_connections = 2"))
            .rest(OWN)
            .start();
        // Two exchanges take the upstream's places, two idle clients and the fault's the listener's.
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut clients[..2] {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("both places taken", || {
            let used = gateway.metric("ringgate_upstream_connections", &[("state", "active")]);
            (used == 2.0).then_some(())
        });
        assert_eq!(clients[2].get("/").problem(503), "upstream_full");
        ask_for(&gateway, "worker");
        for client in &mut clients {
            client.reading().rest();
        }
        let mut after: Vec<Client> = Vec::new();
        eventually("all four places of the listener", || {
            after = (0..4).filter_map(|_| Client::try_connect(gateway.address).ok()).collect();
            let served = after.iter_mut().filter_map(|client| {
                drop(std::io::Write::write_all(&mut client.stream(), b"GET /own HTTP/1.1\r\nHost: test\r\n\r\n"));
                client.try_response(true)
            });
            (served.count() == 4).then_some(())
        });
        let places = gateway.metric("ringgate_upstream_connections", &[]);
        assert_eq!(places, 0.0, "connections to the upstream");
        for client in &mut after[..2] {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("both places of the upstream taken again", || {
            let used = gateway.metric("ringgate_upstream_connections", &[("state", "active")]);
            (used == 2.0).then_some(())
        });
    }
}
