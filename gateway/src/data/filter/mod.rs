//! What may refuse a request before it is forwarded. No I/O; time is an argument.

pub(in crate::data) mod ban;
pub(in crate::data) mod cors;
pub(in crate::data) mod hosts;
pub mod key;
pub mod limit;
pub mod networks;
mod overrides;
pub(in crate::data) mod rules;
pub(in crate::data) mod security_headers;
