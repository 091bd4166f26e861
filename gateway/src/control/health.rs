//! The health of endpoints as far as it takes time: checks, the end of ejections, slow starts. Workers see the outcome in the
//! endpoints themselves and wait for nothing here.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::config::{HealthConfig, HttpCheck, OutlierConfig};
use crate::data::plan::Plan;
use crate::data::upstream::{Endpoint, HealthSample, SHARE_WHOLE, Target, Upstream};
use crate::telemetry::log;

/// Checks under way at once, a descriptor each.
const CHECKS_MAX: usize = 64;
/// Longest response head of a check, interim ones included.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 128;
/// Between two looks at ejections and slow starts.
const TICK: Duration = Duration::from_millis(100);
/// What an endpoint begins with after it was out, in thousandths of its weight.
const SHARE_FIRST: u32 = 100;
/// Smallest change of a share that is worth a new choice by every worker.
const SHARE_STEP: u32 = 25;

/// Starts what the upstreams of `plan` ask for. On the control thread's runtime.
pub(super) fn spawn(plan: &Plan) {
    let places = Arc::new(Semaphore::new(CHECKS_MAX));
    let mut watched = Vec::new();
    for upstream in &plan.upstreams {
        let config = &upstream.config;
        if config.health.is_some() {
            for endpoint in 0..upstream.endpoints.len() {
                let (upstream, places) = (Arc::clone(upstream), Arc::clone(&places));
                tokio::spawn(check_for_ever(upstream, endpoint, places));
            }
        }
        if config.outlier.is_some() || config.slow_start.is_some() {
            watched.push(Watch::new(Arc::clone(upstream)));
        }
    }
    if !watched.is_empty() {
        tokio::spawn(watch(watched));
    }
}

async fn check_for_ever(upstream: Arc<Upstream>, index: usize, places: Arc<Semaphore>) {
    let Some(config) = &upstream.config.health else {
        return;
    };
    let endpoint = &upstream.endpoints[index];
    let mut streak = Streak::default();
    let mut random = fastrand::Rng::new();
    loop {
        let place = places.acquire().await;
        let result = check(endpoint, config).await;
        drop(place);
        upstream.checked(index, result.is_ok());
        let fields = |problem| -> [(&str, &dyn std::fmt::Display); 3] {
            [
                ("upstream", &upstream.config.name),
                ("endpoint", &endpoint.label),
                ("problem", problem),
            ]
        };
        match streak.learn(result.is_ok(), config) {
            Some(true) => {
                let problem = result.err().unwrap_or_default();
                upstream.set_fails_checks(index, true);
                log::warn("an endpoint fails its checks", &fields(&problem));
            }
            Some(false) => {
                begin_slowly(&upstream, index);
                upstream.set_fails_checks(index, false);
                let fields = fields(&"");
                log::info("an endpoint passes its checks again", &fields[..2]);
            }
            None => {}
        }
        tokio::time::sleep(config.interval.mul_f64(1.0 - random.f64() / 10.0)).await;
    }
}

/// What an endpoint's checks have come to.
#[derive(Debug, Default)]
struct Streak {
    known: bool,
    out: bool,
    /// Results in a row that speak against what it is.
    against: u32,
}

impl Streak {
    /// Learns a result; what the endpoint is from now on, where that changes: true is out.
    fn learn(&mut self, passed: bool, config: &HealthConfig) -> Option<bool> {
        let first = !std::mem::replace(&mut self.known, true);
        if passed != self.out {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let most = match (first, self.out) {
            (true, _) => 1,
            (false, false) => config.unhealthy_after.get(),
            (false, true) => config.healthy_after.get(),
        };
        (self.against >= most).then(|| {
            self.against = 0;
            self.out = !self.out;
            self.out
        })
    }
}

/// One check; what is wrong, where it fails.
async fn check(endpoint: &Endpoint, config: &HealthConfig) -> Result<(), String> {
    let http = config.http.as_ref();
    let authority = &endpoint.authority;
    let attempt = async {
        match &endpoint.target {
            Target::Tcp(address) => ask(TcpStream::connect(address).await, http, authority).await,
            Target::Unix(path) => ask(UnixStream::connect(path).await, http, authority).await,
            Target::Host(cell) => {
                let addresses = cell.load_full();
                let mut stream = Err(io::Error::other("the name has no address"));
                for address in addresses.iter() {
                    stream = TcpStream::connect(address).await;
                    if stream.is_ok() {
                        break;
                    }
                }
                ask(stream, http, authority).await
            }
        }
    };
    match tokio::time::timeout(config.timeout, attempt).await {
        Ok(result) => result,
        Err(_late) => Err("no answer in time".to_owned()),
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: io::Result<S>,
    http: Option<&HttpCheck>,
    authority: &str,
) -> Result<(), String> {
    let mut stream = stream.map_err(|error| error.to_string())?;
    let Some(http) = http else { return Ok(()) };
    let status = exchange(&mut stream, http, authority)
        .await
        .map_err(|error| error.to_string())?;
    let passes = |&(from, to): &(u16, u16)| (from..=to).contains(&status);
    if http.expect.iter().any(passes) {
        Ok(())
    } else {
        Err(format!("status {status}"))
    }
}

/// Sends the request and reads as far as the end of the final head; its status.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    http: &HttpCheck,
    authority: &str,
) -> io::Result<u16> {
    let (path, host) = (&http.path, http.host.as_deref().unwrap_or(authority));
    let version = env!("CARGO_PKG_VERSION");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringgate/{version} (health check)\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::with_capacity(1024);
    loop {
        if let Some(status) = final_status(&read)? {
            return Ok(status);
        }
        if read.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::other("the response head does not end"));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::Error::other("closed before it answered"));
        }
    }
}

/// The status of the first head that is no interim one; `None`: more must be read.
fn final_status(mut read: &[u8]) -> io::Result<Option<u16>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(read).map_err(io::Error::other)?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        match response.code {
            Some(100..200) => read = read.get(length..).unwrap_or_default(),
            status => return Ok(status),
        }
    }
}

/// An endpoint that is about to be back begins with a part of its weight, where the upstream wants that.
fn begin_slowly(upstream: &Upstream, endpoint: usize) {
    if upstream.config.slow_start.is_some() {
        upstream.set_share(endpoint, SHARE_FIRST);
    }
}

async fn watch(mut watched: Vec<Watch>) {
    loop {
        tokio::time::sleep(TICK).await;
        for each in &mut watched {
            each.tick(now());
        }
    }
}

/// The ejections and slow starts of one upstream.
#[derive(Debug)]
struct Watch {
    upstream: Arc<Upstream>,
    endpoints: Vec<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// When its ejection ends, and how long that is.
    ejected: Option<(Instant, Duration)>,
    /// Ejections in a row, less those that good conduct has made up for.
    row: u32,
    /// Since when it has behaved, and how long it must until one is made up for.
    good: Option<(Instant, Duration)>,
    /// Since when it warms up.
    warming: Option<Instant>,
}

impl Watch {
    fn new(upstream: Arc<Upstream>) -> Self {
        let endpoints = upstream.endpoints.iter().map(|_| Watched::default());
        Self {
            endpoints: endpoints.collect(),
            upstream,
        }
    }

    fn tick(&mut self, now: Instant) {
        let upstream = &*self.upstream;
        for (index, watched) in self.endpoints.iter_mut().enumerate() {
            let sample = upstream.health(index);
            if let Some(outlier) = &upstream.config.outlier {
                watched.ejection(upstream, index, outlier, &sample, now);
            }
            if let Some(time) = upstream.config.slow_start {
                watched.slow_start(upstream, index, time, now);
            }
        }
    }
}

impl Watched {
    fn ejection(
        &mut self,
        upstream: &Upstream,
        index: usize,
        outlier: &OutlierConfig,
        sample: &HealthSample,
        now: Instant,
    ) {
        let name = &upstream.config.name;
        let label = &upstream.endpoints[index].label;
        match (sample.ejected, self.ejected) {
            (true, None) => {
                let time = outlier.eject_time.saturating_mul(1 << self.row.min(20));
                let time = time.min(outlier.max_eject_time);
                self.ejected = Some((now + time, time));
                self.row += 1;
                let seconds = time.as_secs_f64();
                let fields: log::Fields<'_> = &[
                    ("upstream", name),
                    ("endpoint", label),
                    ("seconds", &seconds),
                ];
                log::warn(
                    "an endpoint is ejected: it failed requests in a row",
                    fields,
                );
            }
            (true, Some((end, time))) if end <= now => {
                begin_slowly(upstream, index);
                upstream.readmit(index);
                self.ejected = None;
                self.good = Some((now, time));
                let fields: log::Fields<'_> = &[("upstream", name), ("endpoint", label)];
                log::info("an endpoint is no longer ejected", fields);
            }
            (false, _) => {
                if let Some((since, time)) = self.good
                    && now.duration_since(since) >= time
                {
                    self.row = self.row.saturating_sub(1);
                    self.good = (self.row > 0).then_some((now, time));
                }
            }
            (true, Some(_)) => {}
        }
    }

    fn slow_start(&mut self, upstream: &Upstream, index: usize, time: Duration, now: Instant) {
        let sample = upstream.health(index);
        if !sample.is_up() || sample.share == SHARE_WHOLE {
            self.warming = None;
            return;
        }
        let since = *self.warming.get_or_insert(now);
        let share = share_after(now.duration_since(since), time);
        if share == SHARE_WHOLE || share >= sample.share + SHARE_STEP {
            upstream.set_share(index, share);
        }
    }
}

/// The share that an endpoint has so long after it came back: evenly more.
fn share_after(passed: Duration, time: Duration) -> u32 {
    let whole = u128::from(SHARE_WHOLE - SHARE_FIRST);
    let more = whole * passed.as_nanos() / time.as_nanos().max(1);
    u32::try_from(more.min(whole)).unwrap_or(0) + SHARE_FIRST
}

#[expect(
    clippy::disallowed_methods,
    reason = "the watch itself takes time as an argument"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
#[path = "health/tests.rs"]
mod tests;
