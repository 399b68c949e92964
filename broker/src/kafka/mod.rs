//! Moving data directories from Apache Kafka (KRaft) and back to it. The segments stay where they are: both read and write the same
//! formats. What differs is who says which topics there are, and where each keeps its own notes.
//!
//! ```text
//!                           Apache Kafka                                    ringlog
//!   topics, leader epochs   __cluster_metadata-0/                           cluster-metadata.log
//!   log starts, recovery    *-checkpoint, .kafka_cleanshutdown              <partition>/ringlog.checkpoint
//!   whose directory         meta.properties                                 the same
//! ```

mod from_kafka;
mod kraft;
mod offset_files;
mod to_kafka;

pub use from_kafka::{Taken, from_kafka, is_kafkas};
pub use kraft::{Cluster, KraftTopic, ReplicaState};
#[cfg(any(test, fuzzing))]
pub(crate) use offset_files::fuzzed as fuzz_offset_file;
pub use to_kafka::{Returned, to_kafka};

use crate::cluster::{DataDirError, MetadataError};
use ringlog_engine::log::{LogFailed, OpenError, SurveyError, TruncateError};
use std::fmt;
use std::path::{Path, PathBuf};

/// The folder of Kafka's metadata log.
const KRAFT_FOLDER: &str = "__cluster_metadata-0";
/// What Kafka leaves when it was stopped in order.
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Kafka's notes on all partitions of a directory.
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";

/// Why directories cannot be moved. Nothing has been taken from whoever they belonged to.
#[derive(Debug)]
pub enum MoveError {
    /// The file system refused.
    Io {
        /// What was touched.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// The directory is not what it must be.
    Directory {
        /// Which.
        path: PathBuf,
        /// What is the matter, and what helps.
        why: String,
    },
    /// Partitions that cannot be moved, and why.
    Partitions(Vec<(String, String)>),
}

impl MoveError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, action, error }
    }

    fn directory(path: &Path, why: impl Into<String>) -> Self {
        Self::Directory { path: path.to_owned(), why: why.into() }
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, action, error } => write!(f, "{action} {}: {error}", path.display()),
            Self::Directory { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Partitions(refused) => {
                write!(f, "{} partitions cannot be moved; nothing has been", refused.len())?;
                refused.iter().try_for_each(|(partition, why)| write!(f, "\n  {partition}: {why}"))
            }
        }
    }
}

impl std::error::Error for MoveError {}

impl From<DataDirError> for MoveError {
    fn from(error: DataDirError) -> Self {
        match error {
            DataDirError::Io { path, action, error } => Self::Io { path, action, error },
            DataDirError::Foreign { path, why } => Self::Directory { path, why },
        }
    }
}

impl From<MetadataError> for MoveError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Io { path, action, error } => Self::Io { path, action, error },
            MetadataError::Damaged { ref path, .. }
            | MetadataError::Foreign { ref path, .. }
            | MetadataError::Failed { ref path } => {
                Self::Directory { path: path.clone(), why: error.to_string() }
            }
        }
    }
}

/// What can go wrong with one partition, in words.
macro_rules! in_words {
    ($($error:ty),*) => {$(
        impl From<$error> for Words {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

/// Why one partition cannot be moved.
struct Words(String);

in_words!(SurveyError, OpenError, LogFailed, TruncateError, std::io::Error);
