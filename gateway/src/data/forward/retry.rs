//! Whether a request that failed is sent again, and to whom not.

use arrayvec::ArrayVec;

use super::timers::Timers;
use crate::config::{RETRIES_MAX, RetryConfig, RouteConfig};
use crate::data::codec::{BodyFraming, RequestHead, is_idempotent};
use crate::data::error::{Error, Fault};
use crate::data::upstream::{Lease, Pool};
use crate::telemetry::UpstreamError;

/// The tries of one request.
pub(super) struct Tries<'a> {
    pool: &'a Pool,
    config: &'a RetryConfig,
    /// Endpoints that failed it.
    failed: ArrayVec<usize, RETRIES_MAX>,
    /// How often it may be sent again.
    left: u8,
    /// It was sent, and will be sent on a new connection.
    sent: bool,
    /// It met a connection that had gone stale.
    stale: bool,
    /// For want of budget a response is passed on whatever its status.
    starved: bool,
}

impl<'a> Tries<'a> {
    /// Of a request of `route`, which may allow fewer tries than the upstream of `pool`.
    #[inline]
    pub(super) fn new(pool: &'a Pool, replayable: bool, route: Option<&RouteConfig>) -> Self {
        let config = &pool.upstream().config.retry;
        let most = route.and_then(|route| route.retries).unwrap_or(u8::MAX);
        pool.earn_retries(config.budget);
        Self {
            pool,
            config,
            failed: ArrayVec::new(),
            left: match replayable {
                true => config.attempts.min(most),
                false => 0,
            },
            sent: false,
            stale: !replayable,
            starved: false,
        }
    }

    /// Endpoints that failed the request: not again, where there is another.
    pub(super) fn failed(&self) -> &[usize] {
        &self.failed
    }

    /// The request was sent before: only a new connection is sure not to be stale.
    pub(super) fn is_again(&self) -> bool {
        self.sent
    }

    /// It can be sent once more, should this try fail.
    fn has_another(&self) -> bool {
        // Where nothing is written, who failed it is not asked for the same again at once.
        let somebody = self.config.written || self.pool.upstream().endpoints.len() > 1;
        self.left > 0 && somebody
    }

    /// Statuses with which the response to this try is not passed on.
    #[inline]
    pub(super) fn statuses(&mut self) -> &'a [u16] {
        let config: &'a RetryConfig = self.config;
        if config.statuses.is_empty() || !self.has_another() {
            return &[];
        }
        self.starved = !self.pool.has_retries();
        if self.starved { &[] } else { &config.statuses }
    }

    /// A response with this status was passed on.
    #[inline]
    pub(super) fn passed_on(&self, status: u16) {
        if self.starved && self.config.statuses.contains(&status) {
            self.pool.count_exhausted();
        }
    }

    /// The times of the try that begins. `route_until`: the tick at which the route's time is over.
    #[inline]
    pub(super) fn timers(&self, route_until: Option<u64>) -> Timers<'a> {
        let whole = self.pool.upstream().config.first_byte_timeout;
        let first_byte = match self.config.per_try_timeout {
            Some(time) if self.config.timeout && self.has_another() => time.min(whole),
            _ => whole,
        };
        Timers {
            pool: self.pool,
            route_until,
            first_byte,
        }
    }

    /// The response had one of [`Self::statuses`].
    #[cold]
    pub(super) fn after_status(&mut self, lease: &Lease) -> UpstreamError {
        // That there is one was seen before the response; others may have taken it since.
        let _spent = self.pool.spend_retry();
        self.next(lease);
        UpstreamError::Status
    }

    /// Whether the request is sent again after `error`; as what that counts. `status`: what the client has seen of the
    /// response; 0: nothing.
    #[cold]
    pub(super) fn after_error(
        &mut self,
        error: &Error,
        lease: &Lease,
        status: u16,
    ) -> Option<UpstreamError> {
        if status != 0 {
            return None;
        }
        let (wanted, reason) = match error {
            // An endpoint may close an idle connection at the moment we use it: nobody has failed.
            Error::Upstream(Fault::ClosedBeforeResponse) if lease.reused && !self.stale => {
                self.stale = true;
                self.sent = true;
                return Some(UpstreamError::Reset);
            }
            Error::Upstream(Fault::ClosedBeforeResponse) => {
                (self.config.reset, UpstreamError::Reset)
            }
            Error::Upstream(Fault::FirstByteTimeout) => {
                (self.config.timeout, UpstreamError::FirstByteTimeout)
            }
            _ => return None,
        };
        if !wanted || !self.has_another() {
            return None;
        }
        if !self.pool.spend_retry() {
            self.pool.count_exhausted();
            return None;
        }
        self.next(lease);
        Some(reason)
    }

    fn next(&mut self, lease: &Lease) {
        self.left -= 1;
        self.sent = true;
        // Has room for each attempt.
        let _full = self.failed.try_push(lease.endpoint);
    }
}

/// Sending the request a second time does what sending it once does (RFC 9110, 9.2.2), and all of it is still at hand.
pub(super) fn is_replayable(request: &RequestHead) -> bool {
    is_idempotent(request.method)
        && matches!(request.framing, BodyFraming::None | BodyFraming::Length(0))
}
