//! The way of access records out of a worker: a bounded ring of bytes with one writer and one reader, and no lock.
//!
//! A full ring costs the record. The reader polls; the writer wakes it only when the ring is filling faster than
//! that, so that a worker makes no system call per request.

use std::cell::RefCell;
use std::fmt;
use std::thread::Thread;

use rtrb::{Consumer, Producer, RingBuffer};

use super::record::{AccessRecord, RECORD_BYTES_MAX};

/// Size of a ring in bytes: some two thousand records of common length for each worker.
pub const RING_BYTES: usize = 1 << 20;
/// The reader is woken when this part of a ring is used: early enough that it can drain the ring before it is full.
const WAKE_DIVISOR: usize = 4;
/// Each record follows its length.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Makes a ring of `bytes`. `reader` is the thread that will hold the [`LogReader`], woken as the ring fills.
#[must_use]
pub fn ring(worker: usize, bytes: usize, reader: Thread) -> (LogWriter, LogReader) {
    let (producer, consumer) = RingBuffer::new(bytes);
    let scratch = Vec::with_capacity(LENGTH_BYTES + RECORD_BYTES_MAX);
    let writer = LogWriter {
        inner: RefCell::new(Inner { producer, scratch }),
        reader,
    };
    (
        writer,
        LogReader {
            worker,
            consumer,
            scratch: Vec::with_capacity(RECORD_BYTES_MAX),
        },
    )
}

/// The worker's end of a ring; stays on its thread.
pub struct LogWriter {
    inner: RefCell<Inner>,
    reader: Thread,
}

struct Inner {
    producer: Producer<u8>,
    scratch: Vec<u8>,
}

impl LogWriter {
    /// Puts a record into the ring: two copies of its bytes, no allocation, no waiting. False: the ring is full and
    /// the record is lost; the caller counts it.
    #[must_use]
    pub fn push(&self, record: &AccessRecord<'_>) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let capacity = inner.scratch.capacity();
        inner.scratch.clear();
        inner.scratch.extend_from_slice(&[0; LENGTH_BYTES]);
        record.encode(&mut inner.scratch);
        debug_assert_eq!(
            inner.scratch.capacity(),
            capacity,
            "the longest record fits"
        );
        let length = u32::try_from(inner.scratch.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
        inner.scratch[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());

        let bytes = inner.producer.buffer().capacity();
        let pushed = inner.producer.push_entire_slice(&inner.scratch).is_ok();
        let used = bytes - inner.producer.slots();
        let mark = bytes / WAKE_DIVISOR;
        // Only the record that crosses the mark wakes: at most one futex call per quarter of a ring.
        if pushed && used >= mark && used.saturating_sub(inner.scratch.len()) < mark {
            self.reader.unpark();
        }
        pushed
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

/// The log writer's end of a ring.
#[derive(Debug)]
pub struct LogReader {
    worker: usize,
    consumer: Consumer<u8>,
    scratch: Vec<u8>,
}

impl LogReader {
    /// The worker that fills the ring.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The next record; `None`: there is none now.
    pub fn next_record(&mut self) -> Option<AccessRecord<'_>> {
        let mut length = [0; LENGTH_BYTES];
        self.consumer.pop_entire_slice(&mut length).ok()?;
        // A record is pushed whole, so its bytes are there when its length is.
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        debug_assert!(length <= RECORD_BYTES_MAX);
        self.scratch.resize(length.min(RECORD_BYTES_MAX), 0);
        self.consumer.pop_entire_slice(&mut self.scratch).ok()?;
        let record = AccessRecord::decode(&self.scratch);
        debug_assert!(record.is_some(), "a ring holds what a worker encoded");
        record
    }

    /// No record is left and none will come: the worker is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: a record pushed before the worker left is seen.
        self.consumer.is_abandoned() && self.consumer.is_empty()
    }
}
