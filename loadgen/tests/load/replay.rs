//! An access log, sent again.

use std::path::PathBuf;

use crate::support::{field, load, recording, run};

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ringgate-load-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

const COMBINED: &str = r#"10.0.0.1 - - [31/Jan/2026:23:59:58 +0000] "GET /first?a=b HTTP/1.1" 200 5 "-" "curl"
not a request
10.0.0.2 - - [31/Jan/2026:23:59:59 +0000] "HEAD /second HTTP/1.1" 200 0 "-" "curl"
10.0.0.3 - - [31/Jan/2026:23:59:59 +0000] "DELETE /third HTTP/1.0" 200 5 "-" "curl"
"#;

#[test]
fn a_log_is_sent_at_its_own_times_scaled_and_looped() {
    let path = file("combined.log", COMBINED);
    let (address, heads) = recording();
    let url = format!("http://{address}/");
    // 0 s, 1 s and 1.5 s, and 0.75 s to the next round: 2.25 s at 5 times the speed is 450 ms a round.
    let ran = run(&[
        "replay",
        path.to_str().unwrap(),
        "--speed",
        "5",
        "--rounds",
        "2",
        "--forward",
        "--lag-max",
        "60s",
        "-c",
        "1",
        "-t",
        "1",
        "--live",
        "never",
        &url,
    ]);
    // The recording server answers HEAD with a body, which is rightly an error.
    assert_eq!(ran.report["requests"]["sent"], 6, "{:#}", ran.report);
    assert_eq!(ran.report["arrivals"], "replay");
    assert_eq!(ran.number("/measured_s"), 0.9);
    assert!(
        ran.report["verdict"]["notes"]
            .to_string()
            .contains("1 lines of the log")
    );
    let sent: Vec<(String, String)> = heads
        .try_iter()
        .map(|head| {
            (
                head.lines().next().unwrap().to_owned(),
                field(&head, "X-Forwarded-For").unwrap(),
            )
        })
        .collect();
    let round = [
        ("GET /first?a=b HTTP/1.1", "10.0.0.1"),
        ("HEAD /second HTTP/1.1", "10.0.0.2"),
        ("DELETE /third HTTP/1.1", "10.0.0.3"),
    ]
    .map(|(line, client)| (line.to_owned(), client.to_owned()));
    assert_eq!(sent, [round.clone(), round].concat());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_log_without_requests_and_options_that_fight_the_log_are_2() {
    let empty = file("empty.log", "nothing here\n");
    let good = file("good.log", COMBINED);
    for arguments in [
        &[empty.to_str().unwrap(), "http://127.0.0.1:1/"][..],
        &["/no/such.log", "http://127.0.0.1:1/"],
        &[good.to_str().unwrap(), "--rate", "5", "http://127.0.0.1:1/"],
        &[
            good.to_str().unwrap(),
            "--speed",
            "0",
            "http://127.0.0.1:1/",
        ],
    ] {
        let output = load().arg("replay").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    std::fs::remove_file(empty).unwrap();
    std::fs::remove_file(good).unwrap();
}
