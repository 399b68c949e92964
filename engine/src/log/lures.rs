//! What of a segment's file must be zeroed before it is written over as that of a new segment.
//!
//! Recovery tells what was written from what lay there before by the offsets, since those of removed segments are lower, and by the
//! checksum. But a power cut may come between any two sectors, and offset, length and epoch of a batch lie outside of the checksum:
//!
//! ```text
//!   ──────────── written ────────────┐ ┌──────────── what lay there ────────────
//!   … batch 8041 │ offset 8042, length │ CRC, records of what was batch 3017 │ …
//!                                    └─┘ a sector ends within the header
//! ```
//!
//! This is a batch at the right offset, of the right length, whose checksum holds, and other records. It takes one at this very place
//! before: where all are of one length, nothing is more common. So the blocks are noted in which what is left of a header begins, of
//! each batch and of what looks like one within a batch.

use crate::batch::{self, CRC_END};
use crate::limits::BLOCK;

/// Blocks of a segment's file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Lures {
    /// For each how many lie between it and the one before; [`FAR`] stands for that many blocks, and the rest follows.
    gaps: Vec<u8>,
    /// The block after the last one.
    next: u64,
}

impl Lures {
    /// Notes the blocks in which a batch that begins at `pos` is one, or has some. False if they have become so many that it is not worth
    /// while to zero them.
    pub(super) fn note(&mut self, pos: u64, batch: &[u8]) -> bool {
        let first = SECTOR - (pos % SECTOR as u64) as usize;
        for begin in (first..batch.len()).step_by(SECTOR) {
            if begin < CRC_END || is_within_header(batch, begin) {
                self.add((pos + begin as u64) / BLOCK);
            }
        }
        self.gaps.len() as u64 <= FEW + self.next / BLOCKS_A_LURE
    }

    fn add(&mut self, block: u64) {
        let Some(gap) = block.checked_sub(self.next) else { return };
        let far = (gap / u64::from(FAR)) as usize;
        self.gaps.resize(self.gaps.len() + far, FAR);
        self.gaps.push((gap % u64::from(FAR)) as u8);
        self.next = block + 1;
    }

    /// Where they begin in the file.
    pub(super) fn positions(&self) -> Vec<u64> {
        let mut positions = Vec::new();
        let mut block = 0;
        for &gap in &self.gaps {
            block += u64::from(gap);
            if gap < FAR {
                positions.push(block * BLOCK);
                block += 1;
            }
        }
        positions
    }

    /// Gives up memory for more.
    pub(super) fn shrink(&mut self) {
        self.gaps.shrink_to_fit();
    }
}

/// Whether the sector that begins at `begin` within a batch begins within, or with, what looks like the header of another, as a copy of a
/// log's file has it.
#[inline]
fn is_within_header(batch: &[u8], begin: usize) -> bool {
    // The magic byte of each that may begin here.
    let magics = begin + batch::MAGIC_AT - (CRC_END - 1)..(begin + batch::MAGIC_AT + 1).min(batch.len());
    match batch.get(magics.start..).and_then(|magics| magics.first_chunk::<WIDE>()) {
        // By far the most: sixteen bytes are compared at a time.
        Some(wide) if !wide.iter().fold(false, |any, byte| any | (*byte == 2)) => false,
        _ => magics.into_iter().any(|magic| batch::looks_begun(&batch[magic - batch::MAGIC_AT..])),
    }
}

/// The least that a device writes wholly or not at all.
const SECTOR: usize = 512;

/// A gap between two lures that is not the last part of it.
const FAR: u8 = u8::MAX;

/// So many lures are always worth their while, and more where there is one in so many blocks: batches of 3 KB have about as many. In a GiB they take
/// 16 KiB of memory.
const FEW: u64 = 64;
const BLOCKS_A_LURE: u64 = 16;

/// The bytes of the places where a magic byte may be, rounded up to what is compared at once.
const WIDE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_as_they_were_noted() {
        let mut lures = Lures::default();
        let blocks = [0, 1, 1, 3, 258, 514, 769, 1025, 100_000, 100_001];
        blocks.iter().for_each(|block| lures.add(*block));
        let told: Vec<u64> = lures.positions().iter().map(|pos| pos / BLOCK).collect();
        assert_eq!(told, [0, 1, 3, 258, 514, 769, 1025, 100_000, 100_001]);
    }
}
