//! The arguments of a run, and the plan that they make.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Method};

use super::Error;
use crate::accuracy::Limit;
use crate::gateway_config;
use crate::keys::{self, KeyAs, Keys};
use crate::live::Show;
use crate::plan::{Expected, Kind, Mode, Pacing, Plan};
use crate::rate::{self, RateSpec};
use crate::replay::Log;
use crate::request::{self, RequestSpec};
use crate::scenario::{self, Entry};
use crate::schedule::Process;
use crate::search::Bounds;
use crate::slo::Slo;
use crate::target::Target;
use crate::units;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// http://host[:port][/path] or unix:/path/of.sock[:/path]; path, headers and body may have ${counter}, ${random},
    /// ${key} and ${key_ip}.
    #[arg(value_name = "URL", required = true)]
    url: Option<Target>,
    /// Closed loop: connections [default: 64]. Open loop: connections opened before the start [default: 16].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
    /// Open loop: connections at most; a request that finds none free waits for one, and the wait is counted
    /// [default: 4096].
    #[arg(long, value_name = "N")]
    connections_max: Option<u32>,
    /// Open loop, requests per second: 20k, 1k@10s,5k@10s (steps), 0..50k@60s (a ramp).
    #[arg(short, long, value_name = "RATE")]
    rate: Option<RateSpec>,
    /// How arrivals are spaced.
    #[arg(long, value_enum, default_value_t)]
    arrivals: Process,
    /// How long to start requests for [default: 10s, unless --requests or the rate says how long].
    #[arg(short, long, value_name = "TIME", value_parser = units::duration)]
    duration: Option<Duration>,
    /// How long to send before the measurement.
    #[arg(short, long, value_name = "TIME", value_parser = units::duration, default_value = "0s")]
    warmup: Duration,
    /// How many requests to start, at most.
    #[arg(short = 'n', long, value_name = "N", value_parser = units::count)]
    requests: Option<u64>,
    /// Threads, each on a core of its own [default: the cores allowed, or fewer connections].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Requests under way at once on a connection; closed loop only.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    pipeline: u32,
    /// A mix of requests with weights, from a TOML file ([[requests]] with path, weight, method, headers, body, expect).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "body"])]
    scenario: Option<PathBuf>,
    /// The method [default: GET, or POST with a body].
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header field; may be repeated. `Host` replaces the URL's.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = request::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: text, @FILE, or @- for standard input.
    #[arg(short, long, value_name = "BODY")]
    body: Option<String>,
    /// Who sends: uniform:N, zipf:N[:EXPONENT], hot:N:HOT:SHARE%[@TIME] (others are hot after each TIME) or once.
    #[arg(long, value_name = "KEYS")]
    keys: Option<Keys>,
    /// Where the key shows: xff, header:NAME, or source (the address to connect from, 127.0.0.0/8) [default: where the
    /// request says ${key} or ${key_ip}].
    #[arg(long, value_name = "PLACE", requires = "keys")]
    key_as: Option<KeyAs>,
    /// The limit each key should get, such as 100/s or 100/s:200 (a burst of 200): compares with the ideal bucket.
    #[arg(long, value_name = "LIMIT")]
    limit: Option<Limit>,
    /// The same from the gateway's configuration: FILE, or FILE:LIMIT where it has several; says also where the key
    /// shows and which status is a refusal.
    #[arg(long, value_name = "FILE[:LIMIT]", conflicts_with = "limit")]
    limit_config: Option<String>,
    /// A new connection for every request.
    #[arg(long, conflicts_with = "pipeline")]
    no_keepalive: bool,
    /// Statuses that are results and not errors, with commas between [default: 200 to 399, and 429 with --limit].
    #[arg(long, value_name = "STATUSES", value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(200..=599))]
    expect: Vec<u16>,
    /// From the send to the end of the response; also to make a connection.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "10s")]
    timeout: Duration,
    /// How to wait for the next arrival.
    #[arg(long, value_enum, default_value_t)]
    pacing: Pacing,
    /// Generator-bound if 1 % of the requests were sent later than this [default: 5ms].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    lag_max: Option<Duration>,
    /// What to run on.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// Goals, all of which must hold: p99<5ms,errors<0.1%,rate>19k; pN, mean, max, errors, rate.
    #[arg(long, value_name = "GOALS")]
    slo: Option<Slo>,
    /// For what is random.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Write everything as JSON; `-` is standard output, instead of the summary.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a report with charts as one HTML file.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Write the seconds of the run as CSV.
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    /// Show what happens while it runs.
    #[arg(long, value_enum, default_value_t)]
    pub(super) live: Show,
    /// Check the arguments and the files they name, and send nothing.
    #[arg(long)]
    pub(super) check: bool,
    /// No summary.
    #[arg(short, long)]
    pub(super) quiet: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Driver {
    /// io_uring, or epoll where it is refused.
    #[default]
    Auto,
    /// io_uring or an error.
    #[value(name = "io_uring")]
    IoUring,
    /// epoll.
    Epoll,
}

impl From<Driver> for runtime::Choice {
    fn from(driver: Driver) -> Self {
        match driver {
            Driver::Auto => Self::Auto,
            Driver::IoUring => Self::IoUring,
            Driver::Epoll => Self::Epoll,
        }
    }
}

/// How long a run takes unless something says so.
const DURATION: Duration = Duration::from_secs(10);
/// Connections of a closed loop, and at the start of an open one.
const CONNECTIONS_CLOSED: u32 = 64;
const CONNECTIONS_OPEN: u32 = 16;

/// Connections of an open loop at most.
const CONNECTIONS_MAX: u32 = 4096;
/// Lag beyond which the generator is the bottleneck.
const LAG_MAX: Duration = Duration::from_millis(5);

/// The arguments of a search: those of its runs, and its bounds.
#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// The first rate tried, per second; it doubles from there.
    #[arg(long, value_name = "RATE", value_parser = rate::per_second, default_value = "1k")]
    from: f64,
    /// The highest rate tried, per second.
    #[arg(long, value_name = "RATE", value_parser = rate::per_second, default_value = "1m")]
    to: f64,
    /// How close to the answer a rate that misses the goal should be found, in per cent.
    #[arg(long, value_name = "PERCENT", default_value = "5",
        value_parser = clap::value_parser!(u8).range(1..=50))]
    precision: u8,
    /// How often in a row the answer must hold.
    #[arg(long, value_name = "N", default_value = "3",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    confirm: u32,
}

impl SearchArgs {
    /// The bounds, and the plan of the first run.
    pub(super) fn into_plan(mut self) -> Result<(Bounds, Plan), Error> {
        if self.run.slo.is_none() {
            return Err(Error::usage(
                "a search needs a goal: --slo 'p99<5ms,errors<0.1%'",
            ));
        }
        if self.run.rate.is_some() || self.run.requests.is_some() {
            return Err(Error::usage(
                "a search chooses its rates: no --rate, no --requests",
            ));
        }
        if self.to < self.from {
            return Err(Error::usage("--to is below --from"));
        }
        self.run.rate = Some(RateSpec::constant(self.from));
        let bounds = Bounds {
            from_per_second: self.from,
            to_per_second: self.to,
            precision: f64::from(self.precision) / 100.0,
            confirmations: self.confirm,
        };
        Ok((bounds, self.run.into_plan()?))
    }
}

/// The arguments of a replay: those of a run, and the log.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The access log: JSON lines, or the common or combined format.
    file: PathBuf,
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// How much faster than it was.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    speed: f64,
    /// How often all of it.
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::count)]
    rounds: u64,
    /// Put the client's address from the log into X-Forwarded-For.
    #[arg(long)]
    forward: bool,
}

impl ReplayArgs {
    pub(super) fn into_plan(self) -> Result<Plan, Error> {
        let run = &self.run;
        let chosen = run.rate.is_some()
            || run.scenario.is_some()
            || run.keys.is_some()
            || run.limit.is_some();
        if chosen || !run.warmup.is_zero() || run.no_keepalive || run.pipeline > 1 {
            return Err(Error::usage(
                "the log says what is sent when: no --rate, --scenario, --keys, --limit, --warmup, --pipeline or \
                 --no-keepalive",
            ));
        }
        let in_file = |why: String| Error::usage(format!("{}: {why}", self.file.display()));
        let text = std::fs::read(&self.file).map_err(|error| in_file(error.to_string()))?;
        let duration = self.run.duration;
        // What a run at some rate would be, with the log's times in place of the rate's.
        let mut plan = RunArgs {
            rate: Some(RateSpec::constant(1.0)),
            ..self.run
        }
        .into_plan()?;
        let log = Log::parse(
            &self.file,
            &String::from_utf8_lossy(&text),
            &plan.target,
            self.forward,
        );
        let log = Arc::new(log.map_err(in_file)?);
        let whole_s = log.span_ns() as f64 / 1e9 * self.rounds as f64 / self.speed;
        let whole = Duration::try_from_secs_f64(whole_s).unwrap_or(Duration::MAX);
        plan.duration = Some(duration.map_or(whole, |duration| duration.min(whole)));
        plan.mode = Mode::Replay {
            log,
            speed: self.speed,
            rounds: self.rounds,
        };
        Ok(plan)
    }
}

/// A factor such as `2`, `0.5` or `10x`.
fn factor(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('x').parse().ok();
    number
        .filter(|factor| (0.001..=1_000.0).contains(factor))
        .ok_or_else(|| format!("`{text}` is not a factor between 0.001 and 1000"))
}

impl RunArgs {
    pub(super) fn into_plan(mut self) -> Result<Plan, Error> {
        let limited = self.read_limit_config().map_err(Error::usage)?;
        if self.timeout.is_zero() {
            return Err(Error::usage("--timeout 0 would fail every request"));
        }
        let open_only = self.connections_max.is_some()
            || self.lag_max.is_some()
            || self.arrivals != Process::default()
            || self.pacing != Pacing::default();
        if self.rate.is_none() && open_only {
            return Err(Error::usage(
                "--connections-max, --lag-max, --arrivals and --pacing are for an open loop: add --rate",
            ));
        }
        let own_duration = self.rate.as_ref().and_then(RateSpec::duration);
        if own_duration.is_some() && self.duration.is_some() {
            return Err(Error::usage(
                "the rate says how long it lasts; leave --duration out",
            ));
        }
        let by_default = self.requests.is_none().then_some(DURATION);
        let size = self.size()?;
        let work = self.work(size.threads, limited)?;
        let mode = match self.rate {
            None => Mode::Closed,
            Some(rate) => Mode::Open {
                rate,
                process: self.arrivals,
            },
        };
        Ok(Plan {
            target: work.target,
            keep_alive: !self.no_keepalive,
            kinds: work.kinds,
            keys: self.keys,
            key_as: work.key_as,
            limit: self.limit,
            limited,
            mode,
            connections: size.connections,
            connections_max: size.connections_max,
            pipeline: self.pipeline,
            threads: size.threads,
            warmup: self.warmup,
            duration: self.duration.or(own_duration).or(by_default),
            requests: self.requests,
            timeout: self.timeout,
            pacing: self.pacing,
            driver: self.driver.into(),
            lag_max: self.lag_max.unwrap_or(LAG_MAX),
            slo: self.slo,
            seed: self.seed,
        })
    }

    /// Takes limit and place of the key from the gateway's configuration, if there is one; the status of a refusal.
    fn read_limit_config(&mut self) -> Result<u16, String> {
        let Some(given) = &self.limit_config else {
            return Ok(LIMITED);
        };
        let (file, name) = match given.rsplit_once(':') {
            Some((file, name)) if !Path::new(given).exists() => (file, Some(name)),
            _ => (given.as_str(), None),
        };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let found = gateway_config::find(&text, name).map_err(|why| format!("{file}: {why}"))?;
        if self.keys.is_some() && self.key_as.is_none() {
            self.key_as = found.key.iter().find_map(|part| key_as(part));
        }
        self.limit = Some(found.limit);
        Ok(found.status)
    }

    fn size(&self) -> Result<Size, Error> {
        let open = self.rate.is_some();
        let by_default = if open {
            CONNECTIONS_OPEN
        } else {
            CONNECTIONS_CLOSED
        };
        let connections = self.connections.unwrap_or(by_default);
        let connections_max = if open {
            self.connections_max
                .unwrap_or(CONNECTIONS_MAX)
                .max(connections)
        } else {
            connections
        };
        let threads = self.threads.unwrap_or_else(|| cores().min(connections));
        if connections_max < threads {
            return Err(Error::usage(
                "each thread needs a connection: fewer threads, or more connections",
            ));
        }
        if self.limit.is_some() && self.keys.is_none() && threads > 1 {
            return Err(Error::usage(
                "without --keys all requests are one client's; judge it with --threads 1",
            ));
        }
        Ok(Size {
            connections,
            connections_max,
            threads,
        })
    }

    fn work(&self, threads: u32, limited: u16) -> Result<Work, Error> {
        let target = self
            .url
            .clone()
            .ok_or_else(|| Error::usage("a URL is missing"))?;
        let key_as = self.key_as.clone().unwrap_or(KeyAs::Template);
        let entries = match &self.scenario {
            Some(file) => self.scenario(file, &target)?,
            None => vec![self.only_request(&target)?],
        };
        let kinds = entries
            .into_iter()
            .map(|entry| {
                let place = match &self.scenario {
                    Some(file) => format!("{}: {}", file.display(), entry.place),
                    None => String::new(),
                };
                let kind = self.kind(entry, &target, &key_as, limited);
                kind.map_err(|why| format!("{place}{why}"))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::usage)?;
        let in_request = kinds.iter().any(|kind| kind.template.has_key());
        check_keys(self.keys.as_ref(), &key_as, in_request, threads).map_err(Error::usage)?;
        Ok(Work {
            target,
            key_as,
            kinds,
        })
    }

    fn scenario(&self, file: &Path, target: &Target) -> Result<Vec<Entry>, Error> {
        if target.path != "/" {
            return Err(Error::usage(
                "with --scenario the paths come from the file; leave it out of the URL",
            ));
        }
        let in_file = |why: String| Error::usage(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| in_file(error.to_string()))?;
        let mut entries = scenario::parse(&text, !self.no_keepalive).map_err(in_file)?;
        for entry in &mut entries {
            entry.request.headers.extend(self.headers.iter().cloned());
        }
        Ok(entries)
    }

    fn only_request(&self, target: &Target) -> Result<Entry, Error> {
        let body = self.body.as_deref().map_or(Ok(Vec::new()), read_body)?;
        let by_default = if body.is_empty() {
            Method::GET
        } else {
            Method::POST
        };
        let method = self.method.clone().unwrap_or(by_default);
        Ok(Entry {
            name: format!("{method} {}", target.path),
            weight: 1,
            path: target.path.clone(),
            request: RequestSpec {
                method,
                headers: self.headers.clone(),
                body,
                keep_alive: !self.no_keepalive,
            },
            expected: None,
            place: String::new(),
        })
    }

    fn kind(
        &self,
        entry: Entry,
        target: &Target,
        key_as: &KeyAs,
        limited: u16,
    ) -> Result<Kind, String> {
        if entry.request.method == Method::CONNECT {
            return Err("CONNECT is not supported: what follows it is not HTTP".into());
        }
        let by_default = || match self.limit {
            _ if !self.expect.is_empty() => Expected::These(self.expect.clone()),
            Some(_) => Expected::SuccessOrLimited(limited),
            None => Expected::Success,
        };
        Ok(Kind {
            template: entry
                .request
                .template(&target.with_path(&entry.path)?, key_as)?,
            head: entry.request.method == Method::HEAD,
            expected: entry.expected.unwrap_or_else(by_default),
            name: entry.name,
            weight: entry.weight,
        })
    }
}

/// Too Many Requests (RFC 6585 section 4): what a limiter says when it refuses, unless its configuration says otherwise.
const LIMITED: u16 = 429;

/// Where a key that the gateway's limits count by can be put; `None`: only a template can.
fn key_as(part: &str) -> Option<KeyAs> {
    match part.split_once(':') {
        None if part == "client_ip" => Some(KeyAs::Source),
        Some(("header", name)) => name.parse().ok().map(KeyAs::Header),
        _ => None,
    }
}

struct Size {
    connections: u32,
    connections_max: u32,
    threads: u32,
}

struct Work {
    target: Target,
    key_as: KeyAs,
    kinds: Vec<Kind>,
}

/// Cores that the process may use.
pub(super) fn cores() -> u32 {
    u32::try_from(runtime::cores::for_workers().len()).unwrap_or(1)
}

fn check_keys(
    keys: Option<&Keys>,
    key_as: &KeyAs,
    in_request: bool,
    threads: u32,
) -> Result<(), String> {
    let Some(keys) = keys else {
        let why = "the request has a ${key}, but there is no --keys to take it from";
        return if in_request { Err(why.into()) } else { Ok(()) };
    };
    if *key_as == KeyAs::Template && !in_request {
        return Err(
            "the keys show nowhere: add --key-as, or ${key} in the path, a header or the body"
                .into(),
        );
    }
    let count = keys.count().unwrap_or(u64::MAX);
    if count < u64::from(threads) {
        return Err("each thread needs a key of its own: fewer threads, or more keys".into());
    }
    if matches!(key_as, KeyAs::ForwardedFor | KeyAs::Source) && keys.count() > Some(keys::ADDRESSES)
    {
        return Err(format!(
            "there are addresses for {} keys only",
            keys::ADDRESSES
        ));
    }
    Ok(())
}

fn read_body(body: &str) -> Result<Vec<u8>, Error> {
    let Some(name) = body.strip_prefix('@') else {
        return Ok(body.as_bytes().to_vec());
    };
    let mut bytes = Vec::new();
    let read = if name == "-" {
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(name)
    };
    read.map_err(|error| Error::usage(format!("cannot read the body from {name}: {error}")))
}
