//! How the work was spread: CPU time of each worker's thread, and the balance that `/metrics` has.
#![expect(
    clippy::disallowed_types,
    reason = "one blocking request to the gateway's own admin address, on a thread for it"
)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::telemetry::names;

/// How a worker's thread is called, with its index behind.
const THREAD: &str = "ringgate-w";
/// The admin pages are on the same machine.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// CPU nanoseconds of each worker so far, by index.
pub(super) fn cpu() -> io::Result<BTreeMap<usize, u64>> {
    let mut workers = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        // A thread may end meanwhile.
        let (Ok(name), Ok(stat)) = (
            std::fs::read_to_string(task.join("comm")),
            std::fs::read_to_string(task.join("schedstat")),
        ) else {
            continue;
        };
        let index = name
            .trim()
            .strip_prefix(THREAD)
            .and_then(|index| index.parse().ok());
        let time = stat
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        if let (Some(index), Some(time)) = (index, time) {
            workers.insert(index, time);
        }
    }
    Ok(workers)
}

/// What each worker used of its core in `seconds`.
pub(super) fn busy(
    before: &BTreeMap<usize, u64>,
    after: &BTreeMap<usize, u64>,
    seconds: f64,
) -> BTreeMap<usize, f64> {
    let ratio = |(&index, &time): (&usize, &u64)| {
        let used = time.saturating_sub(before.get(&index).copied().unwrap_or_default());
        (index, used as f64 / 1e9 / seconds.max(1e-9))
    };
    after.iter().map(ratio).collect()
}

/// `ringgate_worker_imbalance_ratio` of each listener.
pub(super) fn imbalance(admin: SocketAddr) -> io::Result<BTreeMap<String, f64>> {
    let mut stream = TcpStream::connect_timeout(&admin, ADMIN_TIMEOUT)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(parse(&page))
}

fn parse(page: &str) -> BTreeMap<String, f64> {
    let samples = page
        .lines()
        .filter_map(|line| line.strip_prefix(names::WORKER_IMBALANCE.name));
    samples
        .filter_map(|sample| {
            let (labels, value) = sample.rsplit_once(' ')?;
            let listener = labels.split('"').nth(1)?;
            Some((listener.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_is_read_from_the_page() {
        let name = names::WORKER_IMBALANCE.name;
        let page = format!(
            "HTTP/1.1 200 OK\r\n\r\n# TYPE {name} gauge\n{name}{{listener=\"web\"}} 1.25\nother{{listener=\"web\"}} 3\n"
        );
        assert_eq!(parse(&page), BTreeMap::from([("web".to_owned(), 1.25)]));
    }

    #[test]
    fn a_worker_is_as_busy_as_its_cpu_time_says() {
        let (before, after) = (
            BTreeMap::from([(0, 1_000_000_000)]),
            BTreeMap::from([(0, 2_000_000_000), (1, 0)]),
        );
        assert_eq!(
            busy(&before, &after, 2.0),
            BTreeMap::from([(0, 0.5), (1, 0.0)])
        );
    }
}
