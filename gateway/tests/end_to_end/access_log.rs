//! The access log of a running gateway: one line per request, and never at a request's cost.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Client, Driver, Folder, Gateway, Launch, Upstream, eventually, to_upstream};

fn logging_to(driver: Driver, upstream: &Upstream, path: &Path) -> Gateway {
    Launch::new(driver)
        .access_log(&format!("path = \"{}\"\n", path.display()))
        .rest(&to_upstream(&[upstream.address], ""))
        .start()
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be under way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn paths(path: &Path) -> Vec<String> {
    records(path)
        .iter()
        .map(|record| record["url.path"].as_str().unwrap().to_owned())
        .collect()
}

on_both_drivers! {
    fn the_body_of_an_answer_of_our_own_is_counted(driver) {
        let own = "[[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { body = \"own\" }\n";
        let gateway = Launch::new(driver).rest(own).start();
        for (method, path) in [("GET", "/own"), ("GET", "/nowhere"), ("HEAD", "/own2")] {
            let mut client = Client::connect(gateway.address);
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let sent = match method {
                "HEAD" => client.response_to_head().text().len(),
                _ => client.response().text().len(),
            };
            assert_eq!(sent == 0, method == "HEAD", "{path}");
            assert_eq!(gateway.record_of(path)["http.response.body.size"], sent, "{path}");
        }
    }

    fn a_request_is_one_json_line_with_what_happened(driver) {
        let upstream = Upstream::answering(|_, body| crate::support::ok(&"x".repeat(body.len() + 1)));
        let gateway = Launch::new(driver).rest(&to_upstream(&[upstream.address], "")).start();
        let mut client = Client::connect(gateway.address);
        client.send(
            "PUT /a%20b?c=d HTTP/1.1\r\nHost: shop.example:81\r\nUser-Agent: a \"quoted\" one\r\n\
             Referer: http://x/\r\nContent-Length: 5\r\n\r\nhello",
        );
        client.response();
        let record = gateway.record_of("/a%20b");
        let port = client.stream().local_addr().unwrap().port();
        for (field, expected) in [
            ("http.request.method", Value::from("PUT")),
            ("url.scheme", "http".into()),
            ("url.query", "c=d".into()),
            ("http.route", "all".into()),
            ("http.response.status_code", 200.into()),
            ("http.request.body.size", 5.into()),
            ("http.response.body.size", 6.into()),
            ("network.protocol.version", "1.1".into()),
            ("client.address", "127.0.0.1".into()),
            ("network.peer.address", "127.0.0.1".into()),
            ("network.peer.port", port.into()),
            ("server.address", "shop.example".into()),
            ("server.port", 81.into()),
            ("user_agent.original", "a \"quoted\" one".into()),
            ("http.request.header.referer", "http://x/".into()),
            ("ringgate.listener", "web".into()),
            ("ringgate.upstream", "up".into()),
            ("ringgate.upstream.address", upstream.address.to_string().into()),
            ("ringgate.end", "ok".into()),
        ] {
            assert_eq!(record[field], expected, "{field}");
        }
        assert!(record["ringgate.duration_us"].as_u64().unwrap() > 0);
        assert!(record["ringgate.worker"].as_u64().unwrap() < 2);
        assert!(record["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    fn a_combined_line_of_what_is_no_request_has_dashes_and_nothing_of_the_client(driver) {
        let folder = Folder::new();
        let path = folder.path().join("access");
        let gateway = Launch::new(driver)
            .access_log(&format!("path = \"{}\"\nformat = \"combined\"\n", path.display()))
            .rest("[[routes]]\nname = \"own\"\nrespond = {}\n")
            .start();
        let hostile: [&[u8]; 6] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET /\x1b[31mred HTTP/1.1\r\nHost: t\r\n\r\n",
            b"GET /?key=secret HTTP/1.1\r\nHost: t\r\nUser-Agent: \x1b]0;owned\x07\r\n\r\n",
            b"GET /?key=secret\"quote HTTP/1.1\r\nBad name: x\r\n\r\n",
            b"G\"T / HTTP/1.1\r\nHost: t\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ];
        for bytes in hostile {
            let mut client = Client::connect(gateway.address);
            client.send(bytes);
            assert_eq!(client.response().status, 400, "{}", bytes.escape_ascii());
        }
        assert_eq!(gateway.get("/fine").status, 200);
        let text = eventually("all lines", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            (text.matches('\n').count() == hostile.len() + 1).then_some(text)
        });
        // Each worker hands its lines over by itself.
        let (fine, others): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.contains("/fine"));
        for line in others {
            let (before, after) = line.split_once("] ").unwrap();
            assert!(before.starts_with("127.0.0.1 - - ["), "{line}");
            assert!(after.starts_with("\"-\" 400 ") && after.ends_with(" \"-\" \"-\""), "{line}");
        }
        let of_fine = "] \"GET /fine HTTP/1.1\" 200 0 \"-\" ";
        assert!(fine.len() == 1 && fine[0].contains(of_fine), "{fine:?}");
        assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    fn every_request_has_a_line_in_the_file_and_none_has_two(driver) {
        let upstream = Upstream::saying("ok");
        let folder = Folder::new();
        let path = folder.path().join("access.log");
        let mut gateway = logging_to(driver, &upstream, &path);
        let address = gateway.address;
        let clients: Vec<_> = (0..4)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut client = Client::connect(address);
                    for turn in 0..250 {
                        client.get(&format!("/{number}/{turn}"));
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        gateway.signal(libc::SIGTERM);
        assert_eq!(gateway.exit_code(), Some(0));
        let mut seen = paths(&path);
        assert_eq!(seen.len(), 1000);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }

    fn usr1_reopens_a_file_that_was_renamed_and_no_record_is_lost(driver) {
        let upstream = Upstream::saying("ok");
        let folder = Folder::new();
        let (path, renamed) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let gateway = logging_to(driver, &upstream, &path);
        let mut client = Client::connect(gateway.address);
        client.get("/before");
        eventually("the first record", || (paths(&path) == ["/before"]).then_some(()));
        fs::rename(&path, &renamed).unwrap();
        client.get("/between");
        eventually("a record in the renamed file", || (paths(&renamed) == ["/before", "/between"]).then_some(()));
        gateway.signal(libc::SIGUSR1);
        eventually("the new file", || path.exists().then_some(()));
        client.get("/after");
        eventually("a record in the new file", || (paths(&path) == ["/after"]).then_some(()));
        assert_eq!(paths(&renamed), ["/before", "/between"]);
        assert_eq!(gateway.metric("ringgate_access_log_dropped_total", &[]), 0.0);
    }

    fn a_full_disk_costs_records_that_are_counted_and_no_request(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = logging_to(driver, &upstream, Path::new("/dev/full"));
        let mut client = Client::connect(gateway.address);
        for _ in 0..300 {
            assert_eq!(client.get("/").text(), "ok");
        }
        eventually("the drops counted", || {
            let dropped = gateway.metric("ringgate_access_log_dropped_total", &[("reason", "sink")]);
            (dropped == 300.0).then_some(())
        });
        // Said once, not once per record.
        let lines = gateway.said().iter().filter(|line| line.contains("access log")).count();
        assert_eq!(lines, 1, "{:?}", gateway.said());
        assert_eq!(client.get("/").text(), "ok");
    }

    fn a_log_that_nobody_reads_costs_records_and_no_request(driver) {
        let upstream = Upstream::saying("ok");
        let folder = Folder::new();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Keeps the pipe open, and never reads from it.
        let _reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let gateway = logging_to(driver, &upstream, &path);
        let mut client = Client::connect(gateway.address);
        // Long enough to fill the pipe and the workers' rings.
        let target = format!("/{}", "x".repeat(7_000));
        let mut turns = 0;
        eventually("drops", || {
            for _ in 0..100 {
                assert_eq!(client.get(&target).text(), "ok");
            }
            turns += 1;
            let dropped = gateway.metric("ringgate_access_log_dropped_total", &[("reason", "ring_full")]);
            (dropped > 0.0).then_some(())
        });
        assert!(turns < 1000);
    }
}
