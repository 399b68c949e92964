//! DescribeProducers: the idempotent producers that partitions know.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for the producers of partitions.
    pub message DescribeProducersRequest: DescribeProducers [0-0], flexible [0+] {
        /// The topics.
        topics: Vec<TopicRequest> [0+],
    }

    /// Partitions of one topic.
    pub struct TopicRequest {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partition_indexes: Vec<i32> [0+],
    }

    /// The producers.
    pub message DescribeProducersResponse: DescribeProducers [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The topics.
        topics: Vec<TopicResponse> [0+],
    }

    /// Partitions of one topic.
    pub struct TopicResponse {
        /// The name.
        name: ByteString [0+],
        /// The partitions.
        partitions: Vec<PartitionResponse> [0+],
    }

    /// The producers of one partition.
    pub struct PartitionResponse {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [0+] null [0+],
        /// The producers.
        active_producers: Vec<ProducerState> [0+],
    }

    /// One producer.
    pub struct ProducerState {
        /// Its id.
        producer_id: i64 [0+],
        /// Its epoch.
        producer_epoch: i32 [0+],
        /// The sequence of its last record.
        last_sequence: i32 [0+] = -1,
        /// The time of its last batch.
        last_timestamp: i64 [0+] = -1,
        /// The epoch of its transactions' coordinator.
        coordinator_epoch: i32 [0+],
        /// Where its open transaction began, or -1.
        current_txn_start_offset: i64 [0+] = -1,
    }
}

impl Request for DescribeProducersRequest {
    type Response = DescribeProducersResponse;
}
