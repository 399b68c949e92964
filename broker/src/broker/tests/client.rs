//! A client that speaks the protocol through the wire crate, and record batches made by hand.

use bytes::{Bytes, BytesMut};
use ringlog_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use ringlog_wire::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use ringlog_wire::{Message, Part, Reader, Records, Request, ResponseHeader, encode_request};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::harness::topic_id;

pub(super) struct Client {
    stream: TcpStream,
    next_id: i32,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next_id: 0 }
    }

    /// Sends a request and does not wait; returns its number.
    pub(super) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let bytes = self.encode(version, request);
        self.stream.write_all(&bytes).unwrap();
        self.next_id - 1
    }

    pub(super) fn encode<R: Request>(&mut self, version: i16, request: &R) -> Bytes {
        let parts = encode_request(version, self.next_id, Some("test"), request).unwrap();
        self.next_id += 1;
        let mut bytes = BytesMut::new();
        for part in parts {
            let Part::Bytes(part) = part else { panic!("requests are in memory") };
            bytes.extend_from_slice(&part);
        }
        bytes.freeze()
    }

    pub(super) fn send_bytes(&mut self, bytes: &[u8]) {
        // The broker may have closed the connection in the middle of what is damaged.
        let _ = self.stream.write_all(bytes);
    }

    /// Receives the next response, which must be to the request of this number.
    pub(super) fn receive<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        let frame = self.receive_frame().expect("the connection is open");
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::read(&mut reader, R::API, version).unwrap();
        assert_eq!(header.correlation_id, id, "replies come in request order");
        let response = R::Response::decode(&mut reader, version).unwrap();
        assert_eq!(reader.remaining(), 0, "the response ends with its frame");
        response
    }

    /// The next frame, or `None` when the broker has closed the connection.
    pub(super) fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    pub(super) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        self.receive::<R>(version, id)
    }

    pub(super) fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> ProduceResponse {
        self.call(9, &produce(topic, partition, records, -1))
    }

    pub(super) fn fetch(&mut self, request: &FetchRequest) -> FetchResponse {
        self.call(12, request)
    }
}

pub(super) fn produce(topic: &str, partition: i32, records: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            topic_id: topic_id(topic),
            partition_data: vec![PartitionProduceData { index: partition, records: Records::Bytes(records) }],
        }],
        ..Default::default()
    }
}

/// A fetch of these partitions from these offsets that does not wait and has no session.
pub(super) fn fetch(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    FetchRequest {
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            topic_id: topic_id(topic),
            partitions: partitions.collect(),
        }],
        ..Default::default()
    }
}

/// The records that came of a partition, as one range of bytes.
pub(super) fn records_of(response: &FetchResponse, partition: i32) -> Bytes {
    let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
    let row = rows.into_iter().find(|row| row.partition_index == partition).expect("the partition is there");
    assert_eq!(row.error_code, ringlog_wire::ErrorCode::None);
    row.records.bytes().cloned().unwrap_or_default()
}

/// Base offset and record count of each batch.
pub(super) fn batches_of(records: &[u8]) -> Vec<(i64, i32)> {
    let mut rest = records;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let len = 12 + u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
        batches.push((base, i32::from_be_bytes(rest[57..61].try_into().unwrap())));
        rest = &rest[len..];
    }
    batches
}

/// A record batch of the v2 format.
pub(super) struct Batch {
    pub(super) values: Vec<Vec<u8>>,
    pub(super) attributes: i16,
    pub(super) timestamp: i64,
    /// Producer id, epoch and first sequence.
    pub(super) producer: (i64, i16, i32),
    pub(super) has_keys: bool,
}

impl Batch {
    pub(super) fn of(values: &[&[u8]]) -> Self {
        Self {
            values: values.iter().map(|value| value.to_vec()).collect(),
            attributes: 0,
            timestamp: 1_700_000_000_000,
            producer: (-1, -1, -1),
            has_keys: false,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut records = Vec::new();
        for (delta, value) in self.values.iter().enumerate() {
            let mut record = vec![0];
            varint(&mut record, 0);
            varint(&mut record, i64::try_from(delta).unwrap());
            if self.has_keys {
                varint(&mut record, 1);
                record.push(b'k');
            } else {
                varint(&mut record, -1);
            }
            varint(&mut record, i64::try_from(value.len()).unwrap());
            record.extend_from_slice(value);
            varint(&mut record, 0);
            varint(&mut records, i64::try_from(record.len()).unwrap());
            records.extend_from_slice(&record);
        }
        let count = i32::try_from(self.values.len()).unwrap();
        let mut checked = Vec::new();
        checked.extend_from_slice(&self.attributes.to_be_bytes());
        checked.extend_from_slice(&(count - 1).to_be_bytes());
        checked.extend_from_slice(&self.timestamp.to_be_bytes());
        checked.extend_from_slice(&self.timestamp.to_be_bytes());
        checked.extend_from_slice(&self.producer.0.to_be_bytes());
        checked.extend_from_slice(&self.producer.1.to_be_bytes());
        checked.extend_from_slice(&self.producer.2.to_be_bytes());
        checked.extend_from_slice(&count.to_be_bytes());
        checked.extend_from_slice(&records);
        let mut batch = BytesMut::new();
        batch.extend_from_slice(&0i64.to_be_bytes());
        batch.extend_from_slice(&i32::try_from(checked.len() + 9).unwrap().to_be_bytes());
        batch.extend_from_slice(&(-1i32).to_be_bytes());
        batch.extend_from_slice(&[2]);
        batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
        batch.extend_from_slice(&checked);
        batch.freeze()
    }
}

/// One batch of one value.
pub(super) fn batch(value: &[u8]) -> Bytes {
    Batch::of(&[value]).encode()
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
