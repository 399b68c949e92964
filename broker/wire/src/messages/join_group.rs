//! JoinGroup: a member joins a group, or joins it again.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks to become a member of a group, or to take part in its next generation.
    pub message JoinGroupRequest: JoinGroup [0-9], flexible [6+] {
        /// The group.
        group_id: ByteString [0+],
        /// After how long without a heartbeat the member is taken to be gone, in milliseconds.
        session_timeout_ms: i32 [0+],
        /// How long the member may take to join again, in milliseconds; -1 for the session timeout.
        rebalance_timeout_ms: i32 [1+] = -1,
        /// The member; empty for one that is new.
        member_id: ByteString [0+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [5+] null [5+],
        /// What kind of group it is, such as `consumer`.
        protocol_type: ByteString [0+],
        /// What the member can do, the best first.
        protocols: Vec<JoinGroupRequestProtocol> [0+],
        /// Why, in words for the log, or null.
        reason: Option<ByteString> [8+] null [8+],
    }

    /// One protocol that the member can.
    pub struct JoinGroupRequestProtocol {
        /// Its name.
        name: ByteString [0+],
        /// What the member says about itself under this protocol; opaque to the broker.
        metadata: Bytes [0+],
    }

    /// The generation that the group has come to, when every member has joined.
    pub message JoinGroupResponse: JoinGroup [0-9], flexible [6+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [2+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The generation of the group.
        generation_id: i32 [0+] = -1,
        /// What kind of group it is, such as `consumer`.
        protocol_type: Option<ByteString> [7+] null [7+],
        /// The protocol chosen among those that all members can.
        protocol_name: Option<ByteString> [0+] null [7+] = Some(ByteString::new()),
        /// The member that makes the assignment.
        leader: ByteString [0+],
        /// Whether the leader is to leave the assignment as it is.
        skip_assignment: bool [9+],
        /// The member, as the coordinator named it.
        member_id: ByteString [0+],
        /// All members, for the leader alone.
        members: Vec<JoinGroupResponseMember> [0+],
    }

    /// One member, as the leader sees it.
    pub struct JoinGroupResponseMember {
        /// The member, as the coordinator named it.
        member_id: ByteString [0+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [5+] null [5+],
        /// What the member says about itself under this protocol; opaque to the broker.
        metadata: Bytes [0+],
    }
}

impl Request for JoinGroupRequest {
    type Response = JoinGroupResponse;
}
