//! ElectLeaders: partitions get the leaders they ought to have.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for elections.
    pub message ElectLeadersRequest: ElectLeaders [0-2], flexible [2+] {
        /// 0 for the preferred replica, 1 for any that is alive.
        election_type: i8 [1+],
        /// The partitions; null for all.
        topic_partitions: Option<Vec<TopicPartitions>> [0+] null [0+] = Some(Vec::new()),
        /// How long it may take, in milliseconds.
        timeout_ms: i32 [0+] = 60000,
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// The topic.
        topic: ByteString [0+],
        /// The partitions.
        partitions: Vec<i32> [0+],
    }

    /// What came of the elections.
    pub message ElectLeadersResponse: ElectLeaders [0-2], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [1+],
        /// The topics.
        replica_election_results: Vec<ReplicaElectionResult> [0+],
    }

    /// Partitions of one topic.
    pub struct ReplicaElectionResult {
        /// The topic.
        topic: ByteString [0+],
        /// The partitions.
        partition_result: Vec<PartitionResult> [0+],
    }

    /// One partition.
    pub struct PartitionResult {
        /// The partition.
        partition_id: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }
}

impl Request for ElectLeadersRequest {
    type Response = ElectLeadersResponse;
}
