//! ShareAcknowledge: a member of a share group says what became of records. Answered when that is durable.

use super::Context;
use super::acknowledging::{Range, Said, hand_over, read};
use crate::share::{Asked, Opened};
use ringlog_wire::share_acknowledge::{
    PartitionData, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareAcknowledgeTopicResponse,
};
use ringlog_wire::{ErrorCode, Uuid};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: ShareAcknowledgeRequest,
) -> ShareAcknowledgeResponse {
    let refuse = |error_code| ShareAcknowledgeResponse { error_code, ..Default::default() };
    let group = request.group_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let member = request.member_id.as_ref().map(ToString::to_string).unwrap_or_default();
    if group.is_empty() || member.is_empty() {
        return refuse(ErrorCode::InvalidRequest);
    }
    let config = context.broker.share_config(&group);
    let said = said(&request, request.is_renew_ack && config.may_renew);
    let asked = Asked {
        group: &group,
        member: &member,
        epoch: request.share_session_epoch,
        socket: context.peer.socket,
    };
    let opened = match context.broker.share_sessions().acknowledge(asked) {
        Ok(opened) => opened,
        Err(code) => return refuse(code),
    };
    let codes = hand_over(&context, &group, &member, said).await;
    if let Opened::Ended(places) = opened {
        context.broker.release_share(&group, &member, &places).await;
    }
    let mut responses: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    for ((topic, partition_index), error_code) in codes {
        let data = PartitionData { partition_index, error_code, ..Default::default() };
        match responses.last_mut() {
            Some(last) if last.topic_id.0 == topic => last.partitions.push(data),
            _ => responses
                .push(ShareAcknowledgeTopicResponse { topic_id: Uuid(topic), partitions: vec![data] }),
        }
    }
    ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: i32::try_from(config.lock.as_millis()).unwrap_or(i32::MAX),
        responses,
        ..Default::default()
    }
}

fn said(request: &ShareAcknowledgeRequest, renews: bool) -> Said {
    let mut said = Said::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let ranges = partition.acknowledgement_batches.iter().map(|batch| Range {
                first: batch.first_offset,
                last: batch.last_offset,
                types: &batch.acknowledge_types,
            });
            said.insert((topic.topic_id.0, partition.partition_index), read(ranges, renews));
        }
    }
    said
}
