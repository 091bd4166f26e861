//! `[error_bodies.NAME]`: what the gateway's own refusals say, in place of a problem document.

use std::path::PathBuf;

use super::address::parse_name;
use super::key::{Keys, Nested, Optional, Required};
use super::kind::{FILE, Kind, Text, Written};
use super::load::read_bounded;
use super::respond::parse_value;
use super::section::{Located, Section};
use super::template::{Variable, of_request};

/// Most bodies of a section.
const BODIES_MAX: usize = 64;
/// Longest body, as it is written, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 10;
/// Most pieces of a body.
const PIECES_MAX: usize = 256;

pub(super) static KEYS: Keys = Keys {
    header: "[error_bodies.NAME]",
    text: "Bodies of one's own for answers by which the gateway itself refuses a request or says that it failed, in place of `application/problem+json`. `listeners.error_bodies` and `routes.error_bodies` name it. Fields of such answers (`WWW-Authenticate`, `Allow`, `Retry-After`) stay. Answers of upstreams and of `routes.respond` are not touched. Costs nothing but where such an answer is given.",
    rows: &[&BODIES],
    unsupported: &["intercept", "redirect"],
};

pub(super) static BODY_KEYS: Keys = Keys {
    header: "error_bodies.NAME.bodies",
    text: "A body: `{ status = \"5xx\", file = \"/etc/ringgate/5xx.html\" }`. The exact status wins over its class. Variables of the request stand in bodies as in [other texts](#variables), but for `${path.NAME}`; besides there are `${error.status}`, `${error.reason}` (the reason phrase) and `${error.detail}` (the cause, as the log has it). They are escaped as the content type asks: HTML and XML, JSON, plain text; bodies of other types hold none. What is not known yet when a request is refused is empty. A `$` is written `$$`; in a file one that no `{` follows stands for itself.",
    rows: &[&STATUS, &BODY, &BODY_FILE, &CONTENT_TYPE],
    unsupported: &["redirect", "headers", "response_code"],
};

static BODIES: Nested = Nested {
    name: "bodies",
    expects: "an array of tables such as [{ status = 404, body = \"nothing here\" }]",
    absent: "required",
    text: "What is said for which status, at most 64, see `error_bodies.NAME.bodies`.",
};

static STATUS: Required<StatusKind> = Required {
    name: "status",
    kind: StatusKind,
    text: "For which answers.",
};

static BODY: Optional<BodyText> = Optional {
    name: "body",
    kind: BodyText,
    absent: "this or `file`",
    text: "The body itself.",
};

static BODY_FILE: Optional<Text<PathBuf>> = Optional {
    name: "file",
    kind: FILE,
    absent: "see `body`",
    text: "A file with the body, UTF-8 text, read at the start.",
};

static CONTENT_TYPE: Optional<Text<String>> = Optional {
    name: "content_type",
    kind: Text {
        expects: "a media type such as \"text/html; charset=utf-8\"",
        parse: parse_media_type,
        show: String::clone,
    },
    absent: "HTML: `text/html; charset=utf-8`",
    text: "Its media type.",
};

pub(super) static NAME: Optional<Text<String>> = Optional {
    name: "error_bodies",
    kind: Text {
        expects: "a name",
        parse: parse_name,
        show: String::clone,
    },
    absent: "problem documents",
    text: "What its refusals say, see `[error_bodies.NAME]`. A route's come before its listener's, status by status; before a route is found there are the listener's.",
};

const HTML: &str = "text/html; charset=utf-8";

fn parse_media_type(text: &str) -> Result<String, String> {
    let text = parse_value(text)?;
    let (kind, sub) = text.split_once('/').ok_or("a media type is TYPE/SUBTYPE")?;
    if kind.is_empty() || sub.is_empty() {
        return Err("a media type is TYPE/SUBTYPE".into());
    }
    Ok(text)
}

/// Which answers a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStatus {
    /// Those with this status, 400..=599.
    Exact(u16),
    /// All from 400, or all from 500.
    Class(u16),
}

impl ErrorStatus {
    fn fits(self, status: u16) -> bool {
        match self {
            Self::Exact(exact) => exact == status,
            Self::Class(class) => class == status / 100 * 100,
        }
    }
}

struct StatusKind;

impl Kind for StatusKind {
    type Value = ErrorStatus;
    fn expects(&self) -> String {
        "a status from 400 to 599, or \"4xx\" or \"5xx\"".into()
    }
    fn read(&self, written: Written<'_>) -> Result<ErrorStatus, String> {
        let exact = |status: Option<u16>| {
            let inside = status.filter(|status| (400..600).contains(status));
            inside.map(ErrorStatus::Exact)
        };
        let read = match written {
            Written::Text("4xx") => Some(ErrorStatus::Class(400)),
            Written::Text("5xx") => Some(ErrorStatus::Class(500)),
            Written::Text(text) => exact(text.parse().ok()),
            Written::Integer(number) => exact(number.and_then(|it| it.try_into().ok())),
            other => return Err(other.mismatch(&self.expects())),
        };
        read.ok_or_else(|| format!("must be {}", self.expects()))
    }
    fn show(&self, value: &ErrorStatus) -> String {
        match value {
            ErrorStatus::Exact(status) => status.to_string(),
            ErrorStatus::Class(class) => format!("\"{}xx\"", class / 100),
        }
    }
}

struct BodyText;

impl Kind for BodyText {
    type Value = String;
    fn expects(&self) -> String {
        "a string".into()
    }
    fn has_request_variables(&self) -> bool {
        true
    }
    fn read(&self, written: Written<'_>) -> Result<String, String> {
        match written {
            Written::Text(text) => Ok(text.to_owned()),
            other => Err(other.mismatch(&self.expects())),
        }
    }
    fn show(&self, value: &String) -> String {
        format!("\"{value}\"")
    }
}

/// One of `[error_bodies.NAME]`.
#[derive(Clone, Debug)]
pub struct ErrorBodiesConfig {
    /// Unique name.
    pub name: String,
    /// At most 64, no status twice.
    pub bodies: Vec<ErrorBody>,
}

impl ErrorBodiesConfig {
    /// The body for a status: the exact one before its class.
    #[must_use]
    pub fn find(&self, status: u16) -> Option<&ErrorBody> {
        let exact = ErrorStatus::Exact(status);
        let fits = |body: &&ErrorBody| body.status.fits(status);
        let all = || self.bodies.iter().filter(fits);
        all()
            .find(|body| body.status == exact)
            .or_else(|| all().next())
    }
}

/// What is said for a status.
#[derive(Clone, Debug)]
pub struct ErrorBody {
    /// For which answers.
    pub status: ErrorStatus,
    /// A media type.
    pub content_type: String,
    /// How variables stand in it.
    pub escape: Escape,
    /// What it is made of, in order.
    pub pieces: Vec<BodyPiece>,
}

/// How a text that others choose is made harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As a character reference, for HTML and XML.
    Markup,
    /// As inside a string of JSON.
    Json,
    /// Without control characters.
    Plain,
}

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyPiece {
    /// As written.
    Text(String),
    /// The status, in digits.
    Status,
    /// Its reason phrase.
    Reason,
    /// The cause, as the log has it.
    Detail,
    /// What the request has; never a capture.
    Variable(Variable),
}

/// Variables that only bodies have.
const OWN: [(&str, BodyPiece); 3] = [
    ("error.status", BodyPiece::Status),
    ("error.reason", BodyPiece::Reason),
    ("error.detail", BodyPiece::Detail),
];

/// Reads every section, and the files that they name.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<ErrorBodiesConfig> {
    let read = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = parse_name(&name.value) {
            section.reader().problem(name.at, "error_bodies", message);
        }
        let tables = section.tables(&BODIES, &BODY_KEYS);
        if tables.is_empty() && (!section.has(BODIES.name) || section.is_empty_array(BODIES.name)) {
            section.problem(BODIES.name, "missing; write what is said for which status");
        }
        if tables.len() > BODIES_MAX {
            let message = format!("at most {BODIES_MAX}; found {}", tables.len());
            section.problem(BODIES.name, message);
        }
        let mut bodies: Vec<ErrorBody> = Vec::new();
        for table in &tables {
            let Some(body) = read_body(table) else {
                continue;
            };
            if bodies.iter().any(|other| other.status == body.status) {
                let shown = StatusKind.show(&body.status);
                table.problem(STATUS.name, format!("{shown} is there twice"));
            }
            bodies.push(body);
        }
        ErrorBodiesConfig {
            name: name.value,
            bodies,
        }
    };
    sections.into_iter().map(read).collect()
}

/// `None`: a problem was noted.
fn read_body(table: &Section<'_>) -> Option<ErrorBody> {
    let status = table.require(&STATUS);
    let written = table.find(&CONTENT_TYPE).map(|written| written.value);
    let content_type = written.unwrap_or_else(|| HTML.to_owned());
    let (key, text) = match (table.find(&BODY), table.find(&BODY_FILE)) {
        (Some(_), Some(_)) => {
            table.problem(BODY_FILE.name, "write either `body` or `file`, not both");
            return None;
        }
        (Some(body), None) => (BODY.name, body.value),
        (None, Some(file)) => {
            let read =
                read_file(&file.value).map_err(|problem| table.problem(BODY_FILE.name, problem));
            (BODY_FILE.name, read.ok()?)
        }
        (None, None) if table.has(BODY.name) || table.has(BODY_FILE.name) => return None,
        (None, None) => {
            table.problem(BODY.name, "missing; write `body` or `file`");
            return None;
        }
    };
    if text.len() as u64 > BODY_BYTES_MAX {
        let message = format!(
            "a body has at most {BODY_BYTES_MAX} bytes; found {}",
            text.len()
        );
        table.problem(key, message);
    }
    let escape = escape_of(&content_type);
    let pieces = parse(&text).and_then(|pieces| {
        let is_plain = |piece: &BodyPiece| matches!(piece, BodyPiece::Text(_));
        if escape.is_none() && !pieces.iter().all(is_plain) {
            return Err(format!(
                "how variables stand in `{content_type}` is not known; they can be in HTML, XML, JSON and plain text"
            ));
        }
        Ok(pieces)
    });
    let pieces = pieces.map_err(|problem| table.problem(key, problem));
    Some(ErrorBody {
        status: status?.value,
        content_type,
        escape: escape.unwrap_or(Escape::Plain),
        pieces: pieces.ok()?,
    })
}

fn read_file(path: &std::path::Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = read_bounded(path, BODY_BYTES_MAX)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))
}

/// How variables stand in a media type; `None`: nobody knows.
fn escape_of(content_type: &str) -> Option<Escape> {
    let kind = content_type.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    match kind.as_str() {
        "text/html" | "text/xml" | "application/xml" => Some(Escape::Markup),
        "application/json" => Some(Escape::Json),
        "text/plain" => Some(Escape::Plain),
        _ if kind.ends_with("+xml") => Some(Escape::Markup),
        _ if kind.ends_with("+json") => Some(Escape::Json),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Vec<BodyPiece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        literal.push_str(before);
        let inside = after.strip_prefix('{');
        if let Some((name, after)) = inside.and_then(|inside| inside.split_once('}')) {
            if !literal.is_empty() {
                pieces.push(BodyPiece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(variable(name)?);
            rest = after;
            continue;
        }
        literal.push('$');
        rest = after.strip_prefix('$').unwrap_or(after);
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(BodyPiece::Text(literal));
    }
    if pieces.len() > PIECES_MAX {
        return Err(format!("at most {PIECES_MAX} texts and variables"));
    }
    Ok(pieces)
}

fn variable(name: &str) -> Result<BodyPiece, String> {
    if let Some((_, own)) = OWN.iter().find(|(own, _)| *own == name) {
        return Ok(own.clone());
    }
    match of_request(name) {
        Ok(Variable::Capture { .. }) => Err(format!(
            "`${{{name}}}`: a body is of no route in particular, so it has no captures"
        )),
        Ok(variable) => Ok(BodyPiece::Variable(variable)),
        Err(problem) => {
            let own: Vec<_> = OWN.iter().map(|(own, _)| *own).collect();
            Err(format!(
                "{problem}; and {}; `$$` is a dollar",
                own.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_texts_and_variables() {
        let text = |text: &str| BodyPiece::Text(text.into());
        assert_eq!(
            parse("<b>${error.status}</b> $$5 $1 $(x) $${a} ${request.id}").unwrap(),
            [
                text("<b>"),
                BodyPiece::Status,
                text("</b> $5 $1 $(x) ${a} "),
                BodyPiece::Variable(Variable::RequestId),
            ]
        );
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("a${b").unwrap(), [text("a${b")]);
        let told = parse("`${items.length}`").unwrap_err();
        assert!(told.contains("`${items.length}` is no variable"), "{told}");
        assert!(parse("${path.id}").unwrap_err().contains("no captures"));
    }

    #[test]
    fn the_exact_status_wins_over_its_class() {
        let body = |status, text: &str| ErrorBody {
            status,
            content_type: HTML.into(),
            escape: Escape::Markup,
            pieces: parse(text).unwrap(),
        };
        let config = ErrorBodiesConfig {
            name: "a".into(),
            bodies: vec![
                body(ErrorStatus::Class(500), "class"),
                body(ErrorStatus::Exact(503), "exact"),
            ],
        };
        let found = |status| config.find(status).map(|body| body.pieces.clone());
        assert_eq!(found(503), Some(parse("exact").unwrap()));
        assert_eq!(found(502), Some(parse("class").unwrap()));
        assert_eq!(found(404), None);
    }

    #[test]
    fn types_are_escaped_as_they_ask_for() {
        for (kind, escape) in [
            ("text/html; charset=utf-8", Some(Escape::Markup)),
            ("Application/XHTML+xml", Some(Escape::Markup)),
            ("application/problem+json", Some(Escape::Json)),
            ("text/plain", Some(Escape::Plain)),
            ("text/css", None),
        ] {
            assert_eq!(escape_of(kind), escape, "{kind}");
        }
    }
}
