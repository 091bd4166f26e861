//! What each filter and each other thing that a route can ask for costs: the step of a request that it belongs to, with and without
//! it, and all steps with all that issues of a gateway's users come down to. Where nothing is configured a step is `none` or `bare`.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "benchmarks; their files are written before anything is measured"
)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::config::{ConfigSource, entry, load};
use gateway::data::explain::Question;
use gateway::data::plan::{Addresses, Plan};
use gateway::data::rehearse::{Rehearsal, Step};
use gateway::data::upstream::AddressCell;
use limiter::KeyHasher;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
/// Among which a client is looked up.
const PREFIXES: u32 = 100_000;
const API_KEYS: u32 = 10_000;
/// Before the tokens of the tests end.
const UNIX_SECONDS: u64 = 1_764_000_000;
/// Of `secret`.
const BCRYPT: &str = "$2y$08$abcdefghijklmnopqrstuuKxCcvB7KZ7.BpDoK0bh6qM7Dl1/xiJa";

/// A request to a configuration of one route, and the step that is measured.
#[derive(Clone, Default)]
struct Case {
    name: &'static str,
    step: Option<Step>,
    /// Keys of the listener.
    listener: &'static str,
    /// Sections of the configuration.
    sections: String,
    /// Keys of the route, besides its upstream.
    route: &'static str,
    /// Request line; empty: that of most.
    line: &'static str,
    /// Field lines besides those of most.
    fields: String,
    /// Why the request ends at this step; empty: it does not.
    ends: &'static str,
}

struct NoNames;

impl Addresses for NoNames {
    fn cell(&mut self, _host: &str, _port: u16) -> AddressCell {
        unreachable!("the upstream of these benchmarks is an address")
    }

    fn demo(&self) -> Option<SocketAddr> {
        None
    }
}

impl Case {
    fn of(step: Step, name: &'static str) -> Self {
        Self {
            name,
            step: Some(step),
            ..Self::default()
        }
    }

    fn plan(&self) -> Plan {
        let Self {
            listener,
            sections,
            route,
            ..
        } = self;
        let text = format!(
            "listeners = [{{ name = 'web', address = '127.0.0.1:1', {listener} }}]\n\
             [upstreams.be]\nendpoints = [{{ address = '127.0.0.1:1' }}]\n{sections}\n\
             [[routes]]\nname = 'all'\nupstream = 'be'\n{route}\n"
        );
        let source = ConfigSource::Text {
            name: self.name,
            text: &text,
        };
        let config = load(source, &|_| None).unwrap_or_else(|errors| unreachable!("{errors}"));
        let hasher = KeyHasher::with_secret(7);
        Plan::new(&config, 1, hasher, Instant::now(), &mut NoNames).expect("a plan")
    }

    fn head(&self) -> String {
        let line = match self.line {
            "" => "GET /service-7/items/4711 HTTP/1.1",
            line => line,
        };
        format!(
            "{line}\r\nHost: api.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
             X-Client: 4711\r\n{}\r\n",
            self.fields
        )
    }

    fn measure(&self, criterion: &mut Criterion) {
        let (plan, head) = (self.plan(), self.head());
        let question = Question {
            listener: 0,
            peer: CLIENT,
            head: head.as_bytes(),
            at: Instant::now(),
            unix_seconds: UNIX_SECONDS,
        };
        let mut rehearsal = Rehearsal::new(&plan, question);
        let mut take = move |step: Option<Step>| match step {
            Some(step) => rehearsal.take(step),
            None => rehearsal.take_all(),
        };
        let before = Step::ALL
            .iter()
            .take_while(|step| Some(**step) != self.step);
        let (name, ends) = (self.name, self.ends);
        for step in before.filter(|_| self.step.is_some()) {
            assert_eq!(take(Some(*step)), Ok(()), "{name}: {step:?}");
        }
        let expected = if ends.is_empty() { Ok(()) } else { Err(ends) };
        assert_eq!(take(self.step), expected, "{name}");
        criterion.bench_function(name, |bencher| bencher.iter(|| take(self.step)));
    }
}

/// A file of this benchmark's, in the build's own folder.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("filters-{name}"));
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

/// A list of networks, none of which holds the client.
fn networks() -> String {
    let mut text = String::new();
    for number in 0..PREFIXES {
        let address = Ipv4Addr::from(0x2000_0000 + number * 0x1234);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}/{}", 30 + number % 3);
    }
    let file = file("networks", &text);
    format!("[network_lists.known]\ndeny_file = '{file}'\notherwise = 'allow'\n")
}

fn api_keys() -> String {
    let line = |number: u32| entry("mobile", format!("benchmark-key-{number:08}").as_bytes());
    let lines: String = (0..API_KEYS)
        .map(|number| line(number).expect("a key") + "\n")
        .collect();
    let file = file("keys", &lines);
    format!("[api_keys.partners]\nfile = '{file}'\n")
}

/// The tests' keys and tokens.
fn jwt(cache: u32) -> String {
    format!(
        "[jwt.main]\nissuer = 'https://id.test/'\naudience = 'https://api.test'\ncache = {cache}\n\
         jwks_file = '{}/../gateway/tests/keys/jwks.json'\n",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn bearer(name: &str) -> String {
    const TOKENS: &str = include_str!("../../gateway/tests/keys/tokens.txt");
    let mut named = TOKENS.lines().filter_map(|line| line.split_once(' '));
    let found = named.find(|(each, _)| *each == name);
    format!("Authorization: Bearer {}\r\n", found.expect("a token").1)
}

fn basic() -> String {
    let file = file("users", &format!("ann:{BCRYPT}\n"));
    format!("[basic_auth.people]\nfile = '{file}'\n")
}

const LIMITS: &str = "[limits.a]\nkey = 'header:X-Client'\nrate = '1000000000/s'\n\
    [limits.b]\nkey = ['client_ip', 'route']\nrate = '1000000000/s'\n";
const CORS: &str = "[cors.pages]\norigins = ['https://app.example.org', 'https://*.example.net']\n\
    methods = ['GET', 'PUT']\nheaders = ['content-type', 'x-client']\nmax_age = '1h'\n";
const ORIGIN: &str = "Origin: https://app.example.org\r\n";
const EDITS_UP: &str = "request_headers = { set = { x-env = 'production', x-real-ip = '${client.address}' }, \
    add = { x-seen-by = 'ringgate' }, remove = ['x-client', 'x-debug'] }";
const EDITS_DOWN: &str = "response_headers = { set = { x-served-by = 'ringgate', cache-control = 'no-store' }, \
    add = { x-request = '${request.id}' }, remove = ['server', 'x-powered-by'] }";

fn cases() -> Vec<Case> {
    let mut cases = finding();
    cases.extend(filters());
    cases.extend(callers());
    cases.extend(heads());
    cases.extend(whole());
    cases
}

fn finding() -> Vec<Case> {
    let of = |name| Case::of(Step::Understand, name);
    vec![
        of("understand/bare"),
        Case {
            route: "path = '/{service}/items/{id}'",
            ..of("understand/template")
        },
        Case {
            line: "GET /./service-7//items/../items/%34711 HTTP/1.1",
            ..of("understand/path_normalised")
        },
        Case {
            listener: "hosts = ['a.example.com', 'api.example.com', 'b.example.com', '*.example.org']",
            ..of("understand/host_list")
        },
        Case {
            listener: "ban = 'noisy'",
            sections: "[bans.noisy]\n".into(),
            ..of("understand/ban")
        },
    ]
}

fn filters() -> Vec<Case> {
    let filter = |name, lines: &str| Case {
        sections: format!("[filters.shape]\n{lines}\n"),
        route: "filters = ['shape']",
        ..Case::of(Step::Filters, name)
    };
    vec![
        Case::of(Step::Networks, "networks/none"),
        Case {
            sections: networks(),
            route: "network_lists = ['known']",
            ..Case::of(Step::Networks, "networks/100000_prefixes")
        },
        Case::of(Step::Cors, "cors/none"),
        Case {
            sections: CORS.into(),
            route: "cors = 'pages'",
            ..Case::of(Step::Cors, "cors/no_origin")
        },
        Case {
            sections: CORS.into(),
            route: "cors = 'pages'",
            fields: ORIGIN.into(),
            ..Case::of(Step::Cors, "cors/simple")
        },
        Case {
            sections: CORS.into(),
            route: "cors = 'pages'",
            line: "OPTIONS /service-7/items/4711 HTTP/1.1",
            fields: format!(
                "{ORIGIN}Access-Control-Request-Method: PUT\r\n\
                 Access-Control-Request-Headers: content-type,x-client\r\n"
            ),
            ..Case::of(Step::Cors, "cors/preflight")
        },
        Case::of(Step::Filters, "filters/none"),
        filter("filters/method", "methods = ['PUT', 'POST', 'GET']"),
        Case {
            ends: "method_denied",
            ..filter("filters/method_refused", "methods = ['PUT', 'POST']")
        },
        Case {
            line: "POST /service-7/items/4711 HTTP/1.1",
            fields: "Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n".into(),
            ..filter(
                "filters/content_type",
                "content_types = ['text/plain', 'application/json']",
            )
        },
        filter(
            "filters/header_required",
            "required_headers = { x-client = '[0-9]{1,8}' }",
        ),
        filter(
            "filters/header_forbidden",
            "forbidden_headers = { user-agent = '.*sqlmap.*' }",
        ),
    ]
}

fn callers() -> Vec<Case> {
    let of = |name| Case::of(Step::Identify, name);
    let token = |name, cache, token| Case {
        sections: jwt(cache),
        route: "auth = ['main']",
        fields: bearer(token),
        ..of(name)
    };
    let limits = |name, route| Case {
        sections: LIMITS.into(),
        route,
        ..Case::of(Step::Limits, name)
    };
    vec![
        of("identify/none"),
        Case {
            sections: api_keys(),
            route: "auth = ['partners']",
            fields: "X-API-Key: benchmark-key-00004711\r\n".into(),
            ..of("identify/api_key_of_10000")
        },
        Case {
            sections: api_keys(),
            route: "auth = ['partners']",
            fields: "X-API-Key: benchmark-key-99999999\r\n".into(),
            ends: "api_key_unknown",
            ..of("identify/api_key_refused")
        },
        token("identify/jwt_remembered", 1024, "ES256"),
        token("identify/jwt_verified_es256", 0, "ES256"),
        token("identify/jwt_verified_rs256", 0, "RS256"),
        Case {
            sections: basic(),
            route: "auth = ['people']",
            fields: "Authorization: Basic YW5uOnNlY3JldA==\r\n".into(),
            ..of("identify/basic_remembered")
        },
        Case::of(Step::Limits, "limits/none"),
        limits("limits/one", "limits = ['a']"),
        limits("limits/two", "limits = ['a', 'b']"),
    ]
}

fn heads() -> Vec<Case> {
    let rewrite =
        "path = '/{service}/items/{id}'\nrewrite = { path = '/v2/${path.service}/${path.id}' }";
    vec![
        Case::of(Step::Action, "action/none"),
        Case {
            route: rewrite,
            ..Case::of(Step::Action, "action/path_rewritten")
        },
        Case::of(Step::Request, "request/bare"),
        Case {
            route: EDITS_UP,
            ..Case::of(Step::Request, "request/five_edits")
        },
        Case::of(Step::Response, "response/bare"),
        Case {
            route: EDITS_DOWN,
            ..Case::of(Step::Response, "response/five_edits")
        },
        Case {
            sections: "[security_headers.careful]\n".into(),
            route: "security_headers = 'careful'",
            ..Case::of(Step::Response, "response/security_headers")
        },
        Case {
            sections: CORS.into(),
            route: "cors = 'pages'",
            fields: ORIGIN.into(),
            ..Case::of(Step::Response, "response/cors")
        },
    ]
}

/// What the aim of 1.0 µs is about: a template, a token that is remembered, two limits, five edits of fields and a list of networks.
fn whole() -> Vec<Case> {
    let all = Case {
        name: "all/asked_for",
        sections: networks() + &jwt(1024) + LIMITS,
        route: "path = '/{service}/items/{id}'\nnetwork_lists = ['known']\nauth = ['main']\nlimits = ['a', 'b']\n\
            request_headers = { set = { x-env = 'production', x-real-ip = '${client.address}' }, remove = ['x-debug'] }\n\
            response_headers = { set = { x-served-by = 'ringgate' }, remove = ['x-powered-by'] }",
        fields: bearer("ES256"),
        ..Case::default()
    };
    let bare = Case {
        name: "all/bare",
        ..Case::default()
    };
    let token_unasked = Case {
        name: "all/bare_with_that_head",
        fields: all.fields.clone(),
        ..Case::default()
    };
    vec![bare, token_unasked, all]
}

fn run(criterion: &mut Criterion) {
    cases().iter().for_each(|case| case.measure(criterion));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = run
}
criterion_main!(benches);
