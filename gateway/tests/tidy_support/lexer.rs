//! As much of Rust's lexical grammar as the tidy checks need: words, strings, signs and comments with their lines.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word, keyword or number.
    Word,
    /// A string of any kind; its text is what stands between the quotes.
    Text,
    /// A comment with its slashes.
    Comment,
    /// Any other sign; `::` is one.
    Sign,
}

/// A token and the line, counted from 1, on which it begins.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    pub(crate) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// The tokens of `source`, comments among them.
pub(crate) fn lex(source: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: source,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        let blank = self.rest.len() - self.rest.trim_start().len();
        self.take(blank);
        let line = self.line;
        let (kind, bytes, trim) = measure(self.rest)?;
        let whole = self.take(bytes);
        let text = whole.get(trim.0..whole.len() - trim.1).unwrap_or(whole);
        Some(Token {
            kind,
            text: text.to_owned(),
            line,
        })
    }

    /// The next `bytes` bytes; the lines in them are counted.
    fn take(&mut self, bytes: usize) -> &str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// Kind and length of the token at the start of `rest`, and what of it is quotes at either end.
fn measure(rest: &str) -> Option<(Kind, usize, (usize, usize))> {
    let first = rest.chars().next()?;
    if rest.starts_with("//") {
        return Some((Kind::Comment, rest.find('\n').unwrap_or(rest.len()), (0, 0)));
    }
    if rest.starts_with("/*") {
        return Some((Kind::Comment, block_comment(rest), (0, 0)));
    }
    if let Some((bytes, open, close)) = string(rest) {
        return Some((Kind::Text, bytes, (open, close)));
    }
    if first == '\'' {
        return Some((Kind::Sign, character(rest), (0, 0)));
    }
    if first.is_alphanumeric() || first == '_' {
        let bytes = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        return Some((Kind::Word, bytes, (0, 0)));
    }
    let bytes = if rest.starts_with("::") {
        2
    } else {
        first.len_utf8()
    };
    Some((Kind::Sign, bytes, (0, 0)))
}

/// Length of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a string literal and of its opening and closing quotes, if `rest` begins with one.
fn string(rest: &str) -> Option<(usize, usize, usize)> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix)
            .is_some_and(|tail| tail.starts_with(['"', '#']))
    })?;
    let after = rest.strip_prefix(prefix)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after.trim_start_matches('#').strip_prefix('"')?;
    let open = prefix.len() + hashes + 1;
    if prefix.contains('r') {
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&close).unwrap_or(body.len());
        return Some((open + end + close.len(), open, close.len()));
    }
    if hashes > 0 {
        return None;
    }
    let mut escaped = false;
    for (index, character) in body.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((open + index + 1, open, 1)),
            _ => {}
        }
    }
    Some((rest.len(), open, 0))
}

/// Length of what begins with an apostrophe: a character, or a lifetime's apostrophe alone.
fn character(rest: &str) -> usize {
    let mut inside = rest.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), Some(escape)) => {
            let from = 2 + escape.len_utf8();
            rest.get(from..)
                .and_then(|tail| tail.find('\''))
                .map_or(1, |end| from + end + 1)
        }
        (Some(one), Some('\'')) => one.len_utf8() + 2,
        _ => 1,
    }
}
