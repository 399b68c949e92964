//! Reading batches: the newest from memory, older ones from the segment files.

use super::cache::Chunk;
use super::error::ReadError;
use super::locating::Located;
use super::scan::Source;
use super::{Gaps, Log, Marks, Offset};
use crate::batch::Header;
use crate::io::{File, FileMode, is_of_device};
use bytes::Bytes;
use std::io;

/// How far a read goes.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// No record at or past this offset is returned.
    pub up_to: Offset,
    /// No more bytes than this.
    pub bytes_max: usize,
    /// Return the first batch whatever its size, so that a reader with a small limit gets on.
    pub at_least_one: bool,
}

/// Whole batches in order; the first one contains the offset asked for. Empty when there is nothing (yet) to read.
#[derive(Debug, Clone, Default)]
pub struct ReadParts {
    /// Where the bytes are. A batch may begin in one part and end in the next.
    pub parts: Vec<ReadPart>,
    /// How many there are in all parts.
    pub bytes: usize,
    /// None of their records lies at or past this offset. Of what stays in a file that is known as exactly as its index is.
    pub end: Offset,
}

/// Some of the bytes of a read.
#[derive(Debug, Clone)]
pub enum ReadPart {
    /// In memory.
    Bytes(Bytes),
    /// In a segment, where it is settled, to be sent from there.
    File {
        /// Open to be read through the page cache.
        file: File,
        /// Where they begin.
        pos: u64,
        /// How many.
        len: usize,
    },
}

impl ReadLimit {
    /// How many bytes more than these.
    fn room(&self, parts: &ReadParts) -> usize {
        self.bytes_max.saturating_sub(parts.bytes)
    }
}

impl ReadParts {
    /// Adds bytes whose last record lies before `end`.
    fn push(&mut self, bytes: Bytes, end: Offset) {
        self.bytes += bytes.len();
        self.end = end;
        self.parts.push(ReadPart::Bytes(bytes));
    }
}

/// Whether parts may stay in the files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Read,
    Send,
}

impl Log {
    /// Reads batches from the one that contains `from` on, never past the written mark. Bytes of files are read into memory.
    pub async fn read(&self, from: Offset, limit: ReadLimit) -> Result<ReadParts, ReadError> {
        self.read_from(from, limit, Files::Read).await
    }

    /// As [`Log::read`], but bytes of segments may be returned as a place in a file, to be sent without being copied.
    pub async fn read_with_files(&self, from: Offset, limit: ReadLimit) -> Result<ReadParts, ReadError> {
        self.read_from(from, limit, Files::Send).await
    }

    async fn read_from(&self, from: Offset, limit: ReadLimit, files: Files) -> Result<ReadParts, ReadError> {
        let marks = self.marks();
        if from < marks.log_start || from > marks.log_end {
            return Err(ReadError::OutOfRange { log_start: marks.log_start, log_end: marks.log_end });
        }
        let up_to = limit.up_to.min(marks.written);
        let limit = ReadLimit { up_to, ..limit };
        if from >= up_to {
            return Ok(ReadParts::default());
        }
        if let Some(parts) = self.read_memory(from, limit)? {
            return Ok(parts);
        }
        let limit = ReadLimit { up_to: up_to.min(self.filed_from(from).await), ..limit };
        if from >= limit.up_to {
            // It may have been taken back. In a log that has failed it lies where only the next start finds it.
            let why = self.failed().map(|failed| io::Error::other(failed.to_string()));
            return why.map_or(Ok(ReadParts::default()), |error| {
                Err(ReadError::Io { file: self.0.place.path.clone(), error })
            });
        }
        if let Some(behind) = self.bytes_from(from) {
            self.0.cache.missed(behind);
        }
        let reading = self.0.reading.take(1).await;
        let truncations = self.truncations();
        let result = self.read_files(from, limit, files).await;
        drop(reading);
        // Records that were deleted meanwhile are gone: what was found in their place does not follow what the reader has.
        let Marks { log_start, log_end, .. } = self.marks();
        if from < log_start {
            return Err(ReadError::OutOfRange { log_start, log_end });
        }
        self.judged_read(truncations, result)
    }

    /// Sees that this offset is in the log's file, and tells up to where all is. A log that has failed lacks what only the journal has.
    pub(super) async fn filed_from(&self, offset: Offset) -> Offset {
        if self.0.state.borrow().filed <= offset {
            let written = self.marks().written;
            let _ = self.wait_filed(written).await;
        }
        self.0.state.borrow().filed
    }

    /// About how many bytes the log has from this offset on, if it lies in one of its newest segments.
    fn bytes_from(&self, offset: Offset) -> Option<u64> {
        let state = self.0.state.borrow();
        let mut bytes = 0;
        for segment in state.segments.values().rev().take(NEWEST_SEGMENTS) {
            if segment.base <= offset {
                let indexes = segment.indexes.as_ref();
                let pos = indexes.map_or(0, |indexes| u64::from(indexes.offsets.lookup(offset)));
                return Some(bytes + segment.size.saturating_sub(pos));
            }
            bytes += segment.size;
        }
        None
    }

    /// What a read has come to. Damage is told, and a device that cannot be read takes the log offline, as Kafka does it.
    pub(super) fn judged_read<T: Default>(
        &self,
        truncations: Option<u64>,
        result: Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let result = self.unless_cut(truncations, result);
        match &result {
            Err(ReadError::Corrupt { file, pos, .. }) => {
                self.damaged(file, *pos, "no whole batch is there as it was written; it is not served");
            }
            Err(ReadError::Io { file, error }) if is_of_device(error) => {
                let error =
                    error.raw_os_error().map_or(io::Error::other("offline"), io::Error::from_raw_os_error);
                self.fail("read", file, error);
            }
            _ => {}
        }
        result
    }

    /// How often records have been taken back; `None` while some are being.
    pub(super) fn truncations(&self) -> Option<u64> {
        let state = self.0.state.borrow();
        (!state.changing).then_some(state.truncations)
    }

    /// What a read found amiss is no damage where records were taken back meanwhile: then there is nothing to read.
    pub(super) fn unless_cut<T: Default>(
        &self,
        truncations: Option<u64>,
        result: Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let cut = truncations.is_none() || truncations != self.truncations();
        if cut && matches!(result, Err(ReadError::Corrupt { .. } | ReadError::Io { .. })) {
            return Ok(T::default());
        }
        result
    }

    /// Reads from the cache, if it holds the batch that contains `from`.
    fn read_memory(&self, from: Offset, limit: ReadLimit) -> Result<Option<ReadParts>, ReadError> {
        let mut parts = ReadParts::default();
        let Some(first) = self.0.cache.find(&self.0.chunks, from) else {
            let found = self.read_unfiled(from, limit, &mut parts)?;
            return Ok(found.then_some(parts));
        };
        let mut start = self.place_in_chunk(&first, from);
        let mut chunk = first;
        for n in 1.. {
            let end = chunk.next_offset;
            let whole = if chunk.rest.is_empty() {
                self.read_chunk(&chunk, start, from, limit, &mut parts)?
            } else {
                read_lone_batch(chunk, limit, &mut parts)
            };
            if !whole {
                break;
            }
            let Some((_, next)) = self.0.chunks.nth_from(from, n) else {
                self.read_unfiled(end, limit, &mut parts)?;
                break;
            };
            chunk = next;
            start = 0;
        }
        Ok(Some(parts))
    }

    /// Reads, as a copy, what the journal has and the log's file will get: it is little. False if the offset does not lie there.
    fn read_unfiled(&self, from: Offset, limit: ReadLimit, parts: &mut ReadParts) -> Result<bool, ReadError> {
        let state = self.0.state.borrow();
        let Some(tail) = state.tails.iter().find(|tail| tail.unfiled_offsets().contains(&from)) else {
            return Ok(false);
        };
        let (bytes, pos) = tail.unfiled();
        let indexes = state.segments.get(&tail.segment).and_then(|segment| segment.indexes.as_ref());
        let near = indexes.map_or(0, |indexes| u64::from(indexes.offsets.lookup(from)));
        let start = near.saturating_sub(pos) as usize;
        let at_least_one = limit.at_least_one && parts.bytes == 0;
        let run = run_of_batches(&bytes[start..], from, limit.up_to, limit.room(parts), at_least_one);
        let run = run.map_err(|at| ReadError::Corrupt {
            file: self.log_path(tail.segment),
            pos: pos + (start + at) as u64,
            offset: from,
        })?;
        if !run.bytes.is_empty() {
            parts.push(Bytes::copy_from_slice(&bytes[start..][run.bytes]), run.end);
        }
        Ok(true)
    }

    /// Reads the batches from `start` on that the reader gets; returns whether those were all.
    fn read_chunk(
        &self,
        chunk: &Chunk,
        start: usize,
        from: Offset,
        limit: ReadLimit,
        parts: &mut ReadParts,
    ) -> Result<bool, ReadError> {
        let room = limit.room(parts);
        let at_least_one = limit.at_least_one && parts.bytes == 0;
        let run = run_of_batches(&chunk.bytes[start..], from, limit.up_to, room, at_least_one);
        let run = run.map_err(|pos| ReadError::Corrupt {
            file: self.log_path(chunk.segment),
            pos: chunk.pos + (start + pos) as u64,
            offset: from,
        })?;
        let Run { bytes, end } = run;
        let whole = bytes.end == chunk.bytes.len() - start;
        if !bytes.is_empty() {
            parts.push(chunk.bytes.slice(start + bytes.start..start + bytes.end), end);
        }
        Ok(whole)
    }

    /// A batch of the chunk at or before the offset, from the index: so that few headers have to be walked.
    pub(super) fn place_in_chunk(&self, chunk: &Chunk, offset: Offset) -> usize {
        let state = self.0.state.borrow();
        let indexes = state.segments.get(&chunk.segment).and_then(|segment| segment.indexes.as_ref());
        let pos = indexes.map_or(0, |indexes| u64::from(indexes.offsets.lookup(offset)));
        let in_chunk = pos.saturating_sub(chunk.pos) as usize;
        if in_chunk < chunk.bytes.len() { in_chunk } else { 0 }
    }

    async fn read_files(&self, from: Offset, limit: ReadLimit, files: Files) -> Result<ReadParts, ReadError> {
        let mut at = from;
        loop {
            let Some(base) = self.segment_of(at) else { return self.before_all_segments(at) };
            let parts = self.read_segment(base, at, limit, files).await?;
            // The rest of a segment may hold nothing at or past the offset: a gap at its end. Where there are no gaps, nobody must be
            // led past what he asked for.
            let over = parts.bytes > 0 || !limit.at_least_one || self.0.state.borrow().gaps == Gaps::None;
            match self.segment_after(base) {
                Some(next) if next < limit.up_to && !over => at = next,
                _ => return Ok(parts),
            }
        }
    }

    /// No segment reaches back to an offset that is not before the log start: the first one's file is missing.
    fn before_all_segments(&self, offset: Offset) -> Result<ReadParts, ReadError> {
        let log_start = self.marks().log_start;
        if offset < log_start {
            // It has just been deleted.
            return Ok(ReadParts::default());
        }
        Err(ReadError::Corrupt { file: self.log_path(log_start), pos: 0, offset })
    }

    async fn read_segment(
        &self,
        base: Offset,
        from: Offset,
        limit: ReadLimit,
        files: Files,
    ) -> Result<ReadParts, ReadError> {
        let corrupt = |pos: u64| ReadError::Corrupt { file: self.log_path(base), pos, offset: from };
        let Some(Located { scan, header: first, source, size }) = self.locate(base, from).await? else {
            return Ok(ReadParts::default());
        };
        if first.base_offset >= limit.up_to {
            return Ok(ReadParts::default());
        }
        let pos = scan.pos();
        let len = first.total_len();
        if pos + len as u64 > size {
            return Err(corrupt(pos));
        }
        if len > limit.bytes_max && !limit.at_least_one {
            return Ok(ReadParts::default());
        }
        let wanted = limit.bytes_max.max(len).min((size - pos) as usize);
        // A send from a file takes several system calls of its own: for a little, one more copy is cheaper.
        if files == Files::Send && wanted > SMALL_READ_BYTES {
            let (len, end) = self.whole_batches(base, pos, &first, wanted, limit.up_to);
            let range = pos..pos + len as u64;
            if len > SMALL_READ_BYTES
                && let Some(file) = source.cached(range.end)
                && self.is_verified(base, range)
            {
                let part = ReadPart::File { file: file.clone(), pos, len };
                return Ok(ReadParts { parts: vec![part], bytes: len, end });
            }
        }
        let wanted = len.max((source.end_of_read(pos, wanted) - pos) as usize);
        let bytes = source.read(self.0.shard.io(), pos, wanted).await;
        let bytes = bytes.map_err(|error| ReadError::Io { file: self.log_path(base), error })?;
        let verified = self.verified_len(base, pos, &bytes);
        if verified == 0 {
            return Err(corrupt(pos));
        }
        let bytes = bytes.slice(..verified);
        let run = run_of_batches(&bytes, from, limit.up_to, limit.bytes_max, limit.at_least_one);
        let run = run.map_err(|at| corrupt(pos + at as u64))?;
        let mut parts = ReadParts::default();
        parts.push(bytes.slice(run.bytes), run.end);
        Ok(parts)
    }

    /// How many of `wanted` bytes of a segment from `pos` on, where a batch begins, are whole batches that are settled and lie before `up_to`, and
    /// an offset behind them, as the index knows it: no other header has to be read. One batch at least.
    fn whole_batches(
        &self,
        base: Offset,
        pos: u64,
        first: &Header,
        wanted: usize,
        up_to: Offset,
    ) -> (usize, Offset) {
        let state = self.0.state.borrow();
        let one = (first.total_len(), first.next_offset());
        let Some(segment) = state.segments.get(&base) else { return one };
        let stop = segment.settled().min(pos + wanted as u64);
        if segment.sealed
            && stop == segment.written_size
            && let Some(next) = self.segment_after(base).filter(|next| *next <= up_to)
        {
            return ((stop - pos) as usize, next);
        }
        // What lies before a batch lies before its last offset, too: the index has no other of it.
        let behind = segment.indexes.as_ref().and_then(|indexes| {
            let by_pos = indexes.offsets.entry_before_pos(stop)?;
            let by_offset = indexes.offsets.entry_before(up_to)?;
            Some(by_pos.min(by_offset))
        });
        match behind.filter(|(_, start)| *start >= pos + first.total_len() as u64) {
            Some((last, start)) => ((start - pos) as usize, last),
            None => one,
        }
    }

    /// The segment that would hold this offset.
    pub(super) fn segment_of(&self, offset: Offset) -> Option<Offset> {
        let state = self.0.state.borrow();
        state.segments.range(..=offset).next_back().map(|(base, _)| *base)
    }

    /// The segment after this one.
    pub(super) fn segment_after(&self, base: Offset) -> Option<Offset> {
        let state = self.0.state.borrow();
        state.segments.range(base + 1..).next().map(|(next, _)| *next)
    }

    /// What to read a segment from; `None` if it has gone, or has no file yet. The file may lack what the journal has.
    pub(super) async fn source(&self, base: Offset) -> io::Result<Option<Source>> {
        loop {
            let sealed = {
                let state = self.0.state.borrow();
                let Some(segment) = state.segments.get(&base) else { return Ok(None) };
                if let Some(source) = segment.source() {
                    return Ok(Some(source));
                }
                if !segment.sealed && segment.blocks.is_none() {
                    return Ok(None);
                }
                segment.sealed
            };
            // Before it is sealed no read may bring more than it asks for: that is not settled yet.
            let mode = if sealed { FileMode::Cached } else { FileMode::CachedOnce };
            let (file, _) = self.0.shard.io().open(self.0.place.dir, self.log_path(base), mode).await?;
            let mut state = self.0.state.borrow_mut();
            let Some(segment) = state.segments.get_mut(&base) else { return Ok(None) };
            if segment.sealed == sealed {
                segment.cached.get_or_insert(file);
            }
        }
    }

    /// The same, once the file has all that is written. In a log that has failed it may lack some, and what it does have can be read.
    pub(super) async fn filed_source(&self, base: Offset) -> io::Result<Option<Source>> {
        if self.0.state.borrow().segments.get(&base).is_some_and(|segment| !segment.sealed) {
            let _ = self.wait_filed(self.marks().written).await;
        }
        self.source(base).await
    }
}

/// Reads a chunk that is one batch, in two parts, if the reader gets it; returns whether.
fn read_lone_batch(chunk: Chunk, limit: ReadLimit, parts: &mut ReadParts) -> bool {
    let len = chunk.bytes.len() + chunk.rest.len();
    let fits = len <= limit.room(parts) || (limit.at_least_one && parts.bytes == 0);
    if chunk.base_offset >= limit.up_to || !fits {
        return false;
    }
    parts.push(chunk.bytes, chunk.next_offset);
    parts.push(chunk.rest, chunk.next_offset);
    true
}

/// Whoever reads in an older segment than these is far behind.
const NEWEST_SEGMENTS: usize = 64;
/// Up to this many bytes of a file are read into memory rather than sent from where they are.
const SMALL_READ_BYTES: usize = 64 << 10;

/// Batches that a reader gets.
struct Run {
    /// Where they lie.
    bytes: std::ops::Range<usize>,
    /// The offset after the last of them, if there is one.
    end: Offset,
}

/// Which of these bytes are whole batches that a reader of `from` gets: from the one that contains it, below `up_to`, within
/// `room` bytes. An error is the position of a header that makes no sense.
fn run_of_batches(
    bytes: &[u8],
    from: Offset,
    up_to: Offset,
    room: usize,
    at_least_one: bool,
) -> Result<Run, usize> {
    let mut start = 0;
    let mut end = 0;
    let mut next = from;
    while bytes.len() - end >= crate::batch::HEADER_LEN {
        let header = Header::parse(&bytes[end..]).map_err(|_| end)?;
        let len = header.total_len();
        if header.base_offset >= up_to || len > bytes.len() - end {
            break;
        }
        if header.last_offset() < from {
            end += len;
            start = end;
            continue;
        }
        let first = at_least_one && start == end;
        if end + len - start > room && !first {
            break;
        }
        end += len;
        next = header.next_offset();
    }
    Ok(Run { bytes: start..end, end: next })
}
