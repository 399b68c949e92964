//! DeleteGroups.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks that groups without members be deleted, with all their offsets.
    pub message DeleteGroupsRequest: DeleteGroups [0-2], flexible [2+] {
        /// The groups.
        groups_names: Vec<ByteString> [0+],
    }

    /// What became of each group.
    pub message DeleteGroupsResponse: DeleteGroups [0-2], flexible [2+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// The groups.
        results: Vec<DeletableGroupResult> [0+],
    }

    /// What became of one group.
    pub struct DeletableGroupResult {
        /// The group.
        group_id: ByteString [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
    }
}

impl Request for DeleteGroupsRequest {
    type Response = DeleteGroupsResponse;
}
