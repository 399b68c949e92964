//! A Produce request made once and sent again and again: only numbers, times and checksums in it change.

use crate::plan::Plan;
use bytes::Bytes;
use ringlog_engine::batch::Codec;
use ringlog_engine::records::Builder;
use ringlog_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ringlog_wire::{Part, encode_request};

/// Requests for the same partitions, one after another.
pub(crate) struct Request {
    frames: Vec<Frame>,
    next: usize,
    pub(crate) partitions: Vec<i32>,
    /// Of each batch: how many were sent before.
    sent: Vec<u64>,
}

struct Frame {
    bytes: Vec<u8>,
    batches: Vec<Batch>,
}

/// A batch in a frame.
struct Batch {
    at: usize,
    end: usize,
    /// Where values begin; none if they are compressed.
    values: Vec<u32>,
}

/// Who sends.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) number: u32,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
}

/// As high as needs no topic ids, and as Apache Kafka's broker still takes it.
const PRODUCE_VERSION: i16 = 9;
const CORRELATION_AT: usize = 8;

// Within a batch.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const BASE_TIMESTAMP_AT: usize = 27;
const BASE_SEQUENCE_AT: usize = 53;

// Within a value.
const NUMBER_AT: usize = 4;
const DUE_AT: usize = 12;
const FILLER_AT: usize = 20;

/// Compressed batches are not changed: so many different ones take turns.
const COMPRESSED: u64 = 64;

impl Request {
    pub(crate) fn new(plan: &Plan, sender: Sender, partitions: Vec<i32>) -> Self {
        let codec = plan.codec();
        let variants = if codec == Codec::None { 1 } else { COMPRESSED };
        let frames = (0..variants).map(|variant| frame(plan, codec, sender, &partitions, variant)).collect();
        Self { frames, next: 0, sent: vec![0; partitions.len()], partitions }
    }

    /// The next request, stamped.
    pub(crate) fn next(&mut self, plan: &Plan, correlation: i32, due: u64, now_ms: i64) -> &[u8] {
        let count = self.frames.len();
        let frame = &mut self.frames[self.next];
        self.next = (self.next + 1) % count;
        frame.bytes[CORRELATION_AT..][..4].copy_from_slice(&correlation.to_be_bytes());
        for (batch, sent) in frame.batches.iter().zip(&mut self.sent) {
            let bytes = &mut frame.bytes[batch.at..batch.end];
            let first = *sent * u64::from(plan.records);
            *sent += 1;
            for (number, value) in (first..).zip(&batch.values) {
                let value = &mut bytes[*value as usize..];
                value[NUMBER_AT..DUE_AT].copy_from_slice(&number.to_be_bytes());
                value[DUE_AT..FILLER_AT].copy_from_slice(&due.to_be_bytes());
            }
            for at in [BASE_TIMESTAMP_AT, BASE_TIMESTAMP_AT + 8] {
                bytes[at..at + 8].copy_from_slice(&now_ms.to_be_bytes());
            }
            if plan.idempotent {
                // A sequence begins again at 0 after i32::MAX.
                let sequence = (first & 0x7fff_ffff) as i32;
                bytes[BASE_SEQUENCE_AT..][..4].copy_from_slice(&sequence.to_be_bytes());
            }
            let crc = crc_fast::crc32_iscsi(&bytes[ATTRIBUTES_AT..]);
            bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        }
        &frame.bytes
    }

    /// How many records were sent of each partition.
    pub(crate) fn sent(&self, plan: &Plan) -> impl Iterator<Item = (i32, u64)> {
        let records = u64::from(plan.records);
        self.partitions.iter().zip(&self.sent).map(move |(partition, sent)| (*partition, sent * records))
    }
}

fn frame(plan: &Plan, codec: Codec, sender: Sender, partitions: &[i32], variant: u64) -> Frame {
    let of_partition = |partition: &i32| {
        let batch = batch(plan, codec, sender, variant);
        PartitionProduceData { index: *partition, records: batch.into() }
    };
    let topic = TopicProduceData {
        name: plan.topic.as_str().into(),
        partition_data: partitions.iter().map(of_partition).collect(),
        ..Default::default()
    };
    let request =
        ProduceRequest { acks: plan.acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let parts = encode_request(PRODUCE_VERSION, 0, Some("load"), &request).expect("a request that fits");
    let mut frame = Frame { bytes: Vec::new(), batches: Vec::new() };
    // Records are parts of their own, as they were handed in: every second one.
    for (number, part) in parts.iter().enumerate() {
        let Part::Bytes(bytes) = part else { unreachable!("all is in memory") };
        let at = frame.bytes.len();
        frame.bytes.extend_from_slice(bytes);
        if number % 2 == 1 {
            let values = if codec == Codec::None { values_in(plan, bytes) } else { Vec::new() };
            frame.batches.push(Batch { at, end: frame.bytes.len(), values });
        }
    }
    assert_eq!(frame.batches.len(), partitions.len(), "a part for each batch");
    frame
}

fn batch(plan: &Plan, codec: Codec, sender: Sender, variant: u64) -> Bytes {
    let mut builder = Builder::new(codec).producer(sender.producer_id, sender.producer_epoch, -1);
    let mut value = filler(plan.size as usize);
    value[..NUMBER_AT].copy_from_slice(&sender.number.to_be_bytes());
    for record in 0..u64::from(plan.records) {
        let number = variant * u64::from(plan.records) + record;
        value[NUMBER_AT..DUE_AT].copy_from_slice(&number.to_be_bytes());
        let key = number.to_be_bytes();
        builder.push(0, plan.keyed.then_some(&key[..]), Some(&value), &[]);
    }
    builder.build()
}

/// What values hold beside who, which and when: the same for all.
fn filler(size: usize) -> Vec<u8> {
    b"a record of the load generator, ".iter().copied().cycle().take(size).collect()
}

/// Where the values lie in a batch that is not compressed: the decoder gives slices of it.
fn values_in(plan: &Plan, batch: &Bytes) -> Vec<u32> {
    let records = ringlog_engine::records::decode(batch, batch.len()).expect("an own batch");
    let filler = filler(plan.size as usize);
    let place = |value: Bytes| {
        assert_eq!(value[FILLER_AT..], filler[FILLER_AT..]);
        let at = value.as_ptr().addr() - batch.as_ptr().addr();
        u32::try_from(at).expect("a small batch")
    };
    records.into_iter().filter_map(|record| record.value).map(place).collect()
}

/// Who made a value, from its first bytes.
pub(crate) fn sender_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..NUMBER_AT)?.try_into().ok()?))
}

/// The value's number.
pub(crate) fn number_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(NUMBER_AT..DUE_AT)?.try_into().ok()?))
}

/// When the value was due, from its first bytes.
pub(crate) fn due_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(DUE_AT..FILLER_AT)?.try_into().ok()?))
}
