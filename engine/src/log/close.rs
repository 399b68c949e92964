//! The clean end of a log: everything written and durable, no prepared space, Kafka's files beside the segments.

use super::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use super::error::LogFailed;
use super::files::{EPOCHS_FILE, INDEX, SNAPSHOT, TIME_INDEX, rename_finished, write_beside, write_file};
use super::sealing::{Keep, LogStart};
use super::{Log, LogDir};
use crate::io::{DirId, File, Io};
use crate::shard::sync::Permit;
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};

impl Log {
    /// Stops the log: waits until everything is written, durable and sealed, gives the active segment the form of a sealed
    /// one, and writes a checkpoint, so that the next open has nothing to scan. Appends are refused from now on.
    pub async fn close(self) -> Result<(), LogFailed> {
        let _alone = self.refuse_changes().await;
        let result = self.finish().await;
        self.let_go(result).await
    }

    /// The same, for one of many, in two parts: this one writes all there is to write. Then the caller syncs the file system, and ends it with
    /// [`Closing::end`]: two syncs serve all logs, where [`Log::close`] takes seven for each.
    pub async fn close_among_many(self) -> Result<Closing, LogFailed> {
        let alone = self.refuse_changes().await;
        if let Err(failed) = self.settle().await {
            self.let_go(Ok(())).await?;
            return Err(failed);
        }
        let checkpointing = self.0.checkpointing.next().await;
        match self.write_all_beside().await {
            Ok(files) => Ok(Closing { log: self, files, _alone: [alone, checkpointing] }),
            Err(failure) => match self.let_go(Err(failure)).await {
                Ok(()) => unreachable!("a log that could not write its files has failed"),
                Err(failed) => Err(failed),
            },
        }
    }

    async fn refuse_changes(&self) -> Permit {
        self.stop_cleaning().await;
        let alone = self.0.changes.next().await;
        let mut state = self.0.state.borrow_mut();
        (state.changing, state.closing) = (true, true);
        alone
    }

    /// Ends the log, whatever has come of it, and closes its files.
    async fn let_go(&self, result: Result<(), Failure>) -> Result<(), LogFailed> {
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

    async fn finish(&self) -> Result<(), Failure> {
        if self.settle().await.is_err() {
            return Ok(());
        }
        let (checkpoint, files) = self.last_files();
        let place = &self.0.place;
        let io = self.0.shard.io();
        let path = self.log_path(checkpoint.segment);
        let file = self.cut_to(checkpoint.pos).await?;
        io.sync_file(file).await.map_err(|error| ("cut", path, error))?;
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

    /// Writes the same files beside their names, the checkpoint among them, and syncs none.
    async fn write_all_beside(&self) -> Result<Vec<PathBuf>, Failure> {
        let (checkpoint, mut files) = self.last_files();
        let place = &self.0.place;
        let io = self.0.shard.io();
        self.cut_to(checkpoint.pos).await?;
        files.push((place.file(EPOCHS_FILE), checkpoint.epochs.clone()));
        let checkpoint = self.made_whole(checkpoint).expect("a closing log's active segment is not sealed");
        files.push((place.file(CHECKPOINT_FILE), checkpoint.encode()));
        let mut written = Vec::with_capacity(files.len());
        for (path, bytes) in files {
            let beside = async {
                let file = write_beside(io, place, &path, Bytes::from(bytes)).await?;
                io.close(file).await
            };
            beside.await.map_err(|error| ("write", path.clone(), error))?;
            written.push(path);
        }
        Ok(written)
    }

    /// The checkpoint of a settled log, and what its active segment has beside it when it is sealed.
    fn last_files(&self) -> (Checkpoint, Vec<(PathBuf, Vec<u8>)>) {
        let checkpoint = self.sum_up();
        let place = &self.0.place;
        let mut state = self.0.state.borrow_mut();
        let snapshot = state.producers.snapshot();
        let active = state.active_mut();
        active.end_time_index();
        let base = active.base;
        let indexes = active.indexes.as_ref().expect("the active segment's indexes are in memory");
        let files = vec![
            (place.offset_file(base, INDEX), indexes.offsets.encode()),
            (place.offset_file(base, TIME_INDEX), indexes.times.encode()),
            (place.offset_file(checkpoint.offset, SNAPSHOT), snapshot),
        ];
        (checkpoint, files)
    }

    /// Cuts prepared space off the active segment.
    async fn cut_to(&self, end: u64) -> Result<File, Failure> {
        let (base, file) = {
            let state = self.0.state.borrow();
            let active = state.active();
            (active.base, active.blocks.clone().expect("a settled log's active segment has a file"))
        };
        let cut = self.0.shard.io().truncate(file.clone(), end).await;
        cut.map_err(|error| ("cut", self.log_path(base), error))?;
        Ok(file)
    }

    /// Waits until nothing is on its way: all placed is written and durable in the log's files, all segments but the active one are sealed, no step
    /// of space is being prepared and no checkpoint is being written.
    pub(super) async fn settle(&self) -> Result<(), LogFailed> {
        let end = self.marks().log_end;
        self.wait_filed_durably(end).await?;
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

    fn take_files(&self) -> Vec<File> {
        let mut state = self.0.state.borrow_mut();
        state.segments.values_mut().flat_map(|segment| segment.take_files()).collect()
    }

    /// Removes the partition's directory: under another name first, so that it is gone at once whatever happens, then file by file.
    pub async fn remove(self) -> io::Result<()> {
        self.end(LogFailed::Closed);
        self.stop_cleaning().await;
        // What a task of this log would still write by a name must not come into a directory made anew under it.
        let _alone = self.0.changes.next().await;
        self.idle().await;
        self.0.chunks.clear();
        let io = self.0.shard.io().clone();
        for file in self.take_files() {
            io.close(file).await?;
        }
        remove_partition(&io, &self.0.place).await
    }
}

/// A log whose last files are written, and have still to be made durable and named.
pub struct Closing {
    log: Log,
    files: Vec<PathBuf>,
    /// No change and no other checkpoint comes between.
    _alone: [Permit; 2],
}

impl Closing {
    /// The data directory it lies in.
    pub fn dir(&self) -> DirId {
        self.log.0.place.dir
    }

    /// The second part, for a caller who has synced the file system since the first: names the files. The log is closed when that is
    /// durable, with the caller's second sync; until then a start goes by what was there before.
    pub async fn end(self) -> Result<(), LogFailed> {
        let (io, place) = (self.log.0.shard.io(), &self.log.0.place);
        let mut named = Ok(());
        for path in self.files {
            if let Err(error) = rename_finished(io, place, &path).await {
                named = Err(("rename", path, error));
                break;
            }
        }
        self.log.let_go(named).await
    }

    /// In place of the second part, where the sync has failed: leaves everything as after a crash.
    pub async fn abandon(self) -> Result<(), LogFailed> {
        self.log.let_go(Ok(())).await
    }
}

/// What was being done to which file, and what went wrong.
type Failure = (&'static str, PathBuf, io::Error);

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
