//! ListOffsets: offsets by place or time.

use super::Context;
use crate::calls::{Answer, Call, Seek};
use crate::partition::{Offset, PartitionId, Reader, Sought};
use ringlog_wire::ErrorCode;
use ringlog_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use std::collections::HashMap;
use std::rc::Rc;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) async fn handle(context: Rc<Context>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut times: HashMap<(&str, i32), usize> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *times.entry((&topic.name, partition.partition_index)).or_default() += 1;
        }
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for ListOffsetsTopic { name, partitions } in &request.topics {
        let mut results = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let result = if times[&(&**name, partition.partition_index)] > 1 {
                Err(ErrorCode::InvalidRequest)
            } else {
                look_up(&context, request.replica_id, name, partition).await
            };
            results.push(response(context.version, partition.partition_index, result));
        }
        topics.push(ListOffsetsTopicResponse { name: name.clone(), partitions: results });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn look_up(
    context: &Context,
    replica_id: i32,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Option<Offset>, ErrorCode> {
    let sought = sought(asked.timestamp, context.version).ok_or(ErrorCode::UnsupportedVersion)?;
    let partition: PartitionId =
        context.broker.find(topic, asked.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let seek = Seek {
        partition,
        sought,
        reader: if replica_id == -1 { Reader::Consumer } else { Reader::Replica },
        current_leader_epoch: super::epoch(asked.current_leader_epoch),
    };
    match context.broker.ask(context.broker.owner(partition), Call::Seek(vec![seek])).await {
        Answer::Found(mut found) => found.pop().expect("one answer to one question"),
        _ => unreachable!("a look-up is answered with offsets"),
    }
}

/// What a timestamp of the request means; `None` if it means nothing in this version.
fn sought(timestamp: i64, version: i16) -> Option<Sought> {
    match timestamp {
        LATEST => Some(Sought::Latest),
        EARLIEST => Some(Sought::Earliest),
        MAX_TIMESTAMP if version >= 7 => Some(Sought::MaxTimestamp),
        EARLIEST_LOCAL if version >= 8 => Some(Sought::Earliest),
        LATEST_TIERED if version >= 9 => Some(Sought::Remote),
        EARLIEST_PENDING_UPLOAD if version >= 11 => Some(Sought::Remote),
        time if time >= 0 => Some(Sought::Time(time)),
        _ => None,
    }
}

fn response(
    version: i16,
    partition_index: i32,
    result: Result<Option<Offset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    match result {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: found.timestamp.unwrap_or(-1),
            offset: found.offset,
            leader_epoch: found.leader_epoch.unwrap_or(-1),
            ..Default::default()
        },
        Ok(None) => ListOffsetsPartitionResponse { partition_index, ..Default::default() },
        // Before v5 clients do not know the better code.
        Err(ErrorCode::OffsetNotAvailable) if version < 5 => ListOffsetsPartitionResponse {
            partition_index,
            error_code: ErrorCode::LeaderNotAvailable,
            ..Default::default()
        },
        Err(error_code) => ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_known_from_their_version_on() {
        for (timestamp, version, expected) in [
            (-1, 1, Some(Sought::Latest)),
            (-2, 1, Some(Sought::Earliest)),
            (-3, 6, None),
            (-3, 7, Some(Sought::MaxTimestamp)),
            (-4, 7, None),
            (-4, 8, Some(Sought::Earliest)),
            (-5, 8, None),
            (-5, 9, Some(Sought::Remote)),
            (-6, 10, None),
            (-6, 11, Some(Sought::Remote)),
            (-7, 11, None),
            (0, 1, Some(Sought::Time(0))),
        ] {
            assert_eq!(sought(timestamp, version), expected, "{timestamp} v{version}");
        }
    }
}
