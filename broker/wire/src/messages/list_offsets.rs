//! ListOffsets: find offsets by time or place.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks which offset belongs to a time, or to a place such as the end.
    pub message ListOffsetsRequest: ListOffsets [1-11], flexible [6+] {
        /// The follower that asks; -1 for a consumer.
        replica_id: i32 [0+],
        /// 0 reads all records, 1 only those of committed transactions.
        isolation_level: i8 [2+],
        /// The topics.
        topics: Vec<ListOffsetsTopic> [0+],
        /// How long the broker may wait, in milliseconds.
        timeout_ms: i32 [10+],
    }

    /// One topic to look in.
    pub struct ListOffsetsTopic {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<ListOffsetsPartition> [0+],
    }

    /// One partition to look in.
    pub struct ListOffsetsPartition {
        /// The partition.
        partition_index: i32 [0+],
        /// The leader epoch as the client knows it; -1 for unknown.
        current_leader_epoch: i32 [4+] = -1,
        /// Milliseconds since 1970, or a place: -1 the end, -2 the start, -3 the newest time, -4 and -5 for tiered storage.
        timestamp: i64 [0+],
    }

    /// The offsets found.
    pub message ListOffsetsResponse: ListOffsets [1-11], flexible [6+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [2+],
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse> [0+],
    }

    /// One topic of the request.
    pub struct ListOffsetsTopicResponse {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse> [0+],
    }

    /// What was found in one partition.
    pub struct ListOffsetsPartitionResponse {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The time of the record found; -1 if there is none.
        timestamp: i64 [1+] = -1,
        /// The offset; -1 if there is none.
        offset: i64 [1+] = -1,
        /// The epoch of the record found; -1 for unknown.
        leader_epoch: i32 [4+] = -1,
    }
}

impl Request for ListOffsetsRequest {
    type Response = ListOffsetsResponse;
}
