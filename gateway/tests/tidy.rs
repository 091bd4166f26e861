//! Rules of the project that no compiler knows: who may import whom, where unsafe code may be, how long is too long.
//! Each check is tried on a snippet that breaks it, so that it is known to be able to fail.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod tidy_support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use gateway::telemetry::names::METRICS;
use tidy_support::imports::{Named, module_of, named};
use tidy_support::{
    Source, dead_links, impure, places, project, too_long, undeclared_metrics, unintroduced,
    unnumbered_notes, unsafe_outside,
};

/// Files that may hold unsafe code, and what forces them to.
const UNSAFE_FILES: &[(&str, &str)] = &[
    (
        "gateway/src/data/codec/block.rs",
        "the processor's instructions on sixteen octets: SSE2",
    ),
    ("gateway/tests/end_to_end/support/process.rs", "kill"),
    (
        "gateway/tests/allocations/counting.rs",
        "GlobalAlloc is an unsafe trait",
    ),
    (
        "limiter/src/memory.rs",
        "a table that nobody writes to until it is used: mmap",
    ),
    (
        "runtime/src/buf.rs",
        "IoBuf, IoBufMut and BufMut are unsafe traits",
    ),
    ("runtime/src/limits.rs", "getrlimit and setrlimit"),
    (
        "runtime/src/ring.rs",
        "io_uring_register on a ring that monoio made",
    ),
    (
        "runtime/src/socket.rs",
        "two halves of one stream on one thread, and its descriptor",
    ),
    ("runtime/src/steer.rs", "setsockopt with a program"),
];

/// The data plane's modules and what each may name of the others. `request` calls the steps in order; a step knows
/// its values, not its neighbours.
const DATA_EDGES: &[(&str, &[&str], &str)] = &[
    (
        "auth",
        &["codec", "error"],
        "credentials are found among a request's fields; a refusal is an error",
    ),
    ("body", &["codec"], "the codec follows a body's framing"),
    (
        "client",
        &["codec", "plan"],
        "a connection's peer and a request's fields say who the client is",
    ),
    (
        "connection",
        &[
            "client", "codec", "error", "fairness", "plan", "request", "respond", "spell",
            "tunnel", "worker",
        ],
        "reads heads and hands each to the spine",
    ),
    (
        "error",
        &["auth", "codec", "filter", "route", "upstream"],
        "names every way to fail",
    ),
    (
        "edit",
        &["auth", "codec", "error", "route"],
        "paths and fields are made of a request's parts and a route's captures",
    ),
    (
        "explain",
        &[
            "auth", "client", "codec", "error", "filter", "forward", "log", "plan", "request",
            "respond", "route",
        ],
        "takes a request through the steps without doing anything",
    ),
    (
        "filter",
        &["auth", "codec", "error"],
        "keys of limits are found among a request's fields and in its caller; a refusal is an error",
    ),
    (
        "forward",
        &[
            "auth",
            "body",
            "codec",
            "connection",
            "error",
            "fairness",
            "filter",
            "log",
            "plan",
            "request",
            "tunnel",
            "upstream",
            "worker",
        ],
        "the exchange: both ends and both bodies; an upgrade makes a tunnel of them; a choice by key finds it as limits do; an authenticator elsewhere is asked by a subrequest",
    ),
    (
        "log",
        &[
            "auth",
            "codec",
            "connection",
            "error",
            "filter",
            "request",
            "upstream",
            "worker",
        ],
        "the record of what all steps did",
    ),
    (
        "page",
        &["edit"],
        "bodies tell of the request as other texts with variables do",
    ),
    (
        "plan",
        &[
            "auth", "codec", "edit", "filter", "networks", "respond", "route", "upstream", "verify",
        ],
        "compiles the configuration into what the steps use, refusals by limits among it",
    ),
    (
        "rehearse",
        &[
            "auth", "client", "codec", "error", "explain", "filter", "forward", "log", "plan",
            "request", "route",
        ],
        "takes a request through the steps for benchmarks",
    ),
    (
        "request",
        &[
            "auth",
            "body",
            "client",
            "codec",
            "connection",
            "edit",
            "error",
            "fault",
            "filter",
            "forward",
            "log",
            "page",
            "plan",
            "respond",
            "route",
            "tunnel",
            "verify",
            "worker",
        ],
        "the spine",
    ),
    (
        "respond",
        &["codec", "error", "filter", "page", "route"],
        "turns errors and refusals into answers",
    ),
    (
        "route",
        &["codec", "networks"],
        "conditions are on a request's fields, its query and its client",
    ),
    (
        "spell",
        &["connection", "request"],
        "the memory in which a connection serves its requests",
    ),
    (
        "tunnel",
        &[
            "connection",
            "fairness",
            "log",
            "request",
            "upstream",
            "worker",
        ],
        "the two ends of an upgraded connection, and the request that ends with it",
    ),
    (
        "verify",
        &["auth"],
        "what is verified elsewhere is an authenticator's table and a password",
    ),
    (
        "worker",
        &[
            "auth",
            "clock",
            "connection",
            "filter",
            "plan",
            "request_id",
            "route",
            "spell",
            "upstream",
        ],
        "owns what its connections share, the memory of those at work among it",
    ),
];

/// What the control plane may name of the data plane: what it builds, starts and feeds, never a step.
const CONTROL_TO_DATA: &[&str] = &["auth", "plan", "upstream", "verify", "worker"];

/// Directories without I/O, runtime, clock or waiting: they run under property tests, loom, Miri and fuzzers.
const PURE: &[&str] = &[
    "gateway/src/data/auth/",
    "gateway/src/data/codec/",
    "gateway/src/data/edit.rs",
    "gateway/src/data/filter/",
    "gateway/src/data/networks.rs",
    "gateway/src/data/route/",
    "limiter/src/",
];
/// The limiter's own reading of the clock, which callers may use or not.
const PURE_BUT: &[&str] = &["limiter/src/clock.rs"];

/// Every file, read once for all checks.
static FILES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = project(root);
    assert!(files.len() > 100, "only {} files found", files.len());
    files
});

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn each(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    FILES.iter().flat_map(check).collect()
}

/// What `source`, a file of the gateway, names of the gateway. Empty for other files.
fn names_of(source: &Source) -> (Vec<String>, Vec<Named>) {
    match source.path.strip_prefix("gateway/src/") {
        Some(file) => {
            let module = module_of(file);
            let names = named(&module, &source.tokens);
            (module, names)
        }
        None => (Vec::new(), Vec::new()),
    }
}

/// Names of `source` that the planes' rules forbid.
fn against_planes(source: &Source) -> Vec<String> {
    let (module, names) = names_of(source);
    let plane = module.first().map_or("", String::as_str);
    let mut wrong = Vec::new();
    for Named { path, line } in names {
        let to = path.first().map_or("", String::as_str);
        let step = path.get(1).map_or("", String::as_str);
        let is_allowed = match plane {
            "config" | "telemetry" => to == plane,
            "data" => matches!(to, "config" | "data" | "telemetry"),
            "control" if to == "data" => CONTROL_TO_DATA.contains(&step),
            "control" => matches!(to, "config" | "control" | "telemetry"),
            _ => true,
        };
        if !is_allowed {
            let path = path.join("::");
            wrong.push(format!("{}:{line}: {plane} names {path}", source.path));
        }
    }
    wrong
}

/// Edges between the modules of the data plane that `source` makes, as (from, to, line).
fn data_edges(source: &Source, modules: &BTreeSet<String>) -> Vec<(String, String, usize)> {
    let (module, names) = names_of(source);
    let (Some("data"), Some(own)) = (module.first().map(String::as_str), module.get(1)) else {
        return Vec::new();
    };
    names
        .into_iter()
        .filter(|named| named.path.first().is_some_and(|plane| plane == "data"))
        .filter_map(|named| Some((named.path.get(1)?.clone(), named.line)))
        .filter(|(to, _)| to != own && modules.contains(to))
        .map(|(to, line)| (own.clone(), to, line))
        .collect()
}

fn is_allowed_edge(from: &str, to: &str) -> bool {
    DATA_EDGES
        .iter()
        .any(|(module, allowed, _)| *module == from && allowed.contains(&to))
}

fn data_modules(files: &[Source]) -> BTreeSet<String> {
    files
        .iter()
        .filter_map(|source| source.path.strip_prefix("gateway/src/data/"))
        .filter_map(|file| module_of(file).first().cloned())
        .collect()
}

#[test]
fn planes_keep_apart_and_leaves_are_leaves() {
    assert_none(&each(against_planes));
    let breaks = |path: &str, text: &str| against_planes(&Source::new(path, text)).len();
    assert_eq!(
        breaks("gateway/src/data/x.rs", "use crate::control::admin;"),
        1
    );
    assert_eq!(
        breaks("gateway/src/data/x.rs", "use crate::{config, control};"),
        1
    );
    assert_eq!(
        breaks(
            "gateway/src/data/x/y.rs",
            "fn f() { super::super::super::control::f() }"
        ),
        1
    );
    assert_eq!(
        breaks("gateway/src/config/x.rs", "use crate::telemetry::log;"),
        1
    );
    assert_eq!(
        breaks("gateway/src/telemetry/x.rs", "use crate::config::Config;"),
        1
    );
    assert_eq!(
        breaks(
            "gateway/src/control/x.rs",
            "use crate::data::codec::Fields;"
        ),
        1
    );
    assert_eq!(
        breaks(
            "gateway/src/control/x.rs",
            "use crate::data::plan::Plan; // crate::data::codec"
        ),
        0
    );
}

#[test]
fn steps_of_the_data_plane_name_only_what_the_table_lists() {
    let modules = data_modules(&FILES);
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for source in FILES.iter() {
        for (from, to, line) in data_edges(source, &modules) {
            if !is_allowed_edge(&from, &to) {
                wrong.push(format!("{}:{line}: {from} names {to}", source.path));
            }
            used.insert((from, to));
        }
    }
    for (from, allowed, _) in DATA_EDGES {
        for to in *allowed {
            if !used.contains(&((*from).to_owned(), (*to).to_owned())) {
                wrong.push(format!(
                    "the table lets {from} name {to}, which it does not"
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn an_edge_is_seen_however_it_is_written() {
    let modules: BTreeSet<String> = ["codec", "forward", "respond"].map(str::to_owned).into();
    let edges = |text: &str| {
        let edges = data_edges(&Source::new("gateway/src/data/codec/x.rs", text), &modules);
        edges.into_iter().map(|edge| edge.1).collect::<Vec<_>>()
    };
    assert_eq!(edges("use super::super::forward::Lease;"), ["forward"]);
    assert_eq!(
        edges("use crate::data::{codec::Span, forward as f, respond};"),
        ["forward", "respond"]
    );
    assert_eq!(
        edges("mod tests { use super::super::super::forward; }"),
        ["forward"]
    );
    assert_eq!(
        edges("fn f(x: crate::data::respond::Answer) {}"),
        ["respond"]
    );
    assert!(edges("pub(in crate::data::forward) fn f() { \"crate::data::forward\"; }").is_empty());
    assert!(
        edges("use super::host; use super::super::Why; mod tests { use super::*; }").is_empty()
    );
}

#[test]
fn what_must_be_pure_is_pure() {
    let is_pure = |source: &Source| source.is_in(PURE) && !source.is_in(PURE_BUT);
    assert_none(&each(|source| {
        if is_pure(source) {
            impure(source)
        } else {
            Vec::new()
        }
    }));
    let breaks = |text: &str| impure(&Source::new("x.rs", text)).len();
    assert_eq!(breaks("use runtime::Buf;"), 1);
    assert_eq!(breaks("fn f() { let now = Instant::now(); }"), 1);
    assert_eq!(breaks("use std::net::TcpStream;"), 1);
    assert_eq!(breaks("async fn f() {}"), 1);
    assert_eq!(breaks("use std::fs; use monoio::time;"), 2);
    assert_eq!(
        breaks("/// Not `monoio`.\nuse std::time::Instant; use std::net::IpAddr;"),
        0
    );
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    assert_none(&each(|source| unsafe_outside(source, UNSAFE_FILES)));
    for (path, reason) in UNSAFE_FILES {
        let listed: Vec<&Source> = FILES.iter().filter(|source| source.path == *path).collect();
        let holds = listed
            .iter()
            .any(|source| !unsafe_outside(source, &[]).is_empty());
        assert!(
            holds,
            "{path} ({reason}) holds none, and need not be listed"
        );
    }
    let found = unsafe_outside(
        &Source::new("x.rs", "#![forbid(unsafe_code)]\nunsafe { f() }"),
        UNSAFE_FILES,
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(unsafe_outside(&Source::new("x.rs", "// unsafe\nlet x = \"unsafe\";"), &[]).is_empty());
}

#[test]
fn files_and_functions_are_short_enough_to_read() {
    assert_none(&each(too_long));
    let function = |lines: usize| {
        format!(
            "//! x\nfn f(x: [u8; 2]) {{\n{}}}\n",
            "    g();\n".repeat(lines)
        )
    };
    let breaks = |text: &str| too_long(&Source::new("x.rs", text)).len();
    assert_eq!(breaks(&function(98)), 0);
    assert_eq!(breaks(&function(99)), 1);
    assert_eq!(breaks(&"// one line\n".repeat(700)), 0);
    assert_eq!(breaks(&"// one line\n".repeat(701)), 1);
    assert_eq!(
        breaks("trait T { fn f(); fn g(x: fn(u8)) -> u8 { '{'; 1 } }"),
        0
    );
}

#[test]
fn files_open_with_what_they_are_for() {
    assert_none(&each(unintroduced));
    assert_eq!(
        unintroduced(&Source::new("x.rs", "use std::io;\n//! late\n")).len(),
        1
    );
}

#[test]
fn notes_of_work_to_do_can_be_looked_up() {
    assert_none(&each(unnumbered_notes));
    let breaks = |text: &str| unnumbered_notes(&Source::new("x.rs", text)).len();
    assert_eq!(breaks("// TODO: later"), 1);
    assert_eq!(breaks("/* FIXME */ fn f() {}"), 1);
    assert_eq!(breaks("// TODO(#12): later\nlet todo = \"TODO\";"), 0);
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    assert_none(&each(places));
    let breaks = |parts: [&str; 2]| places(&Source::new("x.md", &parts.concat())).len();
    assert_eq!(breaks(["see /ho", "me/me/x"]), 1);
    assert_eq!(breaks(["PATH=/ro", "ot/bin"]), 1);
    assert_eq!(breaks(["from crates", ".io"]), 1);
    assert_eq!(breaks(["a/wo", "rk/b and ProtectHome"]), 0);
}

#[test]
fn every_metric_that_is_named_is_declared() {
    let declared: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let names_metrics = |source: &Source| {
        source.is_in(&["gateway/", "docs/", "README.md"]) && source.path != "gateway/tests/tidy.rs"
    };
    assert_none(&each(|source| {
        if names_metrics(source) {
            undeclared_metrics(source, &declared)
        } else {
            Vec::new()
        }
    }));
    let breaks = |path: &str, text: &str| undeclared_metrics(&Source::new(path, text), &declared);
    assert_eq!(
        breaks("x.rs", "let x = \"ringgate_guesses_total\";").len(),
        1
    );
    assert_eq!(breaks("x.md", "| `ringgate_guesses_total` |").len(), 1);
    assert!(breaks("x.rs", "\"http_server_request_duration_seconds_bucket{\"").is_empty());
}

#[test]
fn metrics_are_declared_in_one_file() {
    let declared: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let outside = |source: &Source| {
        source.is_in(&["gateway/src/"]) && source.path != "gateway/src/telemetry/names.rs"
    };
    // A program that must say a metric's name takes it from there, so no other file of it has one in a string.
    assert_none(&each(|source| {
        if outside(source) {
            undeclared_metrics(source, &[])
        } else {
            Vec::new()
        }
    }));
    assert!(declared.len() > 20);
}

/// Fields of the configuration that nothing reads yet. Whoever makes one work deletes its line.
const NOT_IN_FORCE: &[&str] = &[];

/// Names of the public fields that a file declares.
fn fields(source: &Source) -> BTreeSet<&str> {
    let lines = source.text.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("pub ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

/// Whether `source` reads a field of this name, or takes it in a pattern.
fn reads(source: &Source, field: &str) -> bool {
    source.tokens.iter().any(|token| token.is_word(field))
}

#[test]
fn what_can_be_configured_is_in_force() {
    let resolved = FILES
        .iter()
        .find(|source| source.path == "gateway/src/config/resolved.rs");
    let declared = fields(resolved.unwrap());
    assert!(declared.len() > 40, "{declared:?}");
    let readers = [
        "gateway/src/data/",
        "gateway/src/control/",
        "gateway/src/main.rs",
    ];
    let is_read = |field: &str| {
        let mut readers = FILES.iter().filter(|source| source.is_in(&readers));
        readers.any(|source| reads(source, field))
    };
    let idle: Vec<&str> = declared
        .into_iter()
        .filter(|field| !is_read(field))
        .collect();
    assert_eq!(idle, NOT_IN_FORCE);
    assert!(reads(&Source::new("x.rs", "f(config.steer)"), "steer"));
    assert!(!reads(&Source::new("x.rs", "// steer\n\"steer\""), "steer"));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let exists = |path: &str| root.join(path).exists();
    assert_none(&each(|source| dead_links(source, exists)));
    let breaks = |text: &str| dead_links(&Source::new("docs/x.md", text), exists).len();
    assert_eq!(breaks("[a](README.md) [b](../nothing.md)"), 2);
    assert_eq!(
        breaks("[a](../README.md#quick-start) [b](#here) [c](https://example.com/x)"),
        0
    );
}
