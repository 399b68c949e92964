//! Off the write path: sealing the segments that have been left, and checkpoints.

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, IndexBytes};
use super::error::LogFailed;
use super::files::{EPOCHS_FILE, INDEX, SNAPSHOT, TIME_INDEX, read_file, write_file};
use super::producers::Producers;
use super::{Durability, Log, Offset, State};
use crate::io::{FileMode, is_no_space};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use bytes::Bytes;
use std::io;
use std::path::PathBuf;

/// Which log start a checkpoint carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LogStart {
    /// The log's, as it is when the checkpoint is written.
    Current,
    /// The one in the checkpoint: the log is being cut to it.
    Given,
}

/// Whether a checkpoint outlives a loss of power from the moment it has been written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// On stable storage.
    Durably,
    /// As the kernel sees fit: it outlives the process. Lost with the power it leaves the one before it, and more to scan.
    Cached,
}

impl Log {
    /// A segment has been left and is wholly written: it will be sealed, after those before it.
    pub(super) fn seal_later(&self, base: Offset) {
        let mut state = self.0.state.borrow_mut();
        state.to_seal.push_back(base);
        if !std::mem::replace(&mut state.sealer_runs, true) {
            let log = self.clone();
            self.0.shard.spawn(async move { log.seal_all().await });
        }
    }

    async fn seal_all(&self) {
        loop {
            let next = self.0.state.borrow().to_seal.front().copied();
            let Some(base) = next else { break };
            if let Err(error) = self.seal(base).await {
                let full = error.as_ref().is_some_and(|(_, _, error)| is_no_space(error));
                if full && self.space_may_have_come().await {
                    continue;
                }
                if let Some((doing, path, error)) = error {
                    self.fail(doing, &path, error);
                }
                break;
            }
            self.0.state.borrow_mut().to_seal.pop_front();
        }
        self.0.state.borrow_mut().sealer_runs = false;
        self.0.moved.notify();
    }

    /// Gives a segment its final form: durable, its indexes and the producers at its end on disk, no prepared space. A
    /// crash in between leaves what recovery begins with: the checkpoint moves past the segment last.
    async fn seal(&self, base: Offset) -> Result<(), Option<(&'static str, PathBuf, io::Error)>> {
        let Some(end) = self.segment_after(base) else { return Ok(()) };
        self.wait_filed_durably(end).await.map_err(|_| None)?;
        self.space_has_come(base).await;
        let (file, size, offsets, times, snapshot) = {
            let mut state = self.0.state.borrow_mut();
            let snapshot = state.snapshots.get(&end).map(Producers::snapshot);
            let Some(segment) = state.segments.get_mut(&base) else { return Ok(()) };
            segment.end_time_index();
            let indexes = segment.indexes.as_ref().expect("a segment not yet sealed has its indexes");
            // The log has failed and was closed meanwhile.
            let Some(file) = segment.blocks.clone() else { return Err(None) };
            (file, segment.size, indexes.offsets.encode(), indexes.times.encode(), snapshot)
        };
        let place = &self.0.place;
        let io = self.0.shard.io();
        let mut files =
            vec![(place.offset_file(base, INDEX), offsets), (place.offset_file(base, TIME_INDEX), times)];
        files.extend(snapshot.map(|snapshot| (place.offset_file(end, SNAPSHOT), snapshot)));
        for (path, bytes) in files {
            let written = write_file(io, place, &path, Bytes::from(bytes)).await;
            written.map_err(|error| Some(("write", path, error)))?;
        }
        let path = self.log_path(base);
        let cut = |error| Some(("cut", path.clone(), error));
        io.truncate(file.clone(), size).await.map_err(cut)?;
        io.sync_file(file.clone()).await.map_err(cut)?;
        io.sync_dir(place.dir, place.path.clone())
            .await
            .map_err(|error| Some(("sync directory", place.path.clone(), error)))?;
        let cached = {
            let mut state = self.0.state.borrow_mut();
            state.segments.get_mut(&base).and_then(|segment| {
                segment.sealed = true;
                segment.blocks = None;
                segment.prepared = super::space::Prepared::default();
                segment.lures.iter_mut().for_each(|lures| lures.shrink());
                segment.cached.take()
            })
        };
        // The descriptors close with the last read that uses them.
        for file in cached.into_iter().chain([file]) {
            io.close(file).await.map_err(|error| Some(("close", path.clone(), error)))?;
        }
        let checkpointing = |error| Some(("write checkpoint of", place.path.clone(), error));
        let sealed = self.sum_up_sealed(end);
        #[cfg(ringlog_plant)]
        let sealed =
            if plant::is(Plant::CheckpointPastTheDurableMark) { Some(self.sum_up()) } else { sealed };
        let written = match sealed {
            Some(checkpoint) => self.write_checkpoint(checkpoint, LogStart::Current, Keep::Durably).await,
            None => self.checkpoint(Keep::Durably).await,
        };
        unless_full(written).map_err(checkpointing)?;
        // A deletion had to leave those at which recovery would have begun.
        let removed = self.remove_deleted_segments().await;
        removed.map_err(|(doing, error)| Some((doing, place.path.clone(), error)))
    }

    /// Waits until no step of space is being prepared in a segment: it would make the file longer again after it has been cut.
    async fn space_has_come(&self, base: Offset) {
        loop {
            let prepared = self.0.prepared.next();
            let pending = {
                let state = self.0.state.borrow();
                state.segments.get(&base).is_some_and(|segment| segment.prepared.is_pending())
            };
            if !pending {
                return;
            }
            prepared.await;
        }
    }

    /// The log as it was at the end of the segment that has just been sealed. Not as it is now: recovery takes segments before
    /// the checkpoint's for sealed, and the one that follows may have been left without being sealed.
    fn sum_up_sealed(&self, end: Offset) -> Option<Checkpoint> {
        let mut state = self.0.state.borrow_mut();
        let producers = state.snapshots.remove(&end)?;
        let mut epochs = state.epochs.clone();
        epochs.truncate_from_end(end);
        state.bytes_since_checkpoint =
            state.segments.range(end..).map(|(_, segment)| segment.written_size).sum();
        Some(Checkpoint {
            offset: end,
            segment: end,
            created: state.segments.get(&end)?.created,
            first_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            producers: producers.checkpoint(),
            epochs: epochs.encode().into_bytes(),
            ..Checkpoint::default()
        })
    }

    /// After a sync: a checkpoint, if enough has been written since the last.
    pub(super) fn checkpoint_if_due(&self, state: &mut State) {
        let bytes = match state.config.durability {
            Durability::Fsync => state.config.checkpoint_bytes,
            // It waits for a sync, which nothing else may ask for here.
            Durability::Replicated => 4 * state.config.checkpoint_bytes,
        };
        if state.bytes_since_checkpoint < bytes || std::mem::replace(&mut state.checkpoint_runs, true) {
            return;
        }
        let log = self.clone();
        self.0.shard.spawn(async move { log.checkpoint_or_fail(Keep::Durably).await });
    }

    /// The same, now, unless one is on its way or the log is being changed or closed. Thousands of logs do so every second, so none has a
    /// sync of its own.
    pub(super) async fn checkpoint_ahead(&self) {
        let may = {
            let mut state = self.0.state.borrow_mut();
            let may = !state.changing && state.failed.is_none();
            may && !std::mem::replace(&mut state.checkpoint_runs, true)
        };
        if may {
            self.checkpoint_or_fail(Keep::Cached).await;
        }
    }

    async fn checkpoint_or_fail(&self, keep: Keep) {
        let result = unless_full(self.checkpoint(keep).await);
        self.0.state.borrow_mut().checkpoint_runs = false;
        if let Err(error) = result {
            self.fail("write checkpoint of", &self.0.place.path.clone(), error);
        }
        self.0.moved.notify();
    }

    /// Sums up the log as it is now, waits until that is durable, and makes it the place where recovery begins. Not while a
    /// segment before the active one is not sealed: its sealing will make a checkpoint.
    pub(super) async fn checkpoint(&self, keep: Keep) -> io::Result<()> {
        let unsealed = self.0.state.borrow().segments.values().rev().skip(1).any(|segment| !segment.sealed);
        if unsealed {
            return Ok(());
        }
        let checkpoint = self.sum_up();
        let truncations = self.0.state.borrow().truncations;
        #[cfg(ringlog_plant)]
        if plant::is(Plant::CheckpointPastTheDurableMark) {
            return self.write_checkpoint(checkpoint, LogStart::Current, keep).await;
        }
        #[cfg(ringlog_plant)]
        if plant::is(Plant::CheckpointPastTheFile) && self.wait_durable(checkpoint.offset).await.is_ok() {
            return self.write_checkpoint(checkpoint, LogStart::Current, keep).await;
        }
        match self.wait_filed_durably(checkpoint.offset).await {
            Ok(()) => {}
            // What was summed up has been cut off, or will never be durable: the last checkpoint stands.
            Err(LogFailed::Truncated | LogFailed::Closed | LogFailed::Storage { .. }) => return Ok(()),
        }
        if self.0.state.borrow().truncations != truncations {
            return Ok(());
        }
        self.write_checkpoint(checkpoint, LogStart::Current, keep).await
    }

    /// Moves the log start, leaving the last checkpoint as it is otherwise. Readers go by it once it is on disk.
    pub(super) async fn move_log_start(&self, offset: Offset) -> io::Result<()> {
        let permit = self.0.checkpointing.next().await;
        let place = &self.0.place;
        let io = self.0.shard.io();
        let path = place.file(CHECKPOINT_FILE);
        let last = read_file(io, place, &path).await?.and_then(|bytes| Checkpoint::decode(&bytes));
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the checkpoint is damaged");
        let checkpoint = Checkpoint { log_start: offset, ..last.ok_or_else(damaged)? };
        self.0.state.borrow_mut().checkpoint_on_disk = None;
        let bytes = checkpoint.encode();
        let on_disk = checkpoint.on_disk(None, bytes.len() as u64);
        write_file(io, place, &path, Bytes::from(bytes)).await?;
        io.sync_dir(place.dir, place.path.clone()).await?;
        {
            let mut state = self.0.state.borrow_mut();
            state.checkpoint_on_disk = Some(on_disk);
            state.marks.log_start = offset;
            state.marks.check();
            state.epochs.truncate_from_start(offset);
        }
        // Not before: a checkpoint that waits for its turn carries the log start it then finds.
        drop(permit);
        self.0.moved.notify();
        Ok(())
    }

    /// The log as it is now; of the indexes what the last checkpoint on disk does not have.
    pub(super) fn sum_up(&self) -> Checkpoint {
        let mut state = self.0.state.borrow_mut();
        state.bytes_since_checkpoint = 0;
        let remembered = state.config.producer_expiration_ms;
        state.producers.expire(self.0.shard.wall_time().0, remembered);
        let active = state.active();
        let indexes = active.indexes.as_ref().expect("the active segment's indexes are in memory");
        let (max_timestamp, max_timestamp_offset) = active.max_timestamp.unwrap_or((-1, -1));
        let on_disk = state.checkpoint_on_disk.filter(|on_disk| on_disk.segment == active.base);
        let from = on_disk.map_or(IndexBytes::default(), |on_disk| on_disk.indexes);
        Checkpoint {
            log_start: state.marks.log_start,
            offset: state.marks.log_end,
            segment: active.base,
            pos: active.size,
            created: active.created,
            first_timestamp: active.first_timestamp.unwrap_or(-1),
            max_timestamp,
            max_timestamp_offset,
            clearing: false,
            producers: state.producers.checkpoint(),
            epochs: state.epochs.encode().into_bytes(),
            offsets: indexes.offsets.encode_from(from.offsets),
            times: indexes.times.encode_from(from.times),
            from,
        }
    }

    /// Puts a checkpoint on disk; and beside it the leader epochs in a file of their own, as Kafka has them.
    pub(super) async fn write_checkpoint(
        &self,
        mut checkpoint: Checkpoint,
        log_start: LogStart,
        keep: Keep,
    ) -> io::Result<()> {
        // One at a time, and never an older one over a newer one.
        let permit = self.0.checkpointing.next().await;
        {
            let mut state = self.0.state.borrow_mut();
            if checkpoint.offset < state.checkpointed {
                return Ok(());
            }
            state.checkpointed = checkpoint.offset;
            if log_start == LogStart::Current {
                // It may have moved while this checkpoint waited for the disk.
                checkpoint.log_start = state.marks.log_start;
            }
        }
        let place = &self.0.place;
        let io = self.0.shard.io();
        let path = place.file(CHECKPOINT_FILE);
        // Whatever comes of this: to what is not known to be whole nothing is added.
        let before = self.0.state.borrow_mut().checkpoint_on_disk.take();
        // A log that is cut begins a file: should what is added later be damaged, none from before the cut may stand.
        let before = before.filter(|_| log_start == LogStart::Current);
        let more = before.and_then(|before| Some((before, checkpoint.encode_more(&before)?)));
        // A file that begins is always durable: what recovery needs is removed on the strength of it.
        let is_cached = keep == Keep::Cached && more.is_some();
        let epochs = &checkpoint.epochs;
        let changed = !is_cached && self.0.state.borrow().epochs_on_disk.as_deref() != Some(&epochs[..]);
        if changed {
            write_file(io, place, &place.file(EPOCHS_FILE), Bytes::from(epochs.clone())).await?;
            self.0.state.borrow_mut().epochs_on_disk = Some(Box::from(&epochs[..]));
        }
        let on_disk = match more {
            Some((before, more)) => {
                let on_disk = checkpoint.on_disk(Some(before), more.len() as u64);
                let (file, _) = io.open(place.dir, path, FileMode::CachedWrite).await?;
                io.write(file.clone(), before.end, Bytes::from(more)).await?;
                if !is_cached {
                    io.sync_file(file.clone()).await?;
                }
                io.close(file).await?;
                if changed {
                    io.sync_dir(place.dir, place.path.clone()).await?;
                }
                on_disk
            }
            None => {
                let Some(checkpoint) = self.made_whole(checkpoint) else { return Ok(()) };
                let bytes = checkpoint.encode();
                let on_disk = checkpoint.on_disk(None, bytes.len() as u64);
                write_file(io, place, &path, Bytes::from(bytes)).await?;
                io.sync_dir(place.dir, place.path.clone()).await?;
                on_disk
            }
        };
        let mut state = self.0.state.borrow_mut();
        state.checkpoint_on_disk = Some(on_disk);
        state.recovers_from = on_disk.segment;
        drop(state);
        drop(permit);
        Ok(())
    }

    /// A checkpoint with the index entries that it leaves to what is on disk. `None` if its segment has been sealed, and maybe
    /// removed, since it was summed up: a later one is under way.
    pub(super) fn made_whole(&self, mut checkpoint: Checkpoint) -> Option<Checkpoint> {
        let from = std::mem::take(&mut checkpoint.from);
        if from == IndexBytes::default() {
            return Some(checkpoint);
        }
        let state = self.0.state.borrow();
        let segment = state.segments.get(&checkpoint.segment).filter(|segment| !segment.sealed)?;
        let indexes = segment.indexes.as_ref()?;
        let (mut offsets, mut times) = (indexes.offsets.encode(), indexes.times.encode());
        offsets.truncate(from.offsets);
        times.truncate(from.times);
        offsets.append(&mut checkpoint.offsets);
        times.append(&mut checkpoint.times);
        Some(Checkpoint { offsets, times, ..checkpoint })
    }
}

/// A checkpoint that found no room on the disk is made up for by the next: the last one stands.
fn unless_full(checkpointed: io::Result<()>) -> io::Result<()> {
    match checkpointed {
        Err(error) if is_no_space(&error) => Ok(()),
        other => other,
    }
}
