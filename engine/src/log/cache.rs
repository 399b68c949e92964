//! The newest batches of a shard's logs, in the memory they were written from, within one budget of bytes.

use super::Offset;
use super::arenas::Arenas;
use super::config::SharedConfigs;
use super::debt::Debt;
use super::demand::Demand;
use super::large_writes::LargeWrites;
use super::resting::Awake;
use crate::io::Instant;
use crate::io::buf::{aligned, aligned_past};
use crate::limits::{BLOCK, SCAN_DEBT_MAX};
use crate::shard::sync::Credits;
use bytes::{Bytes, BytesMut};
use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A shard's budget for the newest batches of all its logs. The oldest go first, whichever log they are of.
#[derive(Clone)]
pub struct Cache(Rc<RefCell<Inner>>, Rc<Shared>);

/// What the logs of a shard have together, beside the memory.
#[derive(Clone)]
struct Shared {
    debt: Debt,
    configs: SharedConfigs,
    awake: Awake,
    large_writes: LargeWrites,
    /// For those whose files are made ready to be recycled.
    recycling: Credits,
}

struct Inner {
    demand: Demand,
    /// What the chunks are charged for.
    bytes: usize,
    /// Those of them that lie in no arena: too large, or where a client's request came.
    own_bytes: usize,
    arenas: Arenas,
    /// Every chunk that was put in, oldest first.
    queue: VecDeque<Entry>,
}

struct Entry {
    chunks: Weak<RefCell<ChunkList>>,
    /// Bytes put in before it, by which it is known.
    put_in: u64,
    charge: usize,
    /// Of it, what lies in no arena.
    own: usize,
}

/// Files made ready at once: each is some thousand small writes, one after the other, while others want the device as well.
const RECYCLING_MAX: usize = 4;

/// The smallest part of an arena that a request is received into.
const ARENA_PARTS: usize = 4;

impl Cache {
    /// A cache that holds up to this many bytes; of much that is written not many more than are read.
    pub fn new(bytes_max: usize) -> Self {
        let arenas = Arenas::new(bytes_max);
        Self(
            Rc::new(RefCell::new(Inner {
                demand: Demand::new(bytes_max),
                bytes: 0,
                own_bytes: 0,
                arenas,
                queue: VecDeque::new(),
            })),
            Rc::new(Shared {
                debt: Debt::new(SCAN_DEBT_MAX),
                configs: SharedConfigs::default(),
                awake: Awake::default(),
                large_writes: LargeWrites::default(),
                recycling: Credits::new(RECYCLING_MAX),
            }),
        )
    }

    /// The same, with another bound of what recovery would have to scan of the logs that share it: for those who write little, and
    /// want to see checkpoints.
    pub fn with_scan_debt(self, bytes_max: u64) -> Self {
        let debt = Debt::new(bytes_max);
        Self(self.0, Rc::new(Shared { debt, ..Shared::clone(&self.1) }))
    }

    /// The same, with another time after which logs rest that nobody writes to: for those who want to see it.
    pub fn with_rest_after(self, after: Duration) -> Self {
        let awake = Awake::resting_after(after);
        Self(self.0, Rc::new(Shared { awake, ..Shared::clone(&self.1) }))
    }

    /// The settings that the same logs share.
    pub(super) fn configs(&self) -> &SharedConfigs {
        &self.1.configs
    }

    /// What the same logs would have to scan in a recovery.
    pub(super) fn debt(&self) -> &Debt {
        &self.1.debt
    }

    /// Those of the same logs that are not at rest.
    pub(super) fn awake(&self) -> &Awake {
        &self.1.awake
    }

    /// The line in which the same logs' large writes stand.
    pub(super) fn large_writes(&self) -> &LargeWrites {
        &self.1.large_writes
    }

    /// The line in which the same logs' files stand that are made ready to be recycled.
    pub(super) fn recycling(&self) -> &Credits {
        &self.1.recycling
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        let inner = self.0.borrow();
        inner.own_bytes + inner.arenas.bytes()
    }

    /// Memory for at least this many bytes of a tail buffer, better for `wanted`: whole, aligned blocks. Old chunks go for
    /// it; where none is left the budget is overdrawn, since what is not written yet cannot go.
    pub(super) fn room(&self, least: usize, wanted: usize) -> BytesMut {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        if least > inner.arenas.arena_bytes() {
            return aligned(least);
        }
        loop {
            if let Some(room) = inner.arenas.room(least, wanted) {
                return room;
            }
            inner.next_arena();
        }
    }

    /// Memory for this many bytes that begin so far past a multiple of 4 KiB: a room, if they fill a good part of an arena.
    pub(super) fn request_memory(&self, len: usize, past: usize) -> BytesMut {
        let past = past % BLOCK as usize;
        let needed = (past + len).next_multiple_of(BLOCK as usize);
        let arena_bytes = self.0.borrow().arenas.arena_bytes();
        // Whoever sends slowly holds an arena: that must not be much more than what is counted for the request.
        if needed > arena_bytes || len < arena_bytes / ARENA_PARTS {
            return aligned_past(len, past);
        }
        let mut room = self.room(needed, needed);
        self.give_back(room.split_off(needed));
        room.split_off(past)
    }

    /// Takes back what was not used of a room.
    pub(super) fn give_back(&self, room: BytesMut) {
        self.0.borrow_mut().arenas.give_back(room);
    }

    /// Puts in a log's next chunk, which keeps `copied` bytes of a room from being used again, and the memory of what was not copied.
    pub(super) fn push(&self, chunks: &Chunks, chunk: Chunk, copied: usize, now: impl FnOnce() -> Instant) {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        let charge = copied + chunk.rest.len();
        let in_arena = chunk.rest.is_empty() || inner.arenas.hold(&chunk.rest);
        let rest = if in_arena { 0 } else { chunk.rest.len() };
        let own = rest + if copied > inner.arenas.arena_bytes() { copied } else { 0 };
        let list = chunks.0.get_or_init(Rc::default);
        let put_in = inner.demand.put_in(charge, now);
        list.borrow_mut().chunks.push_back((put_in, chunk));
        inner.bytes += charge;
        inner.own_bytes += own;
        inner.queue.push_back(Entry { chunks: Rc::downgrade(list), put_in, charge, own });
        while inner.bytes > inner.bytes_max() && inner.evict() {}
        if own > 0 {
            inner.fit();
        }
    }

    /// A log's chunk that holds this offset, for somebody who reads from there on.
    pub(super) fn find(&self, chunks: &Chunks, offset: Offset) -> Option<Chunk> {
        let (put_in, chunk) = chunks.nth_from(offset, 0)?;
        self.0.borrow_mut().demand.found(put_in);
        Some(chunk)
    }

    /// Somebody reads what is not here any more, so far before the end of its log.
    pub(super) fn missed(&self, behind: u64) {
        self.0.borrow_mut().demand.missed(behind);
    }
}

impl Inner {
    /// How much all may take.
    fn bytes_max(&self) -> usize {
        self.demand.wanted()
    }

    /// Lets go of the oldest chunk; false if there is none.
    fn evict(&mut self) -> bool {
        let Some(oldest) = self.queue.pop_front() else { return false };
        self.bytes -= oldest.charge;
        self.own_bytes -= oldest.own;
        if let Some(chunks) = oldest.chunks.upgrade() {
            chunks.borrow_mut().evict(oldest.put_in);
        }
        true
    }

    /// Lets go of a few of the oldest chunks; false if there is none. To see whether an arena is free now is to look at all of them.
    fn evict_some(&mut self) -> bool {
        let enough = self.bytes.saturating_sub(self.arenas.arena_bytes() / 16);
        let mut any = false;
        while (self.bytes > enough || !any) && self.evict() {
            any = true;
        }
        any
    }

    /// Lets go of chunks, and of the arenas they lie in, until what is left fits into the budget.
    fn fit(&mut self) {
        loop {
            self.arenas.shrink_to(self.bytes_max().saturating_sub(self.own_bytes));
            if self.own_bytes + self.arenas.bytes() <= self.bytes_max() || !self.evict_some() {
                return;
            }
        }
    }

    /// Opens the next arena: a new one within the budget, or one of which all chunks have gone.
    fn next_arena(&mut self) {
        while !self.arenas.reuse() {
            let bytes = self.own_bytes + self.arenas.bytes() + self.arenas.arena_bytes();
            if bytes <= self.bytes_max() || !self.evict_some() {
                return self.arenas.grow();
            }
        }
        self.fit();
    }
}

/// One log's chunks in the cache: adjoining runs of its newest batches, oldest first. Takes memory once there is one.
#[derive(Default)]
pub(super) struct Chunks(OnceCell<Rc<RefCell<ChunkList>>>);

#[derive(Default)]
struct ChunkList {
    /// Each with the bytes put in before it.
    chunks: VecDeque<(u64, Chunk)>,
}

/// Whole batches that lie side by side in one segment; or one, of which `bytes` is the start and `rest` the rest.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) segment: Offset,
    pub(super) pos: u64,
    pub(super) base_offset: Offset,
    pub(super) next_offset: Offset,
    pub(super) bytes: Bytes,
    pub(super) rest: Bytes,
}

impl Chunks {
    fn list(&self) -> Option<RefMut<'_, ChunkList>> {
        self.0.get().map(|list| list.borrow_mut())
    }

    /// Gives up the memory for more.
    pub(super) fn shrink(&self) {
        if let Some(mut list) = self.list() {
            list.chunks.shrink_to_fit();
        }
    }

    /// Forgets all chunks: what they held was cut off the log.
    pub(super) fn clear(&self) {
        if let Some(mut list) = self.list() {
            list.chunks.clear();
        }
    }

    /// Forgets the chunks that begin before this offset: their segments have been replaced.
    pub(super) fn forget_before(&self, offset: Offset) {
        let Some(mut list) = self.list() else { return };
        while list.chunks.front().is_some_and(|(_, chunk)| chunk.base_offset < offset) {
            list.chunks.pop_front();
        }
    }

    /// The `n`th chunk from the one that holds this offset, and the bytes put in before it.
    pub(super) fn nth_from(&self, offset: Offset, n: usize) -> Option<(u64, Chunk)> {
        let list = self.0.get()?.borrow();
        let at = list.chunks.partition_point(|(_, chunk)| chunk.next_offset <= offset);
        let (_, first) = list.chunks.get(at)?;
        if first.base_offset > offset {
            return None;
        }
        list.chunks.get(at + n).cloned()
    }
}

impl ChunkList {
    fn evict(&mut self, put_in: u64) {
        if self.chunks.front().is_some_and(|(first, _)| *first == put_in) {
            self.chunks.pop_front();
            if self.chunks.is_empty() {
                // Since its newest batch all the memory has been used once: the log is idle.
                self.chunks = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_round_within_the_budget() {
        let budget = 1 << 20;
        let cache = Cache::new(budget);
        let chunks = Chunks::default();
        for round in 0..1000 {
            let offset: Offset = round;
            let len = if round % 100 == 0 { 300_000 } else { 20_000 };
            let mut room = cache.room(len, 64 << 10);
            assert!(room.capacity() >= len && room.as_ptr().addr().is_multiple_of(4096));
            room.resize(len.next_multiple_of(4096), 1);
            let bytes = room.split_to(room.len()).freeze();
            cache.give_back(room);
            let charge = bytes.len();
            let chunk = Chunk {
                segment: 0,
                pos: 0,
                base_offset: offset,
                next_offset: offset + 1,
                bytes,
                rest: Bytes::new(),
            };
            cache.push(&chunks, chunk, charge, Instant::default);
            assert!(cache.bytes() <= budget, "round {round} holds {}", cache.bytes());
        }
        let kept = chunks.list().unwrap().chunks.len();
        assert!(kept > 10, "the newest {kept} chunks are still there");
    }
}
