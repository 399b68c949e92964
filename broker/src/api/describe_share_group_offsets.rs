//! DescribeShareGroupOffsets: where share groups start in each partition, and how many records they have left.

use super::Context;
use crate::calls::{Answer, Call, Seek};
use crate::group::{GroupAnswer, GroupRequest, ShareRequest};
use crate::partition::{PartitionId, Reader, Sought};
use crate::share::{KeptTopics, StateKey, StateRequest};
use ringlog_wire::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
};
use ringlog_wire::{ErrorCode, Uuid};
use std::rc::Rc;

/// A group that has not read a partition starts nowhere yet.
const NOWHERE: i64 = -1;

pub(super) async fn handle(
    context: Rc<Context>,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(describe(&context, group).await);
    }
    DescribeShareGroupOffsetsResponse { groups, ..Default::default() }
}

async fn describe(
    context: &Context,
    asked: DescribeShareGroupOffsetsRequestGroup,
) -> DescribeShareGroupOffsetsResponseGroup {
    let group_id = asked.group_id.clone();
    let refuse = |error_code, why: Option<String>| DescribeShareGroupOffsetsResponseGroup {
        group_id: group_id.clone(),
        error_code,
        error_message: why.map(Into::into),
        ..Default::default()
    };
    let known = context.broker.ask_group(&group_id, GroupRequest::Share(ShareRequest::Topics)).await;
    let known = match known {
        GroupAnswer::ShareTopics(Some(known)) => known.topics,
        GroupAnswer::ShareTopics(None) => {
            return refuse(ErrorCode::GroupIdNotFound, Some(format!("Group {group_id} not found.")));
        }
        GroupAnswer::Refused(code) => return refuse(code, None),
        other => unreachable!("topics are answered with {other:?}"),
    };
    let wanted: Vec<(String, Vec<i32>)> = match asked.topics {
        Some(topics) => {
            topics.into_iter().map(|topic| (topic.topic_name.to_string(), topic.partitions)).collect()
        }
        None => all(context, &known),
    };
    let mut topics = Vec::with_capacity(wanted.len());
    for (name, partitions) in wanted {
        let id = context.broker.image().topic(&name).map(|topic| topic.id);
        let mut rows = Vec::with_capacity(partitions.len());
        for index in partitions {
            rows.push(match id {
                Some(id) => partition(context, &group_id, &known, id, index).await,
                None => unknown(index),
            });
        }
        topics.push(DescribeShareGroupOffsetsResponseTopic {
            topic_name: name.into(),
            topic_id: id.unwrap_or(Uuid::ZERO),
            partitions: rows,
        });
    }
    DescribeShareGroupOffsetsResponseGroup { group_id: group_id.clone(), topics, ..Default::default() }
}

/// All that is kept of a group, of topics that are still there.
fn all(context: &Context, known: &KeptTopics) -> Vec<(String, Vec<i32>)> {
    let image = context.broker.image();
    let is_there = |id: &[u8; 16]| image.topic_by_id(Uuid(*id)).is_some();
    let there = known.iter().filter(|(id, _)| is_there(id));
    there.map(|(_, (name, partitions))| (name.clone(), partitions.iter().copied().collect())).collect()
}

fn unknown(partition_index: i32) -> DescribeShareGroupOffsetsResponsePartition {
    DescribeShareGroupOffsetsResponsePartition {
        partition_index,
        start_offset: NOWHERE,
        error_code: ErrorCode::UnknownTopicOrPartition,
        ..Default::default()
    }
}

async fn partition(
    context: &Context,
    group: &str,
    known: &KeptTopics,
    topic: Uuid,
    index: i32,
) -> DescribeShareGroupOffsetsResponsePartition {
    let broker = &context.broker;
    if broker.image().topic_by_id(topic).is_none_or(|topic| topic.partition(index).is_none()) {
        return unknown(index);
    }
    let mut row = DescribeShareGroupOffsetsResponsePartition {
        partition_index: index,
        start_offset: NOWHERE,
        ..Default::default()
    };
    if !known.get(&topic.0).is_some_and(|(_, partitions)| partitions.contains(&index)) {
        return row;
    }
    let key = StateKey { group: group.to_owned(), topic: topic.0, partition: index };
    let stored = match broker.share_state(&key, StateRequest::Read).await {
        Ok(Some(stored)) if stored.start >= 0 => stored,
        // What keeps it is made with the first read.
        Ok(_) | Err(ErrorCode::CoordinatorNotAvailable) => return row,
        Err(error_code) => return DescribeShareGroupOffsetsResponsePartition { error_code, ..row },
    };
    (row.start_offset, row.leader_epoch) = (stored.start, stored.leader_epoch);
    let id = PartitionId::new(topic, index);
    let seek =
        Seek { partition: id, sought: Sought::Latest, reader: Reader::Consumer, current_leader_epoch: None };
    if let Answer::Found(found) = broker.ask(broker.owner(id), Call::Seek(vec![seek])).await
        && let Some(Ok(Some(latest))) = found.first()
    {
        row.lag = (latest.offset - stored.start - i64::from(stored.complete_count())).max(0);
    }
    row
}
