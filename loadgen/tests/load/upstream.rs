//! The built-in server, spoken to by hand.

use crate::support::{DRIVERS, Upstream, run};

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
