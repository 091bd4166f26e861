//! HTTP/1.1 on bytes: heads, framing, paths. No I/O, no runtime types, no clock.
//!
//! The order of use: [`HeadScanner`] finds the end of a head, [`parse_request`] or [`parse_response`] reads it into
//! spans, [`normalise_path`] makes the one path that is compared and forwarded, [`write_request_head`] or
//! [`write_response_head`] writes the head again from what was understood, and [`ChunkedReader`] follows a chunked
//! body. Whatever can be read in two ways is refused with an error that names the rule.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod ascii;
mod block;
mod chunk_line;
mod chunked;
mod edits;
mod error;
mod field;
mod forwarded;
mod framing;
mod host;
mod path;
mod proxy;
mod query;
mod request;
mod response;
mod scan;
mod target;
mod write;
mod write_request;
mod write_response;

pub use chunked::{ChunkedOutput, ChunkedReader, Progress};
pub use edits::Edits;
pub use error::{ChunkError, HeadError, PathError, RequestError, ResponseError};
pub use field::{FIELDS_CAP, Field, FieldKind, Fields, Span};
pub use forwarded::{HOPS_MAX, Hops};
pub use framing::BodyFraming;
pub use host::{host_of, port_of};
pub use path::{Normalised, check_query, most_generous_form, normalise_path};
pub use proxy::{
    NotProxy, PROXY_BYTES_MAX, PROXY_WRITTEN_MAX, ProxyHeader, parse_proxy, write_proxy,
};
pub(in crate::data) use query::{Plus, cookies, decode, is_parameter, parameters};
pub use request::{
    Method, RequestHead, RequestRules, Version, check_lines, is_idempotent, parse_request,
};
pub use response::{INTERIM_HEAD_MAX, INTERIMS_MAX, RequestContext, ResponseHead, parse_response};
pub use scan::{HeadLimits, HeadScanner};
pub use target::{Scheme, TargetForm};
pub(in crate::data) use write::put_field;
pub use write::{CHUNK_END, ChunkHead, LAST_CHUNK, put_decimal, put_status_line, token_in_list};
pub use write_request::{Additions, ForwardRequest, write_request_head};
pub use write_response::{ForwardResponse, write_response_head};
