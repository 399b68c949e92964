//! Walking the batches of a segment file from a position on: for recovery, for rebuilding indexes, for finding a place.

use crate::batch::{self, Header};
use crate::io::{File, FileMode, Io};
use crate::limits::{BATCH_BYTES_MAX, BLOCK, SCAN_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use std::io;

/// What a segment is read from.
#[derive(Clone)]
pub(super) struct Source {
    /// The handle by which all of it can be read.
    file: File,
    /// One that reads through the page cache, and up to where it may.
    settled: Option<(File, u64)>,
}

impl Source {
    /// A segment that is being written: what is settled is read through the page cache, the rest past it.
    pub(super) fn unsealed(blocks: File, cached: File, settled: u64) -> Self {
        Self { file: blocks, settled: Some((cached, settled)) }
    }

    /// Reads up to `len` bytes. Short only at the end of the file.
    pub(super) async fn read(&self, io: &Io, pos: u64, len: usize) -> io::Result<Bytes> {
        read_at(io, self.cached(pos + len as u64).unwrap_or(&self.file), pos, len).await
    }

    /// The handle by which what lies before this position can be sent from the page cache, if it may lie there.
    pub(super) fn cached(&self, end: u64) -> Option<&File> {
        match &self.settled {
            Some((cached, settled)) => (end <= *settled).then_some(cached),
            None => (self.file.mode() != FileMode::Blocks).then_some(&self.file),
        }
    }

    /// Up to where a read from `pos` of so many bytes goes best: not from the one handle's part into the other's.
    pub(super) fn end_of_read(&self, pos: u64, len: usize) -> u64 {
        let end = pos + len as u64;
        match self.settled {
            Some((_, settled)) if pos < settled => end.min(settled),
            _ => end,
        }
    }
}

impl From<File> for Source {
    fn from(file: File) -> Self {
        Self { file, settled: None }
    }
}

/// Batches of one file, one after another.
pub(super) struct Scan {
    io: Io,
    source: Source,
    /// The file position of the next batch.
    pos: u64,
    /// Batches end here at the latest.
    end: u64,
    /// The file's bytes from `pos` on, as far as read.
    ahead: BytesMut,
    /// What is read at once: more each time, up to this much.
    read_bytes: usize,
    read_bytes_max: usize,
}

/// One batch as found.
pub(super) struct Found {
    pub(super) header: Header,
    /// All of it.
    pub(super) bytes: Bytes,
}

impl Scan {
    /// A scan of the batches between two positions; the first must be a batch's.
    pub(super) fn new(io: &Io, source: impl Into<Source>, pos: u64, end: u64) -> Self {
        let (read_bytes, read_bytes_max) = (FIRST_BYTES, SCAN_BYTES);
        let source = source.into();
        Self { io: io.clone(), source, pos, end, ahead: BytesMut::new(), read_bytes, read_bytes_max }
    }

    /// The same, reading little at a time: what is looked for is near.
    pub(super) fn near(io: &Io, source: impl Into<Source>, pos: u64, end: u64) -> Self {
        Self { read_bytes: NEAR_BYTES, read_bytes_max: NEAR_BYTES, ..Self::new(io, source, pos, end) }
    }

    /// Where the next batch would begin.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// The next whole batch, its header sane and its CRC not looked at; `None` where there is none.
    pub(super) async fn next(&mut self) -> io::Result<Option<Found>> {
        let Some(header) = self.peek().await? else { return Ok(None) };
        let len = header.total_len();
        if self.end - self.pos < len as u64 || !self.fill(len).await? {
            return Ok(None);
        }
        let found = Found { header, bytes: self.ahead.split_to(len).freeze() };
        self.pos += len as u64;
        Ok(Some(found))
    }

    /// The header of the next batch, without reading the rest of it.
    pub(super) async fn peek(&mut self) -> io::Result<Option<Header>> {
        if self.end - self.pos < batch::HEADER_LEN as u64 || !self.fill(batch::HEADER_LEN).await? {
            return Ok(None);
        }
        let header = Header::parse(&self.ahead).ok();
        Ok(header.filter(|header| header.total_len() <= BATCH_BYTES_MAX))
    }

    /// Whether what has been read of the rest is all zeroes, as prepared space is.
    pub(super) fn is_before_zeroes(&self) -> bool {
        let (chunks, rest) = self.ahead.as_chunks::<64>();
        chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
    }

    /// Goes past the batch whose header has been seen, reading no more of it than is read already.
    pub(super) fn skip(&mut self, header: &Header) {
        let len = header.total_len();
        self.ahead.advance(len.min(self.ahead.len()));
        self.pos += len as u64;
        if self.pos > self.end {
            self.pos = self.end;
        }
    }

    /// Reads until `len` bytes from `pos` on are there; false if the file has fewer.
    async fn fill(&mut self, len: usize) -> io::Result<bool> {
        while self.ahead.len() < len {
            let from = self.pos + self.ahead.len() as u64;
            let wanted = (len - self.ahead.len()).max(self.read_bytes);
            self.read_bytes = (2 * self.read_bytes).min(self.read_bytes_max);
            let more = self.source.read(&self.io, from, wanted).await?;
            if more.is_empty() {
                return Ok(false);
            }
            if self.ahead.is_empty() {
                self.ahead = more.into();
            } else {
                self.ahead.extend_from_slice(&more);
            }
        }
        Ok(true)
    }
}

/// Reads up to `len` bytes at any position, in whole blocks where the file asks for it. Short only at the end of the file.
pub(super) async fn read_at(io: &Io, file: &File, pos: u64, len: usize) -> io::Result<Bytes> {
    if file.mode() != FileMode::Blocks {
        return io.read(file.clone(), pos, len).await;
    }
    let start = pos - pos % BLOCK;
    let skip = (pos - start) as usize;
    let whole = (skip + len).next_multiple_of(BLOCK as usize);
    let bytes = io.read(file.clone(), start, whole).await?;
    let from = skip.min(bytes.len());
    let to = (skip + len).min(bytes.len());
    Ok(bytes.slice(from..to))
}

/// The last, partly filled block of a segment that ends at `end`, and what else lies in it; nothing where it ends with a block.
pub(super) async fn last_block(io: &Io, file: &File, end: u64) -> io::Result<Bytes> {
    match end % BLOCK {
        0 => Ok(Bytes::new()),
        in_block => read_at(io, file, end - in_block, BLOCK as usize).await,
    }
}

/// The first read of a scan: of ten thousand logs each has little to scan, and what a read brings of prepared space is for nothing.
const FIRST_BYTES: usize = 32 << 10;

/// Bytes read at once where the batch looked for is near: an index interval and some headers.
const NEAR_BYTES: usize = 5 << 10;
