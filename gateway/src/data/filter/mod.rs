//! What may refuse a request before it is forwarded. No I/O; time is an argument.

pub(in crate::data) mod key;
pub mod limit;
mod overrides;
