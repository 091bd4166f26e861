//! How many workers a process should have, and on which cores: the affinity mask and the cgroup's CPU quota.

use std::path::Path;

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

/// Whole cores that the cgroup's quota (`cpu.max` of v2 or `cpu.cfs_quota_us` of v1, the tightest of the group and its
/// parents) pays for; `None` where there is no quota. Half a core counts as one: a worker must run somewhere.
#[must_use]
pub fn quota() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    quota_of(Path::new("/sys/fs/cgroup"), &groups)
}

/// By the lines of cgroups(7), `NUMBER:CONTROLLERS:/PATH`; v2 has no controllers there.
fn quota_of(root: &Path, groups: &str) -> Option<usize> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = Path::new(path.strip_prefix('/')?);
        if controllers.is_empty() {
            return tightest_quota(root, path, quota_v2);
        }
        let cpu = controllers.split(',').any(|controller| controller == "cpu");
        cpu.then(|| tightest_quota(&root.join(controllers), path, quota_v1))?
    };
    groups.lines().filter_map(of_line).min()
}

/// In a container the path may be that of the host; then the root of what is mounted here is the group.
fn tightest_quota(root: &Path, group: &Path, read: fn(&Path) -> Option<usize>) -> Option<usize> {
    let groups = group.ancestors().map(|ancestor| root.join(ancestor));
    groups.filter_map(|group| read(&group)).min()
}

fn quota_v2(group: &Path) -> Option<usize> {
    parse_cpu_max(&std::fs::read_to_string(group.join("cpu.max")).ok()?)
}

fn quota_v1(group: &Path) -> Option<usize> {
    let file = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    // -1, which is no quota, does not parse.
    parse_cpu_max(&format!(
        "{} {}",
        file("cpu.cfs_quota_us")?,
        file("cpu.cfs_period_us")?
    ))
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
        assert_eq!(quota_of(&root, "0::/a/b\n"), Some(1));
        assert_eq!(quota_of(&root, "0::/\n"), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_quota_of_the_first_version_counts_where_that_is_mounted() {
        let root = std::env::temp_dir().join(format!("ringgate-cgroup1-{}", std::process::id()));
        let write = |group: &str, quota: &str| {
            let group = root.join("cpu,cpuacct").join(group);
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join("cpu.cfs_quota_us"), quota).unwrap();
            std::fs::write(group.join("cpu.cfs_period_us"), "100000\n").unwrap();
        };
        write("", "-1\n");
        write("a", "250000\n");
        let groups = |path: &str| format!("7:cpuset:/a\n1:cpu,cpuacct:{path}\n0::{path}\n");
        assert_eq!(quota_of(&root, &groups("/a/b")), Some(3));
        assert_eq!(quota_of(&root, &groups("/")), None);
        // The host's path, in a container whose own group is what is mounted.
        write("", "100000\n");
        assert_eq!(quota_of(&root, &groups("/docker/0123")), Some(1));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn there_is_always_a_core() {
        assert!(!for_workers().is_empty());
    }
}
