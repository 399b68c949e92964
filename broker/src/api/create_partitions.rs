//! CreatePartitions.

use super::Context;
use crate::cluster::{MorePartitions, Outcome, Refusal, Request};
use ringlog_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use std::collections::HashSet;
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let CreatePartitionsRequest { topics: asked, validate_only, .. } = request;
    let topics = asked.iter().map(more_partitions).collect();
    let outcomes = match context.broker.control(Request::CreatePartitions { topics, validate_only }).await {
        Outcome::Topics(outcomes) => outcomes,
        Outcome::Failed(code) => {
            vec![Err(Refusal::new(code, "the metadata log cannot be written")); asked.len()]
        }
        Outcome::Configs(_) | Outcome::Scram(_) | Outcome::ProducerIds { .. } => {
            unreachable!("topics are answered with topics")
        }
    };
    let results = asked.into_iter().zip(outcomes).map(|(asked, outcome)| match outcome {
        Ok(_) => CreatePartitionsTopicResult { name: asked.name, ..Default::default() },
        Err(refusal) => CreatePartitionsTopicResult {
            name: asked.name,
            error_code: refusal.code,
            error_message: Some(refusal.message.into()),
        },
    });
    // A topic that is there more than once is refused, once.
    let mut seen = HashSet::new();
    let results = results.filter(|result| seen.insert(result.name.clone()));
    CreatePartitionsResponse { results: results.collect(), ..Default::default() }
}

fn more_partitions(asked: &CreatePartitionsTopic) -> MorePartitions {
    let assignments = asked.assignments.as_ref();
    MorePartitions {
        name: asked.name.to_string(),
        count: asked.count,
        assignments: assignments.map(|all| all.iter().map(|one| one.broker_ids.clone()).collect()),
    }
}
