//! A log's checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog_engine::fuzz::checkpoint(data));
