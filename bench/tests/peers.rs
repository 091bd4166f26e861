//! The comparison with other gateways (`bench/peers`): its arithmetic, and a small run of it beside nginx, which must find
//! both answering rightly and limiting by client. Measures nothing: the programs are those of the tests, unoptimised.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Where cargo put the programs: beside the folder of this test.
fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let deps = own.parent().expect("a folder");
    deps.parent().expect("a folder above").to_path_buf()
}

/// Says past the harness that a test cannot run, and why; with `CI=true` that is a failure.
fn skip(what: &str, name: &str) {
    let message = format!("SKIPPED (no {what}): {name}");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{message}: CI runs every test"
    );
    drop(std::io::stderr().write_all(format!("{message}\n").as_bytes()));
}

fn python(arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command.arg("-B").args(arguments).current_dir(peers());
    command.output().ok()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn figures_and_targets_are_computed_rightly() {
    let Some(output) = python(&["test_comparison.py"]) else {
        return skip("python3", "figures_and_targets_are_computed_rightly");
    };
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("\nOK"), "{}", text(&output));
}

/// The programs that a run needs, or the test `name` is skipped.
fn ours(name: &str) -> Option<PathBuf> {
    let programs = programs();
    for program in ["ringgate", "ringgate-load"] {
        if !programs.join(program).exists() {
            skip(&format!("{program}: test the whole workspace"), name);
            return None;
        }
    }
    if python(&["-c", ""]).is_none() {
        skip("python3", name);
        return None;
    }
    Some(programs)
}

#[test]
fn two_workers_write_no_cache_line_in_common_but_the_slots_of_limits() {
    const NAME: &str = "two_workers_write_no_cache_line_in_common_but_the_slots_of_limits";
    /// Two limits, and one client that both see. An endpoint's count changes with its connections, which are kept.
    const SLOTS: usize = 2;
    let Some(programs) = ours(NAME) else { return };
    let programs = programs.to_str().expect("a path in UTF-8");
    let output = python(&["scaling", "--lines", "--programs", programs]).expect("python3");
    assert!(output.status.success(), "{}", text(&output));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let both = |pair: &str| found[pair]["lines_of_both"].as_array().map(Vec::len);
    assert_eq!(both("apart"), Some(SLOTS), "{}", found["apart"]);
    // Two connections of one worker share its memory: had the comparison not found that, it would find nothing.
    assert!(both("same") > Some(5 * SLOTS), "{}", found["same"]);
}

#[test]
fn a_small_run_finds_both_gateways_right_and_limiting_by_client() {
    const NAME: &str = "a_small_run_finds_both_gateways_right_and_limiting_by_client";
    let Some(programs) = ours(NAME) else { return };
    let nginx = Path::new("/usr/sbin/nginx").exists();
    let nginx = nginx || Command::new("nginx").arg("-v").output().is_ok();
    if !nginx {
        return skip("nginx", NAME);
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let out_text = out.to_str().expect("a path in UTF-8");
    let programs = programs.to_str().expect("a path in UTF-8");
    let arguments = [
        "run",
        "--quick",
        "--seconds",
        "0.5",
        "--programs",
        programs,
        "--out",
        out_text,
    ];
    let output = python(&arguments).expect("python3 was there");
    assert!(output.status.success(), "{}", text(&output));

    let raw = std::fs::read(out.join("raw.json")).expect("raw.json");
    let run: Value = serde_json::from_slice(&raw).expect("JSON");
    let each = |key: &str| run[key].as_array().cloned().unwrap_or_default();
    assert_eq!(each("skipped"), [] as [Value; 0], "{}", text(&output));
    assert_eq!(each("checks").len(), 5);
    for check in each("checks") {
        assert!(check["wrong"].is_null(), "{check}");
    }
    let limited: Vec<_> = each("limits");
    assert_eq!(limited.len(), 2);
    for found in limited {
        assert!(
            found["refuses_a"] == true && found["spares_b"] == true,
            "{found}"
        );
    }
    assert_eq!(each("rounds").len(), 2 * 5);
    for round in each("rounds") {
        assert_eq!(round["failed"], 0, "{round}");
        assert!(
            round["cpu_us"].as_f64().is_some_and(|cpu_us| cpu_us > 0.0),
            "{round}"
        );
        let statuses = round["statuses"].as_object().expect("statuses");
        if round["case"] == "refused" && round["proxy"] != "ringgate, let through" {
            assert!(statuses.contains_key("429"), "{round}");
        }
    }
    assert!(out.join("README.md").exists() && out.join("table.md").exists());
}
