//! What the tests share: a gateway process, scripted clients and upstreams, and waiting for a condition.

mod client;
mod config;
mod gateway;
mod http;
mod metrics;
mod process;
mod skip;
mod upstream;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, get, send};
pub(crate) use config::{Launch, to_upstream};
pub(crate) use gateway::{Ended, Folder, Gateway};
pub(crate) use http::{Request, Response};
pub(crate) use process::{deny_io_uring, terminate};
pub(crate) use skip::{has_io_uring, skip};
pub(crate) use upstream::{Exchange, Upstream, ok};

/// Longer than anything here takes on a busy machine; a test that waits this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// The driver that a gateway under test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    IoUring,
    Epoll,
}

impl Driver {
    /// As the gateway calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Looks at a condition until it holds; what it yields is the result.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_within(LONG, what, condition)
}

/// As [`eventually`], for what takes longer.
#[track_caller]
pub(crate) fn eventually_within<T>(
    time: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < time, "waited in vain for: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Makes of each `fn claim(driver)` two tests, `claim::io_uring` and `claim::epoll`.
macro_rules! on_both_drivers {
    ($($(#[$attribute:meta])* fn $name:ident($driver:ident) $body:block)+) => {$(
        fn $name($driver: $crate::support::Driver) $body

        mod $name {
            $(#[$attribute])*
            #[test]
            fn io_uring() {
                if $crate::support::has_io_uring(concat!(module_path!(), "::io_uring")) {
                    super::$name($crate::support::Driver::IoUring);
                }
            }

            $(#[$attribute])*
            #[test]
            fn epoll() {
                super::$name($crate::support::Driver::Epoll);
            }
        }
    )+};
}
