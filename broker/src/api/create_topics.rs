//! CreateTopics.

use super::Context;
use super::config_resources::origin_number;
use crate::cluster::{NewTopic, Outcome, Refusal, Request, Topic};
use crate::config::{TOPIC_KEYS, TopicConfig};
use ringlog_wire::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::collections::HashSet;
use std::rc::Rc;

pub(super) async fn handle(context: Rc<Context>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let CreateTopicsRequest { topics, validate_only, .. } = request;
    let new = topics.iter().map(new_topic).collect();
    let outcomes = match context.broker.control(Request::CreateTopics { topics: new, validate_only }).await {
        Outcome::Topics(outcomes) => outcomes,
        Outcome::Failed(code) => {
            vec![Err(Refusal::new(code, "the metadata log cannot be written")); topics.len()]
        }
        Outcome::Configs(_) | Outcome::Scram(_) | Outcome::ProducerIds { .. } => {
            unreachable!("topics are answered with topics")
        }
    };
    let results = topics.into_iter().zip(outcomes).map(|(asked, outcome)| match outcome {
        Ok(topic) => created(&context, &topic),
        Err(refusal) => CreatableTopicResult {
            name: asked.name,
            error_code: refusal.code,
            error_message: Some(refusal.message.into()),
            ..Default::default()
        },
    });
    // A topic that is there more than once is refused, once.
    let mut seen = HashSet::new();
    let results = results.filter(|result| seen.insert(result.name.clone()));
    CreateTopicsResponse { topics: results.collect(), ..Default::default() }
}

/// What a request says of a topic; -1 stands for the broker's default.
fn new_topic(asked: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: asked.name.to_string(),
        partitions: (asked.num_partitions != -1).then_some(asked.num_partitions),
        replication_factor: (asked.replication_factor != -1).then_some(asked.replication_factor),
        assignments: asked
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, assignment.broker_ids.clone()))
            .collect(),
        configs: asked
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
    }
}

fn created(context: &Context, topic: &Topic) -> CreatableTopicResult {
    let settings = &context.broker.settings();
    let configs = TOPIC_KEYS.iter().map(|key| {
        let (value, origin) = TopicConfig::value(settings, &topic.configs, key.name);
        CreatableTopicConfigs {
            name: ByteString::from_static(key.name),
            value: Some(value.into()),
            config_source: origin_number(settings, origin),
            ..Default::default()
        }
    });
    CreatableTopicResult {
        name: ByteString::from(&*topic.name),
        topic_id: topic.id,
        error_code: ErrorCode::None,
        error_message: None,
        num_partitions: i32::try_from(topic.partitions.len()).expect("indexes are 32 bits"),
        replication_factor: 1,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}
