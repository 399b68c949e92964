//! ShareFetch: a member of a share group acknowledges records, and acquires more.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::records::Records;
use crate::uuid::Uuid;

messages! {
    /// Asks for records that nobody else of the group has, and says what became of former ones.
    pub message ShareFetchRequest: ShareFetch [1-2], flexible [0+] {
        /// The group.
        group_id: Option<ByteString> [0+] null [0+] = None,
        /// The member.
        member_id: Option<ByteString> [0+] null [0+] = Some(ByteString::new()),
        /// The number of this request in the share session: 0 opens one, -1 ends it.
        share_session_epoch: i32 [0+],
        /// How long the broker may wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32 [0+],
        /// Answer once there are so many bytes.
        min_bytes: i32 [0+],
        /// Answer with no more bytes than this; the first batch may exceed it.
        max_bytes: i32 [0+] = i32::MAX,
        /// Acquire no more records than this, but for the rest of a batch.
        max_records: i32 [1+],
        /// How many records an acquired range best has.
        batch_size: i32 [1+],
        /// 0 acquires whole batches, 1 no more than `max_records`.
        share_acquire_mode: i8 [2+],
        /// Whether acknowledgements renew acquisitions; then nothing is fetched.
        is_renew_ack: bool [2+],
        /// What to add to the session, and what to acknowledge.
        topics: Vec<FetchTopic> [0+],
        /// What to drop from the session.
        forgotten_topics_data: Vec<ForgottenTopic> [0+],
    }

    /// One topic to read.
    pub struct FetchTopic {
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<FetchPartition> [0+],
    }

    /// One partition to read.
    pub struct FetchPartition {
        /// The partition.
        partition_index: i32 [0+],
        /// No more bytes than this.
        partition_max_bytes: i32 [0-0],
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

    /// Partitions to drop from the session.
    pub struct ForgottenTopic {
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<i32> [0+],
    }

    /// Records, and which of them are acquired.
    pub message ShareFetchResponse: ShareFetch [1-2], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// For how long records are acquired, in milliseconds.
        acquisition_lock_timeout_ms: i32 [1+],
        /// The topics.
        responses: Vec<ShareFetchableTopicResponse> [0+],
        /// Where the leaders named above listen.
        node_endpoints: Vec<NodeEndpoint> [0+],
    }

    /// One topic.
    pub struct ShareFetchableTopicResponse {
        /// The topic.
        topic_id: Uuid [0+],
        /// The partitions.
        partitions: Vec<PartitionData> [0+],
    }

    /// One partition.
    pub struct PartitionData {
        /// The partition.
        partition_index: i32 [0+],
        /// What went wrong with reading, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// What went wrong with acknowledgements, or `NONE`.
        acknowledge_error_code: ErrorCode [0+],
        /// The same in words, or null.
        acknowledge_error_message: Option<ByteString> [0+] null [0+] = None,
        /// Who leads the partition.
        current_leader: LeaderIdAndEpoch [0+],
        /// Whole batches that hold the acquired records.
        records: Records [0+] null [0-0],
        /// Which records are acquired.
        acquired_records: Vec<AcquiredRecords> [0+],
    }

    /// The leader of a partition.
    pub struct LeaderIdAndEpoch {
        /// The broker; -1 for unknown.
        leader_id: i32 [0+],
        /// Its epoch.
        leader_epoch: i32 [0+],
    }

    /// A range of acquired records.
    pub struct AcquiredRecords {
        /// The first.
        first_offset: i64 [0+],
        /// The last.
        last_offset: i64 [0+],
        /// How often they were delivered, this time included.
        delivery_count: i16 [0+],
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

impl Request for ShareFetchRequest {
    type Response = ShareFetchResponse;
}
