//! Metadata: brokers, topics, partitions and leaders, as this shard's image has them.
//!
//! A topic asked for by name that does not exist is created, if both sides wish so. It is answered when every shard has
//! opened its partitions, so what clients are told of it is true already.

use super::Context;
use crate::cluster::{NewTopic, Outcome, Request, Topic};
use crate::config::Endpoint;
use crate::group::{OFFSETS_TOPIC, offsets_topic};
use crate::partition::PartitionId;
use crate::share::{STATE_TOPIC, state_topic};
use ringlog_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use ringlog_wire::{ByteString, ErrorCode, Uuid};
use std::collections::HashSet;
use std::rc::Rc;

/// Kafka's id of no broker.
const NO_LEADER: i32 = -1;

/// Versions from here on may ask by id; those before must not.
const BY_ID: i16 = 12;

/// What may be done with a topic, and with the cluster, where nobody is forbidden anything: a bit for each operation
/// of Kafka's that the resource knows.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

pub(super) async fn handle(context: Rc<Context>, request: MetadataRequest) -> MetadataResponse {
    let asked = match &request.topics {
        Some(topics) if context.version > 0 || !topics.is_empty() => Some(topics),
        _ => None,
    };
    if let Some(asked) = asked
        && request.allow_auto_topic_creation
        && context.broker.config().auto_create_topics
    {
        create_missing(&context, asked).await;
    }
    let rows = Rows { context: &context, operations: request.include_topic_authorized_operations };
    let image = context.broker.image();
    let topics = match asked {
        None => image.topics().map(|topic| rows.topic(topic)).collect(),
        Some(asked) => {
            let mut told = HashSet::new();
            let rows = asked.iter().map(|asked| rows.asked(asked));
            // A topic asked for twice is told once.
            rows.filter(|row| told.insert((row.name.clone(), row.topic_id.0))).collect()
        }
    };
    let Endpoint { host, port } = context.broker.config().endpoint(context.peer.listener).clone();
    let node_id = context.broker.config().node_id;
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id,
            host: host.into(),
            port: i32::from(port),
            rack: None,
        }],
        cluster_id: Some(ByteString::from(&*image.cluster_id)),
        controller_id: node_id,
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}

/// Creates the topics that are asked for by name and do not exist. Whether it went well shows in the image.
async fn create_missing(context: &Context, asked: &[MetadataRequestTopic]) {
    let image = context.broker.image();
    let mut missing: Vec<&str> = asked
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| image.topic(name).is_none() && is_valid(name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return;
    }
    let topics = missing.into_iter().map(|name| new_topic(context, name)).collect();
    if let Outcome::Failed(code) =
        context.broker.control(Request::CreateTopics { topics, validate_only: false }).await
    {
        eprintln!("ERROR topics were not created: {}", code.name());
    }
}

/// A topic made because it is asked for: with the broker's defaults, or as the broker needs it for itself.
fn new_topic(context: &Context, name: &str) -> NewTopic {
    match name {
        OFFSETS_TOPIC => offsets_topic(&context.broker.config().groups),
        STATE_TOPIC => state_topic(&context.broker.settings()),
        _ => NewTopic { name: name.to_owned(), ..NewTopic::default() },
    }
}

/// Whether a topic may have this name.
pub(super) fn is_valid(name: &str) -> bool {
    const NAME_BYTES_MAX: usize = 249;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && name.bytes().all(legal)
}

/// Whether the broker keeps things of its own in a topic.
pub(super) fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | STATE_TOPIC)
}

/// Who leads a partition: this broker, unless it is offline.
pub(super) fn leader(context: &Context, topic: &Topic, index: i32) -> Option<i32> {
    let is_offline = context.broker.is_offline(PartitionId::new(topic.id, index));
    (!is_offline).then_some(context.broker.config().node_id)
}

struct Rows<'a> {
    context: &'a Context,
    operations: bool,
}

impl Rows<'_> {
    /// One topic as the request names it.
    fn asked(&self, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
        let image = self.context.broker.image();
        let by_id = !asked.topic_id.is_zero();
        if self.context.version < BY_ID && (by_id || asked.name.is_none()) {
            let name = Some(asked.name.clone().unwrap_or_default());
            return MetadataResponseTopic {
                error_code: ErrorCode::InvalidRequest,
                name,
                ..Default::default()
            };
        }
        if by_id {
            return match image.topic_by_id(asked.topic_id) {
                Some(topic) => self.topic(topic),
                None => MetadataResponseTopic {
                    error_code: ErrorCode::UnknownTopicId,
                    name: None,
                    topic_id: asked.topic_id,
                    ..Default::default()
                },
            };
        }
        let name = asked.name.as_deref().unwrap_or_default();
        match image.topic(name) {
            Some(topic) => self.topic(topic),
            None => MetadataResponseTopic {
                error_code: if is_valid(name) {
                    ErrorCode::UnknownTopicOrPartition
                } else {
                    ErrorCode::InvalidTopicException
                },
                name: Some(ByteString::from(name)),
                topic_id: Uuid::ZERO,
                ..Default::default()
            },
        }
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let node = self.context.broker.config().node_id;
        let partitions = topic.partitions.iter().zip(0..).map(|(state, partition_index)| {
            let row = MetadataResponsePartition {
                partition_index,
                leader_id: node,
                leader_epoch: state.leader_epoch,
                replica_nodes: vec![node],
                isr_nodes: vec![node],
                ..Default::default()
            };
            if leader(self.context, topic, partition_index).is_some() {
                return row;
            }
            // As Kafka tells of a partition whose only replica is in a failed log directory.
            MetadataResponsePartition {
                error_code: ErrorCode::LeaderNotAvailable,
                leader_id: NO_LEADER,
                offline_replicas: vec![node],
                ..row
            }
        });
        MetadataResponseTopic {
            name: Some(ByteString::from(&*topic.name)),
            topic_id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions: partitions.collect(),
            topic_authorized_operations: if self.operations { TOPIC_OPERATIONS } else { i32::MIN },
            ..Default::default()
        }
    }
}
