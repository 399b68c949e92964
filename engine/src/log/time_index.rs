//! The sparse time index of one segment: Kafka's `.timeindex`.
//!
//! ```text
//!   entry: timestamp i64 | relative offset u32     (big-endian)
//! ```
//!
//! An entry says: up to this offset, the largest timestamp is this one.

use super::Offset;

/// The largest timestamp so far, at some of a segment's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeIndex {
    base: Offset,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    timestamp: i64,
    relative: u32,
}

/// Bytes of one entry.
pub(super) const TIME_ENTRY_BYTES: usize = 12;

impl TimeIndex {
    /// An index without entries.
    pub(super) fn new(base: Offset) -> Self {
        Self { base, entries: Vec::new() }
    }

    /// Notes the largest timestamp so far and the last offset of its batch. Entries go forward in time: one that does not
    /// says nothing new and is left out.
    pub(super) fn append(&mut self, timestamp: i64, offset: Offset) {
        let relative = u32::try_from(offset - self.base).expect("a segment spans less than 2^31 offsets");
        if self.entries.last().is_none_or(|last| last.timestamp < timestamp && last.relative <= relative) {
            self.entries.push(Entry { timestamp, relative });
        }
    }

    /// Gives up memory for more.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The largest timestamp, and the last offset of its batch.
    pub(super) fn last(&self) -> Option<(i64, Offset)> {
        self.entries.last().map(|entry| (entry.timestamp, self.base + i64::from(entry.relative)))
    }

    /// The last entry of an earlier time: no record up to its offset is of this time or later.
    pub(super) fn entry_before(&self, timestamp: i64) -> Option<(i64, Offset)> {
        let after = self.entries.partition_point(|entry| entry.timestamp < timestamp);
        let entry = self.entries[..after].last()?;
        Some((entry.timestamp, self.base + i64::from(entry.relative)))
    }

    /// As in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.encode_from(0)
    }

    /// As in the file, without its first so many bytes.
    pub(super) fn encode_from(&self, bytes: usize) -> Vec<u8> {
        let entries = &self.entries[bytes / TIME_ENTRY_BYTES..];
        let mut bytes = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES);
        for entry in entries {
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.relative.to_be_bytes());
        }
        bytes
    }

    /// From a file; `None` if its entries do not go forward, or are not whole.
    pub(super) fn decode(base: Offset, bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<TIME_ENTRY_BYTES>();
        let entries: Vec<_> = entries
            .iter()
            .map(|&[a, b, c, d, e, f, g, h, i, j, k, l]| Entry {
                timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
                relative: u32::from_be_bytes([i, j, k, l]),
            })
            .collect();
        let forward =
            entries.is_sorted_by(|one, next| one.timestamp < next.timestamp && one.relative <= next.relative);
        (rest.is_empty() && forward).then_some(Self { base, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_find_where_to_begin() {
        let mut index = TimeIndex::new(100);
        for (timestamp, offset) in [(1000, 109), (1000, 119), (900, 121), (2000, 129)] {
            index.append(timestamp, offset);
        }
        assert_eq!(index.len(), 2);
        let (first, last) = (Some((1000, 109)), Some((2000, 129)));
        for (timestamp, entry) in [(0, None), (1000, None), (1001, first), (2000, first), (2001, last)] {
            assert_eq!(index.entry_before(timestamp), entry, "time {timestamp}");
        }
        assert_eq!(index.last(), Some((2000, 129)));
        let bytes = index.encode();
        assert_eq!(&bytes[..12], &[0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 9]);
        assert_eq!(TimeIndex::decode(100, &bytes), Some(index.clone()));
        assert_eq!(TimeIndex::decode(100, &bytes[..13]), None, "not whole");
        assert_eq!(TimeIndex::decode(100, &[&bytes[12..], &bytes[..12]].concat()), None, "backward");
    }
}
