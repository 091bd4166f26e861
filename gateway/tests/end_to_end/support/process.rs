//! What the kernel knows of a process, and what it can be told.
#![expect(
    unsafe_code,
    reason = "kill(2), prctl(2) and work between fork and exec have no safe wrapper among the dependencies"
)]

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

/// Sends a signal to a child that has not been waited for, so that its number is nobody else's.
pub(super) fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: takes two numbers, touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Tells a process to end in order.
pub(crate) fn terminate(pid: u32) {
    signal(pid, libc::SIGTERM);
}

/// From now on a process gets no descriptor of this number or above; those that it has stay.
pub(super) fn limit_files(pid: u32, first: u64) {
    let limit = libc::rlimit {
        rlim_cur: first,
        rlim_max: first,
    };
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: reads `limit`, which outlives the call; the old limit is not asked for.
    let result = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_NOFILE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Waits until a socket's connection has ended, whatever lies unread, and no longer than `most`; false: it has not.
pub(super) fn ends_within(socket: &impl std::os::fd::AsRawFd, most: Duration) -> bool {
    let most = i32::try_from(most.as_millis()).unwrap();
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one descriptor, in memory that outlives the call.
    let result = unsafe { libc::poll(&raw mut poll, 1, most) };
    assert!(result >= 0, "{}", io::Error::last_os_error());
    poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP) != 0
}

/// Bytes that were sent and that the other side's kernel has not got.
pub(super) fn unacknowledged(socket: &impl std::os::fd::AsRawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: one number, in memory that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    usize::try_from(count).unwrap()
}

pub(super) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// `R`, `S`, `T` and so on, as proc(5) has it; of a process under a trace `t`, in place of `T`, is not told apart.
pub(super) fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let state = stat.rsplit(") ").next().unwrap().chars().next().unwrap();
    state.to_ascii_uppercase()
}

pub(super) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Processor time so far of the threads whose names begin with `name`.
pub(super) fn cpu_time(pid: u32, name: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = tasks.filter_map(|task| {
        let folder = task.unwrap().path();
        // A thread may end meanwhile.
        let is_asked_for = fs::read_to_string(folder.join("comm"))
            .ok()?
            .starts_with(name);
        let text = fs::read_to_string(folder.join("schedstat")).ok()?;
        let time = text.split(' ').next().unwrap().parse::<u64>().ok()?;
        is_asked_for.then_some(time)
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Resident memory now.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Makes the kernel refuse io_uring to the command, as the seccomp profiles of containers do.
pub(crate) fn deny_io_uring(command: &mut Command) {
    // SAFETY: between fork and exec `refuse_io_uring` makes two system calls and touches nothing but its own stack.
    unsafe { command.pre_exec(refuse_io_uring) };
}

/// A filter for this process and what it becomes: EPERM for the calls of io_uring, leave for all others.
fn refuse_io_uring() -> io::Result<()> {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const REFUSE: u32 = 0x0005_0000 | libc::EPERM.unsigned_abs();
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    // The calls have these numbers on every architecture: io_uring_setup, _enter, _register.
    let mut filter = [
        step(LOAD_NUMBER, 0, 0),
        step(JUMP_IF_EQUAL, 3, 425),
        step(JUMP_IF_EQUAL, 2, 426),
        step(JUMP_IF_EQUAL, 1, 427),
        step(RETURN, 0, ALLOW),
        step(RETURN, 0, REFUSE),
    ];
    let program = libc::sock_fprog {
        len: 6,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `program` points to a filter of its length, and both outlive the call.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
