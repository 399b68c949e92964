//! LeaveGroup: members leave a group.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks that members be removed from a group.
    pub message LeaveGroupRequest: LeaveGroup [0-5], flexible [4+] {
        /// The group.
        group_id: ByteString [0+],
        /// The member that leaves.
        member_id: ByteString [0-2],
        /// The members that leave.
        members: Vec<MemberIdentity> [3+],
    }

    /// One member that leaves.
    pub struct MemberIdentity {
        /// The member, as the coordinator named it.
        member_id: ByteString [3+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [3+] null [3+],
        /// Why, in words for the log, or null.
        reason: Option<ByteString> [5+] null [5+],
    }

    /// What became of each member.
    pub message LeaveGroupResponse: LeaveGroup [0-5], flexible [4+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The members.
        members: Vec<MemberResponse> [3+],
    }

    /// What became of one member.
    pub struct MemberResponse {
        /// The member, as the coordinator named it.
        member_id: ByteString [3+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [3+] null [3+] = Some(ByteString::new()),
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [3+],
    }
}

impl Request for LeaveGroupRequest {
    type Response = LeaveGroupResponse;
}
