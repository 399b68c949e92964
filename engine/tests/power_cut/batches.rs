//! Batches that tell whose they are: each names its log and its number, so that none can pass for another.

use bytes::{BufMut, Bytes, BytesMut};
use ringlog_engine::batch::HEADER_LEN;
use ringlog_engine::io::sim::Random;

/// What a batch is made of.
pub(crate) struct Made {
    /// Which log it is for.
    pub(crate) log: usize,
    /// Counts the batches of that log.
    pub(crate) number: u64,
    /// The idempotent producer and its sequence, if one sends it.
    pub(crate) producer: Option<(i64, i32)>,
    /// In milliseconds.
    pub(crate) timestamp: i64,
    /// Its length, if that is not to be drawn.
    pub(crate) len: Option<u64>,
}

impl Made {
    /// The batch as a client sends it, in this memory: base offset 0, no leader epoch. Large enough to be kept there, if `large`.
    pub(crate) fn encode(
        &self,
        random: &mut Random,
        large: bool,
        memory: impl FnOnce(usize) -> BytesMut,
    ) -> Bytes {
        let records = i32::try_from(random.within(1, 20)).unwrap();
        // Many small ones, some of several blocks.
        let most = [200, 200, 2000, 9000, 30_000][random.index(5)];
        let most = if large { LARGE_BYTES_MAX } else { most };
        let least = if large { 64 << 10 } else { 16 };
        let drawn = random.within(least, most);
        let body_len = usize::try_from(self.len.map_or(drawn, |len| len - HEADER_LEN as u64)).unwrap();
        let (producer, sequence) = self.producer.unwrap_or((-1, -1));
        let mut after_crc = BytesMut::new();
        after_crc.put_i16(0);
        after_crc.put_i32(records - 1);
        after_crc.put_i64(self.timestamp);
        after_crc.put_i64(self.timestamp);
        after_crc.put_i64(producer);
        after_crc.put_i16(if producer < 0 { -1 } else { 0 });
        after_crc.put_i32(sequence);
        after_crc.put_i32(records);
        after_crc.put_u64(self.log as u64);
        after_crc.put_u64(self.number);
        let mut fill = random.bits();
        while after_crc.len() < HEADER_LEN - CRC_END + body_len {
            fill = fill.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            after_crc.put_u8(fill as u8);
        }
        let mut batch = memory(CRC_END + after_crc.len());
        batch.put_i64(0);
        batch.put_i32(i32::try_from(CRC_END - LENGTH_END + after_crc.len()).unwrap());
        batch.put_i32(-1);
        batch.put_u8(2);
        batch.put_u32(crc32c::crc32c(&after_crc));
        batch.put(after_crc);
        batch.freeze()
    }
}

/// The largest batch.
pub(crate) const LARGE_BYTES_MAX: u64 = 130_000;
const LENGTH_END: usize = 12;
const CRC_END: usize = 21;
