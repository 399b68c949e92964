//! A cleaned segment takes the place of those it was made of, so that a crash at any point leaves the one or the others.
//!
//! ```text
//!   A.log B.log C.log              A.log.cleaned being written: a start removes it
//!   A.log B.log C.log              A.log.swap, renamed, durable: from here on it is what counts, and a start goes on below
//!   A.log                          A.log.swap; B and C are put away, A's indexes are those of the new one
//!   A.log                          renamed
//! ```
//!
//! How far the new one reaches, and so what it takes the place of, is told by its last batch: of the last one in a group at least the
//! header stays.

use super::{CLEANED, SWAP};
use crate::batch;
use crate::io::{FileMode, Io};
use crate::log::error::OpenError;
use crate::log::files::{
    GAPS_FILE, INDEX, LOG, SNAPSHOT, TIME_INDEX, opening, read_file, remove_file, write_file, write_gaps_file,
};
use crate::log::recovery::{SEGMENT_FILES, offset_and_suffix};
use crate::log::scan::Scan;
use crate::log::segment::Segment;
use crate::log::transactions::{self, TRANSACTION_INDEX, replace_index};
use crate::log::truncate::Step;
use crate::log::{Gaps, Log, LogDir, Offset, READERS_MAX};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use bytes::Bytes;
use std::io;
use std::path::Path;

/// Segments that follow each other and become one.
pub(super) struct Group {
    /// By base offset; never empty.
    pub(super) sources: Vec<Offset>,
    /// Where the next segment begins.
    pub(super) end: Offset,
    pub(super) bytes: u64,
}

impl Group {
    pub(super) fn base(&self) -> Offset {
        self.sources[0]
    }
}

impl Log {
    /// Puts a cleaned segment, whole and durable under this name, in the place of its sources. False, and nothing is done, where those
    /// are not what they were.
    pub(super) async fn swap_in(
        &self,
        group: &Group,
        cleaned: &Path,
        mut segment: Box<Segment>,
        truncations: u64,
    ) -> Step<bool> {
        // Nothing is truncated meanwhile, and no segment put away.
        let _alone = self.0.changes.next().await;
        let _removing = self.0.removing.next().await;
        let there = {
            let state = self.0.state.borrow();
            state.truncations == truncations
                && state.failed.is_none()
                && !state.cleaning.stops
                && group.sources.iter().all(|base| state.segments.contains_key(base))
                && state
                    .segments
                    .range(group.base() + 1..)
                    .nth(group.sources.len() - 1)
                    .map(|(base, _)| *base)
                    == Some(group.end)
        };
        if !there {
            return Ok(false);
        }
        let (io, place) = (self.0.shard.io(), &self.0.place);
        let syncing = |error| ("sync directory", error);
        // First, or the next start would take the gaps for damage.
        if self.0.state.borrow().gaps != Gaps::Marked {
            write_gaps_file(io, place).await.map_err(|error| ("write to", error))?;
            self.0.state.borrow_mut().gaps = Gaps::Marked;
        }
        let swap = place.offset_file(group.base(), &format!("{LOG}{SWAP}"));
        let renaming = |error| ("rename segment of", error);
        io.rename(place.dir, cleaned.into(), swap.clone()).await.map_err(renaming)?;
        #[cfg(not(ringlog_plant))]
        let syncs = true;
        #[cfg(ringlog_plant)]
        let syncs = !plant::is(Plant::SkipTheSyncOfASwap);
        if syncs {
            io.sync_dir(place.dir, place.path.clone()).await.map_err(syncing)?;
        }
        let opened = io.open(place.dir, swap.clone(), FileMode::Cached).await;
        let (file, _) = opened.map_err(|error| ("open segment of", error))?;
        let indexes = segment.indexes.as_ref().expect("a segment that was written has its indexes");
        let (offsets, times) = (indexes.offsets.encode(), indexes.times.encode());
        (segment.sealed, segment.cached, segment.written_size) = (true, Some(file), segment.size);
        let mut former = Vec::new();
        {
            // Who reads goes by the indexes and the file of one segment to the end of his read.
            let _readers = self.0.reading.take(READERS_MAX).await;
            let mut state = self.0.state.borrow_mut();
            former.extend(group.sources.iter().filter_map(|base| state.segments.remove(base)));
            state.segments.insert(group.base(), segment);
            self.0.chunks.forget_before(group.end);
        }
        self.forget_indexes_but(group.base());
        self.merge_transactions(group).await.map_err(|error| ("write index of", error))?;
        let mut away = Vec::new();
        for base in &group.sources[1..] {
            for suffix in SEGMENT_FILES {
                let path = place.offset_file(*base, suffix);
                let put_away = self.put_file_away(&path).await;
                away.extend(put_away.map_err(|error| ("remove segment of", error))?);
            }
        }
        write_indexes(io, place, group.base(), offsets, times)
            .await
            .map_err(|error| ("write index of", error))?;
        io.sync_dir(place.dir, place.path.clone()).await.map_err(syncing)?;
        io.rename(place.dir, swap, self.log_path(group.base())).await.map_err(renaming)?;
        io.sync_dir(place.dir, place.path.clone()).await.map_err(syncing)?;
        self.remove_later(away);
        for one in former {
            self.close_files(Some(one)).await.map_err(|error| ("close segment of", error))?;
        }
        Ok(true)
    }

    /// What is known of aborted transactions in a group lies in one index from now on.
    async fn merge_transactions(&self, group: &Group) -> io::Result<()> {
        let entries = {
            let state = self.0.state.borrow();
            let from = state.aborted.partition_point(|one| one.last_offset < group.base());
            let to = state.aborted.partition_point(|one| one.last_offset < group.end);
            state.aborted[from..to].to_vec()
        };
        if entries.is_empty() || group.sources.len() == 1 {
            return Ok(());
        }
        replace_index(self.0.shard.io(), &self.0.place, group.base(), &entries).await
    }
}

async fn write_indexes(
    io: &Io,
    place: &LogDir,
    base: Offset,
    offsets: Vec<u8>,
    times: Vec<u8>,
) -> io::Result<()> {
    for (suffix, bytes) in [(INDEX, offsets), (TIME_INDEX, times)] {
        write_file(io, place, &place.offset_file(base, suffix), Bytes::from(bytes)).await?;
    }
    Ok(())
}

/// Before a log is opened: what a round that a crash ended has begun to put in place is put there. The names given are those in the
/// directory; returns whether they have changed.
pub(in crate::log) async fn finish_swaps(
    io: &Io,
    place: &LogDir,
    names: &[String],
) -> Result<bool, OpenError> {
    let of = |name: &str, ending: &str| {
        let (base, suffix) = offset_and_suffix(name.strip_suffix(ending)?)?;
        (suffix == LOG).then_some(base)
    };
    // Apache Kafka renames several files: before the last one has its name, none counts.
    let unfinished = names.iter().filter_map(|name| of(name, CLEANED)).min().unwrap_or(Offset::MAX);
    let mut swaps: Vec<Offset> = names.iter().filter_map(|name| of(name, SWAP)).collect();
    swaps.sort_unstable();
    let begun = names.iter().filter(|name| name.ends_with(SWAP));
    if begun.clone().next().is_none() {
        return Ok(false);
    }
    let finishing = || opening("finish the compaction of", &place.path);
    // The names found may be on no disk yet.
    io.sync_dir(place.dir, place.path.clone()).await.map_err(finishing())?;
    for base in swaps.into_iter().filter(|base| *base < unfinished) {
        finish(io, place, base, names).await.map_err(finishing())?;
    }
    for name in begun {
        // Their log has its place, and its indexes are made from it; or none of them counts.
        remove_file(io, place, &place.file(name)).await.map_err(finishing())?;
    }
    Ok(true)
}

async fn finish(io: &Io, place: &LogDir, base: Offset, names: &[String]) -> io::Result<()> {
    let swap = place.offset_file(base, &format!("{LOG}{SWAP}"));
    let (segment, end) = look_through(io, place, base, &swap).await?;
    if !names.iter().any(|name| name == GAPS_FILE) {
        write_gaps_file(io, place).await?;
    }
    let mut sources: Vec<Offset> = names
        .iter()
        .filter_map(|name| offset_and_suffix(name).filter(|(_, suffix)| *suffix == LOG))
        .map(|(source, _)| source)
        .filter(|source| (base + 1..end).contains(source))
        .collect();
    sources.sort_unstable();
    // One after the other, and none removed before all are in one place.
    let mut aborted = Vec::new();
    for source in std::iter::once(&base).chain(&sources) {
        let path = place.offset_file(*source, TRANSACTION_INDEX);
        let Some(bytes) = read_file(io, place, &path).await? else { continue };
        aborted.extend(transactions::decode(&bytes).unwrap_or_default());
    }
    aborted.sort_by_key(|one| one.last_offset);
    aborted.dedup_by_key(|one| one.last_offset);
    if !aborted.is_empty() && !sources.is_empty() {
        replace_index(io, place, base, &aborted).await?;
    }
    for source in sources {
        for suffix in SEGMENT_FILES {
            remove_file(io, place, &place.offset_file(source, suffix)).await?;
        }
    }
    // Those of segments whose file is gone already.
    for (offset, suffix) in names.iter().filter_map(|name| offset_and_suffix(name)) {
        if (base + 1..end).contains(&offset)
            && [INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT].contains(&suffix)
        {
            remove_file(io, place, &place.offset_file(offset, suffix)).await?;
        }
    }
    let indexes = segment.indexes.as_ref().expect("a new segment has indexes");
    write_indexes(io, place, base, indexes.offsets.encode(), indexes.times.encode()).await?;
    io.sync_dir(place.dir, place.path.clone()).await?;
    io.rename(place.dir, swap, place.offset_file(base, LOG)).await?;
    io.sync_dir(place.dir, place.path.clone()).await.map(drop)
}

/// The indexes of a segment that is about to take its place, and where it ends.
async fn look_through(
    io: &Io,
    place: &LogDir,
    base: Offset,
    path: &Path,
) -> io::Result<(Box<Segment>, Offset)> {
    let (file, len) = io.open(place.dir, path.into(), FileMode::Cached).await?;
    let mut segment = Segment::new(base, 0);
    let mut end = base;
    let mut scan = Scan::new(io, file.clone(), 0, len);
    while let Some(header) = scan.peek().await? {
        if !segment.may_hold(&header, end) {
            break;
        }
        end = header.next_offset();
        segment.note(&header, INDEX_INTERVAL_BYTES);
        scan.skip(&header);
    }
    segment.end_time_index();
    io.close(file).await?;
    if segment.size != len || batch::HEADER_LEN as u64 > len {
        let what = format!("{} is damaged at byte {}", path.display(), segment.size);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok((segment, end))
}

/// Kafka's default: an index made here is for one segment, whatever its topic says.
const INDEX_INTERVAL_BYTES: u32 = 4096;
