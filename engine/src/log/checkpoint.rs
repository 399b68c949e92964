//! The checkpoint of a log: where recovery may begin, and what it must know to begin there.
//!
//! ```text
//!   magic "ringlogC" | version u32 | body length u32 | CRC-32C of the body u32 | body
//!   body: log_start i64 | offset i64 | segment i64 | pos u64 | created i64 | first_timestamp i64 | max_timestamp i64 |
//!         max_timestamp_offset i64 | clearing u8 | producers | epochs | offset index | time index   (each: length u32, bytes)
//!   more, any number of times: body length u32 | CRC-32C of the body u32 | body
//!   body: as above, but of the two indexes only the entries that have come since
//! ```
//!
//! What is added to a file stands for itself: one write and one sync, whatever the size of the segment. What was torn by a
//! crash is not there, and the checkpoint before it stands.

use super::Offset;

/// Where recovery may begin: everything below is durable, and summed up here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkpoint {
    /// The first offset that may be read.
    pub(super) log_start: Offset,
    /// Everything below this offset is durable.
    pub(super) offset: Offset,
    /// The segment in which `offset` comes next, and where in it.
    pub(super) segment: Offset,
    pub(super) pos: u64,
    /// When that segment was made, and the timestamps of its batches so far (-1: none).
    pub(super) created: i64,
    pub(super) first_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) max_timestamp_offset: Offset,
    /// All segments are about to be removed; the log goes on at `offset` without any.
    pub(super) clearing: bool,
    /// The producers' state, as in a `.snapshot` file.
    pub(super) producers: Vec<u8>,
    /// The leader epochs, as in the `leader-epoch-checkpoint` file.
    pub(super) epochs: Vec<u8>,
    /// The indexes of that segment, as in its files: from [`Checkpoint::from`] on.
    pub(super) offsets: Vec<u8>,
    pub(super) times: Vec<u8>,
    /// What the file already has of them: nothing, if this is a whole checkpoint.
    pub(super) from: IndexBytes,
}

/// Bytes of a segment's two indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct IndexBytes {
    pub(super) offsets: usize,
    pub(super) times: usize,
}

/// What a checkpoint's file holds, for who wants to add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnDisk {
    pub(super) segment: Offset,
    pub(super) indexes: IndexBytes,
    /// Bytes of the whole checkpoint the file begins with.
    whole: u64,
    /// Bytes of the file.
    pub(super) end: u64,
}

/// The name of the file in the partition's directory.
pub(super) const CHECKPOINT_FILE: &str = "ringlog.checkpoint";

/// No log comes as far: half of all offsets there are.
pub(super) const OFFSET_MAX: Offset = i64::MAX >> 1;

const MAGIC: &[u8; 8] = b"ringlogC";
const VERSION: u32 = 1;

/// A file whose checkpoint is small goes on for this long before it is written anew: some hundred times.
const MORE_BYTES: u64 = 64 << 10;

impl Checkpoint {
    /// The file's bytes, for a whole checkpoint.
    pub(super) fn encode(&self) -> Vec<u8> {
        assert_eq!(self.from, IndexBytes::default(), "a file begins with a whole checkpoint");
        let mut file = Vec::new();
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&VERSION.to_be_bytes());
        self.encode_body(&mut file);
        file
    }

    /// The bytes with which a file that holds `on_disk` goes on; `None` if it has to be written anew.
    pub(super) fn encode_more(&self, on_disk: &OnDisk) -> Option<Vec<u8>> {
        let goes_on =
            !self.clearing && self.segment == on_disk.segment && self.from == on_disk.indexes && self.pos > 0;
        if !goes_on {
            return None;
        }
        let mut more = Vec::new();
        self.encode_body(&mut more);
        // A file that is written anew now and then is at most twice as long as it must be.
        (on_disk.end + more.len() as u64 <= 2 * on_disk.whole + MORE_BYTES).then_some(more)
    }

    fn encode_body(&self, file: &mut Vec<u8>) {
        let mut body = Vec::new();
        for number in [self.log_start, self.offset, self.segment, self.pos as i64, self.created] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.first_timestamp, self.max_timestamp, self.max_timestamp_offset] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        body.push(u8::from(self.clearing));
        for part in [&self.producers, &self.epochs, &self.offsets, &self.times] {
            let len = u32::try_from(part.len()).expect("a part of a checkpoint is far smaller than 4 GiB");
            body.extend_from_slice(&len.to_be_bytes());
            body.extend_from_slice(part);
        }
        file.extend_from_slice(&(body.len() as u32).to_be_bytes());
        file.extend_from_slice(&crc_fast::crc32_iscsi(&body).to_be_bytes());
        file.extend_from_slice(&body);
    }

    /// Whether its numbers fit each other: what is appended after it would not otherwise.
    pub(super) fn makes_sense(&self) -> bool {
        let span = self.offset - self.segment.min(self.offset);
        (0..=OFFSET_MAX).contains(&self.log_start)
            && (0..=OFFSET_MAX).contains(&self.offset)
            && (0..=self.offset).contains(&self.segment)
            && span <= i64::from(i32::MAX) + 1
            && self.pos <= u64::from(u32::MAX)
            && (self.max_timestamp < 0 || (self.segment..self.offset).contains(&self.max_timestamp_offset))
    }

    /// What the file holds once this has been written to it: added to `before`, or alone.
    pub(super) fn on_disk(&self, before: Option<OnDisk>, bytes: u64) -> OnDisk {
        let IndexBytes { offsets, times } = self.from;
        OnDisk {
            segment: self.segment,
            indexes: IndexBytes { offsets: offsets + self.offsets.len(), times: times + self.times.len() },
            whole: before.map_or(bytes, |before| before.whole),
            end: before.map_or(0, |before| before.end) + bytes,
        }
    }

    /// Reads a file's bytes; `None` if they do not begin with a whole checkpoint of a known version.
    pub(super) fn decode(file: &[u8]) -> Option<Self> {
        Self::decode_file(file).map(|(checkpoint, _)| checkpoint)
    }

    /// The same, with what the file holds. If it ends later than [`OnDisk::end`], what lies there is torn or damaged.
    pub(super) fn decode_file(file: &[u8]) -> Option<(Self, OnDisk)> {
        let mut reader = Reader(file);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let mut checkpoint = Self::decode_body(&mut reader)?;
        let whole = (file.len() - reader.0.len()) as u64;
        let mut end = whole;
        while let Some(more) =
            Self::decode_body(&mut reader).filter(|more| more.segment == checkpoint.segment)
        {
            let offsets = [checkpoint.offsets, more.offsets].concat();
            let times = [checkpoint.times, more.times].concat();
            checkpoint = Self { offsets, times, ..more };
            end = (file.len() - reader.0.len()) as u64;
        }
        let indexes = IndexBytes { offsets: checkpoint.offsets.len(), times: checkpoint.times.len() };
        let on_disk = OnDisk { segment: checkpoint.segment, indexes, whole, end };
        Some((checkpoint, on_disk))
    }

    fn decode_body(reader: &mut Reader<'_>) -> Option<Self> {
        let len = reader.u32()? as usize;
        let crc = reader.u32()?;
        let body = reader.take(len)?;
        if crc_fast::crc32_iscsi(body) != crc {
            return None;
        }
        let mut reader = Reader(body);
        let mut number = || reader.i64();
        let [log_start, offset, segment, pos, created] =
            [number()?, number()?, number()?, number()?, number()?];
        let [first_timestamp, max_timestamp, max_timestamp_offset] = [number()?, number()?, number()?];
        let clearing = reader.take(1)?[0] != 0;
        let checkpoint = Self {
            log_start,
            offset,
            segment,
            pos: u64::try_from(pos).ok()?,
            created,
            first_timestamp,
            max_timestamp,
            max_timestamp_offset,
            clearing,
            producers: reader.part()?,
            epochs: reader.part()?,
            offsets: reader.part()?,
            times: reader.part()?,
            from: IndexBytes::default(),
        };
        reader.0.is_empty().then_some(checkpoint)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn part(&mut self) -> Option<Vec<u8>> {
        let len = self.u32()? as usize;
        self.take(len).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back_and_no_damaged_one_is() {
        let checkpoint = Checkpoint {
            log_start: 3,
            offset: 17,
            segment: 5,
            pos: 4711,
            created: 1,
            first_timestamp: -1,
            max_timestamp: 99,
            max_timestamp_offset: 16,
            clearing: true,
            producers: vec![1, 2, 3],
            epochs: b"0\n0\n".to_vec(),
            offsets: vec![],
            times: vec![9; 12],
            from: IndexBytes::default(),
        };
        let file = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&file), Some(checkpoint.clone()));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Checkpoint::decode(&damaged), None, "byte {at} changed");
            assert_eq!(Checkpoint::decode(&file[..at]), None, "cut to {at} bytes");
        }
    }
    #[test]
    fn what_is_added_stands_and_what_is_torn_does_not() {
        let first =
            Checkpoint { segment: 5, pos: 100, offset: 9, offsets: vec![1; 8], ..Checkpoint::default() };
        let mut file = first.encode();
        let mut on_disk = first.on_disk(None, file.len() as u64);
        let mut stages = vec![(file.len(), first)];
        for n in 2..6 {
            let checkpoint = Checkpoint {
                segment: 5,
                pos: 100 * u64::from(n),
                offset: 9 * i64::from(n),
                offsets: vec![n; 8],
                times: vec![n; 12],
                from: on_disk.indexes,
                ..Checkpoint::default()
            };
            let more = checkpoint.encode_more(&on_disk).expect("it goes on");
            on_disk = checkpoint.on_disk(Some(on_disk), more.len() as u64);
            file.extend_from_slice(&more);
            let last = &stages.last().unwrap().1;
            let offsets = [&last.offsets[..], &checkpoint.offsets].concat();
            let times = [&last.times[..], &checkpoint.times].concat();
            let from = IndexBytes::default();
            stages.push((file.len(), Checkpoint { offsets, times, from, ..checkpoint }));
        }
        for len in stages[0].0..=file.len() {
            let (at, expected) = stages.iter().rev().find(|(at, _)| *at <= len).unwrap();
            let (found, on_disk) = Checkpoint::decode_file(&file[..len]).unwrap();
            assert_eq!(found, *expected, "cut to {len} bytes");
            assert_eq!(on_disk.end, *at as u64, "cut to {len} bytes");
        }
        assert_eq!(Checkpoint::decode_file(&file).unwrap().1, on_disk);
        let other = Checkpoint { segment: 6, pos: 1, from: on_disk.indexes, ..Checkpoint::default() };
        assert_eq!(other.encode_more(&on_disk), None, "another segment");
        let behind = Checkpoint { segment: 5, pos: 1, ..Checkpoint::default() };
        assert_eq!(behind.encode_more(&on_disk), None, "entries the file has already");
    }
}
