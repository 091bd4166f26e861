//! Which driver a worker runs on: io_uring with the best flags the kernel takes, step by step, then epoll.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::RawFd;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::ring::{Entered, made_since, rings};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// io_uring, or epoll where the ring is refused or `MONOIO_FORCE_LEGACY_DRIVER=1`.
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// The driver that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// One ring per worker.
    IoUring,
    /// One epoll set per worker.
    Epoll,
}

impl Driver {
    /// `io_uring` or `epoll`, as in the configuration and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What was chosen and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The driver that runs.
    pub driver: Driver,
    /// The ring's set-up flags, `SINGLE_ISSUER|DEFER_TASKRUN|...`, or `-`.
    pub flags: &'static str,
    /// Why a better choice was not taken: one line, or `None`.
    pub fallback: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.driver.name(), self.flags)
    }
}

/// How to build an [`Executor`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The driver wanted.
    pub choice: Choice,
    /// Submission queue entries, a power of two from 256; a small queue bounds latency, since it forces a submit
    /// every so many operations.
    pub entries: u32,
}

/// Completions that the ring holds; more are kept by the kernel, which is slow.
const COMPLETION_ENTRIES: u32 = 8192;

type Flags = fn(&mut io_uring::Builder);

/// Best first. DEFER_TASKRUN runs completions only when the worker asks for them, in one batch; it needs a worker
/// that never busy-yields, which is a rule of this project.
const FLAG_STEPS: [(&str, Flags); 4] = [
    ("SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL|CQSIZE", |ring| {
        ring.setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES);
    }),
    ("SINGLE_ISSUER|COOP_TASKRUN|SUBMIT_ALL|CQSIZE", |ring| {
        ring.setup_single_issuer()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES);
    }),
    ("COOP_TASKRUN", |ring| {
        ring.setup_coop_taskrun();
    }),
    ("none", |_| {}),
];

enum Kind {
    IoUring {
        runtime: Runtime<TimeDriver<IoUringDriver>>,
        /// The ring, where it takes cancels by descriptor.
        ring: Option<RawFd>,
    },
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

/// A monoio runtime on the calling thread. Build it on the thread that uses it: the ring belongs to its creator.
pub struct Executor {
    kind: Kind,
    report: Report,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// Builds a runtime as `options` ask.
    ///
    /// # Errors
    ///
    /// `Choice::IoUring` and the kernel refuses a ring, or not even epoll can be had (no descriptors left). The
    /// text says which call failed and what to do.
    pub fn new(options: Options) -> io::Result<Self> {
        let reason = match options.choice {
            Choice::Epoll => None,
            Choice::Auto if !monoio::utils::detect_uring() => Some(refusal()),
            Choice::Auto | Choice::IoUring => match Self::ring(options.entries) {
                Ok(executor) => return Ok(executor),
                Err(error) if options.choice == Choice::IoUring => {
                    return Err(io::Error::new(error.kind(), describe(&error)));
                }
                Err(error) => Some(describe(&error)),
            },
        };
        let runtime = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()?;
        let report = Report {
            driver: Driver::Epoll,
            flags: "-",
            fallback: reason,
        };
        Ok(Self {
            kind: Kind::Epoll(runtime),
            report,
        })
    }

    fn ring(entries: u32) -> io::Result<Self> {
        Self::ring_by(&FLAG_STEPS, entries)
    }

    /// A ring by the first of `steps` that the kernel takes.
    fn ring_by(steps: &[(&'static str, Flags)], entries: u32) -> io::Result<Self> {
        let mut first_error = None;
        for &(flags, set) in steps {
            let mut ring = io_uring::IoUring::builder();
            set(&mut ring);
            let before = rings();
            let built = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(entries)
                .uring_builder(ring)
                .enable_timer()
                .build();
            match built {
                Ok(runtime) => {
                    let fallback = first_error
                        .map(|error| format!("the kernel refused better ring flags: {error}"));
                    let report = Report {
                        driver: Driver::IoUring,
                        flags,
                        fallback,
                    };
                    return Ok(Self {
                        kind: Kind::IoUring {
                            runtime,
                            ring: made_since(&before),
                        },
                        report,
                    });
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| io::Error::from(io::ErrorKind::Unsupported)))
    }

    /// As on a kernel before 6.6, for tests.
    #[cfg(test)]
    pub(crate) fn without_cancel_by_descriptor(mut self) -> Self {
        if let Kind::IoUring { ring, .. } = &mut self.kind {
            *ring = None;
        }
        self
    }

    /// What runs and why.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Runs `future` to its end, and with it every task it spawns.
    ///
    /// Panics of tasks come through. The executor may then be used again: what other tasks wait for is still there.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match &mut self.kind {
            Kind::IoUring { runtime, ring } => {
                let _entered = Entered::new(*ring);
                runtime.block_on(future)
            }
            Kind::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// Why monoio's own probe said no.
fn refusal() -> String {
    if std::env::var_os("MONOIO_FORCE_LEGACY_DRIVER").is_some() {
        return "MONOIO_FORCE_LEGACY_DRIVER is set: using epoll".into();
    }
    match io_uring::IoUring::new(2) {
        Ok(_) => {
            "this kernel's io_uring lacks an operation that is needed (5.6 has all): using epoll"
                .into()
        }
        Err(error) => describe(&error),
    }
}

/// One line on a ring that could not be set up, with the remedy.
fn describe(error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "forbidden here: allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp \
             profile, and set kernel.io_uring_disabled = 0"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring (5.6 or newer has)",
        Some(libc::ENOMEM) => {
            "not enough locked memory: raise `ulimit -l` (systemd: LimitMEMLOCK=)"
        }
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptors left: raise `ulimit -n`",
        _ => "see io_uring_setup(2)",
    };
    format!("io_uring unavailable: {error}: {advice}")
}

#[cfg(test)]
mod full;

#[cfg(test)]
mod tests {
    use super::*;

    fn driver_of(choice: Choice) -> Report {
        let mut executor = Executor::new(Options {
            choice,
            entries: 256,
        })
        .unwrap();
        assert_eq!(executor.block_on(async { 7 }), 7);
        executor.report().clone()
    }

    #[test]
    fn epoll_is_taken_when_asked_for() {
        let report = driver_of(Choice::Epoll);
        assert_eq!((report.driver, report.fallback), (Driver::Epoll, None));
    }

    #[test]
    fn auto_takes_the_ring_unless_told_otherwise_and_says_why() {
        let report = driver_of(Choice::Auto);
        if monoio::utils::detect_uring() {
            assert_eq!(report.driver, Driver::IoUring);
        } else {
            assert_eq!(report.driver, Driver::Epoll);
            assert!(report.fallback.is_some());
        }
    }

    #[test]
    fn a_panic_leaves_the_executor_usable() {
        let mut executor = Executor::new(Options {
            choice: Choice::Auto,
            entries: 256,
        })
        .unwrap();
        let run =
            std::panic::AssertUnwindSafe(|| executor.block_on(async { panic!("on purpose") }));
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(executor.block_on(async { 8 }), 8);
    }
}
