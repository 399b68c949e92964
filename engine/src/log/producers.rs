//! Idempotent producers of one log: which sequence comes next, which batches were here before. Kafka's `.snapshot`.
//!
//! ```text
//!   version i16 = 1 | CRC-32C of what follows u32 | entries i32, each:
//!     producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64 |
//!     coordinator epoch i32 | first offset of the open transaction i64 (-1: none)
//! ```
//!
//! Kafka's file has one entry a producer: its last batch. A checkpoint has one for each batch remembered, oldest first, so
//! that a producer's whole window survives a crash.

use super::Offset;
use crate::batch::Header;
use std::collections::{HashMap, VecDeque};

/// The producers that have written to a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: HashMap<i64, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    /// The last batches, oldest first; empty when only a marker is known.
    batches: VecDeque<Batch>,
    /// When it was last heard of, in the broker's wall-clock milliseconds.
    heard: i64,
}

/// A batch a producer has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: i64,
}

/// What a batch is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// The next one.
    Append,
    /// One of the last five, sent again.
    Duplicate { base_offset: Offset, last_offset: Offset, timestamp: i64 },
}

/// Why a batch must not be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProducerError {
    /// Its sequence does not follow.
    OutOfOrderSequence,
    /// Its epoch is behind the producer's.
    InvalidEpoch,
}

/// Batches remembered of each producer: as many as a client may have in flight (Kafka's `ProducerStateEntry`).
const BATCHES_MAX: usize = 5;

/// An idempotent producer, as far as a log knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownProducer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of its last record; `None` where only a marker is known.
    pub last_sequence: Option<i32>,
    /// The time of its last batch, in milliseconds.
    pub last_timestamp: i64,
}

impl Producers {
    /// All that are known, by their ids.
    pub(super) fn known(&self) -> Vec<KnownProducer> {
        let mut known: Vec<_> = self
            .by_id
            .iter()
            .map(|(&id, producer)| {
                let last = producer.batches.back();
                KnownProducer {
                    id,
                    epoch: producer.epoch,
                    last_sequence: last.map(|batch| batch.last_sequence),
                    last_timestamp: last.map_or(producer.heard, |batch| batch.timestamp),
                }
            })
            .collect();
        known.sort_by_key(|producer| producer.id);
        known
    }

    /// Says what a client's batch is (Kafka's `ProducerAppendInfo`): any sequence is right for a producer that is not known.
    pub(super) fn check(&self, header: &Header) -> Result<Check, ProducerError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else { return Ok(Check::Append) };
        if header.producer_epoch < producer.epoch {
            return Err(ProducerError::InvalidEpoch);
        }
        if header.producer_epoch > producer.epoch {
            let begins = header.base_sequence == 0;
            return if begins { Ok(Check::Append) } else { Err(ProducerError::OutOfOrderSequence) };
        }
        let last_sequence = sequence_after(header.base_sequence, header.last_offset_delta);
        let same = |batch: &&Batch| {
            batch.last_sequence == last_sequence && batch.first_sequence() == header.base_sequence
        };
        if let Some(batch) = producer.batches.iter().find(same) {
            return Ok(Check::Duplicate {
                base_offset: batch.last_offset - i64::from(batch.offset_delta),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            });
        }
        let expected = producer.batches.back().map_or(0, |last| sequence_after(last.last_sequence, 1));
        if header.base_sequence == expected {
            Ok(Check::Append)
        } else {
            Err(ProducerError::OutOfOrderSequence)
        }
    }

    /// Remembers a batch that has its offsets.
    pub(super) fn apply(&mut self, header: &Header, now: i64) {
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            coordinator_epoch: -1,
            batches: VecDeque::new(),
            heard: now,
        });
        producer.heard = now;
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if header.is_control() {
            return;
        }
        producer.push(Batch {
            last_sequence: sequence_after(header.base_sequence, header.last_offset_delta),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
    }

    /// The log now ends at this offset: of each producer only the batches before it are remembered, as far as they still are here;
    /// the rest is as it was `before`, at some place in the log and with what has been read from there on.
    pub(super) fn truncate_from_end(mut self, end: Offset, before: Self) -> Self {
        for producer in self.by_id.values_mut() {
            producer.batches.retain(|batch| batch.last_offset < end);
        }
        // Of these, all that is known may have been taken back, the epoch too.
        self.by_id.retain(|_, producer| !producer.batches.is_empty());
        for (id, older) in before.by_id {
            match self.by_id.get_mut(&id) {
                Some(known) if known.epoch == older.epoch => known.remember(&older),
                _ => {
                    self.by_id.insert(id, older);
                }
            }
        }
        self
    }

    /// Forgets the producers that have not been heard of for so long.
    pub(super) fn expire(&mut self, now: i64, remembered_ms: u64) {
        let remembered = i64::try_from(remembered_ms).unwrap_or(i64::MAX);
        self.by_id.retain(|_, producer| now.saturating_sub(producer.heard) < remembered);
    }

    /// The last offset of each producer's last batch.
    pub(super) fn last_offsets(&self) -> HashMap<i64, Offset> {
        let last = |producer: &Producer| producer.batches.back().map(|batch| batch.last_offset);
        self.by_id.iter().filter_map(|(id, producer)| Some((*id, last(producer)?))).collect()
    }

    /// Kafka's `.snapshot` file.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        self.encode(1)
    }

    /// For a checkpoint: all that is remembered.
    pub(super) fn checkpoint(&self) -> Vec<u8> {
        self.encode(BATCHES_MAX)
    }

    fn encode(&self, batches_max: usize) -> Vec<u8> {
        let mut entries = Vec::new();
        let mut count = 0i32;
        for (id, producer) in &self.by_id {
            let marker =
                Batch { last_sequence: -1, last_offset: -1, offset_delta: 0, timestamp: producer.heard };
            let skipped = producer.batches.len().saturating_sub(batches_max);
            let batches = producer.batches.iter().skip(skipped).copied();
            let only_marker = producer.batches.is_empty().then_some(marker);
            for batch in batches.chain(only_marker) {
                entries.extend_from_slice(&id.to_be_bytes());
                entries.extend_from_slice(&producer.epoch.to_be_bytes());
                entries.extend_from_slice(&batch.last_sequence.to_be_bytes());
                entries.extend_from_slice(&batch.last_offset.to_be_bytes());
                entries.extend_from_slice(&batch.offset_delta.to_be_bytes());
                entries.extend_from_slice(&batch.timestamp.to_be_bytes());
                entries.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
                entries.extend_from_slice(&NO_TRANSACTION.to_be_bytes());
                count += 1;
            }
        }
        let body = [&count.to_be_bytes()[..], &entries].concat();
        let crc = crc_fast::crc32_iscsi(&body);
        [&VERSION.to_be_bytes()[..], &crc.to_be_bytes(), &body].concat()
    }

    /// From a snapshot or a checkpoint, as of `now`; `None` if it is damaged.
    pub(super) fn decode(bytes: &[u8], now: i64) -> Option<Self> {
        let mut rest = bytes;
        let version = i16::from_be_bytes(take(&mut rest)?);
        let crc = u32::from_be_bytes(take(&mut rest)?);
        if version != VERSION || crc_fast::crc32_iscsi(rest) != crc {
            return None;
        }
        let count = i32::from_be_bytes(take(&mut rest)?);
        let mut producers = Self::default();
        for _ in 0..count {
            let id = i64::from_be_bytes(take(&mut rest)?);
            let epoch = i16::from_be_bytes(take(&mut rest)?);
            let last_sequence = i32::from_be_bytes(take(&mut rest)?);
            let last_offset = i64::from_be_bytes(take(&mut rest)?);
            let offset_delta = i32::from_be_bytes(take(&mut rest)?);
            let timestamp = i64::from_be_bytes(take(&mut rest)?);
            let coordinator_epoch = i32::from_be_bytes(take(&mut rest)?);
            let _transaction = i64::from_be_bytes(take(&mut rest)?);
            let new = Producer { epoch, coordinator_epoch, batches: VecDeque::new(), heard: now };
            let producer = producers.by_id.entry(id).or_insert(new);
            if last_sequence >= 0 {
                if !(0..=last_offset).contains(&i64::from(offset_delta)) {
                    // No batch begins before the first offset, or ends before it begins.
                    return None;
                }
                producer.push(Batch { last_sequence, last_offset, offset_delta, timestamp });
            }
        }
        rest.is_empty().then_some(producers)
    }
}

impl Producer {
    /// Adds the batches that another memory of this producer has.
    fn remember(&mut self, other: &Self) {
        let mut batches: Vec<Batch> = self.batches.iter().chain(&other.batches).copied().collect();
        batches.sort_by_key(|batch| batch.last_offset);
        batches.dedup_by_key(|batch| batch.last_offset);
        self.batches = batches.split_off(batches.len().saturating_sub(BATCHES_MAX)).into();
    }

    fn push(&mut self, batch: Batch) {
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }
}

impl Batch {
    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

/// Sequences go on from 2^31-1 with 0.
fn sequence_after(sequence: i32, more: i32) -> i32 {
    sequence.wrapping_add(more) & i32::MAX
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// The version of Kafka's `ProducerSnapshot`.
const VERSION: i16 = 1;

/// What Kafka writes where a producer has no open transaction.
const NO_TRANSACTION: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, records: i32, base_offset: Offset) -> Header {
        Header {
            base_offset,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            last_offset_delta: records - 1,
            record_count: records,
            max_timestamp: 1_000 + base_offset,
            ..Header::EMPTY
        }
    }

    fn of(batches: &[Header]) -> Producers {
        let mut producers = Producers::default();
        for batch in batches {
            assert_eq!(producers.check(batch), Ok(Check::Append), "{batch:?}");
            producers.apply(batch, 0);
        }
        producers
    }

    fn duplicate(base_offset: Offset, last_offset: Offset) -> Result<Check, ProducerError> {
        Ok(Check::Duplicate { base_offset, last_offset, timestamp: 1_000 + base_offset })
    }

    #[test]
    fn sequences_follow_or_repeat_one_of_the_last_five() {
        let six: Vec<_> = (0..6).map(|n| batch(0, 10 * n, 10, i64::from(10 * n))).collect();
        let producers = of(&six);
        let out_of_order = Err(ProducerError::OutOfOrderSequence);
        assert_eq!(producers.check(&six[0]), out_of_order, "the sixth back is forgotten");
        for again in &six[1..] {
            assert_eq!(producers.check(again), duplicate(again.base_offset, again.last_offset()));
        }
        assert_eq!(producers.check(&batch(0, 50, 9, 0)), out_of_order, "same begin, another end");
        assert_eq!(producers.check(&batch(0, 51, 9, 0)), out_of_order, "same end, another begin");
        assert_eq!(producers.check(&batch(0, 61, 1, 0)), out_of_order, "one left out");
        assert_eq!(producers.check(&batch(0, 60, 1, 0)), Ok(Check::Append));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_refused() {
        let producers = of(&[batch(3, 5, 1, 0)]);
        assert_eq!(producers.check(&batch(2, 6, 1, 0)), Err(ProducerError::InvalidEpoch));
        assert_eq!(producers.check(&batch(4, 6, 1, 0)), Err(ProducerError::OutOfOrderSequence));
        let producers = of(&[batch(3, 5, 1, 0), batch(4, 0, 1, 1), batch(4, 1, 1, 2)]);
        assert_eq!(producers.check(&batch(4, 0, 1, 0)), duplicate(1, 1));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let producers = of(&[batch(0, i32::MAX - 2, 2, 0), batch(0, i32::MAX, 3, 2)]);
        assert_eq!(producers.check(&batch(0, i32::MAX, 3, 0)), duplicate(2, 4));
        assert_eq!(producers.check(&batch(0, 2, 1, 5)), Ok(Check::Append));
        let producers = of(&[batch(0, i32::MAX, 1, 0)]);
        assert_eq!(producers.check(&batch(0, 0, 1, 1)), Ok(Check::Append));
    }

    #[test]
    fn an_expired_producer_may_go_on_with_any_sequence() {
        let mut producers = of(&[batch(0, 0, 1, 0)]);
        producers.expire(999, 1000);
        assert_eq!(producers.check(&batch(0, 9, 1, 0)), Err(ProducerError::OutOfOrderSequence));
        producers.expire(1000, 1000);
        assert_eq!(producers.check(&batch(0, 9, 1, 0)), Ok(Check::Append));
    }

    #[test]
    fn truncation_keeps_what_is_left_of_the_window() {
        let seven: Vec<_> = (0..7).map(|n| batch(0, n, 1, i64::from(n))).collect();
        // A snapshot has the last batch alone.
        let snapshot = Producers::decode(&of(&seven[..4]).snapshot(), 0).unwrap();
        let cut = of(&seven).truncate_from_end(6, snapshot.clone());
        assert_eq!(cut.check(&seven[6]), Ok(Check::Append));
        assert_eq!(cut.check(&seven[2]), duplicate(2, 2), "the oldest still remembered");
        assert_eq!(cut.check(&seven[5]), duplicate(5, 5));
        // Nothing is left of what was remembered.
        let cut = of(&seven).truncate_from_end(1, of(&seven[..1]));
        assert_eq!(cut, of(&seven[..1]));
        assert_eq!(of(&seven).truncate_from_end(0, Producers::default()), Producers::default());
        // A new epoch is taken back.
        let bumped = of(&[seven[0], seven[1], batch(1, 0, 1, 2)]);
        assert_eq!(bumped.truncate_from_end(2, of(&seven[..2])), of(&seven[..2]));
    }

    #[test]
    fn snapshots_are_as_kafka_writes_them() {
        let producers = of(&[batch(1, 0, 3, 40), batch(1, 3, 2, 43)]);
        let file = producers.snapshot();
        let mut expected = vec![0, 1];
        expected.extend_from_slice(&crc32c::crc32c(&file[6..]).to_be_bytes());
        expected.extend_from_slice(&[0, 0, 0, 1]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0, 0, 4]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 1]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 4, 19, 255, 255, 255, 255]);
        expected.extend_from_slice(&[255; 8]);
        assert_eq!(file, expected);
        let last_only = Producers::decode(&file, 0).unwrap();
        assert_eq!(last_only.check(&batch(1, 3, 2, 0)), duplicate(43, 44));
        assert_eq!(last_only.check(&batch(1, 5, 2, 0)), Ok(Check::Append));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(Producers::decode(&damaged, 0), None, "byte {at} changed");
            assert_eq!(Producers::decode(&file[..at], 0), None, "cut to {at} bytes");
        }
    }

    #[test]
    fn checkpoints_keep_the_whole_window() {
        let producers = of(&(0..7).map(|n| batch(0, n, 1, i64::from(n))).collect::<Vec<_>>());
        assert_eq!(Producers::decode(&producers.checkpoint(), 0), Some(producers));
    }
}
