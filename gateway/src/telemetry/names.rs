//! Every metric name and every log field. They are declared here and nowhere else; renaming one is a breaking change.

/// A metric family: what one `# HELP` and one `# TYPE` line say.
#[derive(Debug)]
pub struct Metric {
    /// The name, without the suffixes that a histogram adds.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// How its samples behave.
    pub kind: MetricKind,
    /// Label names, in the order in which samples carry them.
    pub labels: &'static [&'static str],
}

/// How the samples of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

impl MetricKind {
    /// The word of the `# TYPE` line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: Metric = Metric {
                name: $name,
                help: $help,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
            };
        )+

        /// Every family.
        pub const METRICS: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    SERVER_REQUEST_DURATION = Histogram "http_server_request_duration_seconds"
        ["http_route", "http_request_method", "http_response_status_code"]
        "From the first byte of a request until its response is sent, or about to be where it came whole.";
    SERVER_ACTIVE_REQUESTS = Gauge "http_server_active_requests" []
        "Requests being served.";
    CLIENT_REQUEST_DURATION = Histogram "http_client_request_duration_seconds" ["upstream"]
        "From the lease of an upstream connection to the end of the upstream's response.";
    CONNECTIONS = Gauge "ringgate_connections" ["listener", "worker"]
        "Open downstream connections.";
    CONNECTIONS_ACCEPTED = Counter "ringgate_connections_accepted_total" ["listener"]
        "Downstream connections accepted.";
    WORKER_IMBALANCE = Gauge "ringgate_worker_imbalance_ratio" ["listener"]
        "Connections accepted since the start by the worker with most, over the mean of all: 1 is even, the number of workers is all on one.";
    ACCEPT_ERRORS = Counter "ringgate_accept_errors_total" ["listener"]
        "Accepts that failed for want of something of the host's, such as descriptors.";
    CONNECTION_PANICS = Counter "ringgate_connection_panics_total" []
        "Connections ended by a panic.";
    RECEIVED_BYTES = Counter "ringgate_received_bytes_total" []
        "Bytes received from clients.";
    SENT_BYTES = Counter "ringgate_sent_bytes_total" []
        "Bytes sent to clients.";
    REJECTED_REQUESTS = Counter "ringgate_rejected_requests_total" ["reason"]
        "Requests that did not get what they asked for, by what was in the way.";
    COUNTED_ONLY = Counter "ringgate_counted_only_total" ["listener", "reason"]
        "Requests served although they break a rule, since the listener only counts it (`count_only`).";
    TIMEOUTS = Counter "ringgate_timeouts_total" ["kind"]
        "Deadlines passed; `auth` is that of a question to an authenticator elsewhere.";
    RATELIMIT_DECISIONS = Counter "ringgate_ratelimit_decisions_total" ["limit", "outcome"]
        "Decisions of limits.";
    RATELIMIT_KEYS = Gauge "ringgate_ratelimit_keys" ["limit"]
        "Keys that have used units not refilled yet; an estimate in tables of more than some thousand.";
    RATELIMIT_CAPACITY_KEYS = Gauge "ringgate_ratelimit_capacity_keys" ["limit"]
        "Keys that the limit's memory holds while fewer than one in a thousand overflows.";
    RATELIMIT_OVERFLOW = Counter "ringgate_ratelimit_overflow_total" ["limit"]
        "Requests let through on the shared bucket of a group of keys, for want of memory for one of their own.";
    NETWORK_DECISIONS = Counter "ringgate_network_decisions_total" ["list", "outcome"]
        "Decisions of lists of networks.";
    FILTER_DECISIONS = Counter "ringgate_filter_decisions_total" ["kind", "filter", "outcome"]
        "Decisions of filters, by the section that each is of and its name.";
    UPSTREAM_CONNECTIONS = Gauge "ringgate_upstream_connections" ["upstream", "state"]
        "Open upstream connections.";
    UPSTREAM_CONNECTIONS_OPENED = Counter "ringgate_upstream_connections_opened_total" ["upstream"]
        "Upstream connections established.";
    UPSTREAM_CONNECTIONS_REUSED = Counter "ringgate_upstream_connections_reused_total" ["upstream"]
        "Leases served from a pool.";
    UPSTREAM_ERRORS = Counter "ringgate_upstream_errors_total" ["upstream", "kind"]
        "Exchanges that failed on the upstream's side.";
    UPSTREAM_HEALTHY = Gauge "ringgate_upstream_healthy" ["upstream", "endpoint"]
        "1: the endpoint gets requests. 0: it fails its checks, or is ejected.";
    UPSTREAM_PENDING = Gauge "ringgate_upstream_pending" ["upstream"]
        "Requests that wait for a place, of upstreams where they may (`max_pending`).";
    UPSTREAM_EJECTIONS = Counter "ringgate_upstream_ejections_total" ["upstream", "endpoint"]
        "Times that an endpoint was left out for a time, since it failed requests in a row.";
    UPSTREAM_CHECKS = Counter "ringgate_upstream_checks_total" ["upstream", "endpoint", "outcome"]
        "Checks of an endpoint: passed or failed.";
    RETRIES = Counter "ringgate_retries_total" ["upstream", "reason"]
        "Requests sent again after a failure.";
    RETRY_BUDGET_EXHAUSTED = Counter "ringgate_retry_budget_exhausted_total" ["upstream"]
        "Requests not sent again after a failure, since the share of those that are was reached.";
    TOLERATED_RESPONSES = Counter "ringgate_tolerated_responses_total" ["upstream", "fault"]
        "Responses forwarded although they break a rule, since the upstream is forgiven it (`tolerate`).";
    ACCESS_LOG_DROPPED = Counter "ringgate_access_log_dropped_total" ["reason"]
        "Access records lost: ring_full by a worker, sink by the writer.";
    METRIC_SERIES_OVERFLOW = Counter "ringgate_metric_series_overflow_total" []
        "Observations without a series because the table of series was full.";
    WORKERS = Gauge "ringgate_workers" []
        "Worker threads.";
    WORKER_RESTARTS = Counter "ringgate_worker_restarts_total" []
        "Workers replaced after their death.";
    RESOLVE_FAILURES = Counter "ringgate_resolve_failures_total" []
        "Endpoint names that could not be resolved.";
    CREDENTIAL_LOADS = Counter "ringgate_credential_loads_total" ["authenticator", "outcome"]
        "Times that an authenticator's keys were read again or fetched: ok, or failed, which leaves those that were known.";
    KEY_SET_KEYS = Gauge "ringgate_key_set_keys" ["authenticator"]
        "Keys of a set that is fetched (`jwks_url`); 0: there is none, or it is too old to be used.";
    KEY_SET_FETCHED = Gauge "ringgate_key_set_fetched_timestamp_seconds" ["authenticator"]
        "When a set of keys was last fetched, in Unix time; 0: never.";
    KEY_SET_EARLY = Counter "ringgate_key_set_early_fetches_total" ["authenticator"]
        "Fetches of a set of keys before their time, since a token named a key that it lacks.";
    FORWARD_AUTH = Counter "ringgate_forward_auth_total" ["authenticator", "outcome"]
        "Requests about which an authenticator elsewhere was asked, by what came of it.";
    IO_DRIVER = Gauge "ringgate_io_driver" ["driver", "flags"]
        "Workers by I/O driver and ring flags.";
    BUILD_INFO = Gauge "ringgate_build_info" ["version"]
        "Always 1; the version of the gateway is its label.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "User and system CPU time.";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
        "Resident memory.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "File descriptors that may be open.";
    PROCESS_THREADS = Gauge "process_threads" []
        "Threads.";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Start of the process in Unix time.";
}

/// The reasons of [`ACCESS_LOG_DROPPED`].
pub mod dropped {
    /// The ring between a worker and the log writer was full.
    pub const RING_FULL: &str = "ring_full";
    /// The file, pipe or terminal did not take it.
    pub const SINK: &str = "sink";
}

/// The fields of an access record in JSON; names of the OpenTelemetry HTTP conventions where one exists.
pub mod field {
    /// Start of the request, RFC 3339 in UTC with microseconds.
    pub const TIMESTAMP: &str = "timestamp";
    /// Method as received.
    pub const METHOD: &str = "http.request.method";
    /// `http` or `https`.
    pub const SCHEME: &str = "url.scheme";
    /// Path as received.
    pub const PATH: &str = "url.path";
    /// Query as received, without `?`.
    pub const QUERY: &str = "url.query";
    /// Name of the route.
    pub const ROUTE: &str = "http.route";
    /// Status sent to the client.
    pub const STATUS: &str = "http.response.status_code";
    /// Bytes of the request body.
    pub const REQUEST_BODY_BYTES: &str = "http.request.body.size";
    /// Bytes of the response body.
    pub const RESPONSE_BODY_BYTES: &str = "http.response.body.size";
    /// `1.0`, `1.1` or `2`.
    pub const VERSION: &str = "network.protocol.version";
    /// Address of the client.
    pub const CLIENT_ADDRESS: &str = "client.address";
    /// Address of the connection's other end.
    pub const PEER_ADDRESS: &str = "network.peer.address";
    /// Port of the connection's other end.
    pub const PEER_PORT: &str = "network.peer.port";
    /// Host that the client asked for.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// Port that the client asked for.
    pub const SERVER_PORT: &str = "server.port";
    /// User-Agent as received.
    pub const USER_AGENT: &str = "user_agent.original";
    /// Referer as received.
    pub const REFERER: &str = "http.request.header.referer";
    /// Why the request failed.
    pub const ERROR_TYPE: &str = "error.type";
    /// How often the request was sent again.
    pub const RESEND_COUNT: &str = "http.request.resend_count";
    /// X-Request-Id.
    pub const REQUEST_ID: &str = "request_id";
    /// Name of the consumer, as an authenticator knows it.
    pub const CONSUMER: &str = "ringgate.consumer";
    /// Name of the listener.
    pub const LISTENER: &str = "ringgate.listener";
    /// Name of the upstream.
    pub const UPSTREAM: &str = "ringgate.upstream";
    /// Address of the endpoint.
    pub const UPSTREAM_ADDRESS: &str = "ringgate.upstream.address";
    /// Whole duration in microseconds.
    pub const DURATION_US: &str = "ringgate.duration_us";
    /// Time to connect to the upstream in microseconds.
    pub const CONNECT_US: &str = "ringgate.phase.connect_us";
    /// Time to the upstream's response head in microseconds.
    pub const FIRST_BYTE_US: &str = "ringgate.phase.first_byte_us";
    /// Name of the limit that decided.
    pub const LIMIT_NAME: &str = "ringgate.limit.name";
    /// What it said.
    pub const LIMIT_OUTCOME: &str = "ringgate.limit.outcome";
    /// Index of the worker.
    pub const WORKER: &str = "ringgate.worker";
    /// How the request ended.
    pub const END: &str = "ringgate.end";
}
