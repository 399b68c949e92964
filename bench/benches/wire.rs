//! What it takes to read and write the messages of the data path, in instructions.
//!
//! Records are slices of the frame: however many there are, these figures stay the same.

#![expect(missing_docs, unused_qualifications, reason = "what the macros make of each benchmark")]

use bytes::Bytes;
use gungraun::prelude::*;
use ringlog_wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use ringlog_wire::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use ringlog_wire::{
    Encoded, Message, PREFIX_LEN, Part, Reader, Request, RequestHeader, encode_request, encode_response,
};
use std::hint::black_box;

/// The last version of each that names topics, which is what most clients send.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
/// Bytes of records for each partition.
const RECORDS: usize = 16 << 10;
const TOPIC: &str = "measurements";

/// A frame as a connection hands it on: without its length, in one piece.
fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let parts = encode_request(version, 1, Some("a client"), request).expect("a request that fits");
    let mut bytes = Vec::new();
    for part in parts {
        let Part::Bytes(part) = part else { unreachable!("all is in memory") };
        bytes.extend_from_slice(&part);
    }
    Bytes::from(bytes).slice(PREFIX_LEN..)
}

fn produce_frame(partitions: i32) -> Bytes {
    let data = |index| PartitionProduceData { index, records: Bytes::from(vec![0; RECORDS]).into() };
    let topic = TopicProduceData {
        name: TOPIC.into(),
        partition_data: (0..partitions).map(data).collect(),
        ..Default::default()
    };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    frame(PRODUCE_VERSION, &request)
}

fn produce_response(partitions: i32) -> ProduceResponse {
    let response = |index| PartitionProduceResponse { index, base_offset: 1 << 40, ..Default::default() };
    let topic = TopicProduceResponse {
        name: TOPIC.into(),
        partition_responses: (0..partitions).map(response).collect(),
        ..Default::default()
    };
    ProduceResponse { responses: vec![topic], ..Default::default() }
}

fn fetch_frame(partitions: i32) -> Bytes {
    let partition = |partition| FetchPartition {
        partition,
        fetch_offset: 1 << 40,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: TOPIC.into(),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    let request = FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: vec![topic], ..Default::default() };
    frame(FETCH_VERSION, &request)
}

fn fetch_response(partitions: i32) -> FetchResponse {
    let records = Bytes::from(vec![0; RECORDS]);
    let data = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1 << 40,
        records: records.clone().into(),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        topic: TOPIC.into(),
        partitions: (0..partitions).map(data).collect(),
        ..Default::default()
    };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

fn decode<R: Request>(frame: &Bytes) -> (RequestHeader, R) {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::read(&mut reader).expect("a header of ours");
    let request = R::decode(&mut reader, header.api_version).expect("a request of ours");
    (header, request)
}

fn encode<M: Message>(version: i16, response: &M) -> Encoded {
    encode_response(version, 1, response).expect("a response that fits")
}

#[library_benchmark(setup = produce_frame)]
#[bench::of_1_partition(1)]
#[bench::of_64_partitions(64)]
fn produce_request_decoded(frame: Bytes) -> (Bytes, (RequestHeader, ProduceRequest)) {
    let decoded = decode(black_box(&frame));
    (frame, decoded)
}

#[library_benchmark(setup = produce_response)]
#[bench::of_1_partition(1)]
#[bench::of_64_partitions(64)]
fn produce_response_encoded(response: ProduceResponse) -> (ProduceResponse, Encoded) {
    let encoded = encode(PRODUCE_VERSION, black_box(&response));
    (response, encoded)
}

#[library_benchmark(setup = fetch_frame)]
#[bench::of_1_partition(1)]
#[bench::of_64_partitions(64)]
fn fetch_request_decoded(frame: Bytes) -> (Bytes, (RequestHeader, FetchRequest)) {
    let decoded = decode(black_box(&frame));
    (frame, decoded)
}

#[library_benchmark(setup = fetch_response)]
#[bench::of_1_partition(1)]
#[bench::of_64_partitions(64)]
fn fetch_response_encoded(response: FetchResponse) -> (FetchResponse, Encoded) {
    let encoded = encode(FETCH_VERSION, black_box(&response));
    (response, encoded)
}

library_benchmark_group!(
    name = wire,
    benchmarks =
        [produce_request_decoded, produce_response_encoded, fetch_request_decoded, fetch_response_encoded]
);
gungraun::main!(library_benchmark_groups = wire);
