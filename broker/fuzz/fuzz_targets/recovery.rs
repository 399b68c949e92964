//! Recovery of a log from any files, on the simulated disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog_engine::fuzz::recovery(data));
