//! DescribeTopicPartitions: topics and their partitions, a part at a time.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::field::nullable_structure;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks for partitions of topics, in the order of the topics' names.
    pub message DescribeTopicPartitionsRequest: DescribeTopicPartitions [0-0], flexible [0+] {
        /// The topics; none for all.
        topics: Vec<TopicRequest> [0+],
        /// The most partitions to answer with.
        response_partition_limit: i32 [0+] = 2000,
        /// Where to begin; null for the first.
        cursor: Option<Cursor> [0+] null [0+],
    }

    /// One topic.
    pub struct TopicRequest {
        /// The name.
        name: ByteString [0+],
    }

    /// Where to go on.
    pub struct Cursor {
        /// The topic.
        topic_name: ByteString [0+],
        /// Its first partition wanted.
        partition_index: i32 [0+],
    }

    /// Partitions of topics, and where there are more.
    pub message DescribeTopicPartitionsResponse: DescribeTopicPartitions [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0+],
        /// Where there is more; null if there is not.
        next_cursor: Option<Cursor> [0+] null [0+],
    }

    /// One topic.
    pub struct DescribeTopicPartitionsResponseTopic {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The name.
        name: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// Its id.
        topic_id: Uuid [0+],
        /// Whether the broker itself keeps things in it.
        is_internal: bool [0+],
        /// Its partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0+],
        /// What the client may do with the topic, as bits.
        topic_authorized_operations: i32 [0+] = i32::MIN,
    }

    /// One partition.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The partition.
        partition_index: i32 [0+],
        /// The leader's broker, or -1.
        leader_id: i32 [0+],
        /// The leader's epoch.
        leader_epoch: i32 [0+] = -1,
        /// The brokers that have it.
        replica_nodes: Vec<i32> [0+],
        /// Those in sync.
        isr_nodes: Vec<i32> [0+],
        /// Others that could lead, or null.
        eligible_leader_replicas: Option<Vec<i32>> [0+] null [0+],
        /// Those that could lead before, or null.
        last_known_elr: Option<Vec<i32>> [0+] null [0+],
        /// The brokers where it is offline.
        offline_replicas: Vec<i32> [0+],
    }
}

nullable_structure!(Cursor);

impl Request for DescribeTopicPartitionsRequest {
    type Response = DescribeTopicPartitionsResponse;
}
