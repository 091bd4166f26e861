//! The admin address: metrics, liveness, readiness. For operators and their tools, not for clients.

#![expect(
    clippy::disallowed_types,
    reason = "the control thread is tokio's; sockets are made before it runs"
)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};

use super::lifecycle::{Lifecycle, Phase};
use super::serve::{self, Bounds};
use crate::data::plan::Plan;
use crate::data::worker::Command;
use crate::telemetry::process::ProcessSample;
use crate::telemetry::{Labels, ProcessMetrics, WorkerMetrics, render};

const BOUNDS: Bounds = Bounds {
    connections_max: 64,
    header_timeout: Duration::from_secs(10),
    // So that 64 connections left open do not shut out the 65th for ever.
    single_request: Some(Duration::from_secs(30)),
};

/// What is served at a path.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// With its slash.
    pub path: &'static str,
    /// In a few words, for people.
    pub text: &'static str,
    get: fn() -> MethodRouter<AdminState>,
}

/// Every page but the list of them, which is at `/`.
pub const PAGES: [Page; 5] = [
    Page {
        path: "/metrics",
        text: "counters, Prometheus text",
        get: || get(metrics),
    },
    Page {
        path: "/healthz",
        text: "200 while the process lives",
        get: || get(async || "alive\n"),
    },
    Page {
        path: "/readyz",
        text: "200 when requests are welcome, 503 while starting or draining",
        get: || get(ready),
    },
    Page {
        path: "/upstreams",
        text: "the state of every endpoint, JSON",
        get: || get(upstreams),
    },
    Page {
        path: "/top",
        text: "the busiest and the most limited keys of each limit, JSON",
        get: || get(top),
    },
];

/// The paths in one line, for people.
#[must_use]
pub fn paths() -> String {
    PAGES.map(|page| page.path).join(" ")
}

/// What the pages show.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// Where the process is.
    pub lifecycle: Arc<Lifecycle>,
    /// The counters of all workers.
    pub workers: Arc<[Arc<WorkerMetrics>]>,
    /// The counters of the control plane.
    pub process: Arc<ProcessMetrics>,
    /// Names of what is counted.
    pub labels: Arc<Labels>,
    /// What the workers serve.
    pub plan: Arc<Plan>,
    /// How to reach each worker.
    pub commands: Arc<[ArcSwap<flume::Sender<Command>>]>,
}

/// Binds the admin address, before there are workers and on the caller's thread.
///
/// # Errors
/// As the kernel says: in use, not permitted, not an address of this host.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    serve::bind(address)
}

pub(super) fn spawn(listener: TcpListener, state: AdminState) -> io::Result<()> {
    let index = PAGES.map(|page| format!("{:<11}{}\n", page.path, page.text));
    let index = format!("Ringgate\n\n{}", index.concat());
    let router = Router::new().route("/", get(async move || index));
    let router = PAGES
        .iter()
        .fold(router, |router, page| router.route(page.path, (page.get)()));
    serve::spawn(listener, router.with_state(state), BOUNDS)
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    let phase = state.lifecycle.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", phase.name()))
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    let sample = ProcessSample::read();
    let (now, _) = moment();
    let now = state.plan.limits_time(now);
    let limits: Vec<_> = state.plan.limits.iter().map(|l| l.sample(now)).collect();
    let page = render(
        &state.workers,
        &state.process,
        &state.labels,
        &limits,
        &super::upstreams::samples(&state.plan),
        &sample,
    );
    ([(header::CONTENT_TYPE, render::CONTENT_TYPE)], page)
}

async fn upstreams(State(state): State<AdminState>) -> impl IntoResponse {
    Json(super::upstreams::page(&state.plan))
}

async fn top(State(state): State<AdminState>) -> impl IntoResponse {
    let (now, wall) = moment();
    let now_s = state.plan.limits_seconds(now);
    Json(super::top::page(&state, now_s, wall).await)
}

#[expect(
    clippy::disallowed_methods,
    reason = "pages are outside of what tests put on a manual clock"
)]
fn moment() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}
