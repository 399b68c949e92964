//! ShareGroupHeartbeat: a member of a share group joins, lives, or leaves, and learns its partitions.

use super::Context;
use super::find_coordinator::groups_are_kept;
use crate::group::{GroupAnswer, GroupRequest, ShareRequest};
use crate::share::{Heartbeat, Partitions};
use ringlog_wire::share_group_heartbeat::{
    Assignment, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicPartitions,
};
use ringlog_wire::{ErrorCode, Uuid};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    if let Some(why) = refusal(&request) {
        return refuse(ErrorCode::InvalidRequest, Some(why.into()));
    }
    let code = groups_are_kept(&context).await;
    if code.is_error() {
        return refuse(code, None);
    }
    if let Err(code) = context.broker.shares_are_kept().await {
        return refuse(code, None);
    }
    let heartbeat = Heartbeat {
        member: request.member_id.to_string(),
        epoch: request.member_epoch,
        rack: request.rack_id.as_ref().map(ToString::to_string),
        client_id: context.peer.client_id.borrow().clone(),
        client_host: format!("/{}", context.peer.address.ip().to_canonical()),
        topics: request.subscribed_topic_names.map(|names| names.iter().map(ToString::to_string).collect()),
    };
    let asked = GroupRequest::Share(ShareRequest::Heartbeat(heartbeat));
    match context.broker.ask_group(&request.group_id, asked).await {
        GroupAnswer::Stands(Ok(standing)) => ShareGroupHeartbeatResponse {
            member_id: Some(request.member_id),
            member_epoch: standing.epoch,
            heartbeat_interval_ms: context.broker.share_config(&request.group_id).heartbeat_ms,
            assignment: standing.partitions.map(assignment),
            ..Default::default()
        },
        GroupAnswer::Stands(Err((code, why))) => refuse(code, Some(why)),
        GroupAnswer::Refused(code) => refuse(code, None),
        other => unreachable!("a heartbeat is answered with {other:?}"),
    }
}

fn refusal(request: &ShareGroupHeartbeatRequest) -> Option<&'static str> {
    let subscribes = request.subscribed_topic_names.as_ref().is_some_and(|names| !names.is_empty());
    match () {
        () if request.member_id.is_empty() => Some("MemberId can't be empty."),
        () if request.group_id.is_empty() => Some("GroupId can't be empty."),
        () if request.rack_id.as_ref().is_some_and(|rack| rack.is_empty()) => Some("RackId can't be empty."),
        () if request.member_epoch == 0 && !subscribes => {
            Some("SubscribedTopicNames must be set in first request.")
        }
        () if request.member_epoch < -1 => Some("MemberEpoch is invalid."),
        () => None,
    }
}

fn assignment(partitions: Partitions) -> Assignment {
    let row = |(topic, partitions): ([u8; 16], std::collections::BTreeSet<i32>)| TopicPartitions {
        topic_id: Uuid(topic),
        partitions: partitions.into_iter().collect(),
    };
    Assignment { topic_partitions: partitions.into_iter().map(row).collect() }
}

fn refuse(error_code: ErrorCode, why: Option<String>) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse { error_code, error_message: why.map(Into::into), ..Default::default() }
}
