//! `[runtime]`: workers, rings and the end of the process.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::key::{Key, Keys};
use super::kind::{Flag, Integer, Or, Time, Word};
use super::resolved::{DriverChoice, RuntimeConfig};
use super::section::Section;

pub(super) static KEYS: Keys = Keys {
    header: "[runtime]",
    text: "Worker threads, their rings, and how the process ends.",
    rows: &[
        &WORKERS,
        &PIN_CORES,
        &DRIVER,
        &RING_ENTRIES,
        &DRAIN_DELAY,
        &DRAIN_TIMEOUT,
    ],
    unsupported: &[],
};

static WORKERS: Key<Or<Integer<NonZeroUsize>>> = Key {
    name: "workers",
    kind: Or {
        word: "auto",
        kind: Integer::new(1, 1024),
    },
    default: None,
    text: "Worker threads. `auto`: one per core that the process may use (affinity mask and cgroup quota). Each has its own ring, buffers and upstream pools.",
};

static PIN_CORES: Key<Flag> = Key {
    name: "pin_cores",
    kind: Flag,
    default: true,
    text: "Pin each worker to its core. Turn it off where several busy processes share the cores.",
};

static DRIVER: Key<Word<DriverChoice>> = Key {
    name: "driver",
    kind: Word {
        words: &[
            ("auto", DriverChoice::Auto),
            ("io_uring", DriverChoice::IoUring),
            ("epoll", DriverChoice::Epoll),
        ],
    },
    default: DriverChoice::Auto,
    text: "`auto`: io_uring, or epoll where the ring is refused, with the reason in one line. `io_uring`: no start without it.",
};

static RING_ENTRIES: Key<Integer<u32>> = Key {
    name: "ring_entries",
    kind: Integer::power_of_two(256, 32_768),
    default: 512,
    text: "Submission entries of each worker's ring, 64 bytes each. A small queue bounds latency.",
};

static DRAIN_DELAY: Key<Time> = Key {
    name: "drain_delay",
    kind: Time {
        min: Duration::ZERO,
        max: Duration::from_secs(3600),
    },
    default: Duration::ZERO,
    text: "After TERM: how long to go on accepting with `/readyz` at 503, so that a load balancer looks elsewhere first.",
};

static DRAIN_TIMEOUT: Key<Time> = Key {
    name: "drain_timeout",
    kind: Time {
        min: Duration::ZERO,
        max: Duration::from_secs(86_400),
    },
    default: Duration::from_secs(30),
    text: "After `drain_delay`: how long requests in flight may take before the process ends.",
};

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> RuntimeConfig {
    RuntimeConfig {
        workers: section.get(&WORKERS),
        pin_cores: section.get(&PIN_CORES),
        driver: section.get(&DRIVER),
        ring_entries: section.get(&RING_ENTRIES),
        drain_delay: section.get(&DRAIN_DELAY),
        drain_timeout: section.get(&DRAIN_TIMEOUT),
    }
}
