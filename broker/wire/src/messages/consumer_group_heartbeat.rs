//! ConsumerGroupHeartbeat: a member of a group of the consumer protocol (KIP-848) joins, lives, leaves, and learns its partitions.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::field::nullable_structure;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// A member says that it lives.
    pub message ConsumerGroupHeartbeatRequest: ConsumerGroupHeartbeat [0-1], flexible [0+] {
        /// The group.
        group_id: ByteString [0+],
        /// The member.
        member_id: ByteString [0+],
        /// The epoch it was told last; 0 to join, -1 to leave, -2 to leave for a while as a static member.
        member_epoch: i32 [0+],
        /// Its static name; null for the same as before, or none.
        instance_id: Option<ByteString> [0+] null [0+] = None,
        /// Its rack; null for the same as before, or none.
        rack_id: Option<ByteString> [0+] null [0+] = None,
        /// How long it may take to give partitions up, in milliseconds; -1 for the same as before.
        rebalance_timeout_ms: i32 [0+] = -1,
        /// What it subscribes to; null for the same as before.
        subscribed_topic_names: Option<Vec<ByteString>> [0+] null [0+] = None,
        /// The same as a regular expression; null for the same as before.
        subscribed_topic_regex: Option<ByteString> [1+] null [1+] = None,
        /// Who is to share the partitions out; null for the same as before, or the broker's choice.
        server_assignor: Option<ByteString> [0+] null [0+] = None,
        /// What it has; null for the same as before.
        topic_partitions: Option<Vec<TopicPartitions>> [0+] null [0+] = None,
    }

    /// Where the member stands.
    pub message ConsumerGroupHeartbeatResponse: ConsumerGroupHeartbeat [0-1], flexible [0+] {
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

impl Request for ConsumerGroupHeartbeatRequest {
    type Response = ConsumerGroupHeartbeatResponse;
}
