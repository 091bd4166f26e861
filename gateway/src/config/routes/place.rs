//! Where a route answers: its hosts and its path, and what another route has taken already.

use std::collections::{HashMap, HashSet};

use crate::config::address::{is_capture_name, parse_host, parse_path, parse_prefix, show_path};
use crate::config::conditions;
use crate::config::key::{List, Optional};
use crate::config::kind::Text;
use crate::config::matching::{
    Conditions, EXTENSION_METHODS_MAX, PATH_CAPTURES_MAX, PATH_REGEXES_PER_HOST_MAX, PathPattern,
    PathTemplate, Pattern, ROUTES_PER_PATH_MAX, TemplateSegment,
};
use crate::config::resolved::HostPattern;
use crate::config::section::{Located, Section};

pub(in crate::config) const HOST_KIND: Text<HostPattern> = Text {
    expects: "a host such as \"api.example.com\" or \"*.example.com\"",
    parse: parse_host,
    show: show_host,
};

pub(super) static HOST: Optional<Text<HostPattern>> = Optional {
    name: "host",
    kind: HOST_KIND,
    absent: "every host",
    text: "The host it serves, without port. `*.example.com` holds every name below `example.com`, not `example.com` itself.",
};

pub(super) static HOSTS: List<Text<HostPattern>> = List {
    name: "hosts",
    item: HOST_KIND,
    text: "Several hosts, in place of `host`.",
};

pub(super) static PATH: Optional<Text<PathPattern>> = Optional {
    name: "path",
    kind: Text {
        expects: "a path such as \"/v1/users\" or \"/v1/users/{id}\"",
        parse: parse_path,
        show: show_path,
    },
    absent: "see `path_prefix`",
    text: "This path alone. `{NAME}` stands for one whole segment that is not empty; at most 8 of them, and at most 64 segments in all.",
};

pub(super) static PATH_PREFIX: Optional<Text<String>> = Optional {
    name: "path_prefix",
    kind: Text {
        expects: "a path such as \"/v1/users\"",
        parse: parse_prefix,
        show: String::clone,
    },
    absent: "without `path`: every path",
    text: "This path and all below it, by whole segments: `/v1` and `/v1/` both hold `/v1`, `/v1/` and `/v1/x`, not `/v10`.",
};

pub(super) static PATH_REGEX: Optional<Text<String>> = Optional {
    name: "path_regex",
    kind: Text {
        expects: "a regular expression such as \"/files/[a-z]+[.]png\"",
        parse: |text| Ok(text.to_owned()),
        show: String::clone,
    },
    absent: "see `path_prefix`",
    text: "Paths that it matches from the first to the last character, in the form that requests are compared in. Linear time in the path, classes of ASCII, at most 1MiB compiled; named groups are captures, at most 8. A host has at most 64, tried one after the other for a request that no `path` serves.",
};

/// Where a route answers: host, path (in lower case where case is ignored), and whether case is ignored.
type Place = (Option<HostPattern>, PathPattern, bool);

/// What earlier routes have taken.
#[derive(Default)]
pub(super) struct Taken {
    /// Names of routes.
    pub(super) names: HashSet<String>,
    /// Routes and their conditions by place.
    places: HashMap<Place, Vec<(Conditions, String)>>,
    /// Regular expressions for paths by host.
    regexes: HashMap<Option<HostPattern>, usize>,
    /// Methods that no standard has.
    methods: HashSet<String>,
}

/// Notes every host and path of a route where an earlier one answers already, or too many do.
pub(super) fn note_taken_places(
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

pub(super) fn read_hosts(section: &Section<'_>) -> Vec<Located<HostPattern>> {
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
pub(super) fn read_path(section: &Section<'_>, ignore_case: bool) -> Option<Located<PathPattern>> {
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

fn show_host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(name) => format!("*{name}"),
    }
}

pub(super) fn note_extension_methods(
    section: &Section<'_>,
    conditions: &Conditions,
    taken: &mut Taken,
) {
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
