//! The requests that a configuration asks for: one kind for each route, as a scenario of `ringgate-load`.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::example::example;
use crate::config::{
    Action, Config, FilterConfig, FilterMode, HostPattern, LimitMode, PathPattern, RouteConfig,
    TemplateSegment, ValuePattern,
};
use crate::data::explain::End;
use crate::explain::Explainer;

/// A request that a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) route: String,
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// Fields, `Host` among them.
    pub(super) headers: Vec<(String, String)>,
    /// Statuses that are results.
    pub(super) expect: Vec<u16>,
    /// Indices of the route's limits.
    pub(super) limits: Vec<usize>,
}

/// What can be sent, and the routes for which nothing was found, with the reason.
#[derive(Debug, Default)]
pub(super) struct Mix {
    pub(super) samples: Vec<Sample>,
    pub(super) left_out: Vec<(String, String)>,
}

impl Mix {
    /// A request for each route, with `added` fields, that the first listener would serve by this route. `config` as it will be
    /// served. The error is a line about what in it cannot be had here.
    pub(super) fn of(config: &Config, added: &[(String, String)]) -> Result<Self, String> {
        let explainer = Explainer::new(config)?;
        let mut mix = Self::default();
        for (index, route) in config.routes.iter().enumerate() {
            let sample = sample(config, route, added)
                .map_err(str::to_owned)
                .and_then(|sample| sample.served_by(index, config, &explainer));
            match sample {
                Ok(sample) => mix.samples.push(sample),
                Err(why) => mix.left_out.push((route.name.clone(), why)),
            }
        }
        Ok(mix)
    }

    /// Each route that is left out and why, a line each.
    pub(super) fn reasons(&self) -> String {
        let lines = self.left_out.iter();
        let lines = lines.map(|(route, why)| format!("\n  {route}: {why}"));
        lines.collect()
    }

    /// The file that `ringgate-load --scenario` reads.
    pub(super) fn scenario(&self) -> String {
        let mut text = String::new();
        for sample in &self.samples {
            let headers: Vec<String> = sample
                .headers
                .iter()
                .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
                .collect();
            let written = writeln!(
                text,
                "[[requests]]\nname = {}\nmethod = {}\npath = {}\nheaders = {{ {} }}\nexpect = {:?}",
                quoted(&sample.route),
                quoted(&sample.method),
                quoted(&sample.path),
                headers.join(", "),
                sample.expect
            );
            debug_assert!(written.is_ok(), "writing to a string does not fail");
        }
        text
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Sample {
    /// Itself, if it comes to this route and is not refused; else what comes of it.
    fn served_by(
        self,
        index: usize,
        config: &Config,
        explainer: &Explainer,
    ) -> Result<Self, String> {
        let explanation = explainer.explain(0, Ipv4Addr::LOCALHOST.into(), &self.head());
        if let Some(other) = explanation.route
            && other != index
        {
            let name = config.routes.get(other).map_or("", |route| &*route.name);
            return Err(format!("the request made up for it is served by `{name}`"));
        }
        let End::Refused { status, reason, .. } = explanation.end else {
            return Ok(self);
        };
        let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let auth = config
            .routes
            .get(index)
            .is_some_and(|route| !route.access.auth.is_empty());
        let hint = match auth && explanation.route.is_some() {
            true => "; it asks for credentials: add them with -H",
            false => "",
        };
        Err(format!(
            "the request made up for it is refused: {status}, {reason}{hint}"
        ))
    }

    fn head(&self) -> Vec<u8> {
        let Self { method, path, .. } = self;
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n"));
        let fields: String = fields.collect();
        format!("{method} {path} HTTP/1.1\r\n{fields}\r\n").into_bytes()
    }
}

/// A request for `route` with `added` fields, or why none can be made up.
fn sample(
    config: &Config,
    route: &RouteConfig,
    added: &[(String, String)],
) -> Result<Sample, &'static str> {
    let loopback: IpNet = "127.0.0.0/8".parse().map_err(|_| "no loopback network")?;
    let networks = &route.conditions.client_networks;
    if !networks.is_empty() && !networks.iter().any(|network| network.contains(&loopback)) {
        return Err("clients of other networks only");
    }
    let status = match &route.action {
        Action::Upstream(_) | Action::Split(_) => 200,
        Action::Respond(fixed) => fixed.status,
        Action::Redirect(redirect) => redirect.status,
    };
    let refusals = route.limits.iter().filter_map(|&index| {
        let limit = config.limits.get(index)?;
        (limit.mode == LimitMode::Enforce).then_some(limit.status)
    });
    Ok(Sample {
        route: route.name.clone(),
        method: method(config, route)?,
        path: path(route)?,
        headers: headers(config, route, added)?,
        expect: std::iter::once(status).chain(refusals).collect(),
        limits: route.limits.clone(),
    })
}

fn filters<'a>(
    config: &'a Config,
    route: &'a RouteConfig,
) -> impl Iterator<Item = &'a FilterConfig> {
    let named = route.filters.filters.iter();
    let named = named.filter_map(|&index| config.filters.get(index));
    named.filter(|filter| filter.mode == FilterMode::Enforce)
}

/// One that the route and its filters let in, best GET.
fn method(config: &Config, route: &RouteConfig) -> Result<String, &'static str> {
    let lists = filters(config, route).map(|filter| &filter.methods);
    let lists = lists.chain([&route.conditions.methods]);
    let lists: Vec<&Vec<String>> = lists.filter(|list| !list.is_empty()).collect();
    let in_all = |method: &&str| lists.iter().all(|list| list.iter().any(|it| it == method));
    let named = lists
        .iter()
        .flat_map(|list| list.iter().map(String::as_str));
    let found = std::iter::once("GET").chain(named).find(in_all);
    found
        .map(str::to_owned)
        .ok_or("no method that it and its filters let in")
}

/// What the route and its filters ask for, and what is added, which stands in for fields of that name.
fn headers(
    config: &Config,
    route: &RouteConfig,
    added: &[(String, String)],
) -> Result<Vec<(String, String)>, &'static str> {
    let host = match route.hosts.first() {
        None => "localhost".to_owned(),
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Suffix(suffix)) => format!("bench{suffix}"),
    };
    let mut headers = vec![("Host".to_owned(), host)];
    let is_there = |headers: &[(String, String)], name: &str| {
        let mut all = headers.iter().chain(added);
        all.any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    const NO_VALUE: &str = "a header field by a regular expression for which no value was found";
    for header in &route.conditions.headers {
        if is_there(&headers, &header.name) {
            continue;
        }
        let value = match &header.value {
            ValuePattern::Exact(value) => value.clone(),
            ValuePattern::Regex(pattern) => example(pattern).ok_or(NO_VALUE)?,
        };
        headers.push((header.name.clone(), value));
    }
    for (name, pattern) in filters(config, route).flat_map(|filter| &filter.required_headers) {
        if !is_there(&headers, name) {
            headers.push((name.clone(), example(pattern).ok_or(NO_VALUE)?));
        }
    }
    // The load generator takes it for a place in a template, which only a person can mean.
    if headers.iter().any(|(_, value)| value.contains("${")) {
        return Err("a header field with `${`");
    }
    headers.retain(|(name, _)| {
        !added
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    });
    headers.extend_from_slice(added);
    Ok(headers)
}

fn path(route: &RouteConfig) -> Result<String, &'static str> {
    let mut path = match &route.path {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path.clone(),
        PathPattern::Template(template) => {
            let segments = template.segments.iter().map(|segment| match segment {
                TemplateSegment::Literal(text) => format!("/{text}"),
                TemplateSegment::Capture(_) => "/x".to_owned(),
            });
            segments.collect()
        }
        PathPattern::Regex(pattern) => {
            let plain = |text: &String| {
                let mark = |byte| b"-._~/:@!$&'()*+,;=".contains(&byte);
                text.starts_with('/')
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
            };
            let found = example(pattern).filter(plain);
            found.ok_or("a path by a regular expression for which none was found")?
        }
    };
    for (index, (name, value)) in route.conditions.query.iter().enumerate() {
        let sign = if index == 0 { '?' } else { '&' };
        path.push_str(&format!("{sign}{}={}", escaped(name), escaped(value)));
    }
    // The load generator takes it for a place in a template.
    if path.contains("${") {
        return Err("a path with `${`");
    }
    Ok(path)
}

/// As a part of a query (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let octet = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(octet).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::{ConfigSource, entry, load};

    const CONFIG: &str = r#"
        version = 1
        [[listeners]]
        name = "web"
        address = "127.0.0.1:0"
        [upstreams.u]
        endpoints = [{ address = "10.0.0.1:80" }]
        [limits.strict]
        rate = "1/s"
        status = 503
        [limits.soft]
        rate = "1/s"
        mode = "shadow"
        [[routes]]
        name = "api"
        hosts = ["*.example.com"]
        path = "/users/{id}/posts"
        methods = ["POST", "PUT"]
        headers = { x-version = "2" }
        query = { a = "1", b = "two" }
        limits = ["strict", "soft"]
        upstream = "u"
        [[routes]]
        name = "teapot"
        path = "/tea"
        respond = { status = 418 }
        [[routes]]
        name = "pattern"
        path_regex = "/p[0-9]+"
        upstream = "u"
        [filters.strict]
        methods = ["DELETE", "PATCH"]
        required_headers = { x-token = "t-[a-z]{4}" }
        [[routes]]
        name = "filtered"
        path = "/filtered"
        methods = ["PATCH", "PUT"]
        query = { "a b" = "c&d" }
        filters = ["strict"]
        upstream = "u"
        [[routes]]
        name = "odd"
        path_regex = "/a\\\\bb"
        upstream = "u"
        [[routes]]
        name = "hidden"
        path_regex = "/tea?"
        upstream = "u"
        [[routes]]
        name = "shadowed"
        path_prefix = "/tea2"
        filters = ["watched"]
        upstream = "u"
        [filters.watched]
        methods = ["DELETE"]
        mode = "shadow"
        [filters.never]
        forbidden_headers = { host = ".*" }
        [[routes]]
        name = "refused"
        path = "/refused"
        filters = ["never"]
        upstream = "u"
        [api_keys.keys]
        file = "KEYS"
        [[routes]]
        name = "keyed"
        path = "/keyed"
        auth = ["keys"]
        upstream = "u"
        [[routes]]
        name = "inside"
        path = "/inside"
        client_networks = ["10.0.0.0/8"]
        upstream = "u"
    "#;

    fn mix_of(text: &str, added: &[(&str, &str)]) -> Mix {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringgate-mix-{}-{number}", std::process::id());
        let [file, keys] = ["toml", "keys"].map(|kind| {
            let path = std::env::temp_dir().join(&name);
            path.with_extension(kind)
        });
        std::fs::write(&keys, entry("ann", KEY.as_bytes()).unwrap()).unwrap();
        let text = text.replace("KEYS", keys.to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        let config = load(ConfigSource::File(&file), &|_| None);
        drop((std::fs::remove_file(&file), std::fs::remove_file(&keys)));
        Mix::of(&config.unwrap(), &fields(added)).unwrap()
    }

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        fields.iter().map(owned).collect()
    }

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn each_route_gets_a_request_that_it_serves_or_a_reason() {
        let mix = mix_of(CONFIG, &[]);
        let [api, tea, pattern, filtered, shadowed] = mix.samples.as_slice() else {
            panic!("{mix:#?}")
        };
        assert_eq!(
            (api.method.as_str(), api.path.as_str()),
            ("POST", "/users/x/posts?a=1&b=two")
        );
        let expected = fields(&[("Host", "bench.example.com"), ("x-version", "2")]);
        assert_eq!(api.headers, expected);
        assert_eq!(api.expect, [200, 503], "a shadow refuses nothing");
        assert_eq!((tea.method.as_str(), &tea.expect[..]), ("GET", &[418][..]));
        assert_eq!(pattern.path, "/p0");
        assert_eq!(
            (filtered.method.as_str(), filtered.path.as_str()),
            ("PATCH", "/filtered?a%20b=c%26d")
        );
        assert_eq!(
            filtered.headers,
            fields(&[("Host", "localhost"), ("x-token", "t-aaaa")])
        );
        assert_eq!(shadowed.path, "/tea2");
        let left_out: Vec<_> = mix.left_out.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left_out, ["odd", "hidden", "refused", "keyed", "inside"]);
        for (name, why) in [
            ("inside", "clients of other networks only"),
            ("odd", "for which none was found"),
            ("hidden", "is served by `teapot`"),
            ("refused", "is refused: 403, header_denied"),
            (
                "keyed",
                "is refused: 401, credentials_missing; it asks for credentials: add them with -H",
            ),
        ] {
            assert!(
                mix.reasons().contains(&format!("\n  {name}: ")),
                "{}",
                mix.reasons()
            );
            assert!(mix.reasons().contains(why), "{why} in {}", mix.reasons());
        }
        let scenario: toml::Table = toml::from_str(&mix.scenario()).unwrap();
        assert_eq!(scenario["requests"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn fields_that_are_added_stand_in_for_what_is_made_up_and_for_credentials() {
        let added = [
            ("X-Token", "t-mine"),
            ("x-api-key", KEY),
            ("host", "a.example.com"),
        ];
        let mix = mix_of(CONFIG, &added);
        let of = |name: &str| {
            let mut all = mix.samples.iter();
            all.find(|sample| sample.route == name)
                .unwrap_or_else(|| panic!("{name}: {mix:#?}"))
        };
        assert_eq!(of("filtered").headers, fields(&added));
        assert_eq!(of("keyed").headers, fields(&added));
        let api = of("api").headers.clone();
        assert_eq!(
            api,
            [fields(&[("x-version", "2")]), fields(&added)].concat()
        );
        // A wrong value is told as what would come of it.
        let mix = mix_of(CONFIG, &[("x-token", "wrong"), ("x-api-key", "wrong")]);
        let reasons = mix.reasons();
        assert!(
            reasons.contains("filtered: the request made up for it is refused: 400"),
            "{reasons}"
        );
        assert!(
            reasons.contains("keyed: the request made up for it is refused: 401"),
            "{reasons}"
        );
    }
}
