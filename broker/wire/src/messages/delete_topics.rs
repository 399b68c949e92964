//! DeleteTopics.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};
use crate::uuid::Uuid;

messages! {
    /// Asks for topics to be deleted.
    pub message DeleteTopicsRequest: DeleteTopics [1-6], flexible [4+] {
        /// The topics.
        topics: Vec<DeleteTopicState> [6+],
        /// The names, in versions without ids.
        topic_names: Vec<ByteString> [0-5],
        /// How long the broker may wait, in milliseconds.
        timeout_ms: i32 [0+],
    }

    /// One topic to delete, by name or by id.
    pub struct DeleteTopicState {
        /// The name; null to ask by id.
        name: Option<ByteString> [6+] null [6+],
        /// The topic's id.
        topic_id: Uuid [6+],
    }

    /// What became of each topic.
    pub message DeleteTopicsResponse: DeleteTopics [1-6], flexible [4+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// The topics.
        responses: Vec<DeletableTopicResult> [0+],
    }

    /// What became of one topic.
    pub struct DeletableTopicResult {
        /// The name; null for an id that is not known.
        name: Option<ByteString> [0+] null [6+] = Some(ByteString::new()),
        /// The topic's id.
        topic_id: Uuid [6+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [5+] null [5+],
    }
}

impl Request for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;
}
