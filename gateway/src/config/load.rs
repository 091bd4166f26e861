//! From a file or an embedded text to a [`Config`].

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use toml::de::DeTable;

use super::address::overlap;
use super::credentials::Named;
use super::error::{ConfigErrors, ConfigWarnings, Position};
use super::filters::FilterMode;
use super::key::{Key, Keys, Nested};
use super::kind::Integer;
use super::resolved::{
    AdminConfig, AuthenticatorConfig, ClientIpConfig, Config, KeyPart, LimitConfig, ListenerConfig,
    ProxyProtocol, UpstreamConfig,
};
use super::section::{Located, Reader, Section};
use super::{
    api_keys, bans, basic_auth, consumers, cors, error_bodies, filters, forward_auth, jwt, limits,
    listeners, network_lists, routes, runtime, security_headers, telemetry, twice, upstreams,
};

/// The format that this version reads.
const VERSION: u64 = 1;

/// Largest file taken, in bytes: a bound for a path that names something else, such as a device.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The text behind [`ConfigSource::builtin`].
const DEFAULT_TEXT: &str = include_str!("default.toml");

pub(super) static KEYS: Keys = Keys {
    header: "top level",
    text: "Every section but `listeners` may be left out.",
    rows: &[
        &VERSION_KEY,
        &RUNTIME,
        &ADMIN,
        &LOG,
        &CLIENT_IP,
        &LISTENERS,
        &UPSTREAMS,
        &LIMITS,
        &NETWORK_LISTS,
        &CORS,
        &FILTERS,
        &SECURITY_HEADERS,
        &BANS,
        &ERROR_BODIES,
        &CONSUMERS,
        &API_KEYS,
        &JWT,
        &BASIC_AUTH,
        &FORWARD_AUTH,
        &ROUTES,
    ],
    unsupported: &["include", "auth", "tracing", "store", "tls", "acme"],
};

static VERSION_KEY: Key<Integer<u64>> = Key {
    name: "version",
    kind: Integer::new(0, 4_294_967_295),
    default: VERSION,
    text: "Version of the file's format. A file of another version is refused as a whole.",
};

static RUNTIME: Nested = section("runtime", "Workers, see `[runtime]`.");
static ADMIN: Nested = section("admin", "Admin endpoints, see `[admin]`.");
static LOG: Nested = section("log", "Logs, see `[log]`.");
static CLIENT_IP: Nested = section("client_ip", "Clients, see `[client_ip]`.");

static LISTENERS: Nested = Nested {
    name: "listeners",
    expects: "an array of tables: [[listeners]]",
    absent: "required",
    text: "Listeners, see `[[listeners]]`.",
};

static UPSTREAMS: Nested = Nested {
    name: "upstreams",
    expects: "tables by name: [upstreams.NAME]",
    absent: "none",
    text: "Servers, see `[upstreams.NAME]`.",
};

static LIMITS: Nested = Nested {
    name: "limits",
    expects: "tables by name: [limits.NAME]",
    absent: "none",
    text: "Limits, see `[limits.NAME]`.",
};

static NETWORK_LISTS: Nested = Nested {
    name: "network_lists",
    expects: "tables by name: [network_lists.NAME]",
    absent: "none",
    text: "Networks of clients, see `[network_lists.NAME]`.",
};

static CORS: Nested = Nested {
    name: "cors",
    expects: "tables by name: [cors.NAME]",
    absent: "none",
    text: "Policies for pages of other origins, see `[cors.NAME]`.",
};

static FILTERS: Nested = Nested {
    name: "filters",
    expects: "tables by name: [filters.NAME]",
    absent: "none",
    text: "What requests must be like, see `[filters.NAME]`.",
};

static SECURITY_HEADERS: Nested = Nested {
    name: "security_headers",
    expects: "tables by name: [security_headers.NAME]",
    absent: "none",
    text: "Response fields for browsers, see `[security_headers.NAME]`.",
};

static BANS: Nested = Nested {
    name: "bans",
    expects: "tables by name: [bans.NAME]",
    absent: "none",
    text: "Penalties for clients, see `[bans.NAME]`.",
};

static ERROR_BODIES: Nested = Nested {
    name: "error_bodies",
    expects: "tables by name: [error_bodies.NAME]",
    absent: "none: problem documents",
    text: "What refusals say, see `[error_bodies.NAME]`.",
};

static CONSUMERS: Nested = Nested {
    name: "consumers",
    expects: "tables by name: [consumers.NAME]",
    absent: "none",
    text: "Callers, see `[consumers.NAME]`.",
};

static API_KEYS: Nested = Nested {
    name: "api_keys",
    expects: "tables by name: [api_keys.NAME]",
    absent: "none",
    text: "API keys, see `[api_keys.NAME]`.",
};

static JWT: Nested = Nested {
    name: "jwt",
    expects: "tables by name: [jwt.NAME]",
    absent: "none",
    text: "Tokens, see `[jwt.NAME]`.",
};

static BASIC_AUTH: Nested = Nested {
    name: "basic_auth",
    expects: "tables by name: [basic_auth.NAME]",
    absent: "none",
    text: "Names and passwords, see `[basic_auth.NAME]`.",
};

static FORWARD_AUTH: Nested = Nested {
    name: "forward_auth",
    expects: "tables by name: [forward_auth.NAME]",
    absent: "none",
    text: "Servers that judge callers, see `[forward_auth.NAME]`.",
};

static ROUTES: Nested = Nested {
    name: "routes",
    expects: "an array of tables: [[routes]]",
    absent: "none: every request gets 404",
    text: "Routes, see `[[routes]]`.",
};

const fn section(name: &'static str, text: &'static str) -> Nested {
    Nested {
        name,
        expects: "a table",
        absent: "its defaults",
        text,
    }
}

/// Sections that do nothing unless another names them: what they hold, and what to say of one that none does.
static REFERRED: [(&Nested, &str, &str); 12] = [
    (
        &UPSTREAMS,
        "upstream",
        "no route and no authenticator names it",
    ),
    (&LIMITS, "limit", "no route names it"),
    (&NETWORK_LISTS, "network_list", "no route names it"),
    (&CORS, "cors policy", "no route names it"),
    (&FILTERS, "filter", "no route names it"),
    (
        &SECURITY_HEADERS,
        "set of security headers",
        "no route names it",
    ),
    (&BANS, "ban", "no listener names it"),
    (
        &ERROR_BODIES,
        "set of error bodies",
        "no listener and no route names it",
    ),
    (&API_KEYS, "authenticator", "no route names it"),
    (&JWT, "authenticator", "no route names it"),
    (&BASIC_AUTH, "authenticator", "no route names it"),
    (&FORWARD_AUTH, "authenticator", "no route names it"),
];

/// Where a configuration comes from.
#[derive(Clone, Copy, Debug)]
pub enum ConfigSource<'a> {
    /// A file.
    File(&'a Path),
    /// A text, with the name that messages call it by.
    Text {
        /// What messages write in place of a file's path.
        name: &'a str,
        /// TOML.
        text: &'a str,
    },
}

impl ConfigSource<'static> {
    /// What `ringgate` serves without a file: a demo upstream, two routes and a limit, on loopback.
    pub const fn builtin() -> Self {
        ConfigSource::Text {
            name: "built-in configuration",
            text: DEFAULT_TEXT,
        }
    }
}

/// Reads a configuration. `env` answers for the variables of `${VAR}`.
///
/// Reads the file and those that it names (keys, lists), and waits for the disk; does not resolve names.
///
/// # Errors
///
/// Everything that is wrong, at once and in the order of the text; a file that cannot be read is one problem without
/// a position. Mistakes in the TOML itself are reported alone, since the rest cannot be trusted then.
pub fn load(
    source: ConfigSource<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    match source {
        ConfigSource::Text { name, text } => parse(name, text, env),
        ConfigSource::File(path) => {
            let name = path.to_string_lossy();
            let bytes = read_file(path).map_err(|error| {
                ConfigErrors::whole_file(&name, format!("cannot be read: {error}"))
            })?;
            let text = utf8(&name, &bytes)?;
            parse(&name, text, env)
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(path, FILE_BYTES_MAX)
}

/// Reads a file of at most `bytes_max` bytes; a bound also for a path that names something else, such as a device.
#[expect(
    clippy::disallowed_types,
    reason = "the control plane and who starts it read files, no worker does"
)]
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        let most = super::units::show_size(bytes_max);
        return Err(io::Error::other(format!("it is larger than {most}")));
    }
    Ok(bytes)
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, ConfigErrors> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
        let position = Position::of(&good, good.len());
        let mut errors = ConfigErrors::whole_file(name, "not UTF-8 text".into());
        for problem in &mut errors.problems {
            problem.position = Some(position);
        }
        errors
    })
}

fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let (document, mistakes) = DeTable::parse_recoverable(text);
    let reader = Reader::new(text, env);
    let mut readable = true;
    let mut line_before = 0;
    let mut names = None;
    for mistake in &mistakes {
        let span = mistake.span().unwrap_or_default();
        if mistake.message() == DUPLICATE_KEY {
            let names = names.get_or_insert_with(|| twice::Names::of(text));
            note_twice(&reader, name, text, span, names);
            continue;
        }
        readable = false;
        // One mistake often looks like several to the parser; the first of a line says what matters.
        let line = Position::of(text, span.start).line;
        if line != line_before {
            reader.problem(span.start, "", format!("not TOML: {}", mistake.message()));
        }
        line_before = line;
    }
    let config = if readable {
        decode(&reader, document.get_ref())
    } else {
        None
    };
    match config {
        Some(config) if reader.is_clean() => {
            let warnings = reader.into_warnings(name);
            Ok(Config { warnings, ..config })
        }
        _ => Err(reader.into_errors(name)),
    }
}

/// Notes a name that is there twice, with where it stood first.
fn note_twice(
    reader: &Reader<'_>,
    file: &str,
    text: &str,
    again: std::ops::Range<usize>,
    names: &twice::Names<'_>,
) {
    let written = text.get(again.clone()).unwrap_or_default();
    let (key, first) = names.find(again.start).unwrap_or((written, None));
    let first = first.map_or_else(String::new, |at| {
        let Position { line, column } = Position::of(text, at);
        format!("; it was first at {file}:{line}:{column}")
    });
    let message = format!("this name is there twice{first}");
    reader.problem(again.start, key, message);
}

/// Notes a listener that takes connections from trusted proxies alone, where there is none.
fn read_client_ip(top: &Section<'_>, listeners: &[Located<ListenerConfig>]) -> ClientIpConfig {
    let config = telemetry::read_client_ip(&top.table(&CLIENT_IP, &telemetry::CLIENT_IP_KEYS));
    let mut listeners = listeners.iter();
    let asks = listeners.find(|listener| listener.value.proxy_protocol != ProxyProtocol::Off);
    if let (Some(listener), true) = (asks, config.trusted_proxies.is_empty()) {
        let message = "needs `client_ip.trusted_proxies`: from others no connection is taken";
        let reader = top.reader();
        reader.problem(listener.at, "listeners.proxy_protocol", message);
    }
    config
}

/// What the parser says where a key or table is there twice; it goes on as if there were one.
const DUPLICATE_KEY: &str = "duplicate key";

/// `None`: a problem was noted. `Some` with problems noted is not to be used.
fn decode<'a>(reader: &'a Reader<'a>, document: &'a DeTable<'a>) -> Option<Config> {
    let top = Section::new(reader, "", document, 0);
    let version = top.get(&VERSION_KEY);
    if version != VERSION {
        let message = format!("this version of ringgate reads format {VERSION}; found {version}");
        top.problem(VERSION_KEY.name, message);
        return None;
    }
    top.check_keys(&KEYS);
    let bans = bans::read(top.named_tables(&BANS, &bans::KEYS));
    let error_bodies = error_bodies::read(top.named_tables(&ERROR_BODIES, &error_bodies::KEYS));
    let listener_names = listeners::Names {
        bans: indices(&bans, |each| &each.name),
        error_bodies: indices(&error_bodies, |each| &each.name),
    };
    let listeners = listeners::read(&top.tables(&LISTENERS, &listeners::KEYS), &listener_names);
    note_no_listener(&top);
    let admin = read_admin(&top, &listeners);
    let upstreams = upstreams::read(top.named_tables(&UPSTREAMS, &upstreams::KEYS));
    let route_names = top.peek(&ROUTES, "name");
    let limits = limits::read(top.named_tables(&LIMITS, &limits::KEYS), &route_names);
    let network_lists = network_lists::read(top.named_tables(&NETWORK_LISTS, &network_lists::KEYS));
    let cors = cors::read(top.named_tables(&CORS, &cors::KEYS));
    let filters = filters::read(top.named_tables(&FILTERS, &filters::KEYS));
    let security_headers =
        security_headers::read(top.named_tables(&SECURITY_HEADERS, &security_headers::KEYS));
    let consumers = consumers::read(top.named_tables(&CONSUMERS, &consumers::KEYS));
    let authenticators = read_authenticators(&top, &limits, &upstreams);
    let names = routes::Names {
        upstreams: indices(&upstreams, |each| &each.name),
        limits: indices(&limits, |each| &each.name),
        identity_limits: limits
            .iter()
            .map(|each| each.key.iter().any(KeyPart::is_of_caller))
            .collect(),
        claim_limits: limits
            .iter()
            .map(|each| {
                let is_claim = |part: &KeyPart| matches!(part, KeyPart::Claim(_));
                each.key.iter().any(is_claim)
            })
            .collect(),
        network_lists: indices(&network_lists, |each| &each.name),
        authenticators: indices(&authenticators, |each| &each.name),
        authenticator_list: &authenticators,
        error_bodies: indices(&error_bodies, |each| &each.name),
        filters: filters::Names {
            cors: indices(&cors, |each| &each.name),
            enforced_cors: cors
                .iter()
                .map(|each| each.mode == FilterMode::Enforce)
                .collect(),
            filters: indices(&filters, |each| &each.name),
            security_headers: indices(&security_headers, |each| &each.name),
        },
    };
    let routes = routes::read(&top.tables(&ROUTES, &routes::KEYS), &names);
    warn_unused(&top, &authenticators);
    Some(Config {
        warnings: ConfigWarnings::default(),
        runtime: runtime::read(&top.table(&RUNTIME, &runtime::KEYS)),
        admin,
        access_log: telemetry::read_access_log(&top.table(&LOG, &telemetry::LOG_KEYS)),
        client_ip: read_client_ip(&top, &listeners),
        listeners: listeners.into_iter().map(|each| each.value).collect(),
        upstreams,
        limits,
        network_lists,
        cors,
        filters,
        security_headers,
        bans,
        error_bodies,
        consumers,
        authenticators,
        routes,
    })
}

fn note_no_listener(top: &Section<'_>) {
    if !top.has(LISTENERS.name) || top.is_empty_array(LISTENERS.name) {
        let message = "missing; a gateway needs at least one [[listeners]]";
        top.problem(LISTENERS.name, message);
    }
}

/// Doubts sections that nothing refers to.
fn warn_unused(top: &Section<'_>, authenticators: &[AuthenticatorConfig]) {
    for (key, what, problem) in REFERRED {
        top.warn_unused(key, what, problem);
    }
    if authenticators.is_empty() {
        let problem = "no authenticator is there that could know it";
        top.warn_unused(&CONSUMERS, "consumer", problem);
    }
}

/// Notes a listener at the address of the admin endpoints.
fn read_admin(top: &Section<'_>, listeners: &[Located<ListenerConfig>]) -> Option<AdminConfig> {
    let config = telemetry::read_admin(&top.table(&ADMIN, &telemetry::ADMIN_KEYS));
    if let Some(AdminConfig { listen }) = &config
        && let Some(other) = listeners
            .iter()
            .find(|listener| overlap(listener.value.address, *listen))
    {
        let message = match other.value.address == *listen {
            true => {
                "a listener has the address of `admin.listen`; the two need one each".to_owned()
            }
            false => {
                let held = listeners::held(other.value.address, *listen);
                format!("it and `{listen}` of `admin.listen` cannot both be had: {held}")
            }
        };
        top.reader().problem(other.at, "listeners.address", message);
    }
    config
}

/// Authenticators of all kinds, in the order in which they are counted.
fn read_authenticators(
    top: &Section<'_>,
    limits: &[LimitConfig],
    upstreams: &[UpstreamConfig],
) -> Vec<AuthenticatorConfig> {
    let mut all = Named::default();
    api_keys::read(top.named_tables(&API_KEYS, &api_keys::KEYS), &mut all);
    jwt::read(
        top.named_tables(&JWT, &jwt::KEYS),
        &claims_of(limits),
        &mut all,
    );
    basic_auth::read(top.named_tables(&BASIC_AUTH, &basic_auth::KEYS), &mut all);
    let sections = top.named_tables(&FORWARD_AUTH, &forward_auth::KEYS);
    forward_auth::read(sections, upstreams, &mut all);
    all.list
}

/// Indices by name.
fn indices<T>(all: &[T], name: impl Fn(&T) -> &str) -> BTreeMap<&str, usize> {
    all.iter().map(name).zip(0..).collect()
}

/// The claims that limits count by, each once.
fn claims_of(limits: &[LimitConfig]) -> Vec<String> {
    let mut claims = Vec::new();
    for part in limits.iter().flat_map(|limit| &limit.key) {
        if let KeyPart::Claim(name) = part
            && !claims.contains(name)
        {
            claims.push(name.clone());
        }
    }
    claims
}

#[cfg(test)]
mod tests;
