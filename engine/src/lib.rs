//! ringlog's storage engine: one shard's runtime and the logs it owns.
//!
//! It knows offsets, batches, files and threads; it does not know topics, brokers or Kafka's APIs.
//!
//! - [`io`]: the Driver seam, the only system calls of the data path.
//! - [`shard`]: a pinned thread: event loop, local tasks, timers, mailboxes.
//! - [`log`]: one partition's log on this broker.
//! - [`batch`]: record batch v2: view, verify, stamp.
//! - [`records`]: the records inside a batch, in every codec.

pub mod batch;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod io;
pub mod limits;
pub mod log;
#[cfg(ringlog_plant)]
pub mod plant;
pub mod records;
pub mod shard;
