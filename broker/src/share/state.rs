//! What is kept of share partitions in one partition of `__share_group_state`: pure, as the groups are.
//!
//! A share partition is a snapshot and the updates after it. What a record says is in force when it lies in the log ([`States::applied`]);
//! whoever wrote it is told when it is durable. Records are applied by the same code when they are read back.

use super::record::StateRecord;
use std::collections::BTreeMap;

/// A share partition: which group reads which partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// The group.
    pub group: String,
    /// The topic's id.
    pub topic: [u8; 16],
    /// The partition's index.
    pub partition: i32,
}

impl StateKey {
    /// The partition of `__share_group_state` that keeps it: by Java's hash of its text, as in Kafka.
    pub fn kept_in(&self, partitions: usize) -> i32 {
        let topic = ringlog_wire::Uuid(self.topic);
        let text = format!("{}:{}:{}", self.group, topic, self.partition);
        crate::group::partition_for(&text, partitions)
    }
}

/// What has become of a record, as it is kept. Who has acquired it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is to be delivered, again perhaps.
    Available,
    /// It was accepted.
    Acknowledged,
    /// It was rejected, is not there, or was delivered too often.
    Archived,
}

impl Delivery {
    /// Kafka's number for it.
    pub fn code(self) -> i8 {
        match self {
            Self::Available => 0,
            Self::Acknowledged => 2,
            Self::Archived => 4,
        }
    }

    /// The one with this number.
    pub fn from_code(code: i8) -> Option<Self> {
        Some(match code {
            0 => Self::Available,
            2 => Self::Acknowledged,
            4 => Self::Archived,
            _ => return None,
        })
    }
}

/// A range of records of which the same is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateBatch {
    /// The first offset.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// What has become of them.
    pub delivery: Delivery,
    /// How often they were delivered.
    pub deliveries: i16,
}

/// What is kept of a share partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Counts its snapshots.
    pub snapshot_epoch: i32,
    /// Changes when somebody sets where it starts.
    pub state_epoch: i32,
    /// The epoch of the partition's leader that wrote it.
    pub leader_epoch: i32,
    /// The first offset that is not done with; -1 before the first read.
    pub start: i64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was written.
    pub written_ms: i64,
    /// Records from there on, in order.
    pub batches: Vec<StateBatch>,
}

impl Stored {
    /// Records from the start on that are done with.
    pub fn complete_count(&self) -> i32 {
        let done = self.batches.iter().filter(|batch| batch.delivery != Delivery::Available);
        let count: i64 = done.map(|batch| batch.last - batch.first.max(self.start) + 1).sum();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// What comes later goes before what was.
    fn merge(&mut self, start: i64, batches: &[StateBatch]) {
        // A change that was begun before another was done with may say less.
        self.start = self.start.max(start);
        let mut merged: Vec<StateBatch> = Vec::new();
        for batch in batches {
            let mut kept = Vec::with_capacity(self.batches.len() + 2);
            for old in &self.batches {
                if old.last < batch.first || old.first > batch.last {
                    kept.push(*old);
                    continue;
                }
                if old.first < batch.first {
                    kept.push(StateBatch { last: batch.first - 1, ..*old });
                }
                if old.last > batch.last {
                    kept.push(StateBatch { first: batch.last + 1, ..*old });
                }
            }
            kept.push(*batch);
            kept.sort_unstable_by_key(|batch| batch.first);
            self.batches = kept;
        }
        for batch in &self.batches {
            // What is done with at the start is passed over.
            if batch.first <= self.start && batch.delivery != Delivery::Available {
                self.start = self.start.max(batch.last + 1);
            }
            if batch.last < self.start {
                continue;
            }
            match merged.last_mut() {
                Some(last)
                    if last.last + 1 == batch.first
                        && (last.delivery, last.deliveries) == (batch.delivery, batch.deliveries) =>
                {
                    last.last = batch.last;
                }
                _ => merged.push(*batch),
            }
        }
        self.batches = merged;
    }
}

/// What changes of a share partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Of which snapshot.
    pub snapshot_epoch: i32,
    /// The epoch of the partition's leader.
    pub leader_epoch: i32,
    /// The first offset that is not done with; -1: as before.
    pub start: i64,
    /// Records from the start on that are done with, afterwards.
    pub complete_count: i32,
    /// What changes.
    pub batches: Vec<StateBatch>,
}

/// One question to whoever keeps a share partition.
#[derive(Debug, Clone)]
pub enum StateRequest {
    /// What is kept.
    Read,
    /// Keep this; refused if somebody has set where it starts since it was read.
    Write {
        /// The state epoch it had then; `None` if nothing was kept.
        state_epoch: Option<i32>,
        /// The epoch of the partition's leader.
        leader_epoch: i32,
        /// The first offset that is not done with.
        start: i64,
        /// What changes.
        batches: Vec<StateBatch>,
    },
    /// Somebody sets where it starts; nothing of before counts.
    Set {
        /// Where.
        start: i64,
    },
    /// Forget it.
    Delete,
}

/// The share partitions that are kept in one partition.
#[derive(Debug, Default)]
pub struct States {
    kept: BTreeMap<StateKey, Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    stored: Stored,
    /// Where its snapshot lies.
    snapshot_at: i64,
    updates: u32,
}

impl States {
    /// What is kept of a share partition.
    pub fn get(&self, key: &StateKey) -> Option<&Stored> {
        self.kept.get(key).map(|kept| &kept.stored)
    }

    /// All share partitions there are.
    pub fn keys(&self) -> impl Iterator<Item = &StateKey> {
        self.kept.keys()
    }

    /// Whether a request is out of date.
    pub fn is_fenced(&self, key: &StateKey, request: &StateRequest) -> bool {
        let StateRequest::Write { state_epoch, .. } = request else { return false };
        *state_epoch != self.get(key).map(|stored| stored.state_epoch)
    }

    /// The record that says what a request wants kept; `None` if nothing changes.
    pub fn record(
        &self,
        now_ms: i64,
        key: &StateKey,
        request: &StateRequest,
        updates_max: u32,
    ) -> Option<StateRecord> {
        let kept = self.kept.get(key);
        match request {
            StateRequest::Read => None,
            StateRequest::Delete => kept.map(|_| StateRecord::Snapshot { key: key.clone(), value: None }),
            StateRequest::Set { start } => {
                let before = kept.map(|kept| kept.stored.clone()).unwrap_or_default();
                let stored = Stored {
                    snapshot_epoch: before.snapshot_epoch + i32::from(kept.is_some()),
                    state_epoch: before.state_epoch + 1,
                    leader_epoch: before.leader_epoch,
                    start: *start,
                    created_ms: kept.map_or(now_ms, |kept| kept.stored.created_ms),
                    written_ms: now_ms,
                    batches: Vec::new(),
                };
                Some(StateRecord::Snapshot { key: key.clone(), value: Some(stored) })
            }
            StateRequest::Write { leader_epoch, start, batches, .. } => {
                let mut after = match kept {
                    Some(kept) => kept.stored.clone(),
                    None => Stored { created_ms: now_ms, ..Stored::default() },
                };
                after.merge(*start, batches);
                after.leader_epoch = *leader_epoch;
                after.written_ms = now_ms;
                Some(match kept {
                    Some(kept) if kept.updates < updates_max => {
                        let value = Update {
                            snapshot_epoch: kept.stored.snapshot_epoch,
                            leader_epoch: *leader_epoch,
                            start: *start,
                            complete_count: after.complete_count(),
                            batches: batches.clone(),
                        };
                        StateRecord::Update { key: key.clone(), value }
                    }
                    _ => {
                        after.snapshot_epoch += i32::from(kept.is_some());
                        StateRecord::Snapshot { key: key.clone(), value: Some(after) }
                    }
                })
            }
        }
    }

    /// A record lies in the log, at this offset.
    pub fn applied(&mut self, offset: i64, record: StateRecord) {
        match record {
            StateRecord::Snapshot { key, value: Some(stored) } => {
                self.kept.insert(key, Kept { stored, snapshot_at: offset, updates: 0 });
            }
            StateRecord::Snapshot { key, value: None } => {
                self.kept.remove(&key);
            }
            StateRecord::Update { key, value } => {
                // An update of a snapshot that is gone says nothing.
                if let Some(kept) = self.kept.get_mut(&key) {
                    kept.stored.merge(value.start, &value.batches);
                    kept.stored.leader_epoch = value.leader_epoch;
                    kept.updates += 1;
                }
            }
        }
    }

    /// Share partitions whose snapshots lie before an offset, as they are now: written again, what lies before it is not needed any more.
    pub fn snapshots_before(&self, offset: i64, now_ms: i64) -> Vec<StateRecord> {
        let old = self.kept.iter().filter(|(_, kept)| kept.snapshot_at < offset);
        old.map(|(key, kept)| {
            let stored = Stored {
                snapshot_epoch: kept.stored.snapshot_epoch + 1,
                written_ms: now_ms,
                ..kept.stored.clone()
            };
            StateRecord::Snapshot { key: key.clone(), value: Some(stored) }
        })
        .collect()
    }

    /// The first offset that is needed; `None` if nothing is.
    pub fn needed_from(&self) -> Option<i64> {
        self.kept.values().map(|kept| kept.snapshot_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch((first, len, code, deliveries): (i64, i64, u8, i16)) -> StateBatch {
        let delivery =
            [Delivery::Available, Delivery::Acknowledged, Delivery::Archived][usize::from(code % 3)];
        StateBatch { first, last: first + len, delivery, deliveries }
    }

    fn key(partition: i32) -> StateKey {
        StateKey { group: "g".into(), topic: [7; 16], partition }
    }

    #[test]
    fn a_share_partition_is_kept_where_kafka_keeps_it() {
        // Java: Math.abs("g:BwcHBwcHBwcHBwcHBwcHBw:0".hashCode()) % 50.
        let text = format!("g:{}:0", ringlog_wire::Uuid([7; 16]));
        assert_eq!(text, "g:BwcHBwcHBwcHBwcHBwcHBw:0");
        assert_eq!(key(0).kept_in(50), crate::group::partition_for(&text, 50));
    }

    proptest! {
        /// Each offset has what was said of it last, whether it is read from the updates or from a snapshot made on the way.
        #[test]
        fn what_was_said_last_of_an_offset_is_kept(
            writes in prop::collection::vec((prop::collection::vec((0_i64..40, 0_i64..8, any::<u8>(), 0_i16..4), 1..4), 0_i64..20), 1..20),
            updates_max in 0_u32..4,
        ) {
            let mut states = States::default();
            let mut replayed = States::default();
            let mut model: BTreeMap<i64, (Delivery, i16)> = BTreeMap::new();
            let (mut start, mut said) = (0, 0);
            for (at, (batches, forward)) in writes.into_iter().enumerate() {
                let batches: Vec<_> = batches.into_iter().map(batch).collect();
                said += forward / 10;
                start = start.max(said);
                for batch in &batches {
                    for offset in batch.first..=batch.last {
                        model.insert(offset, (batch.delivery, batch.deliveries));
                    }
                }
                model.retain(|offset, _| *offset >= start);
                while model.get(&start).is_some_and(|(delivery, _)| *delivery != Delivery::Available) {
                    model.remove(&start);
                    start += 1;
                }
                let state_epoch = states.get(&key(0)).map(|stored| stored.state_epoch);
                let request = StateRequest::Write { state_epoch, leader_epoch: 1, start: said, batches };
                let record = states.record(5, &key(0), &request, updates_max).expect("it says something");
                states.applied(at as i64, record.clone());
                let read = StateRecord::read(&record.key().into(), record.value().map(Into::into).as_ref());
                replayed.applied(at as i64, read.expect("well-formed").expect("known"));
            }
            let stored = states.get(&key(0)).expect("written");
            let mut got = BTreeMap::new();
            for batch in &stored.batches {
                for offset in batch.first.max(start)..=batch.last {
                    prop_assert!(got.insert(offset, (batch.delivery, batch.deliveries)).is_none());
                }
            }
            prop_assert_eq!(&got, &model);
            let done = model.values().filter(|(delivery, _)| *delivery != Delivery::Available).count();
            prop_assert_eq!(stored.complete_count() as usize, done);
            prop_assert_eq!(&replayed.get(&key(0)).expect("read").batches, &stored.batches);
            prop_assert_eq!(replayed.get(&key(0)).expect("read").start, start);
        }
    }

    #[test]
    fn what_is_deleted_is_not_needed_any_more() {
        let mut states = States::default();
        let write =
            |start| StateRequest::Write { state_epoch: None, leader_epoch: 0, start, batches: Vec::new() };
        for (at, partition) in [(0, 0), (1, 1), (2, 0)] {
            let record = states.record(0, &key(partition), &write(at), 10).expect("a record");
            states.applied(at, record);
        }
        assert_eq!(states.needed_from(), Some(0));
        for (at, record) in (3..).zip(states.snapshots_before(1, 9)) {
            states.applied(at, record);
        }
        assert_eq!(states.needed_from(), Some(1));
        assert_eq!(states.get(&key(0)).map(|stored| (stored.start, stored.snapshot_epoch)), Some((2, 1)));
        let gone = states.record(0, &key(1), &StateRequest::Delete, 10).expect("a tombstone");
        states.applied(4, gone);
        assert_eq!(states.needed_from(), Some(3));
        assert!(!states.is_fenced(&key(1), &write(0)) && states.is_fenced(&key(0), &write(0)));
        assert_eq!(states.record(0, &key(1), &StateRequest::Delete, 10), None);
    }
}
