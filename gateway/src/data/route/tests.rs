//! The table against a linear model, and its rules one by one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Asked, Captures, Methods, RouteTable, Unmet, Watch};
use crate::config::{ConfigSource, PathPattern, RouteConfig, TemplateSegment, load};
use crate::data::codec::{Fields, RequestRules, Scheme, parse_request};

/// The routes of a configuration, each from the lines that say what it takes.
fn routes(lines: &[impl AsRef<str>]) -> Vec<RouteConfig> {
    let mut text = String::from("listeners = [{ name = 'a', address = '[::]:0' }]\n");
    for (index, lines) in lines.iter().enumerate() {
        let lines = lines.as_ref();
        text += &format!("[[routes]]\nname = 'r{index}'\nrespond = {{}}\n{lines}\n");
    }
    let source = ConfigSource::Text {
        name: "x",
        text: &text,
    };
    load(source, &|_| None)
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
        .routes
}

fn table(lines: &[impl AsRef<str>]) -> RouteTable {
    RouteTable::new(&routes(lines))
}

/// Sees everything.
#[derive(Default)]
struct Seen {
    probes: usize,
    tried: Vec<(usize, Option<Unmet>)>,
}

impl Watch for Seen {
    fn probed(&mut self) {
        self.probes += 1;
    }
    fn tried(&mut self, route: usize, unmet: Option<Unmet>) {
        self.tried.push((route, unmet));
    }
}

/// What a request finds: the route, what its path captured, and how.
struct Outcome {
    route: Result<usize, Methods>,
    captures: Vec<String>,
    seen: Seen,
}

/// A request for `target` with these lines behind its Host.
fn ask(table: &RouteTable, method: &str, host: &str, target: &str, lines: &str) -> Outcome {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let head = head.as_bytes();
    let rules = RequestRules {
        fields_max: 64,
        underscore: crate::config::UnderscoreHeaders::Drop,
        scheme: Scheme::Http,
        rewrite_host: false,
    };
    let mut fields = Fields::new();
    let request = parse_request(head, &rules, &mut fields).unwrap();
    let asked = Asked {
        host: host.as_bytes(),
        path: request.path.of(head),
        query: request.query.map(|query| query.of(head)),
        method: table.method(method.as_bytes()),
        client: [10, 1, 2, 3].into(),
        head,
        fields: &fields,
    };
    let (mut captures, mut seen) = (Captures::default(), Seen::default());
    let route = table.find(&asked, &table.matchers(), &mut captures, &mut seen);
    let text = |number| String::from_utf8(captures.of(number, asked.path).to_vec()).unwrap();
    let captures = (0..8).map(text).collect();
    Outcome {
        route,
        captures,
        seen,
    }
}

fn find(table: &RouteTable, host: &str, path: &str) -> Option<usize> {
    ask(table, "GET", host, path, "").route.ok()
}

fn prefix(path: &str) -> String {
    format!("path_prefix = '{path}'")
}

#[test]
fn prefixes_hold_whole_segments() {
    let table = table(&[prefix("/v1")]);
    for (path, found) in [
        ("/v1", Some(0)),
        ("/v1/", Some(0)),
        ("/v1/x/y", Some(0)),
        ("/v10", None),
        ("/", None),
        ("/x/v1", None),
        ("/V1", None),
    ] {
        assert_eq!(find(&table, "any.example", path), found, "{path}");
    }
}

#[test]
fn exact_wins_over_prefix_and_long_over_short() {
    let table = table(&[
        prefix("/"),
        prefix("/a"),
        prefix("/a/b"),
        "path = '/a/b'".into(),
        "path = '/a/'".into(),
    ]);
    for (path, found) in [
        ("/", 0),
        ("/x", 0),
        ("/a", 1),
        ("/a/", 4),
        ("/a/c", 1),
        ("/a/b", 3),
        ("/a/b/", 2),
    ] {
        assert_eq!(find(&table, "h", path), Some(found), "{path}");
    }
    assert_eq!(ask(&table, "OPTIONS", "h", "*", "").route, Ok(0));
}

#[test]
fn paths_win_by_kind_exact_template_regex_prefix() {
    let table = table(&[
        "path_prefix = '/users/7'",
        "path_regex = '/users/[0-9]+'",
        "path = '/users/{id}'",
        "path = '/users/7'",
        "path_regex = '/[a-z]+(?:/[a-z]+)*[.]png'",
        "path_regex = '/x/.*'",
        "path = '/users/{id}/orders/{order}'",
        "path = '/users/me/{what}/{which}'",
        "path_prefix = '/'",
    ]);
    for (path, found) in [
        ("/users/7", 3),
        ("/users/8", 2),
        ("/users/7/", 0),
        ("/users/", 8),
        ("/x/a", 5),
        // The longer text first.
        ("/x/a.png", 4),
        ("/x/A.png", 5),
        ("/users/me/orders/3", 7),
        ("/users/you/orders/3", 6),
        ("/users//orders/3", 8),
        ("/users/7/orders/3/x", 0),
    ] {
        assert_eq!(find(&table, "h", path), Some(found), "{path}");
    }
}

#[test]
fn captures_are_what_the_path_holds() {
    let table = table(&[
        "path = '/users/{id}/orders/{order}'",
        "path = '/users/me/{what}'\nmethods = ['PUT']",
        "path = '/users/{id}/{what}'\nmethods = ['GET']",
        "path_regex = '/files/(?P<name>[^/]+)(?:[.](?P<kind>png|gif))'",
    ]);
    let captured = |path: &str, count: usize| {
        let outcome = ask(&table, "GET", "h", path, "");
        (outcome.route.unwrap(), outcome.captures[..count].to_vec())
    };
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|&text| text.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        captured("/users/a%2Fb/orders/7", 3),
        (0, texts(&["a%2Fb", "7", ""]))
    );
    // The first try, which its method refused, leaves nothing behind.
    assert_eq!(captured("/users/me/x", 3), (2, texts(&["me", "x", ""])));
    assert_eq!(captured("/files/a.b.png", 2), (3, texts(&["a.b", "png"])));
}

#[test]
fn hosts_are_asked_from_the_most_specific_and_passed_over_without_a_path() {
    let table = table(&[
        "host = 'api.example.com'\npath_prefix = '/api'",
        "host = '*.example.com'\npath_prefix = '/wild'",
        "host = '*.eu.example.com'\npath_prefix = '/eu'",
        "path_prefix = '/'",
    ]);
    for (host, path, found) in [
        ("api.example.com", "/api", 0),
        ("api.example.com", "/wild", 1),
        ("api.example.com", "/other", 3),
        ("a.eu.example.com", "/eu", 2),
        ("a.b.eu.example.com", "/wild", 1),
        ("a.eu.example.com", "/api", 3),
        ("example.com", "/wild", 3),
        (".example.com", "/wild", 3),
        ("notexample.com", "/wild", 3),
        ("", "/wild", 3),
    ] {
        assert_eq!(find(&table, host, path), Some(found), "{host} {path}");
    }
}

#[test]
fn of_two_paths_that_fit_alike_the_one_that_minds_case_wins() {
    let table = table(&[
        "path_prefix = '/a'\nignore_case = true",
        "path_prefix = '/a'",
        "path = '/A/b'\nignore_case = true",
        "path = '/t/{x}/Y'\nignore_case = true",
        "path_regex = '/R[0-9]'\nignore_case = true",
    ]);
    for (path, found) in [
        ("/a", 1),
        ("/A", 0),
        ("/A/x", 0),
        ("/a/B", 2),
        ("/a/x", 1),
        ("/T/Z/y", 3),
        ("/r1", 4),
    ] {
        assert_eq!(find(&table, "h", path), Some(found), "{path}");
    }
}

/// Gateway API, HTTPRouteRule.matches: "Method match. Largest number of header matches. Largest number of query param
/// matches." and then "the FIRST matching rule (in list order)".
#[test]
fn of_routes_with_one_path_the_most_conditions_win_in_the_order_of_the_gateway_api() {
    let table = table(&[
        "",
        "client_networks = ['10.0.0.0/8']",
        "query = { a = '1', b = '2' }",
        "query = { a = '1' }",
        "headers = { x-a = '1' }",
        "headers = { x-a = '1', x-b = '2' }",
        "methods = ['PUT']",
        "methods = ['PUT']\nquery = { a = '1' }",
        "headers_regex = { x-a = '[12]' }",
    ]);
    for (method, target, lines, found) in [
        ("GET", "/", "", 1),
        ("GET", "/?a=1", "", 3),
        ("GET", "/?b=2&a=1", "", 2),
        ("GET", "/?b=2&a=1", "x-a: 1\r\n", 4),
        ("GET", "/?b=2&a=1", "x-a: 2\r\n", 8),
        ("GET", "/", "x-b: 2\r\nX-A:1\r\n", 5),
        ("PUT", "/", "x-b: 2\r\nX-A:1\r\n", 6),
        ("PUT", "/?a=1", "x-b: 2\r\nX-A:1\r\n", 7),
    ] {
        let outcome = ask(&table, method, "h", target, lines);
        assert_eq!(outcome.route, Ok(found), "{method} {target} {lines:?}");
    }
}

#[test]
fn conditions_see_what_the_upstream_will_see() {
    let table = table(&[
        "headers = { x-a = '1' }",
        "query = { 'a b' = 'c&d' }",
        "client_networks = ['10.1.2.4', '2001:db8::/32']",
    ]);
    for (target, lines, found) in [
        ("/", "x-a: 0\r\nx-a: 1\r\n", Ok(0)),
        ("/", "x-a: 1\r\nconnection: x-a\r\n", Err(())),
        ("/", "x-a: 11\r\n", Err(())),
        ("/?a+b=c%26d", "", Ok(1)),
        ("/?%61%20b=0&a%20b=%63%26d", "", Ok(1)),
        ("/?a+b=c&d", "", Err(())),
    ] {
        let outcome = ask(&table, "GET", "h", target, lines);
        assert_eq!(outcome.route.map_err(|_| ()), found, "{target} {lines:?}");
    }
}

#[test]
fn who_takes_get_takes_head_and_what_only_the_method_refuses_says_so() {
    let table = table(&[
        "path = '/a'\nmethods = ['GET', 'PURGE']",
        "path = '/a'\nmethods = ['PUT']",
        "path = '/a'\nmethods = ['DELETE']\nheaders = { x-a = '1' }",
        "host = 'h'\npath_prefix = '/'\nmethods = ['PATCH']",
    ]);
    let refused = |method: &str, host: &str, target: &str| {
        let outcome = ask(&table, method, host, target, "");
        let methods = outcome.route.map_err(|methods| {
            let names = table.method_names(methods);
            let names: Vec<_> = names
                .map(|name| std::str::from_utf8(name).unwrap())
                .collect();
            names.join(" ")
        });
        methods.unwrap_err()
    };
    assert_eq!(ask(&table, "HEAD", "x", "/a", "").route, Ok(0));
    assert_eq!(ask(&table, "PURGE", "x", "/a", "").route, Ok(0));
    // A less specific route takes what the more specific one does not.
    assert_eq!(ask(&table, "PATCH", "h", "/a", "").route, Ok(3));
    assert_eq!(refused("POST", "x", "/a"), "GET HEAD PUT PURGE");
    assert_eq!(refused("POST", "h", "/a"), "GET HEAD PUT PATCH PURGE");
    assert_eq!(refused("purge", "x", "/a"), "GET HEAD PUT PURGE");
    assert_eq!(refused("GET", "x", "/b"), "");
}

#[test]
fn a_watch_sees_every_route_that_was_asked() {
    let table = table(&[
        "path = '/a'\nheaders = { x-a = '1' }",
        "path = '/a'\nmethods = ['PUT']",
        "path_prefix = '/'\nquery = { q = '' }",
        "path_prefix = '/b'",
        "path_prefix = '/'",
    ]);
    assert_eq!(
        ask(&table, "GET", "h", "/a", "").seen.tried,
        [
            (1, Some(Unmet::Method)),
            (0, Some(Unmet::Header(0))),
            (2, Some(Unmet::Query(0))),
            (4, None),
        ]
    );
}

/// Routes of `hosts` hosts with `paths` prefixes, templates and exact paths each.
fn many(hosts: usize, paths: usize) -> Vec<String> {
    let kinds = ["path_prefix = '/s/p", "path = '/t/{id}/p", "path = '/e/f/p"];
    let each = (0..hosts * paths).map(|at| {
        let (host, path) = (at / paths, at % paths);
        format!("host = 'h{host}.example.com'\n{}{path}'", kinds[path % 3])
    });
    each.collect()
}

#[test]
fn ten_thousand_routes_are_each_found_in_the_steps_of_ten() {
    let targets = |path: usize| match path % 3 {
        0 => format!("/s/p{path}/x"),
        1 => format!("/t/7/p{path}"),
        _ => format!("/e/f/p{path}"),
    };
    let most = |hosts: usize, paths: usize| {
        let table = table(&many(hosts, paths));
        let mut most = (0, 0);
        for at in (0..hosts * paths).step_by(if hosts > 1 { 7 } else { 1 }) {
            let host = format!("h{}.example.com", at / paths);
            let outcome = ask(&table, "GET", &host, &targets(at % paths), "");
            assert_eq!(outcome.route, Ok(at));
            most.0 = most.0.max(outcome.seen.probes);
            most.1 = most.1.max(outcome.seen.tried.len());
        }
        assert_eq!(find(&table, "h0.example.com", "/s/q"), None);
        assert_eq!(find(&table, "none.example.com", "/s/p0"), None);
        most
    };
    let (few, all) = (most(1, 10), most(100, 100));
    assert_eq!(few, all, "steps among 10 routes and among 10,000");
    assert!(all.0 <= 8 && all.1 == 1, "{all:?}");
}

/// Few words, so that random routes and requests meet.
fn a_path() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("a"), Just("A"), Just("b"), Just("")], 1..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn a_host() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("x"), Just("y")], 1..4).prop_map(|labels| labels.join("."))
}

/// Lines of a route's path.
fn a_pattern() -> impl Strategy<Value = String> {
    let template = vec(
        prop_oneof![Just("a"), Just("{}"), Just("b"), Just("")],
        1..4,
    )
    .prop_map(|segments| {
        let numbered = segments.iter().enumerate();
        let path: String = numbered
            .map(|(at, segment)| format!("/{}", segment.replace("{}", &format!("{{c{at}}}"))))
            .collect();
        format!("path = '{path}'")
    });
    prop_oneof![
        a_path().prop_map(|path| format!("path = '{path}'")),
        a_path().prop_map(|path| prefix(&path)),
        template,
        prop_oneof![Just("/a.*"), Just("/[ab]"), Just("/.*/a")]
            .prop_map(|regex| format!("path_regex = '{regex}'")),
    ]
}

fn a_route() -> impl Strategy<Value = String> {
    let hosts = vec((a_host(), any::<bool>()), 0..3).prop_map(|mut hosts| {
        hosts.sort();
        hosts.dedup();
        let pattern =
            |(host, wild): (String, bool)| format!("'{}{host}'", if wild { "*." } else { "" });
        match hosts.into_iter().map(pattern).collect::<Vec<_>>() {
            none if none.is_empty() => String::new(),
            hosts => format!("hosts = [{}]\n", hosts.join(", ")),
        }
    });
    let condition = prop_oneof![
        3 => Just(""),
        1 => Just("methods = ['GET']\n"),
        1 => Just("methods = ['PUT']\n"),
        1 => Just("query = { q = '1' }\n"),
        1 => Just("headers = { x-a = '1' }\n"),
    ];
    (hosts, a_pattern(), any::<bool>(), condition).prop_map(
        |(hosts, path, ignore_case, condition)| {
            format!("{hosts}{path}\nignore_case = {ignore_case}\n{condition}")
        },
    )
}

/// How specific a route is for a request, without its conditions; `None`: it does not hold it. Greater is more specific.
fn rank(route: &RouteConfig, host: &str, path: &str) -> Option<impl Ord + use<>> {
    use crate::config::HostPattern;
    let host_rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some(usize::MAX),
        HostPattern::Suffix(name) => {
            (host.len() > name.len() && host.ends_with(name.as_str())).then_some(name.len())
        }
    };
    let host_rank = if route.hosts.is_empty() {
        0
    } else {
        route.hosts.iter().filter_map(host_rank).max()?
    };
    let fold = |text: &str| {
        if route.ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let folded = fold(path);
    let minds = !route.ignore_case;
    // Kind, whether it minds case where that comes before the rest, what is named, whether it minds case.
    let path_rank = match &route.path {
        PathPattern::Exact(pattern) => (fold(pattern) == folded).then_some((3, false, vec![]))?,
        PathPattern::Template(template) => {
            let segments: Vec<&str> = folded.split('/').skip(1).collect();
            let holds = |(pattern, segment): (&TemplateSegment, &&str)| match pattern {
                TemplateSegment::Literal(text) => fold(text) == **segment,
                TemplateSegment::Capture(_) => !segment.is_empty(),
            };
            let fits = segments.len() == template.segments.len()
                && template.segments.iter().zip(&segments).all(holds);
            let literal = |segment: &TemplateSegment| match segment {
                TemplateSegment::Literal(_) => 1,
                TemplateSegment::Capture(_) => 0,
            };
            let named = template.segments.iter().map(literal).collect();
            fits.then_some((2, minds, named))?
        }
        PathPattern::Regex(pattern) => {
            let length = pattern.text().len();
            let fits = pattern.regex().is_match(path.as_bytes());
            fits.then_some((1, false, vec![length]))?
        }
        PathPattern::Prefix(pattern) => {
            let bare = if pattern == "/" {
                String::new()
            } else {
                fold(pattern)
            };
            let holds = folded == bare || folded.starts_with(&format!("{bare}/"));
            holds.then_some((0, false, vec![bare.matches('/').count()]))?
        }
    };
    Some((host_rank, path_rank, minds))
}

fn model(routes: &[RouteConfig], host: &str, path: &str, with_query: bool) -> Option<usize> {
    let ranked = routes.iter().enumerate().filter_map(|(index, route)| {
        let conditions = &route.conditions;
        let fulfilled = conditions.headers.is_empty()
            && (with_query || conditions.query.is_empty())
            && conditions.methods.first().is_none_or(|name| name == "GET");
        let count = (
            conditions.methods.len(),
            conditions.headers.len(),
            conditions.query.len(),
        );
        let rank = rank(route, host, path).filter(|_| fulfilled)?;
        // Of texts of regular expressions that are as long the earlier one, before the conditions.
        let text = match &route.path {
            PathPattern::Regex(pattern) => routes.iter().position(|other| {
                other.ignore_case == route.ignore_case
                    && matches!(&other.path, PathPattern::Regex(same) if same == pattern)
                    && host_is_shared(other, route)
            }),
            _ => None,
        };
        Some((
            (
                rank,
                std::cmp::Reverse(text),
                count,
                std::cmp::Reverse(index),
            ),
            index,
        ))
    });
    ranked.max().map(|(_, index)| index)
}

fn host_is_shared(one: &RouteConfig, other: &RouteConfig) -> bool {
    one.hosts == other.hosts || one.hosts.iter().any(|host| other.hosts.contains(host))
}

proptest! {
    #[test]
    fn finds_what_a_linear_search_finds(
        lines in vec(a_route(), 0..12),
        requests in vec((a_host(), a_path(), any::<bool>()), 1..20),
    ) {
        // What serves the same place under the same conditions is refused when it is read.
        let mut kept: Vec<String> = Vec::new();
        for line in lines {
            kept.push(line);
            if !reads(&kept) {
                kept.pop();
            }
        }
        let routes = routes(&kept);
        let table = RouteTable::new(&routes);
        for (host, path, with_query) in requests {
            let target = if with_query { format!("{path}?q=1") } else { path.clone() };
            prop_assert_eq!(
                find(&table, &host, &target),
                model(&routes, &host, &path, with_query),
                "{} {} {:?}", host, target, kept
            );
        }
    }
}

fn reads(lines: &[String]) -> bool {
    let mut text = String::from("listeners = [{ name = 'a', address = '[::]:0' }]\n");
    for (index, lines) in lines.iter().enumerate() {
        text += &format!("[[routes]]\nname = 'r{index}'\nrespond = {{}}\n{lines}\n");
    }
    let source = ConfigSource::Text {
        name: "x",
        text: &text,
    };
    load(source, &|_| None).is_ok()
}
