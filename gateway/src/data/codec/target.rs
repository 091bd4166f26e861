//! The request-target (RFC 9112 section 3.2): which form it has and where its parts are.

use super::error::RequestError;
use super::field::Span;
use super::host::is_host;

/// The form of a request-target. Authority-form belongs to CONNECT, which is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// The scheme of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The parts of a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Option<Span>,
    /// Empty where an absolute form has none.
    pub(super) path: Span,
    /// Without its `?`.
    pub(super) query: Option<Span>,
}

/// Reads `target`, which must be a slice of `head`. `is_options`: the method is OPTIONS.
pub(super) fn parse(head: &[u8], target: &[u8], is_options: bool) -> Result<Target, RequestError> {
    if target.contains(&b'#') {
        return Err(RequestError::TargetFragment);
    }
    match target.first() {
        Some(b'/') => Ok(with_path(head, target, TargetForm::Origin)),
        Some(b'*') if target.len() == 1 && is_options => {
            Ok(with_path(head, target, TargetForm::Asterisk))
        }
        Some(b'*') if target.len() == 1 => Err(RequestError::TargetAsterisk),
        _ => parse_absolute(head, target, is_options),
    }
}

fn parse_absolute(head: &[u8], target: &[u8], is_options: bool) -> Result<Target, RequestError> {
    let colon = target
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(RequestError::Target)?;
    let (scheme, rest) = target.split_at_checked(colon).ok_or(RequestError::Target)?;
    let Some(rest) = rest.strip_prefix(b"://") else {
        return Err(RequestError::Target);
    };
    let scheme = if scheme.eq_ignore_ascii_case(b"http") {
        Scheme::Http
    } else if scheme.eq_ignore_ascii_case(b"https") {
        Scheme::Https
    } else {
        return Err(RequestError::Scheme);
    };
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).ok_or(RequestError::Target)?;
    if !is_host(authority) {
        return Err(RequestError::TargetAuthority);
    }
    // RFC 9112 section 3.2.4: OPTIONS on an absolute form without path and query means `*` at the last hop.
    let form = if rest.is_empty() && is_options {
        TargetForm::Asterisk
    } else {
        TargetForm::Absolute
    };
    Ok(Target {
        scheme: Some(scheme),
        authority: Some(Span::locate(head, authority)),
        ..with_path(head, rest, form)
    })
}

fn with_path(head: &[u8], path_and_query: &[u8], form: TargetForm) -> Target {
    let mark = path_and_query.iter().position(|&byte| byte == b'?');
    let (path, query) = path_and_query
        .split_at_checked(mark.unwrap_or(path_and_query.len()))
        .unwrap_or_default();
    let query = query.get(1..).map(|query| Span::locate(head, query));
    Target {
        form,
        scheme: None,
        authority: None,
        path: Span::locate(head, path),
        query,
    }
}
