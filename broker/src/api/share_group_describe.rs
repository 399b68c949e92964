//! ShareGroupDescribe: share groups and their members.

use super::Context;
use super::describe_groups::GROUP_OPERATIONS;
use crate::cluster::Image;
use crate::group::{GroupAnswer, GroupRequest, ShareRequest};
use crate::share::{DescribedShare, Partitions, StoredMember};
use ringlog_wire::share_group_describe::{
    Assignment, DescribedGroup, Member, ShareGroupDescribeRequest, ShareGroupDescribeResponse,
    TopicPartitions,
};
use ringlog_wire::{ByteString, ErrorCode, Uuid};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let asked: Vec<_> = request
        .group_ids
        .iter()
        .map(|group| context.broker.ask_group(group, GroupRequest::Share(ShareRequest::Describe)))
        .collect();
    let mut groups = Vec::with_capacity(asked.len());
    for (group_id, answer) in request.group_ids.into_iter().zip(asked) {
        let mut row = match answer.await {
            GroupAnswer::DescribedShare(Some(described)) => describe(&context.broker.image(), described),
            GroupAnswer::DescribedShare(None) => DescribedGroup {
                error_code: ErrorCode::GroupIdNotFound,
                error_message: Some(format!("Group {group_id} not found.").into()),
                group_state: ByteString::from_static("Dead"),
                ..Default::default()
            },
            GroupAnswer::Refused(error_code) => DescribedGroup { error_code, ..Default::default() },
            other => unreachable!("a description is answered with {other:?}"),
        };
        if request.include_authorized_operations && !row.error_code.is_error() {
            row.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(DescribedGroup { group_id, ..row });
    }
    ShareGroupDescribeResponse { groups, ..Default::default() }
}

fn describe(image: &Image, group: DescribedShare) -> DescribedGroup {
    let topic = |(topic, partitions): ([u8; 16], std::collections::BTreeSet<i32>)| {
        let topic_id = Uuid(topic);
        let topic_name = image.topic_by_id(topic_id)?.name.as_ref().into();
        Some(TopicPartitions { topic_id, topic_name, partitions: partitions.into_iter().collect() })
    };
    let member = |(id, described, epoch, partitions): (String, StoredMember, i32, Partitions)| Member {
        member_id: id.into(),
        rack_id: described.rack.map(ByteString::from),
        member_epoch: epoch,
        client_id: described.client_id.into(),
        client_host: described.client_host.into(),
        subscribed_topic_names: described.topics.into_iter().map(ByteString::from).collect(),
        // A topic that has gone is not shown: it has no name any more.
        assignment: Assignment { topic_partitions: partitions.into_iter().filter_map(topic).collect() },
    };
    DescribedGroup {
        group_state: ByteString::from_static(group.state),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: ByteString::from_static("simple"),
        members: group.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}
