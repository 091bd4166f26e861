//! `routes.respond`: an answer written in the file.

use http::{HeaderName, HeaderValue};

use super::key::{Key, Keys, Nested};
use super::kind::{Integer, Text};
use super::resolved::FixedResponse;
use super::section::Section;

pub(super) static KEYS: Keys = Keys {
    header: "routes.respond",
    text: "A fixed answer: `respond = { status = 403, body = \"no\" }`.",
    rows: &[&STATUS, &HEADERS, &BODY],
    unsupported: &["body_file", "json"],
};

/// Fields that the gateway itself writes, since they frame the message or belong to the connection.
pub(super) const OWN_FIELDS: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

static STATUS: Key<Integer<u16>> = Key {
    name: "status",
    kind: Integer::new(200, 599),
    default: 200,
    text: "Status of the answer.",
};

static HEADERS: Nested = Nested {
    name: "headers",
    expects: "a table such as { content-type = \"text/plain\" }",
    absent: "none",
    text: "Header fields in the order of the file. Not those that frame the message; they are made by the gateway.",
};

static BODY: Key<Text<String>> = Key {
    name: "body",
    kind: Text {
        expects: "a string",
        parse: |text| Ok(text.to_owned()),
        show: String::clone,
    },
    default: String::new(),
    text: "The body. A 204 or 304 has none.",
};

/// Reads the table.
pub(super) fn read(section: &Section<'_>) -> FixedResponse {
    let status = section.get(&STATUS);
    let body = section.get(&BODY);
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        section.problem(
            BODY.name,
            format!("an answer with status {status} has no body"),
        );
    }
    FixedResponse {
        status,
        headers: read_headers(section),
        body,
    }
}

fn read_headers(section: &Section<'_>) -> Vec<(String, String)> {
    let value_kind = Text {
        expects: "a string",
        parse: parse_value,
        show: String::clone,
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in section.entries(&HEADERS, &value_kind) {
        let problem = if HeaderName::from_bytes(name.value.as_bytes()).is_err() {
            "is not a header name"
        } else if OWN_FIELDS
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name.value))
        {
            "is written by the gateway itself"
        } else if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name.value))
        {
            "is there twice"
        } else {
            headers.push((name.value.to_owned(), value.value));
            continue;
        };
        section.problem_at(name.at, HEADERS.name, format!("{} {problem}", name.shown()));
    }
    headers
}

pub(super) fn parse_value(text: &str) -> Result<String, String> {
    let blank_ends = text.trim_matches([' ', '\t']) != text;
    if blank_ends || HeaderValue::from_str(text).is_err() {
        return Err("a header value holds no control characters and no blanks at its ends".into());
    }
    Ok(text.to_owned())
}
