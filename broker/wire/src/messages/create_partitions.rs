//! CreatePartitions.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for topics to have more partitions.
    pub message CreatePartitionsRequest: CreatePartitions [0-3], flexible [2+] {
        /// The topics.
        topics: Vec<CreatePartitionsTopic> [0+],
        /// How long the broker may wait, in milliseconds.
        timeout_ms: i32 [0+],
        /// Whether only to check, and change nothing.
        validate_only: bool [0+],
    }

    /// One topic to grow.
    pub struct CreatePartitionsTopic {
        /// The name.
        name: ByteString [0+],
        /// How many partitions there should be.
        count: i32 [0+],
        /// Where the new replicas go; null to leave it to the broker.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0+] null [0+] = Some(Vec::new()),
    }

    /// Where the replicas of one new partition go.
    pub struct CreatePartitionsAssignment {
        /// The brokers, the preferred leader first.
        broker_ids: Vec<i32> [0+],
    }

    /// What became of each topic.
    pub message CreatePartitionsResponse: CreatePartitions [0-3], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The results.
        results: Vec<CreatePartitionsTopicResult> [0+],
    }

    /// What became of one topic.
    pub struct CreatePartitionsTopicResult {
        /// The name.
        name: ByteString [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+],
    }
}

impl Request for CreatePartitionsRequest {
    type Response = CreatePartitionsResponse;
}
