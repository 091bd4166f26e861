//! `[cors.NAME]`: which pages of other origins may use a route (the CORS protocol of the Fetch standard).

use std::time::Duration;

use super::address::{parse_host, parse_name};
use super::conditions::{STANDARD_METHODS, parse_method};
use super::filters::{FilterMode, mode_row, read_list};
use super::key::{Key, Keys, List};
use super::kind::{Flag, Text, Time, Word};
use super::limit_key::token;
use super::resolved::HostPattern;
use super::section::{Located, Section};

/// Response fields that only a policy in force writes.
pub const CORS_FIELDS: [&str; 7] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// Most origins, methods or names of fields of a policy, each.
const LIST_MAX: usize = 256;

pub(super) static KEYS: Keys = Keys {
    header: "[cors.NAME]",
    text: "Which pages of other origins may use a route; `routes.cors` names it. Preflights are answered by the gateway, and what the upstream itself says in `Access-Control-` fields is left out.",
    rows: &[
        &ORIGINS,
        &METHODS,
        &HEADERS,
        &EXPOSED_HEADERS,
        &CREDENTIALS,
        &MAX_AGE,
        &MODE,
    ],
    unsupported: &["origins_regex", "private_network", "timing"],
};

static ORIGINS: List<Text<OriginPattern>> = List {
    name: "origins",
    item: Text {
        expects: "an origin such as \"https://app.example.com\" or \"https://*.example.com\", or \"*\"",
        parse: parse_origin,
        show: OriginPattern::to_string,
    },
    text: "Required. Origins whose pages may, at most 256, with scheme and, where it is not the scheme's own, port; `*.` stands for one label or more. `*` alone: every page may.",
};

static METHODS: List<Text<String>> = List {
    name: "methods",
    item: Text {
        expects: "a method such as \"PUT\", or \"*\"",
        parse: parse_method_or_any,
        show: String::clone,
    },
    text: "Methods that pages may use. Empty: GET, HEAD and POST.",
};

static HEADERS: List<Text<String>> = List {
    name: "headers",
    item: FIELD,
    text: "Request fields that pages may set beyond those that any page may, such as `content-type` and `authorization`. `*` holds all but `authorization`.",
};

static EXPOSED_HEADERS: List<Text<String>> = List {
    name: "exposed_headers",
    item: FIELD,
    text: "Response fields that pages may read beyond those that any page may.",
};

const FIELD: Text<String> = Text {
    expects: "the name of a header field, or \"*\"",
    parse: |text| token(text, text).map(str::to_ascii_lowercase),
    show: String::clone,
};

static CREDENTIALS: Key<Flag> = Key {
    name: "credentials",
    kind: Flag,
    default: false,
    text: "Let pages send cookies and other credentials, and read the answers. Not together with any `*`.",
};

static MAX_AGE: Key<Time> = Key {
    name: "max_age",
    kind: Time {
        min: Duration::ZERO,
        max: Duration::from_secs(86_400),
    },
    default: Duration::from_secs(600),
    text: "How long a browser may remember the answer to a preflight, in whole seconds; browsers have bounds of their own.",
};

static MODE: Key<Word<FilterMode>> = mode_row(
    "`shadow` counts and changes nothing: preflights go to the upstream, and its own fields stay. `off` does not even look.",
);

/// Origins that are let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginPattern {
    /// Every one.
    Any,
    /// This one, as browsers write it.
    Exact(String),
    /// `https://*.example.com:8443`.
    Below {
        /// With its `://`.
        scheme: String,
        /// From the dot on, with the port where there is one.
        rest: String,
    },
}

impl std::fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Below { scheme, rest } => write!(f, "{scheme}*{rest}"),
        }
    }
}

/// One of `[cors.NAME]`. With `credentials` nothing in it is `*`.
#[derive(Clone, Debug)]
pub struct CorsConfig {
    /// Unique name.
    pub name: String,
    /// Whose pages may; `Any` stands alone.
    pub origins: Vec<OriginPattern>,
    /// What they may do; `*` stands alone. Never empty.
    pub methods: Vec<String>,
    /// Request fields that they may set, in lower case.
    pub headers: Vec<String>,
    /// Response fields that they may read, in lower case.
    pub exposed_headers: Vec<String>,
    /// Whether they may as somebody.
    pub credentials: bool,
    /// How long a preflight's answer holds.
    pub max_age: Duration,
    /// What a decision does.
    pub mode: FilterMode,
}

/// Reads every policy, in the order of the configuration.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<CorsConfig> {
    let one = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = parse_name(&name.value) {
            section.reader().problem(name.at, "cors", message);
        }
        let origins = read_list(&section, &ORIGINS, LIST_MAX);
        if origins.is_empty()
            && (!section.has(ORIGINS.name) || section.is_empty_array(ORIGINS.name))
        {
            section.problem(ORIGINS.name, "missing; without an origin nothing is let in");
        }
        if origins.len() > 1 && origins.contains(&OriginPattern::Any) {
            section.problem(ORIGINS.name, "`*` holds every other origin; write it alone");
        }
        section.warn_near(METHODS.name, &STANDARD_METHODS);
        let mut methods = read_list(&section, &METHODS, LIST_MAX);
        if methods.len() > 1 && methods.iter().any(|method| method == "*") {
            section.problem(METHODS.name, "`*` holds every other method; write it alone");
        }
        if methods.is_empty() {
            methods = ["GET", "HEAD", "POST"].map(String::from).into();
        }
        let config = CorsConfig {
            name: name.value,
            origins,
            methods,
            headers: read_list(&section, &HEADERS, LIST_MAX),
            exposed_headers: read_list(&section, &EXPOSED_HEADERS, LIST_MAX),
            credentials: section.get(&CREDENTIALS),
            max_age: section.get(&MAX_AGE),
            mode: section.get(&MODE),
        };
        if config.credentials {
            refuse_any(&section, &config);
        }
        config
    };
    sections.into_iter().map(one).collect()
}

/// A wildcard with credentials: of origins it would let every page act as who is logged in, and elsewhere browsers take it for a
/// name (Fetch standard, section 3.3.5).
fn refuse_any(section: &Section<'_>, config: &CorsConfig) {
    if config.origins.contains(&OriginPattern::Any) {
        section.problem(
            ORIGINS.name,
            "`*` with `credentials` would let every page act as whoever is logged in; name the origins",
        );
    }
    for (key, list) in [
        (METHODS.name, &config.methods),
        (HEADERS.name, &config.headers),
        (EXPOSED_HEADERS.name, &config.exposed_headers),
    ] {
        if list.iter().any(|each| each == "*") {
            section.problem(
                key,
                "`*` means nothing to browsers with `credentials`; name them",
            );
        }
    }
}

fn parse_method_or_any(text: &str) -> Result<String, String> {
    if text == "*" {
        Ok(text.to_owned())
    } else {
        parse_method(text)
    }
}

/// As browsers write it (HTML standard, "ASCII serialisation of an origin"), since it is compared by its octets.
fn parse_origin(text: &str) -> Result<OriginPattern, String> {
    if text == "*" {
        return Ok(OriginPattern::Any);
    }
    if text == "null" {
        return Err(
            "`null` is what every sandboxed page and file calls itself; whoever lets it in lets in all"
                .into(),
        );
    }
    let malformed = || {
        format!(
            "`{text}` is not an origin; write scheme, host and port as in \"https://app.example.com\""
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Err(malformed());
    }
    if let Some(bare) = rest.strip_suffix('/')
        && !bare.contains('/')
    {
        return Err(format!(
            "`{text}`: an origin has no path; write \"{scheme}://{bare}\""
        ));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let number = port.map(|port| port.parse::<u16>().map_err(|_| malformed()));
    let number = number.transpose()?;
    if matches!((scheme, number), ("https", Some(443)) | ("http", Some(80))) {
        return Err(format!(
            "`{text}`: browsers leave the scheme's own port out; write \"{scheme}://{host}\""
        ));
    }
    let lower = text.to_ascii_lowercase();
    if lower != text || port.is_some_and(|port| port.starts_with(['0', '+'])) {
        return Err(format!(
            "`{text}`: browsers write origins in lower case and plain numbers; write \"{lower}\""
        ));
    }
    match parse_host(host).map_err(|_| malformed())? {
        HostPattern::Exact(_) => Ok(OriginPattern::Exact(text.to_owned())),
        HostPattern::Suffix(name) => Ok(OriginPattern::Below {
            scheme: format!("{scheme}://"),
            rest: port.map_or_else(|| name.clone(), |port| format!("{name}:{port}")),
        }),
    }
}
