//! Metadata: brokers, topics, partitions, leaders.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks for brokers, topics, partitions and their leaders.
    pub message MetadataRequest: Metadata [0-13], flexible [9+] {
        /// The topics; null for all, and in version 0 empty for all.
        topics: Option<Vec<MetadataRequestTopic>> [0+] null [1+] = Some(Vec::new()),
        /// Whether to create topics that do not exist, if the broker is set to.
        allow_auto_topic_creation: bool [4+] = true,
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool [8-10],
        /// Whether to say what the client may do with each topic.
        include_topic_authorized_operations: bool [8+],
    }

    /// One topic asked for, by name or by id.
    pub struct MetadataRequestTopic {
        /// The topic's id.
        topic_id: Uuid [10+],
        /// The name; null to ask by id, which needs version 12.
        name: Option<ByteString> [0+] null [10+] = Some(ByteString::new()),
    }

    /// The cluster as the broker knows it.
    pub message MetadataResponse: Metadata [0-13], flexible [9+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [3+],
        /// The brokers.
        brokers: Vec<MetadataResponseBroker> [0+],
        /// The cluster's id, or null.
        cluster_id: Option<ByteString> [2+] null [2+],
        /// The controller; -1 for unknown.
        controller_id: i32 [1+] = -1,
        /// The topics.
        topics: Vec<MetadataResponseTopic> [0+],
        /// What the client may do with the cluster, as bits; the default for not asked.
        cluster_authorized_operations: i32 [8-10] = i32::MIN,
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [13+],
    }

    /// One broker.
    pub struct MetadataResponseBroker {
        /// The broker.
        node_id: i32 [0+],
        /// Its host name.
        host: ByteString [0+],
        /// Its port.
        port: i32 [0+],
        /// Its rack, or null.
        rack: Option<ByteString> [1+] null [1+],
    }

    /// One topic.
    pub struct MetadataResponseTopic {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The name; null for an id that is not known.
        name: Option<ByteString> [0+] null [12+] = Some(ByteString::new()),
        /// The topic's id.
        topic_id: Uuid [10+],
        /// Whether Kafka uses the topic for itself.
        is_internal: bool [1+],
        /// The partitions.
        partitions: Vec<MetadataResponsePartition> [0+],
        /// What the client may do with the topic, as bits; the default for not asked.
        topic_authorized_operations: i32 [8+] = i32::MIN,
    }

    /// One partition.
    pub struct MetadataResponsePartition {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The partition.
        partition_index: i32 [0+],
        /// The broker that leads; -1 for none.
        leader_id: i32 [0+],
        /// The leader epoch; -1 for unknown.
        leader_epoch: i32 [7+] = -1,
        /// The brokers with a replica.
        replica_nodes: Vec<i32> [0+],
        /// Those in sync.
        isr_nodes: Vec<i32> [0+],
        /// Those that are offline.
        offline_replicas: Vec<i32> [5+],
    }
}

impl Request for MetadataRequest {
    type Response = MetadataResponse;
}
