//! A shard's journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog_engine::fuzz::journal(data));
