//! The one path.

use super::error::PathError;
use crate::config::PathPolicy;

/// What [`normalise_path`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// The path is its own normal form; nothing was written.
    AsIs,
    /// The normal form was written to the output, which was cleared before.
    Rewritten,
}

/// Normalises.
///
/// # Errors
/// The rule.
pub fn normalise_path(
    path: &[u8],
    policy: PathPolicy,
    out: &mut Vec<u8>,
) -> Result<Normalised, PathError> {
    _ = (path, policy, out);
    todo!()
}

/// Checks a query.
///
/// # Errors
/// [`PathError::QueryOctet`].
pub fn check_query(query: &[u8], policy: PathPolicy) -> Result<(), PathError> {
    _ = (query, policy);
    todo!()
}

/// The form that the most generous upstream could see. `out` is cleared first.
pub fn most_generous_form(path: &[u8], ignore_case: bool, out: &mut Vec<u8>) {
    _ = (path, ignore_case, out);
    todo!()
}
