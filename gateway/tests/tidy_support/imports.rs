//! Which modules of the crate a file names: paths that begin with `crate`, `super` or `self`, groups written out.

use super::lexer::{Kind, Token};

/// A path from the crate's root, and the line on which it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// Module path of a file under `src`: `data/upstream/pool.rs` is `data`, `upstream`, `pool`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut path: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if path
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
    {
        path.pop();
    }
    path
}

/// Every path of the crate that the tokens of `module` name.
pub(crate) fn named(module: &[String], tokens: &[Token]) -> Vec<Named> {
    let code: Vec<&Token> = tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment)
        .collect();
    let mut reader = Reader {
        tokens: &code,
        at: 0,
        found: Vec::new(),
    };
    let mut module = module.to_vec();
    // Inline modules and the depth of braces at which each ends.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    while let Some(token) = reader.peek(0) {
        if reader.is_path_start() {
            reader.path(&module, Vec::new());
            continue;
        }
        if token.is_sign("{") {
            depth += 1;
            let opens = reader.back(2).is_some_and(|word| word.is_word("mod"));
            if let Some(name) = reader.back(1).filter(|_| opens) {
                inline.push(depth);
                module.push(name.text.clone());
            }
        } else if token.is_sign("}") {
            if inline.last() == Some(&depth) {
                inline.pop();
                module.pop();
            }
            depth = depth.saturating_sub(1);
        }
        reader.at += 1;
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [&'a Token],
    at: usize,
    found: Vec<Named>,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn back(&self, by: usize) -> Option<&'a Token> {
        self.at
            .checked_sub(by)
            .and_then(|at| self.tokens.get(at))
            .copied()
    }

    fn is_path_start(&self) -> bool {
        let is_root = self.peek(0).is_some_and(|token| {
            ["crate", "super", "self"]
                .iter()
                .any(|word| token.is_word(word))
        });
        // `pub(in crate::data)` says who may see, not what is seen; `x::self` is the end of a path.
        is_root
            && self.peek(1).is_some_and(|token| token.is_sign("::"))
            && !self
                .back(1)
                .is_some_and(|token| token.is_word("in") || token.is_sign("::"))
    }

    /// Reads one path or group, of which `prefix` has been read already, and leaves what follows unread.
    fn path(&mut self, module: &[String], mut prefix: Vec<String>) {
        let line = self.peek(0).map_or(0, |token| token.line);
        let mut is_first = prefix.is_empty();
        while let Some(token) = self.peek(0).filter(|token| token.kind == Kind::Word) {
            match token.text.as_str() {
                "crate" => {}
                "self" if is_first => prefix = module.to_vec(),
                "self" => {}
                "super" => {
                    if is_first {
                        prefix = module.to_vec();
                    }
                    prefix.pop();
                }
                name => prefix.push(name.to_owned()),
            }
            is_first = false;
            self.at += 1;
            if !self.peek(0).is_some_and(|token| token.is_sign("::")) {
                break;
            }
            self.at += 1;
            if self.peek(0).is_some_and(|token| token.is_sign("{")) {
                return self.group(module, &prefix);
            }
        }
        self.found.push(Named { path: prefix, line });
    }

    fn group(&mut self, module: &[String], prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.peek(0) {
            if token.is_sign("}") {
                self.at += 1;
                return;
            }
            if token.is_word("as") {
                self.at += 2;
            } else if token.kind == Kind::Word {
                self.path(module, prefix.to_vec());
            } else {
                self.at += 1;
            }
        }
    }
}
