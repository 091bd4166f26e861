//! What is said when the gateway is up: to a user on a terminal, or in the process log.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Action, Conditions, HostPattern, PathPattern, RouteConfig};
use crate::control::admin;
use crate::control::supervisor::Started;
use crate::telemetry::log;

/// Requests that a user is shown to try.
const TRIES_MAX: usize = 2;

/// Writes what listens where, on which driver, and three requests to try. `source`: where the configuration is from.
///
/// # Errors
///
/// Only those of writing to `out`.
pub fn write(out: &mut dyn Write, source: &str, started: &Started<'_>) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let (workers, report) = (started.workers, started.report);
    writeln!(out, "ringgate {version}: {source}")?;
    for (listener, address) in started.config.listeners.iter().zip(started.listeners) {
        writeln!(out, "  listening  http://{address} ({})", listener.name)?;
    }
    if let Some(admin) = started.admin {
        writeln!(out, "  admin      http://{admin} ({})", admin::paths())?;
    }
    writeln!(out, "  workers    {workers}, on {report}")?;
    for warning in started.warnings {
        writeln!(out, "  warning    {warning}")?;
    }
    let Some(&address) = started.listeners.first() else {
        return Ok(());
    };
    writeln!(out, "try:")?;
    let base = reachable(address);
    for route in started
        .config
        .routes
        .iter()
        .filter(|route| is_plain(route))
        .take(TRIES_MAX)
    {
        let path = match &route.path {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
            PathPattern::Template(_) | PathPattern::Regex(_) => continue,
        };
        let host = match route.hosts.first() {
            Some(HostPattern::Exact(host)) => format!(" -H 'Host: {host}'"),
            _ => String::new(),
        };
        writeln!(out, "  curl -i{host} http://{base}{path}")?;
    }
    match started.admin {
        Some(admin) => writeln!(out, "  curl -s http://{admin}/metrics")?,
        None => writeln!(out, "  curl -i http://{base}/nothing-here")?,
    }
    writeln!(out, "Ctrl-C drains and ends.")?;
    out.flush()
}

/// Says the same as [`write()`] in lines of the process log, for a file or a collector; `serving` is the last of them.
pub fn log(source: &str, started: &Started<'_>) {
    for (listener, address) in started.config.listeners.iter().zip(started.listeners) {
        let address = format!("http://{address}");
        log::info(
            "listening",
            &[("address", &address), ("listener", &listener.name)],
        );
    }
    if let Some(admin) = started.admin {
        let address = format!("http://{admin}");
        log::info(
            "admin",
            &[("address", &address), ("pages", &admin::paths())],
        );
    }
    for warning in started.warnings {
        log::warn(warning, &[]);
    }
    log::info(
        "serving",
        &[
            ("version", &env!("CARGO_PKG_VERSION")),
            ("config", &source),
            ("workers", &started.workers),
            ("driver", &started.report.driver.name()),
            ("ring", &started.report.flags),
        ],
    );
}

/// A route that a plain GET may hit.
fn is_plain(route: &RouteConfig) -> bool {
    let host = matches!(route.hosts.first(), None | Some(HostPattern::Exact(_)));
    let denies = matches!(&route.action, Action::Respond(answer) if answer.status >= 400);
    let conditions = &route.conditions;
    let plain = Conditions {
        methods: Vec::new(),
        ..conditions.clone()
    } == Conditions::default();
    let get = conditions.methods.is_empty() || conditions.methods.iter().any(|each| each == "GET");
    host && !denies && plain && get
}

/// An address that a client on this host can use: a wildcard is no destination.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}
