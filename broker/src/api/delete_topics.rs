//! DeleteTopics: by name, and from v6 on also by id.

use super::Context;
use crate::cluster::{Outcome, Refusal, Request, TopicRef};
use ringlog_wire::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let asked: Vec<DeleteTopicState> = request.topics.into_iter().chain(by_name).collect();
    let topics = asked.iter().map(topic).collect();
    let outcomes = match context.broker.control(Request::DeleteTopics(topics)).await {
        Outcome::Topics(outcomes) => outcomes,
        Outcome::Failed(code) => {
            vec![Err(Refusal::new(code, "the metadata log cannot be written")); asked.len()]
        }
        Outcome::ProducerIds { .. } => unreachable!("topics are answered with topics"),
    };
    let responses = asked.into_iter().zip(outcomes).map(|(asked, outcome)| match outcome {
        Ok(topic) => DeletableTopicResult {
            name: Some(ByteString::from(&*topic.name)),
            topic_id: topic.id,
            ..Default::default()
        },
        Err(refusal) => DeletableTopicResult {
            name: asked.name,
            topic_id: asked.topic_id,
            // Before v3 clients do not know the code.
            error_code: match refusal.code {
                ErrorCode::TopicDeletionDisabled if context.version < 3 => ErrorCode::InvalidRequest,
                code => code,
            },
            error_message: Some(refusal.message.into()),
        },
    });
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

fn topic(asked: &DeleteTopicState) -> TopicRef {
    match &asked.name {
        Some(name) => TopicRef::Name(name.to_string()),
        None => TopicRef::Id(asked.topic_id),
    }
}
