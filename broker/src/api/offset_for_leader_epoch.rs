//! OffsetForLeaderEpoch: where an epoch ended, for clients that check whether their history is ours.

use super::Context;
use crate::calls::{Answer, Call, EpochQuery};
use crate::partition::{EpochEnd, PartitionId};
use ringlog_wire::ErrorCode;
use ringlog_wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for OffsetForLeaderTopic { topic, partitions } in request.topics {
        let mut results = Vec::with_capacity(partitions.len());
        for partition in partitions {
            results.push(epoch_end(&context, &topic, &partition).await);
        }
        topics.push(OffsetForLeaderTopicResult { topic, partitions: results });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

async fn epoch_end(context: &Context, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let result = match context.broker.find(topic, asked.partition) {
        Some(partition) => ask(context, partition, asked).await,
        None => Err(ErrorCode::UnknownTopicOrPartition),
    };
    let partition = asked.partition;
    match result {
        Ok(Some(EpochEnd { epoch, end_offset })) => {
            EpochEndOffset { partition, leader_epoch: epoch, end_offset, ..Default::default() }
        }
        Ok(None) => EpochEndOffset { partition, ..Default::default() },
        Err(error_code) => EpochEndOffset { partition, error_code, ..Default::default() },
    }
}

async fn ask(
    context: &Context,
    partition: PartitionId,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<EpochEnd>, ErrorCode> {
    let query = EpochQuery {
        partition,
        epoch: asked.leader_epoch,
        current_leader_epoch: super::epoch(asked.current_leader_epoch),
    };
    let owner = context.broker.owner(partition);
    match context.broker.ask(owner, Call::EpochEnds(vec![query])).await {
        Answer::EpochEnds(mut ends) => ends.pop().expect("one answer to one question"),
        _ => unreachable!("epochs are answered with epochs"),
    }
}
