//! `ringgate bench`: the gateway, an upstream and load in one command, from nothing but a configuration.
//!
//! The gateway runs in this process, as `run` would, but for listeners and admin on free ports of loopback, endpoints
//! that are the server built into `ringgate-load`, and no access log. The load comes from that program, as a process of
//! its own found beside this one: so the gateway holds no code to make load with, and its CPU time stays its own.

mod accuracy;
mod example;
mod load;
mod mix;
mod report;
mod workers;

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::cli::{BenchArgs, EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE};
use crate::config::{
    AdminConfig, Config, ConfigSource, EndpointAddress, EndpointConfig, LogSink, ProxyProtocol,
    load as read_config,
};
use crate::control::supervisor::{self, Started};
use load::Tool;
use mix::Mix;
use report::Report;

/// Where the gateway listens: a free port.
const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Requests in flight have ended when the load has; only idle connections are left to close.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a bench came to nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// The configuration is wrong, or serves nothing that could be asked for.
    Config(String),
    /// What `ringgate-load` says of an argument that is passed on to it.
    Usage(String),
    /// Something failed at run time.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) | Self::Usage(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs it and prints what came out; the exit code is that of `ringgate-load` for the mix.
#[must_use]
pub fn run(arguments: &BenchArgs, env: &dyn Fn(&str) -> Option<String>) -> u8 {
    match bench(arguments, env) {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(io::stderr().lock(), "ringgate bench: {error}"));
            match error {
                Error::Config(_) => EXIT_CONFIG,
                Error::Usage(_) => EXIT_USAGE,
                Error::Failed(_) => EXIT_FAILURE,
            }
        }
    }
}

fn bench(arguments: &BenchArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<u8, Error> {
    let mut config = read_config(ConfigSource::File(&arguments.config), env)
        .map_err(|errors| Error::Config(errors.to_string()))?;
    let mix = Mix::of(&config, &arguments.headers).map_err(Error::Config)?;
    if mix.samples.is_empty() {
        let reasons = mix.reasons();
        return Err(Error::Config(format!(
            "no route has a request that can be made up for it{reasons}"
        )));
    }
    let tool = Tool::find()?;
    tool.check(arguments, &load::Folder::new()?, &mix.scenario())?;
    let upstream = tool.upstream()?;
    redirect(&mut config, upstream.address);
    if arguments.workers.is_some() {
        config.runtime.workers = arguments.workers;
    }
    let mut session = None;
    let served = supervisor::run(&config, |started| {
        session = Some(Session::start(arguments, &tool, &mix, started));
    });
    let report = match session {
        Some(session) => session?.join()?,
        None => return Err(Error::Failed(describe(served))),
    };
    served.map_err(|failure| Error::Failed(failure.to_string()))?;
    report.write(arguments)?;
    Ok(report.code)
}

fn describe(served: Result<(), supervisor::Failure>) -> String {
    served.map_or_else(
        |failure| failure.to_string(),
        |()| "ended before it began".into(),
    )
}

/// Changes what would reach beyond this machine or this run.
fn redirect(config: &mut Config, upstream: SocketAddr) {
    for listener in &mut config.listeners {
        listener.address = FREE;
        // The load comes as itself, from no proxy.
        listener.proxy_protocol = ProxyProtocol::Off;
        // Load is what penalties are against.
        listener.ban = None;
    }
    config.admin = Some(AdminConfig { listen: FREE });
    config.access_log.sink = LogSink::Off;
    config.runtime.drain_delay = Duration::ZERO;
    config.runtime.drain_timeout = DRAIN;
    for each in &mut config.upstreams {
        each.proxy_protocol = ProxyProtocol::Off;
        each.endpoints = vec![EndpointConfig {
            address: EndpointAddress::Socket(upstream),
            weight: NonZeroU32::MIN,
            priority: 0,
        }];
    }
}

/// The load, on a thread beside the gateway's.
struct Session(std::thread::JoinHandle<Result<Report, Error>>);

impl Session {
    fn start(
        arguments: &BenchArgs,
        tool: &Tool,
        mix: &Mix,
        started: &Started<'_>,
    ) -> Result<Self, Error> {
        let missing = || Error::Failed("nothing listens".into());
        let work = Work {
            arguments: arguments.clone(),
            tool: tool.clone(),
            samples: mix.samples.clone(),
            scenario: mix.scenario(),
            left_out: mix.left_out.clone(),
            limits: accuracy::plan(started.config, mix),
            target: *started.listeners.first().ok_or_else(missing)?,
            admin: started.admin.ok_or_else(missing)?,
            workers: started.workers,
        };
        let thread = runtime::thread::spawn("bench".into(), None, move || {
            let _ends = EndsGateway;
            work.run()
        });
        thread.map(Self).map_err(|error| {
            drop(EndsGateway);
            error.into()
        })
    }

    fn join(self) -> Result<Report, Error> {
        let joined = self.0.join();
        joined.unwrap_or_else(|_| Err(Error::Failed("the bench panicked".into())))
    }
}

/// Tells this process to drain when the load is over, however it ended.
struct EndsGateway;

impl Drop for EndsGateway {
    fn drop(&mut self) {
        let own = rustix::process::getpid();
        // A process that is there can be told.
        let _told = rustix::process::kill_process(own, rustix::process::Signal::TERM);
    }
}

struct Work {
    arguments: BenchArgs,
    tool: Tool,
    samples: Vec<mix::Sample>,
    scenario: String,
    left_out: Vec<(String, String)>,
    limits: Vec<accuracy::Planned>,
    target: SocketAddr,
    admin: SocketAddr,
    workers: usize,
}

impl Work {
    /// The limits first, while every bucket is full; then the mix.
    fn run(self) -> Result<Report, Error> {
        let folder = load::Folder::new()?;
        let mut limits = Vec::new();
        for planned in self.limits {
            limits.push(planned.run(&self.tool, &folder, self.target, &self.samples)?);
        }
        let before = workers::cpu()?;
        let (code, load) = self
            .tool
            .mix(&self.arguments, &folder, self.target, &self.scenario)?;
        let seconds = wall_seconds(&load);
        let busy = workers::busy(&before, &workers::cpu()?, seconds);
        debug_assert!(busy.len() <= self.workers, "a worker is a thread");
        let imbalance = workers::imbalance(self.admin)?;
        Ok(Report {
            code,
            load,
            limits,
            busy,
            imbalance,
            left_out: self.left_out,
            routes: self
                .samples
                .iter()
                .map(|sample| sample.route.clone())
                .collect::<HashSet<_>>()
                .len(),
        })
    }
}

/// How long the mix was sent for.
fn wall_seconds(load: &Value) -> f64 {
    let number = |key: &str| load.get(key).and_then(Value::as_f64).unwrap_or_default();
    number("measured_s") + number("warmup_s")
}

/// Where `ringgate-load` was looked for.
fn missing_tool(tried: &[PathBuf]) -> Error {
    let tried: Vec<String> = tried
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Error::Failed(format!(
        "the load comes from `ringgate-load`, which is neither at {} nor on PATH: build it with \
         `cargo build --release -p loadgen`, or install both with `make install`",
        tried.join(", ")
    ))
}
