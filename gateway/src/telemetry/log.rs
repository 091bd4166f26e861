//! The process log: what happens to the gateway itself, a line each, on standard error. Never one line per request.
//!
//! A line begins with its time, but for those that the journal of systemd reads: it has a time of its own, and takes a
//! priority in angle brackets for its `PRIORITY` (sd-daemon(3)).

use std::ffi::OsStr;
use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use super::time::rfc3339_ms;

/// Set by systemd where standard output or error is a stream of the journal: `DEVICE:INODE` (systemd.exec(5)).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

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

    /// As syslog(3) numbers them.
    const fn priority(self) -> u8 {
        match self {
            Self::Info => 6,
            Self::Warn => 4,
            Self::Error => 3,
        }
    }
}

/// What stands before a line's level.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// When it was said, since 1970.
    Time(Duration),
    /// `<6>`, for the journal.
    Priority,
}

impl Head {
    #[expect(
        clippy::disallowed_methods,
        reason = "the time of a line that is written now; never on the way of a request"
    )]
    fn now() -> Self {
        static JOURNAL: OnceLock<bool> = OnceLock::new();
        let journal = JOURNAL.get_or_init(|| {
            is_stream(
                std::io::stderr(),
                std::env::var_os(JOURNAL_STREAM).as_deref(),
            )
        });
        if *journal {
            return Self::Priority;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::Time(since.unwrap_or_default())
    }
}

/// `descriptor` is the stream that `named` tells of, `DEVICE:INODE`. The variable alone says nothing: children inherit it, whatever
/// their standard error is.
#[expect(
    clippy::disallowed_types,
    reason = "fstat of a descriptor that is open; nothing is read"
)]
fn is_stream(descriptor: impl AsFd, named: Option<&OsStr>) -> bool {
    let Some((device, inode)) = named.and_then(|it| it.to_str()?.split_once(':')) else {
        return false;
    };
    let Ok(copy) = descriptor.as_fd().try_clone_to_owned() else {
        return false;
    };
    std::fs::File::from(copy)
        .metadata()
        .is_ok_and(|it| device.parse() == Ok(it.dev()) && inode.parse() == Ok(it.ino()))
}

/// Fields of a line: names of this program, values of any origin.
pub type Fields<'a> = &'a [(&'a str, &'a dyn Display)];

/// Writes `TIME info MESSAGE key=value …`. Allocates and may wait for standard error: not for the request path.
pub fn info(message: &str, fields: Fields<'_>) {
    emit(Level::Info, message, fields);
}

/// Writes `TIME warn MESSAGE key=value …`.
pub fn warn(message: &str, fields: Fields<'_>) {
    emit(Level::Warn, message, fields);
}

/// Writes `TIME error MESSAGE key=value …`.
pub fn error(message: &str, fields: Fields<'_>) {
    emit(Level::Error, message, fields);
}

fn emit(level: Level, message: &str, fields: Fields<'_>) {
    let line = line(Head::now(), level, message, fields);
    // A closed or full standard error must not end the gateway, as `eprintln!` would.
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

fn line(head: Head, level: Level, message: &str, fields: Fields<'_>) -> String {
    let mut line = match head {
        Head::Time(since) => format!("{} ", rfc3339_ms(since)),
        Head::Priority => format!("<{}>", level.priority()),
    };
    // Writing to a string cannot fail.
    let _ = write!(line, "{:<5} {message}", level.name());
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
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_line_is_time_level_message_and_fields() {
        let text = line(
            Head::Time(Duration::from_millis(1_700_000_000_042)),
            Level::Warn,
            "names wait",
            &[("port", &80), ("why", &"not \"yet\"\nready")],
        );
        assert_eq!(
            text,
            "2023-11-14T22:13:20.042Z warn  names wait port=80 why=\"not \\\"yet\\\"\\nready\"\n"
        );
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let lines = [Level::Info, Level::Warn, Level::Error]
            .map(|level| line(Head::Priority, level, "it is", &[]));
        assert_eq!(
            lines,
            ["<6>info  it is\n", "<4>warn  it is\n", "<3>error it is\n"]
        );
    }

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        let (here, _there) = std::io::pipe().unwrap();
        let data = std::fs::metadata(format!("/proc/self/fd/{}", here.as_raw_fd())).unwrap();
        let named = |text: String| is_stream(&here, Some(OsStr::new(&text)));
        assert!(named(format!("{}:{}", data.dev(), data.ino())));
        for other in [
            format!("{}:{}", data.dev(), data.ino() + 1),
            format!("{}:{}", data.dev() + 1, data.ino()),
            format!("{}", data.ino()),
            format!("{}:{}:", data.dev(), data.ino()),
            ":".to_owned(),
            String::new(),
        ] {
            assert!(!named(other.clone()), "{other:?}");
        }
        assert!(!is_stream(&here, None));
    }
}
