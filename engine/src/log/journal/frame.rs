//! What a frame of a journal is made of.

use super::LogId;
use crate::limits::BLOCK;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Adds an entry to a frame.
pub(in crate::log) fn put_entry(frame: &mut BytesMut, log: LogId, batches: &[u8]) {
    frame.put_slice(&log.topic);
    frame.put_i32(log.index);
    frame.put_u32(u32::try_from(batches.len()).expect("a frame is far smaller than 4 GiB"));
    frame.put_slice(batches);
}

/// Says in a frame how many of its generation, from the first on, were durable when it was written: as a cut of the log that there is not, which a
/// reader that does not know better passes over.
pub(super) fn put_durable(frame: &mut BytesMut, frames: u32) {
    put_entry(frame, LogId { topic: NO_TOPIC, index: frames.cast_signed() }, &[]);
}

/// Which of all frames one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) run: u64,
    pub(super) generation: u64,
    pub(super) number: u32,
}

impl FrameHeader {
    /// Fills in the header at the front of a frame, and zeroes behind its entries up to a whole block.
    pub(super) fn seal(self, frame: &mut BytesMut) {
        let len = u32::try_from(frame.len()).expect("a frame is far smaller than 4 GiB");
        let mut header = &mut frame[8..HEADER_LEN];
        header.put_u64(self.run);
        header.put_u64(self.generation);
        header.put_u32(self.number);
        header.put_u32(len);
        let crc = crc_fast::crc32_iscsi(&frame[8..]);
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..8].copy_from_slice(&crc.to_be_bytes());
        frame.resize(frame.len().next_multiple_of(BLOCK as usize), 0);
    }

    /// Reads the frame that begins here: its header, and its entries; `None` where none is, or not all of it.
    pub(super) fn read(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let mut header = bytes.get(..HEADER_LEN)?;
        if header[..4] != MAGIC {
            return None;
        }
        header.advance(4);
        let crc = header.get_u32();
        let this = Self { run: header.get_u64(), generation: header.get_u64(), number: header.get_u32() };
        let len = header.get_u32() as usize;
        let frame = bytes.get(..len).filter(|frame| frame.len() >= HEADER_LEN)?;
        (crc_fast::crc32_iscsi(&frame[8..]) == crc).then(|| (this, bytes.slice(HEADER_LEN..len)))
    }
}

/// The entries of a frame, whose checksum holds.
pub(super) struct Entries(pub(super) Bytes);

impl Iterator for Entries {
    type Item = (LogId, Bytes);

    fn next(&mut self) -> Option<(LogId, Bytes)> {
        loop {
            let mut header = self.0.get(..ENTRY_LEN)?;
            let mut topic = [0; 16];
            header.copy_to_slice(&mut topic);
            let log = LogId { topic, index: header.get_i32() };
            let len = header.get_u32() as usize;
            if len > self.0.len() - ENTRY_LEN {
                return None;
            }
            self.0.advance(ENTRY_LEN);
            let batches = self.0.split_to(len);
            if topic != NO_TOPIC {
                return Some((log, batches));
            }
        }
    }
}

pub(super) const MAGIC: [u8; 4] = *b"RJL1";

/// Magic, CRC-32C of what follows, run, generation, number, and how long the frame is with this header and without its zeroes.
pub(super) const HEADER_LEN: usize = 32;

/// No topic has it.
pub(super) const NO_TOPIC: [u8; 16] = [0; 16];

/// Topic id, partition index, length.
pub(in crate::log) const ENTRY_LEN: usize = 24;
