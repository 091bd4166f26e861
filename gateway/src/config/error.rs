//! What is wrong with a configuration, and where.

use std::fmt;

/// Problems listed in full; further ones are only counted.
pub(super) const PROBLEMS_MAX: usize = 200;

/// Everything wrong with one configuration, in the order of the text; never empty.
///
/// Displayed one problem a line, as `file:line:column: error: key: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file as it was named by the user.
    pub file: String,
    /// The first problems, at most 200.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub unlisted: usize,
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is; `None`: the file as a whole, for instance one that cannot be read.
    pub position: Option<Position>,
    /// The key with its sections, such as `listeners.address`; empty for a mistake in the TOML itself.
    pub key: String,
    /// What is wrong and what to write instead. Never holds a value that came from the environment.
    pub message: String,
}

/// A place in the text. Ordered as in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The position of the character at (or around) byte `offset` of `text`.
    ///
    /// An offset beyond the end is the end. Cost: one pass over the text before it.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let in_line = before.get(line_start..).unwrap_or_default();
        Self {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            // Every byte that does not continue a UTF-8 sequence begins a character.
            column: in_line.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() + 1,
        }
    }
}

impl ConfigErrors {
    /// One problem with the file as a whole.
    pub(crate) fn whole_file(file: &str, message: String) -> Self {
        let problem = Problem {
            position: None,
            key: String::new(),
            message,
        };
        Self {
            file: file.to_owned(),
            problems: vec![problem],
            unlisted: 0,
        }
    }
}

/// What is doubtful about a configuration that is served all the same, in the order of the text.
///
/// Displayed as [`ConfigErrors`] are, with `warning` in place of `error`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigWarnings {
    /// The file as it was named by the user.
    pub file: String,
    /// The doubts, at most 200.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigWarnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(f, &self.file, "warning", &self.problems)
    }
}

fn write_lines(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    word: &str,
    problems: &[Problem],
) -> fmt::Result {
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 {
            f.write_str("\n")?;
        }
        write!(f, "{file}:")?;
        match problem.position {
            Some(Position { line, column }) => write!(f, "{line}:{column}: ")?,
            None => f.write_str(" ")?,
        }
        write!(f, "{word}: ")?;
        if !problem.key.is_empty() {
            write!(f, "{}: ", problem.key)?;
        }
        f.write_str(&problem.message)?;
    }
    Ok(())
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(f, &self.file, "error", &self.problems)?;
        if self.unlisted > 0 {
            write!(f, "\n{}: error: and {} more", self.file, self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::Position;

    #[test]
    fn columns_count_characters_from_one() {
        let text = "é = 1\nnaïve = 'x'\n";
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 2), Position { line: 1, column: 2 });
        let quote = text.find('\'').unwrap();
        assert_eq!(Position::of(text, quote), Position { line: 2, column: 9 });
        assert_eq!(Position::of(text, 1000), Position { line: 3, column: 1 });
    }
}
