//! OffsetCommit: a group keeps how far it has come.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks to keep offsets of a group.
    pub message OffsetCommitRequest: OffsetCommit [2-10], flexible [8+] {
        /// The group.
        group_id: ByteString [0+],
        /// The generation of the group, or with the newer protocol the epoch of the member; -1 for none.
        generation_id_or_member_epoch: i32 [1+] = -1,
        /// The member, as the coordinator named it.
        member_id: ByteString [1+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [7+] null [7+],
        /// How long to keep the offsets, in milliseconds; -1 for as long as the broker keeps them.
        retention_time_ms: i64 [2-4] = -1,
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic> [0+],
    }

    /// Offsets of one topic.
    pub struct OffsetCommitRequestTopic {
        /// The name.
        name: ByteString [0-9],
        /// The topic.
        topic_id: Uuid [10+],
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition> [0+],
    }

    /// The offset of one partition.
    pub struct OffsetCommitRequestPartition {
        /// The partition.
        partition_index: i32 [0+],
        /// The offset committed; -1 for none.
        committed_offset: i64 [0+],
        /// The leader epoch of the last record consumed; -1 for unknown.
        committed_leader_epoch: i32 [6+] = -1,
        /// What the client keeps beside the offset, or null.
        committed_metadata: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }

    /// What became of each offset.
    pub message OffsetCommitResponse: OffsetCommit [2-10], flexible [8+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [3+],
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic> [0+],
    }

    /// What became of the offsets of one topic.
    pub struct OffsetCommitResponseTopic {
        /// The name.
        name: ByteString [0-9],
        /// The topic.
        topic_id: Uuid [10+],
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition> [0+],
    }

    /// What became of the offset of one partition.
    pub struct OffsetCommitResponsePartition {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
    }
}

impl Request for OffsetCommitRequest {
    type Response = OffsetCommitResponse;
}
