//! Produce: append records.

use bytes::Bytes;
use bytestring::ByteString;

use crate::api::ApiKey;
use crate::error::ErrorCode;
use crate::field::Field;
use crate::header::RequestHeader;
use crate::message::{Message, Request, messages};
use crate::reader::Reader;
use crate::records::Records;
use crate::uuid::Uuid;

messages! {
    /// Asks for records to be appended, each partition by its leader.
    pub message ProduceRequest: Produce [3-13], flexible [9+] {
        /// The transactional id; null for a producer without transactions.
        transactional_id: Option<ByteString> [3+] null [3+],
        /// What to wait for: 0 nothing, 1 the leader, -1 every in-sync replica.
        acks: i16 [0+],
        /// How long the broker may wait, in milliseconds.
        timeout_ms: i32 [0+],
        /// The topics to append to.
        topic_data: Vec<TopicProduceData> [0+],
    }

    /// One topic to append to.
    pub struct TopicProduceData {
        /// The name.
        name: ByteString [0-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions to append to.
        partition_data: Vec<PartitionProduceData> [0+],
    }

    /// One partition to append to.
    pub struct PartitionProduceData {
        /// The partition.
        index: i32 [0+],
        /// Record batches, as they are stored.
        records: Records [0+] null [0+],
    }

    /// Says where records were appended, partition by partition. With `acks` 0 there is none.
    pub message ProduceResponse: Produce [3-13], flexible [9+] {
        /// The topics.
        responses: Vec<TopicProduceResponse> [0+],
        /// How long the client should hold back, in milliseconds.
        throttle_time_ms: i32 [1+],
        /// Where the leaders named above listen.
        node_endpoints: Vec<NodeEndpoint> [10+] tag 0,
    }

    /// One topic of the request.
    pub struct TopicProduceResponse {
        /// The name.
        name: ByteString [0-12],
        /// The topic's id.
        topic_id: Uuid [13+],
        /// The partitions.
        partition_responses: Vec<PartitionProduceResponse> [0+],
    }

    /// Where a broker named in this response listens.
    pub struct NodeEndpoint {
        /// The broker.
        node_id: i32 [10+],
        /// Its host name.
        host: ByteString [10+],
        /// Its port.
        port: i32 [10+],
        /// Its rack, or null.
        rack: Option<ByteString> [10+] null [10+],
    }

    /// What became of the records for one partition.
    pub struct PartitionProduceResponse {
        /// The partition.
        index: i32 [0+],
        /// What went wrong, or `NONE`.
        error_code: ErrorCode [0+],
        /// The offset of the first record appended.
        base_offset: i64 [0+],
        /// The time the broker stamped on the records; -1 when they keep their own.
        log_append_time_ms: i64 [2+] = -1,
        /// The first offset that the log still has.
        log_start_offset: i64 [5+] = -1,
        /// The records that made the batch be refused.
        record_errors: Vec<BatchIndexAndErrorMessage> [8+],
        /// Words about the error, or null.
        error_message: Option<ByteString> [8+] null [8+],
        /// The leader now, for a client that asked the wrong broker.
        current_leader: LeaderIdAndEpoch [10+] tag 0,
    }

    /// A record that made its batch be refused.
    pub struct BatchIndexAndErrorMessage {
        /// The index of the record in its batch.
        batch_index: i32 [8+],
        /// Words about the error, or null.
        batch_index_error_message: Option<ByteString> [8+] null [8+],
    }

    /// Who leads a partition now.
    pub struct LeaderIdAndEpoch {
        /// The broker that leads; -1 for none.
        leader_id: i32 [10+] = -1,
        /// The leader epoch; -1 for unknown.
        leader_epoch: i32 [10+] = -1,
    }
}

impl Request for ProduceRequest {
    type Response = ProduceResponse;
}

/// Where a Produce request for one partition has its records, as its first bytes tell: a broker may choose the memory for the
/// rest before it has come. All of it is to be checked when the whole request is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoneRecords {
    /// The topic's name; empty where the version names topics by id.
    pub topic: ByteString,
    /// The topic's id; zero where the version names topics by name.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// Where in the frame (without its length prefix) the records begin.
    pub at: usize,
}

impl LoneRecords {
    /// Looks at the start of a frame. `None` if it is another request, has several partitions, or the records begin later.
    pub fn find(start: &Bytes) -> Option<LoneRecords> {
        let mut reader = Reader::new(start);
        let header = RequestHeader::read(&mut reader).ok()?;
        let schema = ProduceRequest::SCHEMA;
        if header.api() != Some(ApiKey::Produce) || !schema.versions.contains(header.api_version) {
            return None;
        }
        reader.version = header.api_version;
        reader.flexible = schema.flexible.contains(header.api_version);
        Option::<ByteString>::read(&mut reader).ok()?; // transactional_id
        i16::read(&mut reader).ok()?; // acks
        i32::read(&mut reader).ok()?; // timeout_ms
        if reader.length().ok()? != Some(1) {
            return None;
        }
        let (topic, topic_id) = if header.api_version >= 13 {
            (ByteString::new(), Uuid::read(&mut reader).ok()?)
        } else {
            (ByteString::read(&mut reader).ok()?, Uuid::default())
        };
        if reader.length().ok()? != Some(1) {
            return None;
        }
        let partition = i32::read(&mut reader).ok()?;
        reader.length().ok()?;
        Some(LoneRecords { topic, topic_id, partition, at: reader.position() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Part;

    #[test]
    fn lone_records_are_found_from_the_first_bytes_of_every_version() {
        let records = Bytes::from(vec![0xEE; 300]);
        let partition = |index| PartitionProduceData { index, records: Records::Bytes(records.clone()) };
        for version in 3..=13 {
            let (name, id) = if version >= 13 { ("", Uuid([7; 16])) } else { ("topic", Uuid::default()) };
            let request = |partitions: Vec<PartitionProduceData>| {
                let topic = TopicProduceData { name: name.into(), topic_id: id, partition_data: partitions };
                let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
                let mut frame = Vec::new();
                for part in crate::encode_request(version, 1, Some("client"), &request).unwrap() {
                    let Part::Bytes(part) = part else { panic!("in memory") };
                    frame.extend_from_slice(&part);
                }
                Bytes::from(frame).slice(4..)
            };
            let frame = request(vec![partition(3)]);
            let found = LoneRecords::find(&frame).unwrap();
            assert_eq!((&*found.topic, found.topic_id, found.partition), (name, id, 3), "v{version}");
            assert_eq!(frame.slice(found.at..found.at + 300), records, "v{version}");
            assert_eq!(LoneRecords::find(&frame.slice(..found.at)), Some(found.clone()));
            for len in 0..found.at {
                assert_eq!(LoneRecords::find(&frame.slice(..len)), None, "v{version}, {len} bytes");
            }
            assert_eq!(LoneRecords::find(&request(vec![partition(0), partition(1)])), None, "v{version}");
        }
    }
}
