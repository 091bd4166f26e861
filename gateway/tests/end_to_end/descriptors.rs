//! No descriptor left: connections wait or are turned away, the operator is answered, and nobody spins.

use std::time::{Duration, Instant};

use crate::support::{Client, Launch, Upstream, eventually, get, to_upstream};

/// Enough to start, and for some dozens of connections.
const FEW_FILES: &[&str] = &["sh", "-c", "ulimit -n 150; exec \"$@\"", "sh"];
/// In which a page of the admin address is there (robustness rule 59).
const PROMPTLY: Duration = Duration::from_millis(100);

on_both_drivers! {
    fn with_no_descriptor_left_the_admin_pages_answer_and_nobody_spins(driver) {
        let upstream = Upstream::saying("ok");
        let gateway = Launch::new(driver)
            .one_worker()
            .through(FEW_FILES)
            .rest(&to_upstream(&[upstream.address], ""))
            .start();
        assert_eq!(gateway.get("/").text(), "ok");
        // More than there are descriptors: those that find none are closed or wait.
        let clients: Vec<Client> = (0..200).map(|_| Client::connect(gateway.address)).collect();
        eventually("no descriptor left for a connection", || {
            let failed = gateway.metric("ringgate_accept_errors_total", &[]);
            (failed > 0.0).then_some(())
        });
        let (began, worked) = (Instant::now(), gateway.workers_time());
        let mut times = Vec::new();
        while began.elapsed() < Duration::from_secs(1) {
            for page in ["/healthz", "/metrics", "/readyz"] {
                let asked = Instant::now();
                assert_eq!(get(gateway.admin, page).status, 200, "{page}");
                times.push(asked.elapsed());
            }
        }
        times.sort_unstable();
        let usual = times[times.len() / 2];
        assert!(usual < PROMPTLY, "{usual:?} for a page");
        // A loop that asks the kernel again at once takes all the time there is.
        let (worked, wall) = (gateway.workers_time() - worked, began.elapsed());
        assert!(worked < wall / 4, "the worker was busy for {worked:?} of {wall:?}");
        drop(clients);
        gateway.wait_until_quiet();
        assert_eq!(gateway.get("/").text(), "ok", "who comes later is served");
    }
}
