//! The way down: interim responses, the head, the body, piece by piece.

use runtime::{Buf, Deadline, LARGE_BYTES, Reader};

use super::timers::Timers;
use super::{COALESCE_BYTES_MAX, Ended, Finished, Progress, RESPONSE_LIMITS};
use crate::config::ResponseFaults;
use crate::data::Why;
use crate::data::body::{Sink, Transfer};
use crate::data::codec::{
    BodyFraming, Edits, ForwardResponse, HeadScanner, INTERIM_HEAD_MAX, INTERIMS_MAX,
    RequestContext, RequestHead, ResponseHead, Version, parse_response, write_response_head,
};
use crate::data::connection::ClientWriter;
use crate::data::error::{Error, Fault, upstream_end};
use crate::data::fairness::Fairness;
use crate::data::filter::security_headers::Present;
use crate::data::log::Record;
use crate::data::plan::RoutePlan;
use crate::data::request::{DISCARD_BYTES_MAX, Scratch};

/// The way down: interim responses, the head, the body.
pub(super) struct Download<'a> {
    pub(super) upstream: &'a mut Reader,
    pub(super) deadline: &'a Deadline<Why>,
    pub(super) writer: &'a mut ClientWriter,
    pub(super) timers: Timers<'a>,
    pub(super) request: &'a RequestHead,
    pub(super) route: Option<&'a RoutePlan>,
    pub(super) upgrade: Option<&'a [u8]>,
    /// The client gets trailers.
    pub(super) trailers: bool,
    pub(super) scratch: &'a mut Scratch,
    pub(super) record: &'a mut Record,
    pub(super) progress: &'a Progress,
    /// Statuses for which the request is rather sent again.
    pub(super) repeat_on: &'a [u16],
    /// A head that is at the front of the buffer and was read already: its bytes, and what it says.
    pub(super) known: Option<(usize, ResponseHead)>,
}

impl Download<'_> {
    pub(super) async fn run(mut self) -> Result<Ended, Error> {
        let (head_bytes, response) = self.final_head().await?;
        if !self.repeat_on.is_empty() && self.repeat_on.contains(&response.status) {
            return Ok(Ended::Repeat(response.status));
        }
        self.progress.head_seen.set(true);
        self.timers.nobody(self.deadline);
        self.begin_response();
        if response.is_upgrade() {
            let forward = self.forward_response(BodyFraming::None, true);
            self.write_head(head_bytes, &response, &forward);
            self.send_head().await?;
            return Ok(Ended::Upgraded);
        }
        let modern = self.request.version == Version::Http11;
        let (shape, sink) = match response.framing {
            BodyFraming::None => (BodyFraming::None, Sink::Plain),
            BodyFraming::Length(length) => (BodyFraming::Length(length), Sink::Plain),
            _ if !modern => (BodyFraming::UntilClose, Sink::Plain),
            BodyFraming::Chunked | BodyFraming::UntilClose => (
                BodyFraming::Chunked,
                Sink::Chunked {
                    trailers: self.trailers,
                },
            ),
        };
        let keep_alive = self.request.keep_alive
            && shape != BodyFraming::UntilClose
            && !self.writer.worker.is_draining()
            && self.rest_is_short();
        let forward = self.forward_response(shape, keep_alive);
        self.write_head(head_bytes, &response, &forward);
        let mut body = Transfer::new(response.framing, sink);
        self.stream(&mut body, !keep_alive).await?;
        let reusable = response.reusable
            && response.framing != BodyFraming::UntilClose
            && self.upstream.data().is_empty();
        Ok(Ended::Response(Finished {
            bytes: head_bytes as u64 + body.payload_bytes(),
            reusable,
            keep_alive,
        }))
    }

    /// Puts a response of which all is there into the client's `out`: a head of `length` bytes and `body` bytes behind it.
    pub(super) fn put_whole(
        &mut self,
        length: usize,
        response: &ResponseHead,
        body: u64,
    ) -> Finished {
        self.begin_response();
        let forward = self.forward_response(response.framing, true);
        self.write_head(length, response, &forward);
        let mut piece = std::mem::replace(self.upstream.buf(), Buf::empty());
        let (head, out) = (self.scratch.response_head.data(), &mut self.writer.out);
        if out.is_empty() && !piece.is_empty() && piece.prepend(head) {
            *out = piece;
        } else {
            out.extend(head);
            out.extend(piece.data());
        }
        self.record.response_body_bytes = body;
        Finished {
            bytes: length as u64 + body,
            reusable: response.reusable,
            keep_alive: true,
        }
    }

    #[inline]
    fn begin_response(&mut self) {
        self.writer.begin_response();
        let worker = &self.writer.worker;
        // Only the access log tells it, and a reading of the clock costs more than a decision of the limiter.
        self.record.first_byte = worker.log.as_ref().map(|_| {
            worker
                .clock
                .now()
                .saturating_duration_since(self.record.started)
        });
    }

    /// What is left of the request is short enough to be read for nothing should the upstream not want it.
    fn rest_is_short(&self) -> bool {
        self.progress.uploaded.get()
            || !self.request.expect_continue
                && (self.request.framing == BodyFraming::None
                    || matches!(self.request.framing, BodyFraming::Length(length) if length <= DISCARD_BYTES_MAX))
    }

    fn forward_response(&self, body: BodyFraming, keep_alive: bool) -> ForwardResponse<'static> {
        ForwardResponse {
            body,
            client_version: self.request.version,
            keep_alive,
            trailers: self.trailers,
            date: None,
            via: None,
            edits: Edits::NONE,
        }
    }

    /// Takes a head of `length` bytes out of the buffer and writes it as it will go out.
    fn write_head(
        &mut self,
        length: usize,
        response: &ResponseHead,
        forward: &ForwardResponse<'_>,
    ) {
        let listener = &self.writer.listener.config;
        let route = self.route.filter(|_| !response.is_interim());
        if let Some(route) = route {
            let head = self.upstream.data().get(..length).unwrap_or_default();
            let present = Present::Upstream(head);
            self.scratch.put_response_lines(route, self.record, present);
        }
        let Scratch {
            response_fields: fields,
            response_head: out,
            lines,
            ..
        } = &mut *self.scratch;
        let forward = ForwardResponse {
            edits: route.map_or(Edits::NONE, |route| Edits {
                lines,
                removed: route.response_headers.removed(),
            }),
            ..*forward
        };
        let buf = self.upstream.buf();
        let head = buf.data().get(..length).unwrap_or_default();
        out.clear();
        self.writer.worker.clock.with_date(|date| {
            let forward = &ForwardResponse {
                via: listener.via.as_deref().map(str::as_bytes),
                date: Some(date),
                ..forward
            };
            out.reserve(forward.size_max(head.len(), fields.len()));
            write_response_head(out, head, response, fields, forward);
        });
        buf.consume(length);
        self.record.status = if response.is_interim() {
            0
        } else {
            response.status
        };
    }

    /// Sends a head that no body follows.
    async fn send_head(&mut self) -> Result<(), Error> {
        self.writer.out.extend(self.scratch.response_head.data());
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.progress.flushing.set(true);
        let flushed = self.writer.flush().await;
        self.progress.flushing.set(false);
        flushed
    }

    /// Reads until the final head is at the front of the buffer, and its length; relays the interim ones.
    async fn final_head(&mut self) -> Result<(usize, ResponseHead), Error> {
        let context = context_of(self.request, self.upgrade, &self.timers);
        let mut interims = 0;
        loop {
            let (length, response) = match self.known.take() {
                Some(known) => known,
                None => {
                    let length = next_head(self.upstream, self.deadline, interims > 0).await?;
                    let head = self.upstream.data().get(..length).unwrap_or_default();
                    let fields = &mut self.scratch.response_fields;
                    let response = parse_response(head, &context, fields)
                        .map_err(|error| Error::Upstream(Fault::Response(error)))?;
                    (length, response)
                }
            };
            self.count_tolerated(&response);
            if !response.is_interim() {
                return Ok((length, response));
            }
            interims += 1;
            if interims > INTERIMS_MAX || length > INTERIM_HEAD_MAX {
                return Err(Error::Upstream(Fault::TooManyInterims));
            }
            // RFC 9110, 15.2: never to a client of HTTP/1.0.
            if self.request.version == Version::Http11 {
                let forward = self.forward_response(BodyFraming::None, true);
                self.write_head(length, &response, &forward);
                self.send_head().await?;
            } else {
                self.upstream.buf().consume(length);
            }
        }
    }

    #[inline]
    fn count_tolerated(&self, response: &ResponseHead) {
        if response.tolerated != ResponseFaults::NONE
            && let Some(upstream) = self.record.upstream
        {
            for fault in response.tolerated.iter() {
                self.writer
                    .worker
                    .metrics
                    .response_tolerated(upstream, fault.name());
            }
        }
    }

    /// Passes the body on, piece by piece; the head goes out with the first piece. `is_last`: the connection ends behind it.
    async fn stream(&mut self, body: &mut Transfer, is_last: bool) -> Result<(), Error> {
        let first = self.take(body).inspect_err(|_| {
            // Nothing of it has been sent: the client can still be told.
            self.record.status = 0;
        })?;
        self.put_first(first).await?;
        let mut fairness = Fairness::default();
        loop {
            if body.is_ended() {
                self.deadline.clear(Why::Busy);
                if is_last {
                    self.writer.send_last();
                }
                return self.flush().await;
            }
            self.read_ahead(body);
            self.flush().await?;
            self.timers.idle(self.deadline);
            match self.upstream.fill().await {
                // While the client takes this, the upstream owes nothing.
                Ok(count) if count > 0 => self.timers.nobody(self.deadline),
                end => return self.closed(body, end.is_ok()).await,
            }
            fairness.turn().await;
            let piece = self.take(body)?;
            self.put(piece).await?;
        }
    }

    /// What there is of the body.
    fn take(&mut self, body: &mut Transfer) -> Result<Buf, Error> {
        let piece = body
            .take(self.upstream.buf())
            .map_err(|error| Error::Upstream(Fault::Chunk(error)))?;
        self.record.response_body_bytes = body.payload_bytes();
        Ok(piece)
    }

    /// Puts the head before `piece`, where it mostly fits, so that the body is not copied.
    async fn put_first(&mut self, mut piece: Buf) -> Result<(), Error> {
        let head = self.scratch.response_head.data();
        if self.writer.out.is_empty() && piece.prepend(head) {
            self.writer.out = piece;
            return Ok(());
        }
        self.writer.out.extend(head);
        self.put(piece).await
    }

    /// Appends `piece` to what goes out, or sends what is there first where that would be too much to copy.
    async fn put(&mut self, piece: Buf) -> Result<(), Error> {
        if self.writer.out.len() + piece.len() <= COALESCE_BYTES_MAX {
            self.writer.out.extend(piece.data());
            return Ok(());
        }
        self.flush().await?;
        self.writer.out = piece;
        Ok(())
    }

    fn read_ahead(&mut self, body: &Transfer) {
        if !self.upstream.is_armed() {
            let size = body.read_size().min(LARGE_BYTES);
            let buf = self.upstream.buf();
            if buf.is_empty() && buf.capacity() < size {
                *buf = Buf::with_capacity(size);
            }
            self.upstream.arm();
        }
    }

    /// The upstream closed inside the body: that ends a body without a length, and cuts any other.
    async fn closed(&mut self, body: &mut Transfer, orderly: bool) -> Result<(), Error> {
        // A deadline's shutdown looks like an end.
        let fired = self.deadline.fired();
        let cut = upstream_end(fired, Fault::Truncated);
        match body.close() {
            Some(last) if orderly && fired.is_none() => {
                self.writer.out.extend(last);
                self.flush().await
            }
            _ => Err(cut),
        }
    }
}

/// What decides how a response to `request` is read.
#[inline]
pub(super) fn context_of<'a>(
    request: &RequestHead,
    upgrade: Option<&'a [u8]>,
    timers: &Timers<'_>,
) -> RequestContext<'a> {
    RequestContext {
        method: request.method,
        upgrade,
        fields_max: RESPONSE_LIMITS.fields_max,
        tolerate: timers.pool.upstream().config.tolerate,
    }
}

/// Reads until a whole response head is at the front of the buffer of `upstream`; its length. `begun`: part of the response has
/// come before.
pub(super) async fn next_head(
    upstream: &mut Reader,
    deadline: &Deadline<Why>,
    mut begun: bool,
) -> Result<usize, Error> {
    let mut scanner = HeadScanner::for_response();
    loop {
        let scanned = if upstream.is_armed() {
            Ok(None)
        } else {
            scanner.scan(upstream.data(), &RESPONSE_LIMITS)
        };
        if let Some(range) = scanned.map_err(|error| Error::Upstream(Fault::Head(error)))? {
            debug_assert_eq!(range.start, 0, "no empty line before a response");
            return Ok(range.end);
        }
        begun |= !upstream.data().is_empty();
        match upstream.fill().await {
            Ok(count) if count > 0 => {}
            _ => {
                let fault = if begun {
                    Fault::Truncated
                } else {
                    Fault::ClosedBeforeResponse
                };
                return Err(upstream_end(deadline.fired(), fault));
            }
        }
    }
}
