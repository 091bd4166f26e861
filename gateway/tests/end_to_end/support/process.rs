//! What the kernel knows of a process, and what it can be told.
#![expect(
    unsafe_code,
    reason = "kill(2) has no safe wrapper among the dependencies"
)]

use std::fs;

/// Sends a signal to a child that has not been waited for, so that its number is nobody else's.
pub(super) fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: takes two numbers, touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

pub(super) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Resident memory now.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}
