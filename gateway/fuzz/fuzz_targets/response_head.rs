//! Feeds arbitrary octets to `checks::response_head`.

#![no_main]

#[path = "../../tests/codec_support/checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::response_head(data));
