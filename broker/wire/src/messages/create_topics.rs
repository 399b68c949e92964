//! CreateTopics.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks for topics to be created.
    pub message CreateTopicsRequest: CreateTopics [2-7], flexible [5+] {
        /// The topics to create.
        topics: Vec<CreatableTopic> [0+],
        /// How long the broker may wait, in milliseconds.
        timeout_ms: i32 [0+] = 60000,
        /// Whether only to check, and change nothing.
        validate_only: bool [1+],
    }

    /// One topic to create.
    pub struct CreatableTopic {
        /// The name.
        name: ByteString [0+],
        /// How many partitions; -1 for the default.
        num_partitions: i32 [0+],
        /// How many replicas; -1 for the default.
        replication_factor: i16 [0+],
        /// Where the replicas go; empty to leave it to the broker.
        assignments: Vec<CreatableReplicaAssignment> [0+],
        /// The configs.
        configs: Vec<CreatableTopicConfig> [0+],
    }

    /// Where the replicas of one partition go.
    pub struct CreatableReplicaAssignment {
        /// The partition.
        partition_index: i32 [0+],
        /// The brokers, the preferred leader first.
        broker_ids: Vec<i32> [0+],
    }

    /// One config of the new topic.
    pub struct CreatableTopicConfig {
        /// The name.
        name: ByteString [0+],
        /// The value, or null.
        value: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
    }

    /// What became of each topic.
    pub message CreateTopicsResponse: CreateTopics [2-7], flexible [5+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [2+],
        /// The topics.
        topics: Vec<CreatableTopicResult> [0+],
    }

    /// What became of one topic.
    pub struct CreatableTopicResult {
        /// The name.
        name: ByteString [0+],
        /// The topic's id.
        topic_id: Uuid [7+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [1+] null [0+] = Some(ByteString::new()),
        /// Why `configs` is null, or `NONE`.
        topic_config_error_code: ErrorCode [5+] tag 0,
        /// How many partitions; -1 for the default.
        num_partitions: i32 [5+] = -1,
        /// How many replicas; -1 for the default.
        replication_factor: i16 [5+] = -1,
        /// The configs of the topic, or null.
        configs: Option<Vec<CreatableTopicConfigs>> [5+] null [5+] = Some(Vec::new()),
    }

    /// One config of the topic as created.
    pub struct CreatableTopicConfigs {
        /// The name.
        name: ByteString [5+],
        /// The value, or null.
        value: Option<ByteString> [5+] null [5+] = Some(ByteString::new()),
        /// Whether it cannot be changed at run time.
        read_only: bool [5+],
        /// Where the value comes from.
        config_source: i8 [5+] = -1,
        /// Whether the value is secret; it is null then.
        is_sensitive: bool [5+],
    }
}

impl Request for CreateTopicsRequest {
    type Response = CreateTopicsResponse;
}
