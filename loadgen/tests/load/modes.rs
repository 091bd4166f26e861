//! Closed loop, open loop, and what bounds them, on both drivers.

use crate::support::{self, DRIVERS, Upstream, run};

#[test]
fn a_closed_loop_sends_exactly_as_many_requests_as_asked() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let run = run(&[
            "--driver",
            driver,
            "-c",
            "7",
            "-t",
            "2",
            "-n",
            "1001",
            &upstream.url("/"),
        ]);
        assert_eq!(run.code, 0, "{:#}", run.report);
        assert_eq!(run.report["driver"], driver);
        assert_eq!(run.report["mode"], "closed");
        assert_eq!(run.report["requests"]["sent"], 1001);
        assert_eq!(run.report["requests"]["succeeded"], 1001);
        assert_eq!(run.report["statuses"]["200"], 1001);
        assert_eq!(run.report["latency_from_send"]["count"], 1001);
        assert!(run.report["latency_from_intended"].is_null());
        assert!(run.report["lag"].is_null());
        assert_eq!(run.number("/connect/count"), 7.0);
    }
}

#[test]
fn an_open_loop_sends_exactly_what_the_schedule_says() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        for pacing in ["precise", "frugal"] {
            let run = run(&[
                "--driver",
                driver,
                "--rate",
                "1k",
                "-d",
                "500ms",
                "-w",
                "200ms",
                "-t",
                "2",
                "--pacing",
                pacing,
                &upstream.url("/"),
            ]);
            assert_eq!(run.code, 0, "{:#}", run.report);
            assert_eq!(run.report["driver"], driver);
            assert_eq!(run.report["mode"], "open");
            assert_eq!(run.report["requests"]["sent"], 500);
            assert_eq!(run.report["requests"]["warmup"], 200);
            assert_eq!(run.report["latency_from_intended"]["count"], 500);
            assert_eq!(run.number("/rate_per_second_intended"), 1000.0);
            let rate = run.number("/responses_per_second");
            // All that was sent may end in the half second of the measurement, and on a slow machine none of it.
            assert!((0.0..=1400.0).contains(&rate), "{rate}");
            // Both views of the same requests: the intended start is never after the send.
            let (intended, sent) = (
                run.number("/latency_from_intended/mean_us"),
                run.number("/latency_from_send/mean_us"),
            );
            assert!(intended >= sent, "{intended} {sent}");
        }
    }
}

#[test]
fn each_way_of_waiting_keeps_the_schedule_and_is_named() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let url = upstream.url("/");
        for pacing in ["precise", "frugal", "spin"] {
            let run = run(&[
                "--driver", driver, "--rate", "1k", "-d", "200ms", "-t", "1", "--pacing", pacing,
                &url,
            ]);
            assert_eq!(run.code, 0, "{:#}", run.report);
            assert_eq!(run.report["pacing"], pacing);
            assert_eq!(run.number("/latency_from_intended/count"), 200.0);
            assert_eq!(run.number("/lag/count"), 200.0, "{:#}", run.report);
        }
    }
}

#[test]
fn the_environment_can_force_epoll() {
    let upstream = Upstream::start("auto");
    let output = support::load()
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1")
        .args(["--json", "-", "-n", "50", "-c", "2", &upstream.url("/")])
        .output()
        .unwrap();
    let run = support::finish(&output);
    assert_eq!(run.code, 0, "{:#}", run.report);
    assert_eq!(run.report["driver"], "epoll");
    assert!(run.report["driver_fallback"].is_string());
}

#[test]
fn a_ramp_sends_the_area_under_it() {
    let upstream = Upstream::start("auto");
    let run = run(&["--rate", "0..1k@400ms,1k@100ms", &upstream.url("/")]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    assert_eq!(run.report["requests"]["sent"], 300);
    assert_eq!(run.number("/measured_s"), 0.5);
}

#[test]
fn poisson_arrivals_repeat_with_their_seed_and_differ_without() {
    let upstream = Upstream::start("auto");
    let sent = |seed: &str| {
        run(&[
            "--rate",
            "2k",
            "-d",
            "200ms",
            "--arrivals",
            "poisson",
            "--seed",
            seed,
            &upstream.url("/"),
        ])
        .number("/requests/sent")
    };
    assert_eq!(sent("5"), sent("5"));
    assert!((1..6).any(|seed| sent(&seed.to_string()) != sent("5")));
}

#[test]
fn connections_are_added_when_all_are_busy_up_to_the_bound() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        // 100/s that take 100 ms each keep 10 connections busy.
        let grown = run(&[
            "--driver",
            driver,
            "--rate",
            "100",
            "-d",
            "500ms",
            "-t",
            "1",
            "-c",
            "1",
            &upstream.url("/delay/100"),
        ]);
        assert_eq!(grown.code, 0, "{:#}", grown.report);
        assert!(grown.number("/connect/count") >= 8.0, "{:#}", grown.report);
        assert_eq!(grown.report["requests"]["waited"], 0);

        let bounded = run(&[
            "--driver",
            driver,
            "--rate",
            "100",
            "-d",
            "200ms",
            "-t",
            "1",
            "-c",
            "1",
            "--connections-max",
            "2",
            &upstream.url("/delay/50"),
        ]);
        assert_eq!(bounded.code, 0, "{:#}", bounded.report);
        assert!(bounded.number("/connect/count") <= 2.0);
        assert!(bounded.number("/requests/waited") >= 10.0);
        assert_eq!(bounded.report["requests"]["sent"], 20);
        // The wait is the user's: 2 connections serve 40/s, so the last of 20 waits some 300 ms.
        assert!(bounded.number("/latency_from_intended/max_us") >= 200_000.0);
        assert!(bounded.number("/latency_from_send/p50_us") < 150_000.0);
    }
}

#[test]
fn a_server_that_falls_behind_is_not_given_the_rate_it_was_asked_for() {
    let upstream = Upstream::start("auto");
    // One connection with 20 ms each serves 50/s of 200/s; what is answered after the end counts in no rate.
    let run = run(&[
        "--rate",
        "200",
        "-d",
        "500ms",
        "-t",
        "1",
        "-c",
        "1",
        "--connections-max",
        "1",
        &upstream.url("/delay/20"),
    ]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    assert_eq!(run.report["requests"]["succeeded"], 100);
    let rate = run.number("/responses_per_second");
    assert!(rate <= 52.0, "{rate}");
}

#[test]
fn what_never_found_a_connection_is_counted_as_unsent() {
    let upstream = Upstream::start("auto");
    let run = run(&[
        "--rate",
        "100",
        "-d",
        "500ms",
        "-t",
        "1",
        "-c",
        "1",
        "--connections-max",
        "1",
        "--timeout",
        "300ms",
        &upstream.url("/delay/100"),
    ]);
    assert_eq!(run.code, 1);
    assert!(run.errors("unsent") > 0, "{:#}", run.report);
    let ended = run.number("/requests/succeeded") + run.number("/requests/failed");
    assert_eq!(ended, 50.0, "nothing is dropped silently: {:#}", run.report);
}

#[test]
fn pipelined_requests_are_each_answered() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        for path in ["/", "/chunked/9000", "/bytes/100000"] {
            let run = run(&[
                "--driver",
                driver,
                "-c",
                "3",
                "-n",
                "500",
                "--pipeline",
                "16",
                &upstream.url(path),
            ]);
            assert_eq!(run.code, 0, "{:#}", run.report);
            assert_eq!(run.report["requests"]["succeeded"], 500);
        }
    }
}

#[test]
fn without_keep_alive_each_request_has_its_connection() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let run = run(&[
            "--driver",
            driver,
            "-c",
            "3",
            "-n",
            "100",
            "--no-keepalive",
            &upstream.url("/"),
        ]);
        assert_eq!(run.code, 0, "{:#}", run.report);
        assert_eq!(run.report["requests"]["succeeded"], 100);
        assert!(run.number("/connect/count") >= 100.0);
    }
}

#[test]
fn a_body_of_a_megabyte_goes_out_and_comes_back() {
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let body = "b".repeat(100_000);
        let run = run(&[
            "--driver",
            driver,
            "-c",
            "2",
            "-n",
            "20",
            "-b",
            &body,
            &upstream.url("/bytes/1048576"),
        ]);
        assert_eq!(run.code, 0, "{:#}", run.report);
        assert_eq!(run.report["request"], "POST /bytes/1048576");
        assert!(run.number("/received_bytes") >= 20.0 * 1_048_576.0);
    }
}

#[test]
fn a_head_request_waits_for_no_body() {
    let upstream = Upstream::start("auto");
    let run = run(&[
        "-X",
        "HEAD",
        "-n",
        "100",
        "-c",
        "2",
        &upstream.url("/bytes/5000"),
    ]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    assert_eq!(run.report["requests"]["succeeded"], 100);
    assert_eq!(run.number("/body_bytes_per_second"), 0.0);
}

#[test]
fn a_unix_socket_is_a_target() {
    let path = std::env::temp_dir().join(format!("ringgate-load-{}.sock", std::process::id()));
    support::scripted_unix(&path, support::always(support::OK));
    for driver in DRIVERS {
        let url = format!("unix:{}:/x", path.display());
        let run = run(&["--driver", driver, "-n", "100", "-c", "2", &url]);
        assert_eq!(run.code, 0, "{:#}", run.report);
        assert_eq!(run.report["requests"]["succeeded"], 100);
    }
    std::fs::remove_file(path).unwrap();
}
