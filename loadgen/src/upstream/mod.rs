//! The built-in server: answers chosen by path, one send and one receive per request.
//!
//! It reads requests well enough to be a test server for well-behaved clients and for proxies; it is not meant to
//! face anybody else.

mod connection;
mod listener;
mod request;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use runtime::{Executor, listen};

use crate::clock::{Clock, nanos};
pub use listener::Listen;
use listener::{Acceptor, Bound};

/// The paths, for `--help`.
pub(crate) const HELP: &str = "\
Answers by path:
  /status/N       status N
  /bytes/N        a body of N bytes
  /chunked/N      a body of N bytes in chunks
  /delay/MS       after MS milliseconds
  /stall/MS       all connections wait for MS milliseconds
  /short/N        half of the N bytes that were announced, then a close
  /reset          no answer, but a reset
  /garbage        no HTTP
  anything else   a body of 128 bytes; the request body's length is in X-Body-Bytes
Request bodies of any size are read to their end and forgotten.";

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where: at least one; port 0 takes a free one.
    pub listen: Vec<Listen>,
    /// Threads, each with sockets of its own on TCP.
    pub threads: u32,
    /// What to run on.
    pub driver: runtime::Choice,
}

/// Submission queue entries of a thread's ring.
const RING_ENTRIES: u32 = 512;
/// Calls to accept under way at once on a thread and socket: each loop turn takes one connection for each. On epoll one
/// takes whatever there is.
const ACCEPTS: usize = 16;
/// The pause after an accept that failed for want of descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How often a thread looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// Serves until `stop` is set; `listening` gets the addresses once connections are taken on all of them.
///
/// # Errors
///
/// An address cannot be listened on; no thread or driver to be had.
pub fn run(
    options: &Options,
    stop: &Arc<AtomicBool>,
    listening: impl FnOnce(&[Listen]) -> io::Result<()>,
) -> io::Result<()> {
    let mut bound: Vec<Bound> = Vec::new();
    for place in &options.listen {
        bound.push(Bound::new(place, options.threads)?);
    }
    let cores = runtime::cores::allowed();
    let stall = Arc::new(Stall {
        clock: Clock::new(),
        until_ns: AtomicU64::new(0),
    });
    let (ready, all_ready) = channel();
    let mut threads = Vec::new();
    for index in 0..options.threads as usize {
        let sockets: Vec<_> = bound.iter_mut().filter_map(Bound::take).collect();
        debug_assert_eq!(sockets.len(), bound.len(), "one for each thread");
        let (stop, stall, ready) = (Arc::clone(stop), Arc::clone(&stall), ready.clone());
        let driver = options.driver;
        threads.push(runtime::thread::spawn(
            format!("upstream-{index}"),
            cores.get(index % cores.len().max(1)).copied(),
            move || run_thread(driver, sockets, &stop, stall, ready),
        )?);
    }
    drop(ready);
    // Each thread lets go of its sender when it is ready or has failed.
    if all_ready.iter().count() == threads.len() {
        let places: Vec<Listen> = bound.iter().map(|bound| bound.place.clone()).collect();
        listening(&places)?;
    } else {
        stop.store(true, Ordering::Relaxed);
    }
    for thread in threads {
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
    }
    Ok(())
}

fn run_thread(
    driver: runtime::Choice,
    sockets: Vec<listener::Listener>,
    stop: &AtomicBool,
    stall: Arc<Stall>,
    ready: Sender<()>,
) -> io::Result<()> {
    let mut executor = Executor::new(runtime::Options {
        choice: driver,
        entries: RING_ENTRIES,
    })?;
    let accepts = match executor.report().driver {
        runtime::Driver::IoUring => ACCEPTS,
        runtime::Driver::Epoll => 1,
    };
    executor.block_on(async {
        for socket in sockets {
            let acceptor = Rc::new(Acceptor::new(socket)?);
            for _ in 0..accepts {
                monoio::spawn(accept(Rc::clone(&acceptor), Arc::clone(&stall)));
            }
        }
        let _ = ready.send(());
        drop(ready);
        while !stop.load(Ordering::Relaxed) {
            monoio::time::sleep(STOP_CHECK).await;
        }
        // The process ends: what is under way ends with it.
        Ok(())
    })
}

async fn accept(acceptor: Rc<Acceptor>, stall: Arc<Stall>) {
    loop {
        match acceptor.accept().await {
            Ok(socket) => {
                monoio::spawn(connection::serve(socket, Arc::clone(&stall)));
            }
            Err(error) if listen::is_about_one_connection(&error) => {}
            Err(_) => monoio::time::sleep(ACCEPT_AGAIN_AFTER).await,
        }
    }
}

/// A time until which no thread answers.
#[derive(Debug)]
struct Stall {
    clock: Clock,
    /// Reading of the clock; 0: none.
    until_ns: AtomicU64,
}

impl Stall {
    fn begin(&self, time: Duration) {
        let until_ns = self.clock.now_ns().saturating_add(nanos(time));
        // Relaxed: it guards no other memory.
        self.until_ns.store(until_ns, Ordering::Relaxed);
    }

    /// Waits for its end. Cost where there is none: one load.
    async fn wait(&self) {
        loop {
            let until_ns = self.until_ns.load(Ordering::Relaxed);
            if until_ns == 0 {
                return;
            }
            let now_ns = self.clock.now_ns();
            if now_ns >= until_ns {
                self.until_ns.store(0, Ordering::Relaxed);
                return;
            }
            monoio::time::sleep(Duration::from_nanos(until_ns - now_ns)).await;
        }
    }
}
