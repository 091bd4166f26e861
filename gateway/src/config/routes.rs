//! `[[routes]]`: which requests are forwarded, answered and limited.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::address::{
    is_capture_name, parse_host, parse_name, parse_path, parse_prefix, show_path,
};
use super::conditions;
use super::consumers::{GROUP_KIND, read_groups};
use super::key::{Key, Keys, List, Nested, Optional, Required};
use super::kind::{Flag, Or, Size, Text, Time};
use super::matching::{
    Conditions, EXTENSION_METHODS_MAX, PATH_CAPTURES_MAX, PATH_REGEXES_PER_HOST_MAX, PathPattern,
    PathTemplate, Pattern, ROUTES_PER_PATH_MAX, TemplateSegment,
};
use super::resolved::{
    AccessConfig, Action, HostPattern, ROUTE_AUTH_MAX, ROUTE_LIMITS_MAX, ROUTE_NETWORK_LISTS_MAX,
    RouteConfig,
};
use super::respond;
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[[routes]]",
    text: "Which requests go where. The most specific route wins: by host, then by path, then by conditions, see [above](#which-route-wins).",
    rows: &[
        &NAME,
        &HOST,
        &HOSTS,
        &PATH,
        &PATH_PREFIX,
        &PATH_REGEX,
        &IGNORE_CASE,
        &conditions::METHODS,
        &conditions::HEADERS,
        &conditions::HEADERS_REGEX,
        &conditions::QUERY,
        &conditions::CLIENT_NETWORKS,
        &UPSTREAM,
        &RESPOND,
        &NETWORK_LISTS,
        &AUTH,
        &AUTH_OPTIONAL,
        &GROUPS,
        &LIMITS,
        &MAX_BODY,
        &TIMEOUT,
        &UPGRADE,
        &TRAILERS,
    ],
    unsupported: &[
        "method",
        "per_try_timeout",
        "priority",
        "redirect",
        "request_headers",
        "response_headers",
        "retry",
        "rewrite",
        "split",
        "mirror",
        "cors",
        "compress",
    ],
};

static NAME: Required<Text<String>> = Required {
    name: "name",
    kind: Text {
        expects: "a name",
        parse: parse_name,
        show: String::clone,
    },
    text: "Unique name, for logs and metrics.",
};

const HOST_KIND: Text<HostPattern> = Text {
    expects: "a host such as \"api.example.com\" or \"*.example.com\"",
    parse: parse_host,
    show: show_host,
};

static HOST: Optional<Text<HostPattern>> = Optional {
    name: "host",
    kind: HOST_KIND,
    absent: "every host",
    text: "The host it serves, without port. `*.example.com` holds every name below `example.com`, not `example.com` itself.",
};

static HOSTS: List<Text<HostPattern>> = List {
    name: "hosts",
    item: HOST_KIND,
    text: "Several hosts, in place of `host`.",
};

static PATH: Optional<Text<PathPattern>> = Optional {
    name: "path",
    kind: Text {
        expects: "a path such as \"/v1/users\" or \"/v1/users/{id}\"",
        parse: parse_path,
        show: show_path,
    },
    absent: "see `path_prefix`",
    text: "This path alone. `{NAME}` stands for one whole segment that is not empty; at most 8 of them, and at most 64 segments in all.",
};

static PATH_PREFIX: Optional<Text<String>> = Optional {
    name: "path_prefix",
    kind: Text {
        expects: "a path such as \"/v1/users\"",
        parse: parse_prefix,
        show: String::clone,
    },
    absent: "without `path`: every path",
    text: "This path and all below it, by whole segments: `/v1` and `/v1/` both hold `/v1`, `/v1/` and `/v1/x`, not `/v10`.",
};

static PATH_REGEX: Optional<Text<String>> = Optional {
    name: "path_regex",
    kind: Text {
        expects: "a regular expression such as \"/files/[a-z]+[.]png\"",
        parse: |text| Ok(text.to_owned()),
        show: String::clone,
    },
    absent: "see `path_prefix`",
    text: "Paths that it matches from the first to the last character, in the form that requests are compared in. Linear time in the path, classes of ASCII, at most 1MiB compiled; named groups are captures, at most 8. A host has at most 64, tried one after the other for a request that no `path` serves.",
};

static IGNORE_CASE: Key<Flag> = Key {
    name: "ignore_case",
    kind: Flag,
    default: false,
    text: "Compare the path without ASCII case. Of two paths that fit alike, one that minds case wins.",
};

static UPSTREAM: Optional<Text<String>> = Optional {
    name: "upstream",
    kind: Text {
        expects: "the name of an upstream",
        parse: parse_name,
        show: String::clone,
    },
    absent: "this or `respond`",
    text: "Forward to the upstream of this name.",
};

static RESPOND: Nested = Nested {
    name: "respond",
    expects: "a table such as { status = 403, body = \"no\" }",
    absent: "this or `upstream`",
    text: "Answer without any upstream, see `routes.respond`.",
};

static NETWORK_LISTS: List<Text<String>> = List {
    name: "network_lists",
    item: Text {
        expects: "the name of a list of networks",
        parse: parse_name,
        show: String::clone,
    },
    text: "Lists of networks by name, at most 4, each of which must allow the client; else 403. Each costs a search. Asked before `auth`.",
};

static AUTH: List<Text<String>> = List {
    name: "auth",
    item: Text {
        expects: "the name of an authenticator",
        parse: parse_name,
        show: String::clone,
    },
    text: "Authenticators by name, at most 4, asked in this order: the first whose credential the request holds decides. None: everybody may.",
};

static AUTH_OPTIONAL: Key<Flag> = Key {
    name: "auth_optional",
    kind: Flag,
    default: false,
    text: "Let requests without any credential pass, as nobody's. A wrong credential is still refused.",
};

static GROUPS: List<Text<String>> = List {
    name: "groups",
    item: GROUP_KIND,
    text: "Let in only callers of one of these groups, at most 32; others get 403.",
};

static LIMITS: List<Text<String>> = List {
    name: "limits",
    item: Text {
        expects: "the name of a limit",
        parse: parse_name,
        show: String::clone,
    },
    text: "Limits by name, at most 8; each takes one lookup in its table. All let a request through or none counts it.",
};

static MAX_BODY: Key<Or<Size<u64>>> = Key {
    name: "max_body",
    kind: Or {
        word: "unlimited",
        kind: Size::new(0, 1 << 50),
    },
    default: None,
    text: "Longest request body; longer: 413. \"0B\" takes no body at all. Bodies are streamed, so a long one costs no memory.",
};

static TIMEOUT: Key<Or<Time>> = Key {
    name: "timeout",
    kind: Or {
        word: "unlimited",
        kind: Time {
            min: Duration::from_millis(1),
            max: Duration::from_secs(7 * 86_400),
        },
    },
    default: None,
    text: "The whole exchange must end in this time; else 504, or a broken connection where the response has begun.",
};

static UPGRADE: List<Text<String>> = List {
    name: "upgrade",
    item: Text {
        expects: "a protocol such as \"websocket\"",
        parse: parse_protocol,
        show: String::clone,
    },
    text: "Protocols to which a request may be upgraded; others are not forwarded.",
};

static TRAILERS: Key<Flag> = Key {
    name: "trailers",
    kind: Flag,
    default: false,
    text: "Forward trailer fields both ways, and `TE: trailers` to the upstream. Off: only those of a response, to a client that said `TE: trailers`. Trailers that frame, route or authenticate never pass.",
};

/// The names that routes refer to.
pub(super) struct Names<'a> {
    /// Upstreams with their indices.
    pub upstreams: BTreeMap<&'a str, usize>,
    /// Limits with their indices.
    pub limits: BTreeMap<&'a str, usize>,
    /// Whether each limit counts by who the caller is.
    pub identity_limits: Vec<bool>,
    /// Lists of networks with their indices.
    pub network_lists: BTreeMap<&'a str, usize>,
    /// Authenticators with their indices.
    pub authenticators: BTreeMap<&'a str, usize>,
}

/// Where a route answers: host, path (in lower case where case is ignored), and whether case is ignored.
type Place = (Option<HostPattern>, PathPattern, bool);

/// What earlier routes have taken.
#[derive(Default)]
struct Taken {
    /// Names of routes.
    names: HashSet<String>,
    /// Routes and their conditions by place.
    places: HashMap<Place, Vec<(Conditions, String)>>,
    /// Regular expressions for paths by host.
    regexes: HashMap<Option<HostPattern>, usize>,
    /// Methods that no standard has.
    methods: HashSet<String>,
}

/// Reads every route; notes names and places that come twice.
///
/// Missing and bad values are kept as placeholders; their problems were noted, and a reading with problems is never used.
pub(super) fn read(sections: &[Section<'_>], names: &Names<'_>) -> Vec<RouteConfig> {
    let mut taken = Taken::default();
    sections
        .iter()
        .map(|section| {
            let name = section.require(&NAME);
            let shown = name
                .as_ref()
                .map_or_else(|| "another route".into(), Located::shown);
            if name
                .as_ref()
                .is_some_and(|name| !taken.names.insert(name.value.clone()))
            {
                section.problem(NAME.name, format!("another route is named {shown} too"));
            }
            let hosts = read_hosts(section);
            let ignore_case = section.get(&IGNORE_CASE);
            let path = read_path(section, ignore_case);
            let conditions = conditions::read(section);
            note_extension_methods(section, &conditions, &mut taken);
            if let Some(path) = &path {
                let place = (&*hosts, path, ignore_case);
                note_taken_places(section, place, &conditions, &shown, &mut taken);
            }
            RouteConfig {
                name: name.map_or_else(String::new, |name| name.value),
                hosts: hosts.into_iter().map(|host| host.value).collect(),
                path: path.map_or_else(|| PathPattern::Prefix("/".into()), |path| path.value),
                ignore_case,
                conditions,
                action: read_action(section, &names.upstreams),
                network_lists: read_network_lists(section, names),
                access: read_access(section, names),
                limits: read_limits(section, names),
                max_body: section.get(&MAX_BODY),
                timeout: section.get(&TIMEOUT),
                upgrade: section
                    .list(&UPGRADE)
                    .into_iter()
                    .map(|each| each.value)
                    .collect(),
                trailers: section.get(&TRAILERS),
            }
        })
        .collect()
}

/// Notes every host and path of a route where an earlier one answers already, or too many do.
fn note_taken_places(
    section: &Section<'_>,
    (hosts, path, ignore_case): (&[Located<HostPattern>], &Located<PathPattern>, bool),
    conditions: &Conditions,
    shown: &str,
    taken: &mut Taken,
) {
    let folded = without_names(&path.value, ignore_case);
    let problem = |message| section.reader().problem(path.at, "routes", message);
    let every_host = [None];
    let each_host: Vec<_> = hosts.iter().map(|host| Some(host.value.clone())).collect();
    for host in if each_host.is_empty() {
        &every_host[..]
    } else {
        &each_host[..]
    } {
        if matches!(folded, PathPattern::Regex(_)) {
            let count = taken.regexes.entry(host.clone()).or_default();
            *count += 1;
            if *count > PATH_REGEXES_PER_HOST_MAX {
                return problem(format!(
                    "a host has at most {PATH_REGEXES_PER_HOST_MAX} routes by `path_regex`"
                ));
            }
        }
        let place = (host.clone(), folded.clone(), ignore_case);
        let others = taken.places.entry(place).or_default();
        if let Some((_, other)) = others.iter().find(|(other, _)| other == conditions) {
            return problem(format!(
                "{other} serves this host and path already, under the same conditions; only one route can"
            ));
        }
        if others.len() >= ROUTES_PER_PATH_MAX {
            return problem(format!(
                "at most {ROUTES_PER_PATH_MAX} routes can share a host and a path"
            ));
        }
        others.push((conditions.clone(), shown.to_owned()));
    }
}

/// The path as it is compared with those of other routes: what a capture is called does not count.
fn without_names(path: &PathPattern, ignore_case: bool) -> PathPattern {
    let fold = |text: &str| {
        if ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    match path {
        PathPattern::Exact(path) => PathPattern::Exact(fold(path)),
        PathPattern::Prefix(path) => PathPattern::Prefix(fold(path)),
        PathPattern::Template(template) => {
            let bare = |segment: &TemplateSegment| match segment {
                TemplateSegment::Literal(text) => TemplateSegment::Literal(fold(text)),
                TemplateSegment::Capture(_) => TemplateSegment::Capture(String::new()),
            };
            let segments = template.segments.iter().map(bare).collect();
            PathPattern::Template(PathTemplate { segments })
        }
        PathPattern::Regex(pattern) => PathPattern::Regex(pattern.clone()),
    }
}

fn note_extension_methods(section: &Section<'_>, conditions: &Conditions, taken: &mut Taken) {
    let names = conditions.methods.iter();
    let extensions = names.filter(|name| !conditions::STANDARD_METHODS.contains(&name.as_str()));
    taken.methods.extend(extensions.cloned());
    if taken.methods.len() > EXTENSION_METHODS_MAX {
        let message = format!(
            "all routes together name at most {EXTENSION_METHODS_MAX} methods that are not of RFC 9110 or 5789"
        );
        section.problem(conditions::METHODS.name, message);
    }
}

fn read_hosts(section: &Section<'_>) -> Vec<Located<HostPattern>> {
    let host = section.find(&HOST);
    let hosts = section.list(&HOSTS);
    if section.has(HOST.name) && section.has(HOSTS.name) {
        section.problem(HOSTS.name, "write either `host` or `hosts`, not both");
    } else if section.is_empty_array(HOSTS.name) {
        section.problem(
            HOSTS.name,
            "an empty array; for every host leave the key out",
        );
    }
    let mut seen: HashSet<HostPattern> = HashSet::new();
    let mut chosen = Vec::new();
    for host in host.into_iter().chain(hosts) {
        if seen.insert(host.value.clone()) {
            chosen.push(host);
        } else {
            let (at, shown) = (host.at, host.map(|host| show_host(&host)).shown());
            section.problem_at(at, HOSTS.name, format!("{shown} is there twice"));
        }
    }
    chosen
}

/// The path with the place to report about it; `None`: a problem was noted.
fn read_path(section: &Section<'_>, ignore_case: bool) -> Option<Located<PathPattern>> {
    let keys = [PATH.name, PATH_PREFIX.name, PATH_REGEX.name];
    let mut written = keys.into_iter().filter(|key| section.has(key));
    let Some(first) = written.next() else {
        return Some(Located {
            value: PathPattern::Prefix("/".into()),
            at: section.at(),
            secret: false,
        });
    };
    if let Some(second) = written.next() {
        section.problem(
            second,
            format!("write either `{first}` or `{second}`, not both"),
        );
        return None;
    }
    if first == PATH.name {
        return section.find(&PATH);
    }
    if first == PATH_PREFIX.name {
        // `/v1/` and `/v1` hold the same paths; one final slash says nothing.
        let bare = |path: String| match path.strip_suffix('/') {
            Some(bare) if !bare.is_empty() => bare.to_owned(),
            _ => path,
        };
        let path = section.find(&PATH_PREFIX)?;
        return Some(path.map(|path| PathPattern::Prefix(bare(path))));
    }
    let text = section.find(&PATH_REGEX)?;
    match read_regex(&text.value, ignore_case) {
        Ok(pattern) => Some(text.map(|_| PathPattern::Regex(pattern))),
        Err(message) => {
            section.problem(PATH_REGEX.name, message);
            None
        }
    }
}

fn read_regex(text: &str, ignore_case: bool) -> Result<Pattern, String> {
    let pattern = Pattern::new(text, ignore_case)?;
    let names: Vec<&str> = pattern.captures().collect();
    if names.len() > PATH_CAPTURES_MAX {
        return Err(format!(
            "a path has at most {PATH_CAPTURES_MAX} captures; found {}",
            names.len()
        ));
    }
    match names.iter().find(|name| !is_capture_name(name)) {
        Some(name) => Err(format!(
            "`{name}` is not the name of a capture; use letters, digits and `_`"
        )),
        None => Ok(pattern),
    }
}

fn read_action(section: &Section<'_>, upstreams: &BTreeMap<&str, usize>) -> Action {
    let placeholder = Action::Upstream(0);
    match (section.has(UPSTREAM.name), section.has(RESPOND.name)) {
        (true, true) => {
            section.problem(
                RESPOND.name,
                "write either `upstream` or `respond`, not both",
            );
            placeholder
        }
        (false, false) => {
            section.problem(
                UPSTREAM.name,
                "missing; write `upstream` with a name, or `respond`",
            );
            placeholder
        }
        (false, true) => Action::Respond(respond::read(&section.table(&RESPOND, &respond::KEYS))),
        (true, false) => {
            let index = section
                .find(&UPSTREAM)
                .and_then(|name| resolve(section, UPSTREAM.name, "upstream", &name, upstreams));
            index.map_or(placeholder, Action::Upstream)
        }
    }
}

fn read_network_lists(section: &Section<'_>, names: &Names<'_>) -> Vec<usize> {
    let mut indices: Vec<usize> = Vec::new();
    for name in section.list(&NETWORK_LISTS) {
        let known = &names.network_lists;
        let Some(index) = resolve(section, NETWORK_LISTS.name, "network_list", &name, known) else {
            continue;
        };
        if indices.contains(&index) {
            let message = format!("{} is there twice", name.shown());
            section.problem_at(name.at, NETWORK_LISTS.name, message);
        } else {
            indices.push(index);
        }
    }
    if indices.len() > ROUTE_NETWORK_LISTS_MAX {
        let found = indices.len();
        let message = format!("a route has at most {ROUTE_NETWORK_LISTS_MAX} lists; found {found}");
        section.problem(NETWORK_LISTS.name, message);
    }
    indices
}

fn read_access(section: &Section<'_>, names: &Names<'_>) -> AccessConfig {
    let mut auth: Vec<usize> = Vec::new();
    for name in section.list(&AUTH) {
        let Some(index) = resolve(
            section,
            AUTH.name,
            "authenticator",
            &name,
            &names.authenticators,
        ) else {
            continue;
        };
        if auth.contains(&index) {
            let message = format!("{} is there twice", name.shown());
            section.problem_at(name.at, AUTH.name, message);
        } else {
            auth.push(index);
        }
    }
    if auth.len() > ROUTE_AUTH_MAX {
        let found = auth.len();
        let message = format!("a route has at most {ROUTE_AUTH_MAX} authenticators; found {found}");
        section.problem(AUTH.name, message);
    }
    if section.is_empty_array(AUTH.name) {
        // An empty variable or a slip must not open what was meant to be closed.
        section.problem(
            AUTH.name,
            "an empty array; to let everybody in leave the key out",
        );
    }
    let access = AccessConfig {
        auth,
        optional: section.get(&AUTH_OPTIONAL),
        groups: read_groups(section, &GROUPS),
    };
    for name in [AUTH_OPTIONAL.name, GROUPS.name] {
        if section.has(name) && !section.has(AUTH.name) {
            section.problem(name, "has no meaning without `auth`");
        }
    }
    if section.is_empty_array(GROUPS.name) {
        section.problem(
            GROUPS.name,
            "an empty array; to let in every caller leave the key out",
        );
    }
    if access.optional && !access.groups.is_empty() {
        section.problem(
            AUTH_OPTIONAL.name,
            "nobody's requests are in none of the `groups`",
        );
    }
    access
}

fn read_limits(section: &Section<'_>, names: &Names<'_>) -> Vec<usize> {
    let limits = &names.limits;
    let mut indices: Vec<usize> = Vec::new();
    for name in section.list(&LIMITS) {
        let Some(index) = resolve(section, LIMITS.name, "limit", &name, limits) else {
            continue;
        };
        if names.identity_limits.get(index) == Some(&true) && !section.has(AUTH.name) {
            let message = format!(
                "{} counts by who the caller is, which nobody knows without `auth`",
                name.shown()
            );
            section.problem_at(name.at, LIMITS.name, message);
        }
        if indices.contains(&index) {
            section.problem_at(
                name.at,
                LIMITS.name,
                format!("{} is there twice", name.shown()),
            );
        } else {
            indices.push(index);
        }
    }
    if indices.len() > ROUTE_LIMITS_MAX {
        let found = indices.len();
        let message = format!("a route has at most {ROUTE_LIMITS_MAX} limits; found {found}");
        section.problem(LIMITS.name, message);
    }
    indices
}

/// The index behind a name; `None`: nothing has it, which was noted.
fn resolve(
    section: &Section<'_>,
    key: &str,
    what: &str,
    name: &Located<String>,
    known: &BTreeMap<&str, usize>,
) -> Option<usize> {
    let index = known.get(name.value.as_str()).copied();
    if index.is_none() {
        let near = section.reader().suggest(name, known.keys().copied());
        let none = if known.is_empty() {
            format!("; there is {} at all", none_of(what))
        } else {
            near
        };
        section.problem_at(
            name.at,
            key,
            format!("no {what} is named {}{none}", name.shown()),
        );
    }
    index
}

/// The sections that would hold one.
fn none_of(what: &str) -> String {
    match what {
        "authenticator" => "no authenticator such as [api_keys.NAME]".into(),
        _ => format!("no [{what}s.NAME]"),
    }
}

fn parse_protocol(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if lower.is_empty() || !lower.bytes().all(token) {
        return Err(format!(
            "`{text}` is not a protocol name; write one such as \"websocket\""
        ));
    }
    if matches!(lower.as_str(), "h2c" | "h2" | "http" | "tls") {
        return Err(format!(
            "`{text}` cannot be passed through; requests could hide in it"
        ));
    }
    Ok(lower)
}

fn show_host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(name) => format!("*{name}"),
    }
}
