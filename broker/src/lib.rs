//! ringlog: a Kafka-compatible event log. This crate puts the Kafka protocol and the storage engine together.
//!
//! - [`config`]: Kafka's config names, checked and typed.
//! - [`net`]: connections: frames in, replies out in request order.
#![forbid(unsafe_code)]

pub mod config;
pub mod net;
