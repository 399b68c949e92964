//! JoinGroup: the answer comes when all members have joined, or their time is up.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest, Join, JoinRefusal};
use bytes::Bytes;
use ringlog_wire::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

/// The first version that says how long a rebalance may take.
const REBALANCE_TIMEOUT: i16 = 1;
/// The first version whose new members are given an id to come back with (KIP-394).
const ID_REQUIRED: i16 = 4;
/// The first version that can tell a leader to leave the assignment as it is (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;

pub(super) async fn handle(context: Rc<Context>, request: JoinGroupRequest) -> JoinGroupResponse {
    let member = request.member_id.clone();
    if let Some(code) = refusal(&context, &request) {
        return refuse(code, &member);
    }
    let answer = context.broker.ask_group(&request.group_id, GroupRequest::Join(join(&context, &request)));
    drop(request);
    match answer.await {
        GroupAnswer::Joined(Ok(joined)) => {
            let row = |(id, instance, metadata): (String, Option<String>, Bytes)| JoinGroupResponseMember {
                member_id: id.into(),
                group_instance_id: instance.map(ByteString::from),
                metadata,
            };
            JoinGroupResponse {
                generation_id: joined.generation,
                protocol_type: joined.protocol_type.map(ByteString::from),
                protocol_name: Some(joined.protocol.unwrap_or_default().into()),
                leader: joined.leader.into(),
                skip_assignment: joined.skip_assignment,
                member_id: joined.member.into(),
                members: joined.members.into_iter().map(row).collect(),
                ..Default::default()
            }
        }
        GroupAnswer::Joined(Err(JoinRefusal { code, member })) => refuse(code, &member),
        GroupAnswer::Refused(code) => refuse(code, &member),
        other => unreachable!("a join is answered with {other:?}"),
    }
}

fn refusal(context: &Context, request: &JoinGroupRequest) -> Option<ErrorCode> {
    if request.group_id.is_empty() {
        return Some(ErrorCode::InvalidGroupId);
    }
    let allowed = &context.broker.config().groups.session_timeout_ms;
    (!allowed.contains(&request.session_timeout_ms)).then_some(ErrorCode::InvalidSessionTimeout)
}

fn join(context: &Context, request: &JoinGroupRequest) -> Join {
    let protocols = request.protocols.iter();
    // Copied: what the group keeps must not hold the whole frame.
    let protocols = protocols.map(|it| (it.name.to_string(), Bytes::copy_from_slice(&it.metadata)));
    Join {
        member: Some(request.member_id.to_string()).filter(|id| !id.is_empty()),
        instance: request.group_instance_id.as_ref().map(ToString::to_string),
        client_id: context.peer.client_id.borrow().clone(),
        client_host: format!("/{}", context.peer.address.ip().to_canonical()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match context.version {
            ..REBALANCE_TIMEOUT => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        id_required: context.version >= ID_REQUIRED,
        can_skip_assignment: context.version >= SKIPS_ASSIGNMENT,
    }
}

fn refuse(error_code: ErrorCode, member: &str) -> JoinGroupResponse {
    JoinGroupResponse { error_code, member_id: member.into(), ..Default::default() }
}
