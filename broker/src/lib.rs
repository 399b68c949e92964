//! ringlog: a Kafka-compatible event log. This crate puts the Kafka protocol and the storage engine together.
//!
//! - [`net`]: connections: frames in, replies out in request order.
#![forbid(unsafe_code)]

pub mod net;
