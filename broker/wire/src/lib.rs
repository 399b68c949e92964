//! Kafka bytes to types and back. No I/O, no clock, no storage, no unsafe.
#![forbid(unsafe_code)]
