//! Who creates topics, deletes them, and creates others under their names; and what a broker that came back is asked.

use crate::client::{Connection, Door};
use crate::committing;
use crate::compacting::{self, Table};
use crate::consuming::{VERSION, fetch};
use crate::ledger::{Ledger, Name, Shape, Target};
use ringlog_engine::io::sim::Random;
use ringlog_engine::shard::Shard;
use ringlog_wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ringlog_wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use ringlog_wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ringlog_wire::metadata::MetadataRequest;
use ringlog_wire::{ErrorCode, Uuid};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The one who sees to the topics.
pub(crate) struct Admin {
    pub(crate) shard: Shard,
    pub(crate) door: Door,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) stopping: Rc<Cell<bool>>,
    /// The names it uses.
    pub(crate) topics: usize,
    /// Partitions of a topic, at most.
    pub(crate) partitions: i32,
    /// Whether it deletes any.
    pub(crate) deletes: bool,
    /// Whether some of them let go of records by themselves.
    pub(crate) retains: bool,
}

impl Admin {
    /// Goes on until told to stop.
    pub(crate) async fn run(mut self) {
        while !self.stopping.get() {
            let Some(mut connection) = self.door.connect().await else { return };
            let _ = self.talk(&mut connection).await;
            connection.close().await;
            self.pause(5_000).await;
        }
    }

    async fn pause(&mut self, micros: u64) {
        self.shard.sleep(Duration::from_micros(1 + self.random.below(micros))).await;
    }

    async fn talk(&mut self, connection: &mut Connection) -> Option<()> {
        while !self.stopping.get() {
            for at in 0..self.topics {
                let name = format!("topic-{at}");
                match self.ledger.name(&name) {
                    Name::Absent => {
                        let shape = Shape {
                            partitions: i32::try_from(
                                self.random.within(1, self.partitions.unsigned_abs().into()),
                            )
                            .unwrap(),
                            fsync: !self.random.one_in(3),
                            retains: self.retains && !self.random.one_in(3),
                        };
                        self.ledger.creation_begins(&name, shape);
                        self.create(connection, &name, shape).await?;
                    }
                    // A former connection broke before the answer came.
                    Name::Creating(shape) => self.create(connection, &name, shape).await?,
                    Name::Deleting(id) => self.delete(connection, &name, id).await?,
                    Name::Present(id) if self.deletes && self.random.one_in(4) => {
                        self.ledger.deletion_begins(&name, id);
                        self.delete(connection, &name, id).await?;
                    }
                    Name::Present(_) => {}
                }
            }
            self.pause(100_000).await;
        }
        Some(())
    }

    async fn create(&mut self, connection: &mut Connection, name: &str, shape: Shape) -> Option<()> {
        let mut configs = vec![
            ("durability", if shape.fsync { "fsync" } else { "replicated" }.to_owned()),
            // As small as Kafka allows: space prepared ahead is bounded by it.
            ("segment.bytes", (1 << 20).to_string()),
            // Segments are full when their indexes are: after a few batches.
            ("segment.index.bytes", [48, 120, 10_000][self.random.index(3)].to_string()),
            ("index.interval.bytes", [0, 0, 4096][self.random.index(3)].to_string()),
        ];
        if self.random.one_in(4) {
            configs.push(("segment.ms", "20".into()));
        }
        if self.random.one_in(4) {
            configs.push(("flush.messages", "20".into()));
        }
        if shape.retains {
            configs.push(("retention.bytes", [0, 1000, 20_000][self.random.index(3)].to_string()));
            configs.push(("retention.ms", ["-1", "20", "200"][self.random.index(3)].to_owned()));
            configs.push(("file.delete.delay.ms", ["0", "50"][self.random.index(2)].to_owned()));
        }
        let configs = configs
            .into_iter()
            .map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: shape.partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let response = connection.call(7, &request).await?;
        let result = &response.topics[0];
        match result.error_code {
            ErrorCode::None => self.ledger.created(name, result.topic_id),
            ErrorCode::TopicAlreadyExists => {
                let (id, _) = topics(connection).await?.get(name).copied()?;
                self.ledger.created(name, id);
            }
            other => self.ledger.failed(connection.life, &format!("creation of {name}: {other}")),
        }
        Some(())
    }

    async fn delete(&mut self, connection: &mut Connection, name: &str, id: Uuid) -> Option<()> {
        let state = DeleteTopicState { name: None, topic_id: id };
        let request = DeleteTopicsRequest { topics: vec![state], ..DeleteTopicsRequest::default() };
        let response = connection.call(6, &request).await?;
        match response.responses[0].error_code {
            ErrorCode::None | ErrorCode::UnknownTopicId => self.ledger.deleted(name, id),
            other => self.ledger.failed(connection.life, &format!("deletion of {name}: {other}")),
        }
        Some(())
    }
}

/// All topics, with how many partitions each has.
async fn topics(connection: &mut Connection) -> Option<BTreeMap<String, (Uuid, usize)>> {
    let request =
        MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() };
    let response = connection.call(12, &request).await?;
    let others = [Some(committing::TOPIC), Some(compacting::TOPIC)];
    let own = response.topics.into_iter().filter(|topic| !others.contains(&topic.name.as_deref()));
    let topics = own.map(|topic| {
        assert_eq!(topic.error_code, ErrorCode::None);
        let name = topic.name.expect("a topic has a name").to_string();
        (name, (topic.topic_id, topic.partitions.len()))
    });
    Some(topics.collect())
}

/// Holds a broker that came back against the ledger: all topics, all partitions, every byte. Whether it got to the end.
pub(crate) async fn check(door: Door, ledger: Ledger, table: Table) -> Option<()> {
    loop {
        let connection = door.connect().await?;
        if check_over(connection, &ledger, &table).await.is_some() {
            return Some(());
        }
    }
}

async fn check_over(mut connection: Connection, ledger: &Ledger, table: &Table) -> Option<()> {
    let there = topics(&mut connection).await?;
    // An answer may arrive when the process that gave it is gone.
    let is_current = |connection: &Connection| connection.life == ledger.life();
    is_current(&connection).then_some(())?;
    ledger.check_topics(&there);
    for target in ledger.targets() {
        let Some((log_start, log_end, bytes)) = read_all(&mut connection, ledger, target).await? else {
            continue;
        };
        is_current(&connection).then_some(())?;
        ledger.check_recovered(target, log_start, log_end, &bytes);
    }
    table.check(&mut connection, ledger).await?;
    connection.close().await;
    Some(())
}

/// Where a partition begins; the code where it does not say.
pub(crate) async fn first_offset(
    connection: &mut Connection,
    ledger: &Ledger,
    target: Target,
) -> Option<Result<i64, ErrorCode>> {
    // It may have been deleted since the caller heard of it.
    let Some(name) = ledger.name_of(target) else { return Some(Err(ErrorCode::UnknownTopicOrPartition)) };
    let partition =
        ListOffsetsPartition { partition_index: target.index, timestamp: EARLIEST, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: name.as_str().into(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    let response = connection.call(7, &request).await?;
    let row = &response.topics[0].partitions[0];
    Some(if row.error_code == ErrorCode::None { Ok(row.offset) } else { Err(row.error_code) })
}

/// Log start, log end and everything in between; nothing where the partition is offline and may be.
async fn read_all(
    connection: &mut Connection,
    ledger: &Ledger,
    target: Target,
) -> Option<Option<(i64, i64, Vec<u8>)>> {
    'anew: loop {
        let log_start = match first_offset(connection, ledger, target).await? {
            Ok(log_start) => log_start,
            Err(code) => {
                ledger.refused(target, connection.life, &format!("its first offset: {code}"));
                return Some(None);
            }
        };
        let mut position = log_start;
        let mut all = Vec::new();
        loop {
            let request = fetch(&[target], &BTreeMap::from([(target, position)]), 0, 1 << 20);
            let response = connection.call(VERSION, &request).await?;
            let row = &response.responses[0].partitions[0];
            if row.error_code == ErrorCode::OffsetOutOfRange && ledger.retains(target) {
                // It has just been let go of.
                continue 'anew;
            }
            if row.error_code != ErrorCode::None {
                let what = format!("a fetch from {position}: {}", row.error_code);
                ledger.refused(target, connection.life, &what);
                return Some(None);
            }
            let bytes = row.records.bytes().map_or(&[][..], |bytes| &bytes[..]);
            let end = position_after(target, position, bytes);
            all.extend_from_slice(bytes);
            if end >= row.high_watermark {
                return Some(Some((log_start, row.high_watermark, all)));
            }
            assert!(
                end > position,
                "{target:?}: nothing at {position}, and more before {}",
                row.high_watermark
            );
            position = end;
        }
    }
}

/// Where a run of batches that begins with the one at `from` ends: without a gap.
fn position_after(target: Target, from: i64, mut bytes: &[u8]) -> i64 {
    let mut end = from;
    while !bytes.is_empty() {
        let header = ringlog_engine::batch::Header::parse(bytes).unwrap();
        assert!(
            header.base_offset <= end && end < header.next_offset(),
            "{target:?}: a gap at {end}: {header:?}"
        );
        end = header.next_offset();
        bytes = &bytes[header.total_len()..];
    }
    end
}

/// ListOffsets: the first offset there is.
const EARLIEST: i64 = -2;
