//! The clean end of a log: everything written and durable, no prepared space, Kafka's files beside the segments.

use super::error::LogFailed;
use super::files::{INDEX, SNAPSHOT, TIME_INDEX, write_file};
use super::sealing::{Keep, LogStart};
use super::segment::Segment;
use super::{Log, LogDir};
use crate::io::Io;
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};

impl Log {
    /// Stops the log: waits until everything is written, durable and sealed, gives the active segment the form of a sealed
    /// one, and writes a checkpoint, so that the next open has nothing to scan. Appends are refused from now on.
    pub async fn close(self) -> Result<(), LogFailed> {
        self.stop_cleaning().await;
        let _alone = self.0.changes.take(1).await;
        {
            let mut state = self.0.state.borrow_mut();
            (state.changing, state.closing) = (true, true);
        }
        let result = self.finish().await;
        if let Err((doing, path, error)) = result {
            self.fail(doing, &path, error);
        }
        let failed = self.failed();
        self.end(LogFailed::Closed);
        self.idle().await;
        let files = self.take_files();
        for file in files {
            // Everything in them is durable: what closing them says changes nothing.
            let _ = self.0.shard.io().close(file).await;
        }
        self.0.chunks.clear();
        failed.map_or(Ok(()), Err)
    }

    async fn finish(&self) -> Result<(), (&'static str, PathBuf, io::Error)> {
        if self.settle().await.is_err() {
            return Ok(());
        }
        let checkpoint = self.sum_up();
        let (file, base, offsets, times) = {
            let mut state = self.0.state.borrow_mut();
            let active = state.active_mut();
            active.end_time_index();
            let indexes = active.indexes.as_ref().expect("the active segment's indexes are in memory");
            let file = active.blocks.clone().expect("a settled log's active segment has a file");
            (file, active.base, indexes.offsets.encode(), indexes.times.encode())
        };
        let place = &self.0.place;
        let io = self.0.shard.io();
        let path = self.log_path(base);
        let cut = |error| ("cut", path.clone(), error);
        io.truncate(file.clone(), checkpoint.pos).await.map_err(cut)?;
        io.sync_file(file).await.map_err(cut)?;
        let files = [
            (place.offset_file(base, INDEX), offsets),
            (place.offset_file(base, TIME_INDEX), times),
            (place.offset_file(checkpoint.offset, SNAPSHOT), self.0.state.borrow().producers.snapshot()),
        ];
        for (path, bytes) in files {
            let written = write_file(io, place, &path, Bytes::from(bytes)).await;
            written.map_err(|error| ("write", path, error))?;
        }
        io.sync_dir(place.dir, place.path.clone())
            .await
            .map_err(|error| ("sync directory", place.path.clone(), error))?;
        self.write_checkpoint(checkpoint, LogStart::Current, Keep::Durably)
            .await
            .map_err(|error| ("write checkpoint of", place.path.clone(), error))
    }

    /// Waits until nothing is on its way: all placed is written and durable, all segments but the active one are sealed, no step
    /// of space is being prepared and no checkpoint is being written.
    pub(super) async fn settle(&self) -> Result<(), LogFailed> {
        let end = self.marks().log_end;
        self.wait_written(end).await?;
        self.wait_durable(end).await?;
        self.idle().await;
        self.failed().map_or(Ok(()), Err)
    }

    /// Waits until none of the log's own tasks has anything on its way.
    async fn idle(&self) {
        loop {
            let moved = self.0.moved.next();
            let prepared = self.0.prepared.next();
            let (preparing, busy) = {
                let state = self.0.state.borrow();
                let preparing = state.segments.values().any(|segment| segment.prepared.is_pending());
                (
                    preparing,
                    state.sealer_runs || state.checkpoint_runs || state.writer_runs || state.syncer_runs,
                )
            };
            if preparing {
                prepared.await;
            } else if busy {
                moved.await;
            } else {
                return;
            }
        }
    }

    fn take_files(&self) -> Vec<crate::io::File> {
        let mut state = self.0.state.borrow_mut();
        state.segments.values_mut().flat_map(Segment::take_files).collect()
    }

    /// Removes the partition's directory: under another name first, so that it is gone at once whatever happens, then file by file.
    pub async fn remove(self) -> io::Result<()> {
        self.end(LogFailed::Closed);
        self.stop_cleaning().await;
        // What a task of this log would still write by a name must not come into a directory made anew under it.
        let _alone = self.0.changes.take(1).await;
        self.idle().await;
        self.0.chunks.clear();
        let io = self.0.shard.io().clone();
        for file in self.take_files() {
            io.close(file).await?;
        }
        remove_partition(&io, &self.0.place).await
    }
}

/// Removes the directory of a partition that nobody has open, in the same way as [`Log::remove`].
pub async fn remove_partition(io: &Io, place: &LogDir) -> io::Result<()> {
    let mut gone = place.path.as_os_str().to_owned();
    gone.push(format!(".{:016x}{:016x}{REMOVED}", io.random(), io.random()));
    let gone = PathBuf::from(gone);
    io.rename(place.dir, place.path.clone(), gone.clone()).await?;
    if let Some(parent) = gone.parent() {
        io.sync_dir(place.dir, parent.into()).await?;
    }
    remove_directory(io, &LogDir { dir: place.dir, path: gone }).await
}

/// Removes what is left of a partition's directory that was renamed for removal, with whatever somebody has put into it.
pub async fn remove_directory(io: &Io, place: &LogDir) -> io::Result<()> {
    let mut dirs = vec![place.path.clone()];
    let mut at = 0;
    while at < dirs.len() {
        for entry in io.list(place.dir, dirs[at].clone()).await? {
            let path = dirs[at].join(entry.name);
            if entry.is_dir {
                dirs.push(path);
            } else {
                io.unlink(place.dir, path).await?;
            }
        }
        at += 1;
    }
    for dir in dirs.into_iter().rev() {
        io.remove_dir(place.dir, dir).await?;
    }
    Ok(())
}

/// Whether a directory's name says that its partition was removed, as Kafka marks it: `topic-0.<32 hex digits>-delete`.
pub fn is_removed(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(REMOVED))
}

/// The ending of a removed partition's directory.
const REMOVED: &str = "-delete";
