//! What a log was asked and what it promised: the book that a recovered log is held against.

use bytes::Bytes;
use ringlog_engine::batch::{self, Header};
use ringlog_engine::log::Marks;
use std::collections::BTreeMap;

/// One log's book. It outlives crashes.
#[derive(Default)]
pub(crate) struct Book {
    /// Every batch that may be in the log, by base offset, as stored. More than one only while a truncation is under way.
    batches: BTreeMap<i64, Entry>,
    /// The log has been open: it has a segment.
    pub(crate) was_open: bool,
    /// Everything below was acknowledged as durable, or seen below the durable mark.
    durable: i64,
    /// Everything below was acknowledged as written.
    written: i64,
    /// Nothing below needs to be there any more; more may be gone once a deletion was asked for.
    log_start: i64,
    log_start_asked: i64,
    /// A truncation to here was asked for and has not ended.
    truncating_to: Option<i64>,
    /// The log was asked to begin anew, empty, at this offset, and has not: it is one or the other.
    pub(crate) clearing_to: Option<i64>,
    /// The power was cut since the log was last open.
    pub(crate) power_was_cut: bool,
    /// Truncations begun so far.
    pub(crate) truncations: u64,
    numbers: u64,
    /// Batches checked so far.
    pub(crate) checked: u64,
}

struct Entry {
    stored: Bytes,
    sent: Bytes,
    next_offset: i64,
}

impl Book {
    /// The number of the next batch to be made.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The log took a batch.
    pub(crate) fn appended(&mut self, sent: &Bytes, base_offset: i64, epoch: i32) {
        let end = self.batches.last_key_value().map_or(base_offset, |(_, entry)| entry.next_offset);
        assert_eq!(base_offset, end, "a batch gets the offset at which the log ends");
        let mut stored = sent.to_vec();
        batch::stamp(&mut stored, base_offset, epoch);
        let next_offset = Header::parse(&stored).unwrap().next_offset();
        let entry = Entry { stored: stored.into(), sent: sent.clone(), next_offset };
        self.batches.insert(base_offset, entry);
    }

    /// The log acknowledged all below `offset` as durable.
    pub(crate) fn durable_to(&mut self, offset: i64) {
        assert!(self.stable().is_some(), "nothing is noted while records are taken back");
        self.durable = self.durable.max(offset);
        self.written = self.written.max(offset);
    }

    /// The log acknowledged all below `offset` as written.
    pub(crate) fn written_to(&mut self, offset: i64) {
        assert!(self.stable().is_some(), "nothing is noted while records are taken back");
        self.written = self.written.max(offset);
    }

    /// Whoever reads up to the durable mark has seen this.
    pub(crate) fn saw(&mut self, marks: Marks) {
        if self.stable().is_some() {
            self.durable_to(marks.durable);
            self.written_to(marks.written);
        }
    }

    /// The log is to begin anew, empty, at this offset.
    pub(crate) fn clearing_begins(&mut self, offset: i64) {
        self.truncations += 1;
        self.clearing_to = Some(offset);
    }

    /// It has: nothing of before comes back.
    pub(crate) fn clearing_ended(&mut self, offset: i64) {
        self.truncations += 1;
        self.clearing_to = None;
        self.batches.clear();
        (self.durable, self.written) = (offset, offset);
        (self.log_start, self.log_start_asked) = (offset, offset);
    }

    /// A truncation begins: what lies from this batch on is promised no longer.
    pub(crate) fn truncation_begins(&mut self, base: i64) {
        self.truncations += 1;
        self.truncating_to = Some(base);
        self.durable = self.durable.min(base);
        self.written = self.written.min(base);
    }

    /// It has ended: what it took away must never come back.
    pub(crate) fn truncation_ended(&mut self, log_end: i64) {
        self.truncating_to = None;
        // Who was acknowledged meanwhile, and is told only now, waited for records that are gone.
        self.truncations += 1;
        self.batches.retain(|base, _| *base < log_end);
    }

    /// Equal before and after something during which no truncation was under way.
    pub(crate) fn stable(&self) -> Option<u64> {
        (self.truncating_to.is_none() && self.clearing_to.is_none()).then_some(self.truncations)
    }

    /// Records below are to be deleted.
    pub(crate) fn deletion_begins(&mut self, offset: i64) {
        self.log_start_asked = self.log_start_asked.max(offset);
    }

    /// They are: the log never again starts before it.
    pub(crate) fn deletion_ended(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset);
    }

    /// Records below are deleted, and of all that might have been no more.
    pub(crate) fn retention_ended(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset);
        self.log_start_asked = self.log_start;
    }

    /// A log was opened after a crash: its marks keep the promises that hold after that kind of crash.
    pub(crate) fn check_marks(&self, marks: Marks) {
        let Marks { log_start, durable, written, log_end } = marks;
        assert!(durable == log_end && written == log_end, "what an opened log holds is durable: {marks:?}");
        if self.is_cleared(marks) {
            return;
        }
        assert!(log_start >= self.log_start, "deleted up to {}, and back: {marks:?}", self.log_start);
        assert!(log_start <= self.log_start_asked, "more gone than was asked: {marks:?}");
        let promised = if self.power_was_cut { self.durable } else { self.written };
        assert!(log_end >= promised, "acknowledged up to {promised}, lost from {log_end} on");
    }

    /// It began anew before it could say so.
    fn is_cleared(&self, marks: Marks) -> bool {
        self.clearing_to.is_some_and(|offset| marks.log_start == offset && marks.log_end == offset)
    }

    /// Bytes read from an opened log from `from` on are the batches of the book, one after the other. Returns where they end.
    pub(crate) fn check_bytes(&mut self, mut from: i64, mut bytes: &[u8]) -> i64 {
        while !bytes.is_empty() {
            let header =
                batch::verify(&bytes[..batch::whole_len(bytes).expect("whole batches")]).expect("valid");
            assert!(
                header.base_offset <= from && from < header.next_offset(),
                "no gap at {from}: {header:?}"
            );
            let entry = self.batches.get(&header.base_offset);
            let entry = entry.unwrap_or_else(|| panic!("a batch nobody appended: {header:?}"));
            let len = header.total_len();
            assert!(
                entry.stored == bytes[..len],
                "the batch at {} is another one: {header:?}",
                header.base_offset
            );
            from = header.next_offset();
            bytes = &bytes[len..];
            self.checked += 1;
        }
        from
    }

    /// The opened log has been checked to its end: that is what it holds from now on.
    pub(crate) fn reopened(&mut self, marks: Marks) {
        if self.is_cleared(marks) {
            self.batches.clear();
        }
        self.clearing_to = None;
        self.batches.retain(|base, _| *base < marks.log_end);
        self.durable = marks.log_end;
        self.written = marks.log_end;
        self.log_start = marks.log_start;
        self.log_start_asked = marks.log_start;
        self.truncating_to = None;
        self.power_was_cut = false;
    }

    /// The last batches of each idempotent producer that are not deleted, as sent, with their offsets; the newest first.
    pub(crate) fn last_of_producers(&self, most: usize) -> Vec<Vec<(i64, Bytes)>> {
        let mut by_id: BTreeMap<i64, Vec<(i64, Bytes)>> = BTreeMap::new();
        for (base, entry) in self.batches.range(self.log_start..).rev() {
            let header = Header::parse(&entry.stored).expect("checked");
            if header.has_producer_id() {
                by_id.entry(header.producer_id).or_default().push((*base, entry.sent.clone()));
            }
        }
        by_id.values_mut().for_each(|batches| batches.truncate(most));
        by_id.into_values().collect()
    }

    /// A batch somewhere in the log that is not deleted: its offset, and the one after it.
    pub(crate) fn some_batch(&self, which: u64) -> Option<(i64, i64)> {
        let there =
            self.batches.range(self.log_start_asked..).map(|(base, entry)| (*base, entry.next_offset));
        let there: Vec<_> = there.collect();
        let index = which.checked_rem(there.len() as u64)?;
        there.get(usize::try_from(index).expect("below a usize")).copied()
    }
}
