//! What a limit counts a request by: the parts of its key, found in the request and hashed where they lie.
//!
//! A value counts as the upstream will most likely read it, so that another way to write it earns no other bucket: cookies,
//! query parameters and path segments are decoded, and a field that the `Connection` field takes out of the request is
//! not there. Which of several values an upstream takes nobody knows; all requests that hold several share one bucket.

use std::net::IpAddr;

use limiter::{Key, KeyHasher, KeyParts};

use crate::config::KeyPart;
use crate::data::auth::Identity;
use crate::data::codec::{Fields, Plus, cookies, decode, parameters};
use crate::telemetry::top::Label;

/// The marks of [`limiter::KeyParts::mark`].
const ABSENT: u8 = 0;
const SEVERAL: u8 = 1;

/// A request as limits see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Makes the keys.
    pub hasher: &'a KeyHasher,
    /// The client's address.
    pub client: IpAddr,
    /// Its key, made once for the connection.
    pub client_key: Key,
    /// The request head that `fields` points into.
    pub head: &'a [u8],
    /// Its fields.
    pub fields: &'a Fields,
    /// In lower case, without port; empty where the request has none.
    pub host: &'a [u8],
    /// In its one form.
    pub path: &'a [u8],
    /// Without `?`.
    pub query: Option<&'a [u8]>,
    /// Name of the route.
    pub route: &'a str,
    /// Who the caller is; `None`: nobody knows.
    pub caller: Option<&'a Identity>,
    /// The route takes no notice of case, and so neither do segments of the path.
    pub ignore_case: bool,
}

/// How the key of a limit is made on one route: what is known without a request is hashed when the plan is made.
#[derive(Clone, Debug)]
pub(super) enum KeyPlan {
    /// The client alone. Its overflow is by network and its shard is where the client's connections are steered to.
    Client,
    /// Nothing that a request could change.
    Known(Key),
    /// The client, behind what is known.
    AndClient(KeyParts),
    /// These parts, behind what is known.
    AndParts(KeyParts, Vec<KeyPart>),
}

impl KeyPlan {
    /// That of a limit which counts by `parts`, on the route of this name.
    pub(super) fn new(parts: &[KeyPart], hasher: &KeyHasher, route: &str) -> Self {
        if matches!(parts, [KeyPart::ClientIp]) {
            return Self::Client;
        }
        let (known, rest): (Vec<_>, Vec<_>) = in_hash_order(parts.iter().map(|part| (part, ())))
            .map(|(part, ())| part.clone())
            .partition(|part| *part == KeyPart::Route);
        let begun = known
            .iter()
            .fold(hasher.parts(), |hashed, _| hashed.part(route.as_bytes()));
        match &*rest {
            [] => Self::Known(begun.finish()),
            [KeyPart::ClientIp] => Self::AndClient(begun),
            _ => Self::AndParts(begun, rest),
        }
    }
}

/// Parts of a key, each with its value, in the order in which they are hashed: as they are written, but the route first, since it
/// alone is known before there is a request.
pub(super) fn in_hash_order<'a, T>(
    parts: impl Iterator<Item = (&'a KeyPart, T)>,
) -> impl Iterator<Item = (&'a KeyPart, T)> {
    let is_route = |(part, _): &(&KeyPart, T)| **part == KeyPart::Route;
    let (known, rest): (Vec<_>, Vec<_>) = parts.partition(is_route);
    known.into_iter().chain(rest)
}

/// What a request has in the place of a part.
enum Value<'a> {
    Client,
    Bytes(&'a [u8]),
    Absent,
    Several,
}

impl Subject<'_> {
    /// The key of the request for a limit. `buffer` is memory to decode in; it allocates only while it grows.
    #[inline(always)]
    pub(super) fn key(&self, plan: &KeyPlan, buffer: &mut Vec<u8>) -> Key {
        match plan {
            KeyPlan::Client => self.client_key,
            KeyPlan::Known(key) => *key,
            KeyPlan::AndClient(begun) => begun.clone().key(self.client_key).finish(),
            KeyPlan::AndParts(begun, parts) => self.hashed(begun, parts, buffer),
        }
    }

    #[inline(never)]
    fn hashed(&self, begun: &KeyParts, parts: &[KeyPart], buffer: &mut Vec<u8>) -> Key {
        let hashed = parts.iter().fold(begun.clone(), |hashed, part| {
            match self.value(part, buffer) {
                Value::Client => hashed.key(self.client_key),
                Value::Bytes(bytes) => hashed.part(bytes),
                Value::Absent => hashed.mark(ABSENT),
                Value::Several => hashed.mark(SEVERAL),
            }
        });
        hashed.finish()
    }

    /// The hash of the value that the request has in the place of a part; `None`: it has none, or several. `buffer` as above.
    pub(in crate::data) fn only_value_hash(
        &self,
        part: &KeyPart,
        buffer: &mut Vec<u8>,
    ) -> Option<u64> {
        match self.value(part, buffer) {
            Value::Client => Some(self.client_key.hash()),
            Value::Bytes(bytes) => Some(self.hasher.bytes(bytes).hash()),
            Value::Absent | Value::Several => None,
        }
    }

    /// What may be shown of the key: headers, cookies and query parameters by their hash, since they may be secrets.
    pub(in crate::data) fn label(&self, parts: &[KeyPart], buffer: &mut Vec<u8>) -> Label {
        let mut label = Label::default();
        for part in parts {
            let secret = matches!(
                part,
                KeyPart::Header(_) | KeyPart::Cookie(_) | KeyPart::Query(_) | KeyPart::Claim(_)
            );
            match self.value(part, buffer) {
                Value::Client => label.push_address(self.client),
                Value::Bytes(bytes) if secret => label.push_hidden(self.hasher.bytes(bytes).hash()),
                Value::Bytes(bytes) => label.push_text(bytes),
                Value::Absent => label.push_absent(),
                Value::Several => label.push_several(),
            }
        }
        label
    }

    /// The caller's plan.
    pub(super) fn plan(&self) -> Option<&str> {
        self.caller.and_then(|caller| caller.plan.as_deref())
    }

    fn value<'b>(&'b self, part: &KeyPart, buffer: &'b mut Vec<u8>) -> Value<'b> {
        match part {
            KeyPart::ClientIp => Value::Client,
            KeyPart::Header(name) => only(self.fields(name.as_bytes())),
            KeyPart::Cookie(name) => {
                let cookies = self.fields(b"cookie").flat_map(cookies);
                let found = cookies.filter(|(each, _)| *each == name.as_bytes());
                decoded(only(found.map(|(_, value)| value)), Plus::IsPlus, buffer)
            }
            KeyPart::Query(name) => {
                let found = parameters(self.query.unwrap_or_default())
                    .filter(|(each, _)| decode(each, Plus::IsBlank).eq(name.bytes()));
                decoded(only(found.map(|(_, value)| value)), Plus::IsBlank, buffer)
            }
            KeyPart::Path(number) => {
                // Many servers merge slashes, so that an empty segment is none.
                let segments = self.path.split(|&byte| byte == b'/');
                let segment = segments
                    .filter(|segment| !segment.is_empty())
                    .nth(usize::from(number.get()) - 1);
                let Some(segment) = segment else {
                    return Value::Absent;
                };
                buffer.clear();
                buffer.extend(decode(segment, Plus::IsPlus));
                if self.ignore_case {
                    buffer.make_ascii_lowercase();
                }
                Value::Bytes(buffer)
            }
            KeyPart::Host if self.host.is_empty() => Value::Absent,
            KeyPart::Host => Value::Bytes(self.host),
            KeyPart::Route => Value::Bytes(self.route.as_bytes()),
            KeyPart::Consumer => text(self.caller.map(|caller| &*caller.name)),
            KeyPart::Plan => text(self.plan()),
            KeyPart::Claim(name) => text(self.caller.and_then(|caller| caller.claim(name))),
        }
    }

    /// Values of the fields called `name` that go on to the upstream.
    fn fields(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.fields
            .iter()
            .filter(|field| !field.named_by_connection)
            .filter(move |field| field.name.of(self.head).eq_ignore_ascii_case(name))
            .map(|field| field.value.of(self.head))
    }
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Absent, |text| Value::Bytes(text.as_bytes()))
}

fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Value<'a> {
    match (values.next(), values.next()) {
        (None, _) => Value::Absent,
        (Some(value), None) => Value::Bytes(value),
        (Some(_), Some(_)) => Value::Several,
    }
}

fn decoded<'a>(value: Value<'a>, plus: Plus, buffer: &'a mut Vec<u8>) -> Value<'a> {
    let Value::Bytes(bytes) = value else {
        return value;
    };
    buffer.clear();
    buffer.extend(decode(bytes, plus));
    Value::Bytes(buffer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{ConfigSource, UnderscoreHeaders, load};
    use crate::data::codec::{RequestRules, Scheme, parse_request};

    /// The parts as the configuration writes them.
    fn parts(written: &str) -> Vec<KeyPart> {
        let text = format!(
            "listeners = [{{ name = 'a', address = '[::]:0' }}]\n[limits.a]\nrate = '5/s'\nkey = {written}"
        );
        let source = ConfigSource::Text {
            name: "x",
            text: &text,
        };
        load(source, &|_| None).unwrap().limits.remove(0).key
    }

    /// Asks about `GET target` with these field lines.
    fn ask<T>(target: &str, lines: &str, with: impl FnOnce(&Subject<'_>) -> T) -> T {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let head = head.as_bytes();
        let rules = RequestRules {
            fields_max: 64,
            underscore: UnderscoreHeaders::Drop,
            scheme: Scheme::Http,
            rewrite_host: false,
        };
        let mut fields = Fields::new();
        let request = parse_request(head, &rules, &mut fields).unwrap();
        let hasher = KeyHasher::with_secret(7);
        let client: IpAddr = [192, 0, 2, 7].into();
        with(&Subject {
            hasher: &hasher,
            client,
            client_key: hasher.address(client, 64),
            head,
            fields: &fields,
            host: b"a",
            path: request.path.of(head),
            query: request.query.map(|query| query.of(head)),
            route: "users",
            caller: None,
            ignore_case: false,
        })
    }

    fn key(written: &str, target: &str, lines: &str) -> Key {
        let parts = parts(written);
        ask(target, lines, |subject| key_of(subject, &parts))
    }

    fn key_of(subject: &Subject<'_>, parts: &[KeyPart]) -> Key {
        let plan = KeyPlan::new(parts, subject.hasher, subject.route);
        subject.key(&plan, &mut Vec::new())
    }

    fn label(written: &str, target: &str, lines: &str) -> Vec<crate::telemetry::top::LabelPart> {
        let parts = parts(written);
        ask(target, lines, |subject| {
            subject.label(&parts, &mut Vec::new()).parts()
        })
    }

    /// Asserts that the requests in a group have one key, and that no two groups share theirs.
    fn assert_groups(written: &str, groups: &[&[(&str, &str)]]) {
        let keys: Vec<Key> = groups
            .iter()
            .map(|group| {
                let (target, lines) = group[0];
                let first = key(written, target, lines);
                for (target, lines) in *group {
                    assert_eq!(
                        key(written, target, lines),
                        first,
                        "{written} {target} {lines}"
                    );
                }
                first
            })
            .collect();
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{written}: group {index}");
        }
    }

    #[test]
    fn a_header_counts_by_its_only_value() {
        assert_groups(
            "'header:X-Api-Key'",
            &[
                // Absent, also where the Connection field takes it out.
                &[
                    ("/", ""),
                    ("/x?x-api-key=a", "x-api-key-2: a\r\n"),
                    ("/", "x-api-key: a\r\nconnection: x-api-key\r\n"),
                ],
                &[("/", "x-api-key:\r\n"), ("/", "x-api-key:  \r\n")],
                &[("/", "x-api-key: a\r\n"), ("/", "X-API-KEY:a \r\n")],
                &[("/", "x-api-key: A\r\n")],
                // Several, whichever they are.
                &[
                    ("/", "x-api-key: a\r\nx-api-key: a\r\n"),
                    ("/", "x-api-key: a\r\nx-api-key: b\r\n"),
                    ("/", "x-api-key: c\r\nx-api-key:\r\nx-api-key: d\r\n"),
                ],
                &[("/", "x-api-key: a, b\r\n")],
            ],
        );
    }

    #[test]
    fn a_cookie_counts_by_its_only_value_decoded() {
        assert_groups(
            "'cookie:sid'",
            &[
                &[
                    ("/", ""),
                    ("/", "cookie: SID=a; xsid=b\r\n"),
                    ("/", "cookie: \r\n"),
                ],
                &[
                    ("/", "cookie: sid=\r\n"),
                    ("/", "cookie: sid\r\n"),
                    ("/", "cookie: sid=\"\"\r\n"),
                ],
                &[
                    ("/", "cookie: sid=a\r\n"),
                    ("/", "cookie: x=1;sid=\"a\" ; y=2\r\n"),
                    ("/", "cookie: x=1\r\ncookie: sid = a\r\n"),
                    ("/", "cookie: sid=%61\r\n"),
                ],
                &[("/", "cookie: sid=a=b\r\n")],
                &[
                    ("/", "cookie: sid=a; sid=b\r\n"),
                    ("/", "cookie: sid=c\r\ncookie: sid=c\r\n"),
                ],
            ],
        );
    }

    #[test]
    fn a_query_parameter_counts_by_its_only_value_decoded() {
        assert_groups(
            "'query:key'",
            &[
                &[("/", ""), ("/?", ""), ("/?KEY=a&keys=b&xkey=c", "")],
                &[("/?key", ""), ("/?key=", ""), ("/?x=1&&key=&", "")],
                &[
                    ("/?key=a%20b", ""),
                    ("/?key=a+b", ""),
                    ("/?x=y&%6Bey=%61%20b", ""),
                ],
                &[("/?key=a%2Bb", ""), ("/?key=a%2bb", "")],
                &[("/?key=a%2", "")],
                &[("/?key=a&key=b", ""), ("/?key=c&k%65y=c", "")],
            ],
        );
    }

    #[test]
    fn a_path_counts_by_its_segment() {
        assert_groups(
            "'path:2'",
            &[
                &[("/", ""), ("/v1", ""), ("/v1/", ""), ("//v1//", "")],
                &[
                    ("/v1/a", ""),
                    ("/v2/a/b", ""),
                    ("/v1//a", ""),
                    ("//v1/a/", ""),
                    ("/v1/%61", ""),
                ],
                &[("/v1/b", "")],
                &[("/v1/A", "")],
                &[("/v1/a%2Fb", "")],
            ],
        );
        let parts = parts("'path:1'");
        let of = |target| {
            ask(target, "", |subject| {
                let without_case = Subject {
                    ignore_case: true,
                    ..*subject
                };
                key_of(&without_case, &parts)
            })
        };
        assert_eq!(of("/Users"), of("/uSERS"), "as the route takes them");
    }

    #[test]
    fn parts_count_together_in_their_order() {
        let one = key("['query:a', 'query:b']", "/?a=1&b=2", "");
        for target in [
            "/?a=2&b=1",
            "/?a=1",
            "/?b=2",
            "/?a=12&b=",
            "/?a=&b=12",
            "/?a=1&a=1&b=2",
        ] {
            assert_ne!(key("['query:a', 'query:b']", target, ""), one, "{target}");
        }
        assert_eq!(key("['query:a', 'query:b']", "/?b=2&a=1", ""), one);
        assert_ne!(key("['query:b', 'query:a']", "/?a=1&b=2", ""), one);
        let absent_then_several = key("['query:a', 'query:b']", "/?b=1&b=2", "");
        let several_then_absent = key("['query:a', 'query:b']", "/?a=1&a=2", "");
        assert_ne!(absent_then_several, several_then_absent);
        let client = ask("/", "", |subject| subject.client_key);
        assert_eq!(
            key("'client_ip'", "/", ""),
            client,
            "and keeps its network's overflow"
        );
        assert_ne!(key("['client_ip', 'route']", "/", ""), client);
        assert_ne!(key("['client_ip', 'host']", "/", ""), client);
        assert_ne!(key("'host'", "/", ""), key("'route'", "/", ""));
    }

    #[test]
    fn what_the_plan_hashes_is_told_apart_by_its_value() {
        let parts = ["['client_ip', 'route']", "'route'", "['path:1', 'route']"].map(parts);
        for parts in parts {
            let on = |route| {
                ask("/a", "", |subject| {
                    key_of(&Subject { route, ..*subject }, &parts)
                })
            };
            assert_eq!(on("users"), on("users"), "{parts:?}");
            assert_ne!(on("users"), on("orders"), "{parts:?}");
            assert_ne!(on("users"), on("user"), "{parts:?}");
        }
    }

    #[test]
    fn a_label_shows_no_secret() {
        use crate::telemetry::top::LabelPart::{Absent, Address, Hidden, Several, Text};
        let hash = KeyHasher::with_secret(7).bytes(b"hunter2").hash();
        for (written, target, lines) in [
            ("'header:x'", "/", "x: hunter2\r\n"),
            ("'cookie:x'", "/", "cookie: x=hunter2\r\n"),
            ("'query:x'", "/?x=hunter%32", ""),
        ] {
            assert_eq!(label(written, target, lines), [Hidden(hash)]);
        }
        assert_eq!(
            label("['client_ip', 'path:1', 'route', 'header:x']", "/v%311", ""),
            [
                Address([192, 0, 2, 7].into()),
                Text("v11".into()),
                Text("users".into()),
                Absent
            ]
        );
        assert_eq!(
            label("['host', 'query:x']", "/?x=1&x=2", ""),
            [Text("a".into()), Several]
        );
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes: Vec<u8>) {
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
            let back: Vec<u8> = decode(encoded.as_bytes(), Plus::IsBlank).collect();
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn no_request_panics(query in "[a-z=&%+;0-9\"]{0,40}", cookie in "[a-z=&%+;0-9\" ]{0,40}") {
            for written in ["'query:a'", "'cookie:a'", "'path:1'"] {
                key(written, &format!("/{query}?{query}"), &format!("cookie: {cookie}\r\n"));
            }
        }
    }
}
