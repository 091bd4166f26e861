//! The thread that writes the access log: takes records out of the workers' rings, formats them, writes batches.
//!
//! It never makes a worker wait. A sink that is full, gone or blocked costs records, and they are counted.

pub mod format;
mod json;
mod sink;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::{AccessLogConfig, LogSink};
use crate::telemetry::ring::{self, RING_BYTES};
use crate::telemetry::{Labels, LogReader, LogWriter, ProcessMetrics};

use format::Lines;
use sink::{Outcome, Sink};

/// How long a record may lie in its ring when there is little to do.
const POLL: Duration = Duration::from_millis(40);
/// A batch is written when it has this many bytes, or when the rings are empty. A larger one would make no byte cheaper,
/// and push what the worker of the same core needs out of its cache.
const BATCH_BYTES: usize = 64 * 1024;
/// Records taken from one ring before the next one's turn: a batch of lines of usual length.
const RECORDS_PER_TURN: usize = 128;

/// The access log as the rest of the control plane sees it.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    rings: flume::Sender<LogReader>,
    ended: flume::Receiver<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    reopen: AtomicBool,
}

/// Values of `Shared::phase`: write; write what is left and end; end.
const RUN: u8 = 0;
const FLUSH: u8 = 1;
const ABANDON: u8 = 2;

impl AccessLog {
    /// Opens the sink and starts the thread; `None`: the log is off.
    ///
    /// # Errors
    /// The sink cannot be opened, or the thread not started.
    pub fn start(
        config: &AccessLogConfig,
        labels: Arc<Labels>,
        process: Arc<ProcessMetrics>,
    ) -> io::Result<Option<Self>> {
        let sink = match &config.sink {
            LogSink::Off => return Ok(None),
            LogSink::Stdout => Sink::stdout()?,
            LogSink::File(path) => Sink::file(path)?,
        };
        let shared = Arc::new(Shared {
            phase: AtomicU8::new(RUN),
            reopen: AtomicBool::new(false),
        });
        let (rings, new_rings) = flume::unbounded();
        let (end, ended) = flume::bounded::<()>(0);
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            new_rings,
            rings: Vec::new(),
            sink,
            lines: Lines::new(config.format, &labels),
            process,
        };
        let thread = thread::Builder::new()
            .name("ringgate-log".to_owned())
            .spawn(move || {
                writer.run();
                drop(end);
            })?;
        Ok(Some(Self {
            shared,
            rings,
            ended,
            thread,
        }))
    }

    /// A ring for this worker, new or replaced. What the predecessor of a replaced worker left is still written.
    #[must_use]
    pub fn register(&self, worker: usize) -> LogWriter {
        let (writer, reader) = ring::ring(worker, RING_BYTES, self.thread.thread().clone());
        // Fails only after the writer ended, at shutdown; then nobody reads records any more.
        drop(self.rings.send(reader));
        writer
    }

    /// Opens the file again, so that one that was renamed can be compressed or removed. Does not wait.
    pub fn reopen(&self) {
        // Pairs with the swap of the writer's loop; no other memory hangs on it.
        self.shared.reopen.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }

    /// Writes what the rings hold and ends the thread. False: it did not end `within` this time, because its sink is
    /// blocked; the thread then ends when the sink lets it, or with the process.
    ///
    /// The workers must have stopped, or their last records may be missed.
    #[must_use]
    pub fn shutdown(self, within: Duration) -> bool {
        // Release pairs with the acquire of the writer's loop: it sees every ring registered before.
        self.shared.phase.store(FLUSH, Ordering::Release);
        self.thread.thread().unpark();
        let ended = self.ended.recv_timeout(within) != Err(flume::RecvTimeoutError::Timeout);
        if ended {
            return self.thread.join().is_ok();
        }
        self.shared.phase.store(ABANDON, Ordering::Release);
        self.thread.thread().unpark();
        false
    }
}

/// The state of the thread.
struct Writer {
    shared: Arc<Shared>,
    new_rings: flume::Receiver<LogReader>,
    rings: Vec<LogReader>,
    sink: Sink,
    lines: Lines,
    process: Arc<ProcessMetrics>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            // Read before the rings are, so that the last turn sees what was there when the end was asked for.
            let phase = self.shared.phase.load(Ordering::Acquire);
            if phase == ABANDON {
                return;
            }
            self.rings.extend(self.new_rings.try_iter());
            if self.shared.reopen.swap(false, Ordering::Relaxed) {
                self.sink.reopen();
            }
            let turn = self.turn();
            self.rings.retain(|ring| !ring.is_finished());
            match turn {
                Turn::More => {}
                Turn::Done if phase == FLUSH => return,
                // Waiting also when there was something to write makes few large writes out of many small ones.
                Turn::Done | Turn::Blocked => thread::park_timeout(POLL),
            }
        }
    }

    /// Formats and writes one batch.
    fn turn(&mut self) -> Turn {
        // What a blocked sink did not take goes first; while it waits, the rings fill and workers count drops.
        if self.sink.is_pending() && self.write() == Turn::Blocked {
            return Turn::Blocked;
        }
        let more = self.take();
        match self.write() {
            Turn::Blocked => Turn::Blocked,
            _ if more => Turn::More,
            _ => Turn::Done,
        }
    }

    /// Fills the batch; true: the rings hold more.
    fn take(&mut self) -> bool {
        let mut more = false;
        for ring in &mut self.rings {
            let (worker, lines, batch) = (ring.worker(), &mut self.lines, self.sink.batch());
            let taken = ring.take(RECORDS_PER_TURN, |record| lines.line(record, worker, batch));
            more |= taken == RECORDS_PER_TURN;
            if self.sink.batch().len() >= BATCH_BYTES {
                more = true;
                break;
            }
        }
        // The ring after the last one served comes first next time.
        if more && !self.rings.is_empty() {
            self.rings.rotate_left(1);
        }
        more
    }

    fn write(&mut self) -> Turn {
        match self.sink.write() {
            Outcome::Written => Turn::Done,
            Outcome::Blocked => Turn::Blocked,
            Outcome::Lost(records) => {
                self.process.access_log_lost(records);
                Turn::Done
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    More,
    Blocked,
}
