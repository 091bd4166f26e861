//! Named, pinned threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use core_affinity::CoreId;

/// Starts a thread called `name` (at most 15 bytes show in tools) on `core`, or unpinned where that is `None`.
///
/// A core that cannot be pinned to (it left the mask meanwhile) is no error: the thread runs unpinned.
///
/// # Errors
///
/// The system refuses another thread.
pub fn spawn<T, F>(name: String, core: Option<CoreId>, main: F) -> io::Result<JoinHandle<T>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    Builder::new().name(name).spawn(move || {
        if let Some(core) = core {
            core_affinity::set_for_current(core);
        }
        main()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_sees_one_core() {
        let core = crate::cores::allowed()[0];
        let thread = spawn("pinned".into(), Some(core), || {
            (
                std::thread::current().name().map(str::to_owned),
                crate::cores::allowed(),
            )
        });
        assert_eq!(
            thread.unwrap().join().unwrap(),
            (Some("pinned".into()), vec![core])
        );
    }
}
