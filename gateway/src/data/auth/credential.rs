//! Finds the credential of a request in its head. No I/O; whether it is good is not asked here.

use super::{AUTHORIZATION, Request};
use crate::config::CredentialPlace;
use crate::data::codec::{Plus, cookies, decode, is_parameter, parameters};

/// What a request has in the place of a credential.
pub(super) enum Credential {
    None,
    /// One, which is in the buffer.
    One,
    Several,
}

impl Request<'_> {
    /// Looks for a credential; one is decoded into `buffer`.
    pub(super) fn credential(&self, place: &CredentialPlace, buffer: &mut Vec<u8>) -> Credential {
        match place {
            CredentialPlace::Header(name) if name == AUTHORIZATION => {
                // Of another scheme: none of ours.
                let bearers = self
                    .fields
                    .values(self.head, name.as_bytes())
                    .filter_map(|value| after_scheme(value, b"Bearer"));
                only(bearers, buffer, |value, buffer| {
                    buffer.extend_from_slice(value)
                })
            }
            CredentialPlace::Basic => {
                let ours = self
                    .fields
                    .values(self.head, AUTHORIZATION.as_bytes())
                    .filter_map(|value| after_scheme(value, b"Basic"));
                only(ours, buffer, |value, buffer| {
                    buffer.extend_from_slice(value)
                })
            }
            CredentialPlace::Header(name) => {
                let values = self.fields.values(self.head, name.as_bytes());
                only(values, buffer, |value, buffer| {
                    buffer.extend_from_slice(value)
                })
            }
            CredentialPlace::Query(name) => {
                let pairs = self.query.unwrap_or_default().split(|&byte| byte == b'&');
                let ours = pairs.filter(|pair| is_parameter(pair, name));
                only(ours.flat_map(parameters), buffer, |(_, value), buffer| {
                    buffer.extend(decode(value, Plus::IsBlank));
                })
            }
            CredentialPlace::Cookie(name) => {
                let all = self.fields.values(self.head, b"cookie").flat_map(cookies);
                let ours = all.filter(|(each, _)| *each == name.as_bytes());
                only(ours, buffer, |(_, value), buffer| {
                    buffer.extend(decode(value, Plus::IsPlus));
                })
            }
        }
    }
}

fn only<T>(
    mut values: impl Iterator<Item = T>,
    buffer: &mut Vec<u8>,
    put: impl FnOnce(T, &mut Vec<u8>),
) -> Credential {
    match (values.next(), values.next()) {
        (None, _) => Credential::None,
        (Some(value), None) => {
            buffer.clear();
            put(value, buffer);
            Credential::One
        }
        (Some(_), Some(_)) => Credential::Several,
    }
}

/// What follows a scheme (RFC 9110, 11.4; the scheme without case).
fn after_scheme<'a>(value: &'a [u8], expected: &[u8]) -> Option<&'a [u8]> {
    let (scheme, rest) = value.split_at_checked(expected.len())?;
    let credential = rest.strip_prefix(b" ")?.trim_ascii();
    scheme.eq_ignore_ascii_case(expected).then_some(credential)
}
