//! Resource limits of the process, and what is kept back of them.
#![expect(
    unsafe_code,
    reason = "getrlimit and setrlimit have no safe wrapper among the dependencies"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Descriptors from here on are not for connections. Written once at the start, before there are workers.
static CEILING: AtomicI32 = AtomicI32::new(i32::MAX);

/// Raises the soft limit of open files to the hard one; returns what holds now.
///
/// # Errors
///
/// The kernel refuses to tell the limit. A refusal to raise it is none: the old one stays.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a value of the right type that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit {
        rlim_cur: limit.rlim_max,
        rlim_max: limit.rlim_max,
    };
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        limit = raised;
    }
    Ok(limit.rlim_cur)
}

/// Keeps the last `reserve` of `limit` open files from connections: [`crate::listen::Acceptor::accept`] and
/// `Socket::connect_*` fail with `EMFILE` rather than use one, so that the process can still open a file, and answer
/// an operator, when connections have taken all the others. It works since the kernel gives out the lowest number.
pub fn reserve_open_files(limit: u64, reserve: u64) {
    let ceiling = i32::try_from(limit.saturating_sub(reserve)).unwrap_or(i32::MAX);
    // Pairs with the load in `check_reserve`; nothing else is published by it.
    CEILING.store(ceiling, Ordering::Relaxed);
}

/// Fails with `EMFILE` if a new connection's descriptor is one of those kept back.
pub(crate) fn check_reserve(connection: &impl AsFd) -> io::Result<()> {
    // Pairs with the store in `reserve_open_files`, which comes before the threads that ask.
    if connection.as_fd().as_raw_fd() < CEILING.load(Ordering::Relaxed) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_raised_once_and_for_all() {
        let limit = super::raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(super::raise_open_files().unwrap(), limit);
    }
}
