//! FindCoordinator: there is one broker, and it coordinates all groups. Their topic is created when a group is first looked for.
//!
//! A transactional id is refused for good: there are no transactions yet, and a code that clients retry would have them wait for ever.

use super::Context;
use crate::cluster::{Outcome, Request};
use crate::group::{OFFSETS_TOPIC, offsets_topic};
use ringlog_wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

const NO_TRANSACTIONS: ByteString = ByteString::from_static("ringlog has no transactions yet");

/// What a key names.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(super) async fn handle(context: Rc<Context>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let error_code = match request.key_type {
        GROUP => groups_are_kept(&context).await,
        // Between brokers (KIP-932): whoever asks finds this one.
        SHARE => groups_are_kept(&context).await,
        TRANSACTION => ErrorCode::TransactionalIdAuthorizationFailed,
        _ => ErrorCode::InvalidRequest,
    };
    let row = Coordinator { node_id: -1, port: -1, error_code, ..Default::default() };
    let row = match error_code {
        ErrorCode::None => {
            let endpoint = context.broker.config().endpoint(context.peer.listener);
            Coordinator {
                node_id: context.broker.config().node_id,
                host: endpoint.host.as_str().into(),
                port: i32::from(endpoint.port),
                ..row
            }
        }
        ErrorCode::TransactionalIdAuthorizationFailed => {
            Coordinator { error_message: Some(NO_TRANSACTIONS), ..row }
        }
        _ => row,
    };
    FindCoordinatorResponse {
        error_code,
        error_message: row.error_message.clone(),
        node_id: row.node_id,
        host: row.host.clone(),
        port: row.port,
        coordinators: request
            .coordinator_keys
            .into_iter()
            .map(|key| Coordinator { key, ..row.clone() })
            .collect(),
        ..Default::default()
    }
}

/// Sees to it that there is a topic that keeps groups.
pub(super) async fn groups_are_kept(context: &Context) -> ErrorCode {
    let broker = &context.broker;
    if broker.image().topic(OFFSETS_TOPIC).is_some() {
        return ErrorCode::None;
    }
    let topics = vec![offsets_topic(&broker.config().groups)];
    let outcome = broker.control(Request::CreateTopics { topics, validate_only: false }).await;
    if broker.image().topic(OFFSETS_TOPIC).is_some() {
        return ErrorCode::None;
    }
    let why = match outcome {
        Outcome::Topics(topics) => topics.into_iter().find_map(Result::err).map(|refusal| refusal.message),
        Outcome::Failed(code) => Some(code.name().to_owned()),
        Outcome::Configs(_) | Outcome::Scram(_) | Outcome::ProducerIds { .. } => None,
    };
    eprintln!("ERROR create topic {OFFSETS_TOPIC}: {}", why.unwrap_or_default());
    ErrorCode::CoordinatorNotAvailable
}
