//! DescribeLogDirs: what lies in the data directories.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for the data directories and the partitions in them.
    pub message DescribeLogDirsRequest: DescribeLogDirs [1-5], flexible [2+] {
        /// Which partitions are asked for; null for all.
        topics: Option<Vec<DescribableLogDirTopic>> [0+] null [0+] = Some(Vec::new()),
    }

    /// Partitions of one topic.
    pub struct DescribableLogDirTopic {
        /// The name.
        topic: ByteString [0+],
        /// The partitions.
        partitions: Vec<i32> [0+],
    }

    /// The data directories.
    pub message DescribeLogDirsResponse: DescribeLogDirs [1-5], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [3+],
        /// The directories.
        results: Vec<DescribeLogDirsResult> [0+],
    }

    /// One data directory.
    pub struct DescribeLogDirsResult {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Its path.
        log_dir: ByteString [0+],
        /// The topics.
        topics: Vec<DescribeLogDirsTopic> [0+],
        /// Bytes of the file system, or -1.
        total_bytes: i64 [4+] = -1,
        /// Bytes that are free in it, or -1.
        usable_bytes: i64 [4+] = -1,
        /// Whether it gets no new partitions.
        is_cordoned: bool [5+],
    }

    /// Partitions of one topic in it.
    pub struct DescribeLogDirsTopic {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition> [0+],
    }

    /// One partition in it.
    pub struct DescribeLogDirsPartition {
        /// The partition.
        partition_index: i32 [0+],
        /// Bytes of its segments.
        partition_size: i64 [0+],
        /// How far the log's end is past its high watermark.
        offset_lag: i64 [0+],
        /// Whether it is to take the place of another directory's.
        is_future_key: bool [0+],
    }
}

impl Request for DescribeLogDirsRequest {
    type Response = DescribeLogDirsResponse;
}
