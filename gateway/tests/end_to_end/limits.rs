//! Limits by client address: what a refusal says, and that the count is exact over all workers.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, to_upstream};

/// A gateway with the limit `per_client` on everything.
fn limited(driver: Driver, upstream: &Upstream, limit: &str) -> Gateway {
    Launch::new(driver)
        .rest(&format!(
            "[limits.per_client]\nkey = \"client_ip\"\n{limit}\n"
        ))
        .rest(&to_upstream(&[upstream.address], ""))
        .rest("limits = [\"per_client\"]\n")
        .start()
}

/// Bounds of when a request was decided on: sent then, answered then.
struct Refusal {
    sent: Instant,
}

/// Sends requests one after the other until `until` and then until the next refusal; the number let through, the
/// time of the first answer, and the last refusal.
fn hammer(client: &mut Client, until: Instant) -> (u32, Instant, Refusal) {
    let (mut admitted, mut first) = (0, None);
    loop {
        let sent = Instant::now();
        let status = client.get("/").status;
        let answered = Instant::now();
        first.get_or_insert(answered);
        match status {
            200 => admitted += 1,
            429 if sent >= until => return (admitted, first.unwrap(), Refusal { sent }),
            429 => {}
            other => panic!("status {other}"),
        }
    }
}

on_both_drivers! {
    fn a_refusal_says_when_to_come_back_and_never_touches_the_upstream(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = limited(driver, &upstream, "rate = \"1/m\"\nburst = 3");
        let mut client = Client::connect(gateway.address);
        for _ in 0..3 {
            assert_eq!(client.get("/").status, 200);
        }
        for _ in 0..5 {
            let refused = client.get("/limited");
            assert_eq!(refused.problem(429), "limited");
            let json = refused.json();
            assert_eq!(json["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
            assert_eq!(json["title"], "Request cannot be satisfied as assigned quota has been exceeded");
            assert_eq!(json["violated-policies"], serde_json::json!(["per_client"]));
            assert!(json["instance"].as_str().unwrap().starts_with("urn:request:"));
            let wait: u64 = refused.value("retry-after").parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            assert_eq!(refused.value("ratelimit-policy"), "\"per_client\";q=3;w=180");
            assert_eq!(refused.value("ratelimit"), format!("\"per_client\";r=0;t={wait}"));
        }
        assert_eq!((upstream.requests(), upstream.accepted()), (3, 1));
        let record = gateway.record_of("/limited");
        assert_eq!(record["http.response.status_code"], 429);
        assert_eq!(record["ringgate.limit.name"], "per_client");
        assert_eq!(record["ringgate.limit.outcome"], "limited");
        assert_eq!(record["ringgate.end"], "limited");
        let metrics = gateway.metrics();
        let decided = |outcome| metrics.sum("ringgate_ratelimit_decisions_total", &[("outcome", outcome)]);
        assert_eq!((decided("allowed"), decided("limited")), (3.0, 5.0));
    }

    fn who_comes_back_when_told_is_let_in(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = limited(driver, &upstream, "rate = \"1/s\"\nburst = 1");
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/").status, 200);
        let refused = client.get("/");
        assert_eq!((refused.status, refused.value("retry-after")), (429, "1"));
        // The wait is what is tested.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(client.get("/").status, 200);
    }

    fn a_limit_is_exact_over_all_workers(driver) {
        const RATE: f64 = 400.0;
        const BURST: f64 = 400.0;
        let upstream = Upstream::saying("ok");
        let gateway = limited(driver, &upstream, "rate = \"400/s\"\nburst = 400");
        let mut clients = Vec::new();
        eventually("clients on both workers", || {
            clients.push(Client::connect(gateway.address));
            let metrics = gateway.metrics();
            let on = |worker| metrics.sum("ringgate_connections", &[("worker", worker)]) >= 3.0;
            (on("0") && on("1")).then_some(())
        });
        let start = Instant::now();
        let until = start + Duration::from_secs(2);
        let hammers: Vec<_> = clients
            .into_iter()
            .map(|mut client| thread::spawn(move || hammer(&mut client, until)))
            .collect();
        let results: Vec<_> = hammers.into_iter().map(|hammer| hammer.join().unwrap()).collect();
        let end = Instant::now();
        let admitted: u32 = results.iter().map(|(admitted, ..)| admitted).sum();
        assert_eq!(upstream.requests(), admitted as usize, "what was let through reached the upstream");
        let admitted = f64::from(admitted);
        let most = BURST + RATE * (end - start).as_secs_f64() + 1.0;
        assert!(admitted <= most, "{admitted} let through, {most} allowed");
        // At the last refusal the bucket was empty, and had been filled since the first request at the latest from the
        // first answer on.
        let first = results.iter().map(|(_, first, _)| *first).min().unwrap();
        let last = results.iter().map(|(.., refusal)| refusal.sent).max().unwrap();
        let least = BURST + RATE * (last - first).as_secs_f64() - 1.0;
        assert!(admitted >= least, "{admitted} let through, at least {least} expected");
        let metrics = gateway.metrics();
        let limited = metrics.sum("ringgate_ratelimit_decisions_total", &[("outcome", "limited")]);
        assert!(limited > 0.0);
        assert_eq!(metrics.sum("ringgate_ratelimit_decisions_total", &[("outcome", "allowed")]), admitted);
    }

    fn each_client_address_has_a_count_of_its_own(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = limited(driver, &upstream, "rate = \"1/h\"\nburst = 2");
        for last in 1..=9 {
            let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
            let statuses = (0..3).map(|_| {
                let mut client = Client::connect_from(from, gateway.address);
                client.get("/").status
            });
            assert_eq!(statuses.collect::<Vec<_>>(), [200, 200, 429], "{from}");
        }
    }

    fn a_shadow_limit_counts_and_never_refuses(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = limited(driver, &upstream, "rate = \"1/h\"\nburst = 2\nmode = \"shadow\"");
        let mut client = Client::connect(gateway.address);
        for _ in 0..5 {
            assert_eq!(client.get("/").status, 200);
        }
        let metrics = gateway.metrics();
        let decided = |outcome| metrics.sum("ringgate_ratelimit_decisions_total", &[("outcome", outcome)]);
        assert_eq!((decided("allowed"), decided("shadow_limited"), decided("limited")), (2.0, 3.0, 0.0));
    }

    fn a_refused_body_is_not_taken_for_a_request(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = limited(driver, &upstream, "rate = \"1/h\"\nburst = 1");
        let mut client = Client::connect(gateway.address);
        assert_eq!(client.get("/").status, 200);
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()
        ));
        assert_eq!(client.response().status, 429);
        assert_eq!(client.get("/after").status, 429);
        gateway.record_of("/after");
        assert!(gateway.records().iter().all(|record| record["url.path"] != "/smuggled"));
    }

    fn a_client_has_no_more_connections_than_it_may_and_gets_its_places_back(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .listener("max_connections_per_client = 3")
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        let other = SocketAddr::from(([127, 0, 0, 9], 0));
        let mut held: Vec<Client> = (0..3).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut held {
            assert_eq!(client.get("/").status, 200);
        }
        Client::connect(gateway.address).is_closed();
        assert_eq!(Client::connect_from(other, gateway.address).get("/").status, 200);
        let reason = [("reason", "max_connections_per_client")];
        assert!(gateway.metrics().sum("ringgate_rejected_requests_total", &reason) >= 1.0);
        held.pop();
        eventually("the place of one that left", || {
            let mut client = Client::connect(gateway.address);
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            client.try_response(true).filter(|response| response.status == 200)
        });
    }
}
