//! The command line: arguments to a plan, a report to a terminal, a file and an exit code.

mod args;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand};

use crate::compare::Finding;
use crate::report::{self, Report};
use crate::slo::Slo;
use crate::{compare, run, upstream};
use args::{Driver, RunArgs, cores};

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
