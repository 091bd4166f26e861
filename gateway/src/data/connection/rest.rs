//! A connection at rest: nothing came on it for a moment. What serving it needs is gone, and is made anew when bytes come.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use runtime::{Buf, Deadline, Expiry, Reader, Socket, TICK};

use super::{BUFFER_TIME, ClientWriter, Connection, first_byte_timeout, ticks};
use crate::data::Why;
use crate::data::client::text_of;
use crate::data::fairness::Fairness;
use crate::data::plan::{ListenerPlan, client_of};
use crate::data::worker::Worker;

/// The little of a connection that must outlast a rest. Every byte here counts ten thousand times.
pub(super) struct Resting {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerPlan>,
    pub(super) socket: Rc<Socket>,
    pub(super) peer: SocketAddr,
    pub(super) proxied: Option<Box<SocketAddr>>,
    pub(super) deadline: Deadline<Why>,
    pub(super) trusted: bool,
    pub(super) has_served: bool,
    /// Tick at which the wait for a request began.
    pub(super) idle_from: u32,
}

impl Resting {
    /// Waits until there is something to read, without a buffer. No `async fn`, whose future would hold more.
    pub(super) fn stirs(&self) -> impl Future<Output = io::Result<()>> {
        let timeout = first_byte_timeout(&self.listener, self.has_served);
        let left = timeout.saturating_sub(TICK.saturating_mul(self.waited()));
        self.deadline.set(left, Expiry::EndReads, Why::Idle);
        self.socket.readable()
    }

    /// Ticks since the wait for a request began.
    fn waited(&self) -> u32 {
        ticks(&self.deadline).wrapping_sub(self.idle_from)
    }

    /// The connection, ready to read and to serve.
    pub(super) fn wake(self) -> Box<Connection> {
        // On epoll a read that is given up costs nothing.
        let was_short = TICK.saturating_mul(self.waited()) < BUFFER_TIME;
        let reads_ahead = was_short || monoio::utils::is_legacy();
        let Self {
            worker,
            listener,
            socket,
            peer,
            proxied,
            deadline,
            trusted,
            has_served,
            idle_from,
        } = self;
        let client = client_of(proxied.as_deref().unwrap_or(&peer).ip());
        let served = worker.served();
        let plan = &served.plan;
        Box::new(Connection {
            peer,
            proxied,
            trusted,
            client_key: plan.hasher.address(client, plan.client_ip.ipv6_prefix),
            client_text: text_of(client),
            has_served,
            reads_ahead,
            idle_from,
            reader: Reader::new(Rc::clone(&socket)),
            body_deadline: worker.deadlines.register(Rc::clone(&socket), Why::Busy),
            writer: ClientWriter {
                deadline,
                socket,
                out: Buf::empty(),
                taken: 0,
                waited: 0,
                listener: Arc::clone(&listener),
                worker: Rc::clone(&worker),
            },
            listener,
            worker,
            fairness: Fairness::default(),
            tunnel: None,
        })
    }
}

impl Connection {
    /// Gives back all that only serving needs; nothing may wait to be read or sent.
    pub(super) fn rest(mut self: Box<Self>) -> Resting {
        debug_assert!(self.writer.out.is_empty(), "an answer would be lost");
        self.reader.rest();
        let Self {
            worker,
            listener,
            peer,
            proxied,
            trusted,
            has_served,
            idle_from,
            writer,
            ..
        } = *self;
        let ClientWriter {
            socket, deadline, ..
        } = writer;
        Resting {
            worker,
            listener,
            socket,
            peer,
            proxied,
            deadline,
            trusted,
            has_served,
            idle_from,
        }
    }
}
