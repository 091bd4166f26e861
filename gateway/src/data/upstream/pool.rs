//! One worker's connections to one upstream: picks an endpoint, reuses an idle connection or makes a new one.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use runtime::{Deadlines, Expiry, Reader, Socket};

use super::balance::Balancer;
use super::budget::Budget;
use super::endpoint::{Endpoint, Target, Upstream};
use super::pending::{Queue, Waiting};
use super::{Lease, LeaseError, Met, Place};
use crate::config::RETRIES_MAX;
use crate::data::Why;
use crate::telemetry::MetricsWriter;

/// Endpoints tried for one request when connecting fails. Nothing was sent, so any request may go to another.
const CONNECT_TRIES_MAX: usize = 3;
/// Endpoints passed over for one request: those and the ones that failed it before.
const TRIED_MAX: usize = CONNECT_TRIES_MAX + RETRIES_MAX;

/// The turn of an endpoint to get a request. A request that is counted in flight is so from here on.
#[derive(Debug)]
pub struct Turn<'a> {
    endpoint: usize,
    key: Option<u64>,
    failed: &'a [usize],
    count: Option<Counted<'a>>,
}

impl Turn<'_> {
    /// The request has its connection, and is counted as long as it has it.
    fn end(self, mut lease: Box<Lease>) -> Box<Lease> {
        if let Some(count) = self.count {
            count.pass_on();
            lease.place.counted = true;
        }
        lease
    }
}

/// A request in flight, counted at its endpoint until it is dropped or passed on.
#[derive(Debug)]
struct Counted<'a> {
    endpoint: &'a Endpoint,
}

impl<'a> Counted<'a> {
    /// `None`: the endpoint has as many as it may.
    fn new(upstream: &'a Upstream, endpoint: usize) -> Option<Self> {
        let endpoint = &*upstream.endpoints[endpoint];
        let entered = endpoint.enter(upstream.config.max_requests);
        // Made only then: dropping one leaves.
        entered.then(|| Self { endpoint })
    }

    fn pass_on(self) {
        std::mem::forget(self);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // Calls nobody: who waits and finds no connection after all would call itself. See [`Pool::call_next`].
        self.endpoint.leave();
    }
}

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Pool {
    upstream: Arc<Upstream>,
    deadlines: Deadlines<Why>,
    metrics: Rc<MetricsWriter>,
    /// The upstream's index, for the metrics.
    number: usize,
    budget: Budget,
    /// This worker's requests that wait for a place.
    queue: Queue,
    worker: usize,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Idle connections per endpoint, the last used on top: those below grow old and go.
    #[expect(
        clippy::vec_box,
        reason = "each goes in and out for every request, and is not to be copied each time"
    )]
    idle: Vec<Vec<Box<Lease>>>,
    balancer: Balancer,
    /// Which address of a name is tried first.
    rotation: usize,
}

impl Pool {
    /// An empty pool. `worker` staggers the workers, so that they do not all begin with the first endpoint.
    #[must_use]
    pub fn new(
        upstream: Arc<Upstream>,
        deadlines: Deadlines<Why>,
        metrics: Rc<MetricsWriter>,
        number: usize,
        worker: usize,
    ) -> Self {
        let idle = upstream.endpoints.iter().map(|_| Vec::new()).collect();
        let state = State {
            idle,
            balancer: Balancer::new(&upstream, worker),
            rotation: worker,
        };
        Self {
            upstream,
            deadlines,
            metrics,
            number,
            budget: Budget::default(),
            queue: Queue::new(worker),
            worker,
            state: RefCell::new(state),
        }
    }

    /// What is shared of the upstream.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whose turn it is, but nobody's of `failed`, where there is another. `key`: the hash of what the request is told apart by,
    /// where the upstream goes by that. Never waits.
    ///
    /// # Errors
    ///
    /// No endpoint takes part, or all have as many requests as they may, or others wait for one.
    #[inline]
    pub fn turn<'a>(
        &'a self,
        key: Option<u64>,
        failed: &'a [usize],
    ) -> Result<Turn<'a>, LeaseError> {
        if self.upstream.pending().is_some_and(|waiting| waiting > 0) {
            return Err(LeaseError::Full);
        }
        self.turn_of_waiting(key, failed)
    }

    /// As [`Self::turn`], for who has waited.
    ///
    /// # Errors
    ///
    /// As there, but for those who wait.
    #[inline]
    pub fn turn_of_waiting<'a>(
        &'a self,
        key: Option<u64>,
        failed: &'a [usize],
    ) -> Result<Turn<'a>, LeaseError> {
        let upstream = &*self.upstream;
        let mut state = self.state.borrow_mut();
        let mut endpoint = state.balancer.next(upstream, key, failed);
        if endpoint.is_none() && !failed.is_empty() {
            endpoint = state.balancer.next(upstream, key, &[]);
        }
        let endpoint = endpoint.ok_or(LeaseError::Unhealthy)?;
        let (endpoint, count) = if upstream.counts_requests() {
            self.count(&state, endpoint, failed)?
        } else {
            (endpoint, None)
        };
        Ok(Turn {
            endpoint,
            key,
            failed,
            count,
        })
    }

    /// Counts a request at `endpoint`, or at the next that may have one more and is none of `tried`.
    fn count(
        &self,
        state: &State,
        endpoint: usize,
        tried: &[usize],
    ) -> Result<(usize, Option<Counted<'_>>), LeaseError> {
        let count = |endpoint| {
            let counted = Counted::new(&self.upstream, endpoint)?;
            Some((endpoint, Some(counted)))
        };
        let others = || {
            let others = state.balancer.others(endpoint);
            others.filter(|other| !tried.contains(other))
        };
        count(endpoint)
            .or_else(|| others().find_map(count))
            .ok_or(LeaseError::Full)
    }

    /// Somebody got no connection and gave up: calls who waits for the place that it had meanwhile.
    pub fn call_next(&self) {
        if let Some(pending) = &self.upstream.pending {
            pending.place_is_free();
        }
    }

    /// Joins the queue of those who wait for a place; `None`: it is full, or there is none.
    #[must_use]
    pub fn join_queue(&self) -> Option<Waiting<'_>> {
        self.queue.join(self.upstream.pending.as_ref()?)
    }

    /// An idle connection to the endpoint whose turn it is, if there is a live one. Never waits.
    ///
    /// A connection on which anything has happened since it was given back (the end, or bytes nobody asked for) is
    /// closed.
    ///
    /// # Errors
    ///
    /// There is none; the turn is the caller's again.
    #[inline]
    pub fn reuse<'a>(&self, turn: Turn<'a>) -> Result<Box<Lease>, Turn<'a>> {
        match self.state.borrow_mut().take_idle(turn.endpoint) {
            Some(lease) => Ok(turn.end(lease)),
            None => Err(turn),
        }
    }

    /// A new connection to the endpoint whose turn it is, or one to another endpoint when that one fails, for which an
    /// idle one will do unless it must be `fresh`. Each try may take `timeout`.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] of the last endpoint tried.
    pub async fn connect(
        &self,
        turn: Turn<'_>,
        now: impl Fn() -> Instant,
        timeout: Duration,
        fresh: bool,
    ) -> Result<Box<Lease>, LeaseError> {
        let mut last_error = LeaseError::Full;
        let mut tried = ArrayVec::<usize, TRIED_MAX>::new();
        // Has room for all of them.
        tried.extend(turn.failed.iter().copied().take(RETRIES_MAX));
        let mut left = match self.upstream.config.retry.connect {
            true => CONNECT_TRIES_MAX,
            false => 1,
        };
        let (key, mut next) = (turn.key, Some(turn));
        while let Some(turn) = next {
            let index = turn.endpoint;
            let idle = self.state.borrow_mut().take_idle(index);
            if let Some(lease) = idle.filter(|_| !fresh) {
                return Ok(turn.end(lease));
            }
            // So many are looked at, whatever else happens meanwhile.
            if tried.try_push(index).is_err() {
                break;
            }
            let endpoint = &self.upstream.endpoints[index];
            let Some(permit) = endpoint.admit() else {
                drop(turn);
                next = self.with_place(key, &tried, index, fresh);
                continue;
            };
            left -= 1;
            let start = now();
            match self.open(endpoint, timeout).await {
                Ok((socket, resolved)) => {
                    let socket = Rc::new(socket);
                    return Ok(turn.end(Box::new(Lease {
                        deadline: self.deadlines.register(Rc::clone(&socket), Why::Busy),
                        reader: Reader::new(socket),
                        endpoint: index,
                        reused: false,
                        connect_time: now().duration_since(start),
                        resolved,
                        place: Place::new(
                            permit,
                            Rc::clone(&self.metrics),
                            self.number,
                            self.upstream.pending.clone(),
                        ),
                    })));
                }
                Err(error) => {
                    if !matches!(error, LeaseError::Exhausted(_)) {
                        self.upstream.met(index, Met::Failure);
                    }
                    last_error = error;
                }
            }
            next = match left {
                0 => None,
                _ => self.next_untried(key, &tried),
            };
        }
        Err(last_error)
    }

    /// Whose turn it is, passing over those tried already; `None`: nobody is left.
    fn next_untried(&self, key: Option<u64>, tried: &[usize]) -> Option<Turn<'_>> {
        let mut state = self.state.borrow_mut();
        let endpoint = state.balancer.next(&self.upstream, key, tried)?;
        self.turn_at(&state, key, endpoint, tried)
    }

    /// The turn of one that has a place for a connection or an idle one, from the one behind `endpoint` on.
    #[cold]
    fn with_place(
        &self,
        key: Option<u64>,
        tried: &[usize],
        endpoint: usize,
        fresh: bool,
    ) -> Option<Turn<'_>> {
        let state = self.state.borrow();
        let has_place = |&other: &usize| {
            let each = &self.upstream.endpoints[other];
            let has_idle = !fresh && !state.idle[other].is_empty();
            let may_connect = each.connections() < each.connections_max;
            !tried.contains(&other) && (has_idle || may_connect)
        };
        let other = state.balancer.others(endpoint).find(has_place)?;
        self.turn_at(&state, key, other, tried)
    }

    fn turn_at(
        &self,
        state: &State,
        key: Option<u64>,
        endpoint: usize,
        tried: &[usize],
    ) -> Option<Turn<'_>> {
        let (endpoint, count) = match self.upstream.counts_requests() {
            true => self.count(state, endpoint, tried).ok()?,
            false => (endpoint, None),
        };
        Some(Turn {
            endpoint,
            key,
            failed: &[],
            count,
        })
    }

    /// A connection, and of a name the address that it is to.
    async fn open(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<(Socket, Option<SocketAddr>), LeaseError> {
        let attempt = async {
            match &endpoint.target {
                Target::Tcp(address) => Socket::connect_tcp(*address)
                    .await
                    .map(|socket| (socket, None)),
                Target::Unix(path) => Socket::connect_unix(path)
                    .await
                    .map(|socket| (socket, None)),
                Target::Host(cell) => {
                    let addresses = cell.load();
                    let first = {
                        let mut state = self.state.borrow_mut();
                        state.rotation = state.rotation.wrapping_add(1);
                        state.rotation
                    };
                    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
                    for turn in 0..addresses.len() {
                        let address = addresses[first.wrapping_add(turn) % addresses.len()];
                        let connected = Socket::connect_tcp(address).await;
                        result = connected.map(|socket| (socket, Some(address)));
                        if result.is_ok() {
                            break;
                        }
                    }
                    result
                }
            }
        };
        // Dropping a connect that is under way is safe, unlike a read or a write.
        match monoio::time::timeout(timeout, attempt).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(classify(error)),
            Err(_elapsed) => Err(LeaseError::ConnectTimeout),
        }
    }

    /// Keeps a connection for the next request. The caller vouches that its last exchange ended cleanly: response
    /// read to its end, request sent to its end, nothing left in the buffer, and that the endpoint keeps it open.
    ///
    /// The next read is armed at once: it will bring the next response, and until then shows a connection that the
    /// endpoint closed.
    pub fn give_back(&self, mut lease: Box<Lease>) {
        debug_assert!(
            lease.reader.data().is_empty(),
            "bytes left over are somebody else's answer"
        );
        let config = &self.upstream.config;
        let mut state = self.state.borrow_mut();
        let idle = &mut state.idle[lease.endpoint];
        let is_kept = idle.len() < self.upstream.idle_max && lease.deadline.fired().is_none();
        if !is_kept || has_vanished(&self.upstream.endpoints[lease.endpoint], &lease) {
            return;
        }
        if let Some(pending) = &self.upstream.pending
            && pending.waiting() > 0
            && lease.place.is_scarce()
            && pending.oldest_is_elsewhere(self.worker)
        {
            // It is of use on this worker alone; closed, it makes room for who has waited longest.
            return;
        }
        lease.reader.arm();
        lease.place.end_use();
        lease
            .deadline
            .set(config.keepalive_timeout, Expiry::EndBoth, Why::PoolIdle);
        idle.push(lease);
        if let Some(last) = idle.last() {
            last.place.free.call();
        }
    }

    /// A request began of which `share` in a hundred may be sent again.
    #[inline]
    pub fn earn_retries(&self, share: u8) {
        self.budget.earn(share);
    }

    /// The budget has a retry left.
    #[must_use]
    pub fn has_retries(&self) -> bool {
        self.budget.has_any()
    }

    /// Takes a retry out of the budget; false: there is none.
    #[must_use]
    pub fn spend_retry(&self) -> bool {
        self.budget.spend()
    }

    /// A request was not sent again for want of budget.
    pub fn count_exhausted(&self) {
        self.metrics.retry_budget_exhausted(self.number);
    }

    /// Closes idle connections that are too old or that the endpoint has closed. Called by the sweeper, twice a second.
    pub fn sweep(&self) {
        self.budget.half_second();
        let mut state = self.state.borrow_mut();
        for (idle, endpoint) in state.idle.iter_mut().zip(&self.upstream.endpoints) {
            idle.retain_mut(|lease| {
                lease.deadline.fired().is_none()
                    && lease.reader.try_fill().is_none()
                    && !has_vanished(endpoint, lease)
            });
        }
        if let Some(pending) = &self.upstream.pending
            && pending.waiting() > 0
        {
            self.queue.look_again(pending);
            if pending.oldest_is_elsewhere(self.worker) {
                // What lies idle here is a place that somebody waits for.
                let scarce = |idle: &&mut Vec<Box<Lease>>| {
                    idle.last().is_some_and(|lease| lease.place.is_scarce())
                };
                state.idle.iter_mut().filter(scarce).for_each(Vec::clear);
            }
        }
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.state.borrow_mut().idle.iter_mut().for_each(Vec::clear);
    }

    /// Idle connections.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.state.borrow().idle.iter().map(Vec::len).sum()
    }
}

impl State {
    /// The live idle connection to an endpoint that was used last.
    fn take_idle(&mut self, endpoint: usize) -> Option<Box<Lease>> {
        while let Some(mut lease) = self.idle[endpoint].pop() {
            if lease.reader.try_fill().is_none() && lease.deadline.fired().is_none() {
                lease.reused = true;
                lease.connect_time = Duration::ZERO;
                lease.place.begin_use();
                return Some(lease);
            }
        }
        None
    }
}

/// The name's addresses no longer hold the one that the connection is to.
#[inline]
fn has_vanished(endpoint: &Endpoint, lease: &Lease) -> bool {
    match lease.resolved {
        Some(address) => lacks(endpoint, address),
        None => false,
    }
}

#[inline(never)]
fn lacks(endpoint: &Endpoint, address: SocketAddr) -> bool {
    match &endpoint.target {
        Target::Host(cell) => !cell.load().contains(&address),
        Target::Tcp(_) | Target::Unix(_) => false,
    }
}

fn classify(error: io::Error) -> LeaseError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            LeaseError::Exhausted(error)
        }
        _ if error.kind() == io::ErrorKind::AddrNotAvailable && error.raw_os_error().is_none() => {
            LeaseError::NoAddress
        }
        Some(libc::ETIMEDOUT) => LeaseError::ConnectTimeout,
        _ => LeaseError::Refused(error),
    }
}
