//! What this broker knows of its cluster: an immutable image made by applying durable records in order.
//!
//! ```text
//!   Request ─▶ Controller ─▶ records ─▶ metadata log (durable) ─▶ Image::apply ─▶ every shard ─▶ Outcome
//! ```
//!
//! On one node the log is one file, owned by the controller on shard 0. A change is answered when it is committed and every
//! shard has applied it, so a topic that was created is ready when its creation is answered.

mod configs;
mod controller;
#[cfg(test)]
mod crash_tests;
mod data_dirs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod image;
mod metadata_log;
mod record;
mod scram;
mod topics;

pub use configs::{Change, ConfigChange, Configured, Operation};
pub use controller::{Controller, Disks, Publish};
pub use data_dirs::{DataDir, DataDirError, DataDirs, metadata_is_there, random_id, sync_file_system};
pub use image::{Image, PartitionState, Topic};
pub use metadata_log::{METADATA_FILE, MetadataError, MetadataLog};
pub use record::{PartitionRecord, Record, RecordError};
pub use scram::{Mechanism, NewCredential, ScramChange, ScramCredential, Secret, ToldUser};
pub use topics::check_name;

use ringlog_wire::{ErrorCode, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change of the cluster's metadata that somebody asks for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Create topics: [`Outcome::Topics`], in the same order.
    CreateTopics {
        /// Which.
        topics: Vec<NewTopic>,
        /// Only say whether it would be done.
        validate_only: bool,
    },
    /// Delete topics: [`Outcome::Topics`], in the same order.
    DeleteTopics(Vec<TopicRef>),
    /// Add partitions to topics: [`Outcome::Topics`], in the same order.
    CreatePartitions {
        /// To which.
        topics: Vec<MorePartitions>,
        /// Only say whether it would be done.
        validate_only: bool,
    },
    /// Change configs: [`Outcome::Configs`], in the same order.
    AlterConfigs {
        /// Of what, and how. Nothing is there twice.
        changes: Vec<ConfigChange>,
        /// Only say whether it would be done.
        validate_only: bool,
    },
    /// Change users' SCRAM credentials: [`Outcome::Scram`].
    AlterScram(Vec<ScramChange>),
    /// Reserve producer ids that nobody else gets: [`Outcome::ProducerIds`].
    ProducerIds,
    /// Note that all partitions there are have been opened, if they have: [`Outcome::Topics`], without any.
    NoteOpened,
}

/// A topic to create, as a client describes it.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` for the default.
    pub partitions: Option<i32>,
    /// How many replicas; `None` for the default.
    pub replication_factor: Option<i16>,
    /// The brokers of each partition, if the client says them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Configs; a value may be missing on the wire.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic by one of its names.
#[derive(Debug, Clone)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// A topic that is to have more partitions.
#[derive(Debug, Clone)]
pub struct MorePartitions {
    /// Its name.
    pub name: String,
    /// How many it is to have.
    pub count: i32,
    /// The brokers of each new partition, if the client says them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Of each topic: as it now is (or, deleted, was; or, only validated, would be), or why not.
    Topics(Vec<Result<Arc<Topic>, Refusal>>),
    /// Of each change of configs: that it is made (or, only validated, would be), or why not.
    Configs(Vec<Result<(), Refusal>>),
    /// Of each user that was named: that its credentials are changed, or why not.
    Scram(Vec<ToldUser>),
    /// These producer ids are the caller's.
    ProducerIds {
        /// The first.
        first: i64,
        /// How many.
        count: i64,
    },
    /// The metadata log cannot be written.
    Failed(ErrorCode),
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// In words.
    pub message: String,
}

impl Refusal {
    /// A refusal with this code and these words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Configs of a new topic, checked.
type Configs = BTreeMap<String, String>;
