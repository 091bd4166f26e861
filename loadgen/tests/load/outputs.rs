//! What a run leaves behind: HTML, CSV, and the lines while it runs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Upstream, load};

fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringgate-load-{}-{name}", std::process::id()))
}

fn take(path: &PathBuf) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    text
}

#[test]
fn the_html_report_is_one_file_with_three_charts_and_loads_nothing() {
    let upstream = Upstream::start("auto");
    let path = file("report.html");
    let output = load()
        .args([
            "--rate",
            "500",
            "-d",
            "300ms",
            "--lag-max",
            "60s",
            "--html",
            path.to_str().unwrap(),
        ])
        .arg(upstream.url("/?a=<b>&c"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let page = take(&path);
    assert_eq!(page.matches("<svg ").count(), 3);
    assert_eq!(
        page.matches("<svg ").count(),
        page.matches("</svg>").count()
    );
    for loaded in ["<script", "<link", "@import", "src=", "url("] {
        assert!(!page.contains(loaded), "{loaded}");
    }
    assert!(page.contains("prefers-color-scheme:dark"));
    assert!(page.contains("from the intended start") && page.contains("generator lag"));
    assert!(
        page.contains("/?a=&lt;b&gt;&amp;c") && !page.contains("<b>"),
        "what the user gave is escaped"
    );
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
    // The lines have points: a path that only moves draws nothing.
    let drawn = page
        .split("class=\"line")
        .filter(|path| path.contains('L'))
        .count();
    assert!(drawn >= 6, "{drawn}");
}

#[test]
fn the_csv_has_a_line_per_second_that_adds_up() {
    let upstream = Upstream::start("auto");
    let path = file("seconds.csv");
    let output = load()
        .args([
            "--rate",
            "200",
            "-d",
            "1500ms",
            "-w",
            "500ms",
            "--lag-max",
            "60s",
            "--csv",
            path.to_str().unwrap(),
        ])
        .arg(upstream.url("/"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = take(&path);
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(names[..4], ["start_s", "warmup", "responses", "failed"]);
    let rows: Vec<Vec<f64>> = lines
        .map(|line| {
            // What was not measured is an empty cell.
            let cells = line.split(',').filter(|cell| !cell.is_empty());
            cells.map(|cell| cell.parse().unwrap()).collect()
        })
        .collect();
    assert!(
        rows.len() >= 2 && rows[..2].iter().all(|row| row.len() == names.len()),
        "{text}"
    );
    assert_eq!(rows.iter().map(|row| row[1]).sum::<f64>(), 100.0);
    assert_eq!(rows.iter().map(|row| row[2]).sum::<f64>(), 300.0);
    assert!(
        rows.iter()
            .zip(0_u32..)
            .all(|(row, second)| row[0] == f64::from(second)),
        "{text}"
    );
}

#[test]
fn the_live_view_is_plain_lines_where_it_is_asked_for_and_no_terminal() {
    let upstream = Upstream::start("auto");
    let lines = |live: &str| {
        let output = load()
            .args(["-n", "50", "-c", "1", "--live", live])
            .arg(upstream.url("/"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let plain = lines("always");
    assert!(
        plain.lines().count() >= 1 && plain.contains("p99") && !plain.contains('\x1b'),
        "{plain:?}"
    );
    assert_eq!(lines("auto"), "");
    assert_eq!(lines("never"), "");
}

/// Runs `arguments` on a terminal of `script`'s; all that came to it. `None`: the test is skipped, loudly.
fn on_a_terminal(arguments: &str) -> Option<String> {
    let program = load().get_program().to_str().unwrap().to_owned();
    let output = Command::new("script")
        .args(["-qec", &format!("{program} {arguments}"), "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            let said =
                format!("SKIPPED (script(1) cannot be run: {error}; no terminal to look at)");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
            // Past the harness, which keeps what passing tests print.
            std::io::Write::write_all(&mut std::io::stderr(), format!("{said}\n").as_bytes())
                .unwrap();
            None
        }
    }
}

#[test]
fn the_live_view_is_a_panel_that_is_written_over_on_a_terminal_and_gone_at_the_end() {
    let upstream = Upstream::start("auto");
    let url = upstream.url("/");
    let run = format!("--rate 200 -d 1s --lag-max 60s {url}");
    let Some(shown) = on_a_terminal(&run) else {
        return;
    };
    for part in ["so far", "of 200/s", "errors", "lag"] {
        assert!(shown.contains(part), "{part}: {shown:?}");
    }
    // Back to its first line, at least once, and then all of it is taken away before the summary.
    let up = "\x1b[9A\r";
    assert!(shown.matches(up).count() >= 2, "{shown:?}");
    let (panel, summary) = shown.rsplit_once("\x1b[9A\r\x1b[J").unwrap();
    assert!(
        panel.contains("so far") && !summary.contains("so far"),
        "{shown:?}"
    );
    assert!(summary.contains("requests   200 sent"), "{shown:?}");
    let none = on_a_terminal(&format!("--live never {run}")).unwrap();
    assert!(!none.contains('\x1b'), "{none:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_1() {
    let upstream = Upstream::start("auto");
    for option in ["--json", "--html", "--csv"] {
        let output = load()
            .args(["-n", "5", "-c", "1", option, "/no/such/folder/file"])
            .arg(upstream.url("/"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{option}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("/no/such/folder/file"), "{stderr}");
    }
}
