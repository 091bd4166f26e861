//! Answers that the gateway gives itself. The only place where an error becomes a status and a body.

pub(super) mod refusal;

use std::time::Duration;

use bytes::BufMut;
use http::StatusCode;
use runtime::Buf;

use super::codec::{Edits, put_decimal, put_status_line};
use super::error::{Error, Refusal};
use super::filter::limit::LimitPlan;
use super::page::Page;
use super::route::{Methods, RouteTable};
use crate::config::FixedResponse;

/// Methods that the gateway takes, besides extensions: not CONNECT and TRACE.
const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// What a client is told that comes when everything is taken: places are given back within the time of a request.
const RETRY_AFTER_S: &[u8] = b"1";
/// More than most answers have, with a body; a longer one grows.
const ANSWER_BYTES: usize = 1024;

/// The pieces of a body: its length is known before it is copied, and it is copied once.
type Pieces<'a> = [&'a [u8]; 11];

/// An answer of the gateway's own.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) content: Content<'a>,
    /// The request was HEAD: the fields of the answer and no body.
    pub(super) head_only: bool,
    /// The connection closes after it.
    pub(super) close: bool,
    /// An HTTP/1.0 client must be told that the connection stays.
    pub(super) say_keep_alive: bool,
    /// What the route changes of the fields.
    pub(super) edits: Edits<'a>,
}

/// What the answer says.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// What the config says.
    Fixed(&'a FixedResponse),
    /// A redirect to this place.
    Redirect(&'a [u8]),
    /// What went wrong, as problem+json (RFC 9457).
    Problem {
        /// The cause.
        error: &'a Error,
        /// For the reader of the answer to name it to the operator.
        request_id: &'a [u8],
        /// The limit that refused, for a refusal.
        limit: Option<&'a LimitPlan>,
        /// Knows the names of methods.
        table: &'a RouteTable,
        /// Whole field lines for who may not.
        challenges: &'a [u8],
        /// What is said in place of the document.
        page: Option<&'a Page<'a>>,
    },
}

impl Answer<'_> {
    /// Appends the answer to `out`; the bytes of its body that are there.
    pub(super) fn put(&self, out: &mut Buf, date: &[u8]) -> u64 {
        refusal::put(self, out, date).unwrap_or_else(|| self.put_anew(out, date))
    }

    /// As [`Self::put`], field by field.
    fn put_anew(&self, out: &mut Buf, date: &[u8]) -> u64 {
        // Room for the whole of an answer of usual length at once.
        out.reserve(ANSWER_BYTES);
        put_status_line(out, self.status, None);
        put_field(out, "Date", date);
        let mut status_text = itoa::Buffer::new();
        let mut body: Pieces<'_> = Pieces::default();
        match &self.content {
            Content::Fixed(fixed) => {
                let kept = fixed.headers.iter();
                for (name, value) in kept.filter(|(name, _)| !self.edits.removes(name.as_bytes())) {
                    put_field(out, name, value.as_bytes());
                }
                body[0] = fixed.body.as_bytes();
            }
            Content::Redirect(location) => put_field(out, "Location", location),
            Content::Problem {
                error,
                request_id,
                limit,
                table,
                challenges,
                page,
            } => {
                let passed = match error {
                    Error::AuthRefused(_, refusal) => Some(&**refusal),
                    _ => None,
                };
                let fields = passed.iter().flat_map(|refusal| &refusal.fields);
                for (name, value) in fields.filter(|(name, _)| !self.edits.removes(name)) {
                    put_line(out, name, value);
                }
                // A redirect needs no body.
                let is_ours = passed.is_none_or(|refusal| refusal.body.is_none())
                    && !(300..400).contains(&self.status);
                if is_ours && !self.edits.removes(b"content-type") {
                    match page {
                        Some(page) => put_field(out, "Content-Type", page.content_type.as_bytes()),
                        None => out.put_slice(b"Content-Type: application/problem+json\r\n"),
                    }
                }
                // RFC 9110, 15.5.6: what there is instead.
                match error {
                    Error::MethodNotAllowed(methods) => put_allow(out, table, *methods),
                    Error::Filtered(..) => {}
                    _ if self.status == 405 => put_field(out, "Allow", ALLOW.as_bytes()),
                    _ => {}
                }
                out.put_slice(challenges);
                self.put_retry_after(out, error, *limit);
                if let (true, Some(page)) = (is_ours, page) {
                    body[0] = &page.body;
                } else if is_ours {
                    let status = (self.status, status_text.format(self.status));
                    body = problem(status, error, request_id, *limit);
                } else if let Some(theirs) = passed.and_then(|refusal| refusal.body.as_ref()) {
                    body[0] = theirs;
                }
            }
        }
        // RFC 9110, 8.6: none in 204; 304 has no body of its own to measure.
        let has_length = self.status != 204 && self.status != 304;
        let length: u64 = body.iter().map(|piece| piece.len() as u64).sum();
        if has_length {
            out.put_slice(b"Content-Length: ");
            put_decimal(out, length);
            out.put_slice(b"\r\n");
        }
        if self.close {
            put_field(out, "Connection", b"close");
        } else if self.say_keep_alive {
            put_field(out, "Connection", b"keep-alive");
        }
        out.put_slice(self.edits.lines);
        out.put_slice(b"\r\n");
        if self.head_only || !has_length {
            return 0;
        }
        for piece in body {
            out.put_slice(piece);
        }
        length
    }
}

impl Answer<'_> {
    /// When to come again, where somebody knows.
    fn put_retry_after(&self, out: &mut Buf, error: &Error, limit: Option<&LimitPlan>) {
        match (error, limit) {
            // Also where it answers 503: it says for itself when there is room again.
            (Error::Limited(refusal), Some(limit)) => put_limit_fields(out, refusal, limit),
            (Error::Banned(banned), _) if self.status == 429 => {
                out.put_slice(b"Retry-After: ");
                put_decimal(out, whole_seconds(banned.left));
                out.put_slice(b"\r\n");
            }
            _ if self.status == 503 && !self.edits.removes(b"retry-after") => {
                put_field(out, "Retry-After", RETRY_AFTER_S);
            }
            _ => {}
        }
    }
}

fn put_field(out: &mut Buf, name: &str, value: &[u8]) {
    put_line(out, name.as_bytes(), value);
}

fn put_line(out: &mut Buf, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// `Allow` (RFC 9110, 10.2.1).
fn put_allow(out: &mut Buf, table: &RouteTable, methods: Methods) {
    let mut before: &[u8] = b"Allow: ";
    for name in table.method_names(methods) {
        out.put_slice(before);
        out.put_slice(name);
        before = b", ";
    }
    out.put_slice(b"\r\n");
}

/// `Retry-After` (RFC 9110, 10.2.3), `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
fn put_limit_fields(out: &mut Buf, refusal: &Refusal, limit: &LimitPlan) {
    let mut seconds = itoa::Buffer::new();
    let seconds = seconds.format(whole_seconds(refusal.retry_after));
    out.put_slice(b"Retry-After: ");
    out.put_slice(seconds.as_bytes());
    out.put_slice(b"\r\nRateLimit-Policy: ");
    out.put_slice(limit.policy(refusal.buckets).as_bytes());
    out.put_slice(b"\r\nRateLimit: ");
    out.put_slice(limit.quoted_name.as_bytes());
    out.put_slice(b";r=0;t=");
    out.put_slice(seconds.as_bytes());
    out.put_slice(b"\r\n");
}

/// Rounded up, and never 0: who comes back when it says must be let in.
fn whole_seconds(time: Duration) -> u64 {
    let begun = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(begun).max(1)
}

/// Nothing here needs escaping: static texts, a hexadecimal id, a name that the config has checked.
fn problem<'a>(
    (status, status_text): (u16, &'a str),
    error: &Error,
    request_id: &'a [u8],
    limit: Option<&'a LimitPlan>,
) -> Pieces<'a> {
    // RFC 9457; the two are of draft-ietf-httpapi-ratelimit-headers.
    let (opening, title) = match error {
        Error::Limited(_) => (
            "{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
              \"title\":\"Request cannot be satisfied as assigned quota has been exceeded",
            "",
        ),
        Error::Banned(_) => (
            "{\"type\":\"https://iana.org/assignments/http-problem-types#abnormal-usage-detected\",\
              \"title\":\"Request not satisfied as abnormal request pattern detected",
            "",
        ),
        _ => {
            let code = StatusCode::from_u16(status).ok();
            let reason = code.and_then(|code| code.canonical_reason());
            (
                "{\"type\":\"about:blank\",\"title\":\"",
                reason.unwrap_or("Error"),
            )
        }
    };
    let (before_limit, limit, end) = match limit {
        Some(limit) => (
            "\",\"violated-policies\":[",
            limit.quoted_name.as_str(),
            "]}\n",
        ),
        None => ("\"}\n", "", ""),
    };
    [
        opening.as_bytes(),
        title.as_bytes(),
        b"\",\"status\":",
        status_text.as_bytes(),
        b",\"detail\":\"",
        error.name().as_bytes(),
        b"\",\"instance\":\"urn:request:",
        request_id,
        before_limit.as_bytes(),
        limit.as_bytes(),
        end.as_bytes(),
    ]
}
