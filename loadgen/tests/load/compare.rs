//! Two reports side by side.

use std::path::PathBuf;

use serde_json::json;

use crate::support::{Upstream, load};

/// A report whose seconds have a latency of `level_us`, a little more and a little less.
fn report(name: &str, level_us: f64, seconds: u64) -> PathBuf {
    report_of(name, level_us, seconds, false)
}

fn report_of(name: &str, level_us: f64, seconds: u64, generator_bound: bool) -> PathBuf {
    let intervals: Vec<_> = (0..seconds)
        .map(|second| {
            let wobble = [0.99, 1.0, 1.01, 1.005, 0.995][usize::try_from(second % 5).unwrap()];
            json!({
                "start_s": second, "warmup": 0, "responses": 1000, "failed": 0, "p50_us": level_us * wobble,
                "p90_us": level_us * wobble * 1.5, "p99_us": level_us * wobble * 2.0,
                "p99_9_us": level_us * wobble * 3.0, "max_us": level_us * 9.0, "lag_p99_us": 1.0
            })
        })
        .collect();
    let tail = json!({"p99_99_us": level_us * 4.0, "max_us": level_us * 9.0});
    let document = json!({
        "schema": "ringgate-load/1", "target": "http://x/", "mode": "open", "rate": "1k", "intervals": intervals,
        "latency_from_intended": tail, "latency_from_send": tail, "verdict": { "generator_bound": generator_bound }
    });
    let path = std::env::temp_dir().join(format!(
        "ringgate-compare-{}-{name}.json",
        std::process::id()
    ));
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

fn compare(before: &PathBuf, after: &PathBuf) -> (i32, String) {
    compare_all(&[before, after])
}

fn compare_all(files: &[&PathBuf]) -> (i32, String) {
    let output = load().arg("compare").args(files).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

#[test]
fn equal_runs_are_no_difference_slower_is_worse_and_faster_is_better() {
    let [base, same, slow, fast] = [
        ("base", 100.0),
        ("same", 100.1),
        ("slow", 105.0),
        ("fast", 95.0),
    ]
    .map(|(name, level_us)| report(name, level_us, 20));
    for (after, code, verdict) in [
        (&same, 0, "no difference"),
        (&slow, 4, "worse"),
        (&fast, 0, "better"),
    ] {
        let (got, text) = compare(&base, after);
        assert_eq!(got, code, "{text}");
        assert!(text.lines().last().unwrap().contains(verdict), "{text}");
    }
    for path in [base, same, slow, fast] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn several_pairs_are_judged_by_their_differences() {
    let [base, same, slow] = [
        ("pairs-base", 100.0),
        ("pairs-same", 100.1),
        ("pairs-slow", 105.0),
    ]
    .map(|(name, level_us)| report(name, level_us, 20));
    let (code, text) = compare_all(&[&base, &same].repeat(5));
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("pairs   5") && text.contains("no difference"),
        "{text}"
    );
    let (code, text) = compare_all(&[&base, &slow].repeat(5));
    assert_eq!(code, 4, "{text}");
    // What makes no sense is said as wrong arguments.
    assert_eq!(compare_all(&[&base, &slow].repeat(2)).0, 2);
    assert_eq!(compare_all(&[&base, &slow, &base]).0, 2);
    for path in [base, same, slow] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn no_winner_is_named_where_the_generator_was_the_limit() {
    let base = report("bound-base", 100.0, 20);
    let bound = report_of("bound-slow", 105.0, 20, true);
    for (files, runs) in [
        (vec![&base, &bound], "1 of 2 runs"),
        (vec![&bound, &base], "1 of 2 runs"),
        ([&base, &bound].repeat(5), "5 of 10 runs"),
    ] {
        assert_bound(&files, runs);
    }
    for path in [base, bound] {
        std::fs::remove_file(path).unwrap();
    }
}

/// A closed loop has no schedule to be late for: there it shows in a thread that was busy all the time.
#[test]
fn a_closed_loop_whose_generator_had_nothing_left_is_no_winner_either() {
    let [base, slow, full] = [
        ("closed-base", 100.0, 0.5),
        ("closed-slow", 105.0, 0.9),
        ("closed-full", 105.0, 0.99),
    ]
    .map(|(name, level_us, busy)| {
        let path = report(name, level_us, 20);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        document["mode"] = "closed".into();
        document["cpu"] = json!({ "busy_ratios": [0.1, busy] });
        std::fs::write(&path, document.to_string()).unwrap();
        path
    });
    let (code, text) = compare(&base, &slow);
    assert_eq!(code, 4, "{text}");
    assert_bound(&[&base, &full], "1 of 2 runs");
    for path in [base, slow, full] {
        std::fs::remove_file(path).unwrap();
    }
}

#[track_caller]
fn assert_bound(files: &[&PathBuf], runs: &str) {
    let (code, text) = compare_all(files);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains(runs) && text.contains("generator-bound"),
        "{text}"
    );
    let last = text.lines().last().unwrap();
    assert!(last.contains("unknown (generator bound)"), "{text}");
    for winner in ["better", "worse", "no difference"] {
        let named = text.lines().any(|line| line.ends_with(winner));
        assert!(!named, "{winner} in {text}");
    }
}

#[test]
fn too_short_a_run_and_what_is_no_report_are_1() {
    let [short, long] =
        [("short", 5), ("long", 20)].map(|(name, seconds)| report(name, 100.0, seconds));
    let (code, text) = compare(&long, &short);
    assert_eq!(code, 1);
    assert!(text.contains("too few pieces"), "{text}");
    std::fs::write(&short, "{}").unwrap();
    assert_eq!(compare(&long, &short).0, 1);
    std::fs::remove_file(&short).unwrap();
    let (code, text) = compare(&long, &short);
    assert_eq!(code, 1);
    assert!(text.contains("short.json"), "{text}");
    std::fs::remove_file(&long).unwrap();
}

#[test]
fn a_real_report_is_read() {
    let upstream = Upstream::start("auto");
    let path =
        std::env::temp_dir().join(format!("ringgate-compare-{}-real.json", std::process::id()));
    let url = upstream.url("/");
    let run = load()
        .args([
            "-n",
            "20",
            "-c",
            "1",
            "--json",
            path.to_str().unwrap(),
            &url,
        ])
        .output()
        .unwrap();
    assert!(run.status.success());
    let (code, text) = compare(&path, &path);
    assert_eq!(code, 1, "less than a second is no sample: {text}");
    assert!(text.contains("closed loop"), "{text}");
    std::fs::remove_file(path).unwrap();
}
