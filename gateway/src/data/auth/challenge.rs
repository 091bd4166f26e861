//! What a 401 asks for. No I/O.

use super::{AuthPlan, Denied, Known, Refusal};
use crate::config::AccessConfig;

/// The `WWW-Authenticate` lines of a 401 (RFC 9110, 11.6.1): one for each authenticator of the route, but for the one whose
/// answer `passed` is, where that says so itself.
pub(in crate::data) fn challenges(
    access: &AccessConfig,
    plans: &[AuthPlan],
    denied: Denied,
    passed: Option<&Refusal>,
) -> Vec<u8> {
    let mut lines = String::new();
    let is_said = passed.is_some_and(|refusal| refusal.has(b"www-authenticate"));
    let own = |index: &&usize| !is_said || !matches!(plans[**index].known, Known::Elsewhere(_));
    for &index in access.auth.iter().filter(own) {
        lines += "WWW-Authenticate: ";
        lines += &plans[index].challenge;
        // RFC 6750, 3.1: no error where the request held no credential.
        if denied.by == Some(index) && plans[index].challenge.starts_with("Bearer") {
            lines += ", error=\"invalid_token\"";
        }
        lines += "\r\n";
    }
    lines.into_bytes()
}
