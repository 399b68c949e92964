//! Produce: append records.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::records::Records;
use crate::uuid::Uuid;

messages! {
    /// Asks for records to be appended, each partition by its leader.
    pub message ProduceRequest: Produce [3-13], flexible [9+] {
        /// The transactional id; null for a producer without transactions.
        transactional_id: Option<ByteString> [3+] null [3+],
        /// What to wait for: 0 nothing, 1 the leader, -1 every in-sync replica.
        acks: i16 [0+],
        /// How long the broker may wait, in milliseconds.
        timeout_ms: i32 [0+],
        /// The topics to append to.
        topic_data: Vec<TopicProduceData> [0+],
    }

    /// One topic to append to.
    pub struct TopicProduceData {
        /// The name.
        name: ByteString [0-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions to append to.
        partition_data: Vec<PartitionProduceData> [0+],
    }

    /// One partition to append to.
    pub struct PartitionProduceData {
        /// The partition.
        index: i32 [0+],
        /// Record batches, as they are stored.
        records: Records [0+] null [0+],
    }

    /// Says where records were appended, partition by partition. With `acks` 0 there is none.
    pub message ProduceResponse: Produce [3-13], flexible [9+] {
        /// The topics.
        responses: Vec<TopicProduceResponse> [0+],
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// Where the leaders named above listen.
        node_endpoints: Vec<NodeEndpoint> [10+] tag 0,
    }

    /// One topic of the request.
    pub struct TopicProduceResponse {
        /// The name.
        name: ByteString [0-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions.
        partition_responses: Vec<PartitionProduceResponse> [0+],
    }

    /// Where a broker named in this response listens.
    pub struct NodeEndpoint {
        /// The broker.
        node_id: i32 [10+],
        /// Its host name.
        host: ByteString [10+],
        /// Its port.
        port: i32 [10+],
        /// Its rack, or null.
        rack: Option<ByteString> [10+] null [10+],
    }

    /// What became of the records for one partition.
    pub struct PartitionProduceResponse {
        /// The partition.
        index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The offset of the first record appended.
        base_offset: i64 [0+],
        /// The time the broker stamped on the records; -1 when they keep their own.
        log_append_time_ms: i64 [2+] = -1,
        /// The first offset that the log still has.
        log_start_offset: i64 [5+] = -1,
        /// The records that made the batch be refused.
        record_errors: Vec<BatchIndexAndErrorMessage> [8+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [8+] null [8+],
        /// The leader now, for a client that asked the wrong broker.
        current_leader: LeaderIdAndEpoch [10+] tag 0,
    }

    /// A record that made its batch be refused.
    pub struct BatchIndexAndErrorMessage {
        /// The index of the record in its batch.
        batch_index: i32 [8+],
        /// Words about the error, or null.
        batch_index_error_message: Option<ByteString> [8+] null [8+],
    }

    /// Who leads a partition now.
    pub struct LeaderIdAndEpoch {
        /// The broker that leads; -1 for none.
        leader_id: i32 [10+] = -1,
        /// The leader epoch; -1 for unknown.
        leader_epoch: i32 [10+] = -1,
    }
}

impl Request for ProduceRequest {
    type Response = ProduceResponse;
}
