//! What the fuzz targets feed octets to: the checks that the gateway's property tests run too.

#[path = "../../tests/codec_support/checks.rs"]
mod checks;
#[path = "../../tests/codec_support/oracle.rs"]
mod oracle;
#[path = "../../tests/codec_support/streams.rs"]
mod streams;

/// One public function for each target.
macro_rules! targets {
    ($($module:ident :: $name:ident)+) => {$(
        /// Panics where something does not hold of `data`.
        pub fn $name(data: &[u8]) {
            $module::$name(data);
        }
    )+};
}

targets! {
    checks::request_head
    checks::response_head
    checks::chunked
    checks::path
    checks::proxy_header
    checks::forwarded
    streams::connection
    streams::response
    streams::config
}
