//! Resource limits of the process.
#![expect(
    unsafe_code,
    reason = "getrlimit and setrlimit have no safe wrapper among the dependencies"
)]

use std::io;

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

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_raised_once_and_for_all() {
        let limit = super::raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(super::raise_open_files().unwrap(), limit);
    }
}
