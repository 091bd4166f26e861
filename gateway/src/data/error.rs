//! Everything that can end a request other than its answer: whose fault it is, its name, its status.

use std::rc::Rc;
use std::time::Duration;

use super::Why;
use super::auth::{Denied, Refusal as AuthRefusal};
use super::codec::{ChunkError, HeadError, PathError, RequestError, ResponseError};
use super::filter::ban::Banned;
use super::filter::rules::Refused;
use super::route::Methods;
use super::upstream::LeaseError;
use crate::telemetry::{End, Timeout, UpstreamError};

/// Why a request did not get its answer.
#[derive(Debug)]
pub(super) enum Error {
    /// The head's end could not be found.
    Head(HeadError),
    /// The head breaks a rule.
    Request(RequestError),
    /// The path or query breaks a rule.
    Path(PathError),
    /// Another reading of the path leads to another route.
    AmbiguousPath,
    /// No route takes it.
    NoRoute,
    /// Routes take it, but only with these methods.
    MethodNotAllowed(Methods),
    /// Nobody knows the caller.
    Unauthorized(Denied),
    /// The authenticator with this index has to be waited for first: it verifies a password, or is asked elsewhere.
    Unverified(usize),
    /// Too many passwords wait for that.
    PasswordsBusy,
    /// There are no keys to verify a token with.
    KeysMissing,
    /// An authenticator elsewhere refused it with this status; the client gets its answer.
    AuthRefused(u16, Rc<AuthRefusal>),
    /// An authenticator elsewhere could not be asked; why.
    AuthSilent(&'static str),
    /// The caller is known and may not; why.
    Forbidden(&'static str),
    /// The head is longer than the route takes.
    HeadTooLarge,
    /// The path that the route makes of it is not in normal form.
    Rewrite,
    /// The client is under a penalty.
    Banned(Banned),
    /// The listener does not serve its host.
    HostUnlisted,
    /// It is not as the filter with this index asks.
    Filtered(usize, Refused),
    /// A limit refused it.
    Limited(Refusal),
    /// The body is longer than the route takes.
    BodyTooLarge,
    /// The body breaks the chunked framing.
    Chunk(ChunkError),
    /// The client took too long.
    ClientTimeout(Why),
    /// The client left.
    ClientGone,
    /// There is no connection to an upstream.
    Lease(LeaseError),
    /// The upstream failed during the exchange.
    Upstream(Fault),
    /// The whole exchange took longer than the route allows.
    RouteTimeout,
    /// The worker ends.
    Stopped,
}

/// What a limit says to who is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// Index of the limit.
    pub(super) limit: usize,
    /// Which of its buckets refused.
    pub(super) buckets: usize,
    /// When one more request would be let through.
    pub(super) retry_after: Duration,
}

/// How an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It closed or reset the connection before any byte of the response.
    ClosedBeforeResponse,
    /// It closed or reset the connection inside the response.
    Truncated,
    /// Its response head breaks a rule.
    Head(HeadError),
    /// Its response breaks a rule.
    Response(ResponseError),
    /// Its body breaks the chunked framing.
    Chunk(ChunkError),
    /// More interim responses than are relayed.
    TooManyInterims,
    /// The response head was not there in time.
    FirstByteTimeout,
    /// The response body paused too long.
    IdleTimeout,
}

impl Error {
    /// The status of the answer, where one can still be given; `None`: the connection is closed without a word.
    pub(super) const fn status(&self) -> Option<u16> {
        Some(match self {
            Self::Head(error) => error.status().as_u16(),
            Self::Request(error) => error.status().as_u16(),
            Self::Path(error) => error.status().as_u16(),
            Self::Chunk(error) => error.status().as_u16(),
            Self::AmbiguousPath | Self::Rewrite => 400,
            Self::HeadTooLarge => 431,
            Self::NoRoute => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::Unauthorized(_) => 401,
            Self::Unverified(_) | Self::PasswordsBusy | Self::KeysMissing | Self::AuthSilent(_) => {
                503
            }
            Self::AuthRefused(status, _) => *status,
            Self::Forbidden(_) => 403,
            Self::Banned(banned) => return banned.status,
            Self::HostUnlisted => 421,
            Self::Filtered(_, refused) => refused.status(),
            Self::Limited(_) => 429,
            Self::BodyTooLarge => 413,
            Self::ClientTimeout(Why::Head | Why::Body) => 408,
            Self::ClientTimeout(_) | Self::ClientGone | Self::Stopped => return None,
            Self::Lease(LeaseError::Refused(_) | LeaseError::NoAddress) => 502,
            Self::Lease(LeaseError::ConnectTimeout) | Self::RouteTimeout => 504,
            Self::Lease(
                LeaseError::Full
                | LeaseError::PendingTimeout
                | LeaseError::Unhealthy
                | LeaseError::Exhausted(_),
            ) => 503,
            Self::Upstream(Fault::FirstByteTimeout | Fault::IdleTimeout) => 504,
            Self::Upstream(_) => 502,
        })
    }

    /// The name of the cause in the access log and the metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Head(error) => error.name(),
            Self::Request(error) => error.name(),
            Self::Path(error) => error.name(),
            Self::AmbiguousPath => "path_ambiguous",
            Self::HeadTooLarge => "route_head_too_large",
            Self::Rewrite => "path_rewrite",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Unauthorized(denied) => denied.reason,
            Self::Unverified(_) | Self::PasswordsBusy => "passwords_busy",
            Self::KeysMissing => "token_keys_missing",
            Self::AuthRefused(status, _) => AuthRefusal::reason(*status),
            Self::Forbidden(reason) | Self::AuthSilent(reason) => reason,
            Self::Banned(_) => "banned",
            Self::HostUnlisted => "host_unlisted",
            Self::Filtered(_, refused) => refused.name(),
            Self::Limited(_) => "limited",
            Self::BodyTooLarge => "body_too_large",
            Self::Chunk(error) => error.name(),
            Self::ClientTimeout(Why::Head) => "header_timeout",
            Self::ClientTimeout(Why::Body) => "body_timeout",
            Self::ClientTimeout(_) => "write_timeout",
            Self::ClientGone => "client_gone",
            Self::Lease(LeaseError::Refused(_)) => "connect_refused",
            Self::Lease(LeaseError::ConnectTimeout) => "connect_timeout",
            Self::Lease(LeaseError::Full) => "upstream_full",
            Self::Lease(LeaseError::PendingTimeout) => "pending_timeout",
            Self::Lease(LeaseError::Unhealthy) => "no_healthy_endpoint",
            Self::Lease(LeaseError::NoAddress) => "no_address",
            Self::Lease(LeaseError::Exhausted(_)) => "no_descriptors",
            Self::Upstream(Fault::ClosedBeforeResponse) => "closed_before_response",
            Self::Upstream(Fault::Truncated) => "response_truncated",
            Self::Upstream(Fault::Head(error)) => error.name(),
            Self::Upstream(Fault::Response(error)) => error.name(),
            Self::Upstream(Fault::Chunk(error)) => error.name(),
            Self::Upstream(Fault::TooManyInterims) => "too_many_interim_responses",
            Self::Upstream(Fault::FirstByteTimeout) => "first_byte_timeout",
            Self::Upstream(Fault::IdleTimeout) => "upstream_idle_timeout",
            Self::RouteTimeout => "route_timeout",
            Self::Stopped => "stopped",
        }
    }

    /// How the request ended, for its record.
    pub(super) const fn end(&self) -> End {
        match self {
            Self::Head(_)
            | Self::Request(_)
            | Self::Path(_)
            | Self::AmbiguousPath
            | Self::Rewrite => End::BadRequest,
            Self::Chunk(_) => End::BadRequest,
            Self::NoRoute | Self::MethodNotAllowed(_) => End::NoRoute,
            Self::Unauthorized(_) => End::Unauthorized,
            Self::Unverified(_) | Self::PasswordsBusy | Self::KeysMissing => End::Overloaded,
            Self::AuthRefused(401, _) => End::Unauthorized,
            Self::Forbidden(_) | Self::AuthRefused(403, _) => End::Forbidden,
            // It was told where to go, as the authenticator has it.
            Self::AuthRefused(..) => End::Ok,
            Self::AuthSilent(_) => End::AuthUnavailable,
            Self::Banned(_) => End::Banned,
            Self::HostUnlisted => End::NoRoute,
            Self::Filtered(..) => End::Filtered,
            Self::Limited(_) => End::Limited,
            Self::BodyTooLarge | Self::HeadTooLarge => End::TooLarge,
            Self::ClientTimeout(_) => End::ClientTimeout,
            Self::ClientGone => End::ClientClosed,
            Self::Lease(LeaseError::Refused(_)) => End::UpstreamRefused,
            Self::Lease(LeaseError::ConnectTimeout) => End::UpstreamTimeout,
            Self::Lease(LeaseError::Full | LeaseError::PendingTimeout) => End::UpstreamBusy,
            Self::Lease(LeaseError::Unhealthy) => End::UpstreamUnhealthy,
            Self::Lease(LeaseError::NoAddress) => End::UpstreamUnresolved,
            Self::Lease(LeaseError::Exhausted(_)) => End::Overloaded,
            Self::Upstream(Fault::ClosedBeforeResponse | Fault::Truncated) => End::UpstreamReset,
            Self::Upstream(Fault::FirstByteTimeout | Fault::IdleTimeout) => End::UpstreamTimeout,
            Self::Upstream(_) => End::UpstreamBadResponse,
            Self::RouteTimeout => End::RouteTimeout,
            Self::Stopped => End::Drained,
        }
    }

    /// The deadline to count, if one passed.
    pub(super) const fn timeout(&self) -> Option<Timeout> {
        Some(match self {
            Self::ClientTimeout(Why::Head) => Timeout::Header,
            Self::ClientTimeout(Why::Body) => Timeout::Body,
            Self::ClientTimeout(_) => Timeout::Write,
            Self::Lease(LeaseError::ConnectTimeout) => Timeout::UpstreamConnect,
            Self::Upstream(Fault::FirstByteTimeout) => Timeout::UpstreamFirstByte,
            Self::Upstream(Fault::IdleTimeout) => Timeout::UpstreamIdle,
            Self::RouteTimeout => Timeout::Route,
            Self::Stopped => Timeout::Drain,
            _ => return None,
        })
    }

    /// What to count against the upstream, if it is at fault.
    pub(super) const fn upstream(&self) -> Option<UpstreamError> {
        Some(match self {
            Self::Lease(LeaseError::Refused(_)) => UpstreamError::Refused,
            Self::Lease(LeaseError::ConnectTimeout) => UpstreamError::ConnectTimeout,
            Self::Lease(LeaseError::Full | LeaseError::PendingTimeout) => UpstreamError::Busy,
            Self::Lease(LeaseError::Unhealthy) => UpstreamError::Unhealthy,
            Self::Lease(LeaseError::NoAddress) => UpstreamError::Unresolved,
            Self::Upstream(Fault::ClosedBeforeResponse) => UpstreamError::Reset,
            Self::Upstream(Fault::Truncated) => UpstreamError::Closed,
            Self::Upstream(Fault::FirstByteTimeout) => UpstreamError::FirstByteTimeout,
            Self::Upstream(Fault::IdleTimeout) => UpstreamError::IdleTimeout,
            Self::Upstream(_) => UpstreamError::BadResponse,
            _ => return None,
        })
    }
}

/// Names of causes that are no rule of the codec; beside them [`Error::name`] gives only those of authentication and of filters.
const OWN_REASONS: [&str; 24] = [
    "path_rewrite",
    "route_head_too_large",
    "method_not_allowed",
    "path_ambiguous",
    "no_route",
    "host_unlisted",
    "limited",
    "body_too_large",
    "header_timeout",
    "body_timeout",
    "write_timeout",
    "client_gone",
    "connect_refused",
    "connect_timeout",
    "upstream_full",
    "pending_timeout",
    "no_healthy_endpoint",
    "no_address",
    "no_descriptors",
    "closed_before_response",
    "response_truncated",
    "too_many_interim_responses",
    "first_byte_timeout",
    "upstream_idle_timeout",
];

/// Those of the exchange as a whole, and of connections that get no request.
const OTHER_REASONS: [&str; 5] = [
    "proxy_protocol",
    "route_timeout",
    "stopped",
    "max_connections",
    "max_connections_per_client",
];

/// Every reason for which a request or a connection is refused or given up, as it stands in the access log (`error.type`) and
/// in `ringgate_rejected_requests_total`, but for those of authentication and of filters. A name may come more than once.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    [
        HeadError::NAMES,
        RequestError::NAMES,
        PathError::NAMES,
        ChunkError::NAMES,
        ResponseError::NAMES,
        &OWN_REASONS,
        &OTHER_REASONS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// What a shut-down client connection means, by the deadline that shut it down; without one the client left.
pub(super) const fn client_end(fired: Option<Why>) -> Error {
    match fired {
        Some(Why::Stop) => Error::Stopped,
        Some(why @ (Why::Head | Why::Body | Why::Write | Why::Linger)) => Error::ClientTimeout(why),
        _ => Error::ClientGone,
    }
}

/// What a shut-down upstream connection means, by the deadline that shut it down; `otherwise` without one.
pub(super) const fn upstream_end(fired: Option<Why>, otherwise: Fault) -> Error {
    match fired {
        Some(Why::Stop) => Error::Stopped,
        Some(Why::Route) => Error::RouteTimeout,
        Some(Why::FirstByte) => Error::Upstream(Fault::FirstByteTimeout),
        Some(Why::UpstreamIdle) => Error::Upstream(Fault::IdleTimeout),
        _ => Error::Upstream(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter() {
        let mut all: Vec<&str> = reasons().collect();
        all.sort_unstable();
        all.dedup();
        assert!(all.len() <= crate::telemetry::REASONS_MAX, "{}", all.len());
    }

    #[test]
    fn every_cause_is_among_the_reasons() {
        let refused = || LeaseError::Refused(std::io::ErrorKind::Other.into());
        let exhausted = || LeaseError::Exhausted(std::io::ErrorKind::Other.into());
        let refusal = Refusal {
            limit: 0,
            buckets: 0,
            retry_after: Duration::ZERO,
        };
        let mut errors = vec![
            Error::AmbiguousPath,
            Error::Rewrite,
            Error::HeadTooLarge,
            Error::NoRoute,
            Error::Limited(refusal),
            Error::BodyTooLarge,
            Error::ClientGone,
            Error::RouteTimeout,
            Error::Stopped,
            Error::Head(HeadError::Nul),
            Error::Request(RequestError::Host),
            Error::Path(PathError::Escape),
            Error::Chunk(ChunkError::Size),
        ];
        errors.extend([Why::Head, Why::Body, Why::Write].map(Error::ClientTimeout));
        let leases = [
            refused(),
            exhausted(),
            LeaseError::ConnectTimeout,
            LeaseError::Full,
            LeaseError::PendingTimeout,
            LeaseError::Unhealthy,
            LeaseError::NoAddress,
        ];
        errors.extend(leases.map(Error::Lease));
        let faults = [
            Fault::ClosedBeforeResponse,
            Fault::Truncated,
            Fault::Head(HeadError::BareCr),
            Fault::Response(ResponseError::Field),
            Fault::Chunk(ChunkError::Trailer),
            Fault::TooManyInterims,
            Fault::FirstByteTimeout,
            Fault::IdleTimeout,
        ];
        errors.extend(faults.map(Error::Upstream));
        for error in errors {
            assert!(reasons().any(|name| name == error.name()), "{error:?}");
        }
    }
}
