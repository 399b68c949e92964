//! Produce: batches go to their partitions' logs in the order of arrival; replies when they are acknowledged.
//!
//! Batches are appended (or are on their way to the shard that will, in order) when [`dispatch`] returns; what is left is to
//! wait. Records are slices of the frame and are let go with the append; names are copied, so that a waiting reply does
//! not keep a receive buffer.

use super::{Context, Dispatched, decode};
use crate::broker::{Broker, PendingAnswer};
use crate::calls::{Acknowledged, Answer, Call};
use crate::cluster::{Image, Topic};
use crate::net::Reply;
use crate::partition::{self, Acks, AppendRefusal, PartitionId};
use bytes::{Bytes, BytesMut};
use ringlog_engine::batch;
use ringlog_engine::shard::ShardId;
use ringlog_wire::produce::{
    BatchIndexAndErrorMessage, LoneRecords, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use ringlog_wire::{ByteString, ErrorCode, Reader, Records};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::time::Duration;

/// Versions from here on name topics by id.
const BY_ID: i16 = 13;
/// The client id under which Kafka lets anybody write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";
/// A batch with no more than this beside it in its frame may keep the frame's memory. Names and ids take less.
const BESIDE_BYTES_MAX: usize = 4096;
/// Versions from here on may carry zstd.
const ZSTD: i16 = 7;

pub(super) fn dispatch(context: Context, mut reader: Reader<'_>) -> Dispatched {
    let frame_len = reader.position() + reader.remaining();
    let request: ProduceRequest = decode(&context, &mut reader)?;
    let no_reply = request.acks == 0;
    let appending = Appending::begin(&context, request, frame_len);
    Ok(Box::pin(async move {
        let topics = appending.finish(&context).await;
        if !no_reply {
            return context.reply(&ProduceResponse { responses: topics, ..Default::default() });
        }
        // A producer that does not listen learns of errors by losing its connection, and then asks for metadata.
        match first_error(&topics) {
            Some(error) => Reply::Close(format!("a produce request with acks=0 failed: {error}")),
            None => context.answered(Reply::Nothing),
        }
    }))
}

/// For a request with one batch, for a partition of this shard: memory from which the log can write the batch.
pub(super) fn memory(broker: &Broker, start: &Bytes, len: usize) -> Option<BytesMut> {
    let found = LoneRecords::find(start)?;
    let image = broker.image();
    let topic =
        if found.topic.is_empty() { image.topic_by_id(found.topic_id) } else { image.topic(&found.topic) }?;
    let partition = broker.partition(PartitionId::new(topic.id, found.partition))?;
    Some(partition.log().request_memory(len, found.at))
}

fn first_error(topics: &[TopicProduceResponse]) -> Option<ErrorCode> {
    let codes = topics.iter().flat_map(|topic| &topic.partition_responses).map(|row| row.error_code);
    codes.into_iter().find(|code| *code != ErrorCode::None)
}

/// A request whose batches have been handed to their partitions' shards.
struct Appending {
    /// The answer to come, where refusals already are.
    topics: Vec<TopicProduceResponse>,
    /// Appends to partitions of this shard, and the rows they fill.
    here: SmallVec<[(Place, partition::Appending); 1]>,
    /// Answers of other shards to come, and the rows they fill.
    elsewhere: Vec<(PendingAnswer, Vec<Place>)>,
}

/// Where a batch's outcome belongs, by the places of topic and partition in the request; and what it is.
struct Place {
    topic: usize,
    row: usize,
    bytes: usize,
    records: u64,
}

type Batches = Vec<(PartitionId, Bytes)>;

impl Appending {
    fn begin(context: &Context, request: ProduceRequest, frame_len: usize) -> Self {
        let broker = &context.broker;
        let image = broker.image();
        let refusal = whole_refusal(&request);
        let acks = match request.acks {
            0 => Acks::None,
            1 => Acks::Leader,
            _ => Acks::All,
        };
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let is_alone = |bytes: usize| bytes + BESIDE_BYTES_MAX >= frame_len;
        let mut topics = Vec::with_capacity(request.topic_data.len());
        let mut here = SmallVec::new();
        let mut calls: BTreeMap<ShardId, (Batches, Vec<Place>)> = BTreeMap::new();
        for topic in request.topic_data {
            let mut rows = Vec::with_capacity(topic.partition_data.len());
            let found = find_topic(context, &image, &topic);
            for PartitionProduceData { index, records } in &topic.partition_data {
                let mut row =
                    PartitionProduceResponse { index: *index, base_offset: -1, ..Default::default() };
                let accepted = match refusal {
                    Some(code) => Err(AppendRefusal::code(code)),
                    None => found.map_err(AppendRefusal::code).and_then(|topic| {
                        Ok((partition_of(topic, *index)?, one_batch(context.version, records)?))
                    }),
                };
                match accepted {
                    Ok((partition, Batch { bytes, records })) => {
                        let place =
                            Place { topic: topics.len(), row: rows.len(), bytes: bytes.len(), records };
                        let owner = broker.owner(partition);
                        if owner == broker.shard().id() {
                            let deadline = context.arrived + timeout;
                            let alone = is_alone(bytes.len());
                            here.push((place, broker.append(partition, bytes, alone, acks, deadline)));
                        } else {
                            let (batches, places) = calls.entry(owner).or_default();
                            places.push(place);
                            batches.push((partition, bytes.clone()));
                        }
                    }
                    Err(refusal) => refuse(&mut row, refusal),
                }
                rows.push(row);
            }
            let name = ByteString::from(&*topic.name);
            topics.push(TopicProduceResponse { name, topic_id: topic.topic_id, partition_responses: rows });
        }
        let ask = |(owner, (batches, places)): (_, (_, Vec<Place>))| {
            let alone = places.iter().any(|place| is_alone(place.bytes));
            (broker.ask(owner, Call::Append { batches, alone, acks, timeout }), places)
        };
        let elsewhere = calls.into_iter().map(ask).collect();
        Self { topics, here, elsewhere }
    }

    async fn finish(self, context: &Context) -> Vec<TopicProduceResponse> {
        let Self { mut topics, here, elsewhere } = self;
        let mut settle = |place: Place, result: Result<Acknowledged, AppendRefusal>| {
            let row = &mut topics[place.topic].partition_responses[place.row];
            match result {
                Ok(acknowledged) => {
                    context.broker.metrics().produced(place.bytes, place.records);
                    accept(row, acknowledged);
                }
                Err(refusal) => refuse(row, refusal),
            }
        };
        for (place, append) in here {
            settle(place, append.acknowledged().await);
        }
        for (answer, places) in elsewhere {
            let Answer::Appended(results) = answer.await else {
                unreachable!("an append is answered with offsets")
            };
            places.into_iter().zip(results).for_each(|(place, result)| settle(place, result));
        }
        topics
    }
}

/// What is wrong with the request as a whole.
fn whole_refusal(request: &ProduceRequest) -> Option<ErrorCode> {
    if request.transactional_id.is_some() {
        // There are no transactions: an error that no client takes for a passing one.
        Some(ErrorCode::TransactionalIdAuthorizationFailed)
    } else if !(-1..=1).contains(&request.acks) {
        Some(ErrorCode::InvalidRequiredAcks)
    } else {
        None
    }
}

/// One batch, as its header has it.
struct Batch<'a> {
    bytes: &'a Bytes,
    records: u64,
}

/// The topic, if this client may write to it.
fn find_topic<'a>(
    context: &Context,
    image: &'a Image,
    topic: &TopicProduceData,
) -> Result<&'a Topic, ErrorCode> {
    let (found, unknown) = if context.version >= BY_ID {
        (image.topic_by_id(topic.topic_id), ErrorCode::UnknownTopicId)
    } else {
        (image.topic(&topic.name), ErrorCode::UnknownTopicOrPartition)
    };
    let topic = found.ok_or(unknown)?;
    if super::metadata::is_internal(&topic.name) && *context.peer.client_id.borrow() != ADMIN_CLIENT {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(topic)
}

fn partition_of(topic: &Topic, index: i32) -> Result<PartitionId, AppendRefusal> {
    let unknown = || AppendRefusal::code(ErrorCode::UnknownTopicOrPartition);
    topic.partition(index).map(|_| PartitionId::new(topic.id, index)).ok_or_else(unknown)
}

/// The records, if they are one batch that this version may carry (`ProduceRequest.validateRecords`).
fn one_batch(version: i16, records: &Records) -> Result<Batch<'_>, AppendRefusal> {
    let invalid = |what: &str| {
        let message = format!("Produce requests with version {version} {what}");
        AppendRefusal { code: ErrorCode::InvalidRecord, message: Some(message), records: None }
    };
    let none = || invalid("must have at least one record batch per partition");
    let bytes = records.bytes().ok_or_else(none)?;
    if batch::is_other_magic(bytes) {
        return Err(invalid("are only allowed to contain record batches with magic version 2"));
    }
    if bytes.len() < batch::HEADER_LEN {
        return Err(none());
    }
    let header = batch::Header::parse(bytes).map_err(|_| AppendRefusal::code(ErrorCode::CorruptMessage))?;
    if header.total_len() > bytes.len() {
        return Err(none());
    }
    if header.codec() == Some(batch::Codec::Zstd) && version < ZSTD {
        return Err(AppendRefusal {
            code: ErrorCode::UnsupportedCompressionType,
            message: Some(format!(
                "Produce requests with version {version} are not allowed to use ZStandard compression"
            )),
            records: None,
        });
    }
    if header.is_transactional() {
        return Err(AppendRefusal::code(ErrorCode::TransactionalIdAuthorizationFailed));
    }
    if header.total_len() < bytes.len() {
        return Err(invalid("must contain exactly one record batch per partition"));
    }
    Ok(Batch { bytes, records: u64::try_from(header.record_count).unwrap_or(0) })
}

fn accept(row: &mut PartitionProduceResponse, acknowledged: Acknowledged) {
    row.base_offset = acknowledged.base_offset;
    row.log_append_time_ms = acknowledged.log_append_time.unwrap_or(-1);
    row.log_start_offset = acknowledged.log_start;
}

fn refuse(row: &mut PartitionProduceResponse, refusal: AppendRefusal) {
    row.error_code = refusal.code;
    row.error_message = refusal.message.map(ByteString::from);
    if let Some((records, each)) = refusal.records {
        let each = ByteString::from(each);
        let error = |batch_index| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: Some(each.clone()),
        };
        row.record_errors = records.into_iter().map(error).collect();
    }
}
