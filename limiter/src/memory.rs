//! The memory of a shard: lines of zeroes from the system, in place where the first thread touches them.
//!
//! The one module of the crate with unsafe code. The standard library zeroes aligned memory by writing to it, which would
//! place every page with the thread that creates the table; memory mapped fresh is zero and has no place until it is used.
//!
//! What makes it sound: a [`Lines`] owns one private anonymous mapping of at least `len` lines, made by `Lines::new` and
//! unmapped by its `Drop` alone; a [`Line`] consists of atomics only, for which zeroes are a valid value.
#![expect(
    unsafe_code,
    reason = "mapped memory; the proof is above and at each block"
)]

use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;

use crate::slot::Line;

/// A fixed array of lines, all slots zero at first.
pub(crate) struct Lines {
    first: NonNull<Line>,
    len: usize,
}

// SAFETY: a `Lines` is the only owner of its mapping, and `Line` itself may be sent.
unsafe impl Send for Lines {}
// SAFETY: a shared `Lines` gives only `&Line`, and `Line` itself may be shared.
unsafe impl Sync for Lines {}

impl Lines {
    /// Maps `len` lines, at least one; `huge_pages` asks for pages of 2 MiB.
    ///
    /// # Errors
    ///
    /// The system's error where it has no such room in the address space.
    pub(crate) fn new(len: usize, huge_pages: bool) -> io::Result<Self> {
        debug_assert!(len > 0, "an empty mapping is refused by the system");
        let bytes = Self::bytes(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the system's choice touches nothing that exists.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(address.cast::<Line>()).ok_or(io::ErrorKind::OutOfMemory)?;
        debug_assert!(first.is_aligned(), "pages are aligned beyond a line");
        let lines = Self { first, len };
        if huge_pages {
            // SAFETY: the range is the mapping just made; the advice changes no content. A kernel that cannot follow it
            // says so, and the table works with small pages.
            let _refused = unsafe { libc::madvise(address, bytes, libc::MADV_HUGEPAGE) };
        }
        Ok(lines)
    }

    fn bytes(len: usize) -> Option<usize> {
        len.checked_mul(size_of::<Line>())
    }
}

impl Deref for Lines {
    type Target = [Line];

    #[inline]
    fn deref(&self) -> &[Line] {
        // SAFETY: the mapping holds `len` lines, aligned, zero or written through `&Line` since, and lives as long as
        // `self`; nobody has a `&mut` to it.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let bytes = Self::bytes(self.len).unwrap_or(0);
        // SAFETY: `new` mapped exactly this range, and no `&Line` outlives `self`.
        let _result = unsafe { libc::munmap(self.first.as_ptr().cast(), bytes) };
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
