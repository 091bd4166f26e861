//! The files of the project, and the checks that are made of each. A check returns what is wrong, one line each.

pub(crate) mod imports;
pub(crate) mod lexer;

use std::fs;
use std::path::Path;

use lexer::{Kind, Token, lex};

/// A file longer than this is two.
pub(crate) const FILE_LINES_MAX: usize = 700;
/// So is a function.
pub(crate) const FUNCTION_LINES_MAX: usize = 100;

/// A text file of the project; `path` is relative to the project's root.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Of a Rust file; else empty.
    pub(crate) tokens: Vec<Token>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let is_rust = path.ends_with(".rs");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens: if is_rust { lex(text) } else { Vec::new() },
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_in(&self, directories: &[&str]) -> bool {
        directories
            .iter()
            .any(|directory| self.path.starts_with(directory))
    }

    fn code(&self) -> impl Iterator<Item = &Token> {
        self.tokens
            .iter()
            .filter(|token| matches!(token.kind, Kind::Word | Kind::Sign))
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Every text file below `root` that is the project's own.
pub(crate) fn project(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_symlink() || matches!(name, ".git" | "target" | "Cargo.lock" | "__pycache__")
            {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push(Source::new(relative, &text));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// The file opens by saying what it is for.
pub(crate) fn unintroduced(source: &Source) -> Vec<String> {
    if !source.is_rust() || source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![source.at(1, "does not open with `//!`")]
}

/// Too long a file, and too long functions.
pub(crate) fn too_long(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let lines = source.text.lines().count();
    let mut wrong = Vec::new();
    if lines > FILE_LINES_MAX {
        wrong.push(source.at(lines, &format!("{lines} lines, of {FILE_LINES_MAX}")));
    }
    for (name, from, to) in functions(source) {
        let lines = to - from + 1;
        if lines > FUNCTION_LINES_MAX {
            let what = format!("fn {name} has {lines} lines, of {FUNCTION_LINES_MAX}");
            wrong.push(source.at(from, &what));
        }
    }
    wrong
}

/// Name, first and last line of each function with a body.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let code: Vec<&Token> = source.code().collect();
    let mut found = Vec::new();
    for (index, token) in code.iter().enumerate() {
        let Some(name) = code
            .get(index + 1)
            .filter(|name| token.is_word("fn") && name.kind == Kind::Word)
        else {
            continue;
        };
        // The body is the first brace outside of all brackets; a `;` there means that there is none.
        let mut brackets = 0_usize;
        let mut braces = 0_usize;
        for token in code.iter().skip(index) {
            match token.text.as_str() {
                "(" | "[" => brackets += 1,
                ")" | "]" => brackets = brackets.saturating_sub(1),
                ";" if brackets == 0 && braces == 0 => break,
                "{" => braces += 1,
                "}" => {
                    braces -= 1;
                    if braces == 0 && brackets == 0 {
                        found.push((name.text.clone(), code[index].line, token.line));
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// `unsafe` in a file that is not in `allowed`.
pub(crate) fn unsafe_outside(source: &Source, allowed: &[(&str, &str)]) -> Vec<String> {
    if allowed.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    source
        .code()
        .filter(|token| token.is_word("unsafe"))
        .map(|token| source.at(token.line, "`unsafe` outside of the files that may hold it"))
        .collect()
}

/// A note of work to do that nobody can look up.
pub(crate) fn unnumbered_notes(source: &Source) -> Vec<String> {
    let comments = source
        .tokens
        .iter()
        .filter(|token| token.kind == Kind::Comment);
    let mut wrong = Vec::new();
    for comment in comments {
        for word in ["TODO", "FIXME", "XXX"] {
            let numbered = format!("{word}(#");
            if comment.text.matches(word).count() > comment.text.matches(&numbered).count() {
                wrong.push(source.at(
                    comment.line,
                    &format!("{word} without an issue: {word}(#1)"),
                ));
            }
        }
    }
    wrong
}

/// Paths of the machine that somebody worked on, and hosts of package registries: neither is anybody else's.
pub(crate) fn places(source: &Source) -> Vec<String> {
    // Written in two parts, or this file would be the first to be reported.
    let homes = [("/ro", "ot/"), ("/wo", "rk/"), ("/ho", "me/")];
    let hosts = [
        ("crates", ".io"),
        ("npmjs", ".org"),
        ("py", "pi.org"),
        ("docker", ".io"),
        ("gh", "cr.io"),
        ("deb.deb", "ian.org"),
        ("archive.ubu", "ntu.com"),
        ("proxy.gol", "ang.org"),
    ];
    let mut wrong = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        for (one, two) in homes {
            let home = format!("{one}{two}");
            let is_path = text.match_indices(&home).any(|(at, _)| {
                let before = text.get(..at).and_then(|before| before.chars().next_back());
                !before.is_some_and(|before| before.is_alphanumeric() || "._-}".contains(before))
            });
            if is_path {
                wrong.push(source.at(line, "a path of one machine"));
            }
        }
        if hosts
            .iter()
            .any(|(one, two)| text.contains(&format!("{one}{two}")))
        {
            wrong.push(source.at(line, "the host of a package registry"));
        }
    }
    wrong
}

/// What brings I/O, a runtime, a clock or waiting into a file that has none.
pub(crate) fn impure(source: &Source) -> Vec<String> {
    const WORDS: &[&str] = &[
        "async",
        "await",
        "monoio",
        "tokio",
        "hyper",
        "axum",
        "flume",
        "rtrb",
        "socket2",
        "io_uring",
        "File",
        "TcpListener",
        "TcpStream",
        "UdpSocket",
        "UnixListener",
        "UnixStream",
        "SystemTime",
    ];
    const PATHS: &[[&str; 2]] = &[
        ["std", "env"],
        ["std", "fs"],
        ["std", "os"],
        ["std", "process"],
        ["Instant", "now"],
    ];
    let code: Vec<&Token> = source.code().collect();
    let mut wrong = Vec::new();
    for (index, token) in code.iter().enumerate() {
        let follows = |by: usize, text: &str| code.get(index + by).is_some_and(|t| t.text == text);
        let is_runtime = token.is_word("runtime") && follows(1, "::");
        let is_path = PATHS
            .iter()
            .any(|[one, two]| token.is_word(one) && follows(1, "::") && follows(2, two));
        if is_runtime || is_path || WORDS.iter().any(|word| token.is_word(word)) {
            let next = code.get(index + 2).map_or("", |t| t.text.as_str());
            let what = format!(
                "`{}` ({next}): no I/O, no runtime, no clock here",
                token.text
            );
            wrong.push(source.at(token.line, &what));
        }
    }
    wrong
}

/// Strings that name a metric which `declared` does not know. `everywhere`: also outside of string literals, as in a
/// page of text.
pub(crate) fn undeclared_metrics(source: &Source, declared: &[&str]) -> Vec<String> {
    let texts: Vec<(usize, &str)> = if source.is_rust() {
        let strings = source.tokens.iter().filter(|t| t.kind == Kind::Text);
        strings.map(|t| (t.line, t.text.as_str())).collect()
    } else {
        (1..).zip(source.text.lines()).collect()
    };
    let mut wrong = Vec::new();
    for (line, text) in texts {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| is_metric_like(word)) {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            if !declared.contains(&family) && !declared.contains(&word) {
                wrong.push(source.at(line, &format!("metric {word} is not declared")));
            }
        }
    }
    wrong
}

fn is_metric_like(word: &str) -> bool {
    ["http_server_", "http_client_", "ringgate_", "process_"]
        .iter()
        .any(|prefix| word.starts_with(prefix) && word.len() > prefix.len())
}

/// Links of a page to files of the project that are not there.
pub(crate) fn dead_links(source: &Source, exists: impl Fn(&str) -> bool) -> Vec<String> {
    if !source.path.ends_with(".md") {
        return Vec::new();
    }
    let directory = source.path.rsplit_once('/').map_or("", |(path, _)| path);
    let mut wrong = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|it| it.split(')').next());
        for target in targets {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let mut path: Vec<&str> = directory.split('/').filter(|it| !it.is_empty()).collect();
            for part in file.split('/') {
                if part == ".." {
                    path.pop();
                } else if part != "." {
                    path.push(part);
                }
            }
            if !exists(path.join("/").trim_end_matches('/')) {
                wrong.push(source.at(line, &format!("{target} leads nowhere")));
            }
        }
    }
    wrong
}
