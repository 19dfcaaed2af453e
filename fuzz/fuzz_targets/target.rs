//! Feeds the target of the binary's name with what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::target(env!("CARGO_BIN_NAME"))(data));
