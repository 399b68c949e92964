//! Records of consumer groups.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog::fuzz::group_record(data));
