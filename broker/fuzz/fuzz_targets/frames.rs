//! Frames cut from a stream.
#![no_main]

#[path = "../../wire/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::fuzz::frames(data));
