//! AlterPartitionReassignments. There is one broker: a partition can only stay where it is.

use super::Context;
use crate::cluster::Image;
use ringlog_wire::ErrorCode;
use ringlog_wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use std::rc::Rc;

pub(super) async fn handle(
    context: Rc<Context>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = context.broker.image();
    let node_id = context.broker.config().node_id;
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let refused = reassign(&image, node_id, &topic.name, partition).err();
            let (error_code, message) =
                refused.map_or((ErrorCode::None, None), |(code, message)| (code, Some(message.into())));
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message: message,
            }
        });
        ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    AlterPartitionReassignmentsResponse {
        responses: responses.collect(),
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        ..Default::default()
    }
}

fn reassign(
    image: &Image,
    node_id: i32,
    name: &str,
    asked: &ReassignablePartition,
) -> Result<(), (ErrorCode, String)> {
    let index = asked.partition_index;
    let unknown = |message| Err((ErrorCode::UnknownTopicOrPartition, message));
    match image.topic(name) {
        None => return unknown(format!("Unable to find a topic named {name}.")),
        Some(topic) if topic.partition(index).is_none() => {
            return unknown(format!("Unable to find partition {name}:{index}."));
        }
        Some(_) => {}
    }
    let invalid = |message| Err((ErrorCode::InvalidReplicaAssignment, message));
    let Some(replicas) = &asked.replicas else {
        let message = "No partition reassignment is in progress.".into();
        return Err((ErrorCode::NoReassignmentInProgress, message));
    };
    if let Some(other) = replicas.iter().find(|replica| **replica != node_id) {
        return invalid(format!(
            "The manual partition assignment includes broker {other}, but no such broker is registered."
        ));
    }
    match replicas.len() {
        0 => invalid("The manual partition assignment includes an empty replica list.".into()),
        1 => Ok(()),
        _ => {
            invalid(format!("The manual partition assignment includes the broker {node_id} more than once."))
        }
    }
}
