//! Fetch: read records.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::records::Records;
use crate::uuid::Uuid;

messages! {
    /// Asks for records from given offsets: a consumer, or a follower of the partition's leader.
    pub message FetchRequest: Fetch [4-18], flexible [12+] {
        /// The cluster's id, or null.
        cluster_id: Option<ByteString> [12+] null [12+] tag 0,
        /// The follower that asks; -1 for a consumer.
        replica_id: i32 [0-14] = -1,
        /// The follower that asks.
        replica_state: ReplicaState [15+] tag 1,
        /// How long the broker may wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32 [0+],
        /// Answer once there are so many bytes.
        min_bytes: i32 [0+],
        /// Answer with no more bytes than this; the first batch may exceed it.
        max_bytes: i32 [3+] = i32::MAX,
        /// 0 reads all records, 1 only those of committed transactions.
        isolation_level: i8 [4+],
        /// The fetch session; 0 for none.
        session_id: i32 [7+],
        /// The number of this request within the session; -1 without one.
        session_epoch: i32 [7+] = -1,
        /// The topics.
        topics: Vec<FetchTopic> [0+],
        /// What to drop from the session.
        forgotten_topics_data: Vec<ForgottenTopic> [7+],
        /// The consumer's rack, or empty.
        rack_id: ByteString [11+],
    }

    /// Which follower asks.
    pub struct ReplicaState {
        /// The follower that asks; -1 for a consumer.
        replica_id: i32 [15+] = -1,
        /// The follower's broker epoch; -1 for unknown.
        replica_epoch: i64 [15+] = -1,
    }

    /// One topic to read.
    pub struct FetchTopic {
        /// The topic.
        topic: ByteString [0-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions.
        partitions: Vec<FetchPartition> [0+],
    }

    /// Partitions to drop from the fetch session.
    pub struct ForgottenTopic {
        /// The topic.
        topic: ByteString [7-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions.
        partitions: Vec<i32> [7+],
    }

    /// One partition to read.
    pub struct FetchPartition {
        /// The partition.
        partition: i32 [0+],
        /// The leader epoch as the client knows it; -1 for unknown.
        current_leader_epoch: i32 [9+] = -1,
        /// The first offset wanted.
        fetch_offset: i64 [0+],
        /// The epoch of the follower's last record; -1 for none.
        last_fetched_epoch: i32 [12+] = -1,
        /// The first offset of the follower's log; -1 from a consumer.
        log_start_offset: i64 [5+] = -1,
        /// No more bytes than this from the partition; its first batch may exceed it.
        partition_max_bytes: i32 [0+],
        /// The follower's log directory.
        replica_directory_id: Uuid [17+] tag 0,
        /// The high watermark as the follower knows it; -1 for unknown.
        high_watermark: i64 [18+] tag 1 = i64::MAX,
    }

    /// Records, partition by partition. Within a session, only partitions with news.
    pub message FetchResponse: Fetch [4-18], flexible [12+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [7+],
        /// The fetch session; 0 for none.
        session_id: i32 [7+],
        /// The topics.
        responses: Vec<FetchableTopicResponse> [0+],
        /// Where the leaders named above listen.
        node_endpoints: Vec<NodeEndpoint> [16+] tag 0,
    }

    /// One topic of the request.
    pub struct FetchableTopicResponse {
        /// The topic.
        topic: ByteString [0-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions.
        partitions: Vec<PartitionData> [0+],
    }

    /// Where a broker named in this response listens.
    pub struct NodeEndpoint {
        /// The broker.
        node_id: i32 [16+],
        /// Its host name.
        host: ByteString [16+],
        /// Its port.
        port: i32 [16+],
        /// Its rack, or null.
        rack: Option<ByteString> [16+] null [16+],
    }

    /// What one partition has.
    pub struct PartitionData {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The end of what consumers may see.
        high_watermark: i64 [0+],
        /// The end of what `read_committed` consumers may see.
        last_stable_offset: i64 [4+] = -1,
        /// The first offset that the log still has.
        log_start_offset: i64 [5+] = -1,
        /// Where the follower's log parts from the leader's.
        diverging_epoch: EpochEndOffset [12+] tag 0,
        /// The leader now, for a client that asked the wrong broker.
        current_leader: LeaderIdAndEpoch [12+] tag 1,
        /// The snapshot to fetch instead.
        snapshot_id: SnapshotId [12+] tag 2,
        /// Aborted transactions among the records; null for `read_uncommitted`.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4+] null [4+] = Some(Vec::new()),
        /// The replica to read from next time; -1 for this one.
        preferred_read_replica: i32 [11+] = -1,
        /// Record batches, as they are stored.
        records: Records [0+] null [0+],
    }

    /// Where an epoch ends in the leader's log.
    pub struct EpochEndOffset {
        /// The epoch.
        epoch: i32 [12+] = -1,
        /// The offset after its last record.
        end_offset: i64 [12+] = -1,
    }

    /// Who leads a partition now.
    pub struct LeaderIdAndEpoch {
        /// The broker that leads; -1 for none.
        leader_id: i32 [12+] = -1,
        /// The leader epoch; -1 for unknown.
        leader_epoch: i32 [12+] = -1,
    }

    /// A snapshot of the metadata log (KRaft).
    pub struct SnapshotId {
        /// Its end.
        end_offset: i64 [0+] = -1,
        /// Its epoch.
        epoch: i32 [0+] = -1,
    }

    /// A transaction whose records a `read_committed` consumer must skip.
    pub struct AbortedTransaction {
        /// The producer id.
        producer_id: i64 [4+],
        /// The transaction's first offset in this partition.
        first_offset: i64 [4+],
    }
}

impl Request for FetchRequest {
    type Response = FetchResponse;
}
