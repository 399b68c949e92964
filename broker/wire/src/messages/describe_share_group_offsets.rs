//! DescribeShareGroupOffsets: how far share groups have come.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks where share groups start.
    pub message DescribeShareGroupOffsetsRequest: DescribeShareGroupOffsets [0-1], flexible [0+] {
        /// The groups.
        groups: Vec<DescribeShareGroupOffsetsRequestGroup> [0+],
    }

    /// One group.
    pub struct DescribeShareGroupOffsetsRequestGroup {
        /// The group.
        group_id: ByteString [0+],
        /// The topics; null for all there are.
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>> [0+] null [0+] = Some(Vec::new()),
    }

    /// One topic.
    pub struct DescribeShareGroupOffsetsRequestTopic {
        /// The name.
        topic_name: ByteString [0+],
        /// The partitions.
        partitions: Vec<i32> [0+],
    }

    /// Where they start.
    pub message DescribeShareGroupOffsetsResponse: DescribeShareGroupOffsets [0-1], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The groups.
        groups: Vec<DescribeShareGroupOffsetsResponseGroup> [0+],
    }

    /// One group.
    pub struct DescribeShareGroupOffsetsResponseGroup {
        /// The group.
        group_id: ByteString [0+],
        /// The topics.
        topics: Vec<DescribeShareGroupOffsetsResponseTopic> [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
    }

    /// One topic.
    pub struct DescribeShareGroupOffsetsResponseTopic {
        /// The name.
        topic_name: ByteString [0+],
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition> [0+],
    }

    /// One partition.
    pub struct DescribeShareGroupOffsetsResponsePartition {
        /// The partition.
        partition_index: i32 [0+],
        /// The first offset that is not done with; -1 for none yet.
        start_offset: i64 [0+],
        /// The epoch of the partition's leader.
        leader_epoch: i32 [0+],
        /// How many records are not done with; -1 for unknown.
        lag: i64 [1+] = -1,
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
    }
}

impl Request for DescribeShareGroupOffsetsRequest {
    type Response = DescribeShareGroupOffsetsResponse;
}
