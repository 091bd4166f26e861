//! Each exit code, and the shape of the report that goes with it.

use std::process::Stdio;
use std::sync::mpsc::channel;

use crate::support::{self, Upstream, load, run, scripted};
use serde_json::Value;

#[test]
fn no_errors_is_0_with_a_summary_that_fits_a_screen() {
    let upstream = Upstream::start("auto");
    let output = load()
        .args([
            "--rate",
            "500",
            "-d",
            "200ms",
            "--lag-max",
            "60s",
            &upstream.url("/"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "open loop",
        "100 sent",
        "from intended",
        "from send",
        "generator lag",
        "cpu",
    ] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    assert!(text.lines().count() <= 24, "{text}");
    let longest = text
        .lines()
        .filter(|line| !line.starts_with("note"))
        .map(str::len)
        .max();
    assert!(longest <= Some(80), "{text}");
}

#[test]
fn a_run_that_cannot_be_made_is_1_with_one_line() {
    // A port that was free a moment ago.
    let address = support::free_address();
    let output = load()
        .args(["-n", "1", &format!("http://{address}/")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&address) && stderr.contains("refused"),
        "{stderr}"
    );
}

#[test]
fn wrong_arguments_are_2() {
    for arguments in [
        &["--rate", "x", "http://127.0.0.1/"][..],
        &["--duration", "5", "http://127.0.0.1/"],
        &["https://127.0.0.1/"],
        &["-c", "0", "http://127.0.0.1/"],
        &["-c", "1", "-t", "2", "http://127.0.0.1/"],
        &["--rate", "1k@1s", "-d", "1s", "http://127.0.0.1/"],
        &["--rate", "1k", "--pipeline", "2", "http://127.0.0.1/"],
        &["-H", "Content-Length: 3", "http://127.0.0.1/"],
        &["-X", "CONNECT", "http://127.0.0.1/"],
        &["-b", "@/no/such/file", "http://127.0.0.1/"],
        &["--lag-max", "1ms", "http://127.0.0.1/"],
        &["--timeout", "0s", "http://127.0.0.1/"],
        &["--keys", "uniform:5", "http://127.0.0.1/"],
        &["http://127.0.0.1/${key}"],
        &["http://127.0.0.1/${nonsense}"],
        &["--keys", "uniform:1", "-t", "2", "http://127.0.0.1/${key}"],
        &[
            "--keys",
            "uniform:20m",
            "--key-as",
            "xff",
            "http://127.0.0.1/",
        ],
        &["--limit", "10/s", "-t", "2", "http://127.0.0.1/"],
        &["--no-such-option", "http://127.0.0.1/"],
        &[],
    ] {
        let output = load().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn arguments_can_be_checked_without_sending_anything() {
    // Nobody listens there, and nobody is asked.
    let url = format!("http://{}/", support::free_address());
    let check = |arguments: &[&str]| {
        let output = load().arg("--check").args(arguments).output().unwrap();
        assert!(output.stdout.is_empty(), "{output:?}");
        output.status.code()
    };
    assert_eq!(check(&["--rate", "1k", "--slo", "p99<5ms", &url]), Some(0));
    assert_eq!(check(&["--rate", "1k", "--slo", "p99<fast", &url]), Some(2));
    assert_eq!(check(&["--scenario", "/no/such/file", &url]), Some(2));
}

#[test]
fn a_generator_that_is_late_is_3_and_says_so() {
    let upstream = Upstream::start("auto");
    let run = run(&[
        "--rate",
        "500",
        "-d",
        "200ms",
        "--lag-max",
        "1ns",
        &upstream.url("/"),
    ]);
    assert_eq!(run.code, 3);
    assert_eq!(run.report["verdict"]["generator_bound"], true);
    assert_eq!(run.report["verdict"]["clean"], true);
    let notes = run.report["verdict"]["notes"].to_string();
    assert!(notes.contains("generator-bound"), "{notes}");
}

#[test]
fn a_missed_goal_is_4_and_a_held_one_0() {
    let upstream = Upstream::start("auto");
    let url = upstream.url("/");
    let held = run(&[
        "-n",
        "50",
        "-c",
        "2",
        "--slo",
        "p99<1h,errors<1%,rate>1",
        &url,
    ]);
    assert_eq!(held.code, 0, "{:#}", held.report);
    assert_eq!(held.report["verdict"]["slo_held"], true);
    let missed = run(&["-n", "50", "-c", "2", "--slo", "p50<1us,max<1h", &url]);
    assert_eq!(missed.code, 4, "{:#}", missed.report);
    assert_eq!(missed.report["verdict"]["slo"][0]["held"], false);
    assert_eq!(missed.report["verdict"]["slo"][1]["held"], true);
    assert!(missed.number("/verdict/slo/0/actual") > 1.0);
}

#[test]
fn a_goal_for_errors_makes_them_a_matter_of_the_goal() {
    let upstream = Upstream::start("auto");
    let url = upstream.url("/status/500");
    let codes = ["p99<1h", "errors<100%", "errors<50%"]
        .map(|slo| run(&["-n", "20", "-c", "2", "--slo", slo, &url]).code);
    assert_eq!(codes, [1, 4, 4], "all failed: 100 % is not below 100 %");
    let codes = ["errors<100%,p99<1h"].map(|slo| {
        run(&[
            "-n", "20", "-c", "2", "--slo", slo, "--expect", "200,500", &url,
        ])
        .code
    });
    assert_eq!(codes, [0]);
}

#[test]
fn errors_come_before_lag() {
    let upstream = Upstream::start("auto");
    let url = upstream.url("/status/500");
    assert_eq!(
        run(&["--rate", "500", "-d", "100ms", "--lag-max", "1ns", &url]).code,
        1
    );
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    let (seen, first_request) = channel();
    let url = format!(
        "http://{}/",
        scripted(move |_, stream| {
            while support::read_head(stream).is_some() {
                let _ = seen.send(());
                if stream.write_all(support::OK).is_err() {
                    return;
                }
            }
        })
    );
    let child = load()
        .args(["--json", "-", "-c", "1", "-d", "1h", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..10 {
        first_request.recv().unwrap();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = support::finish(&child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{:#}", run.report);
    assert_eq!(run.report["verdict"]["interrupted"], true);
    assert!(run.number("/requests/succeeded") >= 9.0);
    assert!(run.number("/measured_s") < 3600.0);
}

#[test]
fn the_json_has_the_documented_fields() {
    let upstream = Upstream::start("auto");
    let file = std::env::temp_dir().join(format!("ringgate-load-{}.json", std::process::id()));
    let output = load()
        .args([
            "-n",
            "10",
            "-c",
            "1",
            "--json",
            file.to_str().unwrap(),
            &upstream.url("/"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        !output.stdout.is_empty(),
        "a file leaves the summary on the terminal"
    );
    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(file).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(report["schema"], "ringgate-load/1");
    let expected = "address arrivals body body_bytes_per_second connect connections connections_max cpu driver \
        driver_fallback driver_flags error_examples errors first_byte intervals keys kinds lag latency_from_intended latency_from_send limit \
        limiter_accuracy measured_s memory_peak_bytes mode pacing pipeline rate rate_per_second_intended received_bytes request requests responses_per_second schema \
        slices statuses target threads verdict version warmup_s";
    assert_eq!(keys(&report).join(" "), expected);
    let latency = "count curve deviation_us histogram max_us mean_us min_us p50_us p75_us p90_us p99_99_us p99_9_us p99_us";
    assert_eq!(keys(&report["latency_from_send"]).join(" "), latency);
    let requests = "failed sent succeeded waited warmup warmup_failed";
    assert_eq!(keys(&report["requests"]).join(" "), requests);
    assert_eq!(
        keys(&report["cpu"]).join(" "),
        "busy_ratios per_request_us seconds"
    );
    assert_eq!(
        keys(&report["verdict"]).join(" "),
        "clean errors_allowed generator_bound interrupted notes slo slo_held"
    );
}

#[test]
fn the_upstream_ends_with_0_on_a_signal_and_1_on_a_taken_port() {
    let upstream = Upstream::start("auto");
    let taken = load()
        .args(["upstream", "--listen", &upstream.address])
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(1));
    let stderr = String::from_utf8(taken.stderr).unwrap();
    assert!(stderr.contains(&upstream.address), "{stderr}");
    assert_eq!(upstream.terminate(), 0);
}

#[test]
fn a_mistyped_command_is_2_and_names_the_one_that_was_meant() {
    for (word, meant) in [
        ("serach", "`search`"),
        ("replya", "`replay`"),
        ("comprae", "`compare`"),
        ("upstraem", "`upstream`"),
    ] {
        let output = load().args([word, "http://127.0.0.1:1/"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{word}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(meant) && told.lines().count() == 1, "{told}");
    }
    // A host is nobody's slip.
    let output = load().args(["search.test", "-n", "1"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("did you mean"), "{told}");
}
