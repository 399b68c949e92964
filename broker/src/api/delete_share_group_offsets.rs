//! DeleteShareGroupOffsets: a share group without members forgets topics.

use super::Context;
use crate::broker::Broker;
use crate::group::{GroupAnswer, GroupRequest, ShareRequest};
use crate::share::{KeptTopics, StateKey, StateRequest};
use ringlog_wire::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use ringlog_wire::{ByteString, ErrorCode, Uuid};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let broker = &context.broker;
    let group = &request.group_id;
    let refuse = |error_code| DeleteShareGroupOffsetsResponse {
        error_code,
        error_message: words(error_code, group),
        ..Default::default()
    };
    let mut kept = match broker.ask_group(group, GroupRequest::Share(ShareRequest::Topics)).await {
        GroupAnswer::ShareTopics(Some(known)) if known.has_members => {
            return refuse(ErrorCode::NonEmptyGroup);
        }
        GroupAnswer::ShareTopics(Some(known)) => known.topics,
        GroupAnswer::ShareTopics(None) => return refuse(ErrorCode::GroupIdNotFound),
        GroupAnswer::Refused(code) => return refuse(code),
        other => unreachable!("topics are answered with {other:?}"),
    };
    let image = broker.image();
    let id = |name: &ByteString| image.topic(name).map(|topic| topic.id);
    let wanted: Vec<[u8; 16]> =
        request.topics.iter().filter_map(|topic| id(&topic.topic_name)).map(|id| id.0).collect();
    kept.retain(|id, _| wanted.contains(id));
    if let Err(code) = forget(broker, group, &kept).await {
        return refuse(code);
    }
    let gone = GroupRequest::Share(ShareRequest::ForgetTopics(wanted));
    if let GroupAnswer::Refused(code) = broker.ask_group(group, gone).await {
        return refuse(code);
    }
    let row = |topic: &ByteString| {
        let id = id(topic);
        DeleteShareGroupOffsetsResponseTopic {
            topic_name: topic.clone(),
            topic_id: id.unwrap_or(Uuid::ZERO),
            error_code: match id {
                Some(_) => ErrorCode::None,
                None => ErrorCode::UnknownTopicOrPartition,
            },
            ..Default::default()
        }
    };
    let responses = request.topics.iter().map(|topic| row(&topic.topic_name)).collect();
    DeleteShareGroupOffsetsResponse { responses, ..Default::default() }
}

/// Forgets what is kept of topics in a group: first what is kept, then what shards know of it.
pub(super) async fn forget(broker: &Broker, group: &str, topics: &KeptTopics) -> Result<(), ErrorCode> {
    let deleted: Vec<_> = topics
        .iter()
        .flat_map(|(topic, (_, partitions))| partitions.iter().map(|partition| (*topic, *partition)))
        .map(|(topic, partition)| {
            let key = StateKey { group: group.to_owned(), topic, partition };
            broker.share_state(&key, StateRequest::Delete)
        })
        .collect();
    for deleted in deleted {
        match deleted.await {
            // Nothing has been kept yet.
            Ok(_) | Err(ErrorCode::CoordinatorNotAvailable) => {}
            Err(code) => return Err(code),
        }
    }
    let ids: Vec<[u8; 16]> = topics.keys().copied().collect();
    broker.reread_shared(group, &ids).await;
    Ok(())
}

/// Why a group's offsets are not changed, in words.
pub(super) fn words(code: ErrorCode, group: &str) -> Option<ByteString> {
    match code {
        ErrorCode::GroupIdNotFound => Some(format!("Group {group} not found.").into()),
        ErrorCode::NonEmptyGroup => Some(ByteString::from_static("The group is not empty.")),
        _ => None,
    }
}
