//! LeaveGroup: one member in versions 0 to 2, any number from 3 on.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest, Leaving};
use ringlog_wire::ErrorCode;
use ringlog_wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use std::rc::Rc;

/// The first version with a list.
const MANY: i16 = 3;

pub(super) async fn handle(context: Rc<Context>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let refuse = |error_code| LeaveGroupResponse { error_code, ..Default::default() };
    if request.group_id.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let leaving = match context.version {
        ..MANY => vec![MemberIdentity { member_id: request.member_id.clone(), ..Default::default() }],
        _ => request.members,
    };
    let members = leaving.iter().map(|member| Leaving {
        member: Some(member.member_id.to_string()).filter(|id| !id.is_empty()),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
    });
    let codes =
        match context.broker.ask_group(&request.group_id, GroupRequest::Leave(members.collect())).await {
            GroupAnswer::Left(codes) => codes,
            GroupAnswer::Refused(code) => return refuse(code),
            other => unreachable!("a leave is answered with {other:?}"),
        };
    if context.version < MANY {
        return refuse(codes[0]);
    }
    let rows = leaving.into_iter().zip(codes).map(|(member, error_code)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code,
    });
    LeaveGroupResponse { members: rows.collect(), ..Default::default() }
}
