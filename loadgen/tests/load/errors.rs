//! Every kind of error is counted as what it is, and none is dropped.

use crate::support::{self, DRIVERS, Run, Stream, Upstream, always, read_head, run, scripted};

/// Ten requests one after another on each driver, against a server that does `script`.
fn ten(script: impl Fn(u64, &mut dyn Stream) + Send + Sync + Clone + 'static) -> Vec<Run> {
    DRIVERS
        .map(|driver| {
            let url = format!("http://{}/", scripted(script.clone()));
            let run = run(&[
                "--driver",
                driver,
                "-c",
                "1",
                "-n",
                "10",
                "--timeout",
                "2s",
                &url,
            ]);
            assert_eq!(run.code, 1, "{:#}", run.report);
            assert_eq!(run.report["verdict"]["clean"], false);
            let ended = run.number("/requests/succeeded") + run.number("/requests/failed");
            assert_eq!(ended, 10.0, "{:#}", run.report);
            run
        })
        .into()
}

#[test]
fn a_response_cut_short_is_closed_and_no_success() {
    let cut = |_: u64, stream: &mut dyn Stream| {
        if read_head(stream).is_some() {
            let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred";
            drop(stream.write_all(cut));
        }
    };
    for run in ten(cut) {
        assert_eq!(run.errors("closed"), 10, "{:#}", run.report);
        assert_eq!(run.report["requests"]["succeeded"], 0);
    }
}

#[test]
fn a_close_without_an_answer_is_closed() {
    for run in ten(|_, stream| {
        let _ignored = read_head(stream);
    }) {
        assert_eq!(run.errors("closed"), 10, "{:#}", run.report);
    }
}

#[test]
fn a_close_with_the_request_unread_is_a_reset() {
    // Closing with unread bytes makes the kernel send RST. One byte is read so that the request is there.
    for run in ten(|_, stream| {
        let _ignored = stream.read(&mut [0]);
    }) {
        assert_eq!(run.errors("reset"), 10, "{:#}", run.report);
    }
}

#[test]
fn what_is_no_http_is_a_bad_response() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.2p1\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        // A byte too many belongs to no response.
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
    ] {
        for run in ten(always(answer)) {
            assert_eq!(run.errors("bad_response"), 10, "{:#}", run.report);
        }
    }
}

#[test]
fn a_silent_server_is_a_timeout_that_counts_in_the_percentiles() {
    for driver in DRIVERS {
        let url = format!(
            "http://{}/",
            scripted(|_, stream| while read_head(stream).is_some() {})
        );
        let run = run(&[
            "--driver",
            driver,
            "-c",
            "2",
            "-n",
            "6",
            "-t",
            "1",
            "--timeout",
            "100ms",
            &url,
        ]);
        assert_eq!(run.code, 1);
        assert_eq!(run.errors("timeout"), 6, "{:#}", run.report);
        assert_eq!(run.report["latency_from_send"]["count"], 6);
        assert!(run.number("/latency_from_send/min_us") >= 99_000.0);
    }
}

#[test]
fn unexpected_statuses_are_errors_and_expected_ones_are_not() {
    let upstream = Upstream::start("auto");
    let url = upstream.url("/status/429");
    let refused = run(&["-n", "20", "-c", "2", &url]);
    assert_eq!(refused.code, 1);
    assert_eq!(refused.errors("status"), 20);
    assert_eq!(refused.report["statuses"]["429"], 20);
    assert_eq!(refused.report["error_examples"]["status"], "status 429");
    let expected = run(&["-n", "20", "-c", "2", "--expect", "200,429", &url]);
    assert_eq!(expected.code, 0, "{:#}", expected.report);
    assert_eq!(expected.report["requests"]["succeeded"], 20);
    let not_even_200 = run(&["-n", "20", "-c", "2", "--expect", "429", &upstream.url("/")]);
    assert_eq!(not_even_200.errors("status"), 20);
}

#[test]
fn a_server_that_closes_after_each_answer_is_no_error() {
    for driver in DRIVERS {
        let closing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let until_close = b"HTTP/1.0 200 OK\r\n\r\nall until the end";
        for answer in [&closing[..], until_close] {
            let url = format!(
                "http://{}/",
                scripted(move |_, stream| {
                    if read_head(stream).is_some() {
                        let _ignored = stream.write_all(answer);
                    }
                })
            );
            let run = run(&["--driver", driver, "-c", "2", "-n", "20", &url]);
            assert_eq!(run.code, 0, "{:#}", run.report);
            assert_eq!(run.report["requests"]["succeeded"], 20);
        }
    }
}

#[test]
fn a_server_that_closes_an_idle_connection_costs_no_request() {
    for driver in DRIVERS {
        // Each connection serves two requests and closes without saying so.
        let url = format!(
            "http://{}/",
            scripted(|_, stream| {
                for _ in 0..2 {
                    if read_head(stream).is_none() || stream.write_all(support::OK).is_err() {
                        return;
                    }
                }
            })
        );
        // At 20/s the close is there long before the next request.
        let run = run(&[
            "--driver", driver, "--rate", "20", "-d", "500ms", "-t", "1", "-c", "1", &url,
        ]);
        assert_eq!(run.code, 0, "{:#}", run.report);
        assert_eq!(run.report["requests"]["succeeded"], 10);
    }
}

#[test]
fn bytes_on_an_idle_connection_are_told() {
    for driver in DRIVERS {
        let url = format!(
            "http://{}/",
            scripted(|number, stream| {
                // The first connection is the check that somebody listens.
                if number == 1 {
                    let _ignored = stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n");
                }
                always(support::OK)(number, stream);
            })
        );
        let run = run(&[
            "--driver", driver, "--rate", "20", "-d", "300ms", "-t", "1", "-c", "1", &url,
        ]);
        assert_eq!(run.code, 1);
        assert_eq!(run.errors("unsolicited"), 1, "{:#}", run.report);
        assert_eq!(run.report["requests"]["succeeded"], 6);
    }
}

#[test]
fn a_server_that_goes_away_gives_connect_errors_and_the_run_ends() {
    for driver in DRIVERS {
        // Listens until it has answered one request, and then never again.
        let url = format!("http://{}/", support::once());
        let run = run(&[
            "--driver",
            driver,
            "-c",
            "1",
            "-n",
            "5",
            "--timeout",
            "2s",
            &url,
        ]);
        assert_eq!(run.code, 1);
        assert_eq!(run.report["requests"]["succeeded"], 1);
        assert_eq!(run.errors("connect"), 4, "{:#}", run.report);
    }
}
