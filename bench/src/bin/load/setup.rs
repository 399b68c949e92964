//! What is asked before the load begins.

use crate::clock::pause;
use crate::connection::Connection;
use crate::plan::Plan;
use ringlog_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ringlog_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use ringlog_wire::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ringlog_wire::{ErrorCode, Message, Part, Reader, ResponseHeader, encode_request};
use std::cmp::Ordering;
use std::io;

/// Asks until every partition has a leader, and that knows of it.
pub(crate) fn wait_for_leaders(plan: &Plan, connection: &mut Connection) -> io::Result<()> {
    const VERSION: i16 = 8;
    let topic = MetadataRequestTopic { name: Some(plan.topic.as_str().into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    for _ in 0..100 {
        let response: MetadataResponse = ask(connection, VERSION, &request)?;
        let led = response.topics.iter().flat_map(|topic| &topic.partitions);
        let led = led.filter(|partition| partition.error_code == ErrorCode::None && partition.leader_id >= 0);
        match led.count().cmp(&usize::try_from(plan.partitions).unwrap_or(0)) {
            Ordering::Equal if leads(plan, connection)? => return Ok(()),
            Ordering::Greater => {
                return Err(io::Error::other(format!("{} has more partitions than named", plan.topic)));
            }
            Ordering::Equal | Ordering::Less => pause(),
        }
    }
    Err(io::Error::other(format!(
        "not all of the {} partitions of {} have leaders",
        plan.partitions, plan.topic
    )))
}

/// Whether the broker serves all partitions: it may be named their leader before it has made them.
fn leads(plan: &Plan, connection: &mut Connection) -> io::Result<bool> {
    Ok(offsets(plan, connection, EARLIEST)?.is_some())
}

/// The oldest offset of a partition, and the next one to come.
pub(crate) const EARLIEST: i64 = -2;
pub(crate) const LATEST: i64 = -1;

/// The earliest or the latest offset of every partition, in their order; `None` if the broker does not serve all of them.
pub(crate) fn offsets(
    plan: &Plan,
    connection: &mut Connection,
    timestamp: i64,
) -> io::Result<Option<Vec<i64>>> {
    const VERSION: i16 = 5;
    let of_partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let topic = ListOffsetsTopic {
        name: plan.topic.as_str().into(),
        partitions: (0..plan.partitions).map(of_partition).collect(),
    };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let mut response: ListOffsetsResponse = ask(connection, VERSION, &request)?;
    let mut answers: Vec<_> = response.topics.drain(..).flat_map(|topic| topic.partitions).collect();
    if answers.iter().any(|answer| answer.error_code != ErrorCode::None) {
        return Ok(None);
    }
    answers.sort_by_key(|answer| answer.partition_index);
    Ok(Some(answers.iter().map(|answer| answer.offset).collect()))
}

pub(crate) fn producer_id(connection: &mut Connection) -> io::Result<(i64, i16)> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    for _ in 0..100 {
        let response: InitProducerIdResponse = ask(connection, 4, &request)?;
        if response.error_code == ErrorCode::None {
            return Ok((response.producer_id, response.producer_epoch));
        }
        pause();
    }
    Err(io::Error::other("no producer id"))
}

fn ask<R: ringlog_wire::Request>(
    connection: &mut Connection,
    version: i16,
    request: &R,
) -> io::Result<R::Response> {
    let parts = encode_request(version, 0, Some("load"), request).map_err(io::Error::other)?;
    let Some(Part::Bytes(bytes)) = parts.first() else { unreachable!("no records") };
    let frame = connection.ask(bytes)?;
    let mut reader = Reader::new(&frame);
    ResponseHeader::read(&mut reader, R::API, version).map_err(io::Error::other)?;
    R::Response::decode(&mut reader, version).map_err(io::Error::other)
}
