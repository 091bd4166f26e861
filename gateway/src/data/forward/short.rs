//! The short way of the exchange that most are: a request without a body on a connection that has served before, and a
//! response that is whole when its head is there. One send, one read, and no future for either way; whatever is not
//! like that goes on in the long way from where it is.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use runtime::{Buf, Deadline, Expiry, Reader, SMALL_BYTES};

use super::download::{Download, context_of};
use super::upload::GONE_EVERY;
use super::{Exchange, Finished, RESPONSE_LIMITS};
use crate::config::ResponseFaults;
use crate::data::Why;
use crate::data::codec::{BodyFraming, HeadScanner, ResponseHead, Version, parse_response};
use crate::data::connection::Connection;
use crate::data::error::{Error, Fault, client_end};
use crate::data::upstream::Lease;

/// How far the short way went.
pub(super) enum Short {
    /// To the end; the response waits in the client's `out`.
    Ended(Finished),
    /// The rest is the long way's. The request is sent, or the endpoint does not take it. Where the head of the response is
    /// there and was read: its bytes, and what it says.
    Open(Option<(usize, ResponseHead)>),
}

/// What came first.
enum Heard {
    Upstream(io::Result<usize>),
    Client(io::Result<usize>),
    /// Nothing for so long that the client must be looked for.
    Nothing,
}

/// Waits for the upstream's bytes, with an eye on the client, which is read from only where the next request is read ahead.
fn hear(
    upstream: &mut Reader,
    client: &mut Reader,
    reads_ahead: bool,
    deadline: &Deadline<Why>,
    cx: &mut Context<'_>,
) -> Poll<Heard> {
    if let Poll::Ready(filled) = upstream.poll_fill(cx) {
        return Poll::Ready(Heard::Upstream(filled));
    }
    if reads_ahead {
        return client.poll_fill(cx).map(Heard::Client);
    }
    match deadline.take_woken() {
        true => Poll::Ready(Heard::Nothing),
        false => Poll::Pending,
    }
}

impl Exchange<'_> {
    /// Whether the exchange can begin the short way with `head`.
    #[inline]
    pub(super) fn begins_short(&self, connection: &Connection, lease: &Lease, head: &Buf) -> bool {
        let request = self.request;
        request.framing == BodyFraming::None
            && request.keep_alive
            && request.version == Version::Http11
            && self.upgrade.is_none()
            && self.repeat_on.is_empty()
            && lease.reused
            && head.len() <= SMALL_BYTES
            // Else it is another request, and the client is not read from.
            && connection.reader.data().is_empty()
    }

    /// Sends `head` and passes on what comes, as far as that is the short way.
    pub(super) async fn run_short(
        &mut self,
        connection: &mut Connection,
        lease: &mut Lease,
        head: Buf,
    ) -> Result<Short, Error> {
        self.timers.first_byte(&lease.deadline);
        let socket = Rc::clone(lease.socket());
        let sent = {
            // Built where it stays: `.await` would move it there.
            let mut sending = pin!(socket.send_all(head, |_| {}));
            poll_fn(|cx| sending.as_mut().poll(cx)).await.0
        };
        if sent.is_err() {
            return Ok(Short::Open(None));
        }
        self.progress.uploaded.set(true);
        let Connection {
            reader,
            body_deadline,
            reads_ahead,
            ..
        } = &mut *connection;
        if !*reads_ahead {
            body_deadline.set(GONE_EVERY, Expiry::Wake, Why::Busy);
        }
        let upstream = &mut lease.reader;
        let heard = poll_fn(|cx| hear(upstream, reader, *reads_ahead, body_deadline, cx)).await;
        match heard {
            Heard::Upstream(Ok(count)) if count > 0 => self.pass_whole(connection, lease),
            // Whoever reads again meets the same end.
            Heard::Upstream(_) => Ok(Short::Open(None)),
            Heard::Client(filled) => Self::heard_client(connection, filled),
            Heard::Nothing => Self::look_for_client(connection),
        }
    }

    #[cold]
    fn heard_client(connection: &Connection, filled: io::Result<usize>) -> Result<Short, Error> {
        let worker = &connection.worker;
        match filled {
            Ok(count) if count > 0 => worker.metrics.received(count as u64),
            // A half-closed client still gets its answer, and a draining worker may have made the end itself.
            Ok(_) if !connection.listener.config.abort_on_client_fin || worker.is_draining() => {}
            _ => return Err(client_end(connection.body_deadline.fired())),
        }
        Ok(Short::Open(None))
    }

    /// Looks for a client that is not read from, as the long way does from here on.
    #[cold]
    fn look_for_client(connection: &Connection) -> Result<Short, Error> {
        let heeds_end =
            connection.listener.config.abort_on_client_fin && !connection.worker.is_draining();
        if connection.reader.socket().is_gone(heeds_end) {
            return Err(client_end(connection.body_deadline.fired()));
        }
        Ok(Short::Open(None))
    }

    /// Passes on a response of which all is there; says what is, if not.
    fn pass_whole(
        &mut self,
        connection: &mut Connection,
        lease: &mut Lease,
    ) -> Result<Short, Error> {
        let data = lease.reader.data();
        let Ok(Some(range)) = HeadScanner::for_response().scan(data, &RESPONSE_LIMITS) else {
            return Ok(Short::Open(None));
        };
        let (length, have) = (range.end, data.len() as u64);
        let head = data.get(..length).unwrap_or_default();
        let context = context_of(self.request, None, &self.timers);
        let response = parse_response(head, &context, &mut self.scratch.response_fields)
            .map_err(|error| Error::Upstream(Fault::Response(error)))?;
        let body = match response.framing {
            BodyFraming::None => 0,
            BodyFraming::Length(body) => body,
            BodyFraming::Chunked | BodyFraming::UntilClose => return Ok(known(length, response)),
        };
        let is_whole = (length as u64).checked_add(body) == Some(have)
            && response.status >= 200
            && response.tolerated == ResponseFaults::NONE
            && !connection.worker.is_draining();
        if !is_whole {
            return Ok(known(length, response));
        }
        let mut down = Download {
            upstream: &mut lease.reader,
            deadline: &lease.deadline,
            writer: &mut connection.writer,
            timers: self.timers,
            request: self.request,
            route: self.route,
            upgrade: None,
            trailers: self.trailers || self.request.te_trailers,
            scratch: self.scratch,
            record: self.record,
            progress: &self.progress,
            repeat_on: &[],
            known: None,
        };
        Ok(Short::Ended(down.put_whole(length, &response, body)))
    }
}

#[cold]
fn known(length: usize, response: ResponseHead) -> Short {
    Short::Open(Some((length, response)))
}
