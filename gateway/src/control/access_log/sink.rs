//! Where lines go: standard output or a file. Knows what to do when it does not take them.

#![expect(
    clippy::disallowed_types,
    reason = "the log thread may wait for a file; nobody waits for it"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::telemetry::log;

/// An open sink and the batch on its way into it.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// `None`: standard output.
    path: Option<PathBuf>,
    /// Whole lines; those before `written` are in the file.
    batch: Vec<u8>,
    written: usize,
    /// The file ends inside a line of an earlier batch.
    torn: bool,
    /// The last write failed; said once, not once per batch.
    failing: bool,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is written.
    Written,
    /// The sink takes no more now; the rest stays in the batch.
    Blocked,
    /// So many of its lines are lost.
    Lost(u64),
}

impl Sink {
    pub(super) fn stdout() -> io::Result<Self> {
        // A descriptor of its own: `io::stdout` would search every batch for newlines under a lock.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(file, None))
    }

    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(open(path)?, Some(path.to_owned())))
    }

    fn new(file: File, path: Option<PathBuf>) -> Self {
        Self {
            file,
            path,
            batch: Vec::new(),
            written: 0,
            torn: false,
            failing: false,
        }
    }

    /// Opens the file again; keeps the old one if that fails.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                self.file = file;
                self.torn = false;
                // A line that the old file got half of is written whole to the new one.
                let line_end = self.batch[..self.written]
                    .iter()
                    .rposition(|byte| *byte == b'\n');
                self.written = line_end.map_or(0, |line_end| line_end + 1);
                log::info("access log reopened", &[("path", &path.display())]);
            }
            Err(error) => log::error(
                "access log not reopened, the old file stays in use",
                &[("path", &path.display()), ("error", &error)],
            ),
        }
    }

    /// Where whole lines are put before [`Self::write`].
    pub(super) fn batch(&mut self) -> &mut Vec<u8> {
        &mut self.batch
    }

    /// A blocked write left something.
    pub(super) fn is_pending(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Writes the batch; it is empty afterwards unless the sink is blocked.
    pub(super) fn write(&mut self) -> Outcome {
        let outcome = match self.write_all() {
            Ok(()) => {
                self.report_success();
                Outcome::Written
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Outcome::Blocked,
            Err(error) => {
                self.report_failure(&error);
                let (done, rest) = self.batch.split_at(self.written);
                self.torn = done.last().map_or(self.torn, |last| *last != b'\n');
                let lines = rest.iter().filter(|byte| **byte == b'\n').count();
                Outcome::Lost(u64::try_from(lines).unwrap_or(u64::MAX))
            }
        };
        self.batch.clear();
        self.written = 0;
        outcome
    }

    fn write_all(&mut self) -> io::Result<()> {
        while self.written < self.batch.len() {
            // A line that was cut short is ended first, so that it spoils no other.
            let ending = self.torn && self.written == 0;
            let bytes: &[u8] = if ending {
                b"\n"
            } else {
                &self.batch[self.written..]
            };
            match self.file.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) if ending => self.torn = false,
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn report_success(&mut self) {
        if self.failing && self.written > 0 {
            self.failing = false;
            log::info("access log is written again", &[("path", &self.name())]);
        }
    }

    fn report_failure(&mut self, error: &io::Error) {
        if !self.failing {
            self.failing = true;
            log::error(
                "access log loses records",
                &[("path", &self.name()), ("error", error)],
            );
        }
    }

    fn name(&self) -> String {
        self.path
            .as_ref()
            .map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        // A pipe without a reader fails here instead of stopping the start, and a full one blocks no thread.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::{ErrorKind, Read as _};
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{self, Command};

    use super::{Outcome, Sink};

    /// A named pipe that is removed at the end.
    struct Pipe(PathBuf);

    impl Pipe {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringgate-{}-{name}", process::id()));
            assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
            Self(path)
        }

        fn reader(&self) -> File {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&self.0)
                .unwrap()
        }
    }

    impl Drop for Pipe {
        fn drop(&mut self) {
            drop(fs::remove_file(&self.0));
        }
    }

    fn drain(reader: &mut File) -> Vec<u8> {
        let mut text = Vec::new();
        let error = reader.read_to_end(&mut text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        text
    }

    /// More than a pipe holds, in lines that do not end where a page does.
    const LINES: usize = 200_000 / LINE.len();
    const LINE: &[u8] = b"0123456789012345678901234567890123456\n";

    #[test]
    fn a_blocked_pipe_gets_the_rest_later() {
        let pipe = Pipe::new("rest");
        let mut reader = pipe.reader();
        let mut sink = Sink::file(&pipe.0).unwrap();
        sink.batch().extend(LINE.repeat(LINES));
        let mut text = Vec::new();
        while sink.write() == Outcome::Blocked {
            assert!(sink.is_pending());
            text.extend(drain(&mut reader));
        }
        assert!(!sink.is_pending());
        text.extend(drain(&mut reader));
        assert_eq!(text, LINE.repeat(LINES));
    }

    #[test]
    fn a_line_cut_short_is_ended_before_the_next_and_only_whole_lines_count() {
        let pipe = Pipe::new("torn");
        let reader = pipe.reader();
        let mut sink = Sink::file(&pipe.0).unwrap();
        sink.batch().extend(LINE.repeat(LINES));
        assert_eq!(sink.write(), Outcome::Blocked);
        drop(reader);
        let Outcome::Lost(lost) = sink.write() else {
            panic!("nobody reads")
        };
        assert!(!sink.is_pending());

        let mut reader = pipe.reader();
        let mut text = drain(&mut reader);
        sink.batch().extend(LINE);
        assert_eq!(sink.write(), Outcome::Written);
        text.extend(drain(&mut reader));
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let whole = lines.iter().filter(|line| **line == LINE).count();
        assert_eq!(lines.len() - whole, 1, "one line was cut");
        assert_eq!(whole - 1 + usize::try_from(lost).unwrap(), LINES);
    }

    #[test]
    fn a_new_file_gets_whole_the_line_that_the_old_one_got_half_of() {
        let pipe = Pipe::new("moved");
        let _reader = pipe.reader();
        let mut sink = Sink::file(&pipe.0).unwrap();
        sink.batch().extend(LINE.repeat(LINES));
        assert_eq!(sink.write(), Outcome::Blocked);
        fs::remove_file(&pipe.0).unwrap();
        sink.reopen();
        assert_eq!(sink.write(), Outcome::Written);
        let text = fs::read(&pipe.0).unwrap();
        assert!(text.len() > LINE.len() && text.chunks(LINE.len()).all(|line| line == LINE));
    }

    #[test]
    fn a_full_disk_loses_the_lines_of_the_batch() {
        let mut sink = Sink::file(Path::new("/dev/full")).unwrap();
        sink.batch().extend(LINE.repeat(3));
        assert_eq!(sink.write(), Outcome::Lost(3));
        assert_eq!(sink.write(), Outcome::Written, "nothing is left to write");
    }
}
