//! What a log lets go of by itself: whole segments past the limits of its topic, oldest first (Kafka's
//! `UnifiedLog.deleteOldSegments`), and the files of segments that have been removed.
//!
//! ```text
//!   limits ──▶ log start moves, durably ──▶ files renamed to `.deleted` ──▶ removed after `file.delete.delay.ms`
//!                                                                   │
//!                                       `.log` of a busy log: made ready, and the next segment's, written over
//! ```
//!
//! The log start is on disk before the first file gets another name: what a power cut brings back lies before it, and what it
//! takes away nobody was promised any more. Who still reads a removed segment has its file open, and reads on.
//!
//! A file is recycled only within its log, so that what it held has lower offsets than anything that comes: recovery, which goes by
//! them, ends where the new batches do ([`Lures`] tells where that is not enough). Not after the log was cut, for then offsets come again.

use super::error::{LogFailed, ReadError};
use super::files::{DELETED, LOG, remove_file};
use super::lures::Lures;
use super::recovery::SEGMENT_FILES;
use super::scan::Scan;
use super::segment::Segment;
use super::truncate::TruncateError;
use super::{Gaps, Log, Offset, State};
use crate::io::{File, is_of_device};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Log {
    /// Lets go of the oldest segments that are past the topic's limits of time and size, and of those before the log start. Only of
    /// what consumers could see: what lies below `visible`, the high watermark. Returns the log start.
    pub async fn retain(&self, visible: Offset) -> Result<Offset, TruncateError> {
        let keep_from = self.first_to_keep(visible).await.map_err(TruncateError::Read)?;
        if keep_from > self.marks().log_start {
            let active = self.active_base();
            if keep_from > active {
                // All of it goes: the log goes on in a segment that must be there first.
                self.leave_active_segment().await?;
            }
            return self.delete_before(keep_from).await;
        }
        if self.failed().is_none() && self.first_deleted().is_none() {
            // So it is with most of the logs that are looked at: they need no turn.
            return Ok(self.marks().log_start);
        }
        let _alone = self.0.changes.next().await;
        if let Some(failed) = self.failed() {
            return Err(failed.into());
        }
        let removed = self.remove_deleted_segments().await;
        self.judged(removed)?;
        Ok(self.marks().log_start)
    }

    /// Removes the files of removed segments now, and not when their time has come: the disk is full.
    pub async fn remove_put_away(&self) -> io::Result<()> {
        let put_away =
            self.0.state.borrow_mut().put_away.peek_mut().map(|all| std::mem::take(&mut all.files));
        let put_away = put_away.unwrap_or_default();
        self.remove_files(put_away.into_values().flat_map(|one| one.files)).await
    }

    /// The first offset that is within all limits: where a segment begins, or the log end.
    async fn first_to_keep(&self, visible: Offset) -> Result<Offset, ReadError> {
        let config = self.config();
        let log_start = self.marks().log_start;
        if !config.delete {
            return Ok(log_start);
        }
        let by_size = config.retention_bytes.map_or(log_start, |bytes| self.first_within(bytes, visible));
        let Some(retention_ms) = config.retention_ms else { return Ok(by_size) };
        let now = self.0.shard.wall_time().0;
        let mut keep_from = log_start;
        let mut next = self.oldest();
        while let Some(base) = next {
            let Some(end) = self.end_if_visible(base, visible) else { break };
            let Some(newest) = self.newest_time_of(base).await? else { break };
            let age = now.saturating_sub(newest);
            if u64::try_from(age).is_ok_and(|age| age > retention_ms) {
                keep_from = keep_from.max(end);
            } else {
                break;
            }
            next = self.segment_after(base);
        }
        Ok(keep_from.max(by_size))
    }

    /// The first segment that is kept when all together are to take no less than this: one goes only if it is all excess.
    fn first_within(&self, retention_bytes: u64, visible: Offset) -> Offset {
        let mut keep_from = self.marks().log_start;
        let mut excess = self.sizes().valid_bytes.saturating_sub(retention_bytes);
        let mut next = self.oldest();
        while let Some(base) = next {
            let Some(end) = self.end_if_visible(base, visible) else { break };
            let size = self.0.state.borrow().segments.get(&base).map_or(0, |segment| segment.size);
            if excess == 0 || excess < size {
                break;
            }
            excess -= size;
            keep_from = keep_from.max(end);
            next = self.segment_after(base);
        }
        keep_from
    }

    /// Where a segment's records end, if consumers may see them all. `None` for an active segment without records: there is
    /// nothing to let go of.
    fn end_if_visible(&self, base: Offset, visible: Offset) -> Option<Offset> {
        let state = self.0.state.borrow();
        let next = state.segments.range(base + 1..).next().map(|(next, _)| *next);
        let is_empty = state.segments.get(&base).is_none_or(|segment| segment.size == 0);
        let end = next.unwrap_or(state.marks.log_end);
        (end <= visible && !(next.is_none() && is_empty)).then_some(end)
    }

    /// The largest timestamp in a segment; where its batches have none, when it was made, as far as that is known. `None` if it
    /// has just gone.
    pub(super) async fn newest_time_of(&self, base: Offset) -> Result<Option<i64>, ReadError> {
        let known = self.0.state.borrow().segments.get(&base).and_then(|segment| segment.max_timestamp);
        if known.is_none() {
            let _reading = self.0.reading.take(1).await;
            self.load_indexes(base).await?;
        }
        let state = self.0.state.borrow();
        let segment = state.segments.get(&base);
        Ok(segment.map(|segment| segment.max_timestamp.map_or(segment.created, |(time, _)| time)))
    }

    /// The timestamp of a segment's first batch, if it has one.
    pub(super) async fn first_time_of(&self, base: Offset) -> Result<Option<i64>, ReadError> {
        let known = self.0.state.borrow().segments.get(&base).and_then(|segment| segment.first_timestamp);
        if known.is_some() {
            return Ok(known);
        }
        let _reading = self.0.reading.take(1).await;
        let io_error = |error| ReadError::Io { file: self.log_path(base), error };
        let Some(source) = self.filed_source(base).await.map_err(io_error)? else { return Ok(None) };
        let size = self.0.state.borrow().segments.get(&base).map_or(0, |segment| segment.size);
        let first = Scan::near(self.0.shard.io(), source, 0, size).peek().await.map_err(io_error)?;
        let first = first.map(|header| header.max_timestamp);
        if let Some(segment) = self.0.state.borrow_mut().segments.get_mut(&base) {
            segment.first_timestamp = first;
        }
        Ok(first)
    }

    fn oldest(&self) -> Option<Offset> {
        self.0.state.borrow().segments.first_key_value().map(|(base, _)| *base)
    }

    fn active_base(&self) -> Offset {
        self.0.state.borrow().active().base
    }

    /// Begins a new segment, if the active one holds anything. When this returns the new one's file is durable and the one before
    /// is sealed.
    pub(super) async fn leave_active_segment(&self) -> Result<(), LogFailed> {
        {
            let mut state = self.0.state.borrow_mut();
            let state = &mut *state;
            if state.active().size > 0 && !state.changing && state.failed.is_none() {
                self.begin_segment(state, state.marks.log_end, self.0.shard.wall_time());
                self.start_writer(state);
            }
        }
        loop {
            let moved = self.0.moved.next();
            if let Some(failed) = self.failed() {
                return Err(failed);
            }
            let settled = {
                let state = self.0.state.borrow();
                state.active().blocks.is_some() && state.segments.values().rev().skip(1).all(|one| one.sealed)
            };
            if settled {
                return Ok(());
            }
            moved.await;
        }
    }

    /// Takes a segment out of the log: its files get another name, under which recovery removes them, and go after a while. The
    /// directory is synced by the caller.
    pub(super) async fn put_segment_away(&self, base: Offset) -> io::Result<()> {
        let mut segment = self.0.state.borrow_mut().segments.remove(&base);
        let mut recyclable = segment.as_mut().and_then(|segment| self.recyclable(segment));
        let (mut files, mut to_recycle) = (Vec::new(), None);
        for suffix in SEGMENT_FILES {
            let file = self.put_file_away(&self.0.place.offset_file(base, suffix)).await?;
            match recyclable.take_if(|_| suffix == LOG) {
                Some(recyclable) => to_recycle = file.map(|file| (file, recyclable)),
                None => files.extend(file),
            }
        }
        let closed = self.close_files(segment).await;
        if let Some((file, recyclable)) = to_recycle {
            self.put_away(vec![file], Some(recyclable));
        }
        self.remove_later(files);
        closed
    }

    /// Gives a file another name, under which recovery removes it; `None` if there is no such file.
    pub(super) async fn put_file_away(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let mut deleted = path.as_os_str().to_owned();
        deleted.push(DELETED);
        let deleted = PathBuf::from(deleted);
        match self.0.shard.io().rename(self.0.place.dir, path.into(), deleted.clone()).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            renamed => renamed.map(|_| Some(deleted)),
        }
    }

    /// Has files that were put away removed when `file.delete.delay.ms` have passed.
    pub(super) fn remove_later(&self, files: Vec<PathBuf>) {
        self.put_away(files, None);
    }

    fn put_away(&self, files: Vec<PathBuf>, recyclable: Option<Recyclable>) {
        let mut state = self.0.state.borrow_mut();
        let is_recyclable = recyclable.is_some();
        let number = state.put_away.add(PutAway { files, recyclable });
        let delay = Duration::from_millis(state.config.file_delete_delay_ms);
        let log = self.clone();
        self.0.shard.spawn(async move {
            log.0.shard.sleep(delay).await;
            if is_recyclable && log.make_ready(number).await {
                log.0.shard.sleep(recycled_within(delay).saturating_sub(delay)).await;
            }
            // A log that is closed, or removed, leaves them to the next start: another may have its directory by now.
            if log.failed().is_none() {
                let one = log.0.state.borrow_mut().take_put_away(number);
                // What cannot be removed now is by the next start.
                let _ = log.remove_files(one.into_iter().flat_map(|one| one.files)).await;
            }
        });
    }

    /// What is to be known of a removed segment if its file may become that of a new one, and is likely to: as many wait as the log has
    /// begun lately.
    fn recyclable(&self, segment: &mut Segment) -> Option<Recyclable> {
        let lures = segment.lures.take()?;
        let state = self.0.state.borrow();
        let waiting = state.put_away.peek().map_or(0, PutAways::recyclable);
        let within = recycled_within(Duration::from_millis(state.config.file_delete_delay_ms));
        let now = self.0.shard.wall_time().0;
        let is_new = |segment: &Segment| {
            let age = now.saturating_sub(segment.created);
            u128::try_from(age).is_ok_and(|ms| ms < within.as_millis())
        };
        let begun = state.segments.values().rev().take(waiting + 1).take_while(|one| is_new(one)).count();
        let bytes = segment.size;
        (begun > waiting && state.may_recycle(bytes)).then_some(Recyclable { bytes, lures: Some(lures) })
    }

    /// Makes a removed segment's file ready to be that of a new one, away from where anybody waits. False if it is not to be one, or cannot.
    async fn make_ready(&self, number: u64) -> bool {
        let _turn = self.0.cache.recycling().take(1).await;
        if self.failed().is_some() {
            return false;
        }
        let found = self.0.state.borrow().file_to_make_ready(number);
        let Some((file, zeroed)) = found else { return false };
        let io = self.0.shard.io();
        let made = match io.blank(self.0.place.dir, file.clone(), zeroed).await {
            Ok(blanked) => io.sync_file(blanked).await.map(drop),
            refused => refused.map(drop),
        };
        if let Err(error) = made {
            // Else somebody has it open, or the file system has not what it takes.
            if is_of_device(&error) {
                self.fail("make ready", &file, error);
            }
            return false;
        }
        self.0.state.borrow_mut().is_ready(number)
    }

    /// Makes the file of a removed segment that of a new one, to be written over, and tells how far it may be; `None` if there is none fit
    /// for it.
    pub(super) async fn recycle(&self, base: Offset) -> io::Result<Option<(File, u64)>> {
        let Some(from) = self.0.state.borrow_mut().file_to_recycle() else { return Ok(None) };
        let io = self.0.shard.io();
        match io.recycle(self.0.place.dir, from.clone(), self.log_path(base)).await {
            Err(error) if is_of_device(&error) => Err(error),
            Err(_) => {
                // Somebody has opened it since it was made ready.
                let _ = remove_file(io, &self.0.place, &from).await;
                Ok(None)
            }
            recycled => recycled.map(Some),
        }
    }

    /// Removes all that can be, and tells what could not first.
    async fn remove_files(&self, files: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
        let mut result = Ok(());
        for file in files {
            result = result.and(remove_file(self.0.shard.io(), &self.0.place, &file).await);
        }
        result
    }
}

/// The files of removed segments that are still there, by a number that each got when it was put away, and no other gets.
#[derive(Debug, Default)]
pub(super) struct PutAways {
    files: BTreeMap<u64, PutAway>,
    next: u64,
}

/// Files of a removed segment, under their other names.
#[derive(Debug)]
struct PutAway {
    files: Vec<PathBuf>,
    /// There is one, the segment's own, and a new segment may have it.
    recyclable: Option<Recyclable>,
}

/// What decides whether a new segment may have the file of a removed one.
#[derive(Debug)]
struct Recyclable {
    bytes: u64,
    /// `None` once they are zeroes, and the file is ready.
    lures: Option<Box<Lures>>,
}

impl PutAways {
    fn add(&mut self, one: PutAway) -> u64 {
        self.next += 1;
        self.files.insert(self.next, one);
        self.next
    }

    /// How many wait to become those of new segments.
    fn recyclable(&self) -> usize {
        self.files.values().filter(|one| one.recyclable.is_some()).count()
    }
}

impl State {
    /// The file of this number and what is to be zeroed in it, if a new segment may have it.
    fn file_to_make_ready(&self, number: u64) -> Option<(PathBuf, Vec<u64>)> {
        let one = self.put_away.peek()?.files.get(&number)?;
        let recyclable = one.recyclable.as_ref().filter(|recyclable| self.may_recycle(recyclable.bytes))?;
        let zeroed = recyclable.lures.as_ref()?.positions();
        #[cfg(ringlog_plant)]
        let zeroed = if plant::is(Plant::LeaveTheLures) { Vec::new() } else { zeroed };
        Some((one.files.first()?.clone(), zeroed))
    }

    /// A file has been made ready: whether it may still be recycled.
    fn is_ready(&mut self, number: u64) -> bool {
        let one = self.put_away.peek_mut().and_then(|put_away| put_away.files.get_mut(&number));
        let recyclable = one.and_then(|one| one.recyclable.as_mut());
        recyclable.map(|recyclable| recyclable.lures = None).is_some()
    }

    /// Of the removed segments' files one that is ready for a new segment.
    fn file_to_recycle(&mut self) -> Option<PathBuf> {
        let is_fit = |one: &Recyclable| one.lures.is_none() && self.may_recycle(one.bytes);
        let mut files = self.put_away.peek()?.files.iter();
        let (number, _) = files.find(|(_, one)| one.recyclable.as_ref().is_some_and(is_fit))?;
        let number = *number;
        self.take_put_away(number)?.files.pop()
    }

    fn take_put_away(&mut self, number: u64) -> Option<PutAway> {
        self.put_away.peek_mut()?.files.remove(&number)
    }

    /// Whether a file with so many bytes of batches is about as large as a new segment is going to be. Where offsets may have gaps recovery
    /// goes less by them.
    fn may_recycle(&self, bytes: u64) -> bool {
        let most = u64::from(self.config.segment_bytes);
        self.gaps == Gaps::None && (most / 2..=most).contains(&bytes)
    }

    /// The log is cut: what comes next may have offsets that removed segments had.
    pub(super) fn recycle_nothing(&mut self) {
        if let Some(put_away) = self.put_away.peek_mut() {
            put_away.files.values_mut().for_each(|one| one.recyclable = None);
        }
    }
}

/// How long a removed file may be there until it is that of a new segment: a log that has begun one within this time will begin the next as
/// soon. By default it is as long as between two looks for segments to remove, and the delay.
fn recycled_within(delay: Duration) -> Duration {
    delay.saturating_mul(6)
}
