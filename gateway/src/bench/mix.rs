//! The requests that a configuration asks for: one kind for each route, as a scenario of `ringgate-load`.

use std::fmt::Write;

use ipnet::IpNet;

use crate::config::{
    Action, Config, HostPattern, LimitMode, PathPattern, RouteConfig, TemplateSegment, ValuePattern,
};

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
    pub(super) left_out: Vec<(String, &'static str)>,
}

impl Mix {
    pub(super) fn of(config: &Config) -> Self {
        let mut mix = Self::default();
        for route in &config.routes {
            match sample(config, route) {
                Ok(sample) => mix.samples.push(sample),
                Err(why) => mix.left_out.push((route.name.clone(), why)),
            }
        }
        mix
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

/// A request for `route`, or why none can be made up.
fn sample(config: &Config, route: &RouteConfig) -> Result<Sample, &'static str> {
    let host = match route.hosts.first() {
        None => "localhost".to_owned(),
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Suffix(suffix)) => format!("bench{suffix}"),
    };
    let mut headers = vec![("Host".to_owned(), host)];
    let conditions = &route.conditions;
    for header in &conditions.headers {
        match &header.value {
            ValuePattern::Exact(value) => headers.push((header.name.clone(), value.clone())),
            ValuePattern::Regex(_) => return Err("a header field by a regular expression"),
        }
    }
    let loopback: IpNet = "127.0.0.0/8".parse().map_err(|_| "no loopback network")?;
    let networks = &conditions.client_networks;
    if !networks.is_empty() && !networks.iter().any(|network| network.contains(&loopback)) {
        return Err("clients of other networks only");
    }
    let access = &route.access;
    if !access.auth.is_empty() && (!access.optional || !access.groups.is_empty()) {
        return Err("callers with credentials only");
    }
    let method = match conditions.methods.first() {
        Some(_) if conditions.methods.iter().any(|method| method == "GET") => "GET",
        Some(first) => first,
        None => "GET",
    };
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
        method: method.to_owned(),
        path: path(route)?,
        headers,
        expect: std::iter::once(status).chain(refusals).collect(),
        limits: route.limits.clone(),
    })
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
        PathPattern::Regex(_) => return Err("a path by a regular expression"),
    };
    for (index, (name, value)) in route.conditions.query.iter().enumerate() {
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        if !plain(name) || !plain(value) {
            return Err("a query that needs escapes");
        }
        let sign = if index == 0 { '?' } else { '&' };
        path.push_str(&format!("{sign}{name}={value}"));
    }
    // The load generator takes it for a place in a template.
    if path.contains("${") {
        return Err("a path with `${`");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, load};

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
        [[routes]]
        name = "inside"
        path = "/inside"
        client_networks = ["10.0.0.0/8"]
        upstream = "u"
    "#;

    #[test]
    fn each_route_gets_a_request_or_a_reason() {
        let file = std::env::temp_dir().join(format!("ringgate-mix-{}.toml", std::process::id()));
        std::fs::write(&file, CONFIG).unwrap();
        let config = load(ConfigSource::File(&file), &|_| None);
        std::fs::remove_file(&file).unwrap();
        let mix = Mix::of(&config.unwrap());
        let [api, tea] = mix.samples.as_slice() else {
            panic!("{mix:?}")
        };
        assert_eq!(
            (api.method.as_str(), api.path.as_str()),
            ("POST", "/users/x/posts?a=1&b=two")
        );
        let fields = [("Host", "bench.example.com"), ("x-version", "2")];
        assert_eq!(
            api.headers,
            fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(api.expect, [200, 503], "a shadow refuses nothing");
        assert_eq!((tea.method.as_str(), &tea.expect[..]), ("GET", &[418][..]));
        assert_eq!(
            mix.left_out,
            [
                ("pattern".to_owned(), "a path by a regular expression"),
                ("inside".to_owned(), "clients of other networks only"),
            ]
        );
        let scenario: toml::Table = toml::from_str(&mix.scenario()).unwrap();
        assert_eq!(scenario["requests"].as_array().unwrap().len(), 2);
    }
}
