//! OffsetDelete: single offsets of a group, of topics that no member subscribes to.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest};
use ringlog_wire::ErrorCode;
use ringlog_wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let refuse = |error_code| OffsetDeleteResponse { error_code, ..Default::default() };
    if request.group_id.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let image = context.broker.image();
    let exists =
        |topic: &str, index| image.topic(topic).is_some_and(|topic| topic.partition(index).is_some());
    let wanted = request.topics.iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        (topic.name.to_string(), indexes.filter(|index| exists(&topic.name, *index)).collect())
    });
    let request_to_group = GroupRequest::DeleteOffsets(wanted.collect());
    let subscribed = match context.broker.ask_group(&request.group_id, request_to_group).await {
        GroupAnswer::OffsetsDeleted(subscribed) => subscribed,
        GroupAnswer::Refused(code) => return refuse(code),
        other => unreachable!("a deletion of offsets is answered with {other:?}"),
    };
    let topics = request.topics.into_iter().map(|topic| {
        let code = |index| match exists(&topic.name, index) {
            false => ErrorCode::UnknownTopicOrPartition,
            true if subscribed.iter().any(|name| **name == *topic.name) => ErrorCode::GroupSubscribedToTopic,
            true => ErrorCode::None,
        };
        let rows = topic.partitions.iter().map(|partition| OffsetDeleteResponsePartition {
            partition_index: partition.partition_index,
            error_code: code(partition.partition_index),
        });
        OffsetDeleteResponseTopic { partitions: rows.collect(), name: topic.name.clone() }
    });
    OffsetDeleteResponse { topics: topics.collect(), ..Default::default() }
}
