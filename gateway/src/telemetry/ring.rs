//! The way of access records out of a worker: a bounded ring of bytes with one writer and one reader, and no lock.
//!
//! A full ring costs the record. The reader polls; the worker wakes it only now and then, so that a full
//! ring is rare and a system call per request is not made.

use std::cell::RefCell;
use std::fmt;
use std::thread::Thread;

use rtrb::{Consumer, Producer, RingBuffer};

use super::record::{AccessRecord, RECORD_BYTES_MAX};

/// Size of a ring in bytes: two thousand records of 500 bytes for each worker.
pub const RING_BYTES: usize = 1 << 20;
/// The reader is woken each time this part of a ring was pushed, so that it can drain the ring before it is full.
const WAKE_DIVISOR: usize = 4;
/// Each record follows its length.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Makes a ring of `bytes`. `reader` is the thread that will hold the [`LogReader`], woken as the ring fills.
#[must_use]
pub fn ring(worker: usize, bytes: usize, reader: Thread) -> (LogWriter, LogReader) {
    let (producer, consumer) = RingBuffer::new(bytes);
    let scratch = Vec::with_capacity(LENGTH_BYTES + RECORD_BYTES_MAX);
    let writer = LogWriter {
        inner: RefCell::new(Inner {
            producer,
            scratch,
            pushed_since_wake: 0,
        }),
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
    pushed_since_wake: usize,
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

        if inner.producer.push_entire_slice(&inner.scratch).is_err() {
            return false;
        }
        inner.pushed_since_wake += inner.scratch.len();
        // Counted here instead of asking how full the ring is: that would fetch the reader's cache line each time.
        if inner.pushed_since_wake >= inner.producer.buffer().capacity() / WAKE_DIVISOR {
            inner.pushed_since_wake = 0;
            self.reader.unpark();
        }
        true
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

/// `length` bytes from `at` on in two slices one behind the other; copied to `scratch` where they lie in both. `None`:
/// there are not so many.
fn span<'a>(
    (first, second): (&'a [u8], &'a [u8]),
    at: usize,
    length: usize,
    scratch: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    let end = at + length;
    if end <= first.len() {
        return first.get(at..end);
    }
    let behind = second.get(..end - first.len())?;
    match first.get(at..) {
        Some(before) if !before.is_empty() => {
            scratch.clear();
            scratch.extend_from_slice(before);
            scratch.extend_from_slice(behind);
            Some(scratch)
        }
        _ => behind.get(at - first.len()..),
    }
}

impl LogReader {
    /// The worker that fills the ring.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Hands the records that are there to `take`, oldest first, at most `records_max`; returns how many. They are read
    /// where they lie, and their place is the worker's again when all of them are read.
    pub fn take(&mut self, records_max: usize, mut take: impl FnMut(&AccessRecord<'_>)) -> usize {
        let there = self.consumer.slots();
        let Ok(chunk) = self.consumer.read_chunk(there) else {
            return 0;
        };
        let (slices, scratch) = (chunk.as_slices(), &mut self.scratch);
        let (mut at, mut taken) = (0, 0);
        while taken < records_max
            && let Some(length) = span(slices, at, LENGTH_BYTES, scratch)
        {
            let length = length.try_into().map_or(u32::MAX, u32::from_le_bytes);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            debug_assert!(length <= RECORD_BYTES_MAX);
            // A record is pushed whole, so its bytes are there when its length is.
            let bytes = span(slices, at + LENGTH_BYTES, length, scratch).unwrap_or_default();
            let record = AccessRecord::decode(bytes);
            debug_assert!(record.is_some(), "a ring holds what a worker encoded");
            if let Some(record) = record {
                take(&record);
            }
            at += LENGTH_BYTES + length;
            taken += 1;
        }
        chunk.commit(at.min(there));
        taken
    }

    /// No record is left and none will come: the worker is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: a record pushed before the worker left is seen.
        self.consumer.is_abandoned() && self.consumer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{LENGTH_BYTES, LogWriter, ring};
    use crate::telemetry::record::{PATH_BYTES_MAX, RECORD_BYTES_MAX};
    use crate::telemetry::{AccessRecord, RecordAddress};

    fn push(writer: &LogWriter, number: u64, path: &[u8]) -> bool {
        writer.push(&AccessRecord {
            unix_us: number,
            path,
            ..AccessRecord::default()
        })
    }

    #[test]
    fn records_come_out_whole_and_in_order_over_many_turns_of_the_ring() {
        let (writer, mut reader) = ring(3, 1000, thread::current());
        assert_eq!(reader.worker(), 3);
        let path = [b'x'; 300];
        let (mut next_in, mut next_out) = (0, 0);
        // Lengths that do not divide the ring put the wrap into every place of a record.
        while next_out < 10_000 {
            while push(
                &writer,
                next_in,
                &path[..usize::try_from(next_in % 301).unwrap()],
            ) {
                next_in += 1;
            }
            while reader.take(2, |record| {
                assert_eq!(record.unix_us, next_out);
                assert_eq!(record.path.len() as u64, next_out % 301);
                next_out += 1;
            }) > 0
            {}
            assert_eq!(next_in, next_out, "an empty ring has room");
        }
    }

    #[test]
    fn a_full_ring_refuses_and_spoils_nothing() {
        let (writer, mut reader) = ring(0, 1000, thread::current());
        let taken = (0..100)
            .filter(|number| push(&writer, *number, b"/"))
            .count();
        assert!((1..100).contains(&taken));
        let mut read = Vec::new();
        assert_eq!(reader.take(1000, |record| read.push(record.unix_us)), taken);
        assert!(read.into_iter().eq(0..taken as u64));
    }

    #[test]
    fn the_longest_record_fits_and_longer_texts_are_cut() {
        let (writer, mut reader) = ring(0, LENGTH_BYTES + RECORD_BYTES_MAX, thread::current());
        let long = vec![b'a'; 100_000];
        let text = String::from_utf8(long.clone()).unwrap();
        let record = AccessRecord {
            method: &long,
            path: &long,
            query: Some(&long),
            host: &long,
            user_agent: &long,
            referer: &long,
            request_id: &long,
            upstream_address: RecordAddress::Unix(&long),
            error_type: &text,
            client: Some("::1".parse().unwrap()),
            peer: Some("[::1]:1".parse().unwrap()),
            ..AccessRecord::default()
        };
        assert!(writer.push(&record));
        let taken = reader.take(1, |record| {
            assert_eq!(record.path.len(), PATH_BYTES_MAX);
            assert_eq!(record.query.map(<[u8]>::len), Some(PATH_BYTES_MAX));
        });
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_ring_is_finished_when_its_writer_left_and_the_last_record_is_read() {
        let (writer, mut reader) = ring(0, 1000, thread::current());
        assert!(push(&writer, 1, b"/"));
        assert!(!reader.is_finished());
        drop(writer);
        assert!(!reader.is_finished());
        assert_eq!(reader.take(1, |record| assert_eq!(record.unix_us, 1)), 1);
        assert!(reader.is_finished());
    }

    #[test]
    fn nothing_is_lost_between_two_threads() {
        const RECORDS: u64 = 50_000;
        let (writer, mut reader) = ring(0, 4096, thread::current());
        let worker = thread::Builder::new().spawn(move || {
            (0..RECORDS)
                .map(|n| u64::from(push(&writer, n, b"/a/path")))
                .sum::<u64>()
        });
        let (mut read, mut last) = (0, None);
        while !reader.is_finished() {
            let taken = reader.take(1000, |record| {
                assert!(Some(record.unix_us) > last);
                assert_eq!(record.path, b"/a/path");
                last = Some(record.unix_us);
            });
            read += taken as u64;
            thread::yield_now();
        }
        assert_eq!(worker.unwrap().join().unwrap(), read);
    }
}
