//! ringlog: a Kafka-compatible event log. This crate puts the Kafka protocol and the storage engine together.
//!
//! - [`api`]: the Kafka APIs served: one table, one file for each.
//! - [`broker`]: one shard of the broker: its partitions, its connections, the image it goes by.
//! - [`calls`]: what shards ask of each other.
//! - [`cli`]: the command line.
//! - [`cluster`]: the metadata: durable records, the image they make, the controller that changes it.
//! - [`config`]: Kafka's config names, checked and typed.
//! - [`group`]: consumer groups, as state machines, and the records that keep them.
//! - [`http`]: the page that shows the broker, `/metrics` and the health checks.
//! - [`kafka`]: moving data directories from Apache Kafka and back to it.
//! - [`metrics`]: what each shard counts, and the text of a scrape.
//! - [`net`]: connections: frames in, replies out in request order.
//! - [`partition`]: a log, its leader, its high watermark, and who waits for it.
//! - [`serve`]: one broker process, from its directories to its last log closed.
//! - [`supervisor`]: who is told that it is ready: systemd.
#![forbid(unsafe_code)]

pub mod api;
pub mod broker;
pub mod calls;
pub mod cli;
pub mod cluster;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod group;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod net;
pub mod partition;
pub mod serve;
pub mod share;
pub mod supervisor;
