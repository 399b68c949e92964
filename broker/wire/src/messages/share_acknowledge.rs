//! ShareAcknowledge: a member of a share group says what became of records.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Says what became of acquired records.
    pub message ShareAcknowledgeRequest: ShareAcknowledge [1-2], flexible [0+] {
        /// The group.
        group_id: Option<ByteString> [0+] null [0+] = None,
        /// The member.
        member_id: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The number of this request in the share session: -1 ends it.
        share_session_epoch: i32 [0+],
        /// Whether acquisitions are renewed.
        is_renew_ack: bool [2+],
        /// The topics.
        topics: Vec<AcknowledgeTopic> [0+],
    }

    /// Records of one topic.
    pub struct AcknowledgeTopic {
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<AcknowledgePartition> [0+],
    }

    /// Records of one partition.
    pub struct AcknowledgePartition {
        /// The partition.
        partition_index: i32 [0+],
        /// What became of records.
        acknowledgement_batches: Vec<AcknowledgementBatch> [0+],
    }

    /// What became of a range of records.
    pub struct AcknowledgementBatch {
        /// The first.
        first_offset: i64 [0+],
        /// The last.
        last_offset: i64 [0+],
        /// One for all, or one for each: 0 there is none, 1 accepted, 2 released, 3 rejected, 4 still in work.
        acknowledge_types: Vec<i8> [0+],
    }

    /// What came of it.
    pub message ShareAcknowledgeResponse: ShareAcknowledge [1-2], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// For how long records are acquired, in milliseconds.
        acquisition_lock_timeout_ms: i32 [2+],
        /// The topics.
        responses: Vec<ShareAcknowledgeTopicResponse> [0+],
        /// Where the leaders named above listen.
        node_endpoints: Vec<NodeEndpoint> [0+],
    }

    /// One topic.
    pub struct ShareAcknowledgeTopicResponse {
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<PartitionData> [0+],
    }

    /// One partition.
    pub struct PartitionData {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// Who leads the partition.
        current_leader: LeaderIdAndEpoch [0+],
    }

    /// The leader of a partition.
    pub struct LeaderIdAndEpoch {
        /// The broker; -1 for unknown.
        leader_id: i32 [0+],
        /// Its epoch.
        leader_epoch: i32 [0+],
    }

    /// Where a broker named in this response listens.
    pub struct NodeEndpoint {
        /// The broker.
        node_id: i32 [0+],
        /// Its host name.
        host: ByteString [0+],
        /// Its port.
        port: i32 [0+],
        /// Its rack, or null.
        rack: Option<ByteString> [0+] null [0+] = None,
    }
}

impl Request for ShareAcknowledgeRequest {
    type Response = ShareAcknowledgeResponse;
}
