//! What the answer of an authenticator elsewhere means: who the caller is, or what the client is told. The asking is not
//! done here.

use std::rc::Rc;

use super::Identity;
use crate::config::{ConsumerConfig, ForwardAuthConfig, GROUPS_MAX};
use crate::data::codec::Fields;

/// Longest text that goes into a header field of the upstream's and a line of the log, in octets.
const TEXT_BYTES_MAX: usize = 256;
/// Octets of all field lines that are copied to the upstream.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// What an authenticator that cannot be asked at once has said.
#[derive(Clone, Debug)]
pub(in crate::data) enum Verdict {
    /// Whose the request is.
    Is(Rc<Identity>),
    /// The credential is wrong; why.
    Wrong(&'static str),
    /// It may not, for this reason; the gateway answers.
    Forbidden(&'static str),
    /// It may not; the client gets this.
    Refused(Rc<Refusal>),
    /// Nobody has judged it; why.
    Silent(&'static str),
}

/// Name and value of a field.
pub(in crate::data) type Line = (Box<[u8]>, Box<[u8]>);

/// An answer that refuses, as the client gets it.
#[derive(Clone, Debug, Default)]
pub(in crate::data) struct Refusal {
    /// 401, 403 or a redirect.
    pub(in crate::data) status: u16,
    /// Names and values of fields.
    pub(in crate::data) fields: Vec<Line>,
    /// The body; `None`: there was none that could be passed on.
    pub(in crate::data) body: Option<Vec<u8>>,
}

/// Fields that say what a body is; they are nothing without it.
const OF_BODY: [&[u8]; 3] = [b"content-type", b"content-encoding", b"content-language"];

impl Refusal {
    /// The stable name of what was refused.
    pub(in crate::data) const fn reason(status: u16) -> &'static str {
        match status {
            401 => "auth_denied",
            403 => "auth_forbidden",
            _ => "auth_redirected",
        }
    }

    /// Whether the client gets a field called `name`.
    pub(in crate::data) fn has(&self, name: &[u8]) -> bool {
        let mut names = self.fields.iter().map(|(name, _)| name);
        names.any(|each| each.eq_ignore_ascii_case(name))
    }

    /// The body is not there: its fields go, too.
    pub(in crate::data) fn without_body(mut self) -> Self {
        self.body = None;
        self.fields.retain(|(name, _)| {
            OF_BODY
                .iter()
                .all(|other| !name.eq_ignore_ascii_case(other))
        });
        self
    }
}

/// What an answer means whose head is read.
pub(in crate::data) fn judge(
    config: &ForwardAuthConfig,
    consumers: &[ConsumerConfig],
    status: u16,
    (head, fields): (&[u8], &Fields),
) -> Answered {
    match status {
        200..=299 => match identity(config, consumers, head, fields) {
            Ok(identity) => Answered::Final(Verdict::Is(Rc::new(identity))),
            Err(unfit) => Answered::Forbidden(unfit),
        },
        401 | 403 | 301 | 302 | 303 | 307 | 308 => {
            let is_passed = |name: &[u8]| {
                let mut names = config.pass.iter().map(String::as_bytes);
                names.any(|each| each.eq_ignore_ascii_case(name))
                    || name.eq_ignore_ascii_case(b"content-encoding")
            };
            let kept = fields.iter().filter(|field| {
                !field.named_by_connection
                    && is_passed(field.name.of(head))
                    && is_value(field.value.of(head))
            });
            let refusal = Refusal {
                status,
                fields: kept
                    .map(|field| (field.name.of(head).into(), field.value.of(head).into()))
                    .collect(),
                body: None,
            };
            // A redirect that does not say where to leads the client nowhere.
            if matches!(status, 300..=399) && !refusal.has(b"location") {
                return Answered::Forbidden("auth_refused");
            }
            Answered::WithBody(refusal)
        }
        // It was understood and refused, whatever is wrong with it: a request that can be made so must not get in where
        // `on_error` lets in. So can one that gets 304, where its conditional fields are sent along.
        300..=499 => Answered::Forbidden("auth_refused"),
        _ => Answered::Final(Verdict::Silent("auth_answer")),
    }
}

/// What an answer means, as far as its head says.
pub(in crate::data) enum Answered {
    /// This; its body is of no use.
    Final(Verdict),
    /// The request is refused by an answer of the gateway's own, for this reason; its body is of no use.
    Forbidden(&'static str),
    /// It refuses, and its body is the client's.
    WithBody(Refusal),
}

/// Who the answer says that the caller is.
fn identity(
    config: &ForwardAuthConfig,
    consumers: &[ConsumerConfig],
    head: &[u8],
    fields: &Fields,
) -> Result<Identity, &'static str> {
    let only = |name| only(name, head, fields);
    let mut identity = match only(&config.consumer)?.filter(|name| !name.is_empty()) {
        None => Identity::nobody(),
        Some(name) => {
            let known = consumers.iter().find(|consumer| consumer.name == name);
            let mut groups = known.map(|known| known.groups.clone()).unwrap_or_default();
            let told = only(&config.groups)?.unwrap_or_default();
            let words = told.split([',', ' ', '\t']).filter(|word| !word.is_empty());
            groups.extend(words.take(GROUPS_MAX).map(str::to_owned));
            let own = only(&config.plan)?.filter(|plan| !plan.is_empty());
            let plan = own.or_else(|| known.and_then(|known| known.plan.as_deref()));
            let mut texts = groups.iter().map(String::as_str).chain(plan).chain([name]);
            let fits = |text: &str| {
                let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
                text.len() <= TEXT_BYTES_MAX && text.bytes().all(is_plain)
            };
            if !texts.all(fits) {
                return Err(UNFIT);
            }
            Identity::new(name, &groups, plan)
        }
    };
    let mut lines = identity.lines.into_vec();
    let own = lines.len();
    for name in &config.copy {
        let ours = fields.iter().filter(|field| {
            !field.named_by_connection && field.name.of(head).eq_ignore_ascii_case(name.as_bytes())
        });
        for value in ours.map(|field| field.value.of(head)) {
            if !is_value(value) {
                return Err("auth_answer");
            }
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
    }
    if lines.len() - own > COPIED_BYTES_MAX {
        return Err("auth_answer");
    }
    identity.lines = lines.into();
    Ok(identity)
}

const UNFIT: &str = "auth_consumer";

/// The value of the one field called `name`.
fn only<'a>(
    name: &'a Option<String>,
    head: &'a [u8],
    fields: &'a Fields,
) -> Result<Option<&'a str>, &'static str> {
    let Some(name) = name else { return Ok(None) };
    let mut values = fields.values(head, name.as_bytes());
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value).map(Some).map_err(|_| UNFIT),
        (Some(_), Some(_)) => Err(UNFIT),
    }
}

/// A field value (RFC 9110, 5.5): what the parser of heads lets through, asserted where it is written again.
fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AuthenticatorKind, Config, ConfigSource, load};
    use crate::data::codec::{Method, RequestContext, parse_response};

    const FILE: &str = r#"
        listeners = [{ name = "web", address = "127.0.0.1:0" }]
        [upstreams.sso]
        endpoints = [{ address = "127.0.0.1:1" }]
        [consumers.ada]
        groups = ["staff"]
        plan = "gold"
        [forward_auth.gate]
        upstream = "sso"
        consumer_header = "x-user"
        groups_header = "x-groups"
        plan_header = "x-plan"
        copy_response_headers = ["x-tenant"]
    "#;

    fn config() -> Config {
        let source = ConfigSource::Text {
            name: "test",
            text: FILE,
        };
        load(source, &|_| None).unwrap()
    }

    fn judged(head: &str) -> Answered {
        let config = config();
        let AuthenticatorKind::Forward(gate) = &config.authenticators[0].kind else {
            panic!("one authenticator");
        };
        let head = head.replace('\n', "\r\n") + "\r\n";
        let mut fields = Fields::new();
        let context = RequestContext {
            method: Method::Get,
            upgrade: None,
            fields_max: 64,
            tolerate: config.upstreams[0].tolerate,
        };
        let response = parse_response(head.as_bytes(), &context, &mut fields).unwrap();
        let told = (head.as_bytes(), &fields);
        judge(gate, &config.consumers, response.status, told)
    }

    fn let_in(head: &str) -> Rc<Identity> {
        match judged(head) {
            Answered::Final(Verdict::Is(identity)) => identity,
            _ => panic!("refused: {head}"),
        }
    }

    #[test]
    fn an_answer_tells_the_consumer_its_groups_and_its_plan_and_the_file_the_rest() {
        let ada = let_in("HTTP/1.1 200 OK\nX-User: ada\nX-Groups: ops, dev\nX-Tenant: t1\n");
        assert_eq!(&*ada.name, "ada");
        assert_eq!(ada.groups, ["staff", "ops", "dev"].map(Box::from));
        assert_eq!(ada.plan.as_deref(), Some("gold"));
        assert!(ada.lines.ends_with(b"x-tenant: t1\r\n"), "{:?}", ada.lines);
        let eve = let_in("HTTP/1.1 204 No Content\nX-User: eve\nX-Plan: free\n");
        assert_eq!((eve.groups.len(), eve.plan.as_deref()), (0, Some("free")));
    }

    #[test]
    fn an_answer_without_the_field_lets_in_nobody_in_particular() {
        for head in [
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1 200 OK\nX-User:\nX-Groups: staff\n",
        ] {
            let nobody = let_in(head);
            assert!(nobody.name.is_empty() && nobody.groups.is_empty() && nobody.lines.is_empty());
        }
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_field_is_refused_and_never_let_in_unjudged() {
        let long = format!("X-User: {}\n", "x".repeat(257));
        for field in [
            "X-User: a b\n",
            "X-User: a,b\n",
            "X-User: \u{e4}\n",
            "X-User: a\nX-User: b\n",
            &long,
            "X-User: a\nX-Plan: b c\n",
        ] {
            let answer = judged(&format!("HTTP/1.1 200 OK\n{field}"));
            assert!(
                matches!(answer, Answered::Forbidden("auth_consumer")),
                "{field}"
            );
        }
        let long = format!("HTTP/1.1 200 OK\nX-Tenant: {}\n", "x".repeat(17_000));
        assert!(matches!(judged(&long), Answered::Forbidden("auth_answer")));
    }

    #[test]
    fn of_a_refusal_the_client_gets_what_is_listed() {
        let head = "HTTP/1.1 401 No\nWWW-Authenticate: A\nwww-authenticate: B\nX-Secret: s\nSet-Cookie: a=b\n\
                    Connection: location\nLocation: /x\nContent-Type: text/plain\nContent-Length: 2\n";
        let Answered::WithBody(refusal) = judged(head) else {
            panic!("let in");
        };
        let names: Vec<_> = refusal
            .fields
            .iter()
            .map(|(name, _)| std::str::from_utf8(name).unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "WWW-Authenticate",
                "www-authenticate",
                "Set-Cookie",
                "Content-Type"
            ]
        );
        assert_eq!(refusal.without_body().fields.len(), 3);
    }

    #[test]
    fn a_redirect_that_does_not_say_where_to_is_a_refusal() {
        for status in [301, 302, 303, 307, 308] {
            let there = judged(&format!("HTTP/1.1 {status} Go\nLocation: /x\n"));
            assert!(
                matches!(there, Answered::WithBody(Refusal { status: told, .. }) if told == status)
            );
            for field in ["", "Connection: location\nLocation: /x\n"] {
                let nowhere = judged(&format!("HTTP/1.1 {status} Go\n{field}"));
                assert!(
                    matches!(nowhere, Answered::Forbidden("auth_refused")),
                    "{status} {field}"
                );
            }
        }
    }

    #[test]
    fn only_what_is_no_answer_is_for_on_error() {
        // A multiple choice, a page that has not changed and a proxy to use judge nobody, and let nobody in.
        for status in [300, 304, 305, 306, 310, 399, 400, 404, 407, 418, 429, 431] {
            for field in ["", "Location: /x\n"] {
                let answer = judged(&format!("HTTP/1.1 {status} No\n{field}"));
                assert!(
                    matches!(answer, Answered::Forbidden("auth_refused")),
                    "{status} {field}"
                );
            }
        }
        for status in [500, 503, 599] {
            let answer = judged(&format!("HTTP/1.1 {status} No\n"));
            let silent = matches!(answer, Answered::Final(Verdict::Silent("auth_answer")));
            assert!(silent, "{status}");
        }
    }
}
