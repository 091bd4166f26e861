//! The HTTP conformance and attack cases that lie beside the project (`../shared/conformance`, or where
//! `RINGGATE_CONFORMANCE` says), on both drivers.
//!
//! The cases and the prober are not the project's own: where the folder is missing the tests say so and are skipped.
//! The project's own words on the same rules are in `codec_*.rs` and `end_to_end`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by a panic"
)]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests are threads that wait for sockets, files and the clock"
)]

#[macro_use]
#[path = "../end_to_end/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "helpers of another test that needs more of them"
)]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Driver, Folder, Gateway, Launch, skip};

/// Where the table of results is kept.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md");
/// Verdicts that are good; every other one is a fault.
const GOOD: [&str; 3] = ["pass", "pass-normalised", "pass-wait"];

/// The folder of the cases, or `None` after a word about it.
fn cases(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let folder = std::env::var_os("RINGGATE_CONFORMANCE").map_or(beside, PathBuf::from);
    if !folder.join("h1probe.py").is_file() {
        skip("../shared/conformance", test);
        return None;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3", test);
        return None;
    }
    Some(folder)
}

/// A gateway set up as the prober wants it, and the port where its origin will listen.
fn gateway(driver: Driver) -> (Gateway, u16) {
    let origin = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listener = "header_timeout = \"5s\"\npath_policy = \"strict\"\nwrite_timeout = \"10s\"\n\
                    min_body_rate = \"1KiB/s\"\nmin_write_rate = \"1KiB/s\"";
    let rest = format!(
        "[upstreams.origin]\nendpoints = [{{ address = \"127.0.0.1:{origin}\" }}]\n\
         first_byte_timeout = \"4s\"\nidle_timeout = \"4s\"\n\
         [[routes]]\nname = \"admin\"\npath_prefix = \"/admin\"\nignore_case = true\n\
         respond = {{ status = 403 }}\n\
         [[routes]]\nname = \"all\"\nupstream = \"origin\"\nupgrade = [\"websocket\"]\n"
    );
    (
        Launch::new(driver).listener(listener).rest(&rest).start(),
        origin,
    )
}

/// Runs `script` of the folder against the gateway; returns the rows it wrote.
fn probe(folder: &Path, script: &str, gateway: &Gateway, origin: u16, more: &[&str]) -> Vec<Value> {
    let own = Folder::new();
    let out = own.path().join("out");
    let run = Command::new("python3")
        // No bytecode beside the scripts: the folder may be read-only, and is not ours.
        .args(["-B", script, "--proxy", &gateway.address.to_string()])
        .args(["--origin-port", &origin.to_string()])
        .arg("--out")
        .arg(&out)
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{script}: {said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let text = std::fs::read_to_string(&out).unwrap();
    if text.trim_start().starts_with('[') {
        serde_json::from_str(&text).unwrap()
    } else {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn assert_all_good(rows: &[Value]) {
    let bad: Vec<String> = rows
        .iter()
        .filter(|row| !GOOD.contains(&field(row, "verdict")))
        .map(|row| {
            format!(
                "{} {} ({})",
                field(row, "verdict"),
                field(row, "id"),
                field(row, "why")
            )
        })
        .collect();
    assert!(
        bad.is_empty(),
        "{} of {}:\n{}",
        bad.len(),
        rows.len(),
        bad.join("\n")
    );
}

/// Rows by category, as they stand in the committed table.
fn table(rows: &[Value]) -> String {
    let mut categories = BTreeMap::<&str, (usize, usize)>::new();
    for row in rows {
        let (good, all) = categories.entry(field(row, "category")).or_default();
        *good += usize::from(GOOD.contains(&field(row, "verdict")));
        *all += 1;
    }
    let mut text = String::from("| category | good | cases |\n|---|---|---|\n");
    for (category, (good, all)) in &categories {
        writeln!(text, "| {category} | {good} | {all} |").unwrap();
    }
    let good: usize = categories.values().map(|(good, _)| good).sum();
    writeln!(text, "| **all** | **{good}** | **{}** |", rows.len()).unwrap();
    text
}

on_both_drivers! {
    fn every_case_is_answered_as_it_must_be(driver) {
        let Some(folder) = cases("every_case_is_answered_as_it_must_be") else { return };
        let (gateway, origin) = gateway(driver);
        let more = ["--cases", "req.jsonl,resp.jsonl"];
        let rows = probe(&folder, "h1probe.py", &gateway, origin, &more);
        assert!(rows.len() >= 876, "only {} rows", rows.len());
        assert_all_good(&rows);
        let table = table(&rows);
        let page = std::fs::read_to_string(TABLE).unwrap();
        if !page.contains(&table) && std::env::var_os("RINGGATE_WRITE_DOCS").is_some() {
            let start = page.find("| category |").expect("the table's place");
            std::fs::write(TABLE, format!("{}{table}", page.get(..start).unwrap())).unwrap();
        } else {
            assert!(page.contains(&table), "docs/conformance.md is not what was measured:\n{table}");
        }
    }

    fn slow_clients_are_ended_in_time(driver) {
        let Some(folder) = cases("slow_clients_are_ended_in_time") else { return };
        let (gateway, origin) = gateway(driver);
        let rows = probe(&folder, "slowprobe.py", &gateway, origin, &[]);
        assert!(rows.len() >= 13, "only {} rows", rows.len());
        // A reader is shown to be ended by the gateway's own record: what it has in its own buffer it may read on.
        let readers = ["slow/slow_read_512Bps", "slow/no_read"];
        let others: Vec<Value> =
            rows.into_iter().filter(|row| !readers.contains(&field(row, "id"))).collect();
        assert_all_good(&others);
        let ended: Vec<f64> = gateway
            .records()
            .iter()
            .filter(|record| field(record, "error.type") == "write_timeout")
            .map(|record| record["ringgate.duration_us"].as_f64().unwrap() / 1e6)
            .collect();
        assert_eq!(ended.len(), 2, "the slow reader and the one that never reads");
        assert!(ended.iter().all(|&seconds| seconds < 11.0), "ended after {ended:?} s");
    }

    fn mutated_requests_never_get_through(driver) {
        let Some(folder) = cases("mutated_requests_never_get_through") else { return };
        let (gateway, origin) = gateway(driver);
        let more = ["--cases", "req.jsonl", "--seed", "7", "--n", "150"];
        // Only what is not good is written.
        assert_all_good(&probe(&folder, "h1fuzz.py", &gateway, origin, &more));
    }

    #[ignore = "takes minutes: `cargo test -- --ignored soak`"]
    fn soak_mutated_requests_never_get_through(driver) {
        let Some(folder) = cases("soak_mutated_requests_never_get_through") else { return };
        let (gateway, origin) = gateway(driver);
        for seed in 1..=10 {
            let seed = seed.to_string();
            let more = ["--cases", "req.jsonl", "--seed", &seed, "--n", "500", "--maxs", "900"];
            assert_all_good(&probe(&folder, "h1fuzz.py", &gateway, origin, &more));
        }
    }
}
