//! DeleteTopics: by name, and from v6 on also by id.

use super::Context;
use crate::cluster::{Outcome, Refusal, Request, TopicRef};
use ringlog_wire::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::collections::HashMap;
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let asked: Vec<DeleteTopicState> = request.topics.into_iter().chain(by_name).collect();
    let (asked, refused) = unambiguous(asked);
    let topics = asked.iter().map(topic).collect();
    let outcomes = match context.broker.control(Request::DeleteTopics(topics)).await {
        Outcome::Topics(outcomes) => outcomes,
        Outcome::Failed(code) => {
            vec![Err(Refusal::new(code, "the metadata log cannot be written")); asked.len()]
        }
        Outcome::Configs(_) | Outcome::Scram(_) | Outcome::ProducerIds { .. } => {
            unreachable!("topics are answered with topics")
        }
    };
    let refused = refused.into_iter().map(|(asked, why)| {
        let refusal = Refusal::new(ErrorCode::InvalidRequest, why);
        (asked, Err(refusal))
    });
    let responses = asked.into_iter().zip(outcomes).chain(refused).map(|(asked, outcome)| match outcome {
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

/// What names one topic in one way, and, once each, what does not: it says nothing sure about what is to be deleted.
fn unambiguous(
    asked: Vec<DeleteTopicState>,
) -> (Vec<DeleteTopicState>, Vec<(DeleteTopicState, &'static str)>) {
    let mut times: HashMap<(Option<ByteString>, [u8; 16]), usize> = HashMap::new();
    for topic in &asked {
        *times.entry((topic.name.clone(), topic.topic_id.0)).or_default() += 1;
    }
    let (mut clear, mut unclear) = (Vec::with_capacity(asked.len()), Vec::new());
    for topic in asked {
        // What is there again is found without its count, which the first has taken.
        let Some(times) = times.remove(&(topic.name.clone(), topic.topic_id.0)) else { continue };
        match (&topic.name, topic.topic_id.is_zero()) {
            (Some(_), false) => unclear.push((topic, "You may not specify both topic name and topic id.")),
            (None, true) => unclear.push((topic, "Neither topic name nor id were specified.")),
            (Some(_), true) if times > 1 => unclear.push((topic, "Duplicate topic name.")),
            (None, false) if times > 1 => unclear.push((topic, "Duplicate topic id.")),
            _ => clear.push(topic),
        }
    }
    (clear, unclear)
}

fn topic(asked: &DeleteTopicState) -> TopicRef {
    match &asked.name {
        Some(name) => TopicRef::Name(name.to_string()),
        None => TopicRef::Id(asked.topic_id),
    }
}
