//! A record batch: header, CRC, records in every codec.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog_engine::fuzz::batch(data));
