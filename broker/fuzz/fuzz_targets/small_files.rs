//! The small files of a data directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog::fuzz::small_files(data));
