//! AlterPartitionReassignments: partitions are moved to other brokers.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to move partitions.
    pub message AlterPartitionReassignmentsRequest: AlterPartitionReassignments [0-1], flexible [0+] {
        /// How long it may take, in milliseconds.
        timeout_ms: i32 [0+] = 60000,
        /// Whether a partition may get more or fewer replicas.
        allow_replication_factor_change: bool [1+] = true,
        /// The topics.
        topics: Vec<ReassignableTopic> [0+],
    }

    /// Partitions of one topic.
    pub struct ReassignableTopic {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<ReassignablePartition> [0+],
    }

    /// One partition.
    pub struct ReassignablePartition {
        /// The partition.
        partition_index: i32 [0+],
        /// The brokers that are to have it; null to stop moving it.
        replicas: Option<Vec<i32>> [0+] null [0+],
    }

    /// What became of it.
    pub message AlterPartitionReassignmentsResponse: AlterPartitionReassignments [0-1], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// Whether a partition may get more or fewer replicas.
        allow_replication_factor_change: bool [1+] = true,
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The topics.
        responses: Vec<ReassignableTopicResponse> [0+],
    }

    /// Partitions of one topic.
    pub struct ReassignableTopicResponse {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<ReassignablePartitionResponse> [0+],
    }

    /// One partition.
    pub struct ReassignablePartitionResponse {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }
}

impl Request for AlterPartitionReassignmentsRequest {
    type Response = AlterPartitionReassignmentsResponse;
}
