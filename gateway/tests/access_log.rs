//! The access log through its public interface: what reaches the sink, and what a bad sink costs.

#![expect(clippy::unwrap_used, reason = "test helpers")]
#![expect(clippy::disallowed_types, reason = "tests may wait for files")]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gateway::config::{AccessLogConfig, LogFormat, LogSink};
use gateway::control::access_log::AccessLog;
use gateway::telemetry::{AccessRecord, Labels, LogWriter, ProcessMetrics};
use serde_json::Value;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

struct Fixture {
    log: AccessLog,
    process: Arc<ProcessMetrics>,
}

fn start(path: &Path) -> Fixture {
    let sink = LogSink::File(path.to_owned());
    let config = AccessLogConfig {
        sink,
        format: LogFormat::Json,
        position: None,
    };
    let process = Arc::new(ProcessMetrics::default());
    let labels = Arc::new(Labels::default());
    let log = AccessLog::start(&config, labels, Arc::clone(&process))
        .unwrap()
        .unwrap();
    Fixture { log, process }
}

/// A path of this test's own where nothing is.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_file(&path));
    path
}

fn pipe(name: &str) -> PathBuf {
    let path = fresh(name);
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

/// Opening must not wait for the log to open its end.
fn open_reader(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .unwrap()
}

fn push(writer: &LogWriter, number: u64) -> bool {
    let path = [b'p'; 400];
    writer.push(&AccessRecord {
        request_body_bytes: number,
        path: &path,
        ..AccessRecord::default()
    })
}

fn number(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["http.request.body.size"]
        .as_u64()
        .unwrap()
}

/// Reads from a pipe until the record with this number is there.
fn read_through(mut reader: File, last: u64) -> Vec<u8> {
    let mut text = Vec::new();
    let end = format!("\"http.request.body.size\":{last},");
    wait_until(|| {
        let mut piece = [0; 4096];
        match reader.read(&mut piece) {
            Ok(count) => text.extend_from_slice(&piece[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let line = text
            .rsplit(|byte| *byte == b'\n')
            .nth(1)
            .unwrap_or_default();
        text.ends_with(b"\n") && line.windows(end.len()).any(|part| part == end.as_bytes())
    });
    text
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let met = (0..10_000).any(|_| {
        let met = condition();
        if !met {
            thread::park_timeout(Duration::from_millis(1));
        }
        met
    });
    assert!(met, "waited in vain");
}

#[test]
fn every_record_of_every_worker_is_a_line_after_the_shutdown() {
    let path = fresh("all.log");
    let Fixture { log, process } = start(&path);
    thread::scope(|scope| {
        for worker in 0..3 {
            let log = &log;
            scope.spawn(move || {
                let writer = log.register(worker);
                for sent in 0..5_000 {
                    // A full ring waits here so that the count below is exact.
                    wait_until(|| push(&writer, sent));
                }
            });
        }
    });
    assert!(log.shutdown(LONG));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 15_000);
    let mut next = [0; 3];
    for line in text.lines() {
        let worker = serde_json::from_str::<Value>(line).unwrap()["ringgate.worker"]
            .as_u64()
            .unwrap();
        let next = &mut next[usize::try_from(worker).unwrap()];
        assert_eq!(number(line), *next, "in the order of its worker");
        *next += 1;
    }
    assert_eq!(process.access_log_lost_total(), 0);
}

#[test]
fn a_record_is_written_without_a_push_after_it() {
    let path = fresh("lone.log");
    let Fixture { log, .. } = start(&path);
    let writer = log.register(0);
    assert!(push(&writer, 7));
    wait_until(|| fs::read_to_string(&path).unwrap().ends_with("}\n"));
    assert!(log.shutdown(LONG));
}

#[test]
fn what_a_dead_worker_left_is_written_beside_its_replacement() {
    let path = fresh("replaced.log");
    let Fixture { log, .. } = start(&path);
    let dead = log.register(0);
    assert!(push(&dead, 1));
    drop(dead);
    let replacement = log.register(0);
    assert!(push(&replacement, 2));
    assert!(log.shutdown(LONG));
    let mut numbers: Vec<u64> = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn a_reopened_log_goes_on_in_a_new_file() {
    let path = fresh("rotated.log");
    let old = fresh("rotated.log.1");
    let Fixture { log, .. } = start(&path);
    let writer = log.register(0);
    assert!(push(&writer, 0));
    wait_until(|| fs::metadata(&path).unwrap().len() > 0);
    fs::rename(&path, &old).unwrap();
    log.reopen();
    wait_until(|| path.exists());
    assert!(push(&writer, 1));
    assert!(log.shutdown(LONG));
    assert_eq!(
        fs::read_to_string(&old)
            .unwrap()
            .lines()
            .map(number)
            .collect::<Vec<_>>(),
        [0]
    );
    assert_eq!(
        fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(number)
            .collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn a_log_that_cannot_be_reopened_keeps_its_file() {
    let directory = fresh("gone");
    drop(fs::remove_dir_all(&directory));
    fs::create_dir(&directory).unwrap();
    let path = directory.join("a.log");
    let Fixture { log, .. } = start(&path);
    let mut kept = File::open(&path).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    log.reopen();
    let writer = log.register(0);
    assert!(push(&writer, 3));
    assert!(log.shutdown(LONG));
    let mut text = String::new();
    kept.read_to_string(&mut text).unwrap();
    assert_eq!(number(&text), 3);
}

#[test]
fn a_full_disk_costs_records_and_nothing_else() {
    let Fixture { log, process } = start(Path::new("/dev/full"));
    let writer = log.register(0);
    assert!(push(&writer, 0));
    assert!(push(&writer, 1));
    wait_until(|| process.access_log_lost_total() == 2);
    assert!(push(&writer, 2));
    assert!(log.shutdown(LONG));
    assert_eq!(process.access_log_lost_total(), 3);
}

#[test]
fn a_slow_reader_of_a_pipe_loses_nothing_that_fits_the_ring() {
    let path = pipe("slow.pipe");
    let reader = open_reader(&path);
    let Fixture { log, process } = start(&path);
    let writer = log.register(0);
    // Several times what a pipe holds, and less than the ring.
    let pushed = (0..1000).filter(|sent| push(&writer, *sent)).count();
    assert_eq!(pushed, 1000);
    let reading = thread::Builder::new().spawn(move || read_through(reader, 999));
    assert!(log.shutdown(LONG));
    let text = String::from_utf8(reading.unwrap().join().unwrap()).unwrap();
    assert!(text.lines().map(number).eq(0..1000));
    assert_eq!(process.access_log_lost_total(), 0);
}

#[test]
fn a_blocked_pipe_stops_neither_workers_nor_the_shutdown() {
    let path = pipe("blocked.pipe");
    let _reader = open_reader(&path);
    let Fixture { log, .. } = start(&path);
    let writer = log.register(0);
    let dropped = (0..20_000).filter(|sent| !push(&writer, *sent)).count();
    assert!(dropped > 0);
    assert!(!log.shutdown(Duration::from_millis(50)));
}

#[test]
fn a_log_that_is_off_has_no_thread_and_a_bad_path_is_an_error() {
    let start = |sink| {
        let config = AccessLogConfig {
            sink,
            format: LogFormat::Json,
            position: None,
        };
        AccessLog::start(&config, Arc::default(), Arc::default())
    };
    assert!(start(LogSink::Off).unwrap().is_none());
    assert!(start(LogSink::File("/nonexistent/a.log".into())).is_err());
}
