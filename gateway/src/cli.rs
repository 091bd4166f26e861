//! The command line: its words, and `check`. Everything else that a command does is in `main`.

mod hash;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config::{
    AuthenticatorConfig, Config, ConfigErrors, ConfigSource, LimitConfig, LimitMode, Problem, load,
};
use crate::data::filter::limit;
use crate::explain::{self, ExplainArgs};

pub use hash::{HashKeyArgs, HashPasswordArgs, hash_key, hash_password, prompt_password};

/// Exit code of a command that did what it was asked.
pub const EXIT_OK: u8 = 0;
/// Exit code of a failure at run time, such as a port in use.
pub const EXIT_FAILURE: u8 = 1;
/// The command line is wrong. clap uses the same code.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a bad configuration (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  ringgate                          serve the built-in configuration on 127.0.0.1:8080
  ringgate run -c ringgate.toml     serve a configuration
  ringgate check -c ringgate.toml   say what is wrong with it, without starting anything
  ringgate bench -c ringgate.toml   put load on it, with an upstream of its own
  ringgate explain -c ringgate.toml 'GET http://api.example.com/users'
                                    say which route serves it and what each filter does

Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 78 bad configuration.";

const BENCH_HELP: &str = "\
Listeners and admin move to free ports of 127.0.0.1, endpoints become the server built into ringgate-load, the access log and
penalties (`ban`) are off. Each route is asked by a request with what it and its filters ask for: host, path, method, query, header
fields; a value for a regular expression is made up. Credentials cannot be: -H 'Authorization: ...' adds them. Routes that would
refuse their request are left out, with the reason. Each limit that a route has alone is asked beyond what it gives and compared
with an ideal bucket; then a mix with one request for each route is sent.

Exit codes: 0 no errors, 1 requests failed or it could not run, 3 generator-bound, 4 a goal was missed, 78 bad configuration.";

/// An API gateway on io_uring for hosts that want the most requests per core.
#[derive(Debug, Parser)]
#[command(name = "ringgate", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Check the configuration and exit, as `check` does.
    #[arg(short = 't')]
    test: bool,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until TERM or INT (what `ringgate` alone does).
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// Start the gateway, an upstream and load in one, with requests that the routes ask for, and say how it went.
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Say what is wrong with a configuration: `ok`, or one problem a line and exit code 78; warnings on standard error.
    #[command(alias = "validate", after_help = EXAMPLES)]
    Check(RawCheckArgs),
    /// Say which route serves a request, why the others do not, and what would be done with it, without starting anything.
    #[command(after_help = explain::HELP)]
    Explain(ExplainArgs),
    /// Make the line of a file of API keys from a key on standard input, or from a new one.
    #[command(after_help = hash::KEY_EXAMPLES)]
    HashKey(HashKeyArgs),
    /// Make a line of a file of passwords from a password on standard input, or typed on a terminal.
    #[command(after_help = hash::PASSWORD_EXAMPLES)]
    HashPassword(HashPasswordArgs),
}

/// What `run` is told.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RunArgs {
    /// The configuration; where absent that of RINGGATE_CONFIG, else the built-in one.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads, in place of `runtime.workers`.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
}

/// What `bench` is told.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct BenchArgs {
    /// The configuration.
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Open loop: requests per second, as `ringgate-load --rate` takes them [default: a closed loop].
    #[arg(short, long, value_name = "RATE")]
    pub rate: Option<String>,
    /// How long the mix is sent.
    #[arg(short, long, value_name = "TIME", default_value = "10s")]
    pub duration: String,
    /// How long it is sent before that.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub warmup: String,
    /// Connections [default: as `ringgate-load`].
    #[arg(long, value_name = "N")]
    pub connections: Option<NonZeroU32>,
    /// A header field of every request, such as the credentials that routes ask for; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = explain::parse_header)]
    pub headers: Vec<(String, String)>,
    /// Goals, such as 'p99<5ms,errors<0.1%'.
    #[arg(long, value_name = "GOALS")]
    pub slo: Option<String>,
    /// Write everything as JSON; `-` is standard output, instead of the summary.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Worker threads, in place of `runtime.workers`.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
}

impl BenchArgs {
    /// Standard output has JSON and nothing else.
    #[must_use]
    pub fn json_to_stdout(&self) -> bool {
        self.json.as_deref() == Some(std::path::Path::new("-"))
    }
}

#[derive(Args, Debug)]
struct RawCheckArgs {
    /// The configuration; where absent that of RINGGATE_CONFIG.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
    /// Say also what each limit covers, its memory and the keys it holds (JSON always does), and what is fetched later.
    #[arg(short, long)]
    verbose: bool,
}

/// What `check` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckArgs {
    /// The configuration.
    pub config: PathBuf,
    /// How to report.
    pub format: CheckFormat,
    /// Tell of the limits, too.
    pub verbose: bool,
}

/// How `check` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// `ok`, or `file:line:column: error: ...`, one a line; `...: warning: ...` on standard error.
    Text,
    /// One JSON object: `ok`, `errors` with `file`, `line`, `column`, `key`, `message`, and where all is well `warnings` like
    /// these and `limits` with `name`, `covers`, `memory_bytes`, `keys`, `overrides`.
    Json,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Serve.
    Run(RunArgs),
    /// Check a configuration.
    Check(CheckArgs),
    /// Make the line of a key.
    HashKey(HashKeyArgs),
    /// Make the line of a password.
    HashPassword(HashPasswordArgs),
    /// Put load on a configuration.
    Bench(BenchArgs),
    /// Say what is done with a request.
    Explain(ExplainArgs),
}

impl Invocation {
    /// Reads the command line, the program's name first. `config_env` is the value of `RINGGATE_CONFIG`, which stands
    /// in for `-c`; an empty one counts as absent.
    ///
    /// # Errors
    ///
    /// Wrong usage, and also `--help` and `--version`: `clap::Error::exit` prints it and ends with the right code.
    pub fn parse<I, T>(arguments: I, config_env: Option<OsString>) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let cli = Cli::try_parse_from(arguments).map_err(name_the_option)?;
        let missing = |what: &str| {
            let missing = format!("{what} Write `-c FILE` or set RINGGATE_CONFIG");
            Cli::command().error(ErrorKind::MissingRequiredArgument, missing)
        };
        let from_env = config_env
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let (format, config, verbose) = match (cli.command, cli.test) {
            (Some(Command::HashKey(hash)), _) => return Ok(Self::HashKey(hash)),
            (Some(Command::HashPassword(hash)), _) => return Ok(Self::HashPassword(hash)),
            (Some(Command::Check(check)), _) => (check.format, check.config, check.verbose),
            (None, true) => (CheckFormat::Text, cli.run.config, false),
            (Some(Command::Run(run)), _) => return Ok(Self::run(run, from_env)),
            (Some(Command::Bench(bench)), _) => return Ok(Self::Bench(bench)),
            (Some(Command::Explain(mut explain)), _) => {
                explain.config = explain.config.or(from_env);
                return match explain.config {
                    Some(_) => Ok(Self::Explain(explain)),
                    None => Err(missing("by which configuration?")),
                };
            }
            (None, false) => return Ok(Self::run(cli.run, from_env)),
        };
        let config = config
            .or(from_env)
            .ok_or_else(|| missing("which configuration to check?"))?;
        Ok(Self::Check(CheckArgs {
            config,
            format,
            verbose,
        }))
    }

    fn run(run: RunArgs, from_env: Option<PathBuf>) -> Self {
        Self::Run(RunArgs {
            config: run.config.or(from_env),
            ..run
        })
    }
}

/// Adds to an error about a word that looks like a configuration how it is given.
fn name_the_option(mut error: clap::Error) -> clap::Error {
    let kinds = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    let word = kinds.into_iter().find_map(|kind| error.get(kind));
    let Some(ContextValue::String(word)) = word else {
        return error;
    };
    if word.ends_with(".toml") && !word.starts_with('-') {
        let tip = format!("a configuration is given as `-c {word}`");
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// Reads a configuration and writes what is wrong with it to `out`, and what is only doubtful to `told`; returns the exit code.
/// In JSON both are in one object.
///
/// `env` answers for the variables of `${VAR}`.
///
/// # Errors
///
/// Only those of writing to `out`.
pub fn check(
    arguments: &CheckArgs,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> io::Result<u8> {
    let mut result = load(ConfigSource::File(&arguments.config), env);
    if let Ok(config) = &mut result {
        // Who serves it is told by the failure itself, with what to do.
        config.warnings.problems.extend(config.access_log.doubt());
        config.warnings.problems.sort_by_key(|each| each.position);
    }
    let limits = result.as_ref().map(limits_of);
    let (code, text) = match (&result, limits) {
        (Ok(config), Ok(Ok(limits))) => (EXIT_OK, report(arguments, config, &limits)),
        // Too little memory for so many workers: known only where they are counted.
        (Ok(_), Ok(Err(problem))) => {
            let file = arguments.config.to_string_lossy();
            let errors = ConfigErrors::whole_file(&file, problem);
            (EXIT_CONFIG, report_errors(arguments, &errors))
        }
        (Err(errors), _) | (Ok(_), Err(errors)) => (EXIT_CONFIG, report_errors(arguments, errors)),
    };
    if let (Ok(config), EXIT_OK, CheckFormat::Text) = (&result, code, arguments.format)
        && !config.warnings.problems.is_empty()
    {
        writeln!(told, "{}", config.warnings)?;
    }
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(code)
}

fn report(arguments: &CheckArgs, config: &Config, limits: &[LimitReport]) -> String {
    match arguments.format {
        CheckFormat::Json => {
            let limits: Vec<_> = limits.iter().map(LimitReport::to_json).collect();
            let warnings = &config.warnings;
            let warnings = problems_to_json(&warnings.file, &warnings.problems);
            serde_json::json!({"ok": true, "errors": [], "warnings": warnings, "limits": limits})
                .to_string()
        }
        CheckFormat::Text if arguments.verbose => {
            let limits = limits.iter().map(|limit| format!("\n{limit}"));
            let fetched = |each: &AuthenticatorConfig| {
                let url = each.key_url()?;
                let name = &each.name;
                Some(format!(
                    "\nkeys of jwt.{name}: fetched from {url} by a running gateway"
                ))
            };
            let keys = config.authenticators.iter().filter_map(fetched);
            format!("ok{}", limits.chain(keys).collect::<String>())
        }
        CheckFormat::Text => "ok".to_owned(),
    }
}

fn report_errors(arguments: &CheckArgs, errors: &ConfigErrors) -> String {
    match arguments.format {
        CheckFormat::Text => errors.to_string(),
        CheckFormat::Json => to_json(errors).to_string(),
    }
}

/// What a limit covers and costs.
struct LimitReport {
    name: String,
    mode: LimitMode,
    workers: usize,
    size: limiter::TableSize,
    overrides: usize,
}

fn limits_of(config: &Config) -> Result<Vec<LimitReport>, String> {
    let workers = config
        .runtime
        .workers
        .map_or_else(|| runtime::cores::for_workers().len(), NonZeroUsize::get);
    let report = |limit: &LimitConfig| {
        Ok(LimitReport {
            name: limit.name.clone(),
            mode: limit.mode,
            workers,
            size: limit::size(limit, workers)?,
            overrides: limit.overrides.len(),
        })
    };
    config.limits.iter().map(report).collect()
}

impl LimitReport {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "covers": "process",
            "exact": true,
            "workers": self.workers,
            "memory_bytes": self.size.bytes,
            "keys": self.size.capacity_keys,
            "overrides": self.overrides,
        })
    }
}

impl fmt::Display for LimitReport {
    /// `limit per_client: 4.0 MiB, 139000 keys, covers the process exactly (all 8 workers together)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            mode,
            workers,
            size,
            overrides,
        } = self;
        let tenths = (size.bytes.saturating_mul(10) + (1 << 19)) >> 20;
        let (mib, tenth, keys) = (tenths / 10, tenths % 10, size.capacity_keys);
        write!(f, "limit {name}: {mib}.{tenth} MiB, {keys} keys, ")?;
        match mode {
            LimitMode::Enforce => f.write_str("covers the process exactly")?,
            LimitMode::Shadow => f.write_str("shadow: counts over the process, refuses nothing")?,
            LimitMode::Off => f.write_str("off")?,
        }
        write!(f, " (all {workers} workers together)")?;
        if *overrides > 0 {
            write!(f, ", {overrides} overrides")?;
        }
        Ok(())
    }
}

fn to_json(errors: &ConfigErrors) -> serde_json::Value {
    serde_json::json!({
        "ok": false,
        "errors": problems_to_json(&errors.file, &errors.problems),
        "unlisted": errors.unlisted,
    })
}

fn problems_to_json(file: &str, problems: &[Problem]) -> Vec<serde_json::Value> {
    let problems = problems.iter().map(|problem| {
        serde_json::json!({
            "file": file,
            "line": problem.position.map(|position| position.line),
            "column": problem.position.map(|position| position.column),
            "key": problem.key,
            "message": problem.message,
        })
    });
    problems.collect()
}

#[cfg(test)]
mod tests;
