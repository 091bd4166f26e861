//! `[filters.NAME]`: what a request must be like, whoever sends it; and what all filters have in common.

use std::collections::BTreeMap;

use super::address::parse_name;
use super::bans::BanConfig;
use super::conditions::{STANDARD_METHODS, parse_method};
use super::cors::CorsConfig;
use super::key::{Key, Keys, List, Nested, Optional};
use super::kind::{Text, Word};
use super::limit_key::token;
use super::matching::Pattern;
use super::resolved::Config;
use super::routes::resolve;
use super::section::{Located, Section};

/// Most filters of a route.
pub const ROUTE_FILTERS_MAX: usize = 4;
/// Most methods, media types or fields of a filter, each.
const LIST_MAX: usize = 64;

pub(super) static KEYS: Keys = Keys {
    header: "[filters.NAME]",
    text: "What requests must be like; `routes.filters` names it. Asked in the order of the keys here, and before `auth`.",
    rows: &[
        &METHODS,
        &REQUIRED_HEADERS,
        &FORBIDDEN_HEADERS,
        &CONTENT_TYPES,
        &MODE,
    ],
    unsupported: &["body", "query", "countries", "status"],
};

static METHODS: List<Text<String>> = List {
    name: "methods",
    item: Text {
        expects: "a method such as \"GET\"",
        parse: parse_method,
        show: String::clone,
    },
    text: "Methods that are let in, at most 64; `GET` holds HEAD too. Others get 405 with `Allow`. Empty: all.",
};

static REQUIRED_HEADERS: Nested = Nested {
    name: "required_headers",
    expects: "a table such as { x-version = \"[0-9]+\" }",
    absent: "none",
    text: "Fields that a request must have, each with a regular expression that must match the whole value, on every line of that name; at most 64. Else 400. Each costs a look at every field of the request.",
};

static FORBIDDEN_HEADERS: Nested = Nested {
    name: "forbidden_headers",
    expects: "a table such as { user-agent = \".*sqlmap.*\" }",
    absent: "none",
    text: "Fields that a request must not have, each with a regular expression that matches the whole of a value that gets 403, such as `.*`; at most 64. `_` in a name is read as `-`.",
};

static CONTENT_TYPES: List<Text<MediaType>> = List {
    name: "content_types",
    item: Text {
        expects: "a media type such as \"application/json\" or \"image/*\"",
        parse: parse_media_type,
        show: MediaType::to_string,
    },
    text: "Media types that a request with a body may say that it is, at most 64; parameters do not count. Others, and none, get 415 with `Accept`. Empty: all.",
};

static MODE: Key<Word<FilterMode>> = mode_row(
    "`shadow` counts what it would refuse, and refuses nothing; use it to introduce a filter. `off` does not even look.",
);

/// A media type without parameters, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType {
    /// `application`.
    pub kind: String,
    /// `json`; `*`: any.
    pub subtype: String,
}

impl std::fmt::Display for MediaType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.subtype)
    }
}

/// One of `[filters.NAME]`.
#[derive(Clone, Debug)]
pub struct FilterConfig {
    /// Unique name.
    pub name: String,
    /// Methods that are let in; empty: all.
    pub methods: Vec<String>,
    /// Names in lower case of fields that must be there, and what their values must be.
    pub required_headers: Vec<(String, Pattern)>,
    /// Names in lower case, with `-` for `_`, of fields that must not be there, and what values that means.
    pub forbidden_headers: Vec<(String, Pattern)>,
    /// What a body may be; empty: anything.
    pub content_types: Vec<MediaType>,
    /// What a refusal does.
    pub mode: FilterMode,
}

/// Reads every filter, in the order of the configuration.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<FilterConfig> {
    let one = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = parse_name(&name.value) {
            section.reader().problem(name.at, "filters", message);
        }
        section.warn_near(METHODS.name, &STANDARD_METHODS);
        let config = FilterConfig {
            name: name.value,
            methods: read_list(&section, &METHODS, LIST_MAX),
            required_headers: read_patterns(&section, &REQUIRED_HEADERS, false),
            forbidden_headers: read_patterns(&section, &FORBIDDEN_HEADERS, true),
            content_types: read_list(&section, &CONTENT_TYPES, LIST_MAX),
            mode: section.get(&MODE),
        };
        for list in [METHODS.name, CONTENT_TYPES.name] {
            if section.is_empty_array(list) {
                let message = "an empty array; to let all in leave the key out";
                section.problem(list, message);
            }
        }
        config
    };
    sections.into_iter().map(one).collect()
}

fn read_patterns(section: &Section<'_>, key: &Nested, folds: bool) -> Vec<(String, Pattern)> {
    let kind = Text {
        expects: "a regular expression",
        parse: |text| Pattern::new(text, false),
        show: |pattern: &Pattern| pattern.text().to_owned(),
    };
    let mut patterns: Vec<(String, Pattern)> = Vec::new();
    for (name, pattern) in section.entries(key, &kind) {
        let problem = |message| section.problem_at(name.at, key.name, message);
        let lower = match token(name.value, name.value) {
            Ok(lower) if folds => lower.to_ascii_lowercase().replace('_', "-"),
            Ok(lower) => lower.to_ascii_lowercase(),
            Err(message) => {
                problem(message);
                continue;
            }
        };
        if patterns.iter().any(|(other, _)| *other == lower) {
            problem(format!("{} is there twice", name.shown()));
            continue;
        }
        patterns.push((lower, pattern.value));
    }
    if patterns.len() > LIST_MAX {
        let message = format!("at most {LIST_MAX}; found {}", patterns.len());
        section.problem(key.name, message);
    }
    patterns
}

/// The values of a list, none twice.
pub(super) fn read_list<T>(section: &Section<'_>, key: &List<Text<T>>, max: usize) -> Vec<T>
where
    T: PartialEq + Clone + ToString,
{
    let list = section.list(key);
    if list.len() > max {
        section.problem(key.name, format!("at most {max}; found {}", list.len()));
        return Vec::new();
    }
    let mut chosen: Vec<T> = Vec::new();
    for each in list {
        if chosen.contains(&each.value) {
            let (at, shown) = (each.at, each.map(|value| value.to_string()).shown());
            section.problem_at(at, key.name, format!("{shown} is there twice"));
        } else {
            chosen.push(each.value);
        }
    }
    chosen
}

fn parse_media_type(text: &str) -> Result<MediaType, String> {
    let malformed = || {
        format!(
            "`{text}` is not a media type; write one such as \"application/json\" or \"image/*\""
        )
    };
    if text.contains(';') {
        return Err(format!(
            "`{text}`: parameters do not count; write it without them"
        ));
    }
    let (kind, subtype) = text.split_once('/').ok_or_else(malformed)?;
    let part = |part: &str| {
        token(text, part)
            .map(str::to_ascii_lowercase)
            .map_err(|_| malformed())
    };
    if kind == "*" {
        return Err(malformed());
    }
    Ok(MediaType {
        kind: part(kind)?,
        subtype: part(subtype)?,
    })
}

/// What the decision of a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterMode {
    /// What it says.
    Enforce,
    /// It is counted.
    Shadow,
    /// Nothing is decided.
    Off,
}

/// The row of `mode` in the section of a filter.
pub(super) const fn mode_row(text: &'static str) -> Key<Word<FilterMode>> {
    Key {
        name: "mode",
        kind: Word {
            words: &[
                ("enforce", FilterMode::Enforce),
                ("shadow", FilterMode::Shadow),
                ("off", FilterMode::Off),
            ],
        },
        default: FilterMode::Enforce,
        text,
    }
}

const NAME: Text<String> = Text {
    expects: "a name",
    parse: parse_name,
    show: String::clone,
};

pub(super) static CORS: Optional<Text<String>> = Optional {
    name: "cors",
    kind: NAME,
    absent: "browsers' questions go upstream",
    text: "The policy by which pages of other origins may use it, see `[cors.NAME]`.",
};

pub(super) static SECURITY_HEADERS: Optional<Text<String>> = Optional {
    name: "security_headers",
    kind: NAME,
    absent: "responses have those of the upstream",
    text: "Fields of its responses that tell browsers to be careful, see `[security_headers.NAME]`.",
};

pub(super) static FILTERS: List<Text<String>> = List {
    name: "filters",
    item: NAME,
    text: "Filters by name, at most 4, all of which must let a request in. Asked after `network_lists` and before `auth`.",
};

/// The names of filters that routes refer to, with their indices.
pub(super) struct Names<'a> {
    /// Policies for pages of other origins.
    pub cors: BTreeMap<&'a str, usize>,
    /// Whether each of those is enforced.
    pub enforced_cors: Vec<bool>,
    /// Response fields for browsers.
    pub security_headers: BTreeMap<&'a str, usize>,
    /// What requests must be like.
    pub filters: BTreeMap<&'a str, usize>,
}

/// The filters of a route.
#[derive(Clone, Debug, Default)]
pub struct RouteFilters {
    /// Index into `Config::cors`.
    pub cors: Option<usize>,
    /// Index into `Config::security_headers`.
    pub security_headers: Option<usize>,
    /// Indices into `Config::filters`, asked in this order; at most [`ROUTE_FILTERS_MAX`].
    pub filters: Vec<usize>,
}

/// Reads which filters a route has.
pub(super) fn read_route(section: &Section<'_>, names: &Names<'_>) -> RouteFilters {
    let cors = section.find(&CORS);
    let mut filters: Vec<usize> = Vec::new();
    for name in section.list(&FILTERS) {
        let Some(index) = resolve(section, FILTERS.name, "filter", &name, &names.filters) else {
            continue;
        };
        if filters.contains(&index) {
            let message = format!("{} is there twice", name.shown());
            section.problem_at(name.at, FILTERS.name, message);
        } else {
            filters.push(index);
        }
    }
    if filters.len() > ROUTE_FILTERS_MAX {
        let found = filters.len();
        let message = format!("a route has at most {ROUTE_FILTERS_MAX} filters; found {found}");
        section.problem(FILTERS.name, message);
    }
    RouteFilters {
        cors: cors.and_then(|name| resolve(section, CORS.name, "cors policy", &name, &names.cors)),
        security_headers: section.find(&SECURITY_HEADERS).and_then(|name| {
            let (key, known) = (SECURITY_HEADERS.name, &names.security_headers);
            resolve(section, key, "set of security headers", &name, known)
        }),
        filters,
    }
}

impl Config {
    /// Section and name of every filter, in the order in which they are counted.
    pub fn filter_names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let cors = self
            .cors
            .iter()
            .map(|CorsConfig { name, .. }| ("cors", &**name));
        let filters = self
            .filters
            .iter()
            .map(|FilterConfig { name, .. }| ("filters", &**name));
        let bans = self
            .bans
            .iter()
            .map(|BanConfig { name, .. }| ("bans", &**name));
        cors.chain(filters).chain(bans)
    }
}
