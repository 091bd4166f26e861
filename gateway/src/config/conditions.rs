//! `routes.methods`, `headers`, `query` and `client_networks`: what a route asks of a request besides host and path.

use ipnet::IpNet;

use super::key::{List, Nested};
use super::kind::Text;
use super::limit_key::{network, token};
use super::matching::{
    CLIENT_NETWORKS_MAX, CONDITIONS_MAX, Conditions, HeaderCondition, Pattern, ValuePattern,
};
use super::respond::parse_value;
use super::section::{Located, Section};

/// Methods of RFC 9110 and 5789, but for CONNECT and TRACE, which the gateway does not take.
pub(super) const STANDARD_METHODS: [&str; 7] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Longest name or value of a query parameter, in bytes.
const QUERY_BYTES_MAX: usize = 1024;

pub(super) static METHODS: List<Text<String>> = List {
    name: "methods",
    item: Text {
        expects: "a method such as \"GET\"",
        parse: parse_method,
        show: String::clone,
    },
    text: "Only requests with one of these methods, at most 16; `GET` holds HEAD too. Empty: any. Where only the method keeps a request from every route the answer is 405 with `Allow`.",
};

pub(super) static HEADERS: Nested = Nested {
    name: "headers",
    expects: "a table such as { x-version = \"2\" }",
    absent: "any",
    text: "Only requests with each of these header fields, at most 16 with those of `headers_regex`. Of a field that is there several times any line will do. Each costs a look at every field of the request.",
};

pub(super) static HEADERS_REGEX: Nested = Nested {
    name: "headers_regex",
    expects: "a table such as { user-agent = \".*Firefox.*\" }",
    absent: "any",
    text: "The same by regular expressions, which must match the whole value.",
};

pub(super) static QUERY: Nested = Nested {
    name: "query",
    expects: "a table such as { v = \"2\" }",
    absent: "any",
    text: "Only requests with each of these query parameters, at most 16; compared decoded. Of a parameter that is there several times any value will do.",
};

pub(super) static CLIENT_NETWORKS: List<Text<IpNet>> = List {
    name: "client_networks",
    item: Text {
        expects: "an address or network such as \"10.0.0.0/8\"",
        parse: network,
        show: IpNet::to_string,
    },
    text: "Only clients with an address in one of these, at most 1024. One search by halves.",
};

/// Reads all of them.
pub(super) fn read(section: &Section<'_>) -> Conditions {
    section.warn_near(METHODS.name, &STANDARD_METHODS);
    let mut methods = values(
        section,
        METHODS.name,
        CONDITIONS_MAX,
        section.list(&METHODS),
    );
    methods.sort_unstable();
    let networks = section.list(&CLIENT_NETWORKS);
    Conditions {
        methods,
        headers: read_headers(section),
        query: read_query(section),
        client_networks: values(section, CLIENT_NETWORKS.name, CLIENT_NETWORKS_MAX, networks),
    }
}

/// The values of a list, which may be empty; notes what is there twice, and too many.
pub(super) fn values<T: PartialEq + Clone + ToString>(
    section: &Section<'_>,
    key: &str,
    max: usize,
    list: Vec<Located<T>>,
) -> Vec<T> {
    if list.len() > max {
        section.problem(key, format!("at most {max}; found {}", list.len()));
        return Vec::new();
    }
    let mut chosen: Vec<T> = Vec::new();
    for each in list {
        if chosen.contains(&each.value) {
            let (at, shown) = (each.at, each.map(|value| value.to_string()).shown());
            section.problem_at(at, key, format!("{shown} is there twice"));
        } else {
            chosen.push(each.value);
        }
    }
    chosen
}

fn read_headers(section: &Section<'_>) -> Vec<HeaderCondition> {
    let exact = Text {
        expects: "a string",
        parse: |text| parse_value(text).map(ValuePattern::Exact),
        show: |_| String::new(),
    };
    let regex = Text {
        expects: "a regular expression",
        parse: |text| Pattern::new(text, false).map(ValuePattern::Regex),
        show: |_| String::new(),
    };
    let mut headers: Vec<HeaderCondition> = Vec::new();
    let mut note = |key: &str, name: Located<&str>, value| {
        let problem = |message| section.problem_at(name.at, key, message);
        let lower = match token(name.value, name.value) {
            Ok(lower) => lower.to_ascii_lowercase(),
            Err(message) => return problem(message),
        };
        if headers.iter().any(|other| other.name == lower) {
            return problem(format!("{} is there twice", name.shown()));
        }
        headers.push(HeaderCondition { name: lower, value });
    };
    for (name, value) in section.entries(&HEADERS, &exact) {
        note(HEADERS.name, name, value.value);
    }
    for (name, value) in section.entries(&HEADERS_REGEX, &regex) {
        note(HEADERS_REGEX.name, name, value.value);
    }
    if headers.len() > CONDITIONS_MAX {
        let found = headers.len();
        let message = format!("at most {CONDITIONS_MAX} conditions on headers; found {found}");
        section.problem(HEADERS.name, message);
    }
    headers.sort_by(|one, other| one.name.cmp(&other.name));
    headers
}

fn read_query(section: &Section<'_>) -> Vec<(String, String)> {
    let kind = Text {
        expects: "a string of at most 1024 bytes",
        parse: |text| {
            if text.len() > QUERY_BYTES_MAX {
                return Err(format!("longer than {QUERY_BYTES_MAX} bytes"));
            }
            Ok(text.to_owned())
        },
        show: String::clone,
    };
    let mut query: Vec<(String, String)> = Vec::new();
    for (name, value) in section.entries(&QUERY, &kind) {
        if name.value.is_empty() || name.value.len() > QUERY_BYTES_MAX {
            let message = format!("a name of 1 to {QUERY_BYTES_MAX} bytes");
            section.problem_at(name.at, QUERY.name, message);
            continue;
        }
        query.push((name.value.to_owned(), value.value));
    }
    if query.len() > CONDITIONS_MAX {
        let found = query.len();
        let message = format!("at most {CONDITIONS_MAX} conditions on the query; found {found}");
        section.problem(QUERY.name, message);
    }
    query.sort();
    query
}

pub(super) fn parse_method(text: &str) -> Result<String, String> {
    token(text, text)
        .map_err(|_| format!("`{text}` is not a method; write one such as \"GET\""))?;
    if matches!(text, "CONNECT" | "TRACE") {
        return Err(format!("`{text}` is always refused, with 405"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text && STANDARD_METHODS.contains(&upper.as_str()) {
        return Err(format!(
            "`{text}`: methods are compared with case; write \"{upper}\""
        ));
    }
    Ok(text.to_owned())
}
