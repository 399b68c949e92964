//! AlterShareGroupOffsets: a share group without members starts elsewhere.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Says where a share group is to start.
    pub message AlterShareGroupOffsetsRequest: AlterShareGroupOffsets [0-0], flexible [0+] {
        /// The group.
        group_id: ByteString [0+],
        /// The topics.
        topics: Vec<AlterShareGroupOffsetsRequestTopic> [0+],
    }

    /// One topic.
    pub struct AlterShareGroupOffsetsRequestTopic {
        /// The name.
        topic_name: ByteString [0+],
        /// The partitions.
        partitions: Vec<AlterShareGroupOffsetsRequestPartition> [0+],
    }

    /// One partition.
    pub struct AlterShareGroupOffsetsRequestPartition {
        /// The partition.
        partition_index: i32 [0+],
        /// Where to start.
        start_offset: i64 [0+],
    }

    /// What came of it.
    pub message AlterShareGroupOffsetsResponse: AlterShareGroupOffsets [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// The topics.
        responses: Vec<AlterShareGroupOffsetsResponseTopic> [0+],
    }

    /// One topic.
    pub struct AlterShareGroupOffsetsResponseTopic {
        /// The name.
        topic_name: ByteString [0+],
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<AlterShareGroupOffsetsResponsePartition> [0+],
    }

    /// One partition.
    pub struct AlterShareGroupOffsetsResponsePartition {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
    }
}

impl Request for AlterShareGroupOffsetsRequest {
    type Response = AlterShareGroupOffsetsResponse;
}
