//! ElectLeaders. Each partition's only replica is its preferred leader, and leads it unless it is offline.

use super::Context;
use super::metadata::leader;
use crate::cluster::{Image, Topic};
use ringlog_wire::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use ringlog_wire::{ByteString, ErrorCode};
use std::rc::Rc;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(super) async fn handle(context: Rc<Context>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return ElectLeadersResponse { error_code: ErrorCode::InvalidRequest, ..Default::default() };
    }
    let image = context.broker.image();
    let elect = Elect { context: &context, image: &image, election: request.election_type };
    let results = match request.topic_partitions {
        Some(asked) => asked
            .into_iter()
            .map(|topic| ReplicaElectionResult {
                partition_result: topic.partitions.iter().map(|at| elect.one(&topic.topic, *at)).collect(),
                topic: topic.topic,
            })
            .collect(),
        // Where all are asked for, those that need nothing are not told of.
        None => image.topics().map(|topic| elect.all(topic)).filter(is_not_empty).collect(),
    };
    ElectLeadersResponse { replica_election_results: results, ..Default::default() }
}

fn is_not_empty(result: &ReplicaElectionResult) -> bool {
    !result.partition_result.is_empty()
}

struct Elect<'a> {
    context: &'a Context,
    image: &'a Image,
    election: i8,
}

impl Elect<'_> {
    fn all(&self, topic: &Topic) -> ReplicaElectionResult {
        let indexes = 0..i32::try_from(topic.partitions.len()).expect("indexes are 32 bits");
        let results = indexes.map(|index| self.one(&topic.name, index));
        ReplicaElectionResult {
            topic: ByteString::from(&*topic.name),
            partition_result: results
                .filter(|result| result.error_code != ErrorCode::ElectionNotNeeded)
                .collect(),
        }
    }

    fn one(&self, name: &str, partition_id: i32) -> PartitionResult {
        let (error_code, message) = match self.image.topic(name) {
            None => (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {name}")),
            Some(topic) if topic.partition(partition_id).is_none() => {
                (ErrorCode::UnknownTopicOrPartition, format!("No such partition as {name}-{partition_id}"))
            }
            Some(topic) if leader(self.context, topic, partition_id).is_some() => {
                (ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.".into())
            }
            Some(_) if self.election == PREFERRED => {
                (ErrorCode::PreferredLeaderNotAvailable, "The preferred leader was not available.".into())
            }
            Some(_) => (
                ErrorCode::EligibleLeadersNotAvailable,
                "Eligible topic partition leaders are not available.".into(),
            ),
        };
        PartitionResult { partition_id, error_code, error_message: Some(message.into()) }
    }
}
