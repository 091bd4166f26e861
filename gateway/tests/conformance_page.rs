//! `docs/conformance.md` names tests for each rule, `docs/comparison.md` for each yes: they are there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of a test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// How many of the tests that a page names there are; it panics at one that is missing.
fn named_by(page: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests", "src", "../runtime/src"] {
        sources(&root.join(folder), &mut files);
    }
    let mut texts: HashMap<String, String> = HashMap::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        texts.entry(name).or_default().push_str(&text);
    }
    let page = fs::read_to_string(root.join("../docs").join(page)).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .collect();
    for &(file, test) in &named {
        let text = texts
            .get(file)
            .unwrap_or_else(|| panic!("no file {file}.rs"));
        assert!(
            text.contains(&format!("fn {test}(")),
            "no {test} in {file}.rs"
        );
    }
    named.len()
}

#[test]
fn the_tests_that_the_page_of_rules_names_are_there() {
    assert!(named_by("conformance.md") > 80);
}

#[test]
fn the_tests_that_the_comparison_names_are_there() {
    assert!(named_by("comparison.md") > 40);
}

/// Rows of the comparison in which our column says yes and names no test.
fn unshown(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let ours = rows.filter_map(|row| Some((row, row.split(" | ").nth(1)?)));
    let yes = ours.filter(|(_, cell)| cell.starts_with("yes") && !cell.contains("::"));
    yes.map(|(row, _)| row).collect()
}

#[test]
fn every_yes_of_ours_names_a_test() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/comparison.md");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.matches("| yes `").count() > 40);
    assert_eq!(unshown(&page), Vec::<&str>::new());
    assert_eq!(
        unshown("| a | yes `x::y` | – |\n| b | yes | – |\n| c | – | yes |"),
        ["| b | yes | – |"]
    );
}
