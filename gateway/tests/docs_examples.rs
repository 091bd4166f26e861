//! The pieces of configuration that README and the pages show are read without a mistake.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use gateway::config::{ConfigSource, load};
use toml::{Table, Value};

/// Files that a piece may name are here; the test puts files of its own in their places.
const FOLDER: &str = "/etc/ringgate/";
/// A bundle of authorities is read as such.
const AUTHORITY: &str = include_str!("keys/tls/ca.pem");

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let pages = docs.map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|it| it == "md"));
    pages.chain([root.join("README.md")]).collect()
}

/// Each piece in TOML of a page, and the line where it begins.
fn pieces(page: &str) -> Vec<(usize, String)> {
    let mut pieces = Vec::new();
    let mut piece: Option<(usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        match &mut piece {
            Some(_) if line == "```" => pieces.extend(piece.take()),
            Some((_, text)) => text.extend([line, "\n"]),
            None if line == "```toml" => piece = Some((index + 2, String::new())),
            None => {}
        }
    }
    pieces
}

/// A whole configuration of a piece: with a listener, and an upstream for each name.
fn completed(piece: &str, files: &Path) -> String {
    let mut table: Table = toml::from_str(piece).unwrap();
    table.entry("version").or_insert(Value::Integer(1));
    let listener: Value = "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\""
        .parse::<Table>()
        .unwrap()
        .remove("listeners")
        .unwrap();
    table.entry("listeners").or_insert(listener);
    let mut names = Vec::new();
    find(&Value::Table(table.clone()), &mut |key, value| {
        if let ("upstream", Value::String(name)) = (key, value) {
            names.push(name.clone());
        }
    });
    let upstreams = table
        .entry("upstreams")
        .or_insert_with(|| Table::new().into());
    let upstreams = upstreams.as_table_mut().unwrap();
    for name in names {
        upstreams.entry(name).or_insert_with(|| Table::new().into());
    }
    for (_, upstream) in upstreams {
        let endpoints: Table = "it = [{ address = \"10.0.0.1:80\" }]".parse().unwrap();
        let upstream = upstream.as_table_mut().unwrap();
        upstream
            .entry("endpoints")
            .or_insert(endpoints["it"].clone());
    }
    let text = table.to_string();
    for name in text.split(FOLDER).skip(1) {
        let name = name.split('"').next().unwrap();
        let content = if name.ends_with(".pem") {
            AUTHORITY
        } else {
            ""
        };
        fs::write(files.join(name), content).unwrap();
    }
    text.replace(FOLDER, &format!("{}/", files.display()))
}

fn find(value: &Value, see: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                see(key, value);
                find(value, see);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| find(value, see)),
        _ => {}
    }
}

#[test]
fn each_piece_of_configuration_in_the_documents_is_read_without_a_mistake() {
    let files = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs-examples");
    fs::create_dir_all(&files).unwrap();
    let (mut read, mut wrong) = (0, Vec::new());
    for page in pages() {
        for (line, piece) in pieces(&fs::read_to_string(&page).unwrap()) {
            // A scenario of the load generator, which has a test of its own.
            if piece.starts_with("[[requests]]") {
                continue;
            }
            let text = completed(&piece, &files);
            let source = ConfigSource::Text {
                name: "piece",
                text: &text,
            };
            read += 1;
            if let Err(errors) = load(source, &|_| None) {
                wrong.push(format!("{}:{line}:\n{errors}\n{text}", page.display()));
            }
        }
    }
    assert!(read >= 16, "{read} pieces were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_piece_with_a_mistake_is_found() {
    let files = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let page = "text\n```toml\n[limits.a]\nrat = \"1/s\"\n```\n";
    let [(line, piece)] = &pieces(page)[..] else {
        panic!("one piece")
    };
    assert_eq!(*line, 3);
    let text = completed(piece, files);
    let source = ConfigSource::Text {
        name: "piece",
        text: &text,
    };
    let errors = load(source, &|_| None).unwrap_err().to_string();
    assert!(errors.contains("did you mean `rate`"), "{errors}");
}
