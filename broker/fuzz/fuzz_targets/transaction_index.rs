//! An index of aborted transactions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog_engine::fuzz::transaction_index(data));
