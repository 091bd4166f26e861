//! The way up: the request, piece by piece, then an eye on the client while the upstream works.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use runtime::{Buf, Deadline, Expiry, Reader, Socket};

use super::timers::Timers;
use super::{COALESCE_BYTES_MAX, Progress};
use crate::data::Why;
use crate::data::body::Transfer;
use crate::data::connection::{LINGER_BYTES_MAX, fill_in_time, patience};
use crate::data::error::{Error, client_end};
use crate::data::fairness::Fairness;
use crate::data::plan::ListenerPlan;
use crate::data::worker::Worker;

/// How often a client is looked for while the upstream works and no read watches: it is to be missed within a second.
pub(super) const GONE_EVERY: Duration = Duration::from_millis(500);

/// Why not all of the request was sent.
enum Stopped {
    ByClient(Error),
    ByUpstream,
}

pub(super) enum Never {}

/// The way up: the request, then an eye on the client while the upstream works.
pub(super) struct Upload<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) body: &'a mut Transfer,
    pub(super) body_deadline: &'a Deadline<Why>,
    pub(super) socket: &'a Socket,
    pub(super) deadline: &'a Deadline<Why>,
    pub(super) timers: Timers<'a>,
    pub(super) max_body: Option<u64>,
    pub(super) listener: &'a ListenerPlan,
    pub(super) worker: &'a Worker,
    pub(super) progress: &'a Progress,
    pub(super) expect_continue: bool,
    /// The next request is read for meanwhile: not where none follows.
    pub(super) reads_ahead: bool,
    /// Ticks for which the client was waited for.
    pub(super) waited: u64,
}

impl Upload<'_> {
    /// Sends `head`, and what follows it. `None`: all of it was sent, or the upstream does not take it. Ends only where the client
    /// is at fault or gone.
    pub(super) async fn run(mut self, head: Option<Buf>) -> Result<Never, Error> {
        let sent = match head {
            Some(head) => self.send_request(head).await,
            None if self.progress.uploaded.get() => Ok(()),
            None => Err(Stopped::ByUpstream),
        };
        match sent {
            Ok(()) => {
                self.progress.uploaded.set(true);
                self.watch().await
            }
            // An upstream may answer and close without reading the rest: its answer decides.
            Err(Stopped::ByUpstream) => self.throw_away().await,
            Err(Stopped::ByClient(error)) => Err(error),
        }
    }

    async fn send_request(&mut self, mut out: Buf) -> Result<(), Stopped> {
        let mut fairness = Fairness::default();
        loop {
            let mut piece = self.take()?;
            if !piece.is_empty() && piece.prepend(out.data()) {
                out = piece;
            } else if out.len() + piece.len() <= COALESCE_BYTES_MAX {
                out.extend(piece.data());
            } else {
                self.send(std::mem::replace(&mut out, piece)).await?;
            }
            if self.body.is_ended() {
                return self.send(out).await;
            }
            if !out.is_empty() {
                // The next piece may arrive while this one goes out.
                self.read_ahead();
                self.send(std::mem::replace(&mut out, Buf::empty())).await?;
            }
            self.fill().await?;
            fairness.turn().await;
        }
    }

    /// Reads what is left of the body for nobody: a client that reads only when it has sent all must get its answer. What it
    /// does wrong now changes nothing. Does not end.
    async fn throw_away<T>(&mut self) -> T {
        let mut fairness = Fairness::default();
        loop {
            let is_armed = self.reader.is_armed();
            if !is_armed && self.body.take(self.reader.buf()).is_err() {
                break;
            }
            if self.body.is_ended() || self.body.payload_bytes() >= LINGER_BYTES_MAX {
                break;
            }
            self.read_ahead();
            match self.reader.fill().await {
                Ok(count) if count > 0 => self.worker.metrics.received(count as u64),
                _ => break,
            }
            fairness.turn().await;
        }
        pending().await
    }

    /// What there is of the body.
    fn take(&mut self) -> Result<Buf, Stopped> {
        if self.body.is_ended() || self.reader.is_armed() {
            return Ok(Buf::empty());
        }
        let piece = self.body.take(self.reader.buf());
        let piece = piece.map_err(|error| Stopped::ByClient(Error::Chunk(error)))?;
        if self
            .max_body
            .is_some_and(|most| self.body.payload_promised() > most)
        {
            return Err(Stopped::ByClient(Error::BodyTooLarge));
        }
        Ok(piece)
    }

    fn read_ahead(&mut self) {
        if !self.reader.is_armed() && self.reader.data().is_empty() {
            let size = self.body.read_size();
            if self.reader.buf().capacity() < size {
                *self.reader.buf() = Buf::with_capacity(size);
            }
            self.reader.arm();
        }
    }

    /// Waits for the client, and only then counts its time.
    async fn fill(&mut self) -> Result<(), Stopped> {
        let config = &self.listener.config;
        let received = self.body.payload_bytes();
        // A client that was told to wait for 100 owes nothing before it; then the upstream does.
        if !(self.expect_continue && received == 0) {
            let (rate, timeout) = (config.min_body_rate, config.body_timeout);
            let patience = patience(received, self.waited, rate, timeout);
            self.body_deadline.set(patience, Expiry::Wake, Why::Body);
            if !self.progress.head_seen.get() {
                // While the client is waited for, the upstream owes nothing.
                self.timers.nobody(self.deadline);
            }
        }
        let began = self.deadline.now();
        self.read_ahead();
        let filled = fill_in_time(self.reader, self.body_deadline).await;
        match filled.ok_or(Stopped::ByClient(Error::ClientTimeout(Why::Body)))? {
            Ok(0) | Err(_) => Err(Stopped::ByClient(client_end(self.body_deadline.fired()))),
            Ok(count) => {
                self.body_deadline.clear(Why::Busy);
                self.waited += self.deadline.now() - began;
                self.worker.metrics.received(count as u64);
                Ok(())
            }
        }
    }

    async fn send(&self, buf: Buf) -> Result<(), Stopped> {
        self.touch();
        let (result, _buf) = self.socket.send_all(buf, |_| self.touch()).await;
        result.map_err(|_closed| Stopped::ByUpstream)
    }

    /// The upstream's time for its head runs anew with every piece it takes.
    fn touch(&self) {
        if !self.progress.head_seen.get() {
            self.timers.first_byte(self.deadline);
        }
    }

    /// Waits for the client to leave; never for anything else. The read that watches is the next request's, so there is none
    /// where none will come, or not soon: it would have to be cancelled.
    async fn watch(self) -> Result<Never, Error> {
        let config = &self.listener.config;
        let reads = self.reads_ahead && self.reader.data().is_empty();
        if self.reader.is_armed() || reads {
            match self.reader.fill().await {
                // A half-closed client still gets its answer.
                // Of a draining worker's connection the sweeper may have made the end itself.
                Ok(0) if !config.abort_on_client_fin || self.worker.is_draining() => {}
                Ok(0) | Err(_) => {
                    return Err(client_end(self.body_deadline.fired()));
                }
                Ok(count) => self.worker.metrics.received(count as u64),
            }
        }
        // A read does not tell: nothing more is read before the turn of the request whose first bytes are here, or
        // there is no more to read, or the connection closes after this. So it is asked for now and then.
        let at_its_end = config.abort_on_client_fin && !self.worker.is_draining();
        loop {
            self.body_deadline.set(GONE_EVERY, Expiry::Wake, Why::Busy);
            poll_fn(|_| match self.body_deadline.take_woken() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            if self.reader.socket().is_gone(at_its_end) {
                return Err(client_end(self.body_deadline.fired()));
            }
        }
    }
}
