//! What the gateway and the load generator share: pinned worker threads, the choice of driver, buffers, sockets,
//! deadlines and listeners.
//!
//! Everything but [`cores`], [`thread`] and [`listen`] belongs to one thread: a worker builds its [`Executor`] on
//! its own thread and neither buffers nor sockets ever leave it.
//!
//! The traps of monoio 0.2.4 are dealt with here, once: reads that are given up lose bytes unless they are cancelled
//! and awaited ([`Reader::cancel`]), vectored helpers free buffers that the kernel still reads (not used), a name
//! given to `connect` blocks the reactor (only addresses are taken), an error of `accept` may spin (the caller
//! backs off).

mod buf;
pub mod cores;
mod deadline;
mod driver;
pub mod limits;
pub mod listen;
mod reader;
mod ring;
mod socket;
mod spare;
mod steer;
pub mod thread;

pub use buf::{Buf, HEADROOM_BYTES, LARGE_BYTES, MEDIUM_BYTES, SMALL_BYTES};
pub use deadline::{Deadline, Deadlines, Expiry, TICK};
pub use driver::{Choice, Driver, Executor, Options, Report};
pub use reader::Reader;
pub use socket::{Socket, pair};
pub use spare::Spare;

/// Gives back memory that this thread keeps for reads and that nobody has needed since the last call. For a
/// sweeper, twice a second; costs some stores, and the freeing.
pub fn trim() {
    buf::trim_blocks();
    reader::trim_places();
}
