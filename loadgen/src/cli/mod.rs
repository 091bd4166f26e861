//! The command line: arguments to a plan, a report to a terminal, a file and an exit code.

mod args;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use serde::Serialize;

use crate::compare::Finding as Difference;
use crate::live::{Live, Show};
use crate::nearest::did_you_mean;
use crate::plan::Plan;
use crate::report::{self, Report};
use crate::search::{Search, Step};
use crate::{compare, run, upstream};
use args::{Driver, ReplayArgs, RunArgs, SearchArgs, cores};

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
  1  requests failed, the run could not be made, or `compare` cannot say
  2  wrong arguments
  3  generator-bound: it could not keep the schedule (no errors otherwise)
  4  a goal of --slo was missed, `search` found no rate, or `compare` finds the second run worse";

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
    /// Finds the highest rate that holds a goal: doubles, bisects, confirms.
    Search(Box<SearchArgs>),
    /// Sends the requests of an access log at their own times.
    Replay(Box<ReplayArgs>),
    /// Compares two runs written with --json, or several pairs of them: what differs by more than noise.
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// The run to compare with and the run to judge; or five pairs or more of them, made in turns, which are judged by the
    /// differences of the pairs.
    #[arg(value_names = ["BEFORE", "AFTER"], num_args = 2.., required = true)]
    files: Vec<PathBuf>,
    /// Differences up to so many per cent are none.
    #[arg(long, value_name = "PERCENT", default_value = "1",
        value_parser = clap::value_parser!(u8).range(0..=50))]
    noise: u8,
}

#[derive(Debug, Args)]
#[command(after_help = upstream::HELP)]
struct UpstreamArgs {
    /// Where to listen: ADDRESS:PORT (port 0 takes a free one, which is printed) or unix:/path; may be repeated.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: Vec<upstream::Listen>,
    /// Threads, each with listening sockets of its own [default: the cores allowed].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// What to run on.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
}

/// Runs the program on the arguments of the process.
pub fn main() -> ExitCode {
    if let Some(hint) = mistyped(std::env::args().nth(1)) {
        complain(&hint);
        return Exit::Usage.into();
    }
    let cli = Cli::parse();
    // Each connection is a descriptor. Where this is refused, the connections that are too many say so.
    drop(runtime::limits::raise_open_files());
    let result = match cli.command {
        Some(Command::Upstream(args)) => serve(&args),
        Some(Command::Search(args)) => find(*args),
        Some(Command::Replay(args)) => {
            let outputs = Outputs::of(&args.run);
            args.into_plan().and_then(|plan| load(plan, outputs))
        }
        Some(Command::Compare(args)) => compare(&args),
        None => {
            let outputs = Outputs::of(&cli.run);
            cli.run.into_plan().and_then(|plan| load(plan, outputs))
        }
    };
    let exit = result.unwrap_or_else(|error| {
        complain(&error.message);
        error.exit
    });
    exit.into()
}

/// What to say of a first argument that would be taken for a URL and is nearly the name of a command.
fn mistyped(first: Option<String>) -> Option<String> {
    let word = first.filter(|word| !word.starts_with('-') && !word.contains([':', '/', '.']))?;
    let cli = Cli::command();
    let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    if names.contains(&&*word) {
        return None;
    }
    let meant = did_you_mean(&word, &names);
    (!meant.is_empty()).then(|| format!("no command and no URL: {word}{meant}"))
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
            // What cannot be meant, as against what cannot be done.
            exit: if error.kind() == io::ErrorKind::InvalidInput {
                Exit::Usage
            } else {
                Exit::Failed
            },
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
        listen: args.listen.clone(),
        threads: args.threads.unwrap_or_else(cores),
        driver: args.driver.into(),
    };
    upstream::run(&options, &stop, |places| {
        let mut out = io::stdout().lock();
        for place in places {
            writeln!(out, "listening on {place}")?;
        }
        out.flush()
    })?;
    Ok(Exit::Ok)
}

fn compare(args: &CompareArgs) -> Result<Exit, Error> {
    let (page, finding) = compare::compare(&args.files, f64::from(args.noise) / 100.0)?;
    io::stdout().write_all(page.as_bytes())?;
    Ok(match finding {
        Difference::NoDifference | Difference::Better => Exit::Ok,
        Difference::Worse => Exit::Missed,
        Difference::Unknown | Difference::GeneratorBound => Exit::Failed,
    })
}

/// What a search comes to, for `--json`.
#[derive(Debug, Serialize)]
struct Finding {
    schema: &'static str,
    goal: String,
    /// `null`: the first rate misses the goal.
    rate_per_second: Option<f64>,
    /// A run was the generator's limit, so that a faster one might find more.
    generator_bound: bool,
    runs: Vec<FindingRun>,
}

#[derive(Debug, Serialize)]
struct FindingRun {
    #[serde(flatten)]
    step: Step,
    report: Report,
}

fn find(args: SearchArgs) -> Result<Exit, Error> {
    let (json, quiet, show) = (args.run.json.clone(), args.run.quiet, args.run.live);
    let check = args.run.check;
    let (bounds, mut plan) = args.into_plan()?;
    if check {
        return Ok(Exit::Ok);
    }
    let to_stdout = json.as_deref() == Some(Path::new("-"));
    let mut out: Box<dyn Write> = if quiet || to_stdout {
        Box::new(io::sink())
    } else {
        Box::new(io::stdout())
    };
    let stop = stop_on_signal()?;
    let mut live = Live::new(show, &plan);
    let mut search = Search::new(bounds);
    let mut reports = Vec::new();
    while let Some(rate) = search.next()
        && !stop.load(Ordering::Relaxed)
    {
        plan.mode = plan.mode.at_rate(rate);
        live.begin(&plan, &search.describe());
        let outcome = run::run(plan.clone(), &stop, |snapshot| live.show(snapshot));
        live.end();
        let report = Report::new(&plan, &outcome?);
        let held = report.verdict.holds();
        writeln!(out, "{}", report::step(rate, &report, held))?;
        search.record(held);
        reports.push(report);
    }
    let generator_bound = reports.iter().any(|report| report.verdict.generator_bound);
    let goal = plan.slo.map_or(String::new(), |slo| slo.to_string());
    match search.answer() {
        Some(rate) => writeln!(
            out,
            "\n{rate:.0}/s is the highest rate found that holds {goal}"
        )?,
        None => writeln!(out, "\nno rate found that holds {goal}")?,
    }
    if generator_bound {
        writeln!(
            out,
            "some runs were generator-bound: another generator might find more"
        )?;
    }
    if let Some(path) = json {
        let runs = search.steps().iter().copied().zip(reports);
        let finding = Finding {
            schema: "ringgate-load-search/1",
            goal,
            rate_per_second: search.answer(),
            generator_bound,
            runs: runs
                .map(|(step, report)| FindingRun { step, report })
                .collect(),
        };
        write_json(&finding, &path)?;
    }
    Ok(match search.answer() {
        _ if generator_bound => Exit::GeneratorBound,
        Some(_) => Exit::Ok,
        None => Exit::Missed,
    })
}

/// Where the result of a run goes.
struct Outputs {
    json: Option<PathBuf>,
    html: Option<PathBuf>,
    csv: Option<PathBuf>,
    live: Show,
    check: bool,
    quiet: bool,
}

impl Outputs {
    fn of(args: &RunArgs) -> Self {
        Self {
            json: args.json.clone(),
            html: args.html.clone(),
            csv: args.csv.clone(),
            live: args.live,
            check: args.check,
            quiet: args.quiet,
        }
    }
}

fn load(plan: Plan, outputs: Outputs) -> Result<Exit, Error> {
    let Outputs {
        json,
        html,
        csv,
        live,
        check,
        quiet,
    } = outputs;
    if check {
        return Ok(Exit::Ok);
    }
    let stop = stop_on_signal()?;
    let mut live = Live::new(live, &plan);
    live.begin(&plan, "");
    let outcome = run::run(plan.clone(), &stop, |snapshot| live.show(snapshot));
    live.end();
    let report = Report::new(&plan, &outcome?);
    if let Some(path) = html {
        write_file(&path, report::html(&report).as_bytes())?;
    }
    if let Some(path) = csv {
        write_file(&path, report::csv(&report).as_bytes())?;
    }
    let to_stdout = json.as_deref() == Some(Path::new("-"));
    if let Some(path) = json {
        write_json(&report, &path)?;
    }
    if !quiet && !to_stdout {
        io::stdout().write_all(report::text(&report).as_bytes())?;
    }
    Ok(if !report.verdict.clean && !report.verdict.errors_allowed {
        Exit::Failed
    } else if report.verdict.generator_bound {
        Exit::GeneratorBound
    } else if report.verdict.slo_held == Some(false) {
        Exit::Missed
    } else {
        Exit::Ok
    })
}

fn write_json(document: &impl Serialize, path: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
    json.push('\n');
    if path == Path::new("-") {
        io::stdout().write_all(json.as_bytes())?;
        return Ok(());
    }
    write_file(path, json.as_bytes())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|error| Error {
        exit: Exit::Failed,
        message: format!("cannot write {}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
