//! Reading back what a partition of `__consumer_offsets` keeps.

use super::{Broker, Coordinating, Progress};
use crate::group::record::GroupRecord;
use crate::partition::Partition;
use bytes::{Buf, Bytes, BytesMut};
use ringlog_engine::batch::{self, Header};
use ringlog_engine::log::{ReadLimit, ReadPart};
use ringlog_engine::records::{self, Record};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// What one batch may grow to when its records are unpacked.
const UNPACKED_BYTES_MAX: usize = 512 << 20;

impl Broker {
    /// Reads all records, then serves.
    pub(super) async fn load(self, coordinating: Rc<Coordinating>) {
        let mut load = Load::default();
        match self.replay(&coordinating, &mut load).await {
            Ok(()) => {
                load.report(&coordinating);
                if coordinating.progress.get() == Progress::Loading {
                    self.begin(&coordinating);
                }
            }
            Err(why) => {
                if coordinating.progress.replace(Progress::Ended) == Progress::Loading {
                    eprintln!(
                        "ERROR load groups of {:?}: {why}; they are not served",
                        coordinating.partition
                    );
                }
            }
        }
    }

    async fn replay(&self, coordinating: &Coordinating, load: &mut Load) -> Result<(), String> {
        let goes_on = || coordinating.progress.get() == Progress::Loading;
        self.read_back(&coordinating.partition, goes_on, |header, records| {
            let mut coordinator = coordinating.coordinator.borrow_mut();
            load.batch(header, records, |record| coordinator.replay(record))
        })
        .await
    }

    /// Reads all records of a coordinator's log, batch by batch.
    pub(in crate::broker) async fn read_back(
        &self,
        partition: &Partition,
        goes_on: impl Fn() -> bool,
        mut take: impl FnMut(&Header, Vec<Record>) -> Result<(), String>,
    ) -> Result<(), String> {
        let log = partition.log();
        let marks = log.marks();
        let mut at = marks.log_start;
        // Nobody appends before the records are known, so what is there now is all there is.
        while at < marks.log_end {
            let limit = ReadLimit { up_to: marks.log_end, bytes_max: READ_BYTES, at_least_one: true };
            let read = log.read(at, limit).await.map_err(|error| error.to_string())?;
            let mut bytes = joined(read.parts);
            if bytes.is_empty() {
                return Err(format!("the log ends at {at}, not at {}", marks.log_end));
            }
            while let Some(len) = batch::whole_len(&bytes) {
                let batch = bytes.split_to(len);
                let header = Header::parse(&batch).map_err(|_| format!("the batch at {at} is damaged"))?;
                let records = records::decode(&batch, UNPACKED_BYTES_MAX)
                    .map_err(|error| format!("the batch at {at}: {error}"))?;
                take(&header, records)?;
                at = header.next_offset();
            }
            self.0.shard.yield_now().await;
            if !goes_on() {
                return Err("the partition has gone".into());
            }
        }
        Ok(())
    }
}

fn joined(parts: Vec<ReadPart>) -> Bytes {
    let mut bytes = BytesMut::new();
    for part in parts {
        match part {
            ReadPart::Bytes(part) => bytes.extend_from_slice(&part),
            ReadPart::File { .. } => unreachable!("bytes were asked for"),
        }
    }
    bytes.freeze()
}

/// What must be known from one batch to the next.
#[derive(Default)]
struct Load {
    /// Offsets in transactions that are not decided, by producer id. ringlog has no transactions, but a log that Apache Kafka wrote may
    /// hold some.
    undecided: BTreeMap<i64, Vec<GroupRecord>>,
    /// Records of kinds of groups that ringlog does not have.
    passed_over: usize,
}

impl Load {
    fn batch(
        &mut self,
        header: &Header,
        records: Vec<Record>,
        mut replay: impl FnMut(GroupRecord),
    ) -> Result<(), String> {
        if header.is_control() {
            let undecided = self.undecided.remove(&header.producer_id).unwrap_or_default();
            if records.first().and_then(|record| record.key.as_ref()).is_some_and(commits) {
                undecided.into_iter().for_each(replay);
            }
            return Ok(());
        }
        for record in records {
            let key =
                record.key.as_ref().ok_or_else(|| format!("the record at {} has no key", record.offset))?;
            let read = GroupRecord::read(key, record.value.as_ref());
            match read.map_err(|error| format!("the record at {}: {error}", record.offset))? {
                Some(record) if header.is_transactional() => {
                    self.undecided.entry(header.producer_id).or_default().push(record);
                }
                Some(record) => replay(record),
                None => self.passed_over += 1,
            }
        }
        Ok(())
    }

    fn report(&self, coordinating: &Coordinating) {
        let undecided: usize = self.undecided.values().map(Vec::len).sum();
        if undecided > 0 {
            eprintln!(
                "{:?}: {undecided} offsets of transactions that never ended are left out",
                coordinating.partition
            );
        }
        if self.passed_over > 0 {
            eprintln!(
                "{:?}: {} records of groups of other protocols than the classic are left out",
                coordinating.partition, self.passed_over
            );
        }
    }
}

/// Whether a control record commits its transaction: version, then 0 for abort and 1 for commit.
fn commits(key: &Bytes) -> bool {
    let mut key = key.clone();
    key.try_get_i16().is_ok() && key.try_get_i16() == Ok(1)
}
