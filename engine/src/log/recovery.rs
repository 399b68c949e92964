//! Opening a log: trust up to the checkpoint, scan from there, cut off what is not whole, and only then accept appends.

use super::append::SMALLEST_EPOCH;
use super::cache::Chunks;
use super::checkpoint::{CHECKPOINT_FILE, Checkpoint, OFFSET_MAX, OnDisk};
use super::cleaning::finish_swaps;
use super::epochs::Epochs;
use super::error::OpenError;
use super::files::{
    DELETED, EPOCHS_FILE, GAPS_FILE, LOG, SNAPSHOT, UNFINISHED, opening, read_file, remove_file,
    write_gaps_file,
};
use super::journal::{Journal, LeftOf, LogId};
use super::marks::{Marks, Waiters};
use super::notices::Damage;
use super::offset_index::OffsetIndex;
use super::producers::Producers;
use super::scan::{Scan, last_block};
use super::sealing::{Keep, LogStart};
use super::segment::{Indexes, Segment};
use super::segments::Segments;
use super::seldom::Seldom;
use super::space::Prepared;
use super::time_index::TimeIndex;
use super::transactions::{self, TRANSACTION_INDEX};
use super::{Cache, Gaps, Inner, Log, LogConfig, LogDir, Offset, READERS_MAX, State, resting};
use crate::batch::{self, Header};
use crate::io::buf::aligned;
use crate::io::{DirEntry, File, FileMode, Io, Space};
use crate::limits::BLOCK;
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use crate::shard::Shard;
use crate::shard::sync::{Credits, Event, Turns};
use bytes::Bytes;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// What opening a log has found and done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of batches that had to be checked: 0 after a clean stop.
    pub scanned_bytes: u64,
    /// Bytes past the last whole batch that were cut off, or zeroed in place: prepared space included.
    pub cut_bytes: u64,
    /// Segments removed because they lay past a damaged one.
    pub segments_removed: usize,
    /// Whether some of what was cut off was neither prepared space nor what a recycled file held: the trace of a crash in the middle of a
    /// write, or damage.
    pub torn: bool,
}

impl Log {
    /// Opens a partition's log, making its directory if there is none. When this returns, everything the log holds is
    /// durable, and nothing but zeroes lies in its files past that. A directory that is there must be there durably: whoever starts on
    /// a data directory syncs it once, for all logs in it.
    pub async fn open(
        shard: &Shard,
        place: LogDir,
        config: LogConfig,
        cache: &Cache,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(shard, place, config, cache, Syncs::Each, None).await
    }

    /// The same, for a log of which a journal holds something, and which goes on with one.
    pub async fn open_journaled(
        shard: &Shard,
        place: LogDir,
        config: LogConfig,
        cache: &Cache,
        journaled: Journaled<'_>,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(shard, place, config, cache, Syncs::Each, Some(journaled)).await
    }

    /// The same, for one of many: the caller has synced the file system before ([`Op::SyncFileSystem`](crate::io::Op)), so that what the last
    /// process left is durable, and does so again when all are open, which makes durable what was cut, and what that process still had on its
    /// way. Only then may anybody be served.
    pub async fn open_among_many(
        shard: &Shard,
        place: LogDir,
        config: LogConfig,
        cache: &Cache,
        journaled: Journaled<'_>,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(shard, place, config, cache, Syncs::Shared, Some(journaled)).await
    }

    async fn open_with(
        shard: &Shard,
        place: LogDir,
        config: LogConfig,
        cache: &Cache,
        syncs: Syncs,
        journaled: Option<Journaled<'_>>,
    ) -> Result<(Self, Recovered), OpenError> {
        let io = shard.io().clone();
        let journal = journaled.as_ref().and_then(|one| Some((one.journal?.downgrade(), one.id)));
        let mut files = Files::list(&io, &place).await?;
        let mut recovery = Recovery {
            interval: config.index_interval_bytes,
            io,
            syncs,
            place: place.clone(),
            created: shard.wall_time().0,
            done: Recovered::default(),
            damage: Vec::new(),
            segments: Segments::default(),
            snapshots: BTreeMap::new(),
            to_seal: VecDeque::new(),
            producers: Producers::default(),
            epochs: Epochs::default(),
            gaps: false,
            kafkas: false,
            checkpointed: None,
            on_disk: None,
            partial: Bytes::new(),
            end: 0,
            log_start: 0,
            was_open: journaled.as_ref().is_some_and(|journaled| journaled.was_open),
            left: journaled.as_ref().map(|journaled| journaled.left.batches()).unwrap_or_default(),
            lost: journaled.and_then(|journaled| journaled.left.damage()),
        };
        recovery.run(&mut files).await?;
        recovery.remove_stray_snapshots(&files).await?;
        let bases: Vec<Offset> =
            recovery.segments.keys().filter(|base| files.transactions.contains(base)).copied().collect();
        let aborted = transactions::load(&recovery.io, &place, &bases, recovery.end).await;
        let aborted = aborted.map_err(opening("read indexes of transactions of", &place.path))?;
        let Recovery {
            done,
            damage,
            segments,
            snapshots,
            to_seal,
            producers,
            epochs,
            gaps,
            checkpointed,
            on_disk,
            partial,
            end,
            log_start,
            ..
        } = recovery;

        // Where none was found, one is written below, at the active segment; until then nothing is sealed, nor removed.
        let recovers_from =
            checkpointed.unwrap_or(*segments.first_key_value().expect("recovery leaves a segment").0);
        // Records were deleted up to an offset that damage has since put past the end. The checkpoint must not say so any longer:
        // what is appended now would be behind it.
        let (log_start, checkpointed) = (log_start.min(end), checkpointed.filter(|_| log_start <= end));
        let marks = Marks { log_start, durable: end, written: end, log_end: end };
        marks.check();
        let state = State {
            config: cache.configs().share(config),
            marks,
            segments,
            tails: VecDeque::new(),
            partial_crc: resting::checksum(&partial),
            is_awake: false,
            producers,
            epochs,
            aborted: aborted.into(),
            snapshots: snapshots.into(),
            put_away: Seldom::default(),
            waiters: Waiters::default(),
            durable_wanted: end,
            filed: end,
            filed_durable: end,
            filed_wanted: end,
            durable_soon: end,
            journaled_in: None,
            enlisted: false,
            dirty: Vec::new(),
            writer_runs: false,
            syncer_runs: false,
            background_sync_is_due: false,
            in_flight: 0,
            failed: None,
            cleaning: Seldom::default(),
            no_space: false,
            changing: false,
            closing: false,
            truncations: 0,
            cut_from: Offset::MAX,
            to_seal: Seldom::default(),
            sealer_runs: false,
            gaps: if gaps { Gaps::Marked } else { Gaps::None },
            epochs_on_disk: None,
            checkpointed: log_start,
            recovers_from,
            checkpoint_on_disk: on_disk.filter(|_| checkpointed.is_some()),
            // What this start has scanned, the next one would scan again.
            bytes_since_checkpoint: done.scanned_bytes,
            checkpoint_runs: false,
            bytes_per_sync: 0,
            bytes_since_sync: 0,
        };
        let log = Self(Rc::new(Inner {
            shard: shard.clone(),
            place,
            cache: cache.clone(),
            chunks: Chunks::default(),
            moved: Event::default(),
            prepared: Event::default(),
            follower: OnceCell::new(),
            notices: Default::default(),
            journal,
            changes: Turns::default(),
            checkpointing: Turns::default(),
            removing: Turns::default(),
            reading: Credits::new(READERS_MAX),
            state: RefCell::new(state),
        }));
        cache.debt().enter(&log);
        for Damage { file, pos, what } in damage {
            log.damaged(&file, pos, what);
        }
        if checkpointed.is_none() {
            // Without one, its files would be taken for Apache Kafka's, which are trusted differently.
            let path = &log.0.place.path;
            log.write_checkpoint(log.sum_up(), LogStart::Current, Keep::Durably)
                .await
                .map_err(opening("write checkpoint of", path))?;
        }
        for base in to_seal {
            log.seal_later(base);
        }
        Ok((log, done))
    }
}

/// A log's part in the shard's journal.
pub struct Journaled<'a> {
    /// The journal that takes its small batches from now on, if one does.
    pub journal: Option<&'a Journal>,
    /// Which log it is.
    pub id: LogId,
    /// What the last process has left of it in a journal.
    pub left: LeftOf,
    /// It was open in an earlier run: then it has a segment.
    pub was_open: bool,
}

/// What a partition's directory holds.
pub(super) struct Files {
    /// Segments: base offset and bytes, in order.
    pub(super) segments: Vec<(Offset, u64)>,
    /// Producers' snapshots, by offset, in order.
    snapshots: Vec<Offset>,
    /// Segments with an index of aborted transactions.
    transactions: BTreeSet<Offset>,
    /// Offsets may have gaps.
    gaps: bool,
}

impl Files {
    /// Lists the directory, having removed what a crash left unfinished.
    pub(super) async fn list(io: &Io, place: &LogDir) -> Result<Self, OpenError> {
        let path = &place.path;
        let entries = match io.list(place.dir, path.clone()).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                io.make_dir(place.dir, path.clone()).await.map_err(opening("make directory", path))?;
                let parent = path.parent().expect("a partition lies in a data directory");
                io.sync_dir(place.dir, parent.into()).await.map_err(opening("sync directory", parent))?;
                Vec::new()
            }
            other => other.map_err(opening("list directory", path))?,
        };
        let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        let entries = match finish_swaps(io, place, &names).await? {
            true => io.list(place.dir, path.clone()).await.map_err(opening("list directory", path))?,
            false => entries,
        };
        let mut segments = Vec::new();
        let mut snapshots = Vec::new();
        let mut transactions = BTreeSet::new();
        let mut gaps = false;
        for DirEntry { name, len, .. } in entries.into_iter().filter(|entry| !entry.is_dir) {
            if [UNFINISHED, DELETED, ".cleaned"].iter().any(|ending| name.ends_with(ending)) {
                let path = place.file(&name);
                remove_file(io, place, &path).await.map_err(opening("remove", &path))?;
                continue;
            }
            match offset_and_suffix(&name) {
                Some((base, LOG)) => segments.push((base, len)),
                Some((offset, SNAPSHOT)) => snapshots.push(offset),
                Some((base, TRANSACTION_INDEX)) => {
                    transactions.insert(base);
                }
                _ => gaps |= name == GAPS_FILE,
            }
        }
        segments.sort_unstable();
        snapshots.sort_unstable();
        Ok(Self { segments, snapshots, transactions, gaps })
    }
}

/// `00000000000000000042.log` is 42 and `log`.
pub(super) fn offset_and_suffix(name: &str) -> Option<(Offset, &str)> {
    let (digits, suffix) = name.split_once('.')?;
    let offset: Offset = digits.parse().ok()?;
    (digits.len() == 20 && (0..=OFFSET_MAX).contains(&offset)).then_some((offset, suffix))
}

/// Who makes durable what a log is built upon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncs {
    /// Its opening.
    Each,
    /// Whoever opens many.
    Shared,
}

/// What is there of a checkpoint.
enum Found {
    Whole(Checkpoint, Option<OnDisk>),
    Damaged(Damage),
    Missing,
}

/// A log being put together.
struct Recovery {
    io: Io,
    syncs: Syncs,
    place: LogDir,
    interval: u32,
    created: i64,
    done: Recovered,
    /// What was found not to be as it was written.
    damage: Vec<Damage>,
    segments: Segments,
    /// The producers as they were where a segment begins whose predecessor is still to be sealed.
    snapshots: BTreeMap<Offset, Producers>,
    /// Segments that were left but not sealed when the last process ended.
    to_seal: VecDeque<Offset>,
    producers: Producers,
    epochs: Epochs,
    gaps: bool,
    /// There are segments and no checkpoint: Apache Kafka wrote them.
    kafkas: bool,
    /// The segment of the checkpoint, if one was found that fits the files.
    checkpointed: Option<Offset>,
    /// What the checkpoint's file holds.
    on_disk: Option<OnDisk>,
    /// The bytes of the last segment's last, partly filled block.
    partial: Bytes,
    /// The next offset expected.
    end: Offset,
    log_start: Offset,
    /// It was open before.
    was_open: bool,
    /// What a journal holds of the log, in order: whole batches, and whether they come behind some that are damaged.
    left: Vec<(Bytes, bool)>,
    /// Where a journal is damaged that had more of the log, until something that comes behind that is found in it.
    lost: Option<(PathBuf, u64)>,
}

impl Recovery {
    async fn run(&mut self, files: &mut Files) -> Result<(), OpenError> {
        let from = self.begin(files).await?;
        let (trusted, scanned) =
            files.segments.split_at(files.segments.partition_point(|(base, _)| *base < from.0));
        for &(base, len) in trusted {
            let mut segment = Segment::new(base, self.created);
            (segment.size, segment.written_size) = (len, len);
            (segment.indexes, segment.sealed) = (None, true);
            self.segments.insert(base, segment);
        }
        let mut scanned = scanned.iter().copied().peekable();
        while let Some((base, len)) = scanned.next() {
            let pos = if base == from.0 { from.1 } else { 0 };
            let next = scanned.peek().map(|(next, _)| *next);
            if base > from.0 {
                self.snapshots.insert(base, self.producers.clone());
            }
            // Who wrote a snapshot there had all before it on stable storage. Its indexes prove nothing: a clean stop writes them for
            // the active segment too, which has grown since.
            let was_sealed = next.is_some_and(|next| files.snapshots.contains(&next)) && !self.gaps;
            self.scan_segment(base, len, pos, next, was_sealed).await?;
            if next.is_some_and(|next| !self.goes_on(base, next)) {
                for (base, len) in scanned.by_ref() {
                    self.remove_segment(base, len).await?;
                }
            }
        }
        if self.segments.last_key_value().is_none_or(|(_, active)| active.blocks.is_none()) {
            self.end = self.end.max(self.log_start);
            self.create_active().await?;
        }
        match self.lost.take() {
            Some((journal, pos)) => Err(OpenError::LostInJournal { journal, pos, from: self.end }),
            None => Ok(()),
        }
    }

    /// Where the scan begins, with the producers and epochs as they were there.
    async fn begin(&mut self, files: &mut Files) -> Result<(Offset, u64), OpenError> {
        self.gaps = files.gaps;
        let first = files.segments.first().map_or(0, |(base, _)| *base);
        // Even where the files look as after a clean stop: a truncation that was killed half way leaves them so.
        self.sync_names().await?;
        let found = self.read_checkpoint().await?;
        if let Found::Whole(checkpoint, on_disk) = found {
            self.on_disk = on_disk;
            self.log_start = checkpoint.log_start;
            if checkpoint.clearing {
                for &(base, len) in files.segments.iter().rev() {
                    self.remove_segment(base, len).await?;
                }
                files.segments.clear();
            }
            let there =
                files.segments.iter().any(|&(base, len)| base == checkpoint.segment && len >= checkpoint.pos);
            if let Some(segment) = there.then(|| self.resume(&checkpoint)).flatten() {
                self.segments.insert(segment.base, segment);
                self.end = checkpoint.offset;
                self.checkpointed = Some(checkpoint.segment);
                return Ok((checkpoint.segment, checkpoint.pos));
            }
            let all_sealed = checkpoint.pos == 0
                && files.segments.last().is_some_and(|(last, _)| *last < checkpoint.segment);
            if let Some(segment) = all_sealed.then(|| self.resume(&checkpoint)).flatten() {
                // A crash between the sealing of the last segment and the creation of the next.
                self.segments.insert(segment.base, segment);
                self.end = checkpoint.offset;
                self.checkpointed = Some(checkpoint.segment);
                return Ok((checkpoint.segment, 0));
            }
            if checkpoint.pos > 0 {
                // It says no more than was durable.
                let file = self.place.offset_file(checkpoint.segment, LOG);
                let there = files.segments.iter().find(|(base, _)| *base == checkpoint.segment);
                return Err(OpenError::Lost {
                    file,
                    len: there.map(|(_, len)| *len),
                    needed: checkpoint.pos,
                });
            }
            if files.segments.is_empty() && (checkpoint.clearing || !self.was_open) {
                self.end = checkpoint.log_start;
                return Ok((checkpoint.log_start, 0));
            }
        } else if let Found::Damaged(damage) = found {
            self.damage.push(damage);
            self.log_start = first;
        } else {
            // As Apache Kafka leaves a log: compaction may have left gaps.
            self.kafkas = files.segments.iter().any(|(_, len)| *len > 0);
            self.gaps |= self.kafkas;
            if self.kafkas && !files.gaps {
                let path = &self.place.path;
                write_gaps_file(&self.io, &self.place).await.map_err(opening("write to", path))?;
            }
            self.log_start = first;
        }
        if files.segments.is_empty() && self.was_open {
            return Err(OpenError::Emptied { dir: self.place.path.clone() });
        }
        self.log_start = self.log_start.max(first);
        // As Apache Kafka left it: from the newest segment at whose beginning the producers are known. In a log of ringlog's own whose
        // checkpoint is lost that snapshot may be of a sealing that was cut short: from the one before it.
        let known = |base: &Offset| *base == first || files.snapshots.contains(base);
        let mut known = files.segments.iter().rev().map(|(base, _)| *base).filter(known);
        let from = if self.kafkas { known.next() } else { known.nth(1) }.unwrap_or(first);
        let path = self.place.offset_file(from, SNAPSHOT);
        let snapshot = read_file(&self.io, &self.place, &path).await.map_err(opening("read", &path))?;
        let producers = snapshot.and_then(|snapshot| Producers::decode(&snapshot, self.created));
        let from = if producers.is_some() { from } else { first };
        self.producers = producers.unwrap_or_default();
        let path = self.place.file(EPOCHS_FILE);
        let epochs = read_file(&self.io, &self.place, &path).await.map_err(opening("read", &path))?;
        let epochs =
            epochs.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(Epochs::decode);
        self.epochs = epochs.unwrap_or_default();
        self.epochs.truncate_from_end(from);
        self.end = from;
        Ok((from, 0))
    }

    /// What the last process made, renamed, removed and did not live to sync may be built upon only once it is durable.
    async fn sync_names(&self) -> Result<(), OpenError> {
        if self.syncs == Syncs::Shared {
            return Ok(());
        }
        let path = &self.place.path;
        self.io.sync_dir(self.place.dir, path.clone()).await.map_err(opening("sync directory", path))?;
        Ok(())
    }

    async fn read_checkpoint(&mut self) -> Result<Found, OpenError> {
        let path = self.place.file(CHECKPOINT_FILE);
        let bytes = read_file(&self.io, &self.place, &path).await.map_err(opening("read", &path))?;
        let Some(bytes) = bytes else { return Ok(Found::Missing) };
        let what = "its checksum fails; the log is checked from its newest sealed segments on, and starts with its first segment";
        let Some((checkpoint, on_disk)) =
            Checkpoint::decode_file(&bytes).filter(|(checkpoint, _)| checkpoint.makes_sense())
        else {
            return Ok(Found::Damaged(Damage { file: path, pos: 0, what }));
        };
        if on_disk.end == bytes.len() as u64 {
            return Ok(Found::Whole(checkpoint, Some(on_disk)));
        }
        if bytes[on_disk.end as usize..].iter().all(|byte| *byte == 0) {
            // Added ahead of time and not synced: the power took what was in it.
            return Ok(Found::Whole(checkpoint, None));
        }
        let what =
            "what was added last was cut short by a crash, or its checksum fails; the one before it is taken";
        self.damage.push(Damage { file: path, pos: on_disk.end, what });
        Ok(Found::Whole(checkpoint, None))
    }

    /// Takes over what a checkpoint sums up; `None` if a part of it makes no sense.
    fn resume(&mut self, checkpoint: &Checkpoint) -> Option<Box<Segment>> {
        let base = checkpoint.segment;
        let offsets = OffsetIndex::decode(base, &checkpoint.offsets)?;
        let times = TimeIndex::decode(base, &checkpoint.times)?;
        let producers = Producers::decode(&checkpoint.producers, self.created)?;
        let epochs = Epochs::decode(std::str::from_utf8(&checkpoint.epochs).ok()?)?;
        // What comes next goes behind all entries of the indexes.
        let fits = offsets.last().is_none_or(|(last, pos)| last < checkpoint.offset && pos < checkpoint.pos)
            && times.last().is_none_or(|(_, last)| last < checkpoint.offset);
        if !fits {
            return None;
        }
        (self.producers, self.epochs) = (producers, epochs);
        let mut segment = Segment::new(base, checkpoint.created);
        segment.indexes = Some(Indexes { offsets, times, bytes_since_entry: 0 });
        segment.first_timestamp = (checkpoint.pos > 0).then_some(checkpoint.first_timestamp);
        segment.max_timestamp = (checkpoint.max_timestamp >= 0)
            .then_some((checkpoint.max_timestamp, checkpoint.max_timestamp_offset));
        segment.size = checkpoint.pos;
        Some(segment)
    }

    /// Whether the segment after this one goes on where this one's whole batches end. In a log of ringlog's own it begins there, gaps or
    /// not, or what lay between was never durable; unless it lies too far for this one to reach
    /// (then this one was durable before it was made). Apache Kafka's compaction leaves gaps there.
    fn goes_on(&self, base: Offset, next: Offset) -> bool {
        #[cfg(ringlog_plant)]
        if plant::is(Plant::TakeAnyGapForOneOfTheLeaders) && self.gaps && next >= self.end {
            return true;
        }
        let out_of_reach = self.gaps && next - base > i64::from(i32::MAX);
        next == self.end || (next > self.end && (self.kafkas || out_of_reach))
    }

    /// Checks a segment's batches from a position on, and cuts off what follows them. `next` is the segment after it.
    async fn scan_segment(
        &mut self,
        base: Offset,
        len: u64,
        pos: u64,
        next: Option<Offset>,
        was_sealed: bool,
    ) -> Result<(), OpenError> {
        // Where offsets have gaps one may lie before it: what is in it, even if that is nothing, comes after the gap.
        self.end = self.end.max(base);
        let path = self.place.offset_file(base, LOG);
        let mut segment = self.segments.remove(&base).unwrap_or_else(|| Segment::new(base, self.created));
        let (file, _) = self
            .io
            .open(self.place.dir, path.clone(), FileMode::Blocks)
            .await
            .map_err(opening("open", &path))?;
        let mut scan = Scan::new(&self.io, file.clone(), pos, len);
        if len > pos {
            while let Some(found) = scan.next().await.map_err(opening("read", &path))? {
                if !self.accepts(&segment, &found.bytes) {
                    break;
                }
                self.take(&mut segment, &found.header, found.bytes.len());
            }
        }
        let valid = segment.size;
        // Where it is whole and the next begins later, a segment between them is missing: a truncation was cut short.
        if let Some(next) = next.filter(|next| was_sealed && valid < len && self.end < *next) {
            return self.keep_damaged(segment, len, next).await;
        }
        segment.written_size = valid;
        // Before it is cut: that leaves the block in the page cache, and a direct read would wait until it has been written.
        let block = last_block(&self.io, &file, valid).await.map_err(opening("read", &path))?;
        let in_block = (valid % BLOCK) as usize;
        self.partial = block.slice(..in_block);
        let ends_in_zeroes = block[in_block..].iter().all(|byte| *byte == 0);
        // Past the block in which a write has ended there may be what a recycled file held, if segments have been removed.
        let is_recycled = self.log_start > 0 && in_block > 0 && ends_in_zeroes;
        self.done.torn |= len > valid && !is_recycled && !scan.is_before_zeroes();
        segment.prepared = Prepared::after(valid);
        let clears = len > valid;
        #[cfg(ringlog_plant)]
        let clears = clears && !plant::is(Plant::LeaveTheOldTail);
        if clears {
            self.done.cut_bytes += len - valid;
            let is_prepared = next.is_none() && ends_in_zeroes;
            segment.prepared =
                self.clear(&file, valid, len, is_prepared).await.map_err(opening("cut", &path))?;
        }
        self.replay(&mut segment, &file, next).await.map_err(opening("write", &path))?;
        // What was found may have been written, and what was not found cut off, by a process that did not live to sync it. A log without a
        // checkpoint gets one before the shared sync.
        let syncs = self.syncs == Syncs::Each || self.checkpointed.is_none();
        #[cfg(ringlog_plant)]
        let syncs = syncs && !plant::is(Plant::BuildOnWhatWasNotSynced);
        if syncs {
            self.io.sync_file(file.clone()).await.map_err(opening("sync", &path))?;
        }
        segment.blocks = Some(file);
        if next.is_some_and(|next| self.goes_on(base, next)) {
            self.to_seal.push_back(base);
        }
        self.segments.insert(base, segment);
        Ok(())
    }

    /// Writes to a segment what a journal holds of it: what goes on exactly where its batches end.
    async fn replay(&mut self, segment: &mut Segment, file: &File, next: Option<Offset>) -> io::Result<()> {
        #[cfg(ringlog_plant)]
        if plant::is(Plant::SkipTheReplay) {
            return Ok(());
        }
        let valid = segment.size;
        let mut bytes = aligned(
            self.partial.len() + self.left.iter().map(|(left, _)| left.len()).sum::<usize>() + BLOCK as usize,
        );
        bytes.extend_from_slice(&self.partial);
        for (left, is_behind_damage) in std::mem::take(&mut self.left) {
            let mut at = 0;
            while let Some(len) = batch::whole_len(&left[at..]) {
                let batch = &left[at..at + len];
                let Ok(header) = batch::verify(batch) else { break };
                let is_behind = header.next_offset() <= self.end;
                if !is_behind {
                    let belongs = next.is_none_or(|next| header.last_offset() < next);
                    if header.base_offset != self.end || !belongs || !self.accepts(segment, batch) {
                        // What belongs to the segment after this one is looked at again there.
                        self.left.push((left.slice(at..), is_behind_damage));
                        break;
                    }
                    self.take(segment, &header, len);
                    bytes.extend_from_slice(batch);
                }
                if is_behind_damage {
                    // Nothing is missing between.
                    self.lost = None;
                }
                at += len;
            }
        }
        if segment.size == valid {
            return Ok(());
        }
        let end = segment.size.next_multiple_of(BLOCK);
        let from = segment.prepared.to().max(valid.next_multiple_of(BLOCK));
        let to = end.max(segment.prepared.to());
        if !segment.prepared.holds(end) {
            // Never nothing: of a file that was cut to its batches the last block is not there in full.
            self.io.prepare(file.clone(), from, to.max(from + BLOCK), Space::Allocated).await?;
        }
        let in_block = (segment.size % BLOCK) as usize;
        let len = bytes.len();
        bytes.resize(len.next_multiple_of(BLOCK as usize), 0);
        let bytes = bytes.freeze();
        self.partial = bytes.slice(len - in_block..len);
        self.io.write(file.clone(), valid - valid % BLOCK, bytes).await?;
        segment.prepared = Prepared::kept(segment.size, to);
        segment.written_size = segment.size;
        Ok(())
    }

    /// A batch comes next in a segment.
    fn take(&mut self, segment: &mut Segment, header: &Header, len: usize) {
        let start = self.end;
        self.end = header.next_offset();
        self.done.scanned_bytes += len as u64;
        if header.leader_epoch >= SMALLEST_EPOCH {
            // As when it was appended: after a gap, from where the gap begins.
            self.epochs.assign(header.leader_epoch, start);
        }
        let learns = header.has_producer_id();
        #[cfg(ringlog_plant)]
        let learns = learns && !plant::is(Plant::ForgetTheProducers);
        if learns {
            self.producers.apply(header, self.created);
        }
        segment.note(header, self.interval);
    }

    /// A segment that was whole and durable once has a batch that is not what was written. It is kept as it is: whoever reads there is
    /// refused, and the log goes on with the next segment, where a snapshot tells the producers.
    async fn keep_damaged(&mut self, damaged: Box<Segment>, len: u64, next: Offset) -> Result<(), OpenError> {
        let what = "no whole batch is there as it was written; the segment was sealed, and is kept";
        let file = self.place.offset_file(damaged.base, LOG);
        self.damage.push(Damage { file, pos: damaged.size, what });
        let path = self.place.offset_file(next, SNAPSHOT);
        let snapshot = read_file(&self.io, &self.place, &path).await.map_err(opening("read", &path))?;
        if let Some(producers) = snapshot.and_then(|snapshot| Producers::decode(&snapshot, self.created)) {
            self.producers = producers;
        }
        let mut kept = Segment::new(damaged.base, self.created);
        (kept.size, kept.written_size) = (len, len);
        (kept.indexes, kept.sealed) = (None, true);
        self.segments.insert(kept.base, kept);
        self.end = next;
        Ok(())
    }

    /// Whether a batch may come next: its offsets and epoch follow, its CRC holds, its place fits the indexes.
    fn accepts(&self, segment: &Segment, bytes: &[u8]) -> bool {
        let Ok(header) = batch::verify(bytes) else { return false };
        let follows = header.base_offset == self.end || (self.gaps && header.base_offset > self.end);
        let epoch_holds = self.epochs.latest().is_none_or(|latest| header.leader_epoch >= latest);
        let fits =
            header.last_offset() - segment.base <= i64::from(i32::MAX) && u32::try_from(segment.size).is_ok();
        follows && epoch_holds && fits
    }

    async fn remove_segment(&mut self, base: Offset, len: u64) -> Result<(), OpenError> {
        for suffix in SEGMENT_FILES {
            let path = self.place.offset_file(base, suffix);
            remove_file(&self.io, &self.place, &path).await.map_err(opening("remove", &path))?;
        }
        self.done.segments_removed += 1;
        self.done.cut_bytes += len;
        let path = &self.place.path;
        self.io.sync_dir(self.place.dir, path.clone()).await.map_err(opening("sync directory", path))?;
        Ok(())
    }

    /// Removes the producers' snapshots that lie neither where a segment begins nor at the end. Former stops have left them; past the
    /// end they tell of records that are gone, and Apache Kafka would go by them once the log has grown over them.
    async fn remove_stray_snapshots(&self, files: &Files) -> Result<(), OpenError> {
        for &offset in &files.snapshots {
            if offset != self.end && !self.segments.contains_key(&offset) {
                let path = self.place.offset_file(offset, SNAPSHOT);
                remove_file(&self.io, &self.place, &path).await.map_err(opening("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes the segment that comes next: the first of an empty log, or the one after the last that was sealed.
    async fn create_active(&mut self) -> Result<(), OpenError> {
        let path = self.place.offset_file(self.end, LOG);
        let dir = self.place.dir;
        let file =
            self.io.create(dir, path.clone(), FileMode::Blocks).await.map_err(opening("create", &path))?;
        self.io.sync_file(file.clone()).await.map_err(opening("sync", &path))?;
        let parent = &self.place.path;
        self.io.sync_dir(dir, parent.clone()).await.map_err(opening("sync directory", parent))?;
        let mut segment = Segment::new(self.end, self.created);
        segment.blocks = Some(file);
        self.partial = Bytes::new();
        self.segments.insert(self.end, segment);
        Ok(())
    }

    /// Takes away what lies past a segment's whole batches, `end` to `len`. What is prepared space is zeroed where it lies, and stays prepared: a cut
    /// would free it, with a discard on some disks, for the next append to ask for again. 10,000 logs take a second for that.
    async fn clear(&self, file: &File, end: u64, len: u64, is_prepared: bool) -> io::Result<Prepared> {
        let from = end.next_multiple_of(BLOCK);
        if is_prepared && !self.kafkas && len.is_multiple_of(BLOCK) && from < len {
            match self.io.zero(file.clone(), from, len).await {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                zeroed => return zeroed.map(|_| Prepared::kept(end, len)),
            }
        }
        self.io.truncate(file.clone(), end).await.map(|_| Prepared::after(end))
    }
}

/// The files of one segment, by their suffix.
pub(super) const SEGMENT_FILES: [&str; 5] = [LOG, "index", "timeindex", TRANSACTION_INDEX, SNAPSHOT];
