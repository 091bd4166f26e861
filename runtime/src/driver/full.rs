//! Rings that are too small for what is asked of them at once: nothing is lost, nobody waits for ever.

use std::fs;
use std::rc::Rc;

use super::{Executor, FLAG_STEPS, Flags};
use crate::ring::rings;
use crate::socket::pair;
use crate::{Buf, Reader, Socket};

/// The smallest ring there is, of submissions and of completions.
const ENTRIES: u32 = 256;
const POLLS: usize = 1_000;
const PAIRS: usize = 100;
const BYTES: usize = 10_000;

/// The steps of [`FLAG_STEPS`] with room for as few completions as the kernel allows.
const SMALL: [Flags; 4] = [
    |ring| {
        FLAG_STEPS[0].1(ring);
        ring.setup_cqsize(ENTRIES);
    },
    |ring| {
        FLAG_STEPS[1].1(ring);
        ring.setup_cqsize(ENTRIES);
    },
    |ring| {
        FLAG_STEPS[2].1(ring);
        ring.setup_cqsize(ENTRIES);
    },
    |ring| {
        FLAG_STEPS[3].1(ring);
        ring.setup_cqsize(ENTRIES);
    },
];

/// What the kernel says of this thread's ring, the only one with so few entries: entries put into it so far, and completions for
/// which there was no room.
fn seen() -> (u64, usize) {
    let infos = rings().into_iter().filter_map(|ring| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{ring}")).ok()?;
        info.contains("CqMask:\t0xff\n").then_some(info)
    });
    let infos: Vec<String> = infos.collect();
    let [info] = &infos[..] else {
        panic!("one small ring: {infos:?}")
    };
    let tail = info
        .lines()
        .find_map(|line| line.strip_prefix("SqTail:"))
        .unwrap();
    let overflown = info
        .lines()
        .skip_while(|line| !line.starts_with("CqOverflowList"))
        .filter(|line| line.contains("user_data="));
    (tail.trim().parse().unwrap(), overflown.count())
}

/// Sends a pattern of its own on one socket and finds it on the other.
async fn exchange(left: Rc<Socket>, right: Rc<Socket>, number: usize) -> bool {
    let byte = |at: usize| u8::try_from((at * 7 + number) % 251).unwrap();
    let pattern: Vec<u8> = (0..BYTES).map(byte).collect();
    let mut reader = Reader::new(right);
    reader.arm();
    let (sent, _) = left.send_all(Buf::copy_of(&pattern), |_| {}).await;
    sent.unwrap();
    let mut got = Vec::new();
    while got.len() < BYTES && reader.fill().await.unwrap() > 0 {
        got.extend_from_slice(reader.data());
        reader.buf().clear();
    }
    got == pattern
}

async fn more_than_fits() {
    let (left, readable) = pair().unwrap();
    left.send_all(Buf::copy_of(b"x"), |_| {}).await.0.unwrap();
    let before = seen().0;
    // Each of these ends in the very call that hands it to the kernel, which has nowhere to say so.
    let polls: Vec<_> = (0..POLLS)
        .map(|_| {
            let readable = Rc::clone(&readable);
            monoio::spawn(async move { readable.readable().await })
        })
        .collect();
    let exchanges: Vec<_> = (0..PAIRS)
        .map(|number| {
            let (left, right) = pair().unwrap();
            monoio::spawn(exchange(left, right, number))
        })
        .collect();
    // The last task of the same turn.
    let (after, overflown) = monoio::spawn(async { seen() }).await;
    assert!(
        after - before > 3 * u64::from(ENTRIES),
        "{} entries were put in",
        after - before
    );
    assert!(overflown > 0, "the completions found room");
    for poll in polls {
        poll.await.unwrap();
    }
    for exchange in exchanges {
        assert!(exchange.await, "other bytes");
    }
    assert_eq!(seen().1, 0, "all of them have been told");
}

#[test]
fn a_full_queue_and_an_overflowing_ring_lose_nothing() {
    if !monoio::utils::detect_uring() {
        return;
    }
    for (number, flags) in SMALL.into_iter().enumerate() {
        // An old kernel lacks the better flags; the last step is without any.
        match Executor::ring_by(&[("small", flags)], ENTRIES) {
            Ok(mut executor) => executor.block_on(more_than_fits()),
            Err(error) => assert!(number < 3, "{error}"),
        }
    }
}
