//! One worker's connections to one upstream: picks an endpoint, reuses an idle connection or makes a new one.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use runtime::{Deadlines, Expiry, Reader, Socket};

use super::endpoint::{Endpoint, Target, Upstream};
use super::{Lease, LeaseError, Place};
use crate::data::Why;
use crate::telemetry::MetricsWriter;

/// Endpoints tried for one request when connecting fails. Nothing was sent, so any request may go to another.
const CONNECT_TRIES_MAX: usize = 3;

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Pool {
    upstream: Arc<Upstream>,
    deadlines: Deadlines<Why>,
    metrics: Rc<MetricsWriter>,
    /// The upstream's index, for the metrics.
    number: usize,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Idle connections per endpoint, the last used on top: those below grow old and go.
    idle: Vec<Vec<Lease>>,
    balance: SmoothRoundRobin,
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
        let mut balance =
            SmoothRoundRobin::new(upstream.endpoints.iter().map(|endpoint| endpoint.weight));
        for _ in 0..worker {
            balance.next();
        }
        let idle = upstream.endpoints.iter().map(|_| Vec::new()).collect();
        let state = State {
            idle,
            balance,
            rotation: worker,
        };
        Self {
            upstream,
            deadlines,
            metrics,
            number,
            state: RefCell::new(state),
        }
    }

    /// What is shared of the upstream.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// An idle connection to the endpoint whose turn it is, if there is a live one. Never waits.
    ///
    /// A connection on which anything has happened since it was given back (the end, or bytes nobody asked for) is
    /// closed.
    pub fn reuse(&self) -> Option<Lease> {
        let mut state = self.state.borrow_mut();
        let endpoint = state.balance.peek();
        let lease = state.take_idle(endpoint)?;
        state.balance.next();
        Some(lease)
    }

    /// A new connection to the endpoint whose turn it is, or one to another endpoint when that one fails, for which an
    /// idle one will do unless it must be `fresh`. Never to `broken`, where there is another. Each try may take `timeout`.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] of the last endpoint tried.
    pub async fn connect(
        &self,
        now: impl Fn() -> Instant,
        timeout: Duration,
        fresh: bool,
        broken: Option<usize>,
    ) -> Result<Lease, LeaseError> {
        let mut last_error = LeaseError::Full;
        let mut tried = ArrayVec::<usize, CONNECT_TRIES_MAX>::new();
        tried.extend(broken.filter(|_| self.upstream.endpoints.len() > 1));
        while let Some(index) = self.next_untried(&tried) {
            let idle = self.state.borrow_mut().take_idle(index);
            if let Some(lease) = idle.filter(|_| !fresh) {
                return Ok(lease);
            }
            tried.push(index);
            let endpoint = &self.upstream.endpoints[index];
            let Some(permit) = endpoint.admit() else {
                continue;
            };
            let start = now();
            match self.open(endpoint, timeout).await {
                Ok(socket) => {
                    let socket = Rc::new(socket);
                    return Ok(Lease {
                        deadline: self.deadlines.register(Rc::clone(&socket), Why::Busy),
                        reader: Reader::new(socket),
                        endpoint: index,
                        reused: false,
                        connect_time: now().duration_since(start),
                        place: Place::new(permit, Rc::clone(&self.metrics), self.number),
                    });
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Whose turn it is, passing over those tried already; `None`: enough were.
    fn next_untried(&self, tried: &ArrayVec<usize, CONNECT_TRIES_MAX>) -> Option<usize> {
        if tried.is_full() {
            return None;
        }
        let next = self.state.borrow_mut().balance.next();
        if !tried.contains(&next) {
            return Some(next);
        }
        (0..self.upstream.endpoints.len()).find(|index| !tried.contains(index))
    }

    async fn open(&self, endpoint: &Endpoint, timeout: Duration) -> Result<Socket, LeaseError> {
        let attempt = async {
            match &endpoint.target {
                Target::Tcp(address) => Socket::connect_tcp(*address).await,
                Target::Unix(path) => Socket::connect_unix(path).await,
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
                        result = Socket::connect_tcp(address).await;
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
    pub fn give_back(&self, mut lease: Lease) {
        debug_assert!(
            lease.reader.data().is_empty(),
            "bytes left over are somebody else's answer"
        );
        let config = &self.upstream.config;
        let mut state = self.state.borrow_mut();
        let idle = &mut state.idle[lease.endpoint];
        if idle.len() >= self.upstream.idle_max || lease.deadline.fired().is_some() {
            return;
        }
        lease.reader.arm();
        lease.place.end_use();
        lease
            .deadline
            .set(config.keepalive_timeout, Expiry::EndBoth, Why::PoolIdle);
        idle.push(lease);
    }

    /// Closes idle connections that are too old or that the endpoint has closed. Called by the sweeper.
    pub fn sweep(&self) {
        let mut state = self.state.borrow_mut();
        for idle in &mut state.idle {
            idle.retain_mut(|lease| {
                lease.deadline.fired().is_none() && lease.reader.try_fill().is_none()
            });
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
    fn take_idle(&mut self, endpoint: usize) -> Option<Lease> {
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

/// Weighted round robin that spreads each endpoint's turns evenly (nginx's method): every turn each endpoint gains
/// its weight, the richest is picked and pays the sum of all.
#[derive(Debug)]
struct SmoothRoundRobin {
    weights: Vec<i64>,
    current: Vec<i64>,
}

impl SmoothRoundRobin {
    fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<i64> = weights.map(i64::from).collect();
        let current = vec![0; weights.len()];
        Self { weights, current }
    }

    /// Whose turn it will be.
    fn peek(&self) -> usize {
        if self.weights.len() == 1 {
            return 0;
        }
        let gain = |index: usize| self.current[index] + self.weights[index];
        // The first of the richest: `max_by_key` would take the last.
        (0..self.weights.len())
            .rev()
            .max_by_key(|&index| gain(index))
            .unwrap_or(0)
    }

    /// Takes the turn.
    fn next(&mut self) -> usize {
        let picked = self.peek();
        if self.weights.len() == 1 {
            return picked;
        }
        let total: i64 = self.weights.iter().sum();
        for (current, weight) in self.current.iter_mut().zip(&self.weights) {
            *current += weight;
        }
        self.current[picked] -= total;
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights_and_are_spread_out() {
        let mut balance = SmoothRoundRobin::new([5, 1, 1].into_iter());
        let turns: Vec<usize> = (0..14).map(|_| balance.next()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn equal_weights_take_turns() {
        let mut balance = SmoothRoundRobin::new([1, 1, 1].into_iter());
        let turns: Vec<usize> = (0..6).map(|_| balance.next()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }
}
