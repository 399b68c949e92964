//! The newest batches of a shard's logs, in the memory they were written from, within one budget of bytes.

use super::Offset;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// A shard's budget for the newest batches of all its logs. The oldest go first, whichever log they are of.
#[derive(Clone)]
pub struct Cache(Rc<RefCell<Inner>>);

struct Inner {
    bytes_max: usize,
    bytes: usize,
    /// Every chunk that was put in, oldest first.
    queue: VecDeque<Entry>,
}

struct Entry {
    chunks: Weak<Chunks>,
    number: u64,
    charge: usize,
}

impl Cache {
    /// A cache that holds up to this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Inner { bytes_max, bytes: 0, queue: VecDeque::new() })))
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }

    /// Puts in a log's next chunk. `charge` is the memory it keeps from being freed.
    pub(super) fn push(&self, chunks: &Rc<Chunks>, chunk: Chunk, charge: usize) {
        let mut inner = self.0.borrow_mut();
        let number = chunks.push(chunk);
        inner.bytes += charge;
        inner.queue.push_back(Entry { chunks: Rc::downgrade(chunks), number, charge });
        while inner.bytes > inner.bytes_max {
            let Some(oldest) = inner.queue.pop_front() else { break };
            inner.bytes -= oldest.charge;
            if let Some(chunks) = oldest.chunks.upgrade() {
                chunks.evict(oldest.number);
            }
        }
    }
}

/// One log's chunks in the cache: adjoining runs of its newest batches, oldest first.
#[derive(Default)]
pub(super) struct Chunks(RefCell<ChunkList>);

#[derive(Default)]
struct ChunkList {
    chunks: VecDeque<(u64, Chunk)>,
    next_number: u64,
}

/// Whole batches that lie side by side in one segment.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) segment: Offset,
    pub(super) pos: u64,
    pub(super) base_offset: Offset,
    pub(super) next_offset: Offset,
    pub(super) bytes: Bytes,
}

impl Chunks {
    fn push(&self, chunk: Chunk) -> u64 {
        let mut list = self.0.borrow_mut();
        let number = list.next_number;
        list.next_number += 1;
        list.chunks.push_back((number, chunk));
        number
    }

    fn evict(&self, number: u64) {
        let mut list = self.0.borrow_mut();
        if list.chunks.front().is_some_and(|(first, _)| *first == number) {
            list.chunks.pop_front();
        }
    }

    /// Forgets all chunks: what they held was cut off the log.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().chunks.clear();
    }

    /// The `n`th chunk from the one that holds this offset.
    pub(super) fn nth_from(&self, offset: Offset, n: usize) -> Option<Chunk> {
        let list = self.0.borrow();
        let at = list.chunks.partition_point(|(_, chunk)| chunk.next_offset <= offset);
        let (_, first) = list.chunks.get(at)?;
        if first.base_offset > offset {
            return None;
        }
        list.chunks.get(at + n).map(|(_, chunk)| chunk.clone())
    }
}
