//! OffsetDelete: committed offsets are forgotten.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to forget offsets that a group has committed.
    pub message OffsetDeleteRequest: OffsetDelete [0-0], flexible [none] {
        /// The group.
        group_id: ByteString [0+],
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic> [0+],
    }

    /// Offsets of one topic.
    pub struct OffsetDeleteRequestTopic {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<OffsetDeleteRequestPartition> [0+],
    }

    /// One partition.
    pub struct OffsetDeleteRequestPartition {
        /// The partition.
        partition_index: i32 [0+],
    }

    /// What became of each offset.
    pub message OffsetDeleteResponse: OffsetDelete [0-0], flexible [none] {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic> [0+],
    }

    /// What became of the offsets of one topic.
    pub struct OffsetDeleteResponseTopic {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<OffsetDeleteResponsePartition> [0+],
    }

    /// What became of the offset of one partition.
    pub struct OffsetDeleteResponsePartition {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
    }
}

impl Request for OffsetDeleteRequest {
    type Response = OffsetDeleteResponse;
}
