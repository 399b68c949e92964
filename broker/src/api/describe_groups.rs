//! DescribeGroups. A group that does not exist is dead; from version 6 on that is an error too (KIP-1043).

use super::Context;
use crate::group::{Described, DescribedMember, GroupAnswer, GroupRequest};
use ringlog_wire::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

/// The first version with an error for groups that do not exist.
const NOT_FOUND: i16 = 6;
/// What everybody may do with a group: a bit for each operation of Kafka's that a group knows.
pub(super) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

pub(super) async fn handle(context: Rc<Context>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let asked: Vec<_> =
        request.groups.iter().map(|group| context.broker.ask_group(group, GroupRequest::Describe)).collect();
    let mut groups = Vec::with_capacity(asked.len());
    for (group, answer) in request.groups.into_iter().zip(asked) {
        let mut row = match answer.await {
            GroupAnswer::Described(Some(described)) => describe(described),
            GroupAnswer::Described(None) => dead(context.version, &group),
            GroupAnswer::Refused(error_code) => DescribedGroup { error_code, ..Default::default() },
            other => unreachable!("a description is answered with {other:?}"),
        };
        if request.include_authorized_operations && !row.error_code.is_error() {
            row.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(DescribedGroup { group_id: group, ..row });
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn describe(group: Described) -> DescribedGroup {
    let member = |member: DescribedMember| DescribedGroupMember {
        member_id: member.id.into(),
        group_instance_id: member.instance.map(ByteString::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_state: ByteString::from_static(group.state),
        protocol_type: group.protocol_type.unwrap_or_default().into(),
        protocol_data: group.protocol.unwrap_or_default().into(),
        members: group.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn dead(version: i16, group: &str) -> DescribedGroup {
    let row = DescribedGroup { group_state: ByteString::from_static("Dead"), ..Default::default() };
    match version {
        ..NOT_FOUND => row,
        _ => DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound,
            error_message: Some(format!("Group {group} not found.").into()),
            ..row
        },
    }
}
