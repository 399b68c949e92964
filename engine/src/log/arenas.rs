//! The memory of a shard's tail buffers and its cache: arenas of one size, used again when nothing in them is needed any more.
//!
//! ```text
//!   arena   |keeper| room of log A | room of log B | ...   open: not given out yet
//!                    blocks written, cached, being sent: slices of it
//! ```
//!
//! Memory that comes fresh from the kernel costs a page fault per 4 KiB and is zeroed first, which is as much as all else that is
//! done with a byte; and what lies behind a slice is held whole, so it is whole arenas that are counted. An arena is a huge page.

use crate::io::buf::{BLOCK, HUGE_PAGE, aligned};
use bytes::{Bytes, BytesMut};

/// One shard's arenas.
pub(super) struct Arenas {
    arena_bytes: usize,
    /// The first block of each arena: while it is the only handle, nothing of the arena is in use.
    keepers: Vec<Bytes>,
    /// What has not been given out of the newest arena.
    open: BytesMut,
    /// Rooms that came back half used and could not be joined to `open`.
    spare: Vec<BytesMut>,
}

/// An arena, where the budget allows: all but the first block of a huge page. Two of the largest writes fit in it, about, and no more,
/// since a reply to a slow consumer holds all of it.
const ARENA_BYTES: usize = HUGE_PAGE - BLOCK;
/// The smallest arena: a budget holds eight, if they may be as small as this.
const ARENA_BYTES_LEAST: usize = 64 << 10;
/// Spare rooms that are kept, and the smallest worth it.
const SPARE_MAX: usize = 16;
const SPARE_BYTES_MIN: usize = 4 * BLOCK;

impl Arenas {
    /// No arena yet; their size follows the budget.
    pub(super) fn new(bytes_max: usize) -> Self {
        let arena_bytes = (bytes_max / 8).clamp(ARENA_BYTES_LEAST, ARENA_BYTES);
        let arena_bytes = arena_bytes - arena_bytes % BLOCK;
        Self { arena_bytes, keepers: Vec::new(), open: BytesMut::new(), spare: Vec::new() }
    }

    /// Bytes of one arena.
    pub(super) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// Whether these bytes lie in an arena.
    pub(super) fn hold(&self, bytes: &[u8]) -> bool {
        let at = bytes.as_ptr().addr();
        self.keepers.iter().any(|keeper| {
            let begins = keeper.as_ptr().addr();
            (begins..=begins + self.arena_bytes).contains(&at)
        })
    }

    /// Bytes of all arenas.
    pub(super) fn bytes(&self) -> usize {
        self.keepers.len() * self.arena_bytes
    }

    /// Room for `least` bytes, better for `wanted`, out of an arena that is there. `least` fits into one.
    pub(super) fn room(&mut self, least: usize, wanted: usize) -> Option<BytesMut> {
        if let Some(at) = self.spare.iter().position(|spare| spare.capacity() >= least) {
            return Some(self.spare.swap_remove(at));
        }
        if self.open.capacity() < least {
            return None;
        }
        if wanted >= self.open.capacity() {
            return Some(std::mem::take(&mut self.open));
        }
        let rest = self.open.split_off(wanted.max(least));
        Some(std::mem::replace(&mut self.open, rest))
    }

    /// Opens an arena in which nothing is in use; false if there is none.
    pub(super) fn reuse(&mut self) -> bool {
        // What is left is too little for who asks, and must not keep its arena from being used again.
        self.spare.clear();
        self.open = BytesMut::new();
        let Some(at) = self.keepers.iter().position(Bytes::is_unique) else { return false };
        match self.keepers.swap_remove(at).try_into_mut() {
            Ok(arena) => self.open(arena),
            Err(_) => unreachable!("nobody else has a handle to make more of"),
        }
        true
    }

    /// Opens a new arena.
    pub(super) fn grow(&mut self) {
        let mut arena = aligned(BLOCK + self.arena_bytes);
        arena.resize(BLOCK, 0);
        self.open(arena);
    }

    /// Lets go of arenas in which nothing is in use while all together are larger than this.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        while self.bytes() > bytes {
            let Some(at) = self.keepers.iter().position(Bytes::is_unique) else { return };
            self.keepers.swap_remove(at);
        }
    }

    /// Takes back room that was not used.
    pub(super) fn give_back(&mut self, mut room: BytesMut) {
        room.clear();
        let end = room.as_ptr().addr() + room.capacity();
        if room.capacity() > 0 && end == self.open.as_ptr().addr() {
            // Only what is filled can be joined.
            room.resize(room.capacity(), 0);
            let open = std::mem::take(&mut self.open);
            if room.try_unsplit(open).is_ok() {
                room.clear();
            }
            self.open = room;
        } else if room.capacity() >= SPARE_BYTES_MIN && self.spare.len() < SPARE_MAX {
            self.spare.push(room);
        }
    }

    fn open(&mut self, mut arena: BytesMut) {
        let keeper = arena.split_to(BLOCK);
        self.keepers.push(keeper.freeze());
        // Aligning has left a little more than was asked for.
        drop(arena.split_off(self.arena_bytes));
        self.open = arena;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_is_used_again_when_nothing_in_it_is_needed() {
        let mut arenas = Arenas::new(8 * ARENA_BYTES_LEAST);
        assert!(arenas.room(BLOCK, BLOCK).is_none(), "nothing is there yet");
        arenas.grow();
        let at = arenas.open.as_ptr();
        let mut room = arenas.room(BLOCK, 2 * BLOCK).unwrap();
        assert_eq!((room.as_ptr(), room.capacity()), (at, 2 * BLOCK));
        room.resize(BLOCK, 7);
        let written = room.split_to(BLOCK).freeze();
        let sent = written.slice(..10);
        arenas.give_back(room);
        assert_eq!(
            arenas.open.as_ptr().addr(),
            at.addr() + BLOCK,
            "what was not used is joined to the open rest"
        );
        let all = arenas.room(BLOCK, usize::MAX).unwrap();
        assert_eq!(all.capacity(), ARENA_BYTES_LEAST - BLOCK);
        drop((written, all));
        assert!(!arenas.reuse(), "ten bytes of it are being sent");
        assert_eq!(&sent[..], [7; 10]);
        drop(sent);
        // The empty rest has let go of it as well.
        assert!(arenas.reuse());
        assert_eq!(arenas.open.as_ptr(), at);
        assert_eq!(arenas.bytes(), ARENA_BYTES_LEAST);
        arenas.room(BLOCK, usize::MAX).unwrap();
        arenas.shrink_to(0);
        assert_eq!(arenas.bytes(), 0);
    }

    #[test]
    fn rooms_that_cannot_be_joined_are_kept_for_who_needs_little() {
        let mut arenas = Arenas::new(0);
        arenas.grow();
        let first = arenas.room(8 * BLOCK, 8 * BLOCK).unwrap();
        let second = arenas.room(BLOCK, BLOCK).unwrap();
        let at = first.as_ptr();
        arenas.give_back(first);
        let again = arenas.room(BLOCK, 2 * BLOCK).unwrap();
        assert_eq!((again.as_ptr(), again.capacity()), (at, 8 * BLOCK));
        drop(second);
    }
}
