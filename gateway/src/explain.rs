//! `ringgate explain`: what a configuration does with a request, without starting anything.

mod report;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use limiter::KeyHasher;

use crate::cli::{EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, EXIT_USAGE};
use crate::config::{Config, ConfigSource, did_you_mean, load};
use crate::data::explain::{End, Explanation, Question, explain};
use crate::data::plan::{Addresses, Plan};
use crate::data::upstream::AddressCell;
use report::Report;

pub(crate) const HELP: &str = "\
Examples:
  ringgate explain -c ringgate.toml 'GET http://api.example.com/v1/users/7?x=1'
  ringgate explain -c ringgate.toml 'POST http://api.example.com/v1' -H 'X-Api-Key: ...' --from 10.0.0.7
  ringgate explain -c ringgate.toml --format json http://www.example.com/ | jq .route

The request goes through the code that serves requests: as if every limit were untouched, and up to where it would be sent.
Says which route serves it and why each other does not, what the filters say, and what the upstream or the client gets.

Exit codes: 0 it would be served, 1 it would be refused, 2 wrong usage, 78 bad configuration.";

/// What `explain` is told.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ExplainArgs {
    /// The configuration; where absent that of RINGGATE_CONFIG.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The request, as `METHOD URL`, or a URL to GET. The path is taken as it is written.
    #[arg(value_name = "REQUEST", value_parser = parse_request)]
    pub request: Asked,
    /// A header field of the request; `Host` stands in for the URL's.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// The address that the request comes from.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub from: IpAddr,
    /// The listener that it comes to [default: the first].
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = ExplainFormat::Text)]
    pub format: ExplainFormat,
    /// Name also the routes that are for other hosts and paths (JSON always does).
    #[arg(short, long)]
    pub verbose: bool,
}

/// How `explain` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// A request line as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    method: String,
    /// Host, and port if one is written.
    authority: Option<String>,
    target: String,
}

/// Explains a request and writes it to `out`, and what is wrong with the configuration to `told`; returns the exit code.
/// `env` answers for the variables of `${VAR}`.
///
/// # Errors
///
/// Only those of writing.
pub fn run(
    arguments: &ExplainArgs,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> io::Result<u8> {
    let Some(file) = &arguments.config else {
        writeln!(told, "error: no configuration")?;
        return Ok(EXIT_USAGE);
    };
    let config = match load(ConfigSource::File(file), env) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(told, "{errors}")?;
            return Ok(EXIT_CONFIG);
        }
    };
    let listener = match find_listener(&config, arguments.listener.as_deref()) {
        Ok(listener) => listener,
        Err(message) => {
            writeln!(told, "error: {message}")?;
            return Ok(EXIT_USAGE);
        }
    };
    let plan = match Explainer::new(&config) {
        Ok(plan) => plan,
        Err(message) => {
            writeln!(told, "error: {message}")?;
            return Ok(EXIT_CONFIG);
        }
    };
    let explanation = plan.explain(listener, arguments.from, &arguments.head());
    let report = Report {
        arguments,
        config: &config,
        listener,
        explanation: &explanation,
    };
    match arguments.format {
        ExplainFormat::Text => report.write_text(out)?,
        ExplainFormat::Json => writeln!(out, "{:#}", report.to_json())?,
    }
    out.flush()?;
    Ok(match explanation.end {
        End::Refused { .. } => EXIT_FAILURE,
        End::Answered { .. } | End::Forwarded { .. } => EXIT_OK,
    })
}

/// A configuration compiled as for serving, but that nothing can be sent.
pub(crate) struct Explainer {
    plan: Plan,
    now: Instant,
    unix_seconds: u64,
}

impl Explainer {
    /// The error is a line about what in the configuration cannot be had here.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let (now, unix_seconds) = now();
        let plan = Plan::new(config, 1, KeyHasher::random(), now, &mut Nowhere)?;
        Ok(Self {
            plan,
            now,
            unix_seconds,
        })
    }

    /// What is done with the request of this head, which `peer` sends to the listener of this index.
    pub(crate) fn explain(&self, listener: usize, peer: IpAddr, head: &[u8]) -> Explanation {
        let question = Question {
            listener,
            peer,
            head,
            at: self.now,
            unix_seconds: self.unix_seconds,
        };
        explain(&self.plan, &question)
    }
}

/// The moment by which tokens are judged, and that as seconds of Unix time.
#[expect(
    clippy::disallowed_methods,
    reason = "a command that a person runs is about this moment"
)]
fn now() -> (Instant, u64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    (Instant::now(), since.map_or(0, |since| since.as_secs()))
}

fn find_listener(config: &Config, name: Option<&str>) -> Result<usize, String> {
    let Some(name) = name else { return Ok(0) };
    let mut listeners = config.listeners.iter();
    let found = listeners.position(|listener| listener.name == name);
    found.ok_or_else(|| {
        let names = || config.listeners.iter().map(|each| &*each.name);
        let near = did_you_mean(name, names());
        let there = match near.is_empty() {
            true => format!("; there is {}", names().collect::<Vec<_>>().join(", ")),
            false => near,
        };
        format!("no listener is named `{name}`{there}")
    })
}

/// Names are not resolved: nothing is sent.
struct Nowhere;

impl Addresses for Nowhere {
    fn cell(&mut self, _host: &str, _port: u16) -> AddressCell {
        AddressCell::default()
    }

    fn demo(&self) -> Option<SocketAddr> {
        None
    }
}

impl ExplainArgs {
    /// The request head.
    fn head(&self) -> Vec<u8> {
        let Asked {
            method,
            authority,
            target,
        } = &self.request;
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let named = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if let Some(authority) = authority
            && !self.headers.iter().any(named)
        {
            head += &format!("Host: {authority}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }
}

fn parse_request(text: &str) -> Result<Asked, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (method, url) = match words[..] {
        [url] => ("GET", url),
        [method, url] => (method, url),
        _ => return Err("write it as 'METHOD URL', such as 'GET http://host/path'".into()),
    };
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".into());
    }
    let asked = |authority: Option<&str>, target: String| Asked {
        method: method.to_owned(),
        authority: authority.map(str::to_owned),
        target,
    };
    if url.starts_with('/') || url == "*" {
        return Ok(asked(None, url.to_owned()));
    }
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .ok_or("the URL begins with `http://`, or with `/` and the host is in -H 'Host: ...'")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    // A fragment stays with the client.
    let target = target.split_once('#').map_or(target, |(target, _)| target);
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok(asked(Some(authority), format!("{slash}{target}")))
}

/// Reads a field of a request as it is written for curl.
pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'NAME: VALUE'")?;
    if text.contains(['\r', '\n', '\0']) {
        return Err("it holds a line break".into());
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_for_curl() {
        let parse = |text: &str| {
            let asked = parse_request(text).unwrap();
            let host = asked.authority.unwrap_or_default();
            format!("{} {host} {}", asked.method, asked.target)
        };
        for (text, expected) in [
            ("GET http://a.test/b?c#d", "GET a.test /b?c"),
            ("http://a.test:8080", "GET a.test:8080 /"),
            ("POST https://a.test?x=1", "POST a.test /?x=1"),
            ("OPTIONS *", "OPTIONS  *"),
            ("/a/../b", "GET  /a/../b"),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in [
            "",
            "a.test/b",
            "GET  http://a /b",
            "ftp://a/",
            "GET /\u{7f}",
        ] {
            assert!(parse_request(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_cannot_begin_another_line() {
        let header = parse_header("X-A:  b: c ").unwrap();
        assert_eq!(header, ("X-A".to_owned(), "b: c".to_owned()));
        for text in ["X-A", "X-A: b\r\nX-B: c", "X-A: \0"] {
            assert!(parse_header(text).is_err(), "{text}");
        }
    }
}
