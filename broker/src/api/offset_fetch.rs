//! OffsetFetch: how far groups have come. An unknown group, or a partition it has committed nothing for, is at -1, without an error.
//!
//! There are no transactions, so offsets are always stable (`require_stable`): what is told is durable.

use super::Context;
use crate::group::{Committed, FetchedTopic, GroupAnswer, GroupRequest};
use ringlog_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ringlog_wire::{ByteString, ErrorCode, Uuid};
use std::rc::Rc;

/// The first version with an error for the whole group.
const GROUP_ERROR: i16 = 2;
/// The first version that asks for several groups.
const MANY: i16 = 8;
/// Versions from here on name topics by id.
const BY_ID: i16 = 10;

pub(super) async fn handle(context: Rc<Context>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let asked = match context.version {
        ..MANY => vec![OffsetFetchRequestGroup {
            group_id: request.group_id,
            topics: request.topics.map(|topics| {
                let row =
                    |topic: ringlog_wire::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
                        name: topic.name,
                        partition_indexes: topic.partition_indexes,
                        ..Default::default()
                    };
                topics.into_iter().map(row).collect()
            }),
            ..Default::default()
        }],
        _ => request.groups,
    };
    let fetching: Vec<_> = asked.into_iter().map(|group| fetch(&context, group)).collect();
    let mut groups = Vec::with_capacity(fetching.len());
    for group in fetching {
        groups.push(group.await);
    }
    if context.version >= MANY {
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let group = groups.pop().expect("one was asked for");
    OffsetFetchResponse {
        topics: group.topics.into_iter().map(|topic| single(topic, group.error_code)).collect(),
        error_code: group.error_code,
        ..Default::default()
    }
}

/// A topic as versions without a list of groups have it.
fn single(topic: OffsetFetchResponseTopics, group_error: ErrorCode) -> OffsetFetchResponseTopic {
    let row = |row: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: row.partition_index,
        committed_offset: row.committed_offset,
        committed_leader_epoch: row.committed_leader_epoch,
        metadata: row.metadata,
        error_code: if group_error.is_error() { group_error } else { row.error_code },
    };
    OffsetFetchResponseTopic { name: topic.name, partitions: topic.partitions.into_iter().map(row).collect() }
}

/// Asks for one group; the question is on its way when this returns.
fn fetch(
    context: &Context,
    group: OffsetFetchRequestGroup,
) -> impl Future<Output = OffsetFetchResponseGroup> + use<> {
    let version = context.version;
    let image = context.broker.image();
    let name_of = |topic: &OffsetFetchRequestTopics| match version {
        ..BY_ID => Some(topic.name.to_string()),
        _ => image.topic_by_id(topic.topic_id).map(|topic| topic.name.to_string()),
    };
    // Of topics whose id is unknown nothing can be asked; they have a place in the answer.
    let wanted = group.topics.as_ref().map(|topics| {
        let wanted =
            topics.iter().filter_map(|topic| Some((name_of(topic)?, topic.partition_indexes.clone())));
        wanted.collect()
    });
    let known: Option<Vec<bool>> =
        group.topics.as_ref().map(|topics| topics.iter().map(|topic| name_of(topic).is_some()).collect());
    let answer = context.broker.ask_group(&group.group_id, GroupRequest::Fetch { topics: wanted });
    async move {
        let group_id = ByteString::from(&*group.group_id);
        let fetched = match answer.await {
            GroupAnswer::Fetched(fetched) => fetched,
            GroupAnswer::Refused(error_code) => return refused(version, group_id, error_code, group.topics),
            other => unreachable!("a fetch of offsets is answered with {other:?}"),
        };
        let id_of = |name: &str| image.topic(name).map_or(Uuid::ZERO, |topic| topic.id);
        let told = |told: FetchedTopic| OffsetFetchResponseTopics {
            topic_id: id_of(&told.topic),
            name: told.topic.into(),
            partitions: told.partitions.into_iter().map(|(index, committed)| row(index, committed)).collect(),
        };
        let mut fetched = fetched.into_iter().map(told);
        let topics = match group.topics.zip(known) {
            None => fetched.filter(|topic| version < BY_ID || !topic.topic_id.is_zero()).collect(),
            Some((asked, known)) => {
                let topic = |(asked, known): (OffsetFetchRequestTopics, bool)| match known {
                    true => fetched.next().expect("one for each that was asked for"),
                    false => unknown(asked, ErrorCode::UnknownTopicId),
                };
                asked.into_iter().zip(known).map(topic).collect()
            }
        };
        OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
    }
}

fn row(partition_index: i32, committed: Option<Committed>) -> OffsetFetchResponsePartitions {
    match committed {
        Some(committed) => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch.unwrap_or(-1),
            metadata: Some(committed.metadata.into()),
            ..Default::default()
        },
        None => OffsetFetchResponsePartitions { partition_index, committed_offset: -1, ..Default::default() },
    }
}

fn unknown(topic: OffsetFetchRequestTopics, error_code: ErrorCode) -> OffsetFetchResponseTopics {
    let rows = topic.partition_indexes.into_iter();
    OffsetFetchResponseTopics {
        partitions: rows
            .map(|index| OffsetFetchResponsePartitions { error_code, ..row(index, None) })
            .collect(),
        name: ByteString::from(&*topic.name),
        topic_id: topic.topic_id,
    }
}

/// A group whose offsets cannot be told now. In version 1, which has no error for the group, every partition says so: an empty
/// answer would have the client begin anew.
fn refused(
    version: i16,
    group_id: ByteString,
    error_code: ErrorCode,
    asked: Option<Vec<OffsetFetchRequestTopics>>,
) -> OffsetFetchResponseGroup {
    let topics = match version {
        ..GROUP_ERROR => {
            asked.unwrap_or_default().into_iter().map(|topic| unknown(topic, error_code)).collect()
        }
        _ => Vec::new(),
    };
    OffsetFetchResponseGroup { group_id, topics, error_code }
}
