//! What is written anew of a request or response: paths, targets of redirects and header fields, from templates that were
//! read with the configuration. No I/O, no allocation but while a buffer grows.

use super::auth::Identity;
use super::codec::{Normalised, normalise_path};
use super::error::Error;
use super::route::Captures;
use crate::config::{HeaderEdits, PathPolicy, PathRewrite, Piece, Template, Variable};

/// What templates can take from a request, in the form in which the gateway understood it; see each `put` for what is done
/// with octets that may not stand there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variables<'a> {
    pub(super) scheme: &'a str,
    pub(super) method: &'a [u8],
    /// In lower case, without port.
    pub(super) host: &'a [u8],
    /// As it was routed.
    pub(super) path: &'a [u8],
    /// Without `?` and without a credential that is withheld.
    pub(super) query: &'a [u8],
    pub(super) caller: Option<&'a Identity>,
    pub(super) client: &'a [u8],
    pub(super) request_id: &'a [u8],
    pub(super) route: &'a str,
    pub(super) captures: &'a Captures,
}

impl<'a> Variables<'a> {
    /// Of a request of which nothing but its identifier is known.
    pub(super) fn unknown(request_id: &'a [u8], captures: &'a Captures) -> Self {
        Self {
            scheme: "",
            method: b"",
            host: b"",
            path: b"",
            query: b"",
            caller: None,
            client: b"",
            request_id,
            route: "",
            captures,
        }
    }

    pub(super) fn value(&self, variable: &Variable) -> &'a [u8] {
        match variable {
            Variable::Scheme => self.scheme.as_bytes(),
            Variable::Method => self.method,
            Variable::Host => self.host,
            Variable::Path => self.path,
            Variable::Query => self.query,
            Variable::ClientAddress => self.client,
            Variable::RequestId => self.request_id,
            Variable::Route => self.route.as_bytes(),
            Variable::ConsumerName => self.caller.map_or(b"", |caller| caller.name.as_bytes()),
            Variable::ConsumerPlan => {
                let plan = self.caller.and_then(|caller| caller.plan.as_deref());
                plan.unwrap_or_default().as_bytes()
            }
            Variable::Capture { number, .. } => self.captures.of(*number, self.path),
        }
    }

    /// Appends a field value. What no field value may hold becomes `_`: nothing of a request can begin another line.
    fn put_value(&self, template: &Template, out: &mut Vec<u8>) {
        let harmless = |&byte: &u8| match byte {
            b'\t' => byte,
            0..0x20 | 0x7f => b'_',
            _ => byte,
        };
        for piece in &template.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => out.extend(self.value(variable).iter().map(harmless)),
            }
        }
    }

    /// Appends a path. Parts of the request's own path are in their one form already; all else is escaped.
    fn put_path(&self, template: &Template, out: &mut Vec<u8>) {
        for piece in &template.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable @ (Variable::Path | Variable::Capture { .. })) => {
                    out.extend_from_slice(self.value(variable));
                }
                Piece::Variable(variable) => put_escaped(self.value(variable), is_unreserved, out),
            }
        }
    }

    /// Appends a reference of RFC 3986 for `Location`, with the query behind it if `with_query`.
    ///
    /// # Errors
    ///
    /// [`Error::Rewrite`]: it is to lead to the host of the request, which names none: `https:///a` leads some clients to the
    /// host `a`.
    pub(super) fn put_location(
        &self,
        template: &Template,
        with_query: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let start = out.len();
        let is_host = |piece: &Piece| *piece == Piece::Variable(Variable::Host);
        if self.host.is_empty() && template.pieces.iter().any(is_host) {
            return Err(Error::Rewrite);
        }
        for piece in &template.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => put_escaped(self.value(variable), is_of_uri, out),
            }
        }
        if with_query && !self.query.is_empty() {
            out.push(b'?');
            put_escaped(self.query, is_of_uri, out);
        }
        merge_first_slashes(out, start);
        Ok(())
    }
}

/// Writes to `out` (cleared first) the path that goes upstream in place of the one that was routed.
///
/// # Errors
///
/// [`Error::Rewrite`]: what came out is not in normal form, such as a dot segment made of a text and a capture.
pub(super) fn rewrite_path(
    rewrite: &PathRewrite,
    variables: &Variables<'_>,
    policy: PathPolicy,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.clear();
    match rewrite {
        PathRewrite::Prefix { strip, add } => {
            // The route's own path begins with it, so the request's does, perhaps in another case.
            let rest = variables.path.get(strip.len()..).unwrap_or_default();
            out.extend_from_slice(add.as_bytes());
            if rest.first().is_none_or(|&first| first != b'/')
                && (out.is_empty() || !rest.is_empty())
            {
                out.push(b'/');
            }
            out.extend_from_slice(rest);
        }
        PathRewrite::Whole(template) => variables.put_path(template, out),
    }
    merge_first_slashes(out, 0);
    match normalise_path(out, policy, scratch) {
        Ok(Normalised::AsIs) => Ok(()),
        Ok(Normalised::Rewritten) | Err(_) => Err(Error::Rewrite),
    }
}

/// `//` at the start of a reference is the start of a host, and of a path that of a target some servers take for one.
fn merge_first_slashes(out: &mut Vec<u8>, start: usize) {
    let slashes = out.iter().skip(start).take_while(|&&byte| byte == b'/');
    let count = slashes.count();
    if count > 1 {
        out.drain(start..start + count - 1);
    }
}

fn put_escaped(value: &[u8], stays: fn(u8) -> bool, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        if stays(byte) {
            out.push(byte);
        } else {
            let digit = |four: u8| DIGITS[usize::from(four & 15)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// An octet that a reference may hold: RFC 3986, section 2, and `%`.
const fn is_of_uri(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(
            byte,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
}

/// What is done with the header fields of one direction.
#[derive(Debug, Default)]
pub(super) struct HeaderPlan {
    /// Names with the values to add.
    lines: Vec<(String, Template)>,
    /// Names of what is left out, in lower case, `-` for `_`.
    removed: Vec<Box<[u8]>>,
}

impl HeaderPlan {
    pub(super) fn new(config: &HeaderEdits) -> Self {
        let set = config.set.iter().map(|(name, _)| name);
        let folded = |name: &String| {
            let name = name.to_ascii_lowercase().replace('_', "-");
            name.into_bytes().into_boxed_slice()
        };
        Self {
            removed: set.chain(&config.remove).map(folded).collect(),
            lines: config.set.iter().chain(&config.add).cloned().collect(),
        }
    }

    /// Leaves these out too; in lower case, `-` for `_`.
    pub(super) fn remove(&mut self, names: &[&str]) {
        self.removed
            .extend(names.iter().map(|name| Box::from(name.as_bytes())));
    }

    /// Names of what is left out.
    pub(super) fn removed(&self) -> &[Box<[u8]>] {
        &self.removed
    }

    /// Nothing is added.
    pub(super) fn adds_nothing(&self) -> bool {
        self.lines.is_empty()
    }

    /// Appends the field lines to add.
    pub(super) fn put_lines(&self, variables: &Variables<'_>, out: &mut Vec<u8>) {
        for (name, value) in &self.lines {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            variables.put_value(value, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Action, ConfigSource, RouteConfig, load};

    /// A route with these lines.
    fn route(lines: &str) -> RouteConfig {
        let text = format!(
            "listeners = [{{ name = 'a', address = '[::]:0' }}]\n[upstreams.u]\nendpoints = [{{ address = '10.0.0.1:80' }}]\n\
             [[routes]]\nname = 'r'\n{lines}\n"
        );
        let source = ConfigSource::Text {
            name: "x",
            text: &text,
        };
        load(source, &|_| None)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .routes
            .remove(0)
    }

    fn variables<'a>(path: &'a [u8], query: &'a [u8], captures: &'a Captures) -> Variables<'a> {
        Variables {
            scheme: "http",
            method: b"GET",
            host: b"a.test",
            path,
            query,
            caller: None,
            client: b"192.0.2.7",
            request_id: b"r1",
            route: "r",
            captures,
        }
    }

    fn captured(path: &[u8], part: &[u8]) -> Captures {
        let at = path.windows(part.len()).position(|window| window == part);
        let at = at.unwrap();
        Captures::of_place(at..at + part.len())
    }

    fn rewritten(lines: &str, path: &str, captures: &Captures) -> Option<String> {
        let route = route(&format!("upstream = 'u'\n{lines}"));
        let rewrite = route.rewrite.path.unwrap();
        let variables = variables(path.as_bytes(), b"q=1", captures);
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        let done = rewrite_path(
            &rewrite,
            &variables,
            PathPolicy::Standard,
            &mut scratch,
            &mut out,
        );
        done.ok().map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn prefixes_are_taken_off_and_put_on_by_whole_segments() {
        let none = Captures::default();
        let strip = "path_prefix = '/v1'\nrewrite = { strip_prefix = '/v1' }";
        let swap =
            "path_prefix = '/v1'\nrewrite = { strip_prefix = '/v1/', add_prefix = '/v2/x/' }";
        let add = "rewrite = { add_prefix = '/app' }";
        for (lines, path, expected) in [
            (strip, "/v1", "/"),
            (strip, "/v1/", "/"),
            (strip, "/v1/a/b", "/a/b"),
            (strip, "/v1//evil.test/x", "/evil.test/x"),
            (swap, "/v1", "/v2/x"),
            (swap, "/v1/", "/v2/x/"),
            (swap, "/v1/a%2Fb", "/v2/x/a%2Fb"),
            (add, "/", "/app/"),
            (add, "/a", "/app/a"),
        ] {
            assert_eq!(
                rewritten(lines, path, &none).as_deref(),
                Some(expected),
                "{lines} {path}"
            );
        }
    }

    #[test]
    fn a_path_is_made_of_captures_and_never_of_dot_segments() {
        let lines = "path = '/u/{id}'\nrewrite = { path = '/users/${path.id}' }";
        let make = |lines, path: &str, part: &str| {
            rewritten(lines, path, &captured(path.as_bytes(), part.as_bytes()))
        };
        assert_eq!(
            make(lines, "/u/a%2Fb", "a%2Fb").as_deref(),
            Some("/users/a%2Fb")
        );
        let tail = "path_regex = '/u/x(?P<id>.*)'\nrewrite = { path = '/a/.${path.id}' }";
        assert_eq!(make(tail, "/u/xb", "b").as_deref(), Some("/a/.b"));
        for part in [".", "./b", "%2F..", "%2E"] {
            assert_eq!(make(tail, &format!("/u/x{part}"), part), None, "{part}");
        }
        let host = "path = '/u/{id}'\nrewrite = { path = '/${host}/${client.address}' }";
        assert_eq!(
            make(host, "/u/b", "b").as_deref(),
            Some("/a.test/192.0.2.7")
        );
    }

    fn location(to: &str, path: &[u8], query: &[u8]) -> String {
        let route = route(&format!("redirect = {{ to = '{to}' }}"));
        let Action::Redirect(redirect) = &route.action else {
            panic!("no redirect");
        };
        let none = Captures::default();
        let mut out = Vec::new();
        let variables = variables(path, query, &none);
        let done = variables.put_location(&redirect.to, redirect.with_query, &mut out);
        assert!(done.is_ok());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_redirect_never_leads_to_another_host_than_the_one_written() {
        for (to, path, query, expected) in [
            ("https://${host}${path}", "/a/b", "", "https://a.test/a/b"),
            (
                "https://${host}${path}",
                "/a",
                "x=1",
                "https://a.test/a?x=1",
            ),
            ("https://${host}${path}?", "/a", "x=1", "https://a.test/a?"),
            (
                "https://b.test/?u=${path}",
                "/a",
                "x=1",
                "https://b.test/?u=/a",
            ),
            ("${path}", "//evil.test/x", "", "/evil.test/x"),
            ("/${path}", "//evil.test/x", "", "/evil.test/x"),
            (
                "https://b.test${path}",
                "//evil.test",
                "",
                "https://b.test//evil.test",
            ),
            ("${scheme}://${host}/x", "/", "", "http://a.test/x"),
            ("/a$$b", "/", "", "/a$b"),
        ] {
            assert_eq!(
                location(to, path.as_bytes(), query.as_bytes()),
                expected,
                "{to} {path}"
            );
        }
        assert_eq!(location("/x", b"/", b"a=\xff\"<"), "/x?a=%FF%22%3C");
    }

    #[test]
    fn a_request_that_names_no_host_is_not_led_to_it() {
        let route = route("redirect = { to = 'https://${host}${path}' }");
        let Action::Redirect(redirect) = &route.action else {
            panic!("no redirect");
        };
        let none = Captures::default();
        let nameless = Variables {
            host: b"",
            ..variables(b"/evil.test/", b"", &none)
        };
        let done = nameless.put_location(&redirect.to, redirect.with_query, &mut Vec::new());
        assert!(matches!(done, Err(Error::Rewrite)));
    }

    proptest! {
        #[test]
        fn no_value_ends_its_line(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let route = route(
                "upstream = 'u'\npath_prefix = '/'\nrequest_headers = { set = { x-a = 'q ${query}' }, add = { x-b = '${host}' } }"
            );
            let plan = HeaderPlan::new(&route.request_headers);
            let none = Captures::default();
            let mut out = Vec::new();
            let all = Variables { host: &value, ..variables(b"/", &value, &none) };
            plan.put_lines(&all, &mut out);
            prop_assert_eq!(out.windows(2).filter(|two| *two == b"\r\n").count(), 2);
            prop_assert_eq!(out.iter().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)).count(), 4);
        }
    }
}
