//! AlterShareGroupOffsets: a share group without members starts elsewhere.

use super::Context;
use crate::group::{GroupAnswer, GroupRequest, ShareRequest};
use crate::share::{KeptTopics, StateKey, StateRequest};
use ringlog_wire::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestTopic, AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use ringlog_wire::{ErrorCode, Uuid};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let broker = &context.broker;
    let image = broker.image();
    let mut known = KeptTopics::new();
    for topic in &request.topics {
        if let Some(there) = image.topic(&topic.topic_name) {
            let partitions = topic.partitions.iter().map(|one| one.partition_index);
            let partitions = partitions.filter(|index| there.partition(*index).is_some()).collect();
            known.insert(there.id.0, (there.name.to_string(), partitions));
        }
    }
    let ids: Vec<[u8; 16]> = known.keys().copied().collect();
    let asked = GroupRequest::Share(ShareRequest::AddTopics(known));
    if let GroupAnswer::Refused(error_code) = broker.ask_group(&request.group_id, asked).await {
        return AlterShareGroupOffsetsResponse {
            error_code,
            error_message: super::delete_share_group_offsets::words(error_code, &request.group_id),
            ..Default::default()
        };
    }
    if let Err(error_code) = broker.shares_are_kept().await {
        return AlterShareGroupOffsetsResponse { error_code, ..Default::default() };
    }
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let id = image.topic(&topic.topic_name).map(|topic| topic.id);
        responses.push(alter(&context, &request.group_id, id, topic).await);
    }
    broker.reread_shared(&request.group_id, &ids).await;
    AlterShareGroupOffsetsResponse { responses, ..Default::default() }
}

async fn alter(
    context: &Context,
    group: &str,
    id: Option<Uuid>,
    topic: AlterShareGroupOffsetsRequestTopic,
) -> AlterShareGroupOffsetsResponseTopic {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for one in topic.partitions {
        let index = one.partition_index;
        let there = id.filter(|id| {
            let image = context.broker.image();
            image.topic_by_id(*id).is_some_and(|topic| topic.partition(index).is_some())
        });
        let result = match there {
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(_) if one.start_offset < 0 => Err(ErrorCode::InvalidRequest),
            Some(id) => {
                let key = StateKey { group: group.to_owned(), topic: id.0, partition: index };
                context
                    .broker
                    .share_state(&key, StateRequest::Set { start: one.start_offset })
                    .await
                    .map(drop)
            }
        };
        partitions.push(AlterShareGroupOffsetsResponsePartition {
            partition_index: index,
            error_code: result.err().unwrap_or(ErrorCode::None),
            ..Default::default()
        });
    }
    AlterShareGroupOffsetsResponseTopic {
        topic_name: topic.topic_name,
        topic_id: id.unwrap_or(Uuid::ZERO),
        partitions,
    }
}
