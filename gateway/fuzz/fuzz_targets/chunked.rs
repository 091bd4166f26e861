//! Feeds arbitrary octets to the check of this name; see `gateway/tests/codec_support`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::chunked(data));
