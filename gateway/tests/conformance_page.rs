//! `docs/conformance.md` names tests for each rule: they are there.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

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

#[test]
fn the_tests_that_the_page_names_are_there() {
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
    let page = fs::read_to_string(root.join("../docs/conformance.md")).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .collect();
    assert!(named.len() > 80, "only {} tests are named", named.len());
    for (file, test) in named {
        let text = texts
            .get(file)
            .unwrap_or_else(|| panic!("no file {file}.rs"));
        assert!(
            text.contains(&format!("fn {test}(")),
            "no {test} in {file}.rs"
        );
    }
}
