//! docs/observability.md says what the program declares: every metric, every field of the access log, every end.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use gateway::telemetry::End;
use gateway::telemetry::names::METRICS;

const PAGE: &str = include_str!("../../docs/observability.md");
const NAMES: &str = include_str!("../src/telemetry/names.rs");

/// What stands between the page's markers of this name.
fn section(name: &str) -> &'static str {
    let (_, rest) = PAGE
        .split_once(&format!("<!-- {name}: begin -->\n"))
        .expect("a begin");
    let (section, _) = rest
        .split_once(&format!("<!-- {name}: end -->"))
        .expect("an end");
    section
}

/// The first column of a section's table, without its head and the quotes.
fn first_column(name: &str) -> Vec<&'static str> {
    section(name)
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn the_metrics_are_those_that_are_declared() {
    let mut table = "\n| metric | type | labels | what |\n|---|---|---|---|\n".to_owned();
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        let (name, kind) = (metric.name, metric.kind.name());
        table += &format!(
            "| `{name}` | {kind} | {} | {} |\n",
            labels.join(", "),
            metric.help
        );
    }
    table.push('\n');
    assert!(section("metrics") == table, "the page should say:\n{table}");
}

#[test]
fn the_fields_are_those_that_are_declared() {
    let (_, fields) = NAMES.split_once("pub mod field {").expect("the fields");
    let declared: Vec<&str> = fields
        .lines()
        .filter_map(|line| line.split_once(" = \"")?.1.strip_suffix("\";"))
        .collect();
    assert!(declared.len() > 20, "{declared:?}");
    assert_eq!(first_column("fields"), declared);
}

#[test]
fn the_ends_are_those_that_there_are() {
    let ends: Vec<&str> = End::ALL.iter().map(|end| end.name()).collect();
    assert_eq!(first_column("ends"), ends);
}
