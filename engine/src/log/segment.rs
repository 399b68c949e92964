//! One segment file of a log: where bytes go, what its indexes know, when it is full.

use super::Offset;
use super::append::NO_TIMESTAMP;
use super::config::LogConfig;
use super::lures::Lures;
use super::offset_index::{OFFSET_ENTRY_BYTES, OffsetIndex};
use super::scan::Source;
use super::seldom::Seldom;
use super::space::Prepared;
use super::time_index::{TIME_ENTRY_BYTES, TimeIndex};
use super::verifying::Verified;
use crate::batch::Header;
use crate::io::File;

/// One segment of a log. The last is the active one; all before it are sealed or being sealed.
pub(super) struct Segment {
    /// The first offset it may hold, which names its files.
    pub(super) base: Offset,
    /// Bytes of whole batches in it, those still in the tail buffer included.
    pub(super) size: u64,
    /// Bytes of whole batches written.
    pub(super) written_size: u64,
    /// The handle writes go to; kept until the segment is sealed. `None` while the file is being created.
    pub(super) blocks: Option<File>,
    /// The handle to what is settled of it; opened when first needed.
    pub(super) cached: Option<File>,
    /// Space made ready ahead of the writes.
    pub(super) prepared: Prepared,
    /// `None` in a sealed segment whose indexes have not been needed yet.
    pub(super) indexes: Option<Indexes>,
    /// The largest timestamp, and the last offset of the batch that has it.
    pub(super) max_timestamp: Option<(i64, Offset)>,
    /// The largest timestamp of the first batch: `segment.ms` counts from it.
    pub(super) first_timestamp: Option<i64>,
    /// Wall-clock milliseconds at which it was made: `segment.ms` counts from it where batches have no time.
    pub(super) created: i64,
    /// Milliseconds taken off `segment.ms` for it.
    pub(super) roll_jitter: u64,
    /// What of its file has been checked since the log was opened.
    pub(super) verified: Seldom<Verified>,
    /// Its index files have been compared with its batches: they are not made anew a second time.
    pub(super) indexes_replaced: bool,
    /// Whether it is known to reach to where the next one begins.
    pub(super) end_checked: bool,
    /// Whether a gap lies before it that the segment before could not reach across: that one is durable before this one is made.
    pub(super) out_of_reach: bool,
    /// Whether it has its final length, its indexes on disk, and is durable.
    pub(super) sealed: bool,
    /// What is to be zeroed if its file is recycled. `None` where it is not to be: that was not watched from its first batch on, or is too
    /// much.
    pub(super) lures: Option<Box<Lures>>,
}

/// What finds a batch in a segment by offset and by time.
pub(super) struct Indexes {
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
    /// Bytes appended since the last entry.
    pub(super) bytes_since_entry: u64,
}

impl Indexes {
    /// Indexes of a segment without batches.
    pub(super) fn new(base: Offset) -> Self {
        Self { offsets: OffsetIndex::new(base), times: TimeIndex::new(base), bytes_since_entry: 0 }
    }
}

impl Segment {
    /// A segment without batches, whose file does not exist yet.
    pub(super) fn new(base: Offset, created: i64) -> Box<Self> {
        Box::new(Self {
            base,
            size: 0,
            written_size: 0,
            blocks: None,
            cached: None,
            prepared: Prepared::default(),
            indexes: Some(Indexes::new(base)),
            max_timestamp: None,
            first_timestamp: None,
            created,
            roll_jitter: 0,
            verified: Seldom::default(),
            indexes_replaced: false,
            end_checked: false,
            out_of_reach: false,
            sealed: false,
            lures: None,
        })
    }

    /// Notes a batch that now lies at the segment's end: its place goes into the sparse indexes as Kafka does it,
    /// under the batch's *last* offset, once `index.interval.bytes` have passed since the last entry.
    pub(super) fn note(&mut self, header: &Header, interval: u32) {
        let len = header.total_len() as u64;
        // What has no records has no time, though its header tells the one they had.
        let timestamp = if header.is_emptied() { NO_TIMESTAMP } else { header.max_timestamp };
        if self.first_timestamp.is_none() {
            self.first_timestamp = Some(timestamp);
        }
        if timestamp >= 0 && self.max_timestamp.is_none_or(|(max, _)| timestamp > max) {
            self.max_timestamp = Some((timestamp, header.last_offset()));
        }
        let indexes = self.indexes.as_mut().expect("the active segment's indexes are in memory");
        if indexes.bytes_since_entry > u64::from(interval) {
            indexes.offsets.append(header.last_offset(), self.size as u32);
            if let Some((max, offset)) = self.max_timestamp {
                indexes.times.append(max, offset);
            }
            indexes.bytes_since_entry = 0;
        }
        indexes.bytes_since_entry += len;
        self.size += len;
    }

    /// Notes what recovery could come upon of the batch that was noted last, if the file is recycled.
    pub(super) fn note_lures(&mut self, batch: &[u8]) {
        let pos = self.size - batch.len() as u64;
        if self.lures.as_mut().is_some_and(|lures| !lures.note(pos, batch)) {
            self.lures = None;
        }
    }

    /// Whether a batch whose header alone has been read may come next, after one that ended at `end`: what is damaged must not
    /// come into the indexes, which only go forward.
    pub(super) fn may_hold(&self, header: &Header, end: Offset) -> bool {
        header.base_offset >= end
            && header.last_offset() - self.base <= i64::from(i32::MAX)
            && u32::try_from(self.size).is_ok()
    }

    /// Gives up memory for entries that have not come.
    pub(super) fn shrink(&mut self) {
        if let Some(indexes) = &mut self.indexes {
            indexes.offsets.shrink();
            indexes.times.shrink();
        }
        self.prepared.shrink();
    }

    /// Up to where nobody writes its file any more, unless the log is cut: readers may have that in the page cache. Before the
    /// segment is sealed it is a multiple of the largest page there is, since a page is read whole.
    pub(super) fn settled(&self) -> u64 {
        if self.sealed { self.written_size } else { self.written_size - self.written_size % PAGE_BYTES_MAX }
    }

    /// What to read it from, if the handles for that are open.
    pub(super) fn source(&self) -> Option<Source> {
        if self.sealed {
            return self.cached.clone().map(Source::from);
        }
        let blocks = self.blocks.clone()?;
        match self.settled() {
            0 => Some(blocks.into()),
            settled => Some(Source::unsealed(blocks, self.cached.clone()?, settled)),
        }
    }

    /// Takes the handles to its file away.
    pub(super) fn take_files(&mut self) -> impl Iterator<Item = File> + use<> {
        self.blocks.take().into_iter().chain(self.cached.take())
    }

    /// Adds the last entry of the time index: the segment gets no more batches.
    pub(super) fn end_time_index(&mut self) {
        let indexes = self.indexes.as_mut().expect("a segment not yet sealed has its indexes");
        if let Some((max, offset)) = self.max_timestamp {
            indexes.times.append(max, offset);
        }
    }

    /// Whether a batch belongs into a new segment (Kafka's `LogSegment.shouldRoll`).
    pub(super) fn is_full_for(&self, batch: &Incoming, config: &LogConfig, now: i64) -> bool {
        if batch.last_offset - self.base > i64::from(i32::MAX) {
            return true;
        }
        if self.size == 0 {
            return false;
        }
        let indexes = self.indexes.as_ref().expect("the active segment's indexes are in memory");
        let entries_max = config.segment_index_bytes as usize;
        let waited = match self.first_timestamp {
            Some(first) if first >= 0 => batch.max_timestamp.saturating_sub(first),
            _ => now.saturating_sub(self.created),
        };
        self.size + batch.len as u64 > u64::from(config.segment_bytes)
            || u64::try_from(waited).is_ok_and(|waited| waited.saturating_add(self.roll_jitter) > config.segment_ms_max())
            || indexes.offsets.len() >= entries_max / OFFSET_ENTRY_BYTES
            // One is kept free for the last entry, which sealing adds.
            || indexes.times.len() + 1 >= entries_max / TIME_ENTRY_BYTES
    }
}

/// The largest page of memory that Linux has (on arm64).
const PAGE_BYTES_MAX: u64 = 64 << 10;

/// What decides whether a batch still goes into a segment.
pub(super) struct Incoming {
    pub(super) len: usize,
    pub(super) last_offset: Offset,
    pub(super) max_timestamp: i64,
}
