//! Tests that cannot run here say so loudly; where CI=true they fail.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Notes that the test `name` cannot run for want of `what`.
pub(crate) fn skip(what: &str, name: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let message = format!("SKIPPED (no {what}): {name} ({count} so far)");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{message}: CI runs every test"
    );
    // Past the harness, which keeps the output of tests that pass to itself.
    drop(std::io::Write::write_all(
        &mut std::io::stderr().lock(),
        format!("{message}\n").as_bytes(),
    ));
}

/// Whether this kernel gives us a ring; if not, the test `name` is skipped.
pub(crate) fn has_io_uring(name: &str) -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    let has = *HAS.get_or_init(|| io_uring::IoUring::new(2).is_ok());
    if !has {
        skip("io_uring", name);
    }
    has
}
