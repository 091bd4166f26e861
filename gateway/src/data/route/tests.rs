//! The table against a linear model, and its rules one by one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::RouteTable;
use crate::config::{Action, FixedResponse, HostPattern, PathPattern, RouteConfig};

fn route(hosts: &[&str], path: PathPattern, ignore_case: bool) -> RouteConfig {
    let host = |host: &&str| match host.strip_prefix('*') {
        Some(suffix) => HostPattern::Suffix(suffix.into()),
        None => HostPattern::Exact((*host).into()),
    };
    RouteConfig {
        name: String::new(),
        hosts: hosts.iter().map(host).collect(),
        path,
        ignore_case,
        action: Action::Respond(FixedResponse {
            status: 200,
            headers: vec![],
            body: String::new(),
        }),
        limits: vec![],
        max_body: None,
        timeout: None,
        upgrade: vec![],
    }
}

fn exact(path: &str) -> PathPattern {
    PathPattern::Exact(path.into())
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.into())
}

fn find(table: &RouteTable, host: &str, path: &str) -> Option<usize> {
    table.find(host.as_bytes(), path.as_bytes())
}

/// How specific a route is for a request; `None`: it does not hold it. Greater is more specific.
fn rank(route: &RouteConfig, host: &str, path: &str) -> Option<(usize, bool, usize, bool)> {
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
    let path = fold(path);
    let (is_exact, length) = match &route.path {
        PathPattern::Exact(pattern) => (fold(pattern) == path).then_some((true, pattern.len()))?,
        PathPattern::Prefix(pattern) => {
            let bare = if pattern == "/" {
                String::new()
            } else {
                fold(pattern)
            };
            let holds = path == bare || path.starts_with(&format!("{bare}/"));
            holds.then_some((false, bare.len()))?
        }
    };
    Some((host_rank, is_exact, length, !route.ignore_case))
}

fn model(routes: &[RouteConfig], host: &str, path: &str) -> Option<usize> {
    let ranked = routes.iter().enumerate();
    let ranked = ranked.filter_map(|(index, route)| Some((rank(route, host, path)?, index)));
    ranked.max().map(|(_, index)| index)
}

#[test]
fn prefixes_hold_whole_segments() {
    let table = RouteTable::of(&[route(&[], prefix("/v1"), false)]);
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
    let routes = [
        prefix("/"),
        prefix("/a"),
        prefix("/a/b"),
        exact("/a/b"),
        exact("/a/"),
    ];
    let table = RouteTable::of(&routes.map(|path| route(&[], path, false)));
    for (path, found) in [
        ("/", 0),
        ("/x", 0),
        ("/a", 1),
        ("/a/", 4),
        ("/a/c", 1),
        ("/a/b", 3),
        ("/a/b/", 2),
        ("*", 0),
    ] {
        assert_eq!(find(&table, "h", path), Some(found), "{path}");
    }
}

#[test]
fn hosts_are_asked_from_the_most_specific_and_passed_over_without_a_path() {
    let table = RouteTable::of(&[
        route(&["api.example.com"], prefix("/api"), false),
        route(&["*.example.com"], prefix("/wild"), false),
        route(&["*.eu.example.com"], prefix("/eu"), false),
        route(&[], prefix("/"), false),
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
fn of_two_routes_that_fit_alike_the_one_that_minds_case_wins() {
    let table = RouteTable::of(&[
        route(&[], prefix("/a"), true),
        route(&[], prefix("/a"), false),
        route(&[], exact("/A/b"), true),
    ]);
    for (path, found) in [("/a", 1), ("/A", 0), ("/A/x", 0), ("/a/B", 2), ("/a/x", 1)] {
        assert_eq!(find(&table, "h", path), Some(found), "{path}");
    }
}

#[test]
fn ten_thousand_routes_are_each_found() {
    let hosts: Vec<String> = (0..100)
        .map(|host| format!("h{host}.example.com"))
        .collect();
    let routes: Vec<RouteConfig> = (0..10_000)
        .map(|at| {
            route(
                &[&hosts[at / 100]],
                prefix(&format!("/s{}/p{}", at % 10, at % 100)),
                false,
            )
        })
        .collect();
    let table = RouteTable::of(&routes);
    for at in 0..10_000 {
        let path = format!("/s{}/p{}/x", at % 10, at % 100);
        assert_eq!(find(&table, &hosts[at / 100], &path), Some(at));
    }
    assert_eq!(find(&table, "h1.example.com", "/s1/p2"), None);
    assert_eq!(find(&table, "h100.example.com", "/s0/p0"), None);
}

/// Few words, so that random routes and requests meet.
fn a_path() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("a"), Just("A"), Just("b"), Just("")], 1..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn a_host() -> impl Strategy<Value = String> {
    vec(prop_oneof![Just("x"), Just("y")], 1..4).prop_map(|labels| labels.join("."))
}

fn a_route() -> impl Strategy<Value = RouteConfig> {
    let hosts = vec((a_host(), any::<bool>()), 0..3).prop_map(|hosts| {
        let pattern = |(host, wild): (String, bool)| if wild { format!("*.{host}") } else { host };
        hosts.into_iter().map(pattern).collect::<Vec<_>>()
    });
    (hosts, a_path(), any::<bool>(), any::<bool>()).prop_map(
        |(hosts, path, is_prefix, ignore_case)| {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            route(
                &hosts,
                if is_prefix {
                    prefix(&path)
                } else {
                    exact(&path)
                },
                ignore_case,
            )
        },
    )
}

proptest! {
    #[test]
    fn finds_what_a_linear_search_finds(
        routes in vec(a_route(), 0..12),
        requests in vec((a_host(), a_path()), 1..20),
    ) {
        let table = RouteTable::of(&routes);
        for (host, path) in requests {
            prop_assert_eq!(
                find(&table, &host, &path),
                model(&routes, &host, &path),
                "{} {} {:?}", host, path, routes
            );
        }
    }
}
