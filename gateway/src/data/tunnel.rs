//! An upgraded connection: bytes pass both ways until both sides have ended or nothing moves any more.

use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use runtime::{
    Buf, Deadline, Expiry, HEADROOM_BYTES, LARGE_BYTES, MEDIUM_BYTES, Reader, SMALL_BYTES, Socket,
};

use super::Why;
use super::connection::Connection;
use super::fairness::Fairness;
use super::log::Record;
use super::request::{Active, Scratch};
use super::upstream::Lease;
use super::worker::Served;

/// The other end of a connection that was upgraded.
#[derive(Debug)]
pub(super) struct Tunnel {
    lease: Box<Lease>,
    /// How long nothing may move.
    idle: Duration,
    /// The request that asked for it.
    pub(super) request: Option<Unfinished>,
}

impl Tunnel {
    pub(super) const fn new(lease: Box<Lease>, idle: Duration) -> Self {
        Self {
            lease,
            idle,
            request: None,
        }
    }
}

/// A request whose connection has become a tunnel: it ends with that.
#[derive(Debug)]
pub(super) struct Unfinished {
    record: Record,
    served: Rc<Served>,
    scratch: Scratch,
    _active: Active,
}

impl Unfinished {
    pub(super) const fn new(
        record: Record,
        served: Rc<Served>,
        scratch: Scratch,
        active: Active,
    ) -> Self {
        Self {
            record,
            served,
            scratch,
            _active: active,
        }
    }

    /// The tunnel has ended, after so many bytes `up` and `down`.
    pub(super) fn finish(mut self, connection: &Connection, up: u64, down: u64) {
        self.record.request_body_bytes = up;
        self.record.response_body_bytes = down;
        let Self {
            record,
            served,
            scratch,
            ..
        } = &self;
        record.finish(connection, served, scratch, None);
    }
}

/// Passes bytes between client and upstream until the end, and finishes the request then.
///
/// What either side had sent before is passed on first. While nothing moves, no buffer is held.
pub(super) async fn serve(mut connection: Box<Connection>) {
    let Some(tunnel) = connection.tunnel.take() else {
        return;
    };
    let Tunnel {
        mut lease,
        idle,
        request,
    } = *tunnel;
    let (mut sent_up, mut sent_down) = (0, 0);
    {
        let Connection {
            reader,
            writer,
            body_deadline,
            ..
        } = &mut *connection;
        let upstream_socket = Rc::clone(lease.socket());
        let Lease {
            reader: upstream,
            deadline,
            ..
        } = &mut *lease;
        let touch = || {
            body_deadline.set(idle, Expiry::EndBoth, Why::Tunnel);
            deadline.set(idle, Expiry::EndBoth, Why::Tunnel);
        };
        touch();
        let up = pass(
            reader,
            &upstream_socket,
            body_deadline,
            &touch,
            &mut sent_up,
        );
        let down = pass(upstream, &writer.socket, deadline, &touch, &mut sent_down);
        // Both to their end: after a half-close the other way goes on.
        monoio::join!(up, down);
    }
    drop(lease);
    if let Some(request) = request {
        request.finish(&connection, sent_up, sent_down);
    }
}

async fn pass(
    from: &mut Reader,
    to: &Socket,
    deadline: &Deadline<Why>,
    touch: &impl Fn(),
    sent: &mut u64,
) {
    let mut fairness = Fairness::default();
    loop {
        if !from.is_armed() && from.data().is_empty() {
            from.rest();
            if from.socket().readable().await.is_err() {
                break;
            }
        }
        // In a box, so that a tunnel in which nothing moves is small.
        match Box::pin(pass_on(from, to, touch, &mut fairness)).await {
            Some(count) => *sent += count,
            None => break,
        }
    }
    if deadline.fired().is_none() {
        to.shutdown(Shutdown::Write);
    } else {
        to.shutdown(Shutdown::Both);
    }
}

/// Size of the next read: larger after one that was filled, since more is there, and small again after little. In pieces
/// of 4 KiB a message of a mebibyte costs three operations each, three hundred times.
fn next_read_size(last: &Buf) -> usize {
    if last.spare() == 0 {
        if last.capacity() < MEDIUM_BYTES {
            MEDIUM_BYTES
        } else {
            LARGE_BYTES
        }
    } else if last.len() <= SMALL_BYTES - HEADROOM_BYTES {
        SMALL_BYTES
    } else {
        last.capacity()
    }
}

/// Passes on what is there, or comes now; `None`: one side has ended.
async fn pass_on(
    from: &mut Reader,
    to: &Socket,
    touch: &impl Fn(),
    fairness: &mut Fairness,
) -> Option<u64> {
    fairness.turn().await;
    if from.is_armed() || from.data().is_empty() {
        match from.fill().await {
            Ok(0) | Err(_) => return None,
            Ok(_) => touch(),
        }
    }
    let next = next_read_size(from.buf());
    from.set_read_size(next);
    let buf = std::mem::replace(from.buf(), Buf::empty());
    let count = buf.len() as u64;
    let (result, _buf) = to.send_all(buf, |_| touch()).await;
    result.ok().map(|()| count)
}
