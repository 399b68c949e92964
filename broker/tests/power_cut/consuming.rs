//! Consumers that follow partitions, look back, and remember all they have read.

use crate::administering::first_offset;
use crate::client::{Connection, Door};
use crate::ledger::{Ledger, Target};
use ringlog_engine::io::sim::Random;
use ringlog_engine::shard::Shard;
use ringlog_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ringlog_wire::{ErrorCode, Uuid};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// One consumer. It outlives the broker's processes.
pub(crate) struct Consumer {
    pub(crate) shard: Shard,
    pub(crate) door: Door,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) stopping: Rc<Cell<bool>>,
}

impl Consumer {
    /// Consumes until told to stop.
    pub(crate) async fn run(mut self) {
        let mut positions = BTreeMap::new();
        while !self.stopping.get() {
            let Some(mut connection) = self.door.connect().await else { return };
            let _ = self.talk(&mut connection, &mut positions).await;
            connection.close().await;
            self.pause(5_000).await;
        }
    }

    async fn pause(&mut self, micros: u64) {
        self.shard.sleep(Duration::from_micros(1 + self.random.below(micros))).await;
    }

    async fn talk(
        &mut self,
        connection: &mut Connection,
        positions: &mut BTreeMap<Target, i64>,
    ) -> Option<()> {
        let mut marks: BTreeMap<Target, i64> = BTreeMap::new();
        while !self.stopping.get() {
            let mut targets = self.ledger.targets();
            if targets.is_empty() {
                self.pause(20_000).await;
                continue;
            }
            let wanted = 1 + self.random.index(targets.len().min(3));
            while targets.len() > wanted {
                let at = self.random.index(targets.len());
                targets.swap_remove(at);
            }
            for target in &targets {
                let position = positions.entry(*target).or_insert(0);
                if self.random.one_in(16) && *position > 0 {
                    *position = i64::try_from(self.random.below(position.unsigned_abs())).unwrap();
                }
            }
            let wait = [0, 5, 200][self.random.index(3)];
            let bytes_max = [1, 2000, 100_000][self.random.index(3)];
            let request = fetch(&targets, positions, wait, bytes_max);
            let response = connection.call(VERSION, &request).await?;
            assert_eq!(response.error_code, ErrorCode::None, "a fetch without a session");
            let mut lost = Vec::new();
            for topic in &response.responses {
                for row in &topic.partitions {
                    let target = Target { topic: topic.topic_id.0, index: row.partition_index };
                    let position = positions.get_mut(&target).expect("what was asked for");
                    match row.error_code {
                        ErrorCode::None => {
                            let bytes = row.records.bytes().map_or(&[][..], |bytes| &bytes[..]);
                            let mark = marks.entry(target).or_insert(0);
                            assert!(*mark <= row.high_watermark, "{target:?}: the high watermark went back");
                            *mark = row.high_watermark;
                            *position = self.ledger.read(
                                connection.life,
                                target,
                                *position,
                                bytes,
                                row.high_watermark,
                            );
                        }
                        ErrorCode::OffsetOutOfRange => {
                            *position = self.ledger.out_of_range(connection.life, target, *position);
                            if self.ledger.retains(target) {
                                lost.push(target);
                            }
                        }
                        other => {
                            self.ledger.refused(target, connection.life, &format!("a fetch: {other}"));
                            return None;
                        }
                    }
                }
            }
            for target in lost {
                if let Ok(first) = first_offset(connection, &self.ledger, target).await? {
                    self.ledger.starts_at(target, connection.life, first);
                    positions.insert(target, first);
                }
            }
            self.pause(2_000).await;
        }
        Some(())
    }
}

/// A fetch of these partitions from their positions.
pub(crate) fn fetch(
    targets: &[Target],
    positions: &BTreeMap<Target, i64>,
    max_wait_ms: i32,
    bytes_max: i32,
) -> FetchRequest {
    let mut topics: BTreeMap<[u8; 16], Vec<FetchPartition>> = BTreeMap::new();
    for target in targets {
        topics.entry(target.topic).or_default().push(FetchPartition {
            partition: target.index,
            fetch_offset: positions[target],
            partition_max_bytes: bytes_max,
            ..FetchPartition::default()
        });
    }
    let topics = topics.into_iter().map(|(topic, partitions)| FetchTopic {
        topic_id: Uuid(topic),
        partitions,
        ..FetchTopic::default()
    });
    FetchRequest { max_wait_ms, min_bytes: 1, topics: topics.collect(), ..FetchRequest::default() }
}

/// Topics go by their ids.
pub(crate) const VERSION: i16 = 16;
