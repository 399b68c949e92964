//! Heartbeat: a member lives; the answer says whether its generation stands.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest, MemberAt};
use ringlog_wire::ErrorCode;
use ringlog_wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: HeartbeatRequest) -> HeartbeatResponse {
    let respond = |error_code| HeartbeatResponse { error_code, ..Default::default() };
    if request.group_id.is_empty() {
        return respond(ErrorCode::InvalidGroupId);
    }
    let member = MemberAt {
        id: request.member_id.to_string(),
        instance: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id,
    };
    match context.broker.ask_group(&request.group_id, GroupRequest::Heartbeat(member)).await {
        GroupAnswer::Done => respond(ErrorCode::None),
        GroupAnswer::Refused(code) => respond(code),
        other => unreachable!("a heartbeat is answered with {other:?}"),
    }
}
