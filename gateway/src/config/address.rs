//! Addresses, names, hosts and paths as text.
//!
//! An error says what is wrong and what to write; it may show the text.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::matching::{
    PATH_CAPTURES_MAX, PATH_SEGMENTS_MAX, PathPattern, PathTemplate, TemplateSegment,
};
use super::resolved::{EndpointAddress, HostPattern};

const NAME_BYTES_MAX: usize = 64;
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const PATH_BYTES_MAX: usize = 4096;
/// What `sockaddr_un` holds, less the final NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// One socket cannot listen on `one` while another does on `other`: they are the same, or a wildcard holds the other. `[::]` holds
/// every address of IPv4, too, whatever `net.ipv6.bindv6only` says. Port 0 is never the same.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let holds = |one: SocketAddr, other: SocketAddr| match (one.ip(), other.ip()) {
        (IpAddr::V6(ip), _) if ip.is_unspecified() => true,
        (IpAddr::V4(ip), IpAddr::V4(_)) if ip.is_unspecified() => true,
        (one, other) => one == other,
    };
    one.port() == other.port() && one.port() != 0 && (holds(one, other) || holds(other, one))
}

/// Reads a name: it appears in metrics, in logs and in response fields, so it is short and plain.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
        return Err(format!(
            "`{text}` is not a name; use 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"
        ));
    }
    Ok(text.to_owned())
}

/// Reads an address to listen on.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if text.starts_with("unix:") || text.starts_with("fd:") || text.starts_with("systemd:") {
        return Err(format!(
            "`{text}`: only ip:port is supported in this version"
        ));
    }
    text.parse().map_err(|_| {
        let port = text.strip_prefix(':').unwrap_or(text);
        if port.parse::<u16>().is_ok() {
            format!("`{text}` has no IP address; write \"0.0.0.0:{port}\" or \"127.0.0.1:{port}\"")
        } else if text.parse::<Ipv6Addr>().is_ok() {
            format!("`{text}` has no port; write \"[{text}]:8080\"")
        } else {
            format!(
                "`{text}` is not an IP address and port such as \"0.0.0.0:8080\" or \"[::]:8080\""
            )
        }
    })
}

/// Reads where an endpoint listens.
pub(super) fn parse_endpoint(text: &str) -> Result<EndpointAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if !path.starts_with('/') || path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0')
        {
            Err(format!(
                "`{text}` must hold an absolute path of at most {UNIX_PATH_BYTES_MAX} bytes, as in \"unix:/run/app.sock\""
            ))
        } else {
            Ok(EndpointAddress::Unix(PathBuf::from(path)))
        };
    }
    if let Some(name) = text.strip_prefix("builtin:") {
        return if name == "demo" {
            Ok(EndpointAddress::Demo)
        } else {
            Err(format!(
                "`{text}` does not exist; the only one is \"builtin:demo\""
            ))
        };
    }
    if text.contains("://") {
        return Err(format!("`{text}` is a URL; write only host:port"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err(format!("`{text}`: port 0 cannot be connected to")),
            _ => Ok(EndpointAddress::Socket(address)),
        };
    }
    let shape = || {
        format!("`{text}` is not an address; write ip:port, host:port, unix:/path or builtin:demo")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| {
        if is_host(text) {
            format!("`{text}` has no port; write \"{text}:80\"")
        } else {
            shape()
        }
    })?;
    let port = port.parse().ok().filter(|&port: &u16| port != 0);
    match port {
        // A last label of digits alone is an IPv4 address gone wrong, never a name.
        Some(port) if is_host(host) && !ends_in_digits(host) => {
            Ok(EndpointAddress::Host(host.to_ascii_lowercase(), port))
        }
        _ => Err(shape()),
    }
}

/// Reads a host of a route: `api.example.com`, `*.example.com`, an IP address.
pub(super) fn parse_host(text: &str) -> Result<HostPattern, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(bare) = lower.strip_suffix('.').filter(|bare| !bare.is_empty()) {
        return Err(format!(
            "`{text}`: write it without the final dot, \"{bare}\""
        ));
    }
    if let Some(name) = lower.strip_prefix("*.") {
        return if is_host(name) {
            Ok(HostPattern::Suffix(format!(".{name}")))
        } else {
            Err(format!(
                "`{text}` is not a wildcard; write it as \"*.example.com\""
            ))
        };
    }
    if lower.contains('*') {
        return Err(format!(
            "`{text}`: a `*` stands only for the first labels, as in \"*.example.com\"; for every host leave the key out"
        ));
    }
    let literal = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if literal.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()) || is_host(&lower) {
        return Ok(HostPattern::Exact(lower));
    }
    Err(match lower.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => {
            format!("`{text}`: write it without the port, \"{host}\"")
        }
        _ => format!(
            "`{text}` is not a host name; write one such as \"api.example.com\" (other scripts as xn--...)"
        ),
    })
}

/// Reads the whole path of a route: `/v1/users`, or with captures `/v1/users/{id}`.
pub(super) fn parse_path(text: &str) -> Result<PathPattern, String> {
    if !text.contains(['{', '}']) {
        return parse_plain_path(text).map(PathPattern::Exact);
    }
    let mut names: Vec<&str> = Vec::new();
    let mut plain = String::new();
    let mut segments = Vec::new();
    for segment in text.split('/').skip(1) {
        let inside = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let Some(name) = inside else {
            if segment.contains(['{', '}']) {
                return Err(format!(
                    "`{text}`: a capture is a whole segment, as in \"/users/{{id}}\"; for a part of one write path_regex"
                ));
            }
            plain.push('/');
            plain.push_str(segment);
            segments.push(TemplateSegment::Literal(segment.to_owned()));
            continue;
        };
        if !is_capture_name(name) {
            return Err(format!(
                "`{text}`: `{name}` is not the name of a capture; use letters, digits and `_`"
            ));
        }
        if names.contains(&name) {
            return Err(format!("`{text}`: `{name}` is captured twice"));
        }
        names.push(name);
        plain.push_str("/x");
        segments.push(TemplateSegment::Capture(name.to_owned()));
    }
    if names.len() > PATH_CAPTURES_MAX {
        return Err(format!(
            "`{text}`: a path has at most {PATH_CAPTURES_MAX} captures"
        ));
    }
    if !text.starts_with('/') {
        plain.insert(0, 'x');
    }
    parse_plain_path(&plain)?;
    Ok(PathPattern::Template(PathTemplate { segments }))
}

/// Whether a capture of a path may be called so.
pub(super) fn is_capture_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A path as it is written.
pub(super) fn show_path(path: &PathPattern) -> String {
    match path {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path.clone(),
        PathPattern::Regex(pattern) => pattern.text().to_owned(),
        PathPattern::Template(template) => {
            let show = |segment: &TemplateSegment| match segment {
                TemplateSegment::Literal(text) => format!("/{text}"),
                TemplateSegment::Capture(name) => format!("/{{{name}}}"),
            };
            template.segments.iter().map(show).collect()
        }
    }
}

/// Reads the path that requests begin with, without captures.
pub(super) fn parse_prefix(text: &str) -> Result<String, String> {
    if text.contains(['{', '}']) {
        return Err(format!(
            "`{text}`: captures are for `path`; for all below a captured segment write path_regex"
        ));
    }
    parse_plain_path(text)
}

/// Reads a path, which must be in the normal form that requests are compared in.
fn parse_plain_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` must begin with `/`"));
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(format!("longer than {PATH_BYTES_MAX} bytes"));
    }
    if text.split('/').count() > PATH_SEGMENTS_MAX + 1 {
        return Err(format!(
            "`{text}`: a path has at most {PATH_SEGMENTS_MAX} segments"
        ));
    }
    if let Some(prefix) = text.strip_suffix("/*").or_else(|| text.strip_suffix("/**")) {
        return Err(format!(
            "`{text}`: for a path and all below it write path_prefix = \"{prefix}/\""
        ));
    }
    if text.contains(['?', '#']) {
        return Err(format!(
            "`{text}`: a route matches the path alone; leave out `?` and `#`"
        ));
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    {
        return Err(format!(
            "`{text}`: spaces, `\\` and characters beyond ASCII are written percent-encoded, as in \"/caf%C3%A9\""
        ));
    }
    let normal = normal_escapes(text)
        .ok_or_else(|| format!("`{text}`: a `%` is followed by two hexadecimal digits"))?;
    if normal != text {
        return Err(format!(
            "`{text}` would never match; requests are compared as \"{normal}\""
        ));
    }
    if text
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return Err(format!(
            "`{text}`: requests are compared without `.` and `..` segments"
        ));
    }
    Ok(normal)
}

/// The path with unreserved characters decoded and other escapes in upper case (RFC 3986, section 6.2.2); `None`: a
/// broken escape.
fn normal_escapes(text: &str) -> Option<String> {
    let (mut normal, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('%') {
        let digits = after
            .get(..2)
            .filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let octet = u8::from_str_radix(digits, 16).ok()?;
        normal.push_str(before);
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            normal.push(char::from(octet));
        } else {
            normal.push('%');
            normal.push_str(&digits.to_ascii_uppercase());
        }
        rest = after.get(2..)?;
    }
    normal.push_str(rest);
    Some(normal)
}

fn is_host(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= HOST_BYTES_MAX && text.split('.').all(label)
}

fn ends_in_digits(host: &str) -> bool {
    host.rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_holds_the_addresses_of_its_port() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), overlap(other, one));
            overlap(one, other)
        };
        for (one, other) in [
            ("1.1.1.1:80", "1.1.1.1:80"),
            ("0.0.0.0:80", "1.1.1.1:80"),
            ("[::]:80", "1.1.1.1:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::]:80", "[::1]:80"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("1.1.1.1:80", "1.1.1.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("[::]:80", "1.1.1.1:81"),
            ("[::]:0", "[::]:0"),
        ] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }

    #[test]
    fn reads_every_form_of_endpoint() {
        let socket = |text: &str| EndpointAddress::Socket(text.parse().unwrap());
        for (text, address) in [
            ("10.0.0.1:8000", socket("10.0.0.1:8000")),
            ("[::1]:80", socket("[::1]:80")),
            (
                "unix:/run/u.sock",
                EndpointAddress::Unix("/run/u.sock".into()),
            ),
            (
                "Users.internal:8000",
                EndpointAddress::Host("users.internal".into(), 8000),
            ),
            ("localhost:1", EndpointAddress::Host("localhost".into(), 1)),
            ("builtin:demo", EndpointAddress::Demo),
        ] {
            assert_eq!(parse_endpoint(text), Ok(address), "{text}");
        }
        for text in [
            "",
            ":80",
            "host",
            "host:0",
            "10.0.0.1:0",
            "10.0.0.256:80",
            "host:70000",
            "unix:run/u.sock",
            "unix:",
            "http://host:80",
            "::1:80",
            "a b:80",
            "-a:80",
            "builtin:echo",
            "host:80/path",
        ] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_hosts_in_lower_case_without_port() {
        let exact = |text: &str| HostPattern::Exact(text.into());
        for (text, host) in [
            ("API.example.com", exact("api.example.com")),
            ("10.0.0.1", exact("10.0.0.1")),
            ("[::1]", exact("[::1]")),
            ("*.Example.com", HostPattern::Suffix(".example.com".into())),
        ] {
            assert_eq!(parse_host(text), Ok(host), "{text}");
        }
        for text in [
            "",
            "*",
            "*.",
            "a.*.com",
            "a*.com",
            "a..b",
            "example.com.",
            "example.com:80",
            "é.com",
            "http://a",
            "[x]",
        ] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_only_paths_in_normal_form() {
        for text in [
            "/",
            "/v1",
            "/v1/",
            "/a//b",
            "/caf%C3%A9",
            "/a%2Fb",
            "/~u/x.y_z-1",
            "/a;b=1,c@d!",
        ] {
            assert_eq!(parse_path(text), Ok(PathPattern::Exact(text.into())));
            assert_eq!(parse_prefix(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "v1",
            "/a/../b",
            "/a/.",
            "/a?x",
            "/a#x",
            "/a b",
            "/café",
            "/%61",
            "/%c3",
            "/%",
            "/%4",
            "/%zz",
            "/%é",
            "/{id",
            "/a{id}",
            "/{}",
            "/{1}",
            "/{a}/{a}",
            "{a}",
            "/{a}/../x",
            "/a/*",
            "/a\\b",
            "/%2e%2e/x",
        ] {
            assert!(parse_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn captures_are_whole_segments_with_names() {
        let path = parse_path("/v1/{user}/x/{id_2}").unwrap();
        assert_eq!(path.captures(), ["user", "id_2"]);
        assert_eq!(show_path(&path), "/v1/{user}/x/{id_2}");
        let nine: String = (0..9).map(|at| format!("/{{a{at}}}")).collect();
        assert!(parse_path(&nine).unwrap_err().contains("at most 8"));
        assert!(
            parse_path(&"/a".repeat(65))
                .unwrap_err()
                .contains("at most 64")
        );
        assert!(parse_path(&"/a".repeat(64)).is_ok());
    }

    #[test]
    fn says_what_to_write_for_a_bare_port() {
        for text in ["8080", ":8080"] {
            assert!(
                parse_listen(text).unwrap_err().contains("\"0.0.0.0:8080\""),
                "{text}"
            );
        }
    }
}
