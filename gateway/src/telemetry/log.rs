//! The process log: what happens to the gateway itself, a line each, on standard error. Never one line per request.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Expected.
    Info,
    /// Works on, but somebody should look.
    Warn,
    /// Something does not work.
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Fields of a line: names of this program, values of any origin.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

/// Writes `info MESSAGE key=value …`. Allocates and may wait for standard error: not for the request path.
pub fn info(message: &str, fields: Fields<'_>) {
    emit(Level::Info, message, fields);
}

/// Writes `warn MESSAGE key=value …`.
pub fn warn(message: &str, fields: Fields<'_>) {
    emit(Level::Warn, message, fields);
}

/// Writes `error MESSAGE key=value …`.
pub fn error(message: &str, fields: Fields<'_>) {
    emit(Level::Error, message, fields);
}

fn emit(level: Level, message: &str, fields: Fields<'_>) {
    let line = line(level, message, fields);
    // A closed or full standard error must not end the gateway, as `eprintln!` would.
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

fn line(level: Level, message: &str, fields: Fields<'_>) -> String {
    let mut line = format!("{:<5} {message}", level.name());
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = write!(line, " {name}={}", Quoted(&value.to_string()));
    }
    line.push('\n');
    line
}

/// A value that cannot be taken for two values or two lines.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
        if !self.0.is_empty() && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Level, line};

    #[test]
    fn a_line_is_level_message_and_fields() {
        let text = line(
            Level::Warn,
            "names wait",
            &[("port", &80), ("why", &"not \"yet\"\nready")],
        );
        assert_eq!(
            text,
            "warn  names wait port=80 why=\"not \\\"yet\\\"\\nready\"\n"
        );
    }
}
