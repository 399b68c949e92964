//! The two tasks behind a log's marks: the writer, which moves `written`, and the syncer, which moves `durable`.

use super::cache::Chunk;
use super::files::write_gaps_file;
use super::marks::Awaited;
use super::notices::Notice;
use super::segment::Segment;
use super::tail::Block;
use super::{Gaps, Log, Marks, Offset, State};
use crate::io::{File, FileMode, Op, Space, Stream, SyncItem, is_no_space};
use crate::limits::BLOCK;
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use bytes::Bytes;
use smallvec::SmallVec;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What the writer does next.
enum Step {
    /// Everything placed is written.
    Rest,
    /// The next block may hold the log's first gap.
    MarkGaps,
    /// The segment has no file yet.
    Create(Offset),
    /// The next block begins with bytes that only the file has, up to here.
    ReadBack(Offset, File, u64),
    /// The next block reaches past the prepared space, or more is just being allocated.
    Prepare(Offset, u64),
    /// A segment has been left and is wholly written.
    Leave(Offset),
    /// Write this block of this segment.
    Write(Offset, File, Block),
}

/// Where a write is cut: hardly ever in more than two places.
type Cuts = SmallVec<[u64; 2]>;
/// The operations of a write.
type Parts = SmallVec<[Stream; 2]>;

/// What a write has done.
#[cfg_attr(ringlog_plant, derive(Clone))]
struct Written {
    /// The file's bytes it covered.
    range: Range<u64>,
    /// How they must be synced.
    space: Space,
    /// Bytes of whole batches the segment now has.
    size: u64,
    /// The offset after the last record written.
    next_offset: Offset,
}

impl Log {
    /// Starts the writer, unless it runs.
    pub(super) fn start_writer(&self, state: &mut State) {
        if !std::mem::replace(&mut state.writer_runs, true) {
            let log = self.clone();
            self.0.shard.spawn(async move { log.write_all().await });
        }
    }

    /// Writes until nothing is left to write.
    async fn write_all(&self) {
        loop {
            let step = self.next_step();
            let went_on = match step {
                Step::Rest => break,
                // What is rare is kept out of a task that is made for nearly every batch.
                Step::MarkGaps => Box::pin(self.mark_gaps()).await,
                Step::Create(base) => Box::pin(self.create_segment_file(base)).await,
                Step::ReadBack(base, file, end) => Box::pin(self.read_back(base, &file, end)).await,
                Step::Prepare(base, needed) => Box::pin(self.prepare_now(base, needed)).await,
                Step::Leave(base) => {
                    self.seal_later(base);
                    true
                }
                Step::Write(base, file, block) => self.write_block(base, file, block).await,
            };
            if !went_on {
                self.0.state.borrow_mut().writer_runs = false;
                break;
            }
        }
        if self.failed().is_some() {
            // No mark has moved, but who closes the log waits for this.
            self.0.moved.notify();
        }
    }

    fn next_step(&self) -> Step {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        if state.failed.is_some() {
            state.writer_runs = false;
            return Step::Rest;
        }
        let tails = state.tails.len();
        let Some(tail) = state.tails.front_mut() else {
            state.writer_runs = false;
            return Step::Rest;
        };
        let segment = state.segments.get_mut(&tail.segment).expect("a tail belongs to a segment");
        let Some(end) = tail.next_block_end() else {
            if tails > 1 {
                let base = tail.segment;
                state.tails.pop_front();
                return Step::Leave(base);
            }
            if segment.blocks.is_none() {
                // It was begun before there was a batch for it.
                return Step::Create(segment.base);
            }
            tail.rest(&self.0.cache);
            state.writer_runs = false;
            return Step::Rest;
        };
        if state.gaps == Gaps::Unmarked {
            return Step::MarkGaps;
        }
        let Some(file) = segment.blocks.clone() else { return Step::Create(segment.base) };
        if let Some(end) = tail.absent_to() {
            return Step::ReadBack(segment.base, file, end);
        }
        if segment.prepared.is_growing() || !segment.prepared.holds(end) {
            return Step::Prepare(segment.base, end);
        }
        let block = tail.take_block().expect("a block that ends has begun");
        Step::Write(segment.base, file, block)
    }

    async fn write_block(&self, base: Offset, file: File, block: Block) -> bool {
        let len = block.fresh_bytes();
        let chunk = Chunk {
            segment: base,
            pos: block.pos + block.fresh.start as u64,
            base_offset: block.offsets.start,
            next_offset: block.offsets.end,
            bytes: block.bytes.slice(block.fresh.clone()),
            rest: block.rest.clone(),
        };
        let (pos, end) = (block.pos, block.pos + block.len() as u64);
        let (space, cuts): (_, Cuts) = self.segment_mut(base, |segment| {
            let space = segment.prepared.written(pos, end);
            // What is only allocated meets here what has been written before.
            let first = (space == Space::Allocated && block.fresh.start > 0).then_some(pos + BLOCK);
            let edges = segment.prepared.edges(pos, end).filter(|edge| Some(*edge) != first);
            (space, first.into_iter().filter(|first| *first < end).chain(edges).collect())
        });
        let written =
            Written { range: pos..end, space, size: block.end_pos(), next_offset: block.offsets.end };
        self.0.state.borrow_mut().in_flight = len;
        let copied = block.len() - block.more.first().map_or(0, Bytes::len);
        self.0.cache.push(&self.0.chunks, chunk, copied, || self.0.shard.now());
        #[cfg(ringlog_plant)]
        if plant::is(Plant::AcknowledgeBeforeTheWriteCompletes) {
            self.has_written(base, &file, written.clone());
        }
        #[cfg(ringlog_plant)]
        if plant::is(Plant::TwoWritesInFlightOnOneBlock) {
            let log = self.clone();
            self.0.shard.spawn(async move {
                if all_of(log.start_parts(&file, block, &cuts)).await.is_ok() {
                    let marks = log.marks();
                    let next_offset = written.next_offset.max(marks.written);
                    log.has_written(base, &file, Written { next_offset, ..written });
                }
            });
            return true;
        }
        while let Err(error) = self.write_in_turn(&file, &block, &cuts).await {
            // Where space cannot be allocated ahead, the write itself finds the disk full.
            if !Box::pin(self.no_space_or_fail("write", error)).await {
                return false;
            }
        }
        self.has_written(base, &file, written);
        self.prepare_ahead(base, end);
        true
    }

    /// Writes a block when it is its turn among the large ones.
    async fn write_in_turn(&self, file: &File, block: &Block, cuts: &Cuts) -> io::Result<()> {
        let _turn = self.0.cache.large_writes().turn(self.0.place.dir, block.len()).await;
        all_of(self.start_parts(file, block.clone(), cuts)).await
    }

    /// Begins to write a block of batches: as one operation, or as several, cut where a direct write of all would leave the core. Those are
    /// in flight together; no two of them touch one block.
    fn start_parts(&self, file: &File, block: Block, cuts: &Cuts) -> Parts {
        let io = self.0.shard.io();
        let Block { mut pos, mut bytes, mut more, .. } = block;
        let mut writes = Parts::new();
        for cut in cuts {
            let (before, and_more) = split_to(&mut bytes, &mut more, (cut - pos) as usize);
            writes.push(io.start(Op::Write { file: file.clone(), pos, bytes: before, more: and_more }));
            pos = *cut;
        }
        writes.push(io.start(Op::Write { file: file.clone(), pos, bytes, more }));
        writes
    }

    /// Moves the written mark, and sees that the durable mark follows.
    fn has_written(&self, base: Offset, file: &File, write: Written) {
        let Written { range, space, size, next_offset } = write;
        let mut woken = Vec::new();
        {
            let mut state = self.0.state.borrow_mut();
            let state = &mut *state;
            state.in_flight = 0;
            state.no_space = false;
            let Some(segment) = state.segments.get_mut(&base) else { return };
            segment.written_size = size;
            state.bytes_since_checkpoint += range.end - range.start;
            state.bytes_since_sync += range.end - range.start;
            self.0.cache.debt().grow(&self.0.shard, range.end - range.start);
            state.has_dirtied(file, space);
            assert!(state.filed <= next_offset, "a file only grows");
            state.filed = next_offset;
            // The journal may have been first.
            state.marks.written = state.marks.written.max(next_offset);
            state.marks.check();
            state.waiters.reached(Awaited::Written, next_offset, &mut woken);
            self.follow_with_durable(state);
        }
        self.wake(woken);
    }

    /// After a write: sync now if somebody waits for it or enough has gathered, else in a while.
    pub(super) fn follow_with_durable(&self, state: &mut State) {
        let unsynced = state.marks.written - state.marks.durable;
        if u64::try_from(unsynced).is_ok_and(|unsynced| unsynced >= state.config.flush_messages) {
            state.durable_wanted = state.durable_wanted.max(state.marks.written);
        }
        if state.wants_sync() {
            return self.start_syncer(state);
        }
        let Some(delay) = state.config.background_sync() else { return };
        if unsynced > 0 && !std::mem::replace(&mut state.background_sync_is_due, true) {
            let log = self.clone();
            self.0.shard.spawn(async move { log.sync_in_a_while(delay).await });
        }
    }

    async fn sync_in_a_while(&self, delay: Duration) {
        self.0.shard.sleep(delay).await;
        let mut state = self.0.state.borrow_mut();
        state.background_sync_is_due = false;
        let written = state.marks.written;
        self.want_durable(&mut state, written);
    }

    /// Asks that the durable mark come to this offset.
    pub(super) fn want_durable(&self, state: &mut State, offset: Offset) {
        state.durable_wanted = state.durable_wanted.max(offset);
        if state.wants_sync() {
            self.start_syncer(state);
        }
    }

    fn start_syncer(&self, state: &mut State) {
        if state.failed.is_none() && !std::mem::replace(&mut state.syncer_runs, true) {
            let log = self.clone();
            self.0.shard.spawn(async move { log.sync_all().await });
        }
    }

    /// Syncs until nobody wants more than is durable, or nothing more is written.
    async fn sync_all(&self) {
        loop {
            let (items, written, filed, truncations) = {
                let mut state = self.0.state.borrow_mut();
                let marks = state.marks;
                if !state.wants_sync() || state.failed.is_some() {
                    state.syncer_runs = false;
                    if state.failed.is_none() && marks.written > marks.durable {
                        // Written while the last sync was under way, which did not cover it.
                        self.follow_with_durable(&mut state);
                    }
                    // No mark has moved, but who closes the log may wait for this: it failed before this task's first turn.
                    drop(state);
                    return self.0.moved.notify();
                }
                state.note_sync();
                state.durable_soon = marks.written;
                let dirty = std::mem::take(&mut state.dirty);
                let items: Vec<_> = dirty.into_iter().map(|(file, space)| SyncItem { file, space }).collect();
                (items, marks.written, state.filed, state.truncations)
            };
            // The sync covers every write that completed before this line, so one answers all waiters up to `written`.
            #[cfg(ringlog_plant)]
            let items = self.plant_in_sync(items);
            #[cfg(ringlog_plant)]
            let again = items.clone();
            let in_journal = self.journal().and_then(|journal| journal.reached(&items));
            let synced = self.0.shard.io().sync(items).await;
            #[cfg(ringlog_plant)]
            let synced = match synced {
                Err(_) if plant::is(Plant::RetryAFailedSync) => self.0.shard.io().sync(again).await,
                synced => synced,
            };
            if let Err(error) = synced {
                self.0.state.borrow_mut().syncer_runs = false;
                return self.fail("sync", &self.0.place.path, error);
            }
            if let Some((journal, reached)) = self.journal().zip(in_journal) {
                journal.is_durable(reached);
            }
            let mut woken = Vec::new();
            {
                let mut state = self.0.state.borrow_mut();
                if state.truncations == truncations {
                    state.marks.durable = state.marks.durable.max(written);
                    state.filed_durable = state.filed_durable.max(filed);
                    state.marks.check();
                    state.waiters.reached(Awaited::Durable, written, &mut woken);
                }
                self.checkpoint_if_due(&mut state);
            }
            self.wake(woken);
        }
    }

    #[cfg(ringlog_plant)]
    fn plant_in_sync(&self, mut items: Vec<SyncItem>) -> Vec<SyncItem> {
        if plant::is(Plant::SkipTheSync) {
            items.clear();
        }
        let oldest = self.0.state.borrow().segments.values().find_map(|segment| segment.blocks.clone());
        if plant::is(Plant::SyncTheWrongFile)
            && let Some(oldest) = oldest
        {
            items.iter_mut().for_each(|item| item.file = oldest.clone());
        }
        items
    }

    /// Puts on disk that offsets may have gaps.
    async fn mark_gaps(&self) -> bool {
        match write_gaps_file(self.0.shard.io(), &self.0.place).await {
            Ok(()) => {
                self.0.state.borrow_mut().gaps = Gaps::Marked;
                true
            }
            Err(error) => self.no_space_or_fail("write", error).await,
        }
    }

    /// Creates the file of the segment that has just begun, with its first step of space. Before this ends nothing is
    /// written in it, so everything that becomes durable in it has a durable name.
    async fn create_segment_file(&self, base: Offset) -> bool {
        if self.segment_mut(base, |segment| segment.out_of_reach) {
            let before = self.marks().written;
            if self.wait_filed_durably(before).await.is_err() {
                return false;
            }
        }
        match self.try_create_segment_file(base).await {
            Ok(()) => {
                self.0.moved.notify();
                true
            }
            Err((doing, error)) => self.no_space_or_fail(doing, error).await,
        }
    }

    async fn try_create_segment_file(&self, base: Offset) -> Result<(), (&'static str, io::Error)> {
        let io = self.0.shard.io();
        let path = self.log_path(base);
        let dir = self.0.place.dir;
        // Where nothing has come yet perhaps nothing will for long, and it would be a large file for that.
        let has_begun = self.segment_mut(base, |segment| segment.size > 0);
        let recycled = if has_begun { self.recycle(base).await } else { Ok(None) };
        let recycled = recycled.map_err(|error| ("recycle segment", error))?;
        let written_before = recycled.as_ref().map(|(_, len)| *len);
        let file = match recycled {
            Some((file, _)) => file,
            None => self.create_file(path).await?,
        };
        let parent = self.0.place.path.clone();
        #[cfg(ringlog_plant)]
        if plant::is(Plant::SkipTheDirectorySync) {
            self.segment_mut(base, |segment| segment.blocks = Some(file));
            return Ok(());
        }
        io.sync_dir(dir, parent).await.map_err(|error| ("sync directory", error))?;
        self.segment_mut(base, |segment| {
            segment.blocks = Some(file);
            if let Some(to) = written_before {
                segment.prepared.recycled(to);
            }
        });
        Ok(())
    }

    /// Makes a file, empty and durable but for its name.
    async fn create_file(&self, path: PathBuf) -> Result<File, (&'static str, io::Error)> {
        let io = self.0.shard.io();
        let dir = self.0.place.dir;
        let file = match io.create(dir, path.clone(), FileMode::Blocks).await {
            // Made by an attempt that found the disk full afterwards.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let opened = io.open(dir, path, FileMode::Blocks).await;
                let (file, len) = opened.map_err(|error| ("open segment", error))?;
                if len > 0 {
                    io.truncate(file.clone(), 0).await.map_err(|error| ("cut segment", error))?;
                }
                file
            }
            created => created.map_err(|error| ("create segment", error))?,
        };
        io.sync_file(file.clone()).await.map_err(|error| ("sync segment", error))?;
        Ok(file)
    }

    /// Waits for the space the next block needs.
    async fn prepare_now(&self, base: Offset, needed: u64) -> bool {
        let pending = self.segment_mut(base, |segment| segment.prepared.is_pending());
        if pending {
            // A step begun ahead of need is on its way: to its end, or to where its space is allocated.
            let prepared = self.0.prepared.next();
            prepared.await;
            return self.failed().is_none();
        }
        match self.prepare(base, needed).await {
            Ok(()) => true,
            Err(error) => self.no_space_or_fail("prepare space in", error).await,
        }
    }

    /// Starts the next step of space if the last is nearly used up. The next write waits while it is allocated, which the file's lock
    /// would make it do anyway, but not while zeroes are written.
    fn prepare_ahead(&self, base: Offset, end: u64) {
        let mut state = self.0.state.borrow_mut();
        let file_bytes_max = u64::from(state.config.segment_bytes);
        let Some(segment) = state.segments.get_mut(&base) else { return };
        if !segment.prepared.is_low(end, file_bytes_max) {
            return;
        }
        drop(state);
        let log = self.clone();
        self.0.shard.spawn(async move {
            match log.prepare(base, 0).await {
                // Space that cannot be had ahead is asked for again when it is needed, and judged then.
                Err(error) if !is_no_space(&error) => {
                    log.fail("prepare space in", &log.log_path(base), error)
                }
                _ => {}
            }
        });
        self.segment_mut(base, |segment| segment.prepared.begin_step());
    }

    async fn prepare(&self, base: Offset, needed: u64) -> io::Result<()> {
        let now = self.0.shard.now();
        let (file, from, to, space) = {
            let mut state = self.0.state.borrow_mut();
            let space = state.space_to_prepare();
            let file_bytes_max = u64::from(state.config.segment_bytes);
            let Some(segment) = state.segments.get_mut(&base) else { return Ok(()) };
            let Some(file) = segment.blocks.clone() else { return Ok(()) };
            let (from, to) = segment.prepared.next_step(needed, file_bytes_max, now);
            (file, from, to, space)
        };
        let io = self.0.shard.io();
        let mut result = io.prepare(file.clone(), from, to, Space::Allocated).await;
        if space == Space::Written && result.is_ok() {
            if let Some(segment) = self.0.state.borrow_mut().segments.get_mut(&base) {
                segment.prepared.grown();
            }
            self.0.prepared.notify();
            result = io.prepare(file, from, to, Space::Written).await;
        }
        if let Some(segment) = self.0.state.borrow_mut().segments.get_mut(&base) {
            match &result {
                Ok(_) => segment.prepared.done(to, space),
                Err(_) => segment.prepared.failed(),
            }
        }
        self.0.prepared.notify();
        result.map(drop)
    }

    /// A full disk refuses appends until there is space again, or the log is closed; anything else takes the log offline. Returns whether to go on.
    async fn no_space_or_fail(&self, doing: &'static str, error: io::Error) -> bool {
        let closing = self.0.state.borrow().closing;
        if closing || !is_no_space(&error) {
            self.fail(doing, &self.0.place.path, error);
            return false;
        }
        self.0.state.borrow_mut().no_space = true;
        self.0.notices.tell(Notice::NoSpace);
        self.space_may_have_come().await
    }

    /// Waits a while for somebody to make room on a full disk. False if there is no use in trying again.
    pub(super) async fn space_may_have_come(&self) -> bool {
        if self.0.state.borrow().closing {
            return false;
        }
        self.0.shard.sleep(NO_SPACE_RETRY).await;
        self.failed().is_none()
    }

    /// Works on a segment that the writer knows to exist.
    pub(super) fn segment_mut<T>(&self, base: Offset, work: impl FnOnce(&mut Segment) -> T) -> T {
        let mut state = self.0.state.borrow_mut();
        work(state.segments.get_mut(&base).expect("the writer's segment exists"))
    }
}

impl State {
    /// Whether somebody wants more to be durable than is, and a sync now brings him nearer to it.
    fn wants_sync(&self) -> bool {
        let Marks { durable, written, .. } = self.marks;
        (self.durable_wanted > durable && written > durable)
            || (self.filed_wanted > self.filed_durable && self.filed > self.filed_durable)
    }
}

/// Waits for all: what failed must not be still on its way when the log goes offline.
async fn all_of(mut writes: Parts) -> io::Result<()> {
    let mut result = Ok(());
    for write in &mut writes {
        let written = write.next().await.into_count().map(drop);
        result = result.and(written);
    }
    result
}

/// Takes this many bytes, not all, from the front of `bytes` and `more`.
fn split_to(bytes: &mut Bytes, more: &mut Vec<Bytes>, len: usize) -> (Bytes, Vec<Bytes>) {
    let mut take = |len: usize| {
        let part = bytes.split_to(len.min(bytes.len()));
        if bytes.is_empty() {
            *bytes = more.remove(0);
        }
        part
    };
    let first = take(len);
    let mut left = len - first.len();
    let mut and_more = Vec::new();
    while left > 0 {
        and_more.push(take(left));
        left -= and_more.last().map_or(0, Bytes::len);
    }
    (first, and_more)
}

/// How long after finding the disk full the writer asks again.
const NO_SPACE_RETRY: Duration = Duration::from_secs(1);
