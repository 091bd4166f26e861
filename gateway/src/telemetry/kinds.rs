//! The closed sets that metrics are labelled with and records are marked with. Their names are part of the interface:
//! renaming one is a breaking change.

macro_rules! kinds {
    (
        $(#[$attribute:meta])*
        $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in labels and records.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The value with this number (`self as u8`); `None`: there is none.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

kinds! {
    /// A request method as a label: the eight of RFC 9110 and PATCH (RFC 5789); a client can make no other.
    Method {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
        /// DELETE.
        Delete = "DELETE",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// CONNECT.
        Connect = "CONNECT",
        /// Any other, named as OpenTelemetry names it.
        Other = "_OTHER",
    }
}

impl Method {
    /// The label of a method as it came from the network; case matters (RFC 9110 section 9.1).
    #[must_use]
    pub fn from_bytes(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

kinds! {
    /// The protocol version of a request.
    Version {
        /// HTTP/1.0.
        Http10 = "1.0",
        /// HTTP/1.1.
        Http11 = "1.1",
        /// HTTP/2.
        Http2 = "2",
    }
}

kinds! {
    /// The scheme of a request, by the listener it came to.
    Scheme {
        /// Plain.
        Http = "http",
        /// Over TLS.
        Https = "https",
    }
}

kinds! {
    /// What a limit said.
    LimitOutcome {
        /// The request passed.
        Allowed = "allowed",
        /// The request was refused.
        Limited = "limited",
        /// The request would have been refused if the limit were enforced.
        ShadowLimited = "shadow_limited",
    }
}

kinds! {
    /// What a list of networks said.
    NetworkOutcome {
        /// The client passed.
        Allowed = "allowed",
        /// The client was refused.
        Denied = "denied",
        /// The client would have been refused if the list were enforced.
        ShadowDenied = "shadow_denied",
    }
}

kinds! {
    /// What came of asking an authenticator elsewhere.
    AskOutcome {
        /// It lets the request in.
        Allowed = "allowed",
        /// It refuses it.
        Denied = "denied",
        /// It could not be asked, or gave no answer; the request is refused.
        Failed = "failed",
        /// As `failed`, and the request is let in.
        FailedOpen = "failed_open",
    }
}

kinds! {
    /// What a filter said.
    FilterOutcome {
        /// The request passed.
        Allowed = "allowed",
        /// The request was refused, or the reading of its answer.
        Denied = "denied",
        /// It would have been if the filter were enforced.
        ShadowDenied = "shadow_denied",
        /// The client's penalty began.
        Banned = "banned",
    }
}

kinds! {
    /// What an upstream connection is doing.
    UpstreamConnectionState {
        /// An exchange is on it.
        Active = "active",
        /// It waits in a pool.
        Idle = "idle",
    }
}

kinds! {
    /// What went wrong with an upstream.
    UpstreamError {
        /// Its name has no address (yet).
        Unresolved = "unresolved",
        /// It refused the connection.
        Refused = "refused",
        /// The connection failed in another way.
        Unreachable = "unreachable",
        /// The connection was not established in time.
        ConnectTimeout = "connect_timeout",
        /// It reset the connection.
        Reset = "reset",
        /// It closed the connection before the response was complete.
        Closed = "closed",
        /// The response head was not there in time.
        FirstByteTimeout = "first_byte_timeout",
        /// The response body paused too long.
        IdleTimeout = "idle_timeout",
        /// Its response breaks HTTP.
        BadResponse = "bad_response",
        /// All its connections were taken.
        Busy = "busy",
        /// Its response had a status for which the request is sent again; never counted as an error.
        Status = "status",
        /// None of its endpoints was healthy.
        Unhealthy = "unhealthy",
    }
}

kinds! {
    /// Which deadline passed.
    Timeout {
        /// A request head.
        Header = "header",
        /// A kept downstream connection between requests.
        Idle = "idle",
        /// A pause in a request body.
        Body = "body",
        /// A request body slower than the floor.
        BodyRate = "body_rate",
        /// A response that a client does not read.
        Write = "write",
        /// A response read slower than the floor.
        WriteRate = "write_rate",
        /// An upstream connection being established.
        UpstreamConnect = "upstream_connect",
        /// A response head.
        UpstreamFirstByte = "upstream_first_byte",
        /// A pause in a response body.
        UpstreamIdle = "upstream_idle",
        /// A whole exchange.
        Route = "route",
        /// A question to an authenticator elsewhere and its answer.
        Auth = "auth",
        /// The drain.
        Drain = "drain",
    }
}

kinds! {
    /// How a request ended; the termination code of its record.
    End {
        /// A complete response was sent, whatever its status.
        Ok = "ok",
        /// The client left first.
        ClientClosed = "client_closed",
        /// The client was too slow.
        ClientTimeout = "client_timeout",
        /// The request breaks HTTP or a rule of the listener.
        BadRequest = "bad_request",
        /// The request is larger than its route allows.
        TooLarge = "too_large",
        /// No route serves it, or none with its method.
        NoRoute = "no_route",
        /// Nobody knows the caller.
        Unauthorized = "unauthorized",
        /// The caller may not, or not from where he is.
        Forbidden = "forbidden",
        /// The authenticator that was to judge it could not be asked.
        AuthUnavailable = "auth_unavailable",
        /// It is not as a filter asks.
        Filtered = "filtered",
        /// The client is under a penalty.
        Banned = "banned",
        /// A limit refused it.
        Limited = "limited",
        /// The upstream's name has no address.
        UpstreamUnresolved = "upstream_unresolved",
        /// The upstream refused the connection, or could not be reached.
        UpstreamRefused = "upstream_refused",
        /// The upstream reset or closed the connection before its response was complete.
        UpstreamReset = "upstream_reset",
        /// The upstream was too slow.
        UpstreamTimeout = "upstream_timeout",
        /// The upstream's response breaks HTTP.
        UpstreamBadResponse = "upstream_bad_response",
        /// All connections to the upstream were taken.
        UpstreamBusy = "upstream_busy",
        /// No endpoint of the upstream was healthy.
        UpstreamUnhealthy = "upstream_unhealthy",
        /// The route's total time passed.
        RouteTimeout = "route_timeout",
        /// The gateway had no room for it.
        Overloaded = "overloaded",
        /// The drain's deadline cut it.
        Drained = "drained",
        /// A fault of the gateway.
        Internal = "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Method, Timeout, UpstreamError};

    #[test]
    fn numbers_lead_back_to_their_kind() {
        for end in End::ALL {
            assert_eq!(End::from_number(*end as u8), Some(*end));
        }
        assert_eq!(End::from_number(255), None);
    }

    #[test]
    fn names_are_unique_within_a_kind() {
        fn assert_unique(names: impl Iterator<Item = &'static str>) {
            let mut seen = std::collections::BTreeSet::new();
            for name in names {
                assert!(seen.insert(name), "{name} twice");
            }
        }
        assert_unique(End::ALL.iter().map(|kind| kind.name()));
        assert_unique(Timeout::ALL.iter().map(|kind| kind.name()));
        assert_unique(UpstreamError::ALL.iter().map(|kind| kind.name()));
    }

    #[test]
    fn a_method_is_its_own_label_and_an_unknown_one_is_other() {
        for method in Method::ALL
            .iter()
            .filter(|method| **method != Method::Other)
        {
            assert_eq!(Method::from_bytes(method.name().as_bytes()), *method);
        }
        for unknown in ["get", "", "BREW", "_OTHER", "GET "] {
            assert_eq!(Method::from_bytes(unknown.as_bytes()), Method::Other);
        }
    }
}
