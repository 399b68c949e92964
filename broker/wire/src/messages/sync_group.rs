//! SyncGroup: a member learns what it was assigned.

use bytes::Bytes;
use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for what the member is assigned; the leader sends what all are.
    pub message SyncGroupRequest: SyncGroup [0-5], flexible [4+] {
        /// The group.
        group_id: ByteString [0+],
        /// The generation of the group.
        generation_id: i32 [0+],
        /// The member, as the coordinator named it.
        member_id: ByteString [0+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [3+] null [3+],
        /// What kind of group it is, such as `consumer`.
        protocol_type: Option<ByteString> [5+] null [5+],
        /// The protocol chosen among those that all members can.
        protocol_name: Option<ByteString> [5+] null [5+],
        /// What each member gets; from the leader alone.
        assignments: Vec<SyncGroupRequestAssignment> [0+],
    }

    /// What one member gets.
    pub struct SyncGroupRequestAssignment {
        /// The member, as the coordinator named it.
        member_id: ByteString [0+],
        /// What the member gets; opaque to the broker.
        assignment: Bytes [0+],
    }

    /// What the member is assigned.
    pub message SyncGroupResponse: SyncGroup [0-5], flexible [4+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// What kind of group it is, such as `consumer`.
        protocol_type: Option<ByteString> [5+] null [5+],
        /// The protocol chosen among those that all members can.
        protocol_name: Option<ByteString> [5+] null [5+],
        /// What the member gets; opaque to the broker.
        assignment: Bytes [0+],
    }
}

impl Request for SyncGroupRequest {
    type Response = SyncGroupResponse;
}
