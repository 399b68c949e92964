//! DeleteShareGroupOffsets: a share group without members forgets topics.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Says what a share group is to forget.
    pub message DeleteShareGroupOffsetsRequest: DeleteShareGroupOffsets [0-0], flexible [0+] {
        /// The group.
        group_id: ByteString [0+],
        /// The topics.
        topics: Vec<DeleteShareGroupOffsetsRequestTopic> [0+],
    }

    /// One topic.
    pub struct DeleteShareGroupOffsetsRequestTopic {
        /// The name.
        topic_name: ByteString [0+],
    }

    /// What came of it.
    pub message DeleteShareGroupOffsetsResponse: DeleteShareGroupOffsets [0-0], flexible [0+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
        /// The topics.
        responses: Vec<DeleteShareGroupOffsetsResponseTopic> [0+],
    }

    /// One topic.
    pub struct DeleteShareGroupOffsetsResponseTopic {
        /// The name.
        topic_name: ByteString [0+],
        /// The topic.
        topic_id: Uuid [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The same in words, or null.
        error_message: Option<ByteString> [0+] null [0+] = None,
    }
}

impl Request for DeleteShareGroupOffsetsRequest {
    type Response = DeleteShareGroupOffsetsResponse;
}
