//! Panics on demand, for tests of what a panic costs. Nothing here is reached unless the process was started with
//! `RINGGATE_FAULTS=1`, which it says loudly; and then only by requests that the gateway answers itself.

/// The field whose value asks for a fault.
pub(super) const FIELD: &[u8] = b"x-ringgate-fault";

/// Commits the fault that `asked` names: `connection` panics in the connection's task, `worker` in a task of the
/// worker's own, which takes the worker with it. Anything else is none.
#[expect(clippy::panic, reason = "that is what was asked for")]
pub(super) fn commit(asked: &[u8]) {
    match asked {
        b"connection" => panic!("told to panic in a connection"),
        b"worker" => drop(monoio::spawn(async {
            panic!("told to panic in a worker");
        })),
        _ => {}
    }
}
