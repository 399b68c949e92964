//! FindCoordinator: who coordinates a group or a transactional id.

use bytestring::ByteString;

use crate::error::ErrorCode;
use crate::message::{Request, messages};

messages! {
    /// Asks which broker coordinates a group or a transactional id.
    pub message FindCoordinatorRequest: FindCoordinator [0-6], flexible [3+] {
        /// The group or the transactional id.
        key: ByteString [0-3],
        /// 0 for a group, 1 for a transactional id, 2 for a share group.
        key_type: i8 [1+],
        /// The keys, in versions with a list.
        coordinator_keys: Vec<ByteString> [4+],
    }

    /// The coordinators: in the first fields up to version 3, in the list from 4.
    pub message FindCoordinatorResponse: FindCoordinator [0-6], flexible [3+] {
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0-3],
        /// Words about the error, or null.
        error_message: Option<ByteString> [1-3] null [1-3] = Some(ByteString::new()),
        /// The broker.
        node_id: i32 [0-3],
        /// Its host name.
        host: ByteString [0-3],
        /// Its port.
        port: i32 [0-3],
        /// The coordinators, one for each key.
        coordinators: Vec<Coordinator> [4+],
    }

    /// The coordinator of one key.
    pub struct Coordinator {
        /// The key.
        key: ByteString [4+],
        /// The broker.
        node_id: i32 [4+],
        /// Its host name.
        host: ByteString [4+],
        /// Its port.
        port: i32 [4+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [4+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [4+] null [4+] = Some(ByteString::new()),
    }
}

impl Request for FindCoordinatorRequest {
    type Response = FindCoordinatorResponse;
}
