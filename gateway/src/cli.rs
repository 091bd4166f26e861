//! The command line: its words, and `check`. Everything else that a command does is in `main`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigErrors, ConfigSource, load};

/// Exit code of a command that did what it was asked.
pub const EXIT_OK: u8 = 0;
/// Exit code of a failure at run time, such as a port in use.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a bad configuration (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  ringgate                          serve the built-in configuration on 127.0.0.1:8080
  ringgate run -c ringgate.toml     serve a configuration
  ringgate check -c ringgate.toml   say what is wrong with it, without starting anything

Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 78 bad configuration.";

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
    /// Say what is wrong with a configuration: `ok`, or one problem a line and exit code 78.
    #[command(alias = "validate", after_help = EXAMPLES)]
    Check(RawCheckArgs),
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

#[derive(Args, Debug)]
struct RawCheckArgs {
    /// The configuration; where absent that of RINGGATE_CONFIG.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
}

/// What `check` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckArgs {
    /// The configuration.
    pub config: PathBuf,
    /// How to report.
    pub format: CheckFormat,
}

/// How `check` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// `ok`, or `file:line:column: error: ...`, one a line.
    Text,
    /// One JSON object: `ok`, and `errors` with `file`, `line`, `column`, `key`, `message`.
    Json,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Serve.
    Run(RunArgs),
    /// Check a configuration.
    Check(CheckArgs),
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
        let cli = Cli::try_parse_from(arguments)?;
        let from_env = config_env
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let (format, config) = match (cli.command, cli.test) {
            (Some(Command::Check(check)), _) => (check.format, check.config),
            (None, true) => (CheckFormat::Text, cli.run.config),
            (Some(Command::Run(run)), _) => return Ok(Self::run(run, from_env)),
            (None, false) => return Ok(Self::run(cli.run, from_env)),
        };
        let config = config.or(from_env).ok_or_else(|| {
            let missing = "which configuration to check? Write `-c FILE` or set RINGGATE_CONFIG";
            Cli::command().error(ErrorKind::MissingRequiredArgument, missing)
        })?;
        Ok(Self::Check(CheckArgs { config, format }))
    }

    fn run(run: RunArgs, from_env: Option<PathBuf>) -> Self {
        Self::Run(RunArgs {
            config: run.config.or(from_env),
            ..run
        })
    }
}

/// Reads a configuration and writes what is wrong with it to `out`; returns the exit code.
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
) -> io::Result<u8> {
    let result = load(ConfigSource::File(&arguments.config), env);
    match (&result, arguments.format) {
        (Ok(_), CheckFormat::Text) => writeln!(out, "ok")?,
        (Err(errors), CheckFormat::Text) => writeln!(out, "{errors}")?,
        (Ok(_), CheckFormat::Json) => {
            writeln!(out, "{}", serde_json::json!({"ok": true, "errors": []}))?
        }
        (Err(errors), CheckFormat::Json) => writeln!(out, "{}", to_json(errors))?,
    }
    out.flush()?;
    Ok(if result.is_ok() { EXIT_OK } else { EXIT_CONFIG })
}

fn to_json(errors: &ConfigErrors) -> serde_json::Value {
    let problems = errors.problems.iter().map(|problem| {
        serde_json::json!({
            "file": errors.file,
            "line": problem.position.map(|position| position.line),
            "column": problem.position.map(|position| position.column),
            "key": problem.key,
            "message": problem.message,
        })
    });
    serde_json::json!({
        "ok": false,
        "errors": problems.collect::<Vec<_>>(),
        "unlisted": errors.unlisted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Invocation, clap::Error> {
        Invocation::parse(line.split_whitespace(), None)
    }

    #[test]
    fn the_environment_names_a_configuration_where_the_line_does_not() {
        let config = |line: &str, env: &str| match Invocation::parse(
            line.split_whitespace(),
            Some(env.into()),
        )
        .unwrap()
        {
            Invocation::Run(run) => run.config,
            Invocation::Check(check) => Some(check.config),
        };
        for line in ["ringgate", "ringgate run", "ringgate check", "ringgate -t"] {
            assert_eq!(config(line, "e.toml"), Some("e.toml".into()), "{line}");
            assert_eq!(
                config(&format!("{line} -c a.toml"), "e.toml"),
                Some("a.toml".into()),
                "{line}"
            );
        }
        assert_eq!(config("ringgate", ""), None);
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_runs() {
        let run = |config: Option<&str>, workers| {
            Invocation::Run(RunArgs {
                config: config.map(PathBuf::from),
                workers,
            })
        };
        assert_eq!(parse("ringgate").unwrap(), run(None, None));
        assert_eq!(parse("ringgate run").unwrap(), run(None, None));
        assert_eq!(
            parse("ringgate -c a.toml").unwrap(),
            run(Some("a.toml"), None)
        );
        let two = NonZeroUsize::new(2);
        assert_eq!(
            parse("ringgate run --config a.toml --workers 2").unwrap(),
            run(Some("a.toml"), two)
        );
    }

    #[test]
    fn check_goes_by_three_names() {
        let check = |format| {
            Invocation::Check(CheckArgs {
                config: "a.toml".into(),
                format,
            })
        };
        for line in [
            "ringgate check -c a.toml",
            "ringgate validate -c a.toml",
            "ringgate -t -c a.toml",
        ] {
            assert_eq!(parse(line).unwrap(), check(CheckFormat::Text), "{line}");
        }
        let json = parse("ringgate check --format json -c a.toml").unwrap();
        assert_eq!(json, check(CheckFormat::Json));
    }

    #[test]
    fn wrong_usage_ends_with_code_2() {
        for line in [
            "ringgate check",
            "ringgate -t",
            "ringgate nonsense",
            "ringgate run --workers 0",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_and_version_end_with_code_0() {
        for line in [
            "ringgate --help",
            "ringgate -V",
            "ringgate --version",
            "ringgate check --help",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
        }
        assert!(
            parse("ringgate --help")
                .unwrap_err()
                .to_string()
                .contains("Examples:")
        );
    }

    #[test]
    fn an_unreadable_file_is_a_bad_configuration() {
        let arguments = CheckArgs {
            config: "/nonexistent/x.toml".into(),
            format: CheckFormat::Text,
        };
        let mut out = Vec::new();
        let code = check(&arguments, &|_| None, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(code, EXIT_CONFIG);
        assert!(
            out.starts_with("/nonexistent/x.toml: error: cannot be read: No such file"),
            "{out}"
        );
    }

    #[test]
    fn the_example_is_ok_in_both_formats() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ringgate.toml");
        for (format, expected) in [
            (CheckFormat::Text, "ok\n"),
            (CheckFormat::Json, "{\"errors\":[],\"ok\":true}\n"),
        ] {
            let mut out = Vec::new();
            let code = check(
                &CheckArgs {
                    config: path.into(),
                    format,
                },
                &|_| None,
                &mut out,
            )
            .unwrap();
            assert_eq!(
                (code, String::from_utf8(out).unwrap().as_str()),
                (EXIT_OK, expected)
            );
        }
    }

    #[test]
    fn json_reports_every_problem_with_its_place() {
        let path = std::env::temp_dir().join(format!("ringgate-check-{}.toml", std::process::id()));
        std::fs::write(&path, "version = 1\nfrobs = 2\n").unwrap();
        let mut out = Vec::new();
        let arguments = CheckArgs {
            config: path.clone(),
            format: CheckFormat::Json,
        };
        let code = check(&arguments, &|_| None, &mut out).unwrap();
        std::fs::remove_file(&path).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (code, &report["ok"]),
            (EXIT_CONFIG, &serde_json::json!(false))
        );
        assert_eq!(report["errors"].as_array().unwrap().len(), 2);
        let second = &report["errors"][1];
        assert_eq!(second["file"], path.to_str().unwrap());
        assert_eq!((&second["line"], &second["column"]), (&2.into(), &1.into()));
        assert_eq!(second["key"], "frobs");
    }
}
