//! OffsetFetch: how far groups have come.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks for the offsets that groups have committed: of one group up to version 7, of many from 8.
    pub message OffsetFetchRequest: OffsetFetch [1-10], flexible [6+] {
        /// The group.
        group_id: ByteString [0-7],
        /// The topics, or null for all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [0-7] null [2-7] = Some(Vec::new()),
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup> [8+],
        /// Whether offsets of open transactions are to be reported as unstable.
        require_stable: bool [7+],
    }

    /// One topic.
    pub struct OffsetFetchRequestTopic {
        /// The name.
        name: ByteString [0-7],
        /// The partitions.
        partition_indexes: Vec<i32> [0-7],
    }

    /// One group.
    pub struct OffsetFetchRequestGroup {
        /// The group.
        group_id: ByteString [8+],
        /// The member in the newer protocol, or null.
        member_id: Option<ByteString> [9+] null [9+],
        /// The epoch of the member in the newer protocol; -1 for none.
        member_epoch: i32 [9+] = -1,
        /// The topics, or null for all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8+] null [8+] = Some(Vec::new()),
    }

    /// One topic.
    pub struct OffsetFetchRequestTopics {
        /// The name.
        name: ByteString [8-9],
        /// The topic.
        topic_id: Uuid [10+],
        /// The partitions.
        partition_indexes: Vec<i32> [8+],
    }

    /// The offsets, of one group up to version 7, of many from 8.
    pub message OffsetFetchResponse: OffsetFetch [1-10], flexible [6+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [3+],
        /// The topics.
        topics: Vec<OffsetFetchResponseTopic> [0-7],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [2-7],
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup> [8+],
    }

    /// Offsets of one topic.
    pub struct OffsetFetchResponseTopic {
        /// The name.
        name: ByteString [0-7],
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition> [0-7],
    }

    /// Offsets of one group.
    pub struct OffsetFetchResponseGroup {
        /// The group.
        group_id: ByteString [8+],
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics> [8+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [8+],
    }

    /// The offset of one partition.
    pub struct OffsetFetchResponsePartition {
        /// The partition.
        partition_index: i32 [0-7],
        /// The offset committed; -1 for none.
        committed_offset: i64 [0-7],
        /// The leader epoch of the last record consumed; -1 for unknown.
        committed_leader_epoch: i32 [5-7] = -1,
        /// What the client keeps beside the offset, or null.
        metadata: Option<ByteString> [0-7] null [0-7] = Some(ByteString::new()),
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0-7],
    }

    /// Offsets of one topic.
    pub struct OffsetFetchResponseTopics {
        /// The name.
        name: ByteString [8-9],
        /// The topic.
        topic_id: Uuid [10+],
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions> [8+],
    }

    /// The offset of one partition.
    pub struct OffsetFetchResponsePartitions {
        /// The partition.
        partition_index: i32 [8+],
        /// The offset committed; -1 for none.
        committed_offset: i64 [8+],
        /// The leader epoch of the last record consumed; -1 for unknown.
        committed_leader_epoch: i32 [8+] = -1,
        /// What the client keeps beside the offset, or null.
        metadata: Option<ByteString> [8+] null [8+] = Some(ByteString::new()),
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [8+],
    }
}

impl Request for OffsetFetchRequest {
    type Response = OffsetFetchResponse;
}
