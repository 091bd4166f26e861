//! `routes.rewrite`, `request_headers`, `response_headers`, `redirect` and `split`: what is done with a request besides
//! passing it on.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::address::{parse_name, parse_path, parse_prefix};
use super::key::{Key, Keys, List, Nested, Optional, Required};
use super::kind::{Integer, Text};
use super::kind_template::TemplateText;
use super::matching::PathPattern;
use super::resolved::{
    HeaderEdits, HostRewrite, PathRewrite, Redirect, Rewrite, SPLIT_MAX, SplitPart,
};
use super::respond::OWN_FIELDS;
use super::section::{Located, Section};
use super::template::{Piece, Template, Variable};

/// Most fields that one route sets, adds or removes in one direction.
const EDITS_MAX: usize = 32;

/// Request fields that the gateway itself writes, besides those of [`OWN_FIELDS`].
pub(super) const OWN_REQUEST_FIELDS: [&str; 15] = [
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "via",
    "x-consumer",
    "x-consumer-groups",
    "x-consumer-plan",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

pub(super) static KEYS: Keys = Keys {
    header: "routes.rewrite",
    text: "What goes upstream in place of the path and host of the request: `rewrite = { strip_prefix = \"/v1\" }`. Routing, limits and logs see the request as it came. The query stays.",
    rows: &[&STRIP_PREFIX, &ADD_PREFIX, &PATH, &HOST],
    unsupported: &["query", "regex", "scheme"],
};

pub(super) static EDIT_KEYS: Keys = Keys {
    header: "routes.request_headers, routes.response_headers",
    text: "Changes of header fields on their way to the upstream, and on the way back. Values may hold [variables](#variables). At most 32 fields a route and direction. A change is also made where a name is written with `_` for `-`. Answers of the gateway itself get what `response_headers` sets and adds, too; trailers stay as they are.",
    rows: &[&SET, &ADD, &REMOVE],
    unsupported: &["append", "replace", "rename"],
};

pub(super) static REDIRECT_KEYS: Keys = Keys {
    header: "routes.redirect",
    text: "A redirect: `redirect = { to = \"https://${host}${path}\" }`.",
    rows: &[&TO, &STATUS],
    unsupported: &["scheme", "host", "port", "path"],
};

pub(super) static SPLIT_KEYS: Keys = Keys {
    header: "routes.split",
    text: "Shares of a route's requests: `split = [{ upstream = \"new\", weight = 5 }, { upstream = \"old\", weight = 95 }]`. Each worker spreads its requests evenly, not at random.",
    rows: &[&UPSTREAM, &WEIGHT],
    unsupported: &["sticky"],
};

static STRIP_PREFIX: Optional<Text<String>> = Optional {
    name: "strip_prefix",
    kind: Text {
        expects: "a path such as \"/v1\"",
        parse: parse_prefix,
        show: String::clone,
    },
    absent: "nothing is taken off",
    text: "Segments to take off the start of the path; the route's own path must begin with them.",
};

static ADD_PREFIX: Optional<Text<String>> = Optional {
    name: "add_prefix",
    kind: Text {
        expects: "a path such as \"/app\"",
        parse: parse_prefix,
        show: String::clone,
    },
    absent: "nothing is put on",
    text: "Segments to put before what is left of the path.",
};

static PATH: Optional<TemplateText> = Optional {
    name: "path",
    kind: TemplateText {
        expects: "a path such as \"/users/${path.id}\"",
        check: check_path,
    },
    absent: "the path stays, but for prefixes",
    text: "The whole path, with [variables](#variables); in place of the prefixes. With captures of `path_regex` it is a rewrite by regular expression. A path that comes out with a dot segment, or otherwise not in the form that requests are compared in, gets 400.",
};

static HOST: Optional<Text<HostRewrite>> = Optional {
    name: "host",
    kind: Text {
        expects: "a host such as \"users.internal:8000\", or \"upstream\"",
        parse: parse_host_rewrite,
        show: |host| match host {
            HostRewrite::Fixed(host) => host.clone(),
            HostRewrite::Endpoint => "upstream".into(),
        },
    },
    absent: "the host of the request",
    text: "The Host that the upstream sees; `upstream`: the address of the endpoint. X-Forwarded-Host says what the client asked for.",
};

static SET: Nested = Nested {
    name: "set",
    expects: "a table such as { x-user = \"${path.id}\" }",
    absent: "none",
    text: "Fields that there are once, with this value, whatever came. Not those that frame a message or that the gateway writes itself.",
};

static ADD: Nested = Nested {
    name: "add",
    expects: "a table such as { x-via = \"ringgate\" }",
    absent: "none",
    text: "Field lines besides those that came.",
};

static REMOVE: List<Text<String>> = List {
    name: "remove",
    item: Text {
        expects: "a header name",
        parse: |text| Ok(text.to_owned()),
        show: String::clone,
    },
    text: "Fields that are not passed on. Each costs a comparison of lengths with every field of the message.",
};

static TO: Required<TemplateText> = Required {
    name: "to",
    kind: TemplateText {
        expects: "a URL or path such as \"https://${host}${path}\"",
        check: check_target,
    },
    text: "Where to: a URL, or a path beginning with `/`, with [variables](#variables). In the host only `${host}` may stand; a request without a host gets 400 there. The query is kept where there is no `?` in it.",
};

static STATUS: Key<Integer<u16>> = Key {
    name: "status",
    kind: Integer::new(301, 308),
    default: 308,
    text: "301, 302, 303, 307 or 308. 308 and 307 keep the method; 301 and 302 let clients make a GET of a POST; 303 tells them to.",
};

static UPSTREAM: Required<Text<String>> = Required {
    name: "upstream",
    kind: Text {
        expects: "the name of an upstream",
        parse: parse_name,
        show: String::clone,
    },
    text: "Forward to the upstream of this name.",
};

static WEIGHT: Key<Integer<u32>> = Key {
    name: "weight",
    kind: Integer::new(0, 1_000_000),
    default: 1,
    text: "Share of the requests relative to the others; 0: none.",
};

/// Reads `rewrite` of a route with this path.
pub(super) fn read(section: &Section<'_>, path: &PathPattern) -> Rewrite {
    let strip = section.find(&STRIP_PREFIX);
    let add = section.find(&ADD_PREFIX);
    let whole = section.find(&PATH);
    let bare = |path: String| path.trim_end_matches('/').to_owned();
    if let Some(strip) = &strip
        && !begins_with(path, &bare(strip.value.clone()))
    {
        let message = format!(
            "{} is not where the route's own path begins, so that it could not be taken off",
            strip.shown()
        );
        section.problem(STRIP_PREFIX.name, message);
    }
    let path_rewrite = match (strip, add, whole) {
        (None, None, None) => None,
        (None, None, Some(mut whole)) => {
            bind(section, PATH.name, &mut whole, path);
            Some(PathRewrite::Whole(whole.value))
        }
        (strip, add, None) => {
            let text = |prefix: Option<Located<String>>| {
                prefix.map_or_else(String::new, |prefix| bare(prefix.value))
            };
            Some(PathRewrite::Prefix {
                strip: text(strip),
                add: text(add),
            })
        }
        _ => {
            section.problem(PATH.name, "write either `path` or prefixes, not both");
            None
        }
    };
    Rewrite {
        path: path_rewrite,
        host: read_host(section),
    }
}

/// Whether every request of a route with path `path` begins with `prefix`, which is without its final slash.
fn begins_with(path: &PathPattern, prefix: &str) -> bool {
    let text = match path {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path.clone(),
        PathPattern::Template(_) => super::address::show_path(path),
        PathPattern::Regex(_) => return false,
    };
    let rest = text.strip_prefix(prefix);
    !prefix.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Notes variables that the route's path does not have.
fn bind(section: &Section<'_>, key: &str, template: &mut Located<Template>, path: &PathPattern) {
    if let Err(message) = template.value.bind(path) {
        section.problem_at(template.at, key, message);
    }
}

/// Reads `request_headers` or `response_headers` of a route with this path. `taken`: fields that something else of the
/// route writes in this direction, and what.
pub(super) fn read_edits(
    section: &Section<'_>,
    path: &PathPattern,
    is_request: bool,
    taken: &[(&str, &str)],
) -> HeaderEdits {
    let kind = TemplateText {
        expects: "a string",
        check: check_value,
    };
    let mut names: Vec<String> = Vec::new();
    let mut check = |key: &str, name: &str, at: usize| {
        let own = |own: &&str| own.eq_ignore_ascii_case(&name.replace('_', "-"));
        let mut written = taken.iter().filter(|(taken, _)| own(taken));
        let by = written.next().filter(|_| is_request || key != REMOVE.name);
        let problem = if let Some((_, by)) = by {
            by
        } else if HeaderName::from_bytes(name.as_bytes()).is_err() {
            "is not a header name"
        } else if OWN_FIELDS.iter().any(own) || is_request && OWN_REQUEST_FIELDS.iter().any(own) {
            "is written by the gateway itself"
        } else if names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            "is there twice"
        } else {
            names.push(name.to_owned());
            return true;
        };
        section.problem_at(at, key, format!("`{name}` {problem}"));
        false
    };
    let mut read = |key: &Nested| {
        let entries = section.entries(key, &kind).into_iter();
        let kept = entries.filter_map(|(name, mut value)| {
            bind(section, key.name, &mut value, path);
            check(key.name, name.value, name.at).then(|| (name.value.to_owned(), value.value))
        });
        kept.collect::<Vec<_>>()
    };
    let (set, add) = (read(&SET), read(&ADD));
    let remove = section.list(&REMOVE).into_iter();
    let remove = remove.filter(|name| check(REMOVE.name, &name.value, name.at));
    let remove = remove.map(|name| name.value).collect();
    if names.len() > EDITS_MAX {
        let found = names.len();
        section.problem(
            SET.name,
            format!("at most {EDITS_MAX} fields; found {found}"),
        );
    }
    HeaderEdits { set, add, remove }
}

/// Reads `redirect` of a route with this path; `None`: a problem was noted.
pub(super) fn read_redirect(section: &Section<'_>, path: &PathPattern) -> Option<Redirect> {
    let status = section.get(&STATUS);
    if matches!(status, 304..=306) {
        section.problem(STATUS.name, format!("{status} is no redirect; write 308"));
    }
    let mut to = section.require(&TO)?;
    bind(section, TO.name, &mut to, path);
    let asks = |piece: &Piece| match piece {
        Piece::Text(text) => text.contains('?'),
        Piece::Variable(variable) => *variable == Variable::Query,
    };
    Some(Redirect {
        status,
        with_query: !to.value.pieces.iter().any(asks),
        to: to.value,
    })
}

/// Reads `split`.
pub(super) fn read_split(
    sections: &[Section<'_>],
    upstreams: &BTreeMap<&str, usize>,
    route: &Section<'_>,
    key: &str,
) -> Vec<SplitPart> {
    let mut parts: Vec<SplitPart> = Vec::new();
    for section in sections {
        let weight = section.get(&WEIGHT);
        let Some(name) = section.require(&UPSTREAM) else {
            continue;
        };
        let Some(upstream) =
            super::routes::resolve(section, UPSTREAM.name, "upstream", &name, upstreams)
        else {
            continue;
        };
        if parts.iter().any(|part| part.upstream == upstream) {
            section.problem(UPSTREAM.name, format!("{} is there twice", name.shown()));
        }
        parts.push(SplitPart { upstream, weight });
    }
    if parts.len() > SPLIT_MAX {
        route.problem(
            key,
            format!("at most {SPLIT_MAX} upstreams; found {}", parts.len()),
        );
    }
    let whole = parts.len() == sections.len();
    if whole && parts.iter().all(|part| part.weight == 0) {
        route.problem(key, "one part at least needs a weight above 0");
    }
    parts
}

fn read_host(section: &Section<'_>) -> Option<HostRewrite> {
    section.warn_near(HOST.name, &["upstream"]);
    section.find(&HOST).map(|host| host.value)
}

fn parse_host_rewrite(text: &str) -> Result<HostRewrite, String> {
    if text == "upstream" {
        return Ok(HostRewrite::Endpoint);
    }
    let authority = text.parse::<http::uri::Authority>();
    match authority {
        Ok(authority) if !text.contains(['@', ',']) && !authority.host().is_empty() => {
            Ok(HostRewrite::Fixed(text.to_ascii_lowercase()))
        }
        _ => Err(format!(
            "`{text}` is not a host; write one such as \"users.internal:8000\", or \"upstream\""
        )),
    }
}

/// A value of a header field.
fn check_value(template: &Template) -> Result<(), String> {
    let example = template.example(|_| "x".into());
    let blank_ends = example.trim_matches([' ', '\t']) != example;
    if blank_ends || HeaderValue::from_str(&example).is_err() || !example.is_ascii() {
        return Err("a header value holds visible ASCII, and no blanks at its ends".into());
    }
    Ok(())
}

/// A path to be made of a template.
fn check_path(template: &Template) -> Result<(), String> {
    if template.pieces.contains(&Piece::Variable(Variable::Query)) {
        return Err("the query cannot be part of a path; it is passed on as it came".into());
    }
    let example = template.example(|variable| match variable {
        Variable::Path => "/x".into(),
        _ => "x".into(),
    });
    match parse_path(&example)? {
        PathPattern::Exact(_) => Ok(()),
        _ => Err("a capture is written `${path.NAME}` here".into()),
    }
}

/// A redirect's target: it leads to the host that is written, or that of the request, whatever the request holds.
fn check_target(template: &Template) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    for piece in &template.pieces {
        if let Piece::Text(text) = piece
            && !text.bytes().all(fits)
        {
            return Err("a URL holds visible ASCII, other characters percent-encoded".into());
        }
    }
    let mut pieces = template.pieces.iter();
    let mut text = match (pieces.next(), pieces.clone().next()) {
        (Some(Piece::Variable(Variable::Path)), _) => return Ok(()),
        (Some(Piece::Text(text)), _) if text.starts_with('/') => {
            return if text.starts_with("//") {
                Err("`//` begins a host; write a scheme before it, or one slash".into())
            } else {
                Ok(())
            };
        }
        (Some(Piece::Variable(Variable::Scheme)), Some(Piece::Text(text))) => {
            pieces.next();
            text.strip_prefix("://")
        }
        (Some(Piece::Text(text)), _) => {
            let rest = text.strip_prefix("https://");
            rest.or_else(|| text.strip_prefix("http://"))
        }
        _ => None,
    }
    .ok_or("it begins with `http://`, `https://`, `${scheme}://`, `/` or `${path}`")?;
    let mut is_empty = true;
    loop {
        let end = text.find(['/', '?', '#']);
        let host = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if !host.bytes().all(plain) {
            return Err(format!("`{host}` cannot be part of a host"));
        }
        is_empty &= host.is_empty();
        if end.is_some() {
            break;
        }
        match pieces.next() {
            None | Some(Piece::Variable(Variable::Path)) => break,
            Some(Piece::Variable(Variable::Host)) => is_empty = false,
            Some(Piece::Variable(_)) => {
                return Err(
                    "in the host only `${host}` may stand; a client could choose it otherwise"
                        .into(),
                );
            }
            Some(Piece::Text(next)) => {
                text = next;
                continue;
            }
        }
        text = "";
    }
    if is_empty {
        return Err("there is no host in it".into());
    }
    Ok(())
}
