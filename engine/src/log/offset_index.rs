//! The sparse offset index of one segment: Kafka's `.index`.
//!
//! ```text
//!   entry: relative offset u32 | position u32     (big-endian; offset = base + relative, of the batch's last record)
//! ```

use super::Offset;

/// Where some of a segment's batches begin, by their last offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffsetIndex {
    base: Offset,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The batch's last offset, less the base.
    relative: u32,
    /// Where the batch begins.
    pos: u32,
}

/// Bytes of one entry.
pub(super) const OFFSET_ENTRY_BYTES: usize = 8;

impl OffsetIndex {
    /// An index without entries.
    pub(super) fn new(base: Offset) -> Self {
        Self { base, entries: Vec::new() }
    }

    /// Adds a batch, behind all that are there.
    pub(super) fn append(&mut self, last_offset: Offset, pos: u32) {
        let relative =
            u32::try_from(last_offset - self.base).expect("a segment spans less than 2^31 offsets");
        let entry = Entry { relative, pos };
        let follows = self.entries.last().is_none_or(|last| last.relative < relative && last.pos < pos);
        assert!(follows, "index entries only go forward");
        self.entries.push(entry);
    }

    /// Gives up memory for more.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The last batch that is in it: its last offset, and where it begins.
    pub(super) fn last(&self) -> Option<(Offset, u64)> {
        self.entries.last().map(|entry| (self.base + i64::from(entry.relative), u64::from(entry.pos)))
    }

    /// The start of a batch at or before the one that holds this offset.
    pub(super) fn lookup(&self, offset: Offset) -> u32 {
        let relative = offset - self.base;
        let after = self.entries.partition_point(|entry| i64::from(entry.relative) <= relative);
        if after == 0 { 0 } else { self.entries[after - 1].pos }
    }

    /// The last entry at or before this offset: the last offset of a batch, and where that begins.
    pub(super) fn entry_before(&self, offset: Offset) -> Option<(Offset, u64)> {
        let relative = offset - self.base;
        let after = self.entries.partition_point(|entry| i64::from(entry.relative) <= relative);
        let entry = self.entries[..after].last()?;
        Some((self.base + i64::from(entry.relative), u64::from(entry.pos)))
    }

    /// The last start of a batch that is known at or before this position.
    pub(super) fn start_before(&self, pos: u64) -> u32 {
        self.before_pos(pos).map_or(0, |entry| entry.pos)
    }

    /// The last entry at or before this position: the last offset of a batch, and where that begins.
    pub(super) fn entry_before_pos(&self, pos: u64) -> Option<(Offset, u64)> {
        self.before_pos(pos).map(|entry| (self.base + i64::from(entry.relative), u64::from(entry.pos)))
    }

    fn before_pos(&self, pos: u64) -> Option<&Entry> {
        let after = self.entries.partition_point(|entry| u64::from(entry.pos) <= pos);
        self.entries[..after].last()
    }

    /// As in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.encode_from(0)
    }

    /// As in the file, without its first so many bytes.
    pub(super) fn encode_from(&self, bytes: usize) -> Vec<u8> {
        let entries = &self.entries[bytes / OFFSET_ENTRY_BYTES..];
        let mut bytes = Vec::with_capacity(entries.len() * OFFSET_ENTRY_BYTES);
        for entry in entries {
            bytes.extend_from_slice(&entry.relative.to_be_bytes());
            bytes.extend_from_slice(&entry.pos.to_be_bytes());
        }
        bytes
    }

    /// From a file; `None` if its entries do not go forward, or are not whole.
    pub(super) fn decode(base: Offset, bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<OFFSET_ENTRY_BYTES>();
        let entries: Vec<_> = entries
            .iter()
            .map(|&[a, b, c, d, e, f, g, h]| Entry {
                relative: u32::from_be_bytes([a, b, c, d]),
                pos: u32::from_be_bytes([e, f, g, h]),
            })
            .collect();
        let forward = entries.is_sorted_by(|one, next| one.relative < next.relative && one.pos < next.pos);
        (rest.is_empty() && forward).then_some(Self { base, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_find_the_batch_at_or_before() {
        let mut index = OffsetIndex::new(100);
        for (offset, pos) in [(109, 5000), (129, 9100), (140, 20_000)] {
            index.append(offset, pos);
        }
        for (offset, pos) in
            [(100, 0), (108, 0), (109, 5000), (128, 5000), (129, 9100), (139, 9100), (999, 20_000)]
        {
            assert_eq!(index.lookup(offset), pos, "offset {offset}");
        }
        for (at, pos) in [(0, 0), (4999, 0), (5000, 5000), (19_999, 9100), (1 << 40, 20_000)] {
            assert_eq!(index.start_before(at), pos, "position {at}");
        }
        let bytes = index.encode();
        assert_eq!(&bytes[..8], &[0, 0, 0, 9, 0, 0, 0x13, 0x88]);
        assert_eq!(OffsetIndex::decode(100, &bytes), Some(index.clone()));
        assert_eq!(OffsetIndex::decode(100, &bytes[..15]), None, "not whole");
        assert_eq!(OffsetIndex::decode(100, &[&bytes[8..], &bytes[..8]].concat()), None, "backward");
        assert_eq!(index.len(), 3);
    }
}
