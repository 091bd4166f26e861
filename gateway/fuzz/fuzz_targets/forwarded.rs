//! Feeds arbitrary octets to `checks::forwarded`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::forwarded(data));
