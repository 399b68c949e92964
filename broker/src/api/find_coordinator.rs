//! FindCoordinator: there are no groups and no transactions yet, and so nobody who coordinates them.
//!
//! It is served all the same: older librdkafka takes its absence to mean that the broker cannot take lz4. A group's coordinator is
//! not available, which a consumer that was assigned its partitions bears; a transactional id is refused for good.

use super::Context;
use ringlog_wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

const MESSAGE: ByteString = ByteString::from_static("ringlog has no consumer groups and no transactions yet");

pub(super) async fn handle(_: Rc<Context>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let error_code = match request.key_type {
        0 => ErrorCode::CoordinatorNotAvailable,
        1 => ErrorCode::TransactionalIdAuthorizationFailed,
        _ => ErrorCode::InvalidRequest,
    };
    let coordinators = request.coordinator_keys.into_iter().map(|key| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(MESSAGE),
        ..Default::default()
    });
    FindCoordinatorResponse {
        error_code,
        error_message: Some(MESSAGE),
        node_id: -1,
        port: -1,
        coordinators: coordinators.collect(),
        ..Default::default()
    }
}
