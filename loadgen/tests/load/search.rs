//! The highest rate that holds a goal, against a server whose capacity is known.

use serde_json::Value;

use crate::support::{Upstream, load};

#[test]
fn the_rate_found_is_the_capacity_of_the_server() {
    let upstream = Upstream::start("auto");
    // Four connections with 20 ms each serve 200/s and not one more.
    let output = load()
        .args([
            "search",
            "--slo",
            "p90<150ms",
            "--from",
            "25",
            "--to",
            "2k",
            "--precision",
            "20",
            "--confirm",
            "2",
        ])
        .args([
            "-c",
            "4",
            "--connections-max",
            "4",
            "-t",
            "1",
            "-d",
            "1s",
            "--lag-max",
            "10s",
            "--json",
            "-",
        ])
        .arg(upstream.url("/delay/20"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["schema"], "ringgate-load-search/1");
    let rate = found["rate_per_second"].as_f64().unwrap();
    // A queue that grows by a tenth of a second per second still holds; on a slow machine the server can do less.
    assert!((25.0..=280.0).contains(&rate), "{rate}");
    let runs = found["runs"].as_array().unwrap();
    let confirming = runs
        .iter()
        .filter(|run| run["confirming"] == true && run["held"] == true);
    assert!(confirming.count() >= 2);
    assert!(
        runs.iter()
            .any(|run| run["held"] == false && run["rate_per_second"].as_f64().unwrap() > rate)
    );
}

#[test]
fn a_goal_out_of_reach_is_4() {
    let upstream = Upstream::start("auto");
    let output = load()
        .args([
            "search",
            "--slo",
            "p50<1us",
            "--from",
            "100",
            "-d",
            "100ms",
            "--lag-max",
            "10s",
        ])
        .arg(upstream.url("/"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("no rate found that holds p50<1us"), "{text}");
}

#[test]
fn a_search_without_a_goal_or_with_a_rate_is_2() {
    for arguments in [
        &["search", "http://127.0.0.1/"][..],
        &[
            "search",
            "--slo",
            "p99<1s",
            "--rate",
            "1k",
            "http://127.0.0.1/",
        ],
        &[
            "search",
            "--slo",
            "p99<1s",
            "--from",
            "2k",
            "--to",
            "1k",
            "http://127.0.0.1/",
        ],
    ] {
        assert_eq!(
            load().args(arguments).output().unwrap().status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}
