//! `[[routes]]`: which requests are forwarded, answered and limited.

pub(super) mod place;

use std::collections::BTreeMap;
use std::time::Duration;

use super::address::parse_name;
use super::conditions;
use super::consumers::{GROUP_KIND, read_groups};
use super::cors::CORS_FIELDS;
use super::error_bodies;
use super::filters::{self, RouteFilters};
use super::forward_auth::ForwardAuthConfig;
use super::key::{Key, Keys, List, Nested, Optional, Required};
use super::kind::{Flag, Integer, Or, Size, Text, Time};
use super::matching::PathPattern;
use super::resolved::{
    AccessConfig, Action, AuthenticatorConfig, AuthenticatorKind, ROUTE_AUTH_MAX, ROUTE_LIMITS_MAX,
    ROUTE_NETWORK_LISTS_MAX, Rewrite, RouteConfig,
};
use super::respond;
use super::retry::RETRIES_MAX;
use super::rewrite;
use super::section::{Located, Section};
use place::{
    HOST, HOSTS, PATH, PATH_PREFIX, PATH_REGEX, Taken, note_extension_methods, note_taken_places,
    read_hosts, read_path,
};

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
        &SPLIT,
        &RESPOND,
        &REDIRECT,
        &REWRITE,
        &REQUEST_HEADERS,
        &RESPONSE_HEADERS,
        &error_bodies::NAME,
        &NETWORK_LISTS,
        &filters::CORS,
        &filters::FILTERS,
        &filters::SECURITY_HEADERS,
        &AUTH,
        &AUTH_OPTIONAL,
        &GROUPS,
        &LIMITS,
        &MAX_HEAD,
        &MAX_BODY,
        &TIMEOUT,
        &RETRIES,
        &UPGRADE,
        &TRAILERS,
    ],
    unsupported: &[
        "method",
        "per_try_timeout",
        "priority",
        "retry",
        "mirror",
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
    absent: "this, `split`, `respond` or `redirect`",
    text: "Forward to the upstream of this name.",
};

static RESPOND: Nested = Nested {
    name: "respond",
    expects: "a table such as { status = 403, body = \"no\" }",
    absent: "see `upstream`",
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

static REDIRECT: Nested = Nested {
    name: "redirect",
    expects: "a table such as { to = \"https://${host}${path}\" }",
    absent: "see `upstream`",
    text: "Answer with a redirect, see `routes.redirect`.",
};

static SPLIT: Nested = Nested {
    name: "split",
    expects: "an array of tables such as [{ upstream = \"new\", weight = 5 }, { upstream = \"old\", weight = 95 }]",
    absent: "see `upstream`",
    text: "Forward to several upstreams by shares, at most 64, see `routes.split`.",
};

static REWRITE: Nested = Nested {
    name: "rewrite",
    expects: "a table such as { strip_prefix = \"/v1\" }",
    absent: "path and host go on as they came",
    text: "What goes upstream in place of path and host, see `routes.rewrite`.",
};

static REQUEST_HEADERS: Nested = Nested {
    name: "request_headers",
    expects: "a table such as { set = { x-a = \"1\" }, remove = [\"x-b\"] }",
    absent: "fields go on as they came",
    text: "Changes of the request's header fields, see `routes.request_headers`.",
};

static RESPONSE_HEADERS: Nested = Nested {
    name: "response_headers",
    expects: "a table such as { set = { x-a = \"1\" }, remove = [\"x-b\"] }",
    absent: "fields go on as they came",
    text: "Changes of the response's header fields, see `routes.response_headers`.",
};

static MAX_HEAD: Key<Or<Size<u32>>> = Key {
    name: "max_head",
    kind: Or {
        word: "unlimited",
        kind: Size::new(128, 1 << 20),
    },
    default: None,
    text: "Longest request head; longer: 431. The listener's `head_max` bounds it before any route is known.",
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

static RETRIES: Optional<Integer<u8>> = Optional {
    name: "retries",
    kind: Integer::new(0, RETRIES_MAX as u64),
    absent: "those of `upstreams.NAME.retry`",
    text: "How often a request is sent again at most, where its upstream would do so more often: causes, budget and times are the upstream's. 0: never, but to another endpoint where none could be connected to, and, if it may be repeated, once on a new connection where a kept one ended without an answer.",
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
    text: "Forward trailer fields both ways, and `TE: trailers` to the upstream. Off: only those of a response, to a client that said `TE: trailers`. Trailers that frame, route or authenticate never pass, and none of a request where the route has `auth`.",
};

/// The names that routes refer to.
pub(super) struct Names<'a> {
    /// Upstreams with their indices.
    pub upstreams: BTreeMap<&'a str, usize>,
    /// Limits with their indices.
    pub limits: BTreeMap<&'a str, usize>,
    /// Whether each limit counts by who the caller is.
    pub identity_limits: Vec<bool>,
    /// Whether each limit counts by a claim.
    pub claim_limits: Vec<bool>,
    /// Lists of networks with their indices.
    pub network_lists: BTreeMap<&'a str, usize>,
    /// Authenticators with their indices.
    pub authenticators: BTreeMap<&'a str, usize>,
    /// What they are.
    pub authenticator_list: &'a [AuthenticatorConfig],
    /// What refusals say, with their indices.
    pub error_bodies: BTreeMap<&'a str, usize>,
    /// Filters.
    pub filters: filters::Names<'a>,
}

impl<'a> Names<'a> {
    /// Those of these authenticators that are asked by a subrequest.
    fn forward(&self, auth: &[usize]) -> impl Iterator<Item = (&'a str, &'a ForwardAuthConfig)> {
        let list = self.authenticator_list;
        auth.iter().filter_map(move |&index| match list.get(index) {
            Some(AuthenticatorConfig {
                name,
                kind: AuthenticatorKind::Forward(config),
                ..
            }) => Some((&**name, &**config)),
            _ => None,
        })
    }

    /// One of these authenticators reads tokens.
    fn reads_tokens(&self, auth: &[usize]) -> bool {
        let mut kinds = auth
            .iter()
            .filter_map(|&index| self.authenticator_list.get(index));
        kinds.any(|each| matches!(each.kind, AuthenticatorKind::Jwt(_)))
    }

    /// The authenticator of a route that has this one alone, which does not say who its callers are.
    fn tells_nobody(&self, access: &AccessConfig) -> Option<&'a str> {
        let (name, config) = self.forward(&access.auth).next()?;
        (access.auth.len() == 1 && config.consumer.is_none()).then_some(name)
    }
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
            let path = path.map_or_else(|| PathPattern::Prefix("/".into()), |path| path.value);
            let filters = filters::read_route(section, &names.filters);
            let access = read_access(section, names);
            let edits = |key, is_request| {
                let taken = match is_request {
                    true => copied_fields(&access, names),
                    false => cors_fields(&filters, names),
                };
                let section = section.table(key, &rewrite::EDIT_KEYS);
                rewrite::read_edits(&section, &path, is_request, &taken)
            };
            RouteConfig {
                name: name.map_or_else(String::new, |name| name.value),
                hosts: hosts.into_iter().map(|host| host.value).collect(),
                action: read_action(section, &names.upstreams, &path),
                rewrite: read_rewrite(section, &path),
                request_headers: edits(&REQUEST_HEADERS, true),
                response_headers: edits(&RESPONSE_HEADERS, false),
                error_bodies: section.find(&error_bodies::NAME).and_then(|name| {
                    let (key, known) = (error_bodies::NAME.name, &names.error_bodies);
                    resolve(section, key, "set of error bodies", &name, known)
                }),
                max_head: section.get(&MAX_HEAD),
                path,
                ignore_case,
                conditions,
                network_lists: read_network_lists(section, names),
                limits: read_limits(section, &access, names),
                filters,
                access,
                max_body: section.get(&MAX_BODY),
                timeout: section.get(&TIMEOUT),
                retries: section.find(&RETRIES).map(|most| most.value),
                upgrade: read_upgrade(section),
                trailers: section.get(&TRAILERS),
            }
        })
        .collect()
}

fn read_upgrade(section: &Section<'_>) -> Vec<String> {
    section.warn_near(UPGRADE.name, &["websocket"]);
    let protocols = section.list(&UPGRADE);
    protocols.into_iter().map(|each| each.value).collect()
}

/// Fields of the request that an authenticator of the route writes.
fn copied_fields<'a>(access: &AccessConfig, names: &Names<'a>) -> Vec<(&'a str, &'a str)> {
    let configs = names.forward(&access.auth);
    let copied = configs.flat_map(|(_, config)| &config.copy);
    let by =
        "is what an authenticator of the route copies from its answer (`copy_response_headers`)";
    copied.map(|name| (&**name, by)).collect()
}

/// Fields of the response that the route's policy for other origins writes.
fn cors_fields<'a>(filters: &RouteFilters, names: &Names<'a>) -> Vec<(&'a str, &'a str)> {
    let enforced = &names.filters.enforced_cors;
    let is_enforced = filters
        .cors
        .is_some_and(|index| enforced.get(index) == Some(&true));
    let by = "is written by the policy in `cors`; say it there, or leave `cors` out";
    let fields = CORS_FIELDS.iter().filter(|_| is_enforced);
    fields.map(|name| (*name, by)).collect()
}

fn read_action(
    section: &Section<'_>,
    upstreams: &BTreeMap<&str, usize>,
    path: &PathPattern,
) -> Action {
    let placeholder = Action::Upstream(0);
    let keys = [UPSTREAM.name, SPLIT.name, RESPOND.name, REDIRECT.name];
    let mut written = keys.into_iter().filter(|key| section.has(key));
    let Some(first) = written.next() else {
        section.problem(
            UPSTREAM.name,
            "missing; write `upstream` with a name, or `split`, `respond` or `redirect`",
        );
        return placeholder;
    };
    if let Some(second) = written.next() {
        section.problem(
            second,
            format!("write either `{first}` or `{second}`, not both"),
        );
        return placeholder;
    }
    if first == UPSTREAM.name {
        let index = section
            .find(&UPSTREAM)
            .and_then(|name| resolve(section, UPSTREAM.name, "upstream", &name, upstreams));
        return index.map_or(placeholder, Action::Upstream);
    }
    if first == SPLIT.name {
        let parts = section.tables(&SPLIT, &rewrite::SPLIT_KEYS);
        return Action::Split(rewrite::read_split(&parts, upstreams, section, SPLIT.name));
    }
    if first == RESPOND.name {
        return Action::Respond(respond::read(&section.table(&RESPOND, &respond::KEYS)));
    }
    let redirect = section.table(&REDIRECT, &rewrite::REDIRECT_KEYS);
    rewrite::read_redirect(&redirect, path).map_or(placeholder, Action::Redirect)
}

fn read_rewrite(section: &Section<'_>, path: &PathPattern) -> Rewrite {
    if section.has(RESPOND.name) || section.has(REDIRECT.name) {
        for key in [REWRITE.name, REQUEST_HEADERS.name] {
            if section.has(key) {
                section.problem(key, "nothing goes upstream from this route");
            }
        }
    }
    rewrite::read(&section.table(&REWRITE, &rewrite::KEYS), path)
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
    check_forward(section, &access, names);
    if access.optional && !access.groups.is_empty() {
        section.problem(
            AUTH_OPTIONAL.name,
            "nobody's requests are in none of the `groups`",
        );
    }
    access
}

/// Notes what cannot be beside an authenticator that is asked by a subrequest.
fn check_forward(section: &Section<'_>, access: &AccessConfig, names: &Names<'_>) {
    let mut all = names.forward(&access.auth);
    let Some((name, config)) = all.next() else {
        return;
    };
    if all.next().is_some() {
        let message = "a route asks one [forward_auth.NAME] at most";
        section.problem(AUTH.name, message);
    }
    if access.optional {
        let message =
            format!("`{name}` is asked about requests without credentials too, and decides");
        section.problem(AUTH_OPTIONAL.name, message);
    }
    if !access.groups.is_empty() && config.lets_in {
        let message = format!(
            "callers that `{name}` lets in unjudged (`on_error`) are in none of the `groups`"
        );
        section.problem(GROUPS.name, message);
    }
    if !access.groups.is_empty() && config.consumer.is_none() {
        let message =
            format!("callers that `{name}` lets in have no groups; write `consumer_header` there");
        section.problem(GROUPS.name, message);
    }
}

fn read_limits(section: &Section<'_>, access: &AccessConfig, names: &Names<'_>) -> Vec<usize> {
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
        if let Some(authenticator) = names.tells_nobody(access)
            && names.identity_limits.get(index) == Some(&true)
        {
            let message = format!(
                "{} counts by who the caller is, which `{authenticator}` does not say without `consumer_header`",
                name.shown()
            );
            section.problem_at(name.at, LIMITS.name, message);
        }
        if names.claim_limits.get(index) == Some(&true)
            && !access.auth.is_empty()
            && !names.reads_tokens(&access.auth)
        {
            let message = format!(
                "{} counts by a claim, and none of this route's `auth` reads tokens ([jwt.NAME])",
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
pub(super) fn resolve(
    section: &Section<'_>,
    key: &str,
    what: &'static str,
    name: &Located<String>,
    known: &BTreeMap<&str, usize>,
) -> Option<usize> {
    let index = known.get(name.value.as_str()).copied();
    if index.is_some() {
        section.reader().used(what, &name.value);
    } else {
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
        "set of security headers" => "no [security_headers.NAME]".into(),
        "cors policy" => "no [cors.NAME]".into(),
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
