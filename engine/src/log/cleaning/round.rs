//! One round of cleaning: what is read, what is written, and when it gives up.

use super::CLEANED;
use super::filter::{self, Kept, Rules};
use super::offset_map::{OffsetMap, SLOT_BYTES};
use super::range::Range;
use super::swap::Group;
use crate::batch::{self, Header};
use crate::io::{File, FileMode, Space, is_no_space};
use crate::limits::BLOCK;
use crate::log::error::ReadError;
use crate::log::files::{LOG, create_empty, remove_file};
use crate::log::scan::read_at;
use crate::log::segment::Segment;
use crate::log::{AbortedTransaction, Log, Offset};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a cleaner may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanerLimits {
    /// Memory for the keys of one round, in bytes (`log.cleaner.dedupe.buffer.size`).
    pub map_bytes: usize,
    /// How full that gets (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
    /// Bytes read and written a second (`log.cleaner.io.max.bytes.per.second`).
    pub bytes_per_second: f64,
}

/// What a round has done.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cleaned {
    /// Bytes of segments read, those read twice counted twice.
    pub bytes_read: u64,
    /// Bytes of segments written.
    pub bytes_written: u64,
    /// Bytes of the segments it wrote anew, before that.
    pub bytes_before: u64,
    /// How long it took.
    pub took: Duration,
    /// How full its memory for keys was.
    pub map_utilization: f64,
}

/// Why a round has ended before its end. What it has put in place by then stays.
#[derive(Debug)]
pub enum CleanError {
    /// The log is closed, has failed, was truncated, or is not compacted any more.
    Stopped,
    /// There is no room for what it writes.
    NoSpace,
    /// Something cannot be read: the log is not cleaned again before the next start.
    Uncleanable(ReadError),
}

/// One round.
struct Round<'a> {
    log: &'a Log,
    limits: CleanerLimits,
    range: Range,
    truncations: u64,
    done: Cleaned,
}

/// Where the next chunk of a segment begins.
struct Source {
    base: Offset,
    file: File,
    pos: u64,
    size: u64,
}

/// What a group is written to.
#[derive(Clone, Copy)]
struct Output<'a> {
    file: &'a File,
    path: &'a Path,
}

/// What a pass takes along from chunk to chunk, and from thread to thread.
struct Pass {
    map: OffsetMap,
    rules: Rules,
    /// The last batch of each producer that is remembered, by its last offset.
    producers: HashMap<i64, Offset>,
    /// What is being written.
    segment: Box<Segment>,
    index_interval: u32,
    /// Something does not stay as it was.
    changed: bool,
}

/// Why a chunk cannot be worked on: this batch in it is not as it was written, cannot be read, or has no place.
struct Bad(usize);

/// Bytes read at once. A device answers one request after the other: a record that is to be written waits for such a piece, not for the
/// 8 MB that the kernel would read ahead.
const CHUNK_BYTES: usize = 256 << 10;

/// After so many bytes what was written is synced, for the same reason.
const SYNC_BYTES: u64 = 256 << 10;

/// A cleaner that waits looks this often whether it is to stop.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// File positions are kept in 32 bits, and Kafka's have a sign.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

impl Log {
    /// Cleans the log once, of what consumers can see (below `visible`); `None` if there is nothing to clean. One round at a time.
    pub async fn clean(&self, limits: CleanerLimits, visible: Offset) -> Result<Option<Cleaned>, CleanError> {
        {
            let mut state = self.0.state.borrow_mut();
            let cleaning = &mut state.cleaning;
            if cleaning.uncleanable || cleaning.stops || std::mem::replace(&mut cleaning.runs, true) {
                return Err(CleanError::Stopped);
            }
        }
        let result = Box::pin(self.clean_once(limits, visible)).await;
        {
            let mut state = self.0.state.borrow_mut();
            state.cleaning.runs = false;
            state.cleaning.uncleanable |= matches!(result, Err(CleanError::Uncleanable(_)));
        }
        self.0.moved.notify();
        result
    }

    /// Whether damage was met in a log that is compacted: it is not cleaned before the next start.
    pub fn is_uncleanable(&self) -> bool {
        let state = self.0.state.borrow();
        state.config.compact && state.cleaning.uncleanable
    }

    /// Lets no round begin any more, and waits until the one under way has given up.
    pub(in crate::log) async fn stop_cleaning(&self) {
        self.0.state.borrow_mut().cleaning.stops = true;
        loop {
            let moved = self.0.moved.next();
            if !self.0.state.borrow().cleaning.runs {
                return;
            }
            moved.await;
        }
    }

    /// A full disk ends the round, anything else the log's service.
    fn cleaning_failed(&self, doing: &'static str, path: &Path, error: io::Error) -> CleanError {
        if is_no_space(&error) {
            return CleanError::NoSpace;
        }
        self.fail(doing, path, error);
        CleanError::Stopped
    }

    async fn clean_once(
        &self,
        limits: CleanerLimits,
        visible: Offset,
    ) -> Result<Option<Cleaned>, CleanError> {
        let began = self.0.shard.now();
        let range = self.cleanable(visible).await.map_err(CleanError::Uncleanable)?;
        let truncations = self.0.state.borrow().truncations;
        if range.first_dirty >= range.first_uncleanable {
            return Ok(None);
        }
        let mut round = Round { log: self, limits, range, truncations, done: Cleaned::default() };
        let map = round.note_keys().await?;
        let end = map.latest() + 1;
        round.done.map_utilization = map.utilization();
        let mut pass = round.begin_pass(map);
        for group in round.groups(end) {
            pass = round.clean_group(group, pass).await?;
        }
        self.has_cleaned_to(end).await;
        round.done.took = self.0.shard.now().since(began);
        Ok(Some(round.done))
    }
}

impl Round<'_> {
    /// Whether the round is to give up.
    fn stops(&self) -> bool {
        let state = self.log.0.state.borrow();
        state.failed.is_some()
            || state.cleaning.stops
            || state.changing
            || state.truncations != self.truncations
            || !state.config.compact
    }

    fn check(&self) -> Result<(), CleanError> {
        if self.stops() { Err(CleanError::Stopped) } else { Ok(()) }
    }

    /// Looks at the dirty part, up to its end or until the memory for keys is full.
    async fn note_keys(&mut self) -> Result<OffsetMap, CleanError> {
        let io = self.log.0.shard.io();
        let Range { first_dirty, first_uncleanable } = self.range;
        // No more keys than records; and as many slots as keep the map from filling up.
        let records = usize::try_from(first_uncleanable - first_dirty).unwrap_or(usize::MAX);
        let wanted = (records as f64 / self.limits.load_factor) as usize;
        let slots = (self.limits.map_bytes / SLOT_BYTES).min(wanted.saturating_add(2));
        let mut map = OffsetMap::new(slots, self.limits.load_factor, (io.random(), io.random()));
        map.looked_at(first_dirty - 1);
        let aborted = Arc::new(self.log.aborted_transactions(first_dirty, first_uncleanable));
        let mut next = self.log.segment_of(first_dirty);
        while let Some(base) = next.filter(|base| *base < first_uncleanable) {
            let source = self.source(base).await?;
            let file = source.file.clone();
            let noted = self.note_source(source, map, &aborted).await;
            self.close(base, file).await?;
            let (back, fits) = noted?;
            map = back;
            if !fits {
                break;
            }
            next = self.log.segment_after(base);
        }
        Ok(map)
    }

    /// Says whether all keys of a segment had room.
    async fn note_source(
        &mut self,
        mut source: Source,
        mut map: OffsetMap,
        aborted: &Arc<Vec<AbortedTransaction>>,
    ) -> Result<(OffsetMap, bool), CleanError> {
        let (io, from) = (self.log.0.shard.io(), self.range.first_dirty);
        while let Some(chunk) = self.next_chunk(&mut source).await? {
            let began = self.log.0.shard.now();
            let aborted = aborted.clone();
            let noted = io.compute(move || note_chunk(map, &chunk, from, &aborted)).await;
            let (back, result) = noted.map_err(|error| self.failed("clean", &source, error))?;
            map = back;
            let (consumed, fits) = result.map_err(|bad| self.bad(&source, &bad))?;
            source.pos += consumed as u64;
            self.done.bytes_read += consumed as u64;
            if !fits {
                return Ok((map, false));
            }
            self.rest(began, consumed).await?;
        }
        Ok((map, true))
    }

    fn begin_pass(&self, map: OffsetMap) -> Pass {
        let state = self.log.0.state.borrow();
        let rules = Rules {
            now: self.log.0.shard.wall_time().0,
            delete_retention_ms: state.config.delete_retention_ms,
        };
        Pass {
            map,
            rules,
            producers: state.producers.last_offsets(),
            segment: Segment::new(0, 0),
            index_interval: state.config.index_interval_bytes,
            changed: false,
        }
    }

    /// The segments that begin before an offset, oldest first; those together that make no more than one segment.
    fn groups(&self, end: Offset) -> Vec<Group> {
        let state = self.log.0.state.borrow();
        let interval = u64::from(state.config.index_interval_bytes.max(1));
        // An entry of an index for every interval, at most.
        let index_bytes_max = u64::from(state.config.segment_index_bytes) / 12 * interval;
        let bytes_max = u64::from(state.config.segment_bytes).min(index_bytes_max).min(SEGMENT_BYTES_MAX);
        let mut groups: Vec<Group> = Vec::new();
        let bases: Vec<Offset> = state.segments.keys().copied().collect();
        for pair in bases.windows(2) {
            let (base, next) = (pair[0], pair[1]);
            if base >= end || next > self.range.first_uncleanable {
                break;
            }
            let size = state.segments[&base].size;
            match groups.last_mut() {
                Some(group)
                    if group.end == base
                        && group.bytes + size <= bytes_max
                        && next - 1 - group.base() <= i64::from(i32::MAX) =>
                {
                    group.sources.push(base);
                    group.bytes += size;
                    group.end = next;
                }
                _ => groups.push(Group { sources: vec![base], end: next, bytes: size }),
            }
        }
        groups
    }

    /// Writes the segments of a group anew, as one, and puts that in their place.
    async fn clean_group(&mut self, group: Group, pass: Pass) -> Result<Pass, CleanError> {
        self.check()?;
        let path = self.log.0.place.offset_file(group.base(), &format!("{LOG}{CLEANED}"));
        let result = self.write_group(&group, &path, pass).await;
        let result = match result {
            Ok((pass, true)) => {
                let swapped = self.log.swap_in(&group, &path, pass.segment, self.truncations).await;
                match swapped {
                    Ok(true) => Ok(Pass { segment: Segment::new(0, 0), ..pass }),
                    Ok(false) => Err(CleanError::Stopped),
                    Err((doing, error)) => {
                        self.log.fail(doing, &self.log.0.place.path, error);
                        return Err(CleanError::Stopped);
                    }
                }
            }
            // As it was: it may stay.
            Ok((pass, false)) => {
                self.remove(&path).await?;
                return Ok(pass);
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.remove(&path).await?;
        }
        result
    }

    async fn remove(&self, path: &Path) -> Result<(), CleanError> {
        let removed = remove_file(self.log.0.shard.io(), &self.log.0.place, path).await;
        removed.map_err(|error| self.log.cleaning_failed("remove", path, error))
    }

    /// Says whether the result differs from what there was.
    async fn write_group(
        &mut self,
        group: &Group,
        path: &Path,
        mut pass: Pass,
    ) -> Result<(Pass, bool), CleanError> {
        let io = self.log.0.shard.io();
        let log = self.log;
        let failed = |doing| move |error| log.cleaning_failed(doing, path, error);
        let created = self.log.0.state.borrow().segments.get(&group.base()).map(|one| one.created);
        let created = created.ok_or(CleanError::Stopped)?;
        let file = create_empty(io, &self.log.0.place, path, FileMode::CachedWrite).await;
        let file = file.map_err(failed("create"))?;
        // All of it, so that the reserve of the disk is not touched.
        let space = group.bytes.next_multiple_of(BLOCK).max(BLOCK);
        let prepared = io.prepare(file.clone(), 0, space, Space::Allocated).await;
        let written = match prepared {
            Ok(_) => {
                pass.segment = Segment::new(group.base(), created);
                pass.changed = group.sources.len() > 1;
                self.write_sources(group, Output { file: &file, path }, pass).await
            }
            Err(error) => Err(failed("prepare space in")(error)),
        };
        let result = match written {
            Ok(mut pass) => {
                pass.segment.end_time_index();
                let size = pass.segment.size;
                let cut = io.truncate(file.clone(), size).await.map_err(failed("cut"));
                let synced = match cut {
                    Ok(_) => io.sync_file(file.clone()).await.map_err(failed("sync")),
                    Err(error) => Err(error),
                };
                synced.map(|_| {
                    let changed = pass.changed;
                    (pass, changed)
                })
            }
            Err(error) => Err(error),
        };
        io.close(file).await.map_err(failed("close"))?;
        result
    }

    async fn write_sources(
        &mut self,
        group: &Group,
        output: Output<'_>,
        mut pass: Pass,
    ) -> Result<Pass, CleanError> {
        for (at, base) in group.sources.iter().enumerate() {
            let is_last = at + 1 == group.sources.len();
            let source = self.source(*base).await?;
            self.done.bytes_before += source.size;
            let read = source.file.clone();
            let written = self.write_source(source, is_last, output, pass).await;
            self.close(*base, read).await?;
            pass = written?;
        }
        Ok(pass)
    }

    async fn write_source(
        &mut self,
        mut source: Source,
        is_last: bool,
        Output { file, path }: Output<'_>,
        mut pass: Pass,
    ) -> Result<Pass, CleanError> {
        let io = self.log.0.shard.io();
        let mut unsynced = 0;
        while let Some(chunk) = self.next_chunk(&mut source).await? {
            let began = self.log.0.shard.now();
            let left = source.size - source.pos;
            // The group's last batch stays at least as a header: there the next segment goes on.
            let end = (is_last && chunk.len() as u64 == left).then_some(chunk.len());
            let filtered = io.compute(move || filter_chunk(pass, &chunk, end)).await;
            let (back, result) = filtered.map_err(|error| self.failed("clean", &source, error))?;
            pass = back;
            let (consumed, kept) = result.map_err(|bad| self.bad(&source, &bad))?;
            let len = kept.len() as u64;
            if len > 0 {
                let pos = pass.segment.size - len;
                let written = io.write(file.clone(), pos, Bytes::from(kept)).await;
                written.map_err(|error| self.log.cleaning_failed("write", path, error))?;
                unsynced += len;
            }
            if unsynced >= SYNC_BYTES {
                let synced = io.sync_file(file.clone()).await;
                synced.map_err(|error| self.log.cleaning_failed("sync", path, error))?;
                unsynced = 0;
            }
            source.pos += consumed as u64;
            self.done.bytes_read += consumed as u64;
            self.done.bytes_written += len;
            self.rest(began, consumed + usize::try_from(len).unwrap_or(0)).await?;
        }
        Ok(pass)
    }

    /// Opens a segment for this round alone.
    async fn source(&self, base: Offset) -> Result<Source, CleanError> {
        let path = self.log.log_path(base);
        let opened = self.log.0.shard.io().open(self.log.0.place.dir, path, FileMode::CachedOnce).await;
        // Otherwise retention was quicker, or the next start finds out.
        let Ok((file, _)) = opened else { return Err(CleanError::Stopped) };
        let size = self.log.0.state.borrow().segments.get(&base).map(|segment| segment.size);
        match size {
            Some(size) => Ok(Source { base, file, pos: 0, size }),
            None => {
                self.close(base, file).await?;
                Err(CleanError::Stopped)
            }
        }
    }

    async fn close(&self, base: Offset, file: File) -> Result<(), CleanError> {
        let closed = self.log.0.shard.io().close(file).await;
        closed.map(drop).map_err(|error| self.log.cleaning_failed("close", &self.log.log_path(base), error))
    }

    /// The next batches of a segment, in whole; `None` at its end.
    async fn next_chunk(&self, source: &mut Source) -> Result<Option<Bytes>, CleanError> {
        self.check()?;
        let left = usize::try_from(source.size - source.pos).expect("a segment fits in memory");
        if left == 0 {
            return Ok(None);
        }
        let read = |len: usize| read_at(self.log.0.shard.io(), &source.file, source.pos, len.min(left));
        let failed = |error| self.failed("read", source, error);
        let mut bytes = read(CHUNK_BYTES).await.map_err(failed)?;
        if batch::whole_len(&bytes).is_none() {
            // One that is larger, or none.
            let len = Header::parse(&bytes).map_err(|_| self.bad(source, &Bad(0)))?.total_len();
            if len > left {
                return Err(self.bad(source, &Bad(0)));
            }
            bytes = read(len).await.map_err(failed)?;
        }
        let mut whole = 0;
        while let Some(len) = batch::whole_len(&bytes[whole..]) {
            whole += len;
        }
        if whole == 0 || (whole < bytes.len() && bytes.len() == left) {
            return Err(self.bad(source, &Bad(whole)));
        }
        Ok(Some(bytes.slice(..whole)))
    }

    /// Rests for as long as the last step took, or for as long as its bytes may take: at most half of a core, and of the disk, is the
    /// cleaner's.
    async fn rest(&self, began: crate::io::Instant, bytes: usize) -> Result<(), CleanError> {
        let shard = &self.log.0.shard;
        let worked = shard.now().since(began);
        let allowed =
            Duration::try_from_secs_f64(bytes as f64 / self.limits.bytes_per_second).unwrap_or(worked);
        let until = shard.now() + worked.max(allowed.saturating_sub(worked));
        while shard.now() < until {
            shard.sleep(until.since(shard.now()).min(WAIT_MAX)).await;
            self.check()?;
        }
        Ok(())
    }

    /// A batch is not as it was written, unless the log has been changed under the round.
    fn bad(&self, source: &Source, bad: &Bad) -> CleanError {
        if self.stops() || !self.log.0.state.borrow().segments.contains_key(&source.base) {
            return CleanError::Stopped;
        }
        let (file, pos) = (self.log.log_path(source.base), source.pos + bad.0 as u64);
        self.log.damaged(&file, pos, "the batch there cannot be read; the log is not compacted any more");
        CleanError::Uncleanable(ReadError::Corrupt { file, pos, offset: source.base })
    }

    fn failed(&self, doing: &'static str, source: &Source, error: io::Error) -> CleanError {
        self.log.cleaning_failed(doing, &self.log.log_path(source.base), error)
    }
}

/// Notes the keys of whole batches. Says how many bytes were looked at, and whether all keys had room.
fn note_chunk(
    mut map: OffsetMap,
    chunk: &Bytes,
    from: Offset,
    aborted: &[AbortedTransaction],
) -> (OffsetMap, Result<(usize, bool), Bad>) {
    let mut at = 0;
    while let Some(len) = batch::whole_len(&chunk[at..]) {
        let bytes = chunk.slice(at..at + len);
        let Ok(header) = batch::verify(&bytes) else { return (map, Err(Bad(at))) };
        if header.last_offset() >= from {
            // What was aborted is no value of its key.
            let counts = !header.is_control() && !is_aborted(aborted, &header);
            let noted = if counts {
                filter::note(&mut map, &bytes, &header, from)
            } else {
                map.looked_at(header.last_offset());
                Ok(true)
            };
            match noted {
                Ok(true) => {}
                Ok(false) => return (map, Ok((at, false))),
                Err(_) => return (map, Err(Bad(at))),
            }
        }
        at += len;
    }
    (map, Ok((at, true)))
}

fn is_aborted(aborted: &[AbortedTransaction], header: &Header) -> bool {
    header.is_transactional()
        && aborted.iter().any(|one| {
            one.producer_id == header.producer_id
                && (one.first_offset..=one.last_offset).contains(&header.base_offset)
        })
}

/// What stays of whole batches. `end` is where the group ends. Says how many bytes were looked at.
fn filter_chunk(mut pass: Pass, chunk: &Bytes, end: Option<usize>) -> (Pass, Result<(usize, Vec<u8>), Bad>) {
    let mut out = Vec::with_capacity(chunk.len());
    let mut at = 0;
    while let Some(len) = batch::whole_len(&chunk[at..]) {
        let bytes = chunk.slice(at..at + len);
        let Ok(header) = batch::verify(&bytes) else { return (pass, Err(Bad(at))) };
        let Ok(kept) = filter::filter(&pass.map, &pass.rules, &bytes, &header) else {
            return (pass, Err(Bad(at)));
        };
        let is_last_of_producer = header.has_producer_id()
            && pass.producers.get(&header.producer_id) == Some(&header.last_offset());
        at += len;
        let kept: &[u8] = match &kept {
            Kept::Whole => &bytes,
            Kept::Part(part) => part,
            Kept::Header(left) if is_last_of_producer || end == Some(at) => left,
            Kept::Header(_) => &[],
        };
        pass.changed |= kept.len() != len || kept != &bytes[..];
        if kept.is_empty() {
            continue;
        }
        let header = Header::parse(kept).expect("a batch that is kept has a header");
        if pass.segment.size + kept.len() as u64 > SEGMENT_BYTES_MAX
            || !pass.segment.may_hold(&header, pass.segment.base)
        {
            return (pass, Err(Bad(at - len)));
        }
        pass.segment.note(&header, pass.index_interval);
        out.extend_from_slice(kept);
    }
    (pass, Ok((at, out)))
}
