//! The HTML report in a real browser: what it draws in light and in dark, and whether anything has to be scrolled sideways.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Upstream, load};

/// Measures the page and leaves what it found in its title, as JSON.
const PROBE: &str = r#"<script>
const channel = text => text.match(/[\d.]+/g).slice(0, 3).map(value => {
  const part = value / 255;
  return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
});
const luminance = text => { const [r, g, b] = channel(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const background = getComputedStyle(document.body).backgroundColor;
// The contrast of WCAG 2: 1 is none, 21 is black on white.
const contrast = text => {
  const [a, b] = [luminance(text), luminance(background)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const wide = [...document.querySelectorAll('html, body, body *:not(svg, svg *)')]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline')
  .map(one => one.tagName + ' ' + one.scrollWidth + ' of ' + one.clientWidth);
const charts = [...document.querySelectorAll('svg')].map(svg => ({
  width: svg.getBoundingClientRect().width,
  height: svg.getBoundingClientRect().height,
  // A line of the legend is horizontal, and so is one of zeros: those with a height are of data.
  lines: [...svg.querySelectorAll('path.line')].map(path => {
    const box = path.getBBox(), style = getComputedStyle(path);
    return {
      width: box.width, height: box.height, stroke: style.stroke, contrast: contrast(style.stroke),
      inside: box.x >= 0 && box.y >= 0 && box.x + box.width <= 760 && box.y + box.height <= 300,
    };
  }),
  texts: [...svg.querySelectorAll('text')].map(text => contrast(getComputedStyle(text).fill)),
}));
document.title = JSON.stringify({
  dark: matchMedia('(prefers-color-scheme: dark)').matches, viewport: innerWidth, background, wide, charts,
  text: contrast(getComputedStyle(document.body).color),
});
</script>"#;

/// Names that the browser goes by.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The browser; without one the test is skipped, loudly, and with `CI=true` it fails.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| BROWSERS.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        let said = "SKIPPED (chromium is not installed: the HTML report is opened in no browser)";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
        // Past the harness, which keeps what passing tests print.
        std::io::Write::write_all(&mut std::io::stderr(), format!("{said}\n").as_bytes()).unwrap();
    }
    found
}

/// What the probe finds on `page` on a screen of `columns` pixels.
fn probe(browser: &Path, folder: &Path, page: &str, dark: bool, columns: u32) -> Value {
    let file = folder.join("probed.html");
    std::fs::write(&file, format!("{page}{PROBE}")).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!dark)
        ))
        .arg(format!("--window-size={columns},900"))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let title = dom
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"))
        .unwrap_or_else(|| panic!("no page: {output:?}"));
    serde_json::from_str(title.0).unwrap_or_else(|_| panic!("no findings: {}", title.0))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// The report of a run with a warm-up, a long path, an error with a long explanation and long notes.
fn report(folder: &Path) -> String {
    let upstream = Upstream::start("auto");
    let file = folder.join("report.html");
    let path = format!("/status/200?{}", "long=".repeat(60));
    // Above what one connection can have, so that requests wait and the notes say so.
    let output = load()
        .args([
            "--rate", "300", "-w", "1s", "-d", "1500ms", "-t", "1", "-c", "1",
        ])
        .args(["--connections-max", "1", "--lag-max", "1ns", "--html"])
        .arg(&file)
        .arg(upstream.url(&path))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn the_report_draws_its_charts_in_light_and_in_dark_and_nothing_scrolls_sideways() {
    let Some(browser) = browser() else { return };
    let folder = std::env::temp_dir().join(format!("ringgate-load-browser-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let page = report(&folder);
    let mut strokes = Vec::new();
    for (dark, columns) in [(false, 1280), (true, 1280), (false, 500), (true, 500)] {
        let found = probe(&browser, &folder, &page, dark, columns);
        assert_eq!(found["dark"], dark, "{found:#}");
        assert_eq!(found["wide"], serde_json::json!([]), "at {columns} pixels");
        assert!(number(&found["text"]) >= 7.0, "text is readable: {found:#}");
        let charts = found["charts"].as_array().unwrap();
        assert_eq!(charts.len(), 3);
        for chart in charts {
            assert!(number(&chart["width"]) <= f64::from(columns), "{chart:#}");
            assert!(number(&chart["height"]) > 100.0, "{chart:#}");
            let lines = chart["lines"].as_array().unwrap();
            let drawn = lines.iter().filter(|line| number(&line["height"]) > 1.0);
            assert!(drawn.count() >= 1, "a line that is data: {chart:#}");
            for line in lines {
                assert_eq!(line["inside"], true, "{chart:#}");
                assert!(
                    number(&line["contrast"]) >= 3.0,
                    "a line can be seen: {line:#}"
                );
                strokes.push((dark, line["stroke"].clone()));
            }
            for text in chart["texts"].as_array().unwrap() {
                assert!(number(text) >= 4.5, "its text can be read: {chart:#}");
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let in_dark = |dark| strokes.iter().filter(move |stroke| stroke.0 == dark);
    assert_eq!(in_dark(true).count(), in_dark(false).count());
    let mut pairs = in_dark(true).zip(in_dark(false));
    assert!(
        pairs.all(|(dark, light)| dark.1 != light.1),
        "colours follow the scheme"
    );
}
