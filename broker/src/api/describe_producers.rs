//! DescribeProducers: the idempotent producers that partitions know.

use super::Context;
use crate::calls::{Answer, Call};
use crate::cluster::{Refusal, check_name};
use crate::partition::PartitionId;
use ringlog_engine::log::KnownProducer;
use ringlog_wire::ErrorCode;
use ringlog_wire::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let mut partitions = Vec::with_capacity(asked.partition_indexes.len());
        for index in asked.partition_indexes {
            let row = match producers(&context, &asked.name, index).await {
                Ok(producers) => PartitionResponse {
                    active_producers: producers.into_iter().map(state).collect(),
                    ..Default::default()
                },
                Err(Refusal { code, message }) => PartitionResponse {
                    error_code: code,
                    error_message: (!message.is_empty()).then(|| message.into()),
                    ..Default::default()
                },
            };
            partitions.push(PartitionResponse { partition_index: index, ..row });
        }
        topics.push(TopicResponse { name: asked.name, partitions });
    }
    DescribeProducersResponse { topics, ..Default::default() }
}

async fn producers(context: &Context, topic: &str, index: i32) -> Result<Vec<KnownProducer>, Refusal> {
    check_name(topic)?;
    let without_words = |code| Refusal::new(code, "");
    let unknown = || without_words(ErrorCode::UnknownTopicOrPartition);
    let id: PartitionId = context.broker.find(topic, index).ok_or_else(unknown)?;
    match context.broker.ask(context.broker.owner(id), Call::Producers(vec![id])).await {
        Answer::Producers(mut known) => {
            known.pop().expect("one answer to one question").map_err(without_words)
        }
        _ => unreachable!("a question for producers is answered with producers"),
    }
}

fn state(producer: KnownProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence.unwrap_or(-1),
        last_timestamp: producer.last_timestamp,
        // There are no transactions.
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}
