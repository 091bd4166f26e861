//! Asks the kernel, beside monoio, to give up a read: by the socket it reads from.
//!
//! monoio's own way to cancel costs every read an entry in a hash set, put in and taken out, in case it is cancelled.
//! Reads are many and cancels are few (one when a connection falls idle), so here the cancel pays instead: one
//! `io_uring_register(2)`, which finds the read by its descriptor. Needs Linux 6.6.
#![expect(
    unsafe_code,
    reason = "io_uring_register is a system call without a safe wrapper for somebody else's ring"
)]

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{c_int, c_long};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

thread_local! {
    /// The ring of the executor that runs on this thread, where reads on it can be given up by descriptor.
    static CURRENT: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// The ring's descriptors that this process has now.
pub(crate) fn rings() -> HashSet<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return HashSet::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]")
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The ring that this thread has made since `before`, if it takes cancels by descriptor.
///
/// Other threads may have made rings meanwhile: a ring with `SINGLE_ISSUER`, which is asked for here, answers only to
/// its own thread.
pub(crate) fn made_since(before: &HashSet<RawFd>) -> Option<RawFd> {
    rings().into_iter().find(|ring| {
        // Nothing reads from a ring, so that there is nothing to find, and that is what the owner is told.
        !before.contains(ring)
            && cancel(*ring, *ring).is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
    })
}

/// While this lives, reads on this thread are given up on `ring`.
pub(crate) struct Entered(Option<RawFd>);

impl Entered {
    pub(crate) fn new(ring: Option<RawFd>) -> Self {
        Self(CURRENT.replace(ring))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Whether reads of this thread can be given up by [`cancel_read`].
pub(crate) fn cancels_reads() -> bool {
    CURRENT.get().is_some()
}

/// Ends the read under way on `socket` with `ECANCELED`. False: there is none in the kernel: it has ended, or is still in
/// the queue.
pub(crate) fn cancel_read(socket: &impl AsFd) -> bool {
    let Some(ring) = CURRENT.get() else {
        return false;
    };
    cancel(ring, socket.as_fd().as_raw_fd()).is_ok()
}

/// `struct io_uring_sync_cancel_reg` of linux/io_uring.h.
#[repr(C)]
struct SyncCancel {
    addr: u64,
    fd: i32,
    flags: u32,
    timeout: [i64; 2],
    opcode: u8,
    reserved: [u8; 31],
}

const _: () = assert!(size_of::<SyncCancel>() == 64);

const REGISTER_SYNC_CANCEL: c_int = 24;
const CANCEL_FD: u32 = 1 << 1;
const CANCEL_OP: u32 = 1 << 5;
const OP_RECV: u8 = 27;

/// Cancels one `recv` on `fd`.
fn cancel(ring: RawFd, fd: RawFd) -> io::Result<()> {
    let request = SyncCancel {
        addr: 0,
        fd,
        flags: CANCEL_FD | CANCEL_OP,
        // No limit: a read of a socket is never in the hands of a kernel thread, for which one would wait.
        timeout: [-1, -1],
        opcode: OP_RECV,
        reserved: [0; 31],
    };
    // SAFETY: the kernel reads one `SyncCancel` during the call, and its size and layout are those it expects.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            c_long::from(ring),
            c_long::from(REGISTER_SYNC_CANCEL),
            &raw const request,
            c_long::from(1),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
