//! `[forward_auth.NAME]`: callers whom a server of the operator's judges: a subrequest, whose answer decides.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;

use super::address::{parse_name, parse_prefix};
use super::consumers::note_twice;
use super::credentials::{FORWARD, Named};
use super::key::{Key, Keys, List, Optional, Required};
use super::kind::{Size, Text, Time, Word};
use super::limit_key::token;
use super::resolved::{
    AuthenticatorConfig, AuthenticatorKind, CredentialPlace, ProxyProtocol, UpstreamConfig,
};
use super::respond::OWN_FIELDS;
use super::rewrite::OWN_REQUEST_FIELDS;
use super::section::{Located, Section};

/// Longest challenge in characters.
const CHALLENGE_MAX: usize = 256;
/// Most names of fields in one list.
const NAMES_MAX: usize = 32;

/// What is particular to `[forward_auth.NAME]`.
#[derive(Clone, Debug)]
pub struct ForwardAuthConfig {
    /// Index of the upstream that is asked.
    pub upstream: usize,
    /// How.
    pub method: AskMethod,
    /// What for.
    pub target: AskTarget,
    /// Request fields that are sent along, lower case.
    pub send: Vec<String>,
    /// Fields of an answer that refuses which the client gets, lower case.
    pub pass: Vec<String>,
    /// Fields of an answer that lets in which the request's upstream gets, lower case.
    pub copy: Vec<String>,
    /// The field of such an answer that names the consumer.
    pub consumer: Option<String>,
    /// The one that lists its groups.
    pub groups: Option<String>,
    /// The one that says its plan.
    pub plan: Option<String>,
    /// What of a request is a credential, and so taken out.
    pub credentials: Vec<CredentialPlace>,
    /// What a 401 asks for that does not say so itself: the value of `WWW-Authenticate`.
    pub challenge: String,
    /// The question and its answer, all tries together, take no longer.
    pub timeout: Duration,
    /// Longest body of an answer that is passed on.
    pub max_body: u64,
    /// Who cannot be judged is let in.
    pub lets_in: bool,
}

/// The method of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskMethod {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST, without a body.
    Post,
}

impl AskMethod {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("GET", Self::Get),
        ("HEAD", Self::Head),
        ("POST", Self::Post),
    ];

    /// As it is sent.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
        }
    }
}

/// The target of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskTarget {
    /// This one.
    Fixed(String),
    /// That of the request behind this path, which is without its final slash.
    Below(String),
}

pub(super) static KEYS: Keys = Keys {
    header: "[forward_auth.NAME]",
    text: "A server of yours that judges callers: each request of a route whose `auth` names it is asked about by a subrequest. Its 2xx lets the request in; its 401, 403 or redirect is what the client gets; other 3xx and 4xx are 403; 5xx, what is no HTTP, or nothing is for `on_error`. More in [auth.md](auth.md#forward-authentication). Costs a round trip, and what it takes to make a small request of the upstream.",
    rows: &[
        &UPSTREAM,
        &METHOD,
        &PATH,
        &PATH_PREFIX,
        &SEND_HEADERS,
        &PASS_HEADERS,
        &COPY_HEADERS,
        &CONSUMER_HEADER,
        &GROUPS_HEADER,
        &PLAN_HEADER,
        &COOKIE,
        &CHALLENGE,
        &TIMEOUT,
        &MAX_BODY,
        &ON_ERROR,
        &FORWARD,
    ],
    unsupported: &[
        "address",
        "url",
        "uri",
        "cache",
        "send_body",
        "trust_forward_header",
    ],
};

static UPSTREAM: Required<Text<String>> = Required {
    name: "upstream",
    kind: Text {
        expects: "the name of an upstream",
        parse: parse_name,
        show: String::clone,
    },
    text: "The upstream that is asked: its endpoints, pool, health, caps and retries serve here too. Its `Host` is the endpoint's.",
};

static METHOD: Key<Word<AskMethod>> = Key {
    name: "method",
    kind: Word {
        words: AskMethod::WORDS,
    },
    default: AskMethod::Get,
    text: "The method of the question, which never has a body. That of the request is in `X-Forwarded-Method`.",
};

static PATH: Optional<Text<String>> = Optional {
    name: "path",
    kind: Text {
        expects: "a path such as \"/verify\"",
        parse: parse_target,
        show: String::clone,
    },
    absent: "/, where there is no `path_prefix`",
    text: "The target of the question, with its query if it has one. That of the request is in `X-Forwarded-Uri`.",
};

static PATH_PREFIX: Optional<Text<String>> = Optional {
    name: "path_prefix",
    kind: Text {
        expects: "a path such as \"/check\"",
        parse: parse_prefix,
        show: String::clone,
    },
    absent: "see `path`",
    text: "In place of `path`: the target is this and behind it path and query of the request, as Envoy asks.",
};

const FIELD: Text<String> = Text {
    expects: "a header's name",
    parse: |text| token(text, text).map(str::to_ascii_lowercase),
    show: String::clone,
};

static SEND_HEADERS: List<Text<String>> = List {
    name: "send_headers",
    item: FIELD,
    text: "Request fields that are sent along, at most 32. None written: `authorization` and `cookie`. Always sent: `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto`, `-For` and `X-Request-Id`, whatever the client wrote there.",
};

static PASS_HEADERS: List<Text<String>> = List {
    name: "pass_response_headers",
    item: FIELD,
    text: "Fields of an answer that refuses which the client gets, at most 32. None written: `www-authenticate`, `location`, `set-cookie` and `content-type`.",
};

static COPY_HEADERS: List<Text<String>> = List {
    name: "copy_response_headers",
    item: FIELD,
    text: "Fields of an answer that lets in which the upstream of the request gets, at most 32 and 16 KiB. What a client sends under these names never gets through on a route that names this authenticator, also where they are written with `_`.",
};

static CONSUMER_HEADER: Optional<Text<String>> = Optional {
    name: "consumer_header",
    kind: FIELD,
    absent: "callers have no name",
    text: "The field of an answer that lets in which names the consumer: 1 to 256 visible ASCII characters without commas. An answer without it lets in nobody in particular.",
};

static GROUPS_HEADER: Optional<Text<String>> = Optional {
    name: "groups_header",
    kind: FIELD,
    absent: "those of `[consumers.NAME]`",
    text: "The field that lists the consumer's groups, with commas or blanks between, besides those of `[consumers.NAME]`.",
};

static PLAN_HEADER: Optional<Text<String>> = Optional {
    name: "plan_header",
    kind: FIELD,
    absent: "that of `[consumers.NAME]`",
    text: "The field that says the consumer's plan; where an answer has none, that of `[consumers.NAME]`.",
};

static COOKIE: Optional<Text<String>> = Optional {
    name: "cookie",
    kind: Text {
        expects: "a cookie's name such as \"session\"",
        parse: |text| token(text, text).map(str::to_owned),
        show: String::clone,
    },
    absent: "cookies go on to the upstream",
    text: "A cookie that is for this authenticator alone: it is taken out of the request, as `authorization` is where that is sent along.",
};

static CHALLENGE: Optional<Text<String>> = Optional {
    name: "challenge",
    kind: Text {
        expects: "a challenge such as 'Bearer realm=\"sso\"'",
        parse: parse_challenge,
        show: String::clone,
    },
    absent: "by what is sent: `Bearer`, else `Cookie`, else `ApiKey`, with the name as realm",
    text: "The `WWW-Authenticate` of a 401 in whose answer the authenticator has none, since every 401 has to have one (RFC 9110, 15.5.2). By default the scheme is `Bearer` where `authorization` is sent along, `Cookie` where `cookie` is. One that it has goes on as it is.",
};

static TIMEOUT: Key<Time> = Key {
    name: "timeout",
    kind: Time {
        min: Duration::from_millis(1),
        max: Duration::from_secs(300),
    },
    default: Duration::from_secs(2),
    text: "How long the question and its answer may take, all tries and a wait in the upstream's queue included. The time of the route runs from when the request goes on.",
};

static MAX_BODY: Key<Size<u64>> = Key {
    name: "max_body",
    kind: Size::new(0, 1 << 20),
    default: 64 << 10,
    text: "Longest body of an answer that refuses. Of a longer one, or one that is cut, the client gets status and fields, and a body of the gateway's own.",
};

static ON_ERROR: Key<Word<bool>> = Key {
    name: "on_error",
    kind: Word {
        words: &[("deny", false), ("allow", true)],
    },
    default: false,
    text: "What becomes of requests that nobody has judged: no endpoint, no answer in time, a broken one, or a 5xx. \"deny\": 503. \"allow\": they are let in as nobody's and counted; whoever can make the authenticator fail is in.",
};

fn parse_target(text: &str) -> Result<String, String> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
    if !path.starts_with('/') || !path.bytes().chain(query.bytes()).all(fits) {
        return Err(format!(
            "`{text}` is not a path; write one such as \"/verify\", of visible ASCII"
        ));
    }
    Ok(text.to_owned())
}

/// A challenge (RFC 9110, 11.3): a scheme and what is behind it, on one line.
fn parse_challenge(text: &str) -> Result<String, String> {
    let scheme = text.split(' ').next().unwrap_or_default();
    let is_line = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if token(scheme, scheme).is_err() || !text.bytes().all(is_line) || text.len() > CHALLENGE_MAX {
        return Err(format!(
            "`{text}` is not a challenge; write a scheme and its parameters, such as 'Bearer realm=\"sso\"', in at most {CHALLENGE_MAX} characters of visible ASCII"
        ));
    }
    Ok(text.to_owned())
}

/// Names of fields in a list, or `default` where none is written.
fn names(
    section: &Section<'_>,
    key: &List<Text<String>>,
    default: &[&str],
    own: &[&[&str]],
) -> Vec<String> {
    if !section.has(key.name) {
        return default.iter().map(ToString::to_string).collect();
    }
    let list = section.list(key);
    if list.len() > NAMES_MAX {
        let found = list.len();
        let message = format!("at most {NAMES_MAX} names; found {found}");
        section.problem(key.name, message);
    }
    note_twice(section, key.name, &list);
    for name in &list {
        let is_own = own.iter().any(|names| names.contains(&&*name.value));
        if is_own || HeaderName::from_bytes(name.value.as_bytes()).is_err() {
            let message = format!("{} is not for others to choose", name.shown());
            section.problem_at(name.at, key.name, message);
        }
    }
    list.into_iter().map(|name| name.value).collect()
}

/// The challenge of the section called `name`, which sends `send` along.
fn read_challenge(section: &Section<'_>, name: &str, send: &[String]) -> String {
    let sends = |field: &str| send.iter().any(|each| each == field);
    let scheme = match sends("authorization") {
        true => "Bearer",
        false if sends("cookie") => "Cookie",
        false => "ApiKey",
    };
    let written = section.find(&CHALLENGE).map(|challenge| challenge.value);
    written.unwrap_or_else(|| format!("{scheme} realm=\"{name}\""))
}

/// The index of the upstream that is asked; `None`: a problem was noted.
fn read_upstream(
    section: &Section<'_>,
    upstreams: &[UpstreamConfig],
    indices: &BTreeMap<&str, usize>,
) -> Option<usize> {
    let name = section.require(&UPSTREAM)?;
    let index = super::routes::resolve(section, UPSTREAM.name, "upstream", &name, indices)?;
    if upstreams[index].proxy_protocol != ProxyProtocol::Off {
        let message = format!(
            "connections to {} say whose they are (`proxy_protocol`), which one that asks for many clients cannot; give the authenticator an upstream of its own",
            name.shown()
        );
        section.problem_at(name.at, UPSTREAM.name, message);
    }
    Some(index)
}

/// Reads every section; `upstreams`: with their indices.
pub(super) fn read(
    sections: Vec<(Located<String>, Section<'_>)>,
    upstreams: &[UpstreamConfig],
    all: &mut Named,
) {
    let indices: BTreeMap<&str, usize> = upstreams
        .iter()
        .map(|upstream| &*upstream.name)
        .zip(0..)
        .collect();
    for (name, section) in sections {
        let upstream = read_upstream(&section, upstreams, &indices);
        let (path, prefix) = (section.find(&PATH), section.find(&PATH_PREFIX));
        if path.is_some() && prefix.is_some() {
            let message = "write either `path` or `path_prefix`, not both";
            section.problem(PATH_PREFIX.name, message);
        }
        let target = match prefix {
            Some(prefix) => AskTarget::Below(prefix.value.trim_end_matches('/').to_owned()),
            None => AskTarget::Fixed(path.map_or_else(|| "/".to_owned(), |path| path.value)),
        };
        // A cookie in an answer is the client's, and the one that the client sent stands beside it.
        let not_copied: &[&[&str]] = &[&OWN_FIELDS, &OWN_REQUEST_FIELDS, &["cookie", "set-cookie"]];
        let not_sent: &[&[&str]] = &[
            &OWN_FIELDS,
            &OWN_REQUEST_FIELDS,
            &["x-forwarded-method", "x-forwarded-uri"],
        ];
        let default = ["authorization", "cookie"];
        let send = names(&section, &SEND_HEADERS, &default, not_sent);
        let authorization = CredentialPlace::Header("authorization".to_owned());
        let sends_authorization = send.iter().any(|name| name == "authorization");
        let challenge = read_challenge(&section, &name.value, &send);
        let cookie = section.find(&COOKIE).map(|name| name.value);
        let credentials = sends_authorization.then_some(authorization);
        let config = ForwardAuthConfig {
            upstream: upstream.unwrap_or_default(),
            method: section.get(&METHOD),
            target,
            send,
            pass: names(
                &section,
                &PASS_HEADERS,
                &["www-authenticate", "location", "set-cookie", "content-type"],
                &[&OWN_FIELDS],
            ),
            copy: names(&section, &COPY_HEADERS, &[], not_copied),
            consumer: section.find(&CONSUMER_HEADER).map(|name| name.value),
            groups: section.find(&GROUPS_HEADER).map(|name| name.value),
            plan: section.find(&PLAN_HEADER).map(|name| name.value),
            credentials: credentials
                .into_iter()
                .chain(cookie.map(CredentialPlace::Cookie))
                .collect(),
            challenge,
            timeout: section.get(&TIMEOUT),
            max_body: section.get(&MAX_BODY),
            lets_in: section.get(&ON_ERROR),
        };
        for (key, is_written) in [
            (GROUPS_HEADER.name, config.groups.is_some()),
            (PLAN_HEADER.name, config.plan.is_some()),
        ] {
            if is_written && config.consumer.is_none() {
                let message = "has no meaning without `consumer_header`";
                section.problem(key, message);
            }
        }
        let authenticator = AuthenticatorConfig {
            name: name.value.clone(),
            forward_credentials: section.get(&FORWARD),
            kind: AuthenticatorKind::Forward(Box::new(config)),
        };
        all.add("forward_auth", &name, &section, authenticator);
    }
}
