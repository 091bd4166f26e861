//! The memory of a connection at work. A connection has one of these from the first byte of a request until nothing
//! more of a request is there; they are kept per worker, so that ten thousand connections of which few are at work
//! need few, and none is allocated for a request.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::connection::{Connection, Pause, work};
use super::request::Scratch;

/// What is left when a spell of work ends.
pub(super) type Worked = (Box<Connection>, Box<Scratch>, Pause);

/// A place for one future of a type without a name, as in `runtime::Reader`.
trait Place {
    fn start(&mut self, connection: Box<Connection>);
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Box<Connection>, Pause)>;
}

struct Typed<F, M> {
    future: Pin<Box<Option<F>>>,
    /// `None` while the future has it.
    scratch: Option<Box<Scratch>>,
    make: M,
}

impl<F, M> Place for Typed<F, M>
where
    F: Future<Output = Worked>,
    M: Fn(Box<Connection>, Box<Scratch>) -> F,
{
    fn start(&mut self, connection: Box<Connection>) {
        debug_assert!(self.future.is_none(), "one connection at a time");
        let scratch = self.scratch.take().unwrap_or_default();
        self.future.set(Some((self.make)(connection, scratch)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Box<Connection>, Pause)> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            debug_assert!(false, "polled without a connection");
            return Poll::Pending;
        };
        let (connection, scratch, pause) = ready!(future.poll(cx));
        self.future.set(None);
        self.scratch = Some(scratch);
        Poll::Ready((connection, pause))
    }
}

fn typed<F, M>(make: M) -> Box<dyn Place>
where
    F: Future<Output = Worked> + 'static,
    M: Fn(Box<Connection>, Box<Scratch>) -> F + 'static,
{
    Box::new(Typed {
        future: Box::pin(None),
        scratch: None,
        make,
    })
}

/// Memory for one connection at work: some 15 KiB after its first request.
pub(super) struct Spell(Box<dyn Place>);

impl Default for Spell {
    fn default() -> Self {
        Self(typed(work))
    }
}

impl fmt::Debug for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spell").finish_non_exhaustive()
    }
}

impl Spell {
    /// Serves what is there of requests on `connection`. Panics of that work come through; then the memory must not be
    /// used again.
    pub(super) async fn run(&mut self, connection: Box<Connection>) -> (Box<Connection>, Pause) {
        self.0.start(connection);
        poll_fn(|cx| self.0.poll(cx)).await
    }
}
