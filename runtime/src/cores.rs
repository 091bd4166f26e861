//! How many workers a process should have, and on which cores: the affinity mask and the cgroup's CPU quota.

use std::path::{Path, PathBuf};

use core_affinity::CoreId;

/// The cores in the affinity mask of the calling thread, in rising order; never empty.
///
/// Where the mask cannot be read it is core 0 alone.
#[must_use]
pub fn allowed() -> Vec<CoreId> {
    let mut cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.sort_unstable();
    if cores.is_empty() {
        cores.push(CoreId { id: 0 });
    }
    cores
}

/// Whole cores that the cgroup's quota (v2 `cpu.max`, the tightest of the group and its parents) pays for; `None`
/// where there is no quota. Half a core counts as one: a worker must run somewhere.
#[must_use]
pub fn quota() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    tightest_quota(Path::new("/sys/fs/cgroup"), Path::new(path))
}

fn tightest_quota(root: &Path, group: &Path) -> Option<usize> {
    group
        .ancestors()
        .map(|ancestor| root.join(ancestor).join("cpu.max"))
        .filter_map(|file: PathBuf| parse_cpu_max(&std::fs::read_to_string(file).ok()?))
        .min()
}

/// Parses `"200000 100000"` (microseconds of quota per period) to 2 and `"max 100000"` to `None`.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok().filter(|&period| period > 0)?;
    usize::try_from(quota.div_ceil(period))
        .ok()
        .map(|cores| cores.max(1))
}

/// The cores for workers: the first of [`allowed`], as many as [`quota`] pays for.
#[must_use]
pub fn for_workers() -> Vec<CoreId> {
    let mut cores = allowed();
    if let Some(quota) = quota() {
        cores.truncate(quota.max(1));
    }
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cores() {
        assert_eq!(parse_cpu_max("200000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("150000 100000"), Some(2));
        assert_eq!(parse_cpu_max("5000 100000"), Some(1));
        assert_eq!(parse_cpu_max("max 100000"), None);
        assert_eq!(parse_cpu_max("100000 0"), None);
        assert_eq!(parse_cpu_max(""), None);
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("ringgate-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("cpu.max"), "max 100000").unwrap();
        std::fs::write(root.join("a/cpu.max"), "100000 100000").unwrap();
        std::fs::write(root.join("a/b/cpu.max"), "400000 100000").unwrap();
        assert_eq!(tightest_quota(&root, Path::new("a/b")), Some(1));
        assert_eq!(tightest_quota(&root, Path::new("")), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn there_is_always_a_core() {
        assert!(!for_workers().is_empty());
    }
}
