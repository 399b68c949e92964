//! DeleteRecords: the first records of partitions are deleted.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to delete the records before an offset.
    pub message DeleteRecordsRequest: DeleteRecords [0-2], flexible [2+] {
        /// The topics.
        topics: Vec<DeleteRecordsTopic> [0+],
        /// How long it may take, in milliseconds.
        timeout_ms: i32 [0+],
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopic {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition> [0+],
    }

    /// One partition.
    pub struct DeleteRecordsPartition {
        /// The partition.
        partition_index: i32 [0+],
        /// The first offset that stays; -1 for the high watermark.
        offset: i64 [0+],
    }

    /// Where partitions begin now.
    pub message DeleteRecordsResponse: DeleteRecords [0-2], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The topics.
        topics: Vec<DeleteRecordsTopicResult> [0+],
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopicResult {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<DeleteRecordsPartitionResult> [0+],
    }

    /// One partition.
    pub struct DeleteRecordsPartitionResult {
        /// The partition.
        partition_index: i32 [0+],
        /// The first offset there is, or -1.
        low_watermark: i64 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
    }
}

impl Request for DeleteRecordsRequest {
    type Response = DeleteRecordsResponse;
}
