//! The files around the segments: their names, writing small ones whole, loading indexes.

use super::error::{OpenError, ReadError};
use super::offset_index::OffsetIndex;
use super::scan::Scan;
use super::segment::{Indexes, Segment};
use super::time_index::TimeIndex;
use super::{Log, LogDir, Offset};
use crate::io::{File, FileMode, Io};
use crate::limits::SEALED_INDEXES_MAX;
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};

impl LogDir {
    /// A file of the partition.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file named for an offset: `00000000000000000042.log`.
    pub(super) fn offset_file(&self, offset: Offset, suffix: &str) -> PathBuf {
        self.path.join(format!("{offset:020}.{suffix}"))
    }
}

impl Log {
    /// The segment file that begins with this offset.
    pub(super) fn log_path(&self, base: Offset) -> PathBuf {
        self.0.place.offset_file(base, LOG)
    }

    /// Sees that a segment's indexes are in memory: from its files, or else from its batches.
    pub(super) async fn load_indexes(&self, base: Offset) -> Result<(), ReadError> {
        {
            let state = self.0.state.borrow();
            if state.segments.get(&base).is_none_or(|segment| segment.indexes.is_some()) {
                return Ok(());
            }
        }
        let place = &self.0.place;
        let io = self.0.shard.io();
        let size = self.0.state.borrow().segments.get(&base).map_or(0, |segment| segment.size);
        let io_error = |error| ReadError::Io { file: self.log_path(base), error };
        let loaded = match read_indexes(io, place, base, size).await {
            Found::Whole(indexes) => Some(indexes),
            Found::Missing => {
                self.rebuild_indexes(base, size).await.map_err(io_error)?.map(|(indexes, _)| indexes)
            }
            Found::Damaged(file) => {
                self.damaged(&file, 0, "an index that makes no sense; the segment's batches are read for it");
                self.rebuild_indexes(base, size).await.map_err(io_error)?.map(|(indexes, _)| indexes)
            }
        };
        if let (Some(indexes), Some(segment)) = (loaded, self.0.state.borrow_mut().segments.get_mut(&base)) {
            segment.indexes = Some(indexes);
        }
        if !self.time_index_holds(base).await? {
            self.replace_indexes(base).await?;
        }
        if let Some(segment) = self.0.state.borrow_mut().segments.get_mut(&base) {
            let last = segment.indexes.as_ref().and_then(|indexes| indexes.times.last());
            segment.max_timestamp = segment.max_timestamp.or(last);
        }
        self.forget_indexes_but(base);
        Ok(())
    }

    /// An index does not agree with the batches: makes a segment's indexes again from those. False if it is the batches that are
    /// damaged, or the indexes have been made from them before: then they stay as they are.
    pub(super) async fn replace_indexes(&self, base: Offset) -> Result<bool, ReadError> {
        let size = {
            let mut state = self.0.state.borrow_mut();
            let Some(segment) = state.segments.get_mut(&base) else { return Ok(false) };
            if !segment.sealed || std::mem::replace(&mut segment.indexes_replaced, true) {
                return Ok(false);
            }
            segment.size
        };
        let io_error = |error| ReadError::Io { file: self.log_path(base), error };
        let Some((indexes, end)) = self.rebuild_indexes(base, size).await.map_err(io_error)? else {
            return Ok(false);
        };
        if end < size {
            return Ok(false);
        }
        {
            let mut state = self.0.state.borrow_mut();
            let Some(segment) = state.segments.get_mut(&base) else { return Ok(false) };
            segment.max_timestamp = indexes.times.last();
            segment.indexes = Some(indexes);
        }
        for suffix in [INDEX, TIME_INDEX] {
            let file = self.0.place.offset_file(base, suffix);
            self.damaged(
                &file,
                0,
                "this index or the other does not fit the segment; its batches are read for it",
            );
        }
        Ok(true)
    }

    /// Keeps the indexes of few sealed segments in memory: this one's and those of the newest.
    pub(super) fn forget_indexes_but(&self, base: Offset) {
        let mut state = self.0.state.borrow_mut();
        let loaded =
            |segment: &&mut Segment| segment.sealed && segment.indexes.is_some() && segment.base != base;
        let excess =
            state.segments.values_mut().filter(loaded).count().saturating_sub(SEALED_INDEXES_MAX - 1);
        for segment in state.segments.values_mut().filter(loaded).take(excess) {
            segment.indexes = None;
        }
    }

    /// Makes a sealed segment's indexes again from the headers of its batches, up to the first that makes no sense: who reads there
    /// meets it.
    /// Also tells where that is.
    async fn rebuild_indexes(&self, base: Offset, size: u64) -> io::Result<Option<(Indexes, u64)>> {
        let Some(source) = self.filed_source(base).await? else { return Ok(None) };
        let interval = self.0.state.borrow().config.index_interval_bytes;
        let mut segment = Segment::new(base, 0);
        let mut scan = Scan::new(self.0.shard.io(), source, 0, size);
        let mut end = base;
        while let Some(header) = scan.peek().await? {
            let follows = self.is_in_place(&header, Some(end));
            if !follows || !segment.may_hold(&header, end) {
                break;
            }
            end = header.next_offset();
            segment.note(&header, interval);
            scan.skip(&header);
        }
        segment.end_time_index();
        Ok(segment.indexes.map(|indexes| (indexes, scan.pos())))
    }
}

/// What is there of a sealed segment's indexes.
enum Found {
    Whole(Indexes),
    Missing,
    /// This file makes no sense.
    Damaged(PathBuf),
}

/// Loads a sealed segment's indexes.
async fn read_indexes(io: &Io, place: &LogDir, base: Offset, size: u64) -> Found {
    let (offset_path, time_path) = (place.offset_file(base, INDEX), place.offset_file(base, TIME_INDEX));
    let Ok(Some(offsets)) = read_file(io, place, &offset_path).await else { return Found::Missing };
    let Ok(Some(times)) = read_file(io, place, &time_path).await else { return Found::Missing };
    let offsets = OffsetIndex::decode(base, &offsets);
    let offsets = offsets.filter(|offsets| u64::from(offsets.start_before(u64::MAX)) < size.max(1));
    let Some(offsets) = offsets else { return Found::Damaged(offset_path) };
    let Some(times) = TimeIndex::decode(base, &times) else { return Found::Damaged(time_path) };
    Found::Whole(Indexes { offsets, times, bytes_since_entry: 0 })
}

/// Reads a whole small file; `None` if there is none.
pub(super) async fn read_file(io: &Io, place: &LogDir, path: &Path) -> io::Result<Option<Bytes>> {
    let (file, len) = match io.open(place.dir, path.into(), FileMode::Cached).await {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = io.read(file.clone(), 0, usize::try_from(len).expect("a length in memory")).await;
    io.close(file).await?;
    bytes.map(Some)
}

/// Writes a small file whole: under another name first, so that after a crash there is the old one or the new one. Its
/// directory is synced by the caller.
pub(super) async fn write_file(io: &Io, place: &LogDir, path: &Path, bytes: Bytes) -> io::Result<()> {
    let file = write_beside(io, place, path, bytes).await?;
    io.sync_file(file.clone()).await?;
    io.close(file).await?;
    rename_finished(io, place, path).await
}

/// Writes what a small file is to hold under its unfinished name. It may take its own once that is durable.
pub(super) async fn write_beside(io: &Io, place: &LogDir, path: &Path, bytes: Bytes) -> io::Result<File> {
    let file = create_empty(io, place, &unfinished(path), FileMode::CachedWrite).await?;
    if !bytes.is_empty() {
        io.write(file.clone(), 0, bytes).await?;
    }
    Ok(file)
}

/// Gives a file that was written beside its name.
pub(super) async fn rename_finished(io: &Io, place: &LogDir, path: &Path) -> io::Result<()> {
    io.rename(place.dir, unfinished(path), path.into()).await.map(drop)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    unfinished.into()
}

/// Marks a log whose offsets may have gaps. Durable when it returns.
pub(super) async fn write_gaps_file(io: &Io, place: &LogDir) -> io::Result<()> {
    write_file(io, place, &place.file(GAPS_FILE), Bytes::new()).await?;
    io.sync_dir(place.dir, place.path.clone()).await.map(drop)
}

/// Creates a file; one that is left from before is emptied.
pub(super) async fn create_empty(io: &Io, place: &LogDir, path: &Path, mode: FileMode) -> io::Result<File> {
    match io.create(place.dir, path.into(), mode).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let (file, _) = io.open(place.dir, path.into(), mode).await?;
            io.truncate(file.clone(), 0).await?;
            Ok(file)
        }
        other => other,
    }
}

/// Removes a file that may be gone already.
pub(super) async fn remove_file(io: &Io, place: &LogDir, path: &Path) -> io::Result<()> {
    match io.unlink(place.dir, path.into()).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

/// Says what was being done to which file when opening failed.
pub(super) fn opening<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> OpenError + use<'a> {
    move |error| OpenError::Io { doing, path: path.into(), error }
}

pub(super) const LOG: &str = "log";
pub(super) const INDEX: &str = "index";
pub(super) const TIME_INDEX: &str = "timeindex";
pub(super) const SNAPSHOT: &str = "snapshot";
pub(super) const EPOCHS_FILE: &str = "leader-epoch-checkpoint";
/// Its presence says that the log's offsets may have gaps: Apache Kafka wrote it, or a leader's log was compacted.
pub(super) const GAPS_FILE: &str = "ringlog.offsets-have-gaps";
/// The ending of a removed segment's files, until they go; recovery removes such files.
pub(super) const DELETED: &str = ".deleted";
/// The ending of a file that is being written; recovery removes such files.
pub(super) const UNFINISHED: &str = ".tmp";
