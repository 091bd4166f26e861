//! Pages of other origins: which of them may ask what, and what a browser is reply (the CORS protocol, section 3.3 of the Fetch
//! standard). The words that are written are those of the configuration, never those of a request, but for an origin that is
//! equal to a listed one.

use crate::config::{CorsConfig, FilterMode, OriginPattern};
use crate::data::codec::{Fields, Span};

/// Which method a page is going to use; only in a preflight.
const WANTED_METHOD: &[u8] = b"access-control-request-method";
const WANTED_FIELDS: &[u8] = b"access-control-request-headers";

/// Octets of the configuration.
type Text = Box<[u8]>;

/// A policy compiled for workers.
#[derive(Debug)]
pub(in crate::data) struct CorsPlan {
    /// Where its decisions are counted.
    pub(in crate::data) counter: usize,
    pub(in crate::data) mode: FilterMode,
    origins: Origins,
    credentials: bool,
    /// `None`: any.
    methods: Option<Vec<Text>>,
    any_field: bool,
    /// In lower case.
    fields: Vec<Text>,
    /// Lines of the answer to a preflight, but for those about the origin.
    preflight: Vec<u8>,
    /// Lines of every other response, but for those.
    response: Vec<u8>,
}

#[derive(Debug)]
enum Origins {
    Any,
    Listed {
        /// In order.
        exact: Vec<Text>,
        /// What comes before and after the labels.
        below: Vec<(Text, Text)>,
    },
}

/// What the page behind a request is reply.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::data) struct Reply {
    /// Where its origin stands in the head, if that is listed and nothing else is amiss.
    origin: Option<Span>,
    /// It asks what it may.
    pub(in crate::data) preflight: bool,
}

/// What is said of a request that a page of another origin made.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Verdict {
    pub(in crate::data) reply: Reply,
    /// Why the page may not.
    pub(in crate::data) denied: Option<&'static str>,
}

/// Whether a request is OPTIONS, and the authority that it is for.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Target<'a> {
    pub(in crate::data) is_options: bool,
    pub(in crate::data) authority: &'a [u8],
}

/// The method that a preflight asks for; `None`: it is none.
pub(in crate::data) fn wanted_method<'a>(head: &'a [u8], fields: &'a Fields) -> Option<&'a [u8]> {
    fields.values(head, b"origin").next()?;
    fields.values(head, WANTED_METHOD).next()
}

impl CorsPlan {
    pub(in crate::data) fn new(config: &CorsConfig, counter: usize) -> Self {
        let boxed = |text: &String| Text::from(text.as_bytes());
        let any = |list: &[String]| list.iter().any(|each| each == "*");
        let mut preflight = Vec::new();
        put_list(
            &mut preflight,
            "Access-Control-Allow-Methods",
            &config.methods,
        );
        put_list(
            &mut preflight,
            "Access-Control-Allow-Headers",
            &config.headers,
        );
        let seconds = config.max_age.as_secs().to_string();
        put_list(&mut preflight, "Access-Control-Max-Age", &[seconds]);
        let mut response = Vec::new();
        put_list(
            &mut response,
            "Access-Control-Expose-Headers",
            &config.exposed_headers,
        );
        Self {
            counter,
            mode: config.mode,
            origins: Origins::new(&config.origins),
            credentials: config.credentials,
            methods: (!any(&config.methods)).then(|| config.methods.iter().map(boxed).collect()),
            any_field: any(&config.headers),
            fields: config.headers.iter().map(boxed).collect(),
            preflight,
            response,
        }
    }

    /// What is said of a request; `None`: it says of itself that no page of another origin made it. Looks at every field once, a
    /// preflight's twice more.
    pub(in crate::data) fn judge(
        &self,
        head: &[u8],
        fields: &Fields,
        target: Target<'_>,
    ) -> Option<Verdict> {
        let is_origin = |name: &[u8]| name.eq_ignore_ascii_case(b"origin");
        let mut origins = fields.iter().filter(|field| is_origin(field.name.of(head)));
        let origin = origins.next()?.value;
        let several = origins.next().is_some();
        let wanted = target
            .is_options
            .then(|| fields.values(head, WANTED_METHOD).next())
            .flatten();
        if wanted.is_none() && !several && is_own(origin.of(head), target.authority) {
            return None;
        }
        let denied = if several || !self.origins.hold(origin.of(head)) {
            Some("cors_origin")
        } else if let Some(method) = wanted {
            self.refused_part(method, head, fields)
        } else {
            None
        };
        Some(Verdict {
            reply: Reply {
                origin: denied.is_none().then_some(origin),
                preflight: wanted.is_some(),
            },
            denied,
        })
    }

    /// What of a preflight is not let in.
    fn refused_part(&self, method: &[u8], head: &[u8], fields: &Fields) -> Option<&'static str> {
        let listed = |list: &[Text]| list.iter().any(|each| **each == *method);
        if self.methods.as_ref().is_some_and(|list| !listed(list)) {
            return Some("cors_method");
        }
        let mut names = fields
            .values(head, WANTED_FIELDS)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty());
        let may = |name: &[u8]| {
            self.any_field && !name.eq_ignore_ascii_case(b"authorization")
                || self
                    .fields
                    .iter()
                    .any(|each| name.eq_ignore_ascii_case(each))
        };
        names.any(|name| !may(name)).then_some("cors_header")
    }

    /// Appends the field lines that go with any answer of the route.
    pub(in crate::data) fn put_lines(&self, reply: Reply, head: &[u8], out: &mut Vec<u8>) {
        match &self.origins {
            // The same for everybody, so that a cache may keep it for everybody.
            Origins::Any if !reply.preflight || reply.origin.is_some() => {
                out.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n");
            }
            Origins::Any => {}
            Origins::Listed { .. } => {
                if let Some(origin) = reply.origin {
                    out.extend_from_slice(b"Access-Control-Allow-Origin: ");
                    out.extend_from_slice(origin.of(head));
                    out.extend_from_slice(b"\r\n");
                    if self.credentials {
                        out.extend_from_slice(b"Access-Control-Allow-Credentials: true\r\n");
                    }
                }
            }
        }
        if reply.preflight {
            if reply.origin.is_some() {
                out.extend_from_slice(&self.preflight);
            }
            out.extend_from_slice(
                b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n",
            );
            return;
        }
        if reply.origin.is_some() || matches!(self.origins, Origins::Any) {
            out.extend_from_slice(&self.response);
        }
        // Also where there is no origin: what a cache keeps of this answer is wrong for who has one.
        if matches!(self.origins, Origins::Listed { .. }) {
            out.extend_from_slice(b"Vary: Origin\r\n");
        }
    }
}

impl Origins {
    fn new(patterns: &[OriginPattern]) -> Self {
        let (mut exact, mut below) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern {
                OriginPattern::Any => return Self::Any,
                OriginPattern::Exact(origin) => exact.push(origin.as_bytes().into()),
                OriginPattern::Below { scheme, rest } => {
                    below.push((scheme.as_bytes().into(), rest.as_bytes().into()));
                }
            }
        }
        exact.sort_unstable();
        Self::Listed { exact, below }
    }

    /// Compared by octets, as RFC 6454, section 5 has it: browsers write an origin in one way only.
    fn hold(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { exact, below } => {
                let of_list = exact.binary_search_by(|each| (**each).cmp(origin)).is_ok();
                of_list
                    || below.iter().any(|(scheme, rest)| {
                        let labels = origin
                            .strip_prefix(&**scheme)
                            .and_then(|origin| origin.strip_suffix(&**rest));
                        labels.is_some_and(are_labels)
                    })
            }
        }
    }
}

/// One label of a host name or more: nothing that a reader could take for the end of the host.
fn are_labels(text: &[u8]) -> bool {
    const HOST_BYTES_MAX: usize = 253;
    let fits = |label: &[u8]| {
        let is_inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        !label.is_empty() && label.iter().all(is_inner)
    };
    text.len() <= HOST_BYTES_MAX && text.split(|&byte| byte == b'.').all(fits)
}

/// Whether an origin is the place that the request is for, but perhaps for the scheme: browsers name it in requests that are
/// not for others, too.
fn is_own(origin: &[u8], authority: &[u8]) -> bool {
    let host = origin.strip_prefix(b"https://");
    let host = host.or_else(|| origin.strip_prefix(b"http://"));
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

fn put_list(out: &mut Vec<u8>, name: &str, values: &[String]) {
    if !values.is_empty() {
        out.extend_from_slice(format!("{name}: {}\r\n", values.join(", ")).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(origins: &[&str]) -> Origins {
        let pattern = |text: &&str| match text.split_once('*') {
            None => OriginPattern::Exact((*text).to_owned()),
            Some((scheme, rest)) => OriginPattern::Below {
                scheme: scheme.to_owned(),
                rest: rest.to_owned(),
            },
        };
        Origins::new(&origins.iter().map(pattern).collect::<Vec<_>>())
    }

    #[test]
    fn an_origin_is_held_only_as_it_is_listed() {
        let origins = listed(&[
            "https://app.example.com",
            "https://*.example.org:8443",
            "http://[::1]:3000",
        ]);
        for held in [
            "https://app.example.com",
            "https://a.example.org:8443",
            "https://a.b-c.example.org:8443",
            "http://[::1]:3000",
        ] {
            assert!(origins.hold(held.as_bytes()), "{held}");
        }
        for foreign in [
            "",
            "null",
            "*",
            "http://app.example.com",
            "https://app.example.com.evil.test",
            "https://app.example.com:8443",
            "https://app.example.comevil.test",
            "https://evil.test/https://app.example.com",
            "https://APP.example.com",
            "https://app.example.com/",
            "https://example.org:8443",
            "https://.example.org:8443",
            "https://a..example.org:8443",
            "https://a.example.org",
            "https://a.example.org:84430",
            "https://aexample.org:8443",
            "https://evil.test/.example.org:8443",
            "https://evil.test#.example.org:8443",
            "https://evil.test\\.example.org:8443",
            "https://evil.test?.example.org:8443",
            "https://evil.test:1@a.example.org:8443",
            "https://evil.test%00.example.org:8443",
            "https://a b.example.org:8443",
        ] {
            assert!(!origins.hold(foreign.as_bytes()), "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn a_wildcard_holds_hosts_below_it_and_nothing_else(
            start in "(https?://)?",
            labels in "[a-zA-Z0-9._:/@#?\\\\%\r\n -]{0,12}",
            end in "([.]example[.]com|example[.]com)(:[0-9]{1,4}|/|[.])?",
        ) {
            let label = regex::bytes::Regex::new(r"\Ahttps://([a-z0-9_-]+\.)+example\.com\z").unwrap();
            let origin = format!("{start}{labels}{end}").into_bytes();
            let held = listed(&["https://*.example.com"]).hold(&origin);
            prop_assert_eq!(held, label.is_match(&origin));
        }
    }
}
