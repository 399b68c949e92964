//! ListPartitionReassignments: partitions that are being moved.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for the partitions that are being moved.
    pub message ListPartitionReassignmentsRequest: ListPartitionReassignments [0-0], flexible [0+] {
        /// How long it may take, in milliseconds.
        timeout_ms: i32 [0+] = 60000,
        /// The topics; null for all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0+] null [0+],
    }

    /// Partitions of one topic.
    pub struct ListPartitionReassignmentsTopics {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partition_indexes: Vec<i32> [0+],
    }

    /// The partitions that are being moved.
    pub message ListPartitionReassignmentsResponse: ListPartitionReassignments [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The topics.
        topics: Vec<OngoingTopicReassignment> [0+],
    }

    /// Partitions of one topic.
    pub struct OngoingTopicReassignment {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<OngoingPartitionReassignment> [0+],
    }

    /// One partition.
    pub struct OngoingPartitionReassignment {
        /// The partition.
        partition_index: i32 [0+],
        /// The brokers that have it.
        replicas: Vec<i32> [0+],
        /// Those that are getting it.
        adding_replicas: Vec<i32> [0+],
        /// Those that will not have it any more.
        removing_replicas: Vec<i32> [0+],
    }
}

impl Request for ListPartitionReassignmentsRequest {
    type Response = ListPartitionReassignmentsResponse;
}
