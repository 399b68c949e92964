//! Leader epochs and where each began: Kafka's `leader-epoch-checkpoint`.
//!
//! ```text
//!   0                 version
//!   2                 how many lines follow
//!   0 0               epoch, start offset
//!   3 4711
//! ```

use super::Offset;
use smallvec::SmallVec;
use std::fmt::Write;

/// Every leader epoch that has records in the log, or has begun at its end. Epochs and start offsets rise together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    /// Of thousands of logs most have two: that of their batches, and that of the last start.
    entries: SmallVec<[Entry; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    epoch: i32,
    start: Offset,
}

/// Where a leader epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch known that is not above the one asked for.
    pub epoch: i32,
    /// The offset after its last record: where the next epoch began, or the log end.
    pub end_offset: Offset,
}

impl Epochs {
    /// An epoch begins at this offset, unless it is known. Epochs that began there or later have no records: they are
    /// forgotten.
    pub(super) fn assign(&mut self, epoch: i32, start: Offset) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        self.entries.retain(|entry| entry.start < start);
        // An epoch begins once a start: room for more would lie idle.
        self.entries.reserve_exact(1);
        self.entries.push(Entry { epoch, start });
    }

    /// The newest epoch.
    pub(super) fn latest(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The epoch of the record at this offset.
    pub(super) fn at(&self, offset: Offset) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        (after > 0).then(|| self.entries[after - 1].epoch)
    }

    /// Where an epoch ended (Kafka's `LeaderEpochFileCache.endOffsetFor`); `None` if all known ones are above it.
    pub(super) fn end_offset_for(&self, epoch: i32, log_end: Offset) -> Option<EpochEnd> {
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let found = self.entries[..after].last()?;
        let end_offset = self.entries.get(after).map_or(log_end, |next| next.start);
        Some(EpochEnd { epoch: found.epoch, end_offset })
    }

    /// Whether an epoch begins at this offset or later.
    pub(super) fn begin_from(&self, offset: Offset) -> bool {
        self.entries.last().is_some_and(|entry| entry.start >= offset)
    }

    /// The log now ends at this offset: epochs that began there or later are forgotten.
    pub(super) fn truncate_from_end(&mut self, end: Offset) {
        self.entries.retain(|entry| entry.start < end);
    }

    /// The log now starts at this offset: the epoch of its first record starts there.
    pub(super) fn truncate_from_start(&mut self, start: Offset) {
        let after = self.entries.partition_point(|entry| entry.start <= start);
        if after > 0 {
            self.entries.drain(..after - 1);
            self.entries[0].start = start;
        }
    }

    /// As in the file.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for Entry { epoch, start } in &self.entries {
            writeln!(text, "{epoch} {start}").expect("writing to a string succeeds");
        }
        text
    }

    /// From a file; `None` if it is not one, or its lines do not rise.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()?.trim() != "0" {
            return None;
        }
        let count: usize = lines.next()?.trim().parse().ok()?;
        let mut entries: SmallVec<[Entry; 2]> = SmallVec::new();
        for line in lines {
            let (epoch, start) = line.split_once(' ')?;
            entries.push(Entry { epoch: epoch.parse().ok()?, start: start.trim().parse().ok()? });
        }
        entries.shrink_to_fit();
        let rise = entries.is_sorted_by(|one, next| one.epoch < next.epoch && one.start <= next.start);
        (entries.len() == count && rise).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, Offset)]) -> Epochs {
        let mut epochs = Epochs::default();
        for &(epoch, start) in entries {
            epochs.assign(epoch, start);
        }
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(1, 0), (2, 10), (5, 30)]);
        let end = |epoch| epochs.end_offset_for(epoch, 100).map(|end| (end.epoch, end.end_offset));
        assert_eq!(end(0), None);
        assert_eq!(end(1), Some((1, 10)));
        assert_eq!(end(4), Some((2, 30)), "the largest known one that is not above");
        assert_eq!(end(5), Some((5, 100)));
        assert_eq!(end(9), Some((5, 100)));
        for (offset, epoch) in [(0, 1), (9, 1), (10, 2), (29, 2), (99, 5)] {
            assert_eq!(epochs.at(offset), Some(epoch), "offset {offset}");
        }
    }

    #[test]
    fn an_epoch_without_records_gives_way() {
        let mut some = epochs(&[(1, 0), (2, 10), (3, 10)]);
        assert_eq!(some, epochs(&[(1, 0), (3, 10)]));
        some.assign(2, 20);
        assert_eq!(some.latest(), Some(3), "epochs do not go back");
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut some = epochs(&[(1, 0), (2, 10), (5, 30)]);
        some.truncate_from_end(30);
        assert_eq!(some, epochs(&[(1, 0), (2, 10)]));
        some.truncate_from_start(15);
        assert_eq!(some, epochs(&[(2, 15)]));
        some.truncate_from_start(15);
        assert_eq!(some.encode(), "0\n1\n2 15\n");
    }

    #[test]
    fn files_are_read_back_and_nonsense_is_not() {
        let some = epochs(&[(1, 0), (2, 10), (5, 30)]);
        assert_eq!(Epochs::decode(&some.encode()), Some(some));
        assert_eq!(Epochs::decode("0\n0\n"), Some(Epochs::default()));
        for nonsense in ["", "1\n0\n", "0\n", "0\n2\n1 0\n", "0\n1\n1\n", "0\n2\n2 0\n1 5\n", "0\n1\n1 x\n"] {
            assert_eq!(Epochs::decode(nonsense), None, "{nonsense:?}");
        }
    }
}
