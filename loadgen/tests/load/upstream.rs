//! The built-in server, spoken to by hand.

#![expect(
    clippy::disallowed_types,
    reason = "the clients here are blocking sockets on purpose"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;

use crate::support::{DRIVERS, Upstream, load, run};

#[test]
fn pipelined_requests_are_answered_in_order() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let answers = upstream.talk(
            "GET /status/404 HTTP/1.1\r\n\r\nPOST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
             GET /bytes/3 HTTP/1.1\r\n\r\nHEAD /bytes/3 HTTP/1.1\r\n\r\nGET /chunked/3 HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        let expected = [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Body-Bytes: 3\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxxxHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\
             HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nxxx\r\n0\r\n\r\n",
        ];
        assert!(
            answers.starts_with(expected[0]) && answers.ends_with(expected[1]),
            "{answers}"
        );
    }
}

#[test]
fn a_chunked_body_and_an_expectation_are_understood() {
    let upstream = Upstream::start("auto");
    let answers = upstream.talk(
"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert!(
        answers.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Body-Bytes: 5\r\n"),
        "{answers}"
    );
}

#[test]
fn what_is_no_http_gets_400_and_a_close() {
    let upstream = Upstream::start("auto");
    assert!(
        upstream
            .talk("nonsense\r\n\r\n")
            .starts_with("HTTP/1.1 400 Bad Request\r\n")
    );
}

#[test]
fn faults_show_as_the_errors_they_are() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        for (path, kind) in [
            ("/reset", "reset"),
            ("/short/1000", "closed"),
            ("/garbage", "bad_response"),
        ] {
            let run = run(&[
                "--driver",
                driver,
                "-n",
                "20",
                "-c",
                "2",
                &upstream.url(path),
            ]);
            assert_eq!(run.code, 1);
            assert_eq!(run.errors(kind), 20, "{path}: {:#}", run.report);
        }
    }
}

#[test]
fn a_stall_holds_every_connection() {
    let upstream = Upstream::start("auto");
    // The stall of the first request is over before a second one can be answered, whoever sends it.
    let run = run(&["-n", "8", "-c", "4", "-t", "1", &upstream.url("/stall/50")]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    assert!(
        run.number("/latency_from_send/min_us") >= 49_000.0,
        "{:#}",
        run.report
    );
}

#[test]
fn several_addresses_are_served_at_once_and_a_unix_socket_goes_with_its_server() {
    for driver in DRIVERS {
        let file = std::env::temp_dir().join(format!(
            "ringgate-load-{}-{driver}.sock",
            std::process::id()
        ));
        let unix = format!("unix:{}", file.display());
        // What an earlier server left behind is in nobody's way.
        drop(UnixListener::bind(&file).unwrap());
        let arguments = ["--threads", "2", "--driver", driver, "--listen", &unix];
        let listens = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
        let upstream = Upstream::start_with(&[&arguments[..], &listens[..]].concat(), 3);
        assert_eq!(upstream.addresses[0], unix);
        for address in &upstream.addresses {
            let url = match address.strip_prefix("unix:") {
                Some(path) => format!("unix:{path}:/bytes/9"),
                None => format!("http://{address}/bytes/9"),
            };
            let run = run(&["--driver", driver, "-n", "50", "-c", "5", &url]);
            assert_eq!(run.code, 0, "{address}: {:#}", run.report);
            assert_eq!(run.number("/requests/succeeded"), 50.0, "{address}");
        }
        let taken = load()
            .args(["upstream", "--listen", &unix])
            .output()
            .unwrap();
        let complaint = String::from_utf8(taken.stderr).unwrap();
        assert!(
            complaint.contains("cannot listen on unix:"),
            "a server that lives keeps its socket: {complaint}"
        );
        assert!(file.exists());
        assert_eq!(upstream.terminate(), 0);
        assert!(!file.exists(), "its file is gone with it");
    }
}

#[test]
fn a_long_request_body_is_read_to_its_end_and_forgotten() {
    const PIECES: usize = 512;
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let mut stream = TcpStream::connect(&upstream.address).unwrap();
        let piece = [b'x'; 64 * 1024];
        let length = PIECES * piece.len();
        for _ in 0..2 {
            let head = format!("POST /p HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            for _ in 0..PIECES {
                stream.write_all(&piece).unwrap();
            }
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let field = format!("X-Body-Bytes: {length}\r\n");
        assert_eq!(answers.matches(&field).count(), 2, "{answers}");
        assert!(
            upstream.resident_bytes() < 32 << 20,
            "64 MiB went through it: {}",
            upstream.resident_bytes()
        );
    }
}

#[test]
fn a_thousand_connections_are_held_at_once() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let mut clients: Vec<_> = (0..1000)
            .map(|_| TcpStream::connect(&upstream.address).unwrap())
            .collect();
        for round in 0..2 {
            for client in &mut clients {
                client
                    .write_all(b"GET /status/204 HTTP/1.1\r\n\r\n")
                    .unwrap();
            }
            for client in &mut clients {
                let mut answer = [0; 27];
                client.read_exact(&mut answer).unwrap();
                assert_eq!(
                    &answer, b"HTTP/1.1 204 No Content\r\n\r\n",
                    "{driver}, {round}"
                );
            }
        }
    }
}

#[test]
fn a_client_of_http_1_0_is_told_whether_the_connection_stays() {
    let upstream = Upstream::start("auto");
    let answers = upstream.talk(
        "GET /bytes/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /bytes/2 HTTP/1.0\r\n\r\n",
    );
    assert_eq!(
        answers,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxx"
    );
}
