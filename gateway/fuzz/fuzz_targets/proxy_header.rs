//! Feeds arbitrary octets to `checks::proxy_header`.

#![no_main]

#[path = "../../tests/codec_support/checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::proxy_header(data));
