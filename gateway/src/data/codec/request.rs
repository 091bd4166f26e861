//! Reads a request head into spans (RFC 9112 sections 3 and 5, RFC 9110 sections 7 and 10.1).

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::ascii::{is_same_name, is_token, is_token_text, list};
use super::error::RequestError;
use super::field::{FIELDS_CAP, Field, FieldKind, Fields, Span};
use super::framing::{self, BodyFraming, Declared, FramingError};
use super::host::{is_host, is_same, without_empty_port};
use super::target::{self, Scheme, Target, TargetForm};
use crate::config::{ResponseFaults, UnderscoreHeaders};

/// Most options that Connection fields may list together: bounds the work of matching them with the fields.
pub(super) const CONNECTION_OPTIONS_MAX: usize = 64;

/// What a listener accepts.
#[derive(Clone, Copy, Debug)]
pub struct RequestRules {
    /// More fields than this: 431.
    pub fields_max: u16,
    /// What happens to names with `_`.
    pub underscore: UnderscoreHeaders,
    /// The scheme of the connection, with which an absolute-form target must agree.
    pub scheme: Scheme,
    /// A Host that differs from the target's authority is ignored, as RFC 9112 section 3.2.2 has it; else refused.
    pub rewrite_host: bool,
}

/// A request method; RFC 9110 section 9.1 makes case significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// PATCH.
    Patch,
    /// Any other token but CONNECT and TRACE.
    Other,
}

/// A version that this codec speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request head that broke no rule. Spans are offsets into the head it was read from.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as written.
    pub method_span: Span,
    /// The version.
    pub version: Version,
    /// The form of the target.
    pub form: TargetForm,
    /// The path as written; empty for an absolute form without path (which means `/`), `*` for the asterisk form.
    pub path: Span,
    /// The path is its own normal form in every policy and reads alike to whoever decodes it once, twice or not at all: nothing
    /// is escaped, no segment is empty or begins with a dot, and there is no `;` or `\`. False says nothing.
    pub plain_path: bool,
    /// The query without `?`, where there is one.
    pub query: Option<Span>,
    /// The scheme of an absolute form.
    pub scheme: Option<Scheme>,
    /// Host and port that the request is for: of the target where it has one, else of Host. `None` only in HTTP/1.0.
    pub authority: Option<Span>,
    /// Where the body ends; never [`BodyFraming::UntilClose`].
    pub framing: BodyFraming,
    /// Whether the client may send another request on the connection.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends the body; never without a body, never in HTTP/1.0.
    pub expect_continue: bool,
    /// The protocols of the one Upgrade field, where Connection names it too, in HTTP/1.1.
    pub upgrade: Option<Span>,
    /// The client accepts trailers (`TE: trailers` named by Connection or not).
    pub te_trailers: bool,
    /// X-Request-Id as sent, where there is exactly one.
    pub request_id: Option<Span>,
    /// Max-Forwards of OPTIONS: 0 means that the gateway must answer itself (RFC 9110 section 7.6.2).
    pub max_forwards: Option<u32>,
}

/// Reads `head`, which a [`HeadScanner`](super::HeadScanner) has found, into spans and `fields`.
///
/// Allocates only where `fields` grows. What the scanner refuses is not looked for again here, except that nothing but
/// visible octets, blanks and CRLF gets through either.
///
/// # Errors
/// The rule that the request breaks. The caller answers with its status and closes the connection.
pub fn parse_request(
    head: &[u8],
    rules: &RequestRules,
    fields: &mut Fields,
) -> Result<RequestHead, RequestError> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_CAP];
    let limit = FIELDS_CAP.min(usize::from(rules.fields_max));
    let slots = slots.get_mut(..limit).unwrap_or_default();
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, slots) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(RequestError::Incomplete),
        Err(error) => return Err(diagnose(error, head, 1)),
    }
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version)
    else {
        return Err(RequestError::Incomplete);
    };
    fields.fill(head, request.headers);
    let version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let method_span = Span::locate(head, method.as_bytes());
    let method = parse_method(method.as_bytes())?;
    let target = target::parse(head, path.as_bytes(), method == Method::Options)?;
    let authority = check_host(head, fields, version, &target, rules)?;
    let framing = check_framing(head, fields, version)?;
    let connection = read_connection(head, fields)?;
    let rest = read_rest(head, fields, rules, method)?;
    let modern = version == Version::Http11;
    Ok(RequestHead {
        method,
        method_span,
        version,
        form: target.form,
        path: target.path,
        plain_path: target.plain,
        query: target.query,
        scheme: target.scheme,
        authority,
        framing,
        keep_alive: !connection.close && (modern || connection.keep_alive),
        expect_continue: rest.expect_continue
            && modern
            && !matches!(framing, BodyFraming::None | BodyFraming::Length(0)),
        upgrade: rest.upgrade.filter(|_| connection.upgrade && modern),
        te_trailers: rest.te_trailers && modern,
        request_id: rest.request_id,
        max_forwards: rest.max_forwards,
    })
}

/// Looks at lines of a head whose end has not come: the request line with what follows (`is_start`), or fields. So who
/// sends something else than HTTP is told at once and not when its time is up.
///
/// `lines` ends in CRLF. What is good here may yet be refused when the whole head is read, never the reverse.
///
/// # Errors
/// The rule broken by the first line that breaks one.
#[cold]
pub fn check_lines(lines: &[u8], is_start: bool) -> Result<(), RequestError> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_CAP];
    if is_start {
        let parsed = httparse::Request::new(&mut slots).parse(lines);
        return parsed
            .map(|_| ())
            .map_err(|error| diagnose(error, lines, 1));
    }
    let parsed = httparse::parse_headers(lines, &mut slots);
    parsed
        .map(|_| ())
        .map_err(|error| diagnose(error, lines, 0))
}

/// Whether repeating the request has the same effect as one (RFC 9110 section 9.2.2).
#[must_use]
pub const fn is_idempotent(method: Method) -> bool {
    match method {
        Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options => true,
        Method::Post | Method::Patch | Method::Other => false,
    }
}

fn parse_method(method: &[u8]) -> Result<Method, RequestError> {
    Ok(match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"PATCH" => Method::Patch,
        b"CONNECT" => return Err(RequestError::ConnectRefused),
        b"TRACE" => return Err(RequestError::TraceRefused),
        _ => Method::Other,
    })
}

/// Exactly one valid Host (at most one in HTTP/1.0), the same place as the target's authority.
fn check_host(
    head: &[u8],
    fields: &Fields,
    version: Version,
    target: &Target,
    rules: &RequestRules,
) -> Result<Option<Span>, RequestError> {
    let mut hosts = fields.iter().filter(|field| field.kind == FieldKind::Host);
    let host = hosts.next().map(|field| field.value);
    if hosts.next().is_some() {
        return Err(RequestError::HostRepeated);
    }
    if host.is_none() && version == Version::Http11 {
        return Err(RequestError::HostMissing);
    }
    if host.is_some_and(|host| !is_host(head, host)) {
        return Err(RequestError::Host);
    }
    let (Some(scheme), Some(authority)) = (target.scheme, target.authority) else {
        return Ok(host.map(|host| without_empty_port(head, host)));
    };
    let is_same = |host: Span| is_same(host.of(head), authority.of(head), scheme.default_port());
    if !rules.rewrite_host && !host.is_none_or(is_same) {
        return Err(RequestError::HostMismatch);
    }
    if scheme != rules.scheme {
        return Err(RequestError::SchemeMismatch);
    }
    Ok(Some(without_empty_port(head, authority)))
}

fn check_framing(
    head: &[u8],
    fields: &Fields,
    version: Version,
) -> Result<BodyFraming, RequestError> {
    // A client is forgiven nothing.
    match framing::declared(
        head,
        fields,
        ResponseFaults::NONE,
        &mut ResponseFaults::default(),
    ) {
        Ok(Declared::Nothing) => Ok(BodyFraming::None),
        Ok(Declared::Length(length)) => Ok(BodyFraming::Length(length)),
        Ok(Declared::Chunked) if version == Version::Http11 => Ok(BodyFraming::Chunked),
        Ok(Declared::Chunked) => Err(RequestError::TransferEncodingInHttp10),
        Err(FramingError::Length) => Err(RequestError::ContentLength),
        Err(FramingError::LengthRepeated) => Err(RequestError::ContentLengthRepeated),
        Err(FramingError::Both) => Err(RequestError::LengthAndEncoding),
        Err(FramingError::Encoding) => Err(RequestError::TransferEncoding),
        Err(FramingError::EncodingRepeated) => Err(RequestError::TransferEncodingRepeated),
        Err(FramingError::CodingUnknown) => Err(RequestError::TransferCodingUnknown),
    }
}

/// What Connection says about the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

/// Reads all Connection fields and marks the fields they name.
fn read_connection(head: &[u8], fields: &mut Fields) -> Result<Connection, RequestError> {
    let mut connection = Connection::default();
    if !fields.has(FieldKind::Connection) {
        return Ok(connection);
    }
    if let Some(only) = fields.only(FieldKind::Connection) {
        // What nearly all say that say something.
        connection.keep_alive = is_same_name(only.value.of(head), b"keep-alive");
        connection.close = is_same_name(only.value.of(head), b"close");
        if connection.keep_alive | connection.close {
            return Ok(connection);
        }
    }
    read_options(head, fields)
}

/// As [`read_connection`], whatever they say.
#[inline(never)]
fn read_options(head: &[u8], fields: &mut Fields) -> Result<Connection, RequestError> {
    let mut connection = Connection::default();
    let mut options = 0_usize;
    for index in 0..fields.len() {
        let Some(value) = fields.value_at(index, FieldKind::Connection) else {
            continue;
        };
        for option in list(value.of(head)) {
            // RFC 9110 section 5.6.1.2: a recipient must accept a reasonable number of empty elements.
            options = options.saturating_add(1);
            if options > CONNECTION_OPTIONS_MAX {
                return Err(RequestError::Connection);
            }
            if option.is_empty() {
                continue;
            }
            if !is_token_text(option) {
                return Err(RequestError::Connection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                connection.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                connection.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                connection.upgrade = true;
            } else if is_protected(option) {
                return Err(RequestError::ConnectionNamesProtected);
            } else {
                fields.mark_named(head, option);
            }
        }
    }
    Ok(connection)
}

/// Fields that a client must not be able to strip on the way (rule 15: the request's framing, target and identity).
pub(super) fn is_protected(name: &[u8]) -> bool {
    const PROTECTED: [&[u8]; 8] = [
        b"authorization",
        b"content-length",
        b"cookie",
        b"forwarded",
        b"host",
        b"transfer-encoding",
        b"x-real-ip",
        b"x-request-id",
    ];
    const PREFIX: &[u8] = b"x-forwarded-";
    PROTECTED
        .iter()
        .any(|protected| name.eq_ignore_ascii_case(protected))
        || name
            .get(..PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The remaining fields that mean something to a gateway.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    expect_continue: bool,
    upgrade: Option<Span>,
    te_trailers: bool,
    request_id: Option<Span>,
    max_forwards: Option<u32>,
}

fn read_rest(
    head: &[u8],
    fields: &Fields,
    rules: &RequestRules,
    method: Method,
) -> Result<Rest, RequestError> {
    let mut rest = Rest::default();
    if !fields.has_any(&[
        FieldKind::Expect,
        FieldKind::Upgrade,
        FieldKind::XRequestId,
        FieldKind::Te,
        FieldKind::MaxForwards,
        FieldKind::Underscore,
    ]) {
        return Ok(rest);
    }
    let mut upgrades = 0_u32;
    let mut request_ids = 0_u32;
    for field in fields.iter() {
        let value = field.value.of(head);
        match field.kind {
            FieldKind::Expect => {
                // RFC 9110 section 10.1.1: a list, in which elements may be empty.
                for expectation in list(value).filter(|expectation| !expectation.is_empty()) {
                    if !expectation.eq_ignore_ascii_case(b"100-continue") {
                        return Err(RequestError::Expectation);
                    }
                    rest.expect_continue = true;
                }
            }
            FieldKind::Upgrade => {
                upgrades = upgrades.saturating_add(1);
                rest.upgrade = Some(field.value).filter(|_| upgrades == 1);
            }
            FieldKind::XRequestId => {
                request_ids = request_ids.saturating_add(1);
                rest.request_id = Some(field.value).filter(|_| request_ids == 1);
            }
            FieldKind::Te => {
                rest.te_trailers |=
                    list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            FieldKind::MaxForwards if method == Method::Options => {
                rest.max_forwards = Some(parse_max_forwards(field, head)?);
            }
            FieldKind::Underscore if rules.underscore == UnderscoreHeaders::Reject => {
                return Err(RequestError::FieldUnderscore);
            }
            _ => {}
        }
    }
    Ok(rest)
}

fn parse_max_forwards(field: &Field, head: &[u8]) -> Result<u32, RequestError> {
    let value = field.value.of(head);
    if value.is_empty() || value.len() > 10 || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::MaxForwards);
    }
    let text = str::from_utf8(value).map_err(|_| RequestError::MaxForwards)?;
    // More than fits is as good as unlimited.
    Ok(text.parse().unwrap_or(u32::MAX))
}

/// Names the rule behind a refusal by httparse, which tells less. Only for messages that are refused. `skip`: lines before
/// the fields.
#[cold]
fn diagnose(error: httparse::Error, head: &[u8], skip: usize) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::TooManyFields,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => diagnose_field(head, skip),
        _ => diagnose_request_line(head),
    }
}

fn diagnose_request_line(head: &[u8]) -> RequestError {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return RequestError::RequestLine;
    };
    if method.is_empty() || target.is_empty() || version.is_empty() {
        return RequestError::RequestLine;
    }
    if !is_token_text(method) {
        return RequestError::Method;
    }
    if target.iter().any(|byte| !byte.is_ascii_graphic()) {
        return RequestError::Target;
    }
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            RequestError::VersionUnsupported
        }
        _ => RequestError::Version,
    }
}

fn diagnose_field(head: &[u8], skip: usize) -> RequestError {
    for line in head.split(|&byte| byte == b'\n').skip(skip) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return RequestError::FieldFold;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let Some(name) = colon.and_then(|at| line.get(..at)) else {
            return RequestError::FieldColon;
        };
        match name.last() {
            None => return RequestError::FieldNameEmpty,
            Some(b' ' | b'\t') => return RequestError::FieldNameBlank,
            Some(_) if !name.iter().all(|&byte| is_token(byte)) => return RequestError::FieldName,
            Some(_) => {}
        }
    }
    RequestError::FieldValue
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::field::connections;
    use super::*;

    proptest! {
        #[test]
        fn what_connection_mostly_says_is_read_as_all_that_it_may_say(lines in connections::lines()) {
            let [mostly, all] = connections::read_by(&lines, [read_connection, read_options]);
            prop_assert_eq!(mostly, all);
        }
    }
}
