//! ListGroups: the groups that a broker coordinates.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks for the groups that the broker coordinates.
    pub message ListGroupsRequest: ListGroups [0-5], flexible [3+] {
        /// The states to list; empty for all.
        states_filter: Vec<ByteString> [4+],
        /// The types to list; empty for all.
        types_filter: Vec<ByteString> [5+],
    }

    /// The groups.
    pub message ListGroupsResponse: ListGroups [0-5], flexible [3+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The groups.
        groups: Vec<ListedGroup> [0+],
    }

    /// One group.
    pub struct ListedGroup {
        /// The group.
        group_id: ByteString [0+],
        /// What kind of group it is, such as `consumer`.
        protocol_type: ByteString [0+],
        /// The group's state.
        group_state: ByteString [4+],
        /// Its type: `classic` for the protocol of these messages.
        group_type: ByteString [5+],
    }
}

impl Request for ListGroupsRequest {
    type Response = ListGroupsResponse;
}
