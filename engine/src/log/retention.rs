//! What a log lets go of by itself: whole segments past the limits of its topic, oldest first (Kafka's
//! `UnifiedLog.deleteOldSegments`), and the files of segments that have been removed.
//!
//! ```text
//!   limits ──▶ log start moves, durably ──▶ files renamed to `.deleted` ──▶ removed after `file.delete.delay.ms`
//! ```
//!
//! The log start is on disk before the first file gets another name: what a power cut brings back lies before it, and what it
//! takes away nobody was promised any more. Who still reads a removed segment has its file open, and reads on.

use super::error::{LogFailed, ReadError};
use super::files::{DELETED, remove_file};
use super::recovery::SEGMENT_FILES;
use super::scan::Scan;
use super::truncate::TruncateError;
use super::{Log, Offset};
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
        let put_away = self.0.state.borrow_mut().put_away.take();
        for (_, files) in put_away {
            self.remove_files(files).await?;
        }
        Ok(())
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
        let segment = self.0.state.borrow_mut().segments.remove(&base);
        let mut files = Vec::new();
        for suffix in SEGMENT_FILES {
            let path = self.0.place.offset_file(base, suffix);
            files.extend(self.put_file_away(&path).await?);
        }
        self.remove_later(files);
        self.close_files(segment).await
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
        let mut state = self.0.state.borrow_mut();
        let due = self.0.shard.now() + Duration::from_millis(state.config.file_delete_delay_ms);
        let is_first = state.put_away.is_empty();
        state.put_away.push_back((due, files));
        if is_first {
            let log = self.clone();
            self.0.shard.spawn(async move { log.remove_when_due().await });
        }
    }

    async fn remove_when_due(&self) {
        loop {
            let Some(due) = self.0.state.borrow().put_away.front().map(|(due, _)| *due) else { return };
            self.0.shard.sleep_until(due).await;
            // A log that is closed, or removed, leaves them to the next start: another may have its directory by now.
            if self.failed().is_some() {
                return;
            }
            let now = self.0.shard.now();
            let due = self.0.state.borrow_mut().put_away.pop_front_if(|(due, _)| *due <= now);
            let Some((_, files)) = due else { continue };
            // What cannot be removed now is by the next start.
            let _ = self.remove_files(files).await;
        }
    }

    async fn remove_files(&self, files: Vec<PathBuf>) -> io::Result<()> {
        for file in files {
            remove_file(self.0.shard.io(), &self.0.place, &file).await?;
        }
        Ok(())
    }
}
