//! The data plane, in the order of a request's life. Runs on workers only; never imports `control`.

pub mod codec;
pub mod route;
