//! What a limit counts by, as text: `client_ip`, `header:x-api-key`, and the values that overrides name.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::parse_host;
use super::nearest::{did_you_mean, nearest};
use super::resolved::{HostPattern, KeyPart, OverrideKey, OverrideValue};

/// Longest name of a header, cookie or query parameter, in bytes.
const FIELD_NAME_BYTES_MAX: usize = 128;

/// What a part of a key must be, as a noun phrase.
pub(super) const PART_EXPECTS: &str = "\"client_ip\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"path:N\", \"host\", \"route\", \"consumer\", \"plan\" or \"jwt:CLAIM\"";

/// Reads a part of a key.
pub(super) fn parse_part(text: &str) -> Result<KeyPart, String> {
    let (word, argument) = text
        .split_once(':')
        .map_or((text, None), |(word, argument)| (word, Some(argument)));
    match (word, argument) {
        ("client_ip", None) => Ok(KeyPart::ClientIp),
        ("host", None) => Ok(KeyPart::Host),
        ("route", None) => Ok(KeyPart::Route),
        ("consumer", None) => Ok(KeyPart::Consumer),
        ("plan", None) => Ok(KeyPart::Plan),
        ("header", Some(name)) => {
            token(text, name).map(|name| KeyPart::Header(name.to_ascii_lowercase()))
        }
        ("cookie", Some(name)) => token(text, name).map(|name| KeyPart::Cookie(name.to_owned())),
        ("query", Some(name)) if parse_query_name(name).is_ok() => {
            Ok(KeyPart::Query(name.to_owned()))
        }
        ("path", Some(number)) => number.parse().map(KeyPart::Path).map_err(|_| {
            format!(
                "`{text}`: a path's segments are numbered from 1 to 255; write \"path:1\" for the first"
            )
        }),
        ("jwt", Some(name)) if (1..=FIELD_NAME_BYTES_MAX).contains(&name.len()) => {
            Ok(KeyPart::Claim(name.to_owned()))
        }
        ("header" | "cookie" | "query" | "path" | "jwt", _) => Err(format!(
            "`{text}` lacks what to look at; write one such as \"{word}:{}\"",
            if word == "path" { "1" } else { "NAME" }
        )),
        ("method", _) => Err(format!(
            "`{text}` is not supported in this version; write {PART_EXPECTS}"
        )),
        _ => {
            let words = [
                "client_ip", "header:", "cookie:", "query:", "path:", "host", "route", "consumer", "plan",
                "jwt:",
            ];
            let near = near_part(text, &words);
            Err(format!("`{text}` is not one of {PART_EXPECTS}{near}"))
        }
    }
}

/// `; did you mean X?` for a mistyped part, with what is written behind its colon. `words` that take something end with one.
pub(super) fn near_part(text: &str, words: &[&'static str]) -> String {
    let (word, written) = match text.split_once(':') {
        Some((word, written)) => (word, Some(written)),
        None => (text, None),
    };
    let near = nearest(word, words.iter().map(|each| each.trim_end_matches(':')));
    let Some(near) = near else {
        return String::new();
    };
    let takes = words
        .iter()
        .any(|each| each.strip_suffix(':') == Some(near));
    match written {
        Some(written) if takes => format!("; did you mean `{near}:{written}`?"),
        None if takes && !words.contains(&near) => format!("; did you mean `{near}:NAME`?"),
        _ => format!("; did you mean `{near}`?"),
    }
}

/// Reads whom an override is for: one text for each part of the limit's key. `routes`: the names of all.
pub(super) fn parse_override(
    parts: &[KeyPart],
    texts: &[String],
    routes: &[String],
) -> Result<OverrideKey, String> {
    if let ([KeyPart::ClientIp], [text]) = (parts, texts) {
        return network(text).map(OverrideKey::Network);
    }
    if parts.len() != texts.len() {
        return Err(format!(
            "the limit's key has {} parts; write a value for each, as an array; found {}",
            parts.len(),
            texts.len()
        ));
    }
    let values = parts
        .iter()
        .zip(texts)
        .map(|(part, text)| value(part, text, routes));
    values.collect::<Result<_, _>>().map(OverrideKey::Values)
}

/// An address, or a network such as `10.1.0.0/16`, without bits beyond its prefix.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("`{text}` is not an address or network such as \"10.0.0.7\" or \"10.1.0.0/16\"")
    })?;
    if network != network.trunc() {
        let (network, bare) = (network, network.trunc());
        return Err(format!(
            "`{network}` has bits beyond its prefix; write \"{bare}\" for the network"
        ));
    }
    Ok(network)
}

fn value(part: &KeyPart, text: &str, routes: &[String]) -> Result<OverrideValue, String> {
    match part {
        KeyPart::ClientIp => {
            let address: IpAddr = text.parse().map_err(|_| {
                format!("`{text}` is not an address; networks are for keys of \"client_ip\" alone")
            })?;
            Ok(OverrideValue::Address(address.to_canonical()))
        }
        KeyPart::Host => match parse_host(text)? {
            HostPattern::Exact(host) => Ok(OverrideValue::Text(host)),
            HostPattern::Suffix(_) => Err(format!("`{text}`: an override is for one host")),
        },
        KeyPart::Route if !routes.iter().any(|route| route == text) => {
            let near = did_you_mean(text, routes);
            Err(format!("no route is named `{text}`{near}"))
        }
        KeyPart::Header(_) if text.trim() != text => Err(format!(
            "`{text}` would never match: headers are counted without blanks at their ends"
        )),
        KeyPart::Header(_)
        | KeyPart::Cookie(_)
        | KeyPart::Query(_)
        | KeyPart::Path(_)
        | KeyPart::Route
        | KeyPart::Consumer
        | KeyPart::Plan
        | KeyPart::Claim(_) => Ok(OverrideValue::Text(text.to_owned())),
    }
}

/// The name of a query parameter.
pub(super) fn parse_query_name(name: &str) -> Result<String, String> {
    if (1..=FIELD_NAME_BYTES_MAX).contains(&name.len()) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "a query parameter's name has 1 to {FIELD_NAME_BYTES_MAX} bytes"
        ))
    }
}

/// A name of RFC 9110, section 5.6.2.
pub(super) fn token<'a>(text: &str, name: &'a str) -> Result<&'a str, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=FIELD_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits) {
        Ok(name)
    } else {
        Err(format!(
            "`{text}`: `{name}` is not a name that a header or cookie can have"
        ))
    }
}
