//! The checkpoint of a log: where recovery may begin, and what it must know to begin there.
//!
//! ```text
//!   magic "ringlogC" | version u32 | body length u32 | CRC-32C of the body u32 | body
//!   body: log_start i64 | offset i64 | segment i64 | pos u64 | created i64 | first_timestamp i64 | max_timestamp i64 |
//!         max_timestamp_offset i64 | clearing u8 | producers | epochs | offset index | time index   (each: length u32, bytes)
//! ```

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
    /// The indexes of that segment, as in its files.
    pub(super) offsets: Vec<u8>,
    pub(super) times: Vec<u8>,
}

/// The name of the file in the partition's directory.
pub(super) const CHECKPOINT_FILE: &str = "ringlog.checkpoint";

/// No log comes as far: half of all offsets there are.
pub(super) const OFFSET_MAX: Offset = i64::MAX >> 1;

const MAGIC: &[u8; 8] = b"ringlogC";
const VERSION: u32 = 1;

impl Checkpoint {
    /// The file's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
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
        let mut file = Vec::with_capacity(body.len() + 20);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&VERSION.to_be_bytes());
        file.extend_from_slice(&(body.len() as u32).to_be_bytes());
        file.extend_from_slice(&crc_fast::crc32_iscsi(&body).to_be_bytes());
        file.extend_from_slice(&body);
        file
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

    /// Reads a file's bytes; `None` if they are not a whole checkpoint of a known version.
    pub(super) fn decode(file: &[u8]) -> Option<Self> {
        let mut reader = Reader(file);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return None;
        }
        let len = reader.u32()? as usize;
        let crc = reader.u32()?;
        if reader.0.len() != len || crc_fast::crc32_iscsi(reader.0) != crc {
            return None;
        }
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
        };
        let file = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&file), Some(checkpoint));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Checkpoint::decode(&damaged), None, "byte {at} changed");
            assert_eq!(Checkpoint::decode(&file[..at]), None, "cut to {at} bytes");
        }
    }
}
