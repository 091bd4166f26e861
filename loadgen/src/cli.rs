//! The command line: arguments to a plan, a report to a terminal, a file and an exit code.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue, Method};

use crate::compare::Finding;
use crate::plan::{Expected, Mode, Pacing, Plan};
use crate::rate::RateSpec;
use crate::report::{self, Report};
use crate::request::{self, RequestSpec};
use crate::schedule::Process;
use crate::slo::Slo;
use crate::target::Target;
use crate::{compare, run, units, upstream};

/// The result of a run as a code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Ok,
    /// Requests failed, or the run could not be made.
    Failed,
    /// The arguments are wrong. clap uses the same code.
    Usage,
    GeneratorBound,
    /// A goal was missed, or the second of two runs is worse.
    Missed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::GeneratorBound => 3,
            Exit::Missed => 4,
        })
    }
}

const AFTER_HELP: &str = "\
Closed loop (the default) asks again when it was answered and measures throughput:
  ringgate-load -c 64 --duration 10s http://127.0.0.1:8080/
Open loop (--rate) sends on time whatever the server does and measures latency:
  ringgate-load --rate 20k --warmup 2s --duration 30s http://127.0.0.1:8080/
  ringgate-load --rate 0..50k@60s,50k@30s --expect 200,429 http://127.0.0.1:8080/

Exit codes:
  0  no errors
  1  requests failed, or the run could not be made
  2  wrong arguments
  3  generator-bound: it could not keep the schedule (no errors otherwise)
  4  a goal of --slo was missed, or `compare` finds the second run worse";

/// An HTTP load generator with honest latencies.
#[derive(Debug, Parser)]
#[command(
    name = "ringgate-load",
    version,
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a server to send load to: fast, with answers chosen by path.
    Upstream(UpstreamArgs),
    /// Compares two runs written with --json: what differs by more than noise.
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// The run to compare with.
    before: PathBuf,
    /// The run to judge.
    after: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = upstream::HELP)]
struct UpstreamArgs {
    /// The address to listen on; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads, each with a listening socket of its own [default: the cores allowed].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// What to run on.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// http://host[:port][/path] or unix:/path/of.sock[:/path].
    #[arg(value_name = "URL", required = true)]
    url: Option<Target>,
    /// Closed loop: connections [default: 64]. Open loop: connections opened before the start [default: 16].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
    /// Open loop: connections at most; a request that finds none free waits for one, and the wait is counted.
    #[arg(long, value_name = "N", default_value = "4096", requires = "rate")]
    connections_max: u32,
    /// Open loop, requests per second: 20k, 1k@10s,5k@10s (steps), 0..50k@60s (a ramp).
    #[arg(short, long, value_name = "RATE")]
    rate: Option<RateSpec>,
    /// How arrivals are spaced.
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    arrivals: Arrivals,
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
    /// The method [default: GET, or POST with a body].
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header field; may be repeated. `Host` replaces the URL's.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = request::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: text, @FILE, or @- for standard input.
    #[arg(short, long, value_name = "BODY")]
    body: Option<String>,
    /// A new connection for every request.
    #[arg(long, conflicts_with = "pipeline")]
    no_keepalive: bool,
    /// Statuses that are results and not errors, with commas between [default: 200 to 399].
    #[arg(long, value_name = "STATUSES", value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(200..=599))]
    expect: Vec<u16>,
    /// From the send to the end of the response; also to make a connection.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "10s")]
    timeout: Duration,
    /// How to wait for the next arrival.
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    pacing: PacingArg,
    /// Generator-bound if 1 % of the requests were sent later than this.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "5ms",
        requires = "rate")]
    lag_max: Duration,
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
    json: Option<PathBuf>,
    /// No summary.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Arrivals {
    /// Evenly.
    #[default]
    Constant,
    /// With exponential gaps, as independent users make them.
    Poisson,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum PacingArg {
    /// A kernel timer per arrival.
    #[default]
    Precise,
    /// The runtime's timer of 1 ms: cheaper, and later.
    Frugal,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Driver {
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

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Each connection is a descriptor. Where this is refused, the connections that are too many say so.
    drop(runtime::limits::raise_open_files());
    let result = match cli.command {
        Some(Command::Upstream(args)) => serve(&args),
        Some(Command::Compare(args)) => compare(&args),
        None => load(cli.run),
    };
    let exit = result.unwrap_or_else(|error| {
        complain(&error.message);
        error.exit
    });
    exit.into()
}

struct Error {
    exit: Exit,
    message: String,
}

impl Error {
    fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self {
            exit: Exit::Failed,
            message: error.to_string(),
        }
    }
}

fn complain(message: &str) {
    // Nobody is left to tell if this fails.
    drop(writeln!(io::stderr(), "ringgate-load: {message}"));
}

fn stop_on_signal() -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds the flag set and ends the process.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn serve(args: &UpstreamArgs) -> Result<Exit, Error> {
    let stop = stop_on_signal()?;
    let options = upstream::Options {
        listen: args.listen,
        threads: args.threads.unwrap_or_else(cores),
        driver: args.driver.into(),
    };
    upstream::run(options, &stop, |address| {
        let mut out = io::stdout().lock();
        writeln!(out, "listening on {address}")?;
        out.flush()
    })?;
    Ok(Exit::Ok)
}

fn compare(args: &CompareArgs) -> Result<Exit, Error> {
    let (page, finding) = compare::compare(&args.before, &args.after)?;
    io::stdout().write_all(page.as_bytes())?;
    Ok(match finding {
        Finding::NoDifference | Finding::Better => Exit::Ok,
        Finding::Worse => Exit::Missed,
        Finding::Unknown => Exit::Failed,
    })
}

fn cores() -> u32 {
    u32::try_from(runtime::cores::for_workers().len()).unwrap_or(1)
}

fn load(args: RunArgs) -> Result<Exit, Error> {
    let (json, quiet) = (args.json.clone(), args.quiet);
    let plan = args.into_plan()?;
    let stop = stop_on_signal()?;
    let outcome = run::run(plan.clone(), &stop, |_| {})?;
    let report = Report::new(&plan, &outcome);
    let to_stdout = json.as_deref() == Some(Path::new("-"));
    if let Some(path) = json {
        write_json(&report, &path)?;
    }
    if !quiet && !to_stdout {
        io::stdout().write_all(report::text(&report).as_bytes())?;
    }
    let errors_allowed = plan.slo.as_ref().is_some_and(Slo::allows_errors);
    Ok(if !report.verdict.clean && !errors_allowed {
        Exit::Failed
    } else if report.verdict.generator_bound {
        Exit::GeneratorBound
    } else if report.verdict.slo_held == Some(false) {
        Exit::Missed
    } else {
        Exit::Ok
    })
}

fn write_json(report: &Report, path: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_string_pretty(report).map_err(io::Error::from)?;
    json.push('\n');
    if path == Path::new("-") {
        io::stdout().write_all(json.as_bytes())?;
        return Ok(());
    }
    std::fs::write(path, json).map_err(|error| Error {
        exit: Exit::Failed,
        message: format!("cannot write {}: {error}", path.display()),
    })
}

impl RunArgs {
    fn into_plan(self) -> Result<Plan, Error> {
        let target = self.url.ok_or_else(|| Error::usage("a URL is missing"))?;
        let body = self.body.map_or(Ok(Vec::new()), |body| read_body(&body))?;
        let method = self.method.unwrap_or(if body.is_empty() {
            Method::GET
        } else {
            Method::POST
        });
        if method == Method::CONNECT {
            return Err(Error::usage(
                "CONNECT is not supported: what follows it is not HTTP",
            ));
        }
        if self.timeout.is_zero() {
            return Err(Error::usage("--timeout 0 would fail every request"));
        }
        let open = self.rate.is_some();
        let connections = self.connections.unwrap_or(if open { 16 } else { 64 });
        let connections_max = if open {
            self.connections_max.max(connections)
        } else {
            connections
        };
        let threads = self.threads.unwrap_or_else(|| cores().min(connections));
        if connections_max < threads {
            return Err(Error::usage(
                "each thread needs a connection: fewer threads, or more connections",
            ));
        }
        let (mode, own_duration) = match self.rate {
            None => (Mode::Closed, None),
            Some(rate) => {
                let duration = rate.duration();
                let process = match self.arrivals {
                    Arrivals::Constant => Process::Constant,
                    Arrivals::Poisson => Process::Poisson,
                };
                (Mode::Open { rate, process }, duration)
            }
        };
        if own_duration.is_some() && self.duration.is_some() {
            return Err(Error::usage(
                "the rate says how long it lasts; leave --duration out",
            ));
        }
        let by_default = self.requests.is_none().then_some(Duration::from_secs(10));
        Ok(Plan {
            target,
            request: RequestSpec {
                method,
                headers: self.headers,
                body,
                keep_alive: !self.no_keepalive,
            },
            mode,
            connections,
            connections_max,
            pipeline: self.pipeline,
            threads,
            warmup: self.warmup,
            duration: self.duration.or(own_duration).or(by_default),
            requests: self.requests,
            timeout: self.timeout,
            expected: if self.expect.is_empty() {
                Expected::SUCCESS
            } else {
                Expected::these(self.expect)
            },
            pacing: match self.pacing {
                PacingArg::Precise => Pacing::Precise,
                PacingArg::Frugal => Pacing::Frugal,
            },
            driver: self.driver.into(),
            lag_max: self.lag_max,
            slo: self.slo,
            seed: self.seed,
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for line in [
            "0  no errors",
            "1  requests failed",
            "2  wrong arguments",
            "3  generator-bound",
            "4  a goal",
        ] {
            assert!(help.contains(line), "{line}");
        }
    }
}
