//! What a kernel and an operator do to a process that is at work: a ring too small for what comes at once, signals at
//! any moment. Nobody's request suffers. Other faults are in `startup` (no ring), `descriptors`, `workers` (panics); a queue
//! that is full and completions without room are shown in the runtime's own test, by the kernel's account of them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, thread};

use crate::support::{
    Client, Driver, Gateway, Launch, Upstream, eventually, ok, skip, to_upstream,
};

/// More than twice of what the smallest ring takes at once.
const CLIENTS: usize = 600;

/// Where strace writes the calls of a gateway; `None` without strace, after a word about it.
struct Trace(PathBuf);

impl Trace {
    fn new(test: &str, driver: Driver) -> Option<Self> {
        if Command::new("strace").arg("-V").output().is_err() {
            skip("strace", test);
            return None;
        }
        let name = format!(
            "{}-{}-{}",
            test.replace(':', "-"),
            driver.name(),
            std::process::id()
        );
        Some(Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)))
    }

    /// The gateway under a trace of the calls in which its workers wait.
    fn of(&self, launch: Launch) -> Gateway {
        let file = self.0.to_str().unwrap();
        let calls = "trace=io_uring_enter,epoll_wait,epoll_pwait";
        // -D: the gateway is our child, and strace is beside it.
        launch
            .through(&[
                "strace",
                "-D",
                "-f",
                "-qq",
                "-e",
                calls,
                "-e",
                "signal=none",
                "-o",
                file,
            ])
            .start()
    }

    /// Whether a call ended as `end` says.
    fn has(&self, end: impl Fn(&str) -> bool) -> bool {
        fs::read_to_string(&self.0).unwrap().lines().any(end)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

on_both_drivers! {
    fn more_at_once_than_a_ring_has_entries_is_all_answered(driver) {
        let upstream = Upstream::answering(|request, _| ok(request.target()));
        let gateway = Launch::new(driver)
            .one_worker()
            .runtime("ring_entries = 256")
            .rest(&to_upstream(&[upstream.address], ""))
            .rest("[[routes]]\nname = \"own\"\npath_prefix = \"/own\"\nrespond = { body = \"own\" }\n")
            .start();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(gateway.address)).collect();
        for client in &mut clients {
            assert_eq!(client.get("/own").text(), "own");
        }
        gateway.pause();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\nGET /own HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        gateway.go_on();
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), format!("/{number}"));
            assert_eq!(client.response().text(), "own");
        }
    }

    fn signals_at_any_moment_disturb_nobody(driver) {
        let Some(trace) = Trace::new("faults::signals_at_any_moment_disturb_nobody", driver) else { return };
        let upstream = Upstream::answering(|request, body| ok(&format!("{}{}", request.target(), body.len())));
        let launch = Launch::new(driver).rest(&to_upstream(&[upstream.address], ""));
        let gateway = trace.of(launch);
        let (ended, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let clients: Vec<_> = (0..4_usize).map(|client| {
                let (gateway, done) = (&gateway, &done);
                scope.spawn(move || {
                    let mut connection = Client::connect(gateway.address);
                    for round in 0..100 {
                        let (target, size) = (format!("/{client}/{round}"), 1 + (client + round) * 211 % 40_000);
                        connection.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"));
                        connection.send(vec![b'x'; size]);
                        assert_eq!(connection.response().text(), format!("{target}{size}"));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            }).collect();
            scope.spawn(|| {
                // USR1 has a handler, CHLD and WINCH have none; a stop and its end interrupt every thread in its call.
                while !ended.load(Ordering::Relaxed) {
                    for signal in [libc::SIGUSR1, libc::SIGCHLD, libc::SIGWINCH, libc::SIGSTOP, libc::SIGCONT] {
                        gateway.signal(signal);
                    }
                    thread::yield_now();
                }
            });
            let results: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ended.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
        assert_eq!(done.load(Ordering::Relaxed), 400);
        let call = if driver == Driver::IoUring { "io_uring_enter" } else { "epoll_" };
        let interrupted = |line: &str| line.contains(call) && line.contains("EINTR");
        eventually("a worker's wait that a signal ended", || trace.has(interrupted).then_some(()));
        gateway.wait_until_quiet();
        let metrics = gateway.metrics();
        let deaths = metrics.sum("ringgate_worker_restarts_total", &[])
            + metrics.sum("ringgate_connection_panics_total", &[]);
        assert_eq!(deaths, 0.0);
    }
}
