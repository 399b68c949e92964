//! Config files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog::fuzz::config(data));
