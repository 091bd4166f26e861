//! Feeds arbitrary octets to `checks::proxy_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::proxy_header(data));
