//! What every replica was given and what was committed: the book that each log is held against.

use bytes::Bytes;
use ringlog_engine::batch::{self, Header};
use ringlog_engine::log::{Log, Marks, ReadLimit, ReadPart};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A batch: the epoch of the leader that appended it, and its base offset. No two have the same, ever.
type Key = (i32, i64);

/// The batches of one log, in order: base offset, then epoch and the offset after the batch.
pub(crate) type Chain = BTreeMap<i64, (i32, i64)>;

/// The book. It outlives all crashes.
#[derive(Default)]
pub(crate) struct Book {
    /// All that any leader has appended.
    appended: HashMap<Key, Entry>,
    /// All that has been below a leader's high watermark.
    committed: Chain,
    pub(crate) committed_end: i64,
    /// Committed batches that leaders do not send any more, as after compaction.
    compacted: BTreeSet<Key>,
    /// Batches that may be compacted once something after them is committed.
    superseded: Option<Key>,
    /// No record below needs to be there.
    pub(crate) deleted_to: i64,
    pub(crate) producers: Vec<Producer>,
    /// Batches checked so far.
    pub(crate) checked: u64,
    /// Gaps met in logs so far.
    pub(crate) gaps: u64,
    /// Leaders that were followed by another before they had appended anything.
    pub(crate) idle: u64,
    /// Batches that a log lost because its leader did not have them.
    pub(crate) truncated: u64,
}

struct Entry {
    stored: Bytes,
    producer: usize,
    number: u64,
}

/// An idempotent producer: it sends in order, and again what the high watermark has not passed.
#[derive(Default)]
pub(crate) struct Producer {
    /// Sent, and not known to be committed.
    pub(crate) unacked: VecDeque<Sent>,
    /// The next batch's.
    pub(crate) number: u64,
    pub(crate) sequence: i32,
    /// The newest leader it knows: it sends nothing to an older one.
    pub(crate) epoch: i32,
    /// The last batch of it that is committed.
    committed: u64,
}

impl Producer {
    fn first_unacked(&self) -> u64 {
        self.unacked.front().map_or(self.number + 1, |first| first.number)
    }
}

/// One batch of an idempotent producer.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) bytes: Bytes,
    pub(crate) number: u64,
}

/// Stands for a producer that is not idempotent.
pub(crate) const PLAIN: usize = usize::MAX;

impl Book {
    /// An empty book, of so many idempotent producers.
    pub(crate) fn new(producers: usize) -> Self {
        Self { producers: (0..producers).map(|_| Producer::default()).collect(), ..Self::default() }
    }

    /// A leader took a batch; the chain is that of its log.
    pub(crate) fn appended(
        &mut self,
        chain: &mut Chain,
        (producer, number): (usize, u64),
        sent: &Bytes,
        (epoch, base): Key,
    ) {
        let end = chain.last_key_value().map_or(base, |(_, (_, next))| *next);
        assert!(base >= end, "a leader appends at its end: {base} after {end}");
        let mut stored = sent.to_vec();
        batch::stamp(&mut stored, base, epoch);
        let next = Header::parse(&stored).unwrap().next_offset();
        let entry = Entry { stored: stored.into(), producer, number };
        let former = self.appended.insert((epoch, base), entry);
        assert!(former.is_none(), "a leader gave offset {base} of epoch {epoch} twice");
        chain.insert(base, (epoch, next));
    }

    /// A leader took a batch for one that it already has.
    pub(crate) fn is_there(&self, chain: &Chain, base: i64, sent: &Bytes) {
        let found = chain.get(&base).map(|(epoch, _)| &self.appended[&(*epoch, base)]);
        let same = found.is_some_and(|entry| entry.stored[CRC_AT..] == sent[CRC_AT..]);
        assert!(same, "a producer was told that its batch is at {base}, where it is not");
    }

    /// A leader's high watermark has come so far.
    pub(crate) fn commit(&mut self, chain: &Chain, to: i64, compacts: bool) {
        for (&base, &(epoch, next)) in chain.range(self.committed_end..to) {
            assert_eq!(base, self.committed_end, "committed without a gap");
            let entry = &self.appended[&(epoch, base)];
            if let Some(producer) = self.producers.get_mut(entry.producer) {
                let once = entry.number == producer.committed + 1;
                assert!(once, "batch {} of a producer after its {}", entry.number, producer.committed);
                producer.committed = entry.number;
            }
            if let Some(superseded) = self.superseded.take() {
                self.compacted.insert(superseded);
            }
            if compacts && entry.producer == PLAIN && !entry.stored[CRC_AT].is_multiple_of(4) {
                self.superseded = Some((epoch, base));
            }
            self.committed.insert(base, (epoch, next));
            self.committed_end = next;
        }
        assert!(to <= self.committed_end, "the high watermark {to} is not where a batch ends");
    }

    /// How far records may be deleted: no batch that its producer may send again.
    pub(crate) fn deletable(&self, chain: &Chain) -> i64 {
        let wanted = |(base, (epoch, _)): &(&i64, &(i32, i64))| {
            let entry = &self.appended[&(*epoch, **base)];
            let producer = self.producers.get(entry.producer);
            // The last acknowledged one is kept, too: by it a log knows the producer.
            producer.is_some_and(|producer| entry.number + 1 >= producer.first_unacked())
        };
        chain.iter().find(wanted).map_or(self.committed_end, |(base, _)| *base)
    }

    /// What a leader sends of these batches: not the compacted ones.
    pub(crate) fn without_compacted(&self, mut bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        while let Some(len) = batch::whole_len(bytes) {
            let header = Header::parse(bytes).unwrap();
            if !self.compacted.contains(&(header.leader_epoch, header.base_offset)) {
                sent.extend_from_slice(&bytes[..len]);
            }
            bytes = &bytes[len..];
        }
        sent
    }

    /// Reads a whole log: every batch is one that a leader appended, byte for byte, none is missing, epochs do not fall.
    pub(crate) fn check_bytes(&mut self, marks: Marks, mut bytes: &[u8]) -> Chain {
        let mut chain = Chain::new();
        let (mut end, mut last_epoch) = (marks.log_start, 0);
        while !bytes.is_empty() {
            let header = batch::verify(&bytes[..batch::whole_len(bytes).expect("whole batches")]).unwrap();
            let (base, epoch, next) = (header.base_offset, header.leader_epoch, header.next_offset());
            let len = header.total_len();
            let entry = self.appended.get(&(epoch, base));
            let entry = entry.unwrap_or_else(|| panic!("a batch nobody appended: {header:?}"));
            assert!(entry.stored == bytes[..len], "the batch at {base} is not what was appended");
            assert!(epoch >= last_epoch, "epoch {epoch} at {base} after {last_epoch}");
            assert!(base <= end || self.is_compacted(end, base), "offsets {end} to {base} are missing");
            assert!(next > end, "offset {base} twice");
            self.gaps += u64::from(base > end);
            (end, last_epoch) = (next, epoch);
            chain.insert(base, (epoch, next));
            bytes = &bytes[len..];
            self.checked += 1;
        }
        let ends = end == marks.written || self.is_compacted(end, marks.written);
        assert!(ends, "the log is said to end at {}, and ends at {end}", marks.written);
        chain
    }

    /// Whether all committed batches between these offsets are compacted.
    fn is_compacted(&self, from: i64, to: i64) -> bool {
        let first = self.committed.range(..=from).next_back().map_or(from, |(base, _)| *base);
        let between = self.committed.range(first..to).filter(|(_, (_, next))| *next > from);
        to <= self.committed_end
            && between.into_iter().all(|(base, (epoch, _))| self.compacted.contains(&(*epoch, *base)))
    }

    /// A log has everything that was committed up to here and is not deleted, and nothing else there.
    pub(crate) fn holds(&self, chain: &Chain, log_start: i64, to: i64) {
        for (base, &(epoch, next)) in self.committed.range(..to) {
            let there = chain.get(base);
            // A log that is empty has nothing of the batch within which it starts.
            let deleted = next.min(to) <= log_start;
            let may_lack = deleted || self.compacted.contains(&(epoch, *base));
            assert!(
                there == Some(&(epoch, next)) || (there.is_none() && may_lack),
                "committed at {base}: epoch {epoch}, found {there:?}, log start {log_start}"
            );
        }
        for (base, found) in chain.range(..to) {
            assert_eq!(self.committed.get(base), Some(found), "nothing else may be at {base}");
        }
    }
}

/// All a log has, as bytes.
pub(crate) async fn read_all(log: &Log) -> (Marks, Vec<u8>) {
    let marks = log.marks();
    let mut bytes = Vec::new();
    let mut from = marks.log_start;
    while from < marks.written {
        let limit = ReadLimit { up_to: marks.written, bytes_max: 50_000, at_least_one: true };
        let read = joined(&log.read(from, limit).await.expect("read").parts);
        let Some(last) = last_header(&read) else { break };
        from = last.next_offset();
        bytes.extend_from_slice(&read);
    }
    (marks, bytes)
}

/// The last of some batches.
pub(crate) fn last_header(mut bytes: &[u8]) -> Option<Header> {
    let mut last = None;
    while let Some(len) = batch::whole_len(bytes) {
        last = Some(Header::parse(bytes).unwrap());
        bytes = &bytes[len..];
    }
    last
}

pub(crate) fn joined(parts: &[ReadPart]) -> Vec<u8> {
    let bytes = parts.iter().map(|part| match part {
        ReadPart::Bytes(bytes) => bytes.clone(),
        ReadPart::File { .. } => panic!("a read brings bytes into memory"),
    });
    bytes.collect::<Vec<_>>().concat()
}

/// Where a batch's CRC begins: neither offset nor epoch is covered by it.
const CRC_AT: usize = 17;
