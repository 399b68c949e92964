//! ringlog: a Kafka-compatible event log. This crate puts the Kafka protocol and the storage engine together.
//!
//! - [`cluster`]: the metadata: durable records, the image they make, the controller that changes it.
//! - [`config`]: Kafka's config names, checked and typed.
//! - [`net`]: connections: frames in, replies out in request order.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod config;
pub mod net;
