//! What the kernel says about this process, for the `process_*` metrics. Reads `/proc`: for the control thread only.

use std::fs;

/// Kernel ticks per second in `/proc` (`USER_HZ`): 100 on every architecture that the gateway is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading; a value is absent where `/proc` does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// User and system CPU time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_memory_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Soft limit of descriptors.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Start in Unix time, in seconds.
    pub start_time_seconds: Option<f64>,
}

impl ProcessSample {
    /// Reads `/proc/self`. Costs five small files and one directory.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok();
        let mut sample = Self::default();
        if let Some(status) = text("/proc/self/status") {
            sample.resident_memory_bytes = field(&status, "VmRSS:").map(|kib| kib * 1024);
            sample.threads = field(&status, "Threads:");
        }
        if let Some(stat) = text("/proc/self/stat").as_deref().and_then(Stat::parse) {
            sample.cpu_seconds = Some(stat.cpu_ticks / TICKS_PER_SECOND);
            let boot = text("/proc/stat").and_then(|all| field(&all, "btime"));
            #[expect(clippy::cast_precision_loss, reason = "seconds fit in 53 bits")]
            let start = boot.map(|boot| boot as f64 + stat.start_ticks / TICKS_PER_SECOND);
            sample.start_time_seconds = start;
        }
        sample.max_fds = text("/proc/self/limits").and_then(|all| field(&all, "Max open files"));
        // The descriptor that reads the directory is among those counted.
        sample.open_fds = fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|entries| u64::try_from(entries.count().saturating_sub(1)).ok());
        sample
    }
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The fields of `/proc/self/stat` that are used here (proc_pid_stat(5)).
struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command, field 2, may hold spaces and brackets; the last bracket ends it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ProcessSample, Stat};

    #[test]
    fn reads_itself() {
        let sample = ProcessSample::read();
        assert!(sample.resident_memory_bytes.unwrap() > 100_000);
        assert!(sample.open_fds.unwrap() >= 3);
        assert!(sample.max_fds.unwrap() > sample.open_fds.unwrap());
        assert!(sample.threads.unwrap() >= 1);
        assert!(sample.cpu_seconds.unwrap() >= 0.0);
        assert!(sample.start_time_seconds.unwrap() > 1.5e9);
    }

    #[test]
    fn a_command_with_brackets_moves_no_field() {
        let text = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 5 0 4321 9";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_ticks, stat.start_ticks), (200.0, 4321.0));
        assert!(Stat::parse("7 (a) S 1").is_none());
    }
}
