//! DeleteRecords: the first records of partitions are deleted; answered when that is durable.

use super::Context;
use crate::broker::PendingAnswer;
use crate::calls::{Answer, Call};
use crate::partition::PartitionId;
use ringlog_engine::shard::ShardId;
use ringlog_wire::ErrorCode;
use ringlog_wire::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, DeleteRecordsTopicResult,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Kafka's offset for the high watermark.
const HIGH_WATERMARK: i64 = -1;
/// Kafka's log start where there is none to tell.
const NO_OFFSET: i64 = -1;

pub(super) async fn handle(context: Rc<Context>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut owners: BTreeMap<ShardId, (Vec<Deletion>, Vec<Place>)> = BTreeMap::new();
    for asked in request.topics {
        let mut rows = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let error_code = match find(&context, &asked, partition) {
                Ok(id) => {
                    let before = (partition.offset != HIGH_WATERMARK).then_some(partition.offset);
                    let (deletions, places) = owners.entry(context.broker.owner(id)).or_default();
                    deletions.push((id, before));
                    places.push((topics.len(), rows.len()));
                    ErrorCode::None
                }
                Err(code) => code,
            };
            rows.push(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: NO_OFFSET,
                error_code,
            });
        }
        topics.push(DeleteRecordsTopicResult { name: asked.name, partitions: rows });
    }
    let answers: Vec<(PendingAnswer, Vec<Place>)> = owners
        .into_iter()
        .map(|(owner, (deletions, places))| {
            (context.broker.ask(owner, Call::DeleteRecords(deletions)), places)
        })
        .collect();
    for (answer, places) in answers {
        let Answer::LogStarts(starts) = answer.await else {
            unreachable!("a deletion is answered with where logs start")
        };
        for ((topic, row), start) in places.into_iter().zip(starts) {
            let row = &mut topics[topic].partitions[row];
            match start {
                Ok(start) => row.low_watermark = start,
                Err(code) => row.error_code = code,
            }
        }
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

type Deletion = (PartitionId, Option<i64>);
/// Where a result belongs: topic and partition by their places in the request.
type Place = (usize, usize);

fn find(
    context: &Context,
    topic: &DeleteRecordsTopic,
    partition: &DeleteRecordsPartition,
) -> Result<PartitionId, ErrorCode> {
    let found = context.broker.find(&topic.name, partition.partition_index);
    let id = found.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    // What the broker keeps for itself is not a client's to delete.
    if super::metadata::is_internal(&topic.name) { Err(ErrorCode::InvalidTopicException) } else { Ok(id) }
}
