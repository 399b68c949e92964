//! Kafka's metadata (KRaft) as far as ringlog has a use for it: read from the folder of its log, and written as a snapshot there.
//!
//! ```text
//!   __cluster_metadata-0/
//!     00000000000000000000.log                      batches of records, each one change
//!     00000000000000004711-0000000002.checkpoint    a snapshot: what the records before offset 4711 come to
//! ```

use bytes::Bytes;
use ringlog_engine::batch::{self, Codec};
use ringlog_engine::records::{self, Builder};
use ringlog_wire::metadata_records::{
    ABORT_TRANSACTION, BEGIN_TRANSACTION, ConfigRecord, END_TRANSACTION, FeatureLevelRecord, MetadataRecord,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RecordHead, RemoveTopicRecord, TopicRecord,
};
use ringlog_wire::{ByteString, EncodeError, Reader, Uuid};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What Kafka's metadata says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// By id.
    pub topics: BTreeMap<[u8; 16], KraftTopic>,
    /// Configs of topics, by topic and name.
    pub topic_configs: BTreeMap<(String, String), String>,
    /// Other records that were there, by their key: how many.
    pub others: BTreeMap<i16, usize>,
    /// The lowest producer id nobody has.
    pub next_producer_id: i64,
    /// The offset after the last record, and the epoch of its leader.
    pub end: (i64, i32),
}

/// A topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KraftTopic {
    /// Its name.
    pub name: String,
    /// Its partitions, by index.
    pub partitions: BTreeMap<i32, ReplicaState>,
}

/// Who holds a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaState {
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
    /// Those that left the in-sync set with everything it had acknowledged (KIP-966), as one that is stopped does.
    pub eligible: Vec<i32>,
    /// Who leads it, if somebody does.
    pub leader: Option<i32>,
    /// The leader's epoch.
    pub leader_epoch: i32,
}

/// The config of a topic.
const TOPIC: i8 = 2;

impl Cluster {
    /// Reads the folder of a metadata log: its newest snapshot, and the records that came after it.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let (snapshot, segments) = files(folder)?;
        let mut cluster = Self::default();
        let mut from = 0;
        if let Some((end, epoch, path)) = snapshot {
            cluster.replay(&path, &Bytes::from(std::fs::read(&path)?), 0)?;
            from = end;
            cluster.end = (end, epoch);
        }
        let mut open = None;
        for (_, path) in segments {
            let bytes = Bytes::from(std::fs::read(&path)?);
            cluster.replay_into(&path, &bytes, from, &mut open)?;
        }
        Ok(cluster)
    }

    /// Applies the batches of a file from an offset on.
    pub fn replay(&mut self, path: &Path, bytes: &Bytes, from: i64) -> io::Result<()> {
        self.replay_into(path, bytes, from, &mut None)
    }

    /// `open` holds what a metadata transaction has said so far: it counts when the transaction ends.
    fn replay_into(
        &mut self,
        path: &Path,
        bytes: &Bytes,
        from: i64,
        open: &mut Option<Vec<Bytes>>,
    ) -> io::Result<()> {
        let damaged = |pos: usize, why: &str| {
            let what = format!("{} at byte {pos}: {why}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let mut pos = 0;
        // What follows the last whole batch was being written, or is space for more.
        while let Some(len) = batch::whole_len(&bytes[pos..]) {
            let one = bytes.slice(pos..pos + len);
            let Ok(header) = batch::verify(&one) else { break };
            if header.base_offset >= from && !header.is_control() {
                let records = records::decode(&one, RECORDS_BYTES_MAX)
                    .map_err(|error| damaged(pos, &error.to_string()))?;
                for record in records {
                    let value =
                        record.value.ok_or_else(|| damaged(pos, "a metadata record without a value"))?;
                    self.take(value, open).map_err(|why| damaged(pos, &why))?;
                }
            }
            if header.base_offset >= from {
                self.end = (header.next_offset(), header.leader_epoch.max(self.end.1));
            }
            pos += len;
        }
        Ok(())
    }

    fn take(&mut self, value: Bytes, open: &mut Option<Vec<Bytes>>) -> Result<(), String> {
        let head = RecordHead::read(&mut Reader::new(&value)).map_err(|error| error.to_string())?;
        match (head.key, open.as_mut()) {
            (BEGIN_TRANSACTION, _) => *open = Some(Vec::new()),
            (ABORT_TRANSACTION, _) => *open = None,
            (END_TRANSACTION, _) => {
                for value in open.take().into_iter().flatten() {
                    self.apply(&value)?;
                }
            }
            (_, Some(held)) => held.push(value),
            (_, None) => self.apply(&value)?,
        }
        Ok(())
    }

    /// Applies one record's value.
    pub fn apply(&mut self, value: &Bytes) -> Result<(), String> {
        let words = |error: ringlog_wire::DecodeError| error.to_string();
        let mut reader = Reader::new(value);
        let reader = &mut reader;
        let head = RecordHead::read(reader).map_err(words)?;
        match head.key {
            TopicRecord::KEY => {
                let record = TopicRecord::decode(reader, head).map_err(words)?;
                let topic = KraftTopic { name: record.name.to_string(), partitions: BTreeMap::new() };
                self.topics.insert(record.topic_id.0, topic);
            }
            PartitionRecord::KEY => {
                let record = PartitionRecord::decode(reader, head).map_err(words)?;
                let state = ReplicaState {
                    replicas: record.replicas,
                    isr: record.isr,
                    eligible: record.eligible_leader_replicas.unwrap_or_default(),
                    leader: Some(record.leader).filter(|leader| *leader >= 0),
                    leader_epoch: record.leader_epoch,
                };
                self.topic(record.topic_id)?.partitions.insert(record.partition_id, state);
            }
            PartitionChangeRecord::KEY => {
                let record = PartitionChangeRecord::decode(reader, head).map_err(words)?;
                let topic = self.topic(record.topic_id)?;
                let state = topic.partitions.get_mut(&record.partition_id);
                change(
                    state.ok_or_else(|| format!("partition {} is not there", record.partition_id))?,
                    record,
                );
            }
            RemoveTopicRecord::KEY => {
                let record = RemoveTopicRecord::decode(reader, head).map_err(words)?;
                if let Some(topic) = self.topics.remove(&record.topic_id.0) {
                    self.topic_configs.retain(|(name, _), _| *name != topic.name);
                }
            }
            ConfigRecord::KEY => {
                let record = ConfigRecord::decode(reader, head).map_err(words)?;
                if record.resource_type != TOPIC {
                    *self.others.entry(head.key).or_default() += 1;
                    return Ok(());
                }
                let key = (record.resource_name.to_string(), record.name.to_string());
                match record.value {
                    Some(value) => self.topic_configs.insert(key, value.to_string()),
                    None => self.topic_configs.remove(&key),
                };
            }
            ProducerIdsRecord::KEY => {
                self.next_producer_id =
                    ProducerIdsRecord::decode(reader, head).map_err(words)?.next_producer_id;
            }
            other => *self.others.entry(other).or_default() += 1,
        }
        Ok(())
    }

    fn topic(&mut self, id: Uuid) -> Result<&mut KraftTopic, String> {
        self.topics.get_mut(&id.0).ok_or_else(|| format!("topic {id} is not there"))
    }

    /// A snapshot of this, as a node by itself has it: every partition is its own, in sync, and waits for its next leader.
    pub fn snapshot(
        &self,
        directory_of: impl Fn(&[u8; 16], i32) -> Uuid,
        now: i64,
    ) -> Result<Bytes, EncodeError> {
        let mut values = vec![
            FeatureLevelRecord { name: METADATA_VERSION.0.into(), feature_level: METADATA_VERSION.1 }
                .encode(0)?,
        ];
        for (id, topic) in &self.topics {
            let topic_id = Uuid(*id);
            values.push(TopicRecord { name: ByteString::from(topic.name.as_str()), topic_id }.encode(0)?);
            for (&partition_id, state) in &topic.partitions {
                let record = PartitionRecord {
                    partition_id,
                    topic_id,
                    replicas: state.replicas.clone(),
                    isr: state.isr.clone(),
                    leader: state.leader.unwrap_or(-1),
                    leader_epoch: state.leader_epoch,
                    partition_epoch: 0,
                    directories: vec![directory_of(id, partition_id); state.replicas.len()],
                    ..Default::default()
                };
                values.push(record.encode(1)?);
            }
        }
        for ((topic, name), value) in &self.topic_configs {
            let record = ConfigRecord {
                resource_type: TOPIC,
                resource_name: topic.as_str().into(),
                name: name.as_str().into(),
                value: Some(value.as_str().into()),
            };
            values.push(record.encode(0)?);
        }
        let ids =
            ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id: self.next_producer_id };
        values.push(ids.encode(0)?);
        Ok(snapshot_file(&values, self.end.1, now))
    }
}

fn change(state: &mut ReplicaState, record: PartitionChangeRecord) {
    if let Some(isr) = record.isr {
        state.isr = isr;
    }
    if let Some(eligible) = record.eligible_leader_replicas {
        state.eligible = eligible;
    }
    if let Some(replicas) = record.replicas {
        state.replicas = replicas;
    }
    // A leader that is named is a new one, even when it is the same broker.
    if record.leader != NO_CHANGE {
        state.leader = Some(record.leader).filter(|leader| *leader >= 0);
        state.leader_epoch += 1;
    }
}

/// What a change says where the leader stays.
const NO_CHANGE: i32 = -2;

/// Batches of these records, between the header and the footer that Kafka asks for.
fn snapshot_file(values: &[Bytes], epoch: i32, now: i64) -> Bytes {
    let mut file = Vec::new();
    let mut offset = 0;
    let mut put = |builder: Builder| {
        let count = i64::from(builder.count());
        let mut batch = builder.build().to_vec();
        batch::stamp(&mut batch, offset, epoch);
        offset += count;
        file.extend(batch);
    };
    // Version i16 = 0, the time of the last record in it, no tagged fields.
    put(control(SNAPSHOT_HEADER, &[&0_i16.to_be_bytes()[..], &now.to_be_bytes(), &[0]].concat(), now));
    for values in values.chunks(RECORDS_A_BATCH) {
        let mut builder = Builder::new(Codec::None);
        for value in values {
            builder.push(now, None, Some(value), &[]);
        }
        put(builder);
    }
    put(control(SNAPSHOT_FOOTER, &[&0_i16.to_be_bytes()[..], &[0]].concat(), now));
    file.into()
}

fn control(says: i16, value: &[u8], now: i64) -> Builder {
    let mut builder = Builder::new(Codec::None).control();
    let key = [&0_i16.to_be_bytes()[..], &says.to_be_bytes()].concat();
    builder.push(now, Some(&key), Some(value), &[]);
    builder
}

/// What the keys of control records say.
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;

/// The metadata's version that is written: that of Kafka 3.9, which every Kafka from there on reads and can raise.
const METADATA_VERSION: (&str, i16) = ("metadata.version", 21);

const RECORDS_A_BATCH: usize = 1000;
/// Far above Kafka's 8 MiB for a batch of metadata.
const RECORDS_BYTES_MAX: usize = 1 << 30;

/// A file named for an offset.
type Named = (i64, PathBuf);

/// A snapshot's end, its epoch, its path.
type Snapshot = (i64, i32, PathBuf);

/// The newest snapshot, and the segments in order.
fn files(folder: &Path) -> io::Result<(Option<Snapshot>, Vec<Named>)> {
    let mut snapshot = None;
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(base) = name.strip_suffix(".log").and_then(|base| base.parse().ok()) {
            segments.push((base, path));
        } else if let Some((end, epoch)) = name.strip_suffix(".checkpoint").and_then(snapshot_id) {
            snapshot = snapshot.max(Some((end, epoch, path)));
        }
    }
    segments.sort();
    Ok((snapshot, segments))
}

/// `00000000000000004711-0000000002` is 4711 and 2.
fn snapshot_id(name: &str) -> Option<(i64, i32)> {
    let (end, epoch) = name.split_once('-')?;
    Some((end.parse().ok()?, epoch.parse().ok()?))
}

/// The name of a snapshot that ends at this offset of this epoch.
pub(super) fn snapshot_name((end, epoch): (i64, i32)) -> String {
    format!("{end:020}-{epoch:010}.checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Cluster {
        let state = |leader_epoch| ReplicaState {
            replicas: vec![1],
            isr: vec![1],
            eligible: vec![],
            leader: None,
            leader_epoch,
        };
        let partitions = BTreeMap::from([(0, state(3)), (1, state(7))]);
        Cluster {
            topics: BTreeMap::from([([5; 16], KraftTopic { name: "orders".into(), partitions })]),
            topic_configs: BTreeMap::from([(("orders".into(), "retention.ms".into()), "-1".into())]),
            others: BTreeMap::new(),
            next_producer_id: 4000,
            end: (1, 1),
        }
    }

    #[test]
    fn a_snapshot_is_read_back() {
        let cluster = sample();
        let file = cluster.snapshot(|_, _| Uuid([9; 16]), 1_700_000_000_000).expect("it can be written");
        let mut read = Cluster::default();
        read.replay(Path::new("snapshot"), &file, 0).expect("it can be read");
        // The features are all that is new; a header, a batch of six records, a footer.
        assert_eq!(read.others, BTreeMap::from([(FeatureLevelRecord::KEY, 1)]));
        assert_eq!(Cluster { others: BTreeMap::new(), end: cluster.end, ..read }, cluster);
    }

    #[test]
    fn what_a_transaction_says_counts_when_it_has_ended() {
        let mut cluster = sample();
        let mut open = None;
        let plain = |key: i16| Bytes::from(vec![1, u8::try_from(key).expect("small"), 0, 0]);
        let topic = |id: u8| {
            TopicRecord { name: format!("t{id}").into(), topic_id: Uuid([id; 16]) }
                .encode(0)
                .expect("a record")
        };
        let remove = RemoveTopicRecord { topic_id: Uuid([5; 16]) }.encode(0).expect("a record");
        for value in [plain(BEGIN_TRANSACTION), topic(1), remove.clone(), plain(ABORT_TRANSACTION)] {
            cluster.take(value, &mut open).expect("it fits");
        }
        assert_eq!(cluster, sample());
        for value in [plain(BEGIN_TRANSACTION), topic(2), remove, plain(END_TRANSACTION)] {
            cluster.take(value, &mut open).expect("it fits");
        }
        assert_eq!(cluster.topics.keys().collect::<Vec<_>>(), [&[2; 16]]);
        assert!(cluster.topic_configs.is_empty(), "a deleted topic's configs go with it");
    }

    #[test]
    fn a_change_names_a_new_leader_or_none() {
        let mut cluster = sample();
        let mut change = |leader: i32, isr: Option<Vec<i32>>| {
            let record = PartitionChangeRecord {
                partition_id: 1,
                topic_id: Uuid([5; 16]),
                leader,
                isr,
                ..Default::default()
            };
            cluster.apply(&record.encode(2).expect("a record")).expect("it fits");
            cluster.topics[&[5; 16]].partitions[&1].clone()
        };
        let state = change(NO_CHANGE, Some(vec![1, 2]));
        assert_eq!((state.leader, state.leader_epoch, state.isr), (None, 7, vec![1, 2]));
        assert_eq!(change(1, None).leader, Some(1));
        assert_eq!(change(-1, None).leader_epoch, 9);
    }
}
