//! Kafka's metadata log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringlog::fuzz::kraft(data));
