//! OffsetForLeaderEpoch: where an epoch ended.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks where an epoch ended, to find out from where logs differ.
    pub message OffsetForLeaderEpochRequest: OffsetForLeaderEpoch [2-4], flexible [4+] {
        /// The follower that asks; -1 for a consumer.
        replica_id: i32 [3+] = -2,
        /// The topics.
        topics: Vec<OffsetForLeaderTopic> [0+],
    }

    /// One topic to look in.
    pub struct OffsetForLeaderTopic {
        /// The topic.
        topic: ByteString [0+],
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition> [0+],
    }

    /// One partition to look in.
    pub struct OffsetForLeaderPartition {
        /// The partition.
        partition: i32 [0+],
        /// The leader epoch as the client knows it; -1 for unknown.
        current_leader_epoch: i32 [2+] = -1,
        /// The epoch to find the end of.
        leader_epoch: i32 [0+],
    }

    /// Where the epochs ended.
    pub message OffsetForLeaderEpochResponse: OffsetForLeaderEpoch [2-4], flexible [4+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [2+],
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult> [0+],
    }

    /// One topic of the request.
    pub struct OffsetForLeaderTopicResult {
        /// The topic.
        topic: ByteString [0+],
        /// The partitions.
        partitions: Vec<EpochEndOffset> [0+],
    }

    /// Where an epoch ended in one partition.
    pub struct EpochEndOffset {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The partition.
        partition: i32 [0+],
        /// The epoch found: the one asked for, or the last before it.
        leader_epoch: i32 [1+] = -1,
        /// The offset after its last record.
        end_offset: i64 [0+] = -1,
    }
}

impl Request for OffsetForLeaderEpochRequest {
    type Response = OffsetForLeaderEpochResponse;
}
