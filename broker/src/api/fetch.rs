//! Fetch: what consumers (and one day followers) read.
//!
//! A request is put together with its session, read over all shards, parked while there is too little, and answered
//! with records that are not copied: slices of the logs' tails and ranges of their files.

use super::fetch_session::{
    Answered, Asked, Context as Session, Key, NewSession, Notable, SessionError, TopicKey, Wanted,
};
use super::{Context, Dispatched, decode};
use crate::broker::{Fetch, ReadResult};
use crate::net::{Part, Parts, Reply};
use crate::partition::{Found, PartitionId, Read, Reader as ReadAs};
use ringlog_engine::io::File;
use ringlog_wire as wire;
use ringlog_wire::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ringlog_wire::{ByteString, ErrorCode, Reader, Records, Uuid};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Versions from here on name topics by id.
const BY_ID: i16 = 13;
/// Versions from here on may carry zstd.
const ZSTD: i16 = 10;
/// Clients of versions up to here do not know KAFKA_STORAGE_ERROR.
const STORAGE_ERROR_UNKNOWN: i16 = 5;
/// The isolation level of readers of committed records.
const READ_COMMITTED: i8 = 1;
/// The replica id of consumers.
const CONSUMER: i32 = -1;

pub(super) fn dispatch(context: Context, mut reader: Reader<'_>) -> Dispatched {
    let request: FetchRequest = decode(&context, &mut reader)?;
    Ok(Box::pin(async move { Fetching { context, request }.answer().await }))
}

struct Fetching {
    context: Context,
    request: FetchRequest,
}

/// One partition's answer.
struct Row {
    wanted: Wanted,
    result: ReadResult,
}

impl Fetching {
    async fn answer(mut self) -> Reply {
        let broker = self.context.broker.clone();
        let asked = Asked {
            session_id: self.request.session_id,
            epoch: self.request.session_epoch,
            by_id: self.context.version >= BY_ID,
            from_follower: self.replica_id() >= 0,
        };
        let wanted = self.wanted().await;
        let forgotten = self.forgotten();
        let begun = broker.sessions().begin(broker.shard().now(), asked, wanted, &forgotten);
        let (session, wanted) = match begun {
            Ok(begun) => begun,
            Err(error) => return self.refuse(session_code(error), 0),
        };
        let (fetch, mut rows) = self.resolve(wanted).await;
        let (results, memory) = broker.fetch(&fetch).await;
        let mut results = results.into_iter();
        for row in rows.iter_mut().filter(|row| row.result.is_ok()) {
            row.result = results.next().expect("one result for each read");
        }
        // Kafka tells errors found before reading last.
        rows.sort_by_key(|row| {
            matches!(row.result, Err(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition))
        });
        let session_id = match session {
            Session::Sessionless => 0,
            Session::Full => self.begin_session(asked, &rows).await,
            Session::Incremental { id, next_epoch } => {
                if !broker.sessions().expects(id, next_epoch) {
                    return self.refuse(ErrorCode::InvalidFetchSessionEpoch, id);
                }
                rows = self.news(id, rows).await;
                id
            }
        };
        let mut files = Vec::new();
        let responses = self.topics(rows, &mut files).await;
        let response = FetchResponse { session_id, responses, ..Default::default() };
        match self.context.encode(self.context.version, &response) {
            Ok(parts) => self.context.answered(Reply::SendHeld(with_files(parts, &files), memory)),
            Err(why) => Reply::Close(why),
        }
    }

    /// Makes a session of what was answered, if there is room. Returns its id, or 0.
    async fn begin_session(&self, asked: Asked, rows: &[Row]) -> i32 {
        let broker = &self.context.broker;
        let now = broker.shard().now();
        if !broker.sessions().make_room(now, asked, rows.len()) {
            return 0;
        }
        let mut session = NewSession::new(now, asked);
        let mut portions = broker.shard().portions();
        for row in rows {
            portions.next().await;
            session.add(row.wanted.clone(), answered(&row.result));
        }
        broker.sessions().add(session, broker.shard().io().random())
    }

    /// What an incremental reply has to carry of these.
    async fn news(&self, session_id: i32, rows: Vec<Row>) -> Vec<Row> {
        let broker = &self.context.broker;
        let mut portions = broker.shard().portions();
        let mut news = Vec::new();
        for row in rows {
            portions.next().await;
            if broker.sessions().must_tell(session_id, &row.wanted.key, answered(&row.result)) {
                news.push(row);
            }
        }
        news
    }

    fn refuse(&self, error_code: ErrorCode, session_id: i32) -> Reply {
        self.context.reply(&FetchResponse { error_code, session_id, ..Default::default() })
    }

    fn replica_id(&self) -> i32 {
        if self.context.version >= 15 {
            self.request.replica_state.replica_id
        } else {
            self.request.replica_id
        }
    }

    /// What the request wants, a partition once: of two mentions the later counts, as in Kafka.
    async fn wanted(&mut self) -> Vec<Wanted> {
        let shard = self.context.broker.shard().clone();
        let mut portions = shard.portions();
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut places: HashMap<Key, usize> = HashMap::new();
        for topic in std::mem::take(&mut self.request.topics) {
            let topic_key = self.topic_key(&topic.topic, topic.topic_id);
            for partition in topic.partitions {
                portions.next().await;
                let key = Key { topic: topic_key.clone(), partition: partition.partition };
                let one = Wanted {
                    key: key.clone(),
                    fetch_offset: partition.fetch_offset,
                    bytes_max: partition.partition_max_bytes,
                    current_leader_epoch: super::epoch(partition.current_leader_epoch),
                    last_fetched_epoch: super::epoch(partition.last_fetched_epoch),
                    log_start_offset: partition.log_start_offset,
                };
                match places.get(&key) {
                    Some(&place) => wanted[place] = one,
                    None => {
                        places.insert(key, wanted.len());
                        wanted.push(one);
                    }
                }
            }
        }
        wanted
    }

    fn forgotten(&mut self) -> Vec<Key> {
        let topics = std::mem::take(&mut self.request.forgotten_topics_data);
        let keys = topics.iter().flat_map(|topic| {
            let topic_key = self.topic_key(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |&partition| Key { topic: topic_key.clone(), partition })
        });
        keys.collect()
    }

    fn topic_key(&self, name: &str, id: Uuid) -> TopicKey {
        if self.context.version >= BY_ID { TopicKey::id(id) } else { TopicKey::Name(Arc::from(name)) }
    }

    /// What is to be read, and a row for everything wanted: those to be read are `Ok` until they are.
    async fn resolve(&self, wanted: Vec<Wanted>) -> (Fetch, Vec<Row>) {
        let broker = &self.context.broker;
        let reader = match (self.replica_id(), self.request.isolation_level) {
            (CONSUMER, READ_COMMITTED) => ReadAs::CommittedConsumer,
            (CONSUMER, _) => ReadAs::Consumer,
            _ => ReadAs::Replica,
        };
        let mut reads = Vec::with_capacity(wanted.len());
        let mut rows = Vec::with_capacity(wanted.len());
        let mut portions = broker.shard().portions();
        for wanted in wanted {
            portions.next().await;
            let result = self.partition(&wanted.key).map(|partition| {
                let read = Read {
                    reader,
                    from: wanted.fetch_offset,
                    bytes_max: usize::try_from(wanted.bytes_max).unwrap_or(0),
                    at_least_one: true,
                    current_leader_epoch: wanted.current_leader_epoch,
                    last_fetched_epoch: wanted.last_fetched_epoch,
                };
                reads.push((partition, read));
                Found::default()
            });
            rows.push(Row { wanted, result });
        }
        let bytes_max =
            usize::try_from(self.request.max_bytes).unwrap_or(0).min(broker.config().fetch_bytes_max);
        let refused = rows.iter().any(|row| row.result.is_err());
        // With nothing to read, or something wrong, there is nothing to wait for.
        let wait_ms = if reads.is_empty() || refused { 0 } else { self.request.max_wait_ms };
        let fetch = Fetch {
            reads,
            bytes_min: usize::try_from(self.request.min_bytes).unwrap_or(0).min(bytes_max),
            bytes_max,
            wait: Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)),
        };
        (fetch, rows)
    }

    fn partition(&self, key: &Key) -> Result<PartitionId, ErrorCode> {
        let image = self.context.broker.image();
        let topic = match &key.topic {
            TopicKey::Name(name) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
            TopicKey::Id(id) => image.topic_by_id(Uuid(*id)).ok_or(ErrorCode::UnknownTopicId)?,
        };
        if topic.partition(key.partition).is_none() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        if self.context.version < ZSTD && self.context.broker.topic_config(topic).zstd_only {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        // A follower must be a replica of the partition, and on a single node there is none.
        if self.replica_id() >= 0 {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok(PartitionId::new(topic.id, key.partition))
    }

    /// Rows of one topic that follow each other share its entry.
    async fn topics(&self, rows: Vec<Row>, files: &mut Vec<(File, u64)>) -> Vec<FetchableTopicResponse> {
        let mut portions = self.context.broker.shard().portions();
        let mut topics: Vec<FetchableTopicResponse> = Vec::new();
        let mut last: Option<TopicKey> = None;
        for Row { wanted, result } in rows {
            portions.next().await;
            let Key { topic, partition } = wanted.key;
            if last.as_ref() != Some(&topic) {
                let (name, topic_id) = match &topic {
                    TopicKey::Name(name) => (ByteString::from(&**name), Uuid::ZERO),
                    TopicKey::Id(id) => (ByteString::new(), Uuid(*id)),
                };
                topics.push(FetchableTopicResponse { topic: name, topic_id, partitions: Vec::new() });
                last = Some(topic);
            }
            let data = self.partition_data(partition, result, files);
            topics.last_mut().expect("just pushed").partitions.push(data);
        }
        topics
    }

    fn partition_data(
        &self,
        partition_index: i32,
        result: ReadResult,
        files: &mut Vec<(File, u64)>,
    ) -> PartitionData {
        let found = match result {
            Ok(found) => found,
            Err(code) => {
                let error_code = match code {
                    ErrorCode::KafkaStorageError if self.context.version <= STORAGE_ERROR_UNKNOWN => {
                        ErrorCode::NotLeaderOrFollower
                    }
                    code => code,
                };
                return PartitionData {
                    partition_index,
                    error_code,
                    high_watermark: -1,
                    aborted_transactions: None,
                    records: Records::empty(),
                    ..Default::default()
                };
            }
        };
        self.context.broker.metrics().fetched(found.bytes as u64);
        let aborted = found.aborted.iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
        });
        let read_committed = self.request.isolation_level == READ_COMMITTED;
        let diverging =
            found.diverging.map(|end| EpochEndOffset { epoch: end.epoch, end_offset: end.end_offset });
        PartitionData {
            partition_index,
            high_watermark: found.high_watermark,
            last_stable_offset: found.last_stable_offset,
            log_start_offset: found.log_start,
            diverging_epoch: diverging.unwrap_or_default(),
            aborted_transactions: read_committed.then(|| aborted.collect()),
            records: records(found.records, files),
            ..Default::default()
        }
    }
}

fn session_code(error: SessionError) -> ErrorCode {
    match error {
        SessionError::IdNotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicId => ErrorCode::FetchSessionTopicIdError,
    }
}

fn answered(result: &ReadResult) -> Answered {
    match result {
        Ok(found) => Answered {
            records: found.bytes,
            high_watermark: found.high_watermark,
            log_start_offset: found.log_start,
            notable: if found.diverging.is_some() { Notable::Hint } else { Notable::No },
        },
        Err(_) => Answered { records: 0, high_watermark: -1, log_start_offset: -1, notable: Notable::Error },
    }
}

/// Records as the wire takes them; ranges of files are named by their place in `files`.
fn records(parts: Vec<Part>, files: &mut Vec<(File, u64)>) -> Records {
    if parts.is_empty() {
        return Records::empty();
    }
    let chain = parts.into_iter().map(|part| match part {
        Part::Bytes(bytes) => wire::Part::Bytes(bytes),
        Part::File { file, pos, len } => {
            let id = u32::try_from(files.len()).expect("far fewer ranges");
            files.push((file, pos));
            wire::Part::External { len: usize::try_from(len).expect("within a fetch's bytes"), id }
        }
    });
    Records::Chain(chain.collect())
}

fn with_files(parts: wire::Parts, files: &[(File, u64)]) -> Parts {
    parts
        .into_iter()
        .map(|part| match part {
            wire::Part::Bytes(bytes) => Part::Bytes(bytes),
            wire::Part::External { len, id } => {
                let (file, pos) = &files[id as usize];
                Part::File { file: file.clone(), pos: *pos, len: len as u64 }
            }
        })
        .collect()
}
