//! The metadata log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog::fuzz::metadata_log(data));
