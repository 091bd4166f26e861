//! What a request must be like: method, header fields, media type.

use regex::bytes::Regex;

use crate::config::{FilterConfig, FilterMode};
use crate::data::codec::{BodyFraming, Fields, RequestHead};

/// Octets of the configuration.
type Text = Box<[u8]>;

/// A filter compiled. Each worker has a clone, so that its regular expressions have memory of their own.
#[derive(Clone, Debug)]
pub(in crate::data) struct FilterPlan {
    /// Where its decisions are counted.
    pub(in crate::data) counter: usize,
    pub(in crate::data) mode: FilterMode,
    /// Empty: all.
    methods: Vec<Text>,
    /// In lower case.
    required: Vec<(Text, Regex)>,
    /// In lower case, with `-` for `_`.
    forbidden: Vec<(Text, Regex)>,
    /// Kind and subtype in lower case; empty: all.
    types: Vec<(Text, Text)>,
    /// What a 405 says there is instead (RFC 9110, 15.5.6).
    allow: Vec<u8>,
    /// What a 415 says (RFC 9110, 15.5.16).
    accept: Vec<u8>,
}

/// Why a filter refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Refused {
    Method,
    /// A field that must be there is not.
    Missing,
    /// It is there with another value.
    Value,
    /// A field is there that must not be.
    Forbidden,
    ContentType,
}

impl Refused {
    pub(in crate::data) const fn name(self) -> &'static str {
        match self {
            Self::Method => "method_denied",
            Self::Missing => "header_required",
            Self::Value => "header_value",
            Self::Forbidden => "header_denied",
            Self::ContentType => "content_type_denied",
        }
    }

    pub(in crate::data) const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Missing | Self::Value => 400,
            Self::Forbidden => 403,
            Self::ContentType => 415,
        }
    }
}

impl FilterPlan {
    pub(in crate::data) fn new(config: &FilterConfig, counter: usize) -> Self {
        let bytes = |text: &str| Text::from(text.as_bytes());
        let mut methods = config.methods.clone();
        // Who takes GET takes HEAD (RFC 9110, 9.1).
        if let Some(at) = methods.iter().position(|each| each == "GET")
            && !methods.iter().any(|each| each == "HEAD")
        {
            methods.insert(at + 1, "HEAD".to_owned());
        }
        let patterns = |list: &[(String, crate::config::Pattern)]| {
            let compiled = list
                .iter()
                .map(|(name, pattern)| (bytes(name), pattern.regex().clone()));
            compiled.collect()
        };
        let types = &config.content_types;
        let shown: Vec<String> = types.iter().map(ToString::to_string).collect();
        Self {
            counter,
            mode: config.mode,
            allow: format!("Allow: {}\r\n", methods.join(", ")).into_bytes(),
            accept: format!("Accept: {}\r\n", shown.join(", ")).into_bytes(),
            methods: methods.iter().map(|method| bytes(method)).collect(),
            required: patterns(&config.required_headers),
            forbidden: patterns(&config.forbidden_headers),
            types: types
                .iter()
                .map(|each| (bytes(&each.kind), bytes(&each.subtype)))
                .collect(),
        }
    }

    /// Whole field lines that go with a refusal.
    pub(in crate::data) fn lines(&self, refused: Refused) -> &[u8] {
        match refused {
            Refused::Method => &self.allow,
            Refused::ContentType => &self.accept,
            Refused::Missing | Refused::Value | Refused::Forbidden => b"",
        }
    }

    /// Whether a request is as it must be. Looks at every field once for each that is required or forbidden.
    pub(in crate::data) fn check(
        &self,
        head: &[u8],
        fields: &Fields,
        request: &RequestHead,
    ) -> Result<(), Refused> {
        let method = request.method_span.of(head);
        if !self.methods.is_empty() && !self.methods.iter().any(|each| **each == *method) {
            return Err(Refused::Method);
        }
        for (name, pattern) in &self.required {
            // What `Connection` names ends here: the upstream would not have it.
            let mut lines = fields.iter().filter(|field| {
                !field.named_by_connection && field.name.of(head).eq_ignore_ascii_case(name)
            });
            let first = lines.next().ok_or(Refused::Missing)?;
            // Which of several lines counts nobody can know.
            let mut values = std::iter::once(first)
                .chain(lines)
                .map(|field| field.value.of(head));
            if !values.all(|value| pattern.is_match(value)) {
                return Err(Refused::Value);
            }
        }
        for (name, pattern) in &self.forbidden {
            let mut lines = fields
                .iter()
                .filter(|field| is_folded(field.name.of(head), name));
            if lines.any(|field| pattern.is_match(field.value.of(head))) {
                return Err(Refused::Forbidden);
            }
        }
        if !self.types.is_empty() && has_body(request) && !self.is_of_types(head, fields) {
            return Err(Refused::ContentType);
        }
        Ok(())
    }

    /// Whether the request says once what its body is, and that is listed.
    fn is_of_types(&self, head: &[u8], fields: &Fields) -> bool {
        let mut values = fields.values(head, b"content-type");
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let mut parts = value.splitn(2, |&byte| byte == b';');
        let essence = parts.next().unwrap_or_default().trim_ascii();
        let mut halves = essence.splitn(2, |&byte| byte == b'/');
        let (Some(kind), Some(subtype)) = (halves.next(), halves.next()) else {
            return false;
        };
        self.types.iter().any(|(known, sub)| {
            let any = **sub == *b"*" && is_token(subtype);
            kind.eq_ignore_ascii_case(known) && (any || subtype.eq_ignore_ascii_case(sub))
        })
    }
}

const fn has_body(request: &RequestHead) -> bool {
    !matches!(request.framing, BodyFraming::None | BodyFraming::Length(0))
}

/// `known` is in lower case with `-`; back ends fold `_` and `-`.
fn is_folded(name: &[u8], known: &[u8]) -> bool {
    let fold = |byte: &u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    name.len() == known.len() && name.iter().map(fold).eq(known.iter().copied())
}

/// A part of a media type (RFC 9110, 8.3.1): so that a list of two is not taken for one.
fn is_token(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(fits)
}
