//! What may refuse a request before it is forwarded. No I/O; time is an argument.

pub mod key;
pub mod limit;
pub mod networks;
mod overrides;
