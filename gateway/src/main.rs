//! `ringgate`: reads the command line, and hands over.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use gateway::cli::{self, HashPasswordArgs, Invocation, RunArgs};
use gateway::config::{Config, ConfigSource, load};
use gateway::control::supervisor;
use gateway::{banner, telemetry};

/// Gives back what a burst of connections took: sizes lie apart from each other, so that the memory of those at work is
/// not held by the few words of those that stay, and unused pages go back to the kernel within seconds. How soon is in
/// `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let invocation = Invocation::parse(std::env::args_os(), std::env::var_os("RINGGATE_CONFIG"));
    let code = match invocation {
        Ok(Invocation::Run(arguments)) => run(&arguments),
        Ok(Invocation::Check(arguments)) => {
            let environment = |name: &str| std::env::var(name).ok();
            let (mut out, mut told) = (io::stdout().lock(), io::stderr().lock());
            cli::check(&arguments, &environment, &mut out, &mut told).unwrap_or(cli::EXIT_FAILURE)
        }
        Ok(Invocation::HashKey(arguments)) => {
            let (mut out, mut told) = (io::stdout().lock(), io::stderr().lock());
            cli::hash_key(&arguments, &mut io::stdin().lock(), &mut out, &mut told)
                .unwrap_or(cli::EXIT_FAILURE)
        }
        Ok(Invocation::HashPassword(arguments)) => {
            hash_password(&arguments).unwrap_or(cli::EXIT_FAILURE)
        }
        Ok(Invocation::Explain(arguments)) => {
            let environment = |name: &str| std::env::var(name).ok();
            let (mut out, mut told) = (io::stdout().lock(), io::stderr().lock());
            gateway::explain::run(&arguments, &environment, &mut out, &mut told)
                .unwrap_or(cli::EXIT_FAILURE)
        }
        Ok(Invocation::Bench(arguments)) => {
            gateway::bench::run(&arguments, &|name| std::env::var(name).ok())
        }
        Err(usage) => usage.exit(),
    };
    ExitCode::from(code)
}

fn hash_password(arguments: &HashPasswordArgs) -> io::Result<u8> {
    let (mut input, mut out, mut told) =
        (io::stdin().lock(), io::stdout().lock(), io::stderr().lock());
    match cli::prompt_password(&mut input, &mut told)? {
        Some(typed) => cli::hash_password(arguments, &mut typed.as_bytes(), &mut out, &mut told),
        None => cli::hash_password(arguments, &mut input, &mut out, &mut told),
    }
}

fn run(arguments: &RunArgs) -> u8 {
    let source = match &arguments.config {
        Some(path) => ConfigSource::File(path),
        None => ConfigSource::builtin(),
    };
    let mut config: Config = match load(source, &|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(errors) => {
            say(&errors.to_string());
            return cli::EXIT_CONFIG;
        }
    };
    warn_of(&config);
    if arguments.workers.is_some() {
        config.runtime.workers = arguments.workers;
    }
    let file = arguments.config.as_ref().map(|it| it.display().to_string());
    let started = |started: &supervisor::Started<'_>| {
        if !io::stderr().is_terminal() {
            banner::log(file.as_deref().unwrap_or("built-in"), started);
            return;
        }
        let builtin = "the built-in configuration (`ringgate run -c FILE` for your own)";
        let name = file.as_deref().unwrap_or(builtin);
        // Nobody may be reading; the gateway serves even so.
        drop(banner::write(&mut io::stderr().lock(), name, started));
    };
    match supervisor::run(&config, started) {
        Ok(()) => cli::EXIT_OK,
        Err(failure) => {
            telemetry::log::error(&failure.to_string(), &[]);
            cli::EXIT_FAILURE
        }
    }
}

/// Says what is doubtful: as a compiler does to a person, and else as a line of the log for each.
fn warn_of(config: &Config) {
    let warnings = &config.warnings;
    if io::stderr().is_terminal() && !warnings.problems.is_empty() {
        say(&warnings.to_string());
        return;
    }
    for warning in &warnings.problems {
        let place = warning.position.map_or_else(String::new, |position| {
            format!(":{}:{}", position.line, position.column)
        });
        let place = format!("{}{place}", warnings.file);
        let (key, problem) = (&warning.key, &warning.message);
        let fields: telemetry::log::Fields<'_> =
            &[("at", &place), ("key", key), ("problem", problem)];
        telemetry::log::warn("the configuration is doubtful", fields);
    }
}

fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
