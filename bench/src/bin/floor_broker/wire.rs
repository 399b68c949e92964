//! The little of the Kafka protocol that the load generator speaks: Produce version 9 by hand, and what is asked before it.

use bytes::Bytes;
use ringlog_wire::api_versions::ApiVersionsResponse;
use ringlog_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ringlog_wire::list_offsets::ListOffsetsResponse;
use ringlog_wire::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use ringlog_wire::{ApiKey, Message, Part, Reader, RequestHeader, encode_response};

/// A place in a request.
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let bytes = &self.bytes[self.at..self.at + len];
        self.at += len;
        bytes
    }

    pub(crate) fn int<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as many as asked for")
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.int();
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// A length that counts from 1.
    pub(crate) fn compact(&mut self) -> usize {
        self.varint().saturating_sub(1)
    }

    pub(crate) fn tags(&mut self) {
        assert_eq!(self.varint(), 0, "the load generator sends no tags");
    }
}

pub(crate) const PRODUCE: i16 = 0;

/// One partition of an answer to Produce version 9.
pub(crate) fn put_partition(answer: &mut Vec<u8>, index: i32, base_offset: i64) {
    answer.extend(index.to_be_bytes());
    answer.extend(0_i16.to_be_bytes());
    answer.extend(base_offset.to_be_bytes());
    answer.extend((-1_i64).to_be_bytes());
    answer.extend(0_i64.to_be_bytes());
    // No record errors, no message, no tags.
    answer.extend([1, 0, 0]);
}

/// A varint that is a length counted from 1.
pub(crate) fn put_compact(answer: &mut Vec<u8>, len: usize) {
    let mut rest = len + 1;
    while rest >= 0x80 {
        answer.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    answer.push(rest as u8);
}

/// Answers what is asked before the load begins.
pub(crate) fn other(frame: &[u8], partitions: usize) -> Vec<u8> {
    let frame = Bytes::copy_from_slice(frame);
    let mut reader = Reader::new(&frame);
    let header = RequestHeader::read(&mut reader).expect("a header");
    let (version, correlation) = (header.api_version, header.correlation_id);
    let parts = match header.api() {
        Some(ApiKey::Metadata) => {
            let request = MetadataRequest::decode(&mut reader, version).expect("a request");
            let topics = request.topics.into_iter().flatten().map(|topic| MetadataResponseTopic {
                name: topic.name,
                partitions: (0..partitions)
                    .map(|index| MetadataResponsePartition {
                        partition_index: i32::try_from(index).expect("few partitions"),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            let response = MetadataResponse { topics: topics.collect(), ..Default::default() };
            encode_response(version, correlation, &response)
        }
        Some(ApiKey::InitProducerId) => {
            InitProducerIdRequest::decode(&mut reader, version).expect("a request");
            encode_response(version, correlation, &InitProducerIdResponse::default())
        }
        Some(ApiKey::ApiVersions) => encode_response(version, correlation, &ApiVersionsResponse::default()),
        Some(ApiKey::ListOffsets) => encode_response(version, correlation, &ListOffsetsResponse::default()),
        other => panic!("the floor does not serve {other:?}"),
    };
    let parts = parts.expect("an answer that fits").parts;
    let bytes = |part: Part| match part {
        Part::Bytes(bytes) => bytes,
        _ => unreachable!("no records"),
    };
    parts.into_iter().flat_map(bytes).collect()
}
