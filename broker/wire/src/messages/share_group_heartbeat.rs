//! ShareGroupHeartbeat: a member of a share group joins, lives, leaves, and learns its partitions.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::field::nullable_structure;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// A member says that it lives.
    pub message ShareGroupHeartbeatRequest: ShareGroupHeartbeat [1-1], flexible [0+] {
        /// The group.
        group_id: ByteString [0+],
        /// The member, as it named itself.
        member_id: ByteString [0+],
        /// The epoch it was told last; 0 to join, -1 to leave.
        member_epoch: i32 [0+],
        /// Its rack; null for the same as before, or none.
        rack_id: Option<ByteString> [0+] null [0+] = None,
        /// What it subscribes to; null for the same as before.
        subscribed_topic_names: Option<Vec<ByteString>> [0+] null [0+] = None,
    }

    /// Where the member stands.
    pub message ShareGroupHeartbeatResponse: ShareGroupHeartbeat [1-1], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// The member.
        member_id: Option<ByteString> [0+] null [0+] = None,
        /// Its epoch from now on.
        member_epoch: i32 [0+],
        /// When to send the next, in milliseconds.
        heartbeat_interval_ms: i32 [0+],
        /// What it gets; null for the same as before.
        assignment: Option<Assignment> [0+] null [0+] = None,
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
        /// The partitions.
        partitions: Vec<i32> [0+],
    }
}

nullable_structure!(Assignment);

impl Request for ShareGroupHeartbeatRequest {
    type Response = ShareGroupHeartbeatResponse;
}
