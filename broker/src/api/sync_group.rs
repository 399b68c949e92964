//! SyncGroup: the answer comes when the leader's assignment is durable.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest, MemberAt, Sync};
use bytes::Bytes;
use ringlog_wire::sync_group::{SyncGroupRequest, SyncGroupResponse};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: SyncGroupRequest) -> SyncGroupResponse {
    let refuse = |error_code| SyncGroupResponse { error_code, ..Default::default() };
    if request.group_id.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let assignments = request.assignments.iter();
    // Copied: what the group keeps must not hold the whole frame.
    let assignments =
        assignments.map(|it| (it.member_id.to_string(), Bytes::copy_from_slice(&it.assignment)));
    let sync = Sync {
        member: MemberAt {
            id: request.member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(ToString::to_string),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_ref().map(ToString::to_string),
        protocol: request.protocol_name.as_ref().map(ToString::to_string),
        assignments: assignments.collect(),
    };
    let answer = context.broker.ask_group(&request.group_id, GroupRequest::Sync(sync));
    drop(request);
    match answer.await {
        GroupAnswer::Synced(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type.map(ByteString::from),
            protocol_name: synced.protocol.map(ByteString::from),
            assignment: synced.assignment,
            ..Default::default()
        },
        GroupAnswer::Refused(code) => refuse(code),
        other => unreachable!("a sync is answered with {other:?}"),
    }
}
