//! ringlog: a Kafka-compatible event log. This crate puts the Kafka protocol and the storage engine together.
//!
//! - [`api`]: the Kafka APIs served: one table, one file for each.
//! - [`broker`]: one shard of the broker: its partitions, its connections, the image it goes by.
//! - [`calls`]: what shards ask of each other.
//! - [`cluster`]: the metadata: durable records, the image they make, the controller that changes it.
//! - [`config`]: Kafka's config names, checked and typed.
//! - [`net`]: connections: frames in, replies out in request order.
//! - [`partition`]: a log, its leader, its high watermark, and who waits for it.
#![forbid(unsafe_code)]

pub mod api;
pub mod broker;
pub mod calls;
pub mod cluster;
pub mod config;
pub mod net;
pub mod partition;
