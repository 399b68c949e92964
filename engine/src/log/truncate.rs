//! Taking records back: from the end (a follower whose leader knows otherwise) and from the start (DeleteRecords).

use super::checkpoint::{Checkpoint, IndexBytes};
use super::epochs::EpochEnd;
use super::error::{LogFailed, ReadError};
use super::files::{LOG, SNAPSHOT, read_file, remove_file};
use super::marks::Marks;
use super::producers::Producers;
use super::recovery::{SEGMENT_FILES, offset_and_suffix};
use super::scan::{Scan, last_block};
use super::sealing::{Keep, LogStart};
use super::segment::Segment;
use super::space::Prepared;
use super::{Log, Offset, READERS_MAX, resting};
use crate::io::{FileMode, is_no_space};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use crate::shard::sync::Permit;
use std::fmt;
use std::io;

/// Why records were not taken back.
#[derive(Debug)]
pub enum TruncateError {
    /// The log is offline, or went offline over it.
    Failed(LogFailed),
    /// The offset is past the log end.
    OutOfRange {
        /// The offset the next record gets.
        log_end: Offset,
    },
    /// The disk is full; nothing was done.
    NoSpace,
    /// Looking for the place to cut met damage.
    Read(ReadError),
}

impl fmt::Display for TruncateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failed) => failed.fmt(f),
            Self::OutOfRange { log_end } => write!(f, "the log ends at {log_end}"),
            Self::NoSpace => f.write_str("the disk is full"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TruncateError {}

impl From<LogFailed> for TruncateError {
    fn from(failed: LogFailed) -> Self {
        Self::Failed(failed)
    }
}

/// What was being done to the log's files when it failed.
pub(super) type Step<T> = Result<T, (&'static str, io::Error)>;

impl Log {
    /// Takes back every record at or past this offset, and the whole batch that contains it. Returns where the log ends now.
    /// Appends are refused as busy meanwhile.
    pub async fn truncate_to(&self, offset: Offset) -> Result<Offset, TruncateError> {
        if offset < self.marks().log_start {
            self.truncate_fully_and_start_at(offset).await?;
            return Ok(offset);
        }
        let _alone = self.0.changes.next().await;
        // An epoch that began at the end and has no records goes, too (its leader may never have appended), and from the disk:
        // recovery would not take batches of an earlier one behind it.
        let log_end = self.marks().log_end;
        let empty_epoch = self.0.state.borrow().epochs.begin_from(log_end);
        #[cfg(ringlog_plant)]
        let empty_epoch = empty_epoch && !plant::is(Plant::KeepAnEpochWithoutRecords);
        if offset >= log_end && !empty_epoch {
            return Ok(log_end);
        }
        self.changing(async || {
            self.settle().await?;
            let offset = offset.min(log_end);
            let (checkpoint, segment, producers) =
                self.sum_up_before(offset).await.map_err(TruncateError::Read)?;
            let end = checkpoint.offset;
            let _nobody_reads = self.no_readers().await;
            let cut = self.cut_in_journal().await;
            self.judged(cut)?;
            let cut = self.cut_at(checkpoint, segment, producers).await;
            self.judged(cut)?;
            Ok(end)
        })
        .await
    }

    /// Takes back what the leader does not have, given its answer to where an epoch ended (KIP-101). Returns where the log ends
    /// now.
    pub async fn truncate_to_epoch(&self, leader: EpochEnd) -> Result<Offset, TruncateError> {
        // If that epoch is not known here, what came after the last one before it has to go.
        let local = self.epoch_end(leader.epoch);
        let end = local.map_or(self.marks().log_start, |local| local.end_offset.min(leader.end_offset));
        self.truncate_to(end).await
    }

    /// Empties the log; its next record gets this offset.
    pub async fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), TruncateError> {
        let _alone = self.0.changes.next().await;
        self.changing(async || {
            self.settle().await?;
            let _nobody_reads = self.no_readers().await;
            let cut = self.cut_in_journal().await;
            self.judged(cut)?;
            let cleared = self.clear_and_start_at(offset).await;
            self.judged(cleared)?;
            Ok(())
        })
        .await
    }

    /// Moves the log start to this offset (DeleteRecords), durably, and removes the segments that lie before it. The offset is one
    /// that consumers may see. Returns the log start.
    pub async fn delete_before(&self, offset: Offset) -> Result<Offset, TruncateError> {
        let _alone = self.0.changes.next().await;
        // It may be the last deletion that has failed: the log start has moved and is not on disk.
        if let Some(failed) = self.failed() {
            return Err(failed.into());
        }
        let marks = self.marks();
        if offset > marks.log_end {
            return Err(TruncateError::OutOfRange { log_end: marks.log_end });
        }
        if offset <= marks.log_start {
            return Ok(marks.log_start);
        }
        self.wait_durable(offset).await?;
        match self.move_log_start(offset).await {
            // Nothing has happened: it may be asked for again once there is room.
            Err(error) if is_no_space(&error) => return Err(TruncateError::NoSpace),
            moved => self.judged(moved.map_err(|error| ("write checkpoint of", error)))?,
        }
        if let Some(failed) = self.failed() {
            return Err(failed.into());
        }
        let removed = self.remove_deleted_segments().await;
        self.judged(removed)?;
        Ok(offset)
    }

    /// Does something that appends must not come between.
    async fn changing<T>(
        &self,
        change: impl AsyncFnOnce() -> Result<T, TruncateError>,
    ) -> Result<T, TruncateError> {
        self.0.state.borrow_mut().changing = true;
        let result = change().await;
        self.0.state.borrow_mut().changing = false;
        self.0.moved.notify();
        result
    }

    /// Waits until nobody reads files, and has who would wait: a read that is under way would bring into the page cache what is about to be
    /// written anew.
    async fn no_readers(&self) -> Permit {
        self.0.reading.take(READERS_MAX).await
    }

    /// A change of the files that failed half way takes the log offline; recovery finishes it or undoes it.
    pub(super) fn judged<T>(&self, result: Step<T>) -> Result<T, LogFailed> {
        result.map_err(|(doing, error)| {
            self.fail(doing, &self.0.place.path.clone(), error);
            self.failed().expect("it has just failed")
        })
    }

    /// The producers as they were where a segment begins: from the newest snapshot there or before, and the batches since.
    async fn producers_at(&self, base: Offset, now: i64) -> Result<Producers, ReadError> {
        let place = &self.0.place;
        let io = self.0.shard.io();
        let mut bases: Vec<Offset> =
            self.0.state.borrow().segments.range(..=base).rev().map(|(base, _)| *base).collect();
        let mut producers = Producers::default();
        let mut since = bases.len();
        for (n, base) in bases.iter().enumerate() {
            let path = place.offset_file(*base, SNAPSHOT);
            let snapshot =
                read_file(io, place, &path).await.map_err(|error| ReadError::Io { file: path, error })?;
            let Some(snapshot) = snapshot else { continue };
            if let Some(found) = Producers::decode(&snapshot, now) {
                (producers, since) = (found, n + 1);
                break;
            }
            let path = place.offset_file(*base, SNAPSHOT);
            self.damaged(&path, 0, "its checksum fails; the producers are read from the segments before");
        }
        bases.truncate(since);
        for before in bases.into_iter().skip(1).rev() {
            let path = self.log_path(before);
            let io_error = |error| ReadError::Io { file: path.clone(), error };
            let size = self.0.state.borrow().segments[&before].size;
            let Some(source) = self.filed_source(before).await.map_err(io_error)? else { continue };
            let mut scan = Scan::new(io, source, 0, size);
            while let Some(header) = scan.peek().await.map_err(io_error)? {
                if header.has_producer_id() {
                    producers.apply(&header, now);
                }
                scan.skip(&header);
            }
        }
        Ok(producers)
    }

    /// The log as it was before this offset.
    async fn sum_up_before(
        &self,
        offset: Offset,
    ) -> Result<(Checkpoint, Box<Segment>, Producers), ReadError> {
        let base = self.segment_of(offset).expect("an offset past the log start lies in a segment");
        let io = self.0.shard.io();
        let (size, created, interval, now) = {
            let state = self.0.state.borrow();
            let segment = &state.segments[&base];
            (segment.size, segment.created, state.config.index_interval_bytes, self.0.shard.wall_time().0)
        };
        let mut producers = self.producers_at(base, now).await?;
        let path = self.log_path(base);
        let io_error = |error| ReadError::Io { file: path.clone(), error };
        let mut segment = Segment::new(base, created);
        let mut end = base;
        if let Some(source) = self.filed_source(base).await.map_err(io_error)? {
            let mut scan = Scan::new(io, source, 0, size);
            while scan.pos() < size {
                let header = scan.peek().await.map_err(io_error)?;
                let Some(header) = header.filter(|header| segment.may_hold(header, end)) else {
                    return Err(ReadError::Corrupt { file: path, pos: scan.pos(), offset });
                };
                if header.last_offset() >= offset {
                    break;
                }
                if header.has_producer_id() {
                    producers.apply(&header, now);
                }
                segment.note(&header, interval);
                end = header.next_offset();
                scan.skip(&header);
            }
        }
        let mut state = self.0.state.borrow_mut();
        let producers = state.producers.clone().truncate_from_end(end, producers);
        let mut epochs = state.epochs.clone();
        epochs.truncate_from_end(end);
        state.checkpointed = end.min(state.checkpointed);
        let indexes = segment.indexes.as_ref().expect("a new segment has indexes");
        let (max_timestamp, max_timestamp_offset) = segment.max_timestamp.unwrap_or((-1, -1));
        let checkpoint = Checkpoint {
            log_start: state.marks.log_start.min(end),
            offset: end,
            segment: base,
            pos: segment.size,
            created,
            first_timestamp: segment.first_timestamp.unwrap_or(-1),
            max_timestamp,
            max_timestamp_offset,
            clearing: false,
            producers: producers.checkpoint(),
            epochs: epochs.encode().into_bytes(),
            offsets: indexes.offsets.encode(),
            times: indexes.times.encode(),
            from: IndexBytes::default(),
        };
        drop(state);
        Ok((checkpoint, segment, producers))
    }

    /// Makes a checkpoint the end of the log. It goes to disk first: a crash after it leaves a log that was not cut, or not
    /// wholly, and goes on from there.
    async fn cut_at(
        &self,
        checkpoint: Checkpoint,
        mut segment: Box<Segment>,
        producers: Producers,
    ) -> Step<()> {
        let place = &self.0.place;
        let io = self.0.shard.io();
        let (base, end, size) = (checkpoint.segment, checkpoint.offset, checkpoint.pos);
        let log_start = checkpoint.log_start;
        self.write_checkpoint(checkpoint, LogStart::Given, Keep::Durably)
            .await
            .map_err(|error| ("write checkpoint of", error))?;
        let old = self.0.state.borrow_mut().segments.get_mut(&base).map(|segment| segment.take_files());
        for file in old.into_iter().flatten() {
            io.close(file).await.map_err(|error| ("close segment of", error))?;
        }
        let later: Vec<Offset> =
            self.0.state.borrow().segments.range(base + 1..).rev().map(|(base, _)| *base).collect();
        for later in later {
            self.remove_segment(later).await.map_err(|error| ("remove segment of", error))?;
        }
        self.remove_snapshots_past(end).await.map_err(|error| ("remove snapshots of", error))?;
        let cut = |error| ("cut segment of", error);
        let path = self.log_path(base);
        let (file, _) = io.open(place.dir, path, FileMode::Blocks).await.map_err(cut)?;
        io.truncate(file.clone(), size).await.map_err(cut)?;
        io.sync_file(file.clone()).await.map_err(cut)?;
        io.sync_dir(place.dir, place.path.clone()).await.map_err(cut)?;
        self.cut_aborted_transactions(base, end).await.map_err(cut)?;
        let partial = last_block(io, &file, size).await.map_err(cut)?;
        segment.written_size = size;
        segment.prepared = Prepared::after(size);
        segment.blocks = Some(file);
        let former = self.0.state.borrow_mut().segments.remove(&base);
        self.begin_again(
            segment,
            &partial,
            producers,
            Marks { log_start, durable: end, written: end, log_end: end },
        );
        self.close_files(former).await.map_err(cut)
    }

    async fn clear_and_start_at(&self, offset: Offset) -> Step<()> {
        let place = &self.0.place;
        let io = self.0.shard.io();
        self.0.state.borrow_mut().checkpointed = offset;
        let created = self.0.shard.wall_time().0;
        let epochs = {
            let mut state = self.0.state.borrow_mut();
            state.epochs.truncate_from_end(0);
            state.epochs.encode().into_bytes()
        };
        let clearing = Checkpoint {
            log_start: offset,
            offset,
            segment: offset,
            created,
            first_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            clearing: true,
            producers: Producers::default().checkpoint(),
            epochs,
            ..Checkpoint::default()
        };
        let cleared = Checkpoint { clearing: false, ..clearing.clone() };
        let marking = |error| ("write checkpoint of", error);
        self.write_checkpoint(clearing, LogStart::Given, Keep::Durably).await.map_err(marking)?;
        let bases: Vec<Offset> = self.0.state.borrow().segments.keys().copied().collect();
        for base in bases {
            self.remove_segment(base).await.map_err(|error| ("remove segment of", error))?;
        }
        self.remove_snapshots_past(-1).await.map_err(|error| ("remove snapshots of", error))?;
        let creating = |error| ("create segment of", error);
        let path = place.offset_file(offset, LOG);
        let file = io.create(place.dir, path, FileMode::Blocks).await.map_err(creating)?;
        io.sync_file(file.clone()).await.map_err(creating)?;
        #[cfg(ringlog_plant)]
        let syncs = !plant::is(Plant::ClearWithoutSyncingTheDirectory);
        #[cfg(not(ringlog_plant))]
        let syncs = true;
        // Before the checkpoint that finds the log in order: what is removed does not come back without the mark of it, and the
        // file has a name.
        if syncs {
            io.sync_dir(place.dir, place.path.clone()).await.map_err(|error| ("sync directory", error))?;
        }
        self.write_checkpoint(cleared, LogStart::Given, Keep::Durably).await.map_err(marking)?;
        self.0.state.borrow_mut().aborted = Box::default();
        let mut segment = Segment::new(offset, created);
        segment.blocks = Some(file);
        self.begin_again(segment, &[], Producers::default(), Marks::at(offset));
        Ok(())
    }

    /// The log's state after it has been cut: this segment is the active one.
    fn begin_again(&self, segment: Box<Segment>, partial: &[u8], producers: Producers, marks: Marks) {
        let mut woken = Vec::new();
        {
            let mut state = self.0.state.borrow_mut();
            marks.check();
            state.marks = marks;
            state.segments.insert(segment.base, segment);
            state.rest_at(resting::checksum(partial));
            #[cfg(ringlog_plant)]
            let producers = match plant::is(Plant::KeepTheProducersOfWhatIsCut) {
                true => std::mem::take(&mut state.producers),
                false => producers,
            };
            state.producers = producers;
            state.epochs.truncate_from_end(marks.log_end);
            state.snapshots.take();
            state.recycle_nothing();
            state.dirty.clear();
            state.durable_wanted = marks.log_end;
            (state.filed, state.filed_durable) = (marks.log_end, marks.log_end);
            (state.filed_wanted, state.durable_soon) = (marks.log_end, marks.log_end);
            state.truncations += 1;
            state.cut_from = state.cut_from.min(marks.log_end);
            state.waiters.all(&mut woken);
        }
        self.0.chunks.clear();
        self.wake(woken);
    }

    /// Removes the sealed segments that lie before the log start, oldest first; not those at which recovery would begin. Of several removals a power cut may undo any, and recovery must not meet a hole.
    pub(super) async fn remove_deleted_segments(&self) -> Step<()> {
        let _removing = self.0.removing.next().await;
        let mut removed = false;
        while let Some(first) = self.first_deleted() {
            self.put_segment_away(first).await.map_err(|error| ("remove segment of", error))?;
            removed = true;
        }
        if !removed {
            return Ok(());
        }
        let place = &self.0.place;
        let synced = self.0.shard.io().sync_dir(place.dir, place.path.clone()).await;
        synced.map(drop).map_err(|error| ("sync directory", error))
    }

    /// The oldest segment, if it is one to be removed.
    pub(super) fn first_deleted(&self) -> Option<Offset> {
        let state = self.0.state.borrow();
        let until = state.marks.log_start.min(state.recovers_from);
        #[cfg(ringlog_plant)]
        let until = if plant::is(Plant::RemoveWhereRecoveryBegins) { state.marks.log_start } else { until };
        let mut segments = state.segments.iter();
        let (first, segment) = segments.next()?;
        let (next, _) = segments.next()?;
        (segment.sealed && *next <= until).then_some(*first)
    }

    /// Removes the producers' snapshots past this offset, wherever they are: they tell of records that are gone.
    async fn remove_snapshots_past(&self, offset: Offset) -> io::Result<()> {
        let place = &self.0.place;
        let io = self.0.shard.io();
        for entry in io.list(place.dir, place.path.clone()).await? {
            let stray = matches!(offset_and_suffix(&entry.name), Some((at, SNAPSHOT)) if at > offset);
            if stray {
                remove_file(io, place, &place.file(&entry.name)).await?;
            }
        }
        Ok(())
    }

    /// Removes one segment and its files.
    async fn remove_segment(&self, base: Offset) -> io::Result<()> {
        let segment = self.0.state.borrow_mut().segments.remove(&base);
        let io = self.0.shard.io();
        for suffix in SEGMENT_FILES {
            remove_file(io, &self.0.place, &self.0.place.offset_file(base, suffix)).await?;
        }
        self.close_files(segment).await
    }

    /// Closes the files of a segment that is no more. Reads that have them open go on.
    pub(super) async fn close_files(&self, segment: Option<Box<Segment>>) -> io::Result<()> {
        let files = segment.into_iter().flat_map(|segment| [segment.blocks, segment.cached]);
        for file in files.flatten() {
            self.0.shard.io().close(file).await?;
        }
        Ok(())
    }
}
