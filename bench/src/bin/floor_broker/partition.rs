//! A partition: a file of blocks written before, or of fresh ones, and what is to be written next. One write is under way at a time; what comes
//! meanwhile goes with the next.

use crate::memory::Memory;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, fallocate, fdatasync, openat};
use rustix::io::pwrite;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Who waits for a batch: a connection, and which of its requests.
pub(crate) type Waiter = (usize, u64);

pub(crate) struct Partition {
    pub(crate) file: OwnedFd,
    size: u64,
    fresh: bool,
    /// Where the block of the first byte in `next` lies.
    pos: u64,
    /// Begins with what the last block holds already.
    next: Memory,
    filled: usize,
    /// The first block of `next` has been written before.
    goes_on: bool,
    waiting: Vec<Waiter>,
    /// What is being written.
    now: Memory,
    pub(crate) written: Vec<Waiter>,
    /// Operations of the write that is under way.
    pub(crate) writing: usize,
    next_offset: i64,
}

const BLOCK: usize = 4096;
/// Room for all that may come while a write is under way.
const ROOM: usize = 16 << 20;

impl Partition {
    pub(crate) fn create(path: &Path, size: u64, fresh: bool, buffered: bool) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let flags = if buffered { flags } else { flags | OFlags::DIRECT };
        let flags = if fresh { flags | OFlags::TRUNC } else { flags };
        let file = openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
        if fresh {
            fallocate(&file, FallocateFlags::empty(), 0, size)?;
        } else {
            let zeroes = Memory::new(1 << 20);
            for at in (0..size).step_by(zeroes.len()) {
                pwrite(&file, &zeroes, at)?;
            }
        }
        fdatasync(&file)?;
        Ok(Self {
            file,
            size,
            fresh,
            pos: 0,
            next: Memory::new(ROOM),
            filled: 0,
            goes_on: false,
            waiting: Vec::new(),
            now: Memory::new(ROOM),
            written: Vec::new(),
            writing: 0,
            next_offset: 0,
        })
    }

    /// Takes a batch, and returns the offset of its first record.
    pub(crate) fn append(&mut self, batch: &[u8], records: i64, waiter: Waiter) -> i64 {
        self.next[self.filled..self.filled + batch.len()].copy_from_slice(batch);
        self.filled += batch.len();
        self.waiting.push(waiter);
        let offset = self.next_offset;
        self.next_offset += records;
        offset
    }

    /// What is to be written now, in whole blocks, where, and at which byte it is cut; none while a write is under way or nothing waits.
    pub(crate) fn begin_write(&mut self) -> Option<(&[u8], u64, usize)> {
        if self.writing > 0 || self.waiting.is_empty() {
            return None;
        }
        let len = self.filled.next_multiple_of(BLOCK);
        if self.pos + len as u64 > self.size {
            assert!(!self.fresh, "fresh space is used up: more --megabytes are needed");
            self.pos = 0;
        }
        // A direct write across a block written before and fresh ones would leave the core.
        let cut = if self.fresh && self.goes_on && len > BLOCK { BLOCK } else { 0 };
        self.writing = if cut > 0 { 2 } else { 1 };
        let pos = self.pos;
        std::mem::swap(&mut self.next, &mut self.now);
        std::mem::swap(&mut self.waiting, &mut self.written);
        // The last block goes on.
        let whole = self.filled / BLOCK * BLOCK;
        self.filled -= whole;
        self.next[..self.filled].copy_from_slice(&self.now[whole..whole + self.filled]);
        self.pos += whole as u64;
        self.goes_on = self.filled > 0;
        Some((&self.now[..len], pos, cut))
    }

    /// Writes through the page cache what waits; says whether anything did.
    pub(crate) fn write_buffered(&mut self) -> io::Result<bool> {
        if self.waiting.is_empty() {
            return Ok(false);
        }
        if self.pos + self.filled as u64 > self.size {
            self.pos = 0;
        }
        pwrite(&self.file, &self.next[..self.filled], self.pos)?;
        self.pos += self.filled as u64;
        self.filled = 0;
        self.written.append(&mut self.waiting);
        Ok(true)
    }
}
