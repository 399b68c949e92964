//! Heartbeat: a member says that it lives.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Says that the member lives.
    pub message HeartbeatRequest: Heartbeat [0-4], flexible [4+] {
        /// The group.
        group_id: ByteString [0+],
        /// The generation of the group.
        generation_id: i32 [0+],
        /// The member, as the coordinator named it.
        member_id: ByteString [0+],
        /// The name of a static member, or null.
        group_instance_id: Option<ByteString> [3+] null [3+],
    }

    /// Whether the generation still stands.
    pub message HeartbeatResponse: Heartbeat [0-4], flexible [4+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
    }
}

impl Request for HeartbeatRequest {
    type Response = HeartbeatResponse;
}
