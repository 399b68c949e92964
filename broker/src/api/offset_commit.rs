//! OffsetCommit: offsets of partitions that exist, kept when they are as durable as a produce with acks=all.

use super::{Context, epoch};
use crate::cluster::Topic;
use crate::group::{Commit, GroupAnswer, GroupRequest, MemberAt, NewOffset};
use ringlog_wire::ErrorCode;
use ringlog_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use std::rc::Rc;
use std::sync::Arc;

/// The first version whose clients know that a group may not be found.
const NOT_FOUND: i16 = 9;
/// Versions from here on name topics by id.
const BY_ID: i16 = 10;

pub(super) async fn handle(context: Rc<Context>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    let checked = request.topics.iter().map(|topic| check(&context, topic, &mut offsets));
    let mut topics: Vec<OffsetCommitResponseTopic> = checked.collect();
    if offsets.is_empty()
        && topics.iter().all(|topic| topic.partitions.iter().all(|row| row.error_code.is_error()))
    {
        return OffsetCommitResponse { topics, ..Default::default() };
    }
    let commit = Commit {
        member: MemberAt {
            id: request.member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(ToString::to_string),
            generation: request.generation_id_or_member_epoch,
        },
        retention_ms: Some(request.retention_time_ms).filter(|ms| *ms >= 0),
        knows_not_found: context.version >= NOT_FOUND,
        offsets,
    };
    let code = match context.broker.ask_group(&request.group_id, GroupRequest::Commit(commit)).await {
        GroupAnswer::Done => ErrorCode::None,
        GroupAnswer::Refused(code) => commit_code(code),
        other => unreachable!("a commit is answered with {other:?}"),
    };
    for row in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if row.error_code == ErrorCode::None {
            row.error_code = code;
        }
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// Takes a topic's offsets that may be kept, and makes its rows of the answer.
fn check(
    context: &Context,
    topic: &OffsetCommitRequestTopic,
    offsets: &mut Vec<NewOffset>,
) -> OffsetCommitResponseTopic {
    let image = context.broker.image();
    let (found, unknown) = match context.version >= BY_ID {
        true => (image.topic_by_id(topic.topic_id), ErrorCode::UnknownTopicId),
        false => (image.topic(&topic.name), ErrorCode::UnknownTopicOrPartition),
    };
    let metadata_max = context.broker.config().groups.metadata_max;
    let check = |found: Option<&Arc<Topic>>, partition: &OffsetCommitRequestPartition| {
        let topic = found.ok_or(unknown)?;
        topic.partition(partition.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
        if metadata.encode_utf16().count() > metadata_max {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        Ok(NewOffset {
            topic: topic.name.to_string(),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: epoch(partition.committed_leader_epoch),
            metadata: metadata.to_owned(),
        })
    };
    let rows = topic.partitions.iter().map(|partition| {
        let error_code = match check(found, partition) {
            Ok(offset) => {
                offsets.push(offset);
                ErrorCode::None
            }
            Err(code) => code,
        };
        OffsetCommitResponsePartition { partition_index: partition.partition_index, error_code }
    });
    OffsetCommitResponseTopic {
        partitions: rows.collect(),
        name: topic.name.clone(),
        topic_id: topic.topic_id,
    }
}

/// Offsets that are too large to be kept have a code of their own.
fn commit_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownServerError => ErrorCode::InvalidCommitOffsetSize,
        other => other,
    }
}
