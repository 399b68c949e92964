//! The tail buffer of one segment: batches placed and not yet written, in the very memory they are written from.
//!
//! ```text
//!   file   |<---- whole blocks ---->|<- last, partly filled block ->|
//!                                   ^ arena_pos (a multiple of 4 KiB)
//!   arena  [ copy of the partial block | batch | batch | ...  room ]
//!                                      ^ fresh: from here on in no block yet
//! ```
//!
//! Taking a block freezes the arena's front, zero-padded to 4 KiB: it is the write and, as slices, what
//! consumers at the tail are served. The memory behind it goes on as the arena, beginning with a copy of the
//! last partly filled block (at most 4,095 bytes), since that block is written again. It is a room in one of the shard's
//! arenas ([`super::arenas`]), and what was not used of it goes back there when nothing more comes.
//!
//! A large batch whose memory happens to lie as its bytes will lie in the file, block by block, is not copied: all but its
//! first and its last block are written from where they are ([`Tail::take_over`]), and the tail buffer goes on behind it.
//! [`super::Log::request_memory`] makes memory for one that is about to be received.
//!
//! ```text
//!   file    |partial|--head-->|<-- middle: whole blocks -->|--last->  (partial of what comes next)
//!   memory  [   arena        ][ the batch, where it came   ][ arena
//! ```

use super::Offset;
use super::cache::Cache;
use crate::batch::{self, HEADER_LEN, Header};
use crate::limits::{ARENA_BYTES_MAX, ARENA_BYTES_MIN, BLOCK};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::ops::Range;

/// The tail buffer of one segment.
pub(super) struct Tail {
    /// The segment's base offset.
    pub(super) segment: Offset,
    /// File bytes from `arena_pos` on; empty while everything placed is in blocks.
    arena: BytesMut,
    arena_pos: u64,
    /// What the arena will begin with when it is next used: the bytes of the last, partly filled block.
    partial: Bytes,
    /// The part of the file that is only there: zeroes stand for it here, until [`Tail::fill`].
    absent: Range<u64>,
    /// Where in the arena the bytes begin that are in no block yet.
    fresh: usize,
    /// Up to where in the arena the bytes have been given to the journal.
    journaled: usize,
    /// Offsets in the arena that are in no block yet.
    fresh_offsets: Range<Offset>,
    /// Blocks made because the arena was full; written in this order, before the arena.
    ready: VecDeque<Block>,
    ready_bytes: usize,
    /// How large the next arena will be: grows while batches come faster than they are written.
    arena_bytes: usize,
}

/// One write: whole blocks, and where in them lies what was not written before.
#[derive(Clone)]
pub(super) struct Block {
    /// Where in the file it goes; a multiple of 4 KiB.
    pub(super) pos: u64,
    /// Whole 4 KiB blocks, zero past the end of the last batch.
    pub(super) bytes: Bytes,
    /// One large batch that was not copied goes on here: whole blocks each, behind `bytes`.
    pub(super) more: Vec<Bytes>,
    /// The batches in it that no earlier block had.
    pub(super) fresh: Range<usize>,
    /// Of that large batch, what lies behind `bytes`.
    pub(super) rest: Bytes,
    /// Their offsets.
    pub(super) offsets: Range<Offset>,
}

/// A batch of this many bytes and more is worth two more parts of its write, of one block each, to be spared the copy.
pub(super) const TAKE_OVER_BYTES_MIN: usize = 64 << 10;

impl Block {
    /// Where in the file its last batch ends.
    pub(super) fn end_pos(&self) -> u64 {
        self.pos + (self.fresh.end + self.rest.len()) as u64
    }

    /// Bytes of whole blocks.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.more.iter().map(Bytes::len).sum::<usize>()
    }

    /// Puts in what it begins with.
    fn fill(&mut self, front: &[u8], cache: &Cache) {
        let len = self.bytes.len();
        let mut room = cache.room(len, len);
        room.extend_from_slice(front);
        room.extend_from_slice(&self.bytes[front.len()..]);
        self.bytes = room.split_to(len).freeze();
        cache.give_back(room);
    }

    /// Bytes of batches that no earlier block had.
    pub(super) fn fresh_bytes(&self) -> usize {
        self.fresh.len() + self.rest.len()
    }
}

impl Tail {
    /// A tail that goes on at byte `size` of the segment, whose last, partly filled block is in the file.
    pub(super) fn new(segment: Offset, size: u64, next_offset: Offset) -> Self {
        static ZEROES: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let arena_pos = size - size % BLOCK;
        Self {
            segment,
            arena: BytesMut::new(),
            arena_pos,
            partial: Bytes::from_static(&ZEROES[..(size - arena_pos) as usize]),
            absent: arena_pos..size,
            fresh: 0,
            journaled: 0,
            fresh_offsets: next_offset..next_offset,
            ready: VecDeque::new(),
            ready_bytes: 0,
            arena_bytes: 0,
        }
    }

    /// Up to where in the file the next block lacks what is only there.
    pub(super) fn absent_to(&self) -> Option<u64> {
        (!self.absent.is_empty()).then_some(self.absent.end)
    }

    /// Puts in what was only in the file, wherever it has got to: batches that came since lie behind it.
    pub(super) fn fill(&mut self, absent: &[u8], cache: &Cache) {
        let Range { start: pos, end } = std::mem::take(&mut self.absent);
        assert_eq!(absent.len() as u64, end - pos, "all that was absent");
        for block in self.ready.iter_mut().filter(|block| block.pos == pos) {
            block.fill(absent, cache);
        }
        if self.arena_pos != pos {
            return;
        }
        match self.arena.get_mut(..absent.len()) {
            Some(front) => front.copy_from_slice(absent),
            None => self.partial = [absent, &self.partial[absent.len()..]].concat().into(),
        }
    }

    /// Whether all that was placed has been written, and the bytes of the last block are here.
    pub(super) fn is_idle(&self) -> bool {
        self.arena.is_empty() && self.ready.is_empty() && self.absent.is_empty()
    }

    /// The bytes of the last, partly filled block, of a tail that is idle.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Copies a batch in and gives it back for stamping. `offsets` are those its records will have.
    pub(super) fn place(&mut self, batch: &[u8], offsets: Range<Offset>, cache: &Cache) -> &mut [u8] {
        if self.arena.is_empty() {
            self.begin(batch.len(), offsets.start, cache);
        } else if whole_blocks(self.arena.len() + batch.len()) > self.arena.capacity() {
            let grown = self.arena_bytes.max(self.arena.capacity()) * 2;
            self.arena_bytes = grown.clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX);
            self.freeze_ahead();
            self.begin(batch.len(), offsets.start, cache);
        }
        let at = self.arena.len();
        self.arena.extend_from_slice(batch);
        self.fresh_offsets.end = offsets.end;
        &mut self.arena[at..]
    }

    /// How far past a multiple of [`BLOCK`] the next batch will lie in the file.
    pub(super) fn past_block(&self) -> usize {
        let at = if self.arena.is_empty() { self.partial.len() } else { self.arena.len() };
        at % BLOCK as usize
    }

    /// Places a batch without copying it, if it is large and its memory lies as it will lie in the file: only what shares a block
    /// with other bytes, or gets the stamps of `header`, is copied. False if it has to be copied.
    pub(super) fn take_over(&mut self, batch: &Bytes, header: &Header, cache: &Cache) -> bool {
        const BLOCK_BYTES: usize = BLOCK as usize;
        let lies = batch.as_ptr().addr() % BLOCK_BYTES;
        if batch.len() < TAKE_OVER_BYTES_MIN || lies != self.past_block() {
            return false;
        }
        if !self.arena.is_empty() {
            self.freeze_ahead();
        }
        let mut head = BLOCK_BYTES - self.partial.len();
        if head < HEADER_LEN {
            head += BLOCK_BYTES;
        }
        let middle = head..batch.len() - (batch.len() - head) % BLOCK_BYTES;
        self.begin(head, header.base_offset, cache);
        let at = self.arena.len();
        self.arena.extend_from_slice(&batch[..head]);
        batch::stamp(&mut self.arena[at..], header.base_offset, header.leader_epoch);
        let mut block = self.freeze();
        assert!(self.partial.is_empty(), "the head ends with its block");
        block.offsets = header.base_offset..header.next_offset();
        self.arena_pos += middle.len() as u64;
        block.more.push(batch.slice(middle.clone()));
        if middle.end < batch.len() {
            self.begin(batch.len() - middle.end, header.next_offset(), cache);
            self.arena.extend_from_slice(&batch[middle.end..]);
            block.more.push(self.freeze().bytes);
        }
        block.rest = batch.slice(head..);
        self.ready_bytes += block.fresh_bytes();
        self.ready.push_back(block);
        true
    }

    /// Makes a block of the arena, to be written before what comes next.
    fn freeze_ahead(&mut self) {
        let full = self.freeze();
        self.ready_bytes += full.fresh_bytes();
        self.ready.push_back(full);
    }

    /// Bytes placed that no block taken so far holds.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.ready_bytes + self.arena.len().saturating_sub(self.fresh)
    }

    /// The batches that are in no block yet, and where in the file they will lie.
    pub(super) fn unfiled(&self) -> (&[u8], u64) {
        let bytes = if self.arena.is_empty() { &[] } else { &self.arena[self.fresh..] };
        (bytes, self.arena_pos + self.fresh as u64)
    }

    /// Their offsets.
    pub(super) fn unfiled_offsets(&self) -> Range<Offset> {
        if self.arena.is_empty() { 0..0 } else { self.fresh_offsets.clone() }
    }

    /// Those of them that the journal does not have.
    pub(super) fn unjournaled(&self) -> &[u8] {
        if self.arena.is_empty() { &[] } else { &self.arena[self.fresh.max(self.journaled)..] }
    }

    /// The journal has got them all.
    pub(super) fn journaled(&mut self) {
        self.journaled = self.arena.len();
    }

    /// Whether no more than this is in no block yet, and no block waits to be written.
    pub(super) fn may_gather(&self, bytes_max: usize) -> bool {
        self.ready.is_empty() && self.unfiled().0.len() <= bytes_max
    }

    /// Where in the file the next block's valid bytes will end, if there is one.
    pub(super) fn next_block_end(&self) -> Option<u64> {
        if let Some(block) = self.ready.front() {
            return Some(block.pos + block.len() as u64);
        }
        (!self.arena.is_empty()).then(|| self.arena_pos + whole_blocks(self.arena.len()) as u64)
    }

    /// The next block to write: all that has been placed since the last, up to the size of an arena.
    pub(super) fn take_block(&mut self) -> Option<Block> {
        if let Some(block) = self.ready.pop_front() {
            self.ready_bytes -= block.fresh_bytes();
            return Some(block);
        }
        (!self.arena.is_empty()).then(|| self.freeze())
    }

    /// Nothing has come since the last write: lets go of the memory kept ready for more.
    pub(super) fn rest(&mut self, cache: &Cache) {
        if self.arena.is_empty() && self.ready.is_empty() {
            cache.give_back(std::mem::take(&mut self.arena));
            // A copy, so that a log at rest holds no arena.
            self.partial = Bytes::copy_from_slice(&self.partial);
            self.arena_bytes /= 2;
        }
    }

    /// Makes the arena ready for a batch: with the partial block in front, room for the batch and its padding.
    fn begin(&mut self, len: usize, base_offset: Offset, cache: &Cache) {
        let needed = whole_blocks(self.partial.len() + len);
        if needed > self.arena.capacity() {
            cache.give_back(std::mem::take(&mut self.arena));
            self.arena = cache.room(needed, whole_blocks(needed.max(self.arena_bytes)));
        }
        let partial = std::mem::take(&mut self.partial);
        self.arena.extend_from_slice(&partial);
        self.fresh = partial.len();
        self.fresh_offsets = base_offset..base_offset;
    }

    fn freeze(&mut self) -> Block {
        let valid = self.arena.len();
        let padded = whole_blocks(valid);
        self.arena.resize(padded, 0);
        let bytes = self.arena.split_to(padded).freeze();
        let whole = valid - valid % BLOCK as usize;
        self.partial = bytes.slice(whole..valid);
        let block = Block {
            pos: self.arena_pos,
            bytes,
            more: Vec::new(),
            fresh: self.fresh..valid,
            rest: Bytes::new(),
            offsets: self.fresh_offsets.clone(),
        };
        self.arena_pos += whole as u64;
        (self.fresh, self.journaled) = (0, 0);
        block
    }
}

/// Rounds up to whole 4 KiB blocks.
pub(super) fn whole_blocks(len: usize) -> usize {
    len.next_multiple_of(BLOCK as usize)
}
