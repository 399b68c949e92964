//! DescribeTopicPartitions: topics and their partitions in the order of their names, a part at a time (KIP-966).

use super::Context;
use super::metadata::{TOPIC_OPERATIONS, is_internal, is_valid, leader};
use crate::cluster::Topic;
use ringlog_wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The most partitions in one answer (Kafka's `max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2000;

pub(super) async fn handle(
    context: Rc<Context>,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = context.broker.image();
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = if all {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| &*topic.name).collect()
    };
    let from = request.cursor.as_ref().map_or("", |cursor| &*cursor.topic_name);
    if let Some(cursor) = &request.cursor
        && (cursor.partition_index < 0 || !all && !names.contains(from))
    {
        return refused(&names);
    }
    let mut left =
        usize::try_from(request.response_partition_limit.clamp(1, PARTITIONS_MAX)).expect("positive");
    let mut response = DescribeTopicPartitionsResponse::default();
    for &name in names.range(from..) {
        let first = match &request.cursor {
            Some(cursor) if name == from => usize::try_from(cursor.partition_index).expect("checked above"),
            _ => 0,
        };
        if left == 0 {
            response.next_cursor = Some(cursor(name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            if !all {
                response.topics.push(unknown(name));
            }
            continue;
        };
        let end = topic.partitions.len().min(first + left);
        let indexes = first.min(end)..end;
        left -= indexes.len();
        response.topics.push(described(&context, topic, indexes));
        if end < topic.partitions.len() {
            response.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    response
}

fn cursor(topic: &str, partition: usize) -> Cursor {
    Cursor {
        topic_name: topic.into(),
        partition_index: i32::try_from(partition).expect("indexes of partitions are 32 bits"),
    }
}

/// A cursor that points to nothing that was asked for: there is no place for an error but with each topic.
fn refused(names: &BTreeSet<&str>) -> DescribeTopicPartitionsResponse {
    let topic = |name: &&str| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest,
        name: Some(ByteString::from(*name)),
        ..Default::default()
    };
    DescribeTopicPartitionsResponse { topics: names.iter().map(topic).collect(), ..Default::default() }
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: if is_valid(name) {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::InvalidTopicException
        },
        name: Some(name.into()),
        topic_authorized_operations: TOPIC_OPERATIONS,
        is_internal: is_internal(name),
        ..Default::default()
    }
}

fn described(
    context: &Context,
    topic: &Topic,
    indexes: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let node = context.broker.config().node_id;
    let partitions = (0..).zip(&topic.partitions).skip(indexes.start).take(indexes.len());
    let partitions = partitions.map(|(partition_index, state)| {
        let leader = leader(context, topic, partition_index);
        DescribeTopicPartitionsResponsePartition {
            partition_index,
            leader_id: leader.unwrap_or(-1),
            leader_epoch: state.leader_epoch,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: if leader.is_none() { vec![node] } else { Vec::new() },
            ..Default::default()
        }
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(ByteString::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}
