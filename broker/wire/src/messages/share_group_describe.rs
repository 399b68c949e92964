//! ShareGroupDescribe: share groups and their members.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks about share groups.
    pub message ShareGroupDescribeRequest: ShareGroupDescribe [1-1], flexible [0+] {
        /// The groups.
        group_ids: Vec<ByteString> [0+],
        /// Whether to tell what the client may do with each.
        include_authorized_operations: bool [0+],
    }

    /// The groups.
    pub message ShareGroupDescribeResponse: ShareGroupDescribe [1-1], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// One for each asked for.
        groups: Vec<DescribedGroup> [0+],
    }

    /// One group.
    pub struct DescribedGroup {
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// The group.
        group_id: ByteString [0+],
        /// Its state, or empty.
        group_state: ByteString [0+],
        /// Grows with every change of members and topics.
        group_epoch: i32 [0+],
        /// The epoch that the assignment was made for.
        assignment_epoch: i32 [0+],
        /// Who made it.
        assignor_name: ByteString [0+],
        /// The members.
        members: Vec<Member> [0+],
        /// What the client may do with the group, a bit for each operation; `i32::MIN` if it did not ask.
        authorized_operations: i32 [0+] = i32::MIN,
    }

    /// One member.
    pub struct Member {
        /// The member.
        member_id: ByteString [0+],
        /// Its rack, or null.
        rack_id: Option<ByteString> [0+] null [0+] = None,
        /// Its epoch.
        member_epoch: i32 [0+],
        /// What the client calls itself.
        client_id: ByteString [0+],
        /// Where it connects from.
        client_host: ByteString [0+],
        /// What it subscribes to.
        subscribed_topic_names: Vec<ByteString> [0+],
        /// What it has.
        assignment: Assignment [0+],
    }

    /// A member's partitions.
    pub struct Assignment {
        /// By topic.
        topic_partitions: Vec<TopicPartitions> [0+],
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// The topic.
        topic_id: Uuid [0+],
        /// Its name.
        topic_name: ByteString [0+],
        /// The partitions.
        partitions: Vec<i32> [0+],
    }
}

impl Request for ShareGroupDescribeRequest {
    type Response = ShareGroupDescribeResponse;
}
