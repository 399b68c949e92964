//! One write for the small batches of many logs: a journal for each shard and data directory.
//!
//! A batch of a kilobyte costs its log's own file a direct write of a whole block; a thousand logs that get one each, a thousand writes. Here
//! they are one write, and one flush. A log's file gets them later, as one larger write: when enough has gathered, when somebody reads
//! or changes the file, and before their place in the journal is used again (`docs/decisions/0009-small-batches.md`).
//!
//! ```text
//!   file   half 0 | frame | frame | frame | what was there before ... | half 1 | frame | ...
//!   frame  whole 4 KiB blocks: | header | entry | entry | ... | zeroes |
//!   entry  | topic id, partition, length | whole batches of one log, as they lie in its file |
//! ```
//!
//! One frame is written at a time, with everything that came while the last one was on its way. Frames fill one half, then the other, which must
//! be *free*: all that its entries hold is in the logs' files, and durable there where it was durable here. A start reads both halves
//! ([`Left::read`]) before logs are opened, and each log takes what goes on exactly where its file ends. An entry without batches is a *cut*: what
//! earlier entries say of that log is void, since it was truncated after them.
//!
//! A frame that cannot be read is where a crash has ended the journal, or damage. Power that goes may well leave a later frame whole and
//! take an earlier one, as long as neither was synced; so each frame says how many of its generation were durable when it was written, as a cut of no
//! log at all. One of those that cannot be read is damage: see [`Left`].

use super::notices::Damage;
use super::{Log, Offset};
use crate::batch;
use crate::io::buf::aligned;
use crate::io::{DirId, File, FileMode, Io, Space, SyncItem};
use crate::limits::BLOCK;
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use crate::shard::Shard;
use crate::shard::sync::{Credits, Event, Sender, oneshot};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

/// Which log an entry is of. No other log ever has the same, though its directory may be called the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// The topic's id.
    pub topic: [u8; 16],
    /// The partition's index.
    pub index: i32,
}

/// How much a journal takes.
#[derive(Debug, Clone, Copy)]
pub struct JournalLimits {
    /// Bytes of each of its halves: whole blocks.
    pub half_bytes: u64,
    /// A log's file gets its batches at the latest when this many bytes have gathered.
    pub file_bytes: usize,
}

impl JournalLimits {
    /// As much as a frame with one entry may take.
    pub const HALF_BYTES_MIN: u64 = 6 * BLOCK;
}

impl Default for JournalLimits {
    /// 8 MiB are 32 KiB for each of 256 logs, and written in some 10 ms.
    fn default() -> Self {
        Self { half_bytes: 8 << 20, file_bytes: 64 << 10 }
    }
}

/// A shard's journal in one data directory. Its file is made when it is first wanted.
pub struct Journal(Rc<Inner>);

/// A log's hold on its journal, which goes with the shard.
pub(super) struct WeakJournal(Weak<Inner>);

struct Inner {
    shard: Shard,
    dir: DirId,
    path: PathBuf,
    limits: JournalLimits,
    stage: Cell<Stage>,
    /// Happens when a half has become free, and when there is no hope of that.
    freed: Event,
    idle: Event,
    state: RefCell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What the last process has left in a journal of this name may still be needed.
    Closed,
    /// Nobody has wanted it yet.
    Unmade,
    Making,
    Ready,
    /// Both halves are full.
    Full,
    /// It could not be made or written: logs go on without it.
    Retired,
}

#[derive(Default)]
struct State {
    file: Option<File>,
    /// Chosen at random: frames of other runs are none of this one.
    run: u64,
    generation: u64,
    /// Which half is written, and where in the file its next frame goes.
    half: usize,
    at: u64,
    /// The next frame's number in its generation.
    number: u32,
    /// Frames of this generation that are written, and of them those that are known to be on stable storage.
    written: u32,
    durable: u32,
    /// Whether frames in each half, of the generation that was last there, say of others that these were durable.
    claims: [bool; 2],
    halves: [Half; 2],
    /// Logs that have something to write.
    pending: VecDeque<Log>,
    cuts: VecDeque<Cut>,
    task_runs: bool,
    frees: usize,
    /// Memory of the last frame, to be used again.
    memory: BytesMut,
}

#[derive(Default)]
struct Half {
    /// Those with entries in it.
    logs: Vec<Log>,
    /// Its entries are still needed.
    taken: bool,
}

struct Cut {
    log: LogId,
    done: Sender<io::Result<()>>,
}

/// What goes into one write.
struct Frame {
    file: File,
    pos: u64,
    bytes: Bytes,
    logs: Vec<Entered>,
    cuts: Vec<Cut>,
}

/// How far a journal was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    generation: u64,
    frames: u32,
}

/// A log's part of a frame.
pub(super) struct Entered {
    pub(super) log: Log,
    pub(super) bytes: u64,
    /// The offset after it.
    pub(super) next: Offset,
    /// How often the log had been truncated.
    pub(super) truncations: u64,
}

impl Journal {
    /// A shard's journal in a data directory. It takes nothing before [`Journal::begin`].
    pub fn new(shard: &Shard, dir: DirId, data_dir: &Path, limits: JournalLimits) -> Self {
        assert!(
            limits.half_bytes.is_multiple_of(BLOCK) && limits.half_bytes >= ROOM_MIN,
            "a half has room for a frame"
        );
        let path = data_dir.join(format!("{NAME}{}", shard.id().0));
        Self(Rc::new(Inner {
            shard: shard.clone(),
            dir,
            path,
            limits,
            stage: Cell::new(Stage::Closed),
            freed: Event::default(),
            idle: Event::default(),
            state: RefCell::default(),
        }))
    }

    /// It takes batches from now on: all logs are open, and former journals removed.
    pub fn begin(&self) {
        self.0.stage.set(Stage::Unmade);
    }

    /// Ends it when the logs are closed: its file goes, unless a log has failed and lacks what is only here.
    pub async fn close(self) -> io::Result<()> {
        let inner = &self.0;
        loop {
            let idle = inner.idle.next();
            let busy = {
                let state = inner.state.borrow();
                state.task_runs || state.frees > 0 || inner.stage.get() == Stage::Making
            };
            if !busy {
                break;
            }
            idle.await;
        }
        inner.stage.set(Stage::Retired);
        let file = inner.state.borrow_mut().file.take();
        let Some(file) = file else { return Ok(()) };
        let io = inner.shard.io();
        io.close(file).await?;
        let halves = std::mem::take(&mut inner.state.borrow_mut().halves);
        if halves.iter().flat_map(|half| &half.logs).all(Log::has_left_journal) {
            io.unlink(inner.dir, inner.path.clone()).await?;
            io.sync_dir(inner.dir, inner.data_dir().into()).await?;
        }
        Ok(())
    }

    pub(super) fn downgrade(&self) -> WeakJournal {
        WeakJournal(Rc::downgrade(&self.0))
    }
}

impl Inner {
    fn data_dir(&self) -> &Path {
        self.path.parent().expect("it lies in a data directory")
    }
}

impl WeakJournal {
    pub(super) fn upgrade(&self) -> Option<Journal> {
        self.0.upgrade().map(Journal)
    }
}

impl Journal {
    pub(super) fn limits(&self) -> JournalLimits {
        self.0.limits
    }

    /// Whether it takes batches now. The first who asks has it made.
    pub(super) fn is_ready(&self) -> bool {
        if self.0.stage.get() == Stage::Unmade {
            self.0.stage.set(Stage::Making);
            let this = Self(self.0.clone());
            self.0.shard.spawn(async move { this.make().await });
        }
        self.0.stage.get() == Stage::Ready
    }

    /// A log has something for the next frame.
    pub(super) fn enlist(&self, log: Log) {
        let mut state = self.0.state.borrow_mut();
        state.pending.push_back(log);
        self.start(&mut state);
    }

    /// How far it is written, if one of these files is its own. What a sync that begins now covers.
    pub(super) fn reached(&self, synced: &[SyncItem]) -> Option<Reached> {
        let state = self.0.state.borrow();
        let file = state.file.as_ref()?;
        let is_synced = synced.iter().any(|item| item.file.id() == file.id());
        is_synced.then_some(Reached { generation: state.generation, frames: state.written })
    }

    /// What was written up to there is on stable storage.
    pub(super) fn is_durable(&self, to: Reached) {
        let mut state = self.0.state.borrow_mut();
        if state.generation == to.generation {
            state.durable = state.durable.max(to.frames);
        }
    }

    /// Makes void, durably, what the journal holds of a log.
    pub(super) async fn cut(&self, log: LogId) -> io::Result<()> {
        loop {
            let freed = self.0.freed.next();
            match self.0.stage.get() {
                Stage::Ready => {
                    let (done, result) = oneshot();
                    {
                        let mut state = self.0.state.borrow_mut();
                        state.cuts.push_back(Cut { log, done });
                        self.start(&mut state);
                    }
                    match result.await {
                        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Some(result) => return result,
                        None => return Err(io::Error::other("the journal has gone")),
                    }
                }
                // A half is being freed.
                Stage::Full if self.0.state.borrow().frees > 0 => freed.await,
                _ => return Err(io::Error::other("the journal cannot be written")),
            }
        }
    }

    fn start(&self, state: &mut State) {
        if !std::mem::replace(&mut state.task_runs, true) {
            let this = Self(self.0.clone());
            self.0.shard.spawn(async move { this.write_all().await });
        }
    }

    async fn make(&self) {
        let inner = &self.0;
        let made = self.try_make().await;
        let stage = match made {
            Ok(file) => {
                let mut state = inner.state.borrow_mut();
                state.run = inner.shard.io().random();
                state.halves[0].taken = true;
                state.file = Some(file);
                Stage::Ready
            }
            // Without it all goes on, each log by itself.
            Err(_) => Stage::Retired,
        };
        inner.stage.set(stage);
        inner.idle.notify();
    }

    /// Makes its file, of blocks written before and durable under a durable name. One that is there is of a process before, and is
    /// not touched.
    async fn try_make(&self) -> io::Result<File> {
        let Inner { dir, path, .. } = &*self.0;
        let io = self.0.shard.io();
        let file = io.create(*dir, path.clone(), FileMode::Blocks).await?;
        let end = 2 * self.0.limits.half_bytes;
        io.prepare(file.clone(), 0, end, Space::Allocated).await?;
        io.prepare(file.clone(), 0, end, Space::Written).await?;
        io.sync_file(file.clone()).await?;
        io.sync_dir(*dir, self.0.data_dir().into()).await?;
        Ok(file)
    }

    /// Writes frames until nothing is pending.
    async fn write_all(&self) {
        loop {
            self.prove_generation().await;
            if !self.has_room() {
                self.turn_away();
                break;
            }
            let Some(frame) = self.gather() else { break };
            self.write(frame).await;
        }
        self.0.state.borrow_mut().task_runs = false;
        self.0.idle.notify();
    }

    async fn write(&self, frame: Frame) {
        let Frame { file, pos, bytes, logs, cuts } = frame;
        let io = self.0.shard.io();
        let mut result = io.write(file.clone(), pos, bytes.clone()).await.map(drop);
        if result.is_ok() {
            {
                let mut state = self.0.state.borrow_mut();
                state.memory = bytes.try_into_mut().unwrap_or_default();
                state.written = state.number;
            }
            if !cuts.is_empty() {
                result = self.sync(&file).await;
            }
        } else {
            self.0.stage.set(Stage::Retired);
        }
        for Entered { log, bytes, next, truncations } in logs {
            match result {
                Ok(()) => log.has_journaled(&file, bytes, next, truncations),
                Err(_) => log.write_itself(),
            }
        }
        for cut in cuts {
            cut.done.send(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
        if self.0.stage.get() == Stage::Retired {
            self.turn_away();
        }
    }

    /// Makes what is written durable.
    async fn sync(&self, file: &File) -> io::Result<()> {
        let items = vec![SyncItem { file: file.clone(), space: Space::Written }];
        let reached = self.reached(&items).expect("it is its own file");
        self.0.shard.io().sync(items).await?;
        self.is_durable(reached);
        Ok(())
    }

    /// Before the first frame of a generation takes the place of one that says what of it was durable, a frame of the generation between them
    /// has to be: else power that takes that one away, and leaves a part of the new frame, would look like damage. Mostly one is long since.
    async fn prove_generation(&self) {
        let file = {
            let state = self.0.state.borrow();
            let other = 1 - state.half;
            let unproven = state.claims[other] && state.durable == 0 && state.written > 0;
            if self.0.stage.get() != Stage::Ready
                || !unproven
                || state.halves[other].taken
                || self.fits(&state)
            {
                return;
            }
            state.file.clone().expect("a journal that is ready has a file")
        };
        if self.sync(&file).await.is_err() {
            self.0.stage.set(Stage::Retired);
        }
    }

    /// Whether a frame has room in the half that is being written.
    fn fits(&self, state: &State) -> bool {
        let left = (state.half as u64 + 1) * self.0.limits.half_bytes - state.at;
        left >= ROOM_MIN && state.halves[state.half].logs.len() < LOGS_MAX
    }

    /// Whoever waits for the journal goes on without it, or comes again.
    fn turn_away(&self) {
        let (logs, cuts) = {
            let mut state = self.0.state.borrow_mut();
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.cuts))
        };
        logs.iter().for_each(Log::write_itself);
        for cut in cuts {
            cut.done.send(Err(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Sees that there is room for a frame: where one half is full, in the other, if that is free.
    fn has_room(&self) -> bool {
        if self.0.stage.get() != Stage::Ready {
            return false;
        }
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        let half_bytes = self.0.limits.half_bytes;
        let full = state.half;
        if self.fits(state) {
            return true;
        }
        let other = 1 - full;
        if state.halves[other].taken {
            self.0.stage.set(Stage::Full);
            return false;
        }
        state.generation += 1;
        (state.number, state.written, state.durable) = (0, 0, 0);
        state.claims[other] = false;
        state.half = other;
        state.at = other as u64 * half_bytes;
        state.halves[other].taken = true;
        state.frees += 1;
        let this = Self(self.0.clone());
        self.0.shard.spawn(async move { this.free(full).await });
        true
    }

    /// Has the logs with entries in a half take them into their own files, so that its place may be used again.
    async fn free(&self, half: usize) {
        let logs = self.0.state.borrow().halves[half].logs.clone();
        let under_way = Credits::new(FILINGS_AT_ONCE);
        let all_left = Rc::new(Cell::new(true));
        for log in logs {
            #[cfg(ringlog_plant)]
            if plant::is(Plant::ReuseTheJournalEarly) {
                break;
            }
            let permit = under_way.take(1).await;
            let all_left = all_left.clone();
            self.0.shard.spawn(async move {
                if !log.leave_journal().await {
                    all_left.set(false);
                }
                drop(permit);
            });
        }
        let _all = under_way.take(FILINGS_AT_ONCE).await;
        {
            let mut state = self.0.state.borrow_mut();
            state.frees -= 1;
            // What a log that has failed does not have in its file is only here: the half stays as it is until the next start.
            if all_left.get() {
                state.halves[half] = Half::default();
                if self.0.stage.get() == Stage::Full {
                    self.0.stage.set(Stage::Ready);
                }
            }
        }
        self.0.freed.notify();
        self.0.idle.notify();
    }

    /// The next frame: of as many logs as there is room for.
    fn gather(&self) -> Option<Frame> {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        let end = (state.half as u64 + 1) * self.0.limits.half_bytes;
        let room = FRAME_BYTES_MAX.min((end - state.at) as usize);
        let mut bytes = std::mem::take(&mut state.memory);
        bytes.clear();
        if bytes.capacity() < room {
            bytes = aligned(room);
        }
        bytes.put_bytes(0, HEADER_LEN);
        put_durable(&mut bytes, state.durable);
        state.claims[state.half] |= state.durable > 0;
        let cuts: Vec<Cut> = state.cuts.drain(..state.cuts.len().min(CUTS_MAX)).collect();
        for cut in &cuts {
            put_entry(&mut bytes, cut.log, &[]);
        }
        let mut logs = Vec::new();
        while let Some(log) = state.pending.pop_front() {
            match log.put_in_journal(&mut bytes, room, state.generation) {
                Put::Entered { entered, is_first } => {
                    if is_first {
                        state.halves[state.half].logs.push(log);
                    }
                    logs.push(entered);
                }
                Put::Nothing => {}
                Put::NoRoom => {
                    state.pending.push_front(log);
                    break;
                }
            }
        }
        if logs.is_empty() && cuts.is_empty() {
            state.memory = bytes;
            return None;
        }
        let header = FrameHeader { run: state.run, generation: state.generation, number: state.number };
        header.seal(&mut bytes);
        let (file, pos) = (state.file.clone().expect("a journal that is ready has a file"), state.at);
        state.number += 1;
        state.at += bytes.len() as u64;
        Some(Frame { file, pos, bytes: bytes.freeze(), logs, cuts })
    }
}

/// What became of a log's part of a frame.
pub(super) enum Put {
    Entered {
        entered: Entered,
        /// It has no other entry in this half.
        is_first: bool,
    },
    /// It has nothing to write, or writes it itself.
    Nothing,
    NoRoom,
}

/// Adds an entry to a frame.
pub(super) fn put_entry(frame: &mut BytesMut, log: LogId, batches: &[u8]) {
    frame.put_slice(&log.topic);
    frame.put_i32(log.index);
    frame.put_u32(u32::try_from(batches.len()).expect("a frame is far smaller than 4 GiB"));
    frame.put_slice(batches);
}

/// Says in a frame how many of its generation, from the first on, were durable when it was written: as a cut of the log that there is not, which a
/// reader that does not know better passes over.
fn put_durable(frame: &mut BytesMut, frames: u32) {
    put_entry(frame, LogId { topic: NO_TOPIC, index: frames.cast_signed() }, &[]);
}

/// Which of all frames one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHeader {
    run: u64,
    generation: u64,
    number: u32,
}

impl FrameHeader {
    /// Fills in the header at the front of a frame, and zeroes behind its entries up to a whole block.
    fn seal(self, frame: &mut BytesMut) {
        let len = u32::try_from(frame.len()).expect("a frame is far smaller than 4 GiB");
        let mut header = &mut frame[8..HEADER_LEN];
        header.put_u64(self.run);
        header.put_u64(self.generation);
        header.put_u32(self.number);
        header.put_u32(len);
        let crc = crc_fast::crc32_iscsi(&frame[8..]);
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..8].copy_from_slice(&crc.to_be_bytes());
        frame.resize(frame.len().next_multiple_of(BLOCK as usize), 0);
    }

    /// Reads the frame that begins here: its header, and its entries; `None` where none is, or not all of it.
    fn read(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let mut header = bytes.get(..HEADER_LEN)?;
        if header[..4] != MAGIC {
            return None;
        }
        header.advance(4);
        let crc = header.get_u32();
        let this = Self { run: header.get_u64(), generation: header.get_u64(), number: header.get_u32() };
        let len = header.get_u32() as usize;
        let frame = bytes.get(..len).filter(|frame| frame.len() >= HEADER_LEN)?;
        (crc_fast::crc32_iscsi(&frame[8..]) == crc).then(|| (this, bytes.slice(HEADER_LEN..len)))
    }
}

/// What a process has left in its journals, by log.
///
/// Where a frame that was durable cannot be read, what lies behind it is taken all the same, and what of it can be told apart. A log that it
/// had something of is not opened, as if nothing were missing, unless something later is known of it that goes on where its file ends.
#[derive(Debug, Default)]
pub struct Left {
    logs: HashMap<LogId, LeftOf>,
    damage: Vec<Damage>,
}

/// What a process has left of one log.
#[derive(Debug, Clone, Default)]
pub struct LeftOf {
    /// In order.
    batches: Vec<Bytes>,
    hole: Option<Hole>,
}

/// Some of a log's batches lay where a journal is damaged.
#[derive(Debug, Clone)]
struct Hole {
    /// How many of [`LeftOf::batches`] come before them.
    before: usize,
    journal: PathBuf,
    pos: u64,
}

impl LeftOf {
    /// Its batches, and whether they come behind some that are damaged.
    pub(super) fn batches(&self) -> VecDeque<(Bytes, bool)> {
        let before = self.hole.as_ref().map_or(usize::MAX, |hole| hole.before);
        self.batches.iter().enumerate().map(|(index, batches)| (batches.clone(), index >= before)).collect()
    }

    /// Some of it may have lain behind what there is so far.
    fn lacks(&mut self, journal: &Path, pos: u64) {
        let known = self.hole.as_ref().is_some_and(|hole| hole.journal == journal && hole.pos == pos);
        if !known {
            self.hole = Some(Hole { before: self.batches.len(), journal: journal.into(), pos });
        }
    }

    /// The journal that had more of it, and the byte where that is damaged.
    pub(super) fn damage(&self) -> Option<(PathBuf, u64)> {
        self.hole.as_ref().map(|hole| (hole.journal.clone(), hole.pos))
    }
}

impl Left {
    /// Reads all journals of a data directory, whichever shard wrote them.
    pub async fn read(&mut self, io: &Io, dir: DirId, data_dir: &Path) -> io::Result<()> {
        for path in journals(io, dir, data_dir).await? {
            let (file, len) = io.open(dir, path.clone(), FileMode::Cached).await?;
            let bytes = io.read(file.clone(), 0, usize::try_from(len).expect("a length in memory")).await?;
            io.close(file).await?;
            self.add(&path, &bytes);
        }
        Ok(())
    }

    /// Adds what one journal's file holds.
    pub fn add(&mut self, path: &Path, file: &Bytes) {
        let mut seen = HashSet::new();
        let mut unread = None;
        for piece in pieces(file) {
            match piece {
                Piece::Frame(entries) => {
                    for (log, batches) in Entries(entries) {
                        seen.insert(log);
                        if let Some(pos) = unread {
                            self.logs.entry(log).or_default().lacks(path, pos);
                        }
                        self.add_entry(log, batches);
                    }
                }
                Piece::Damaged { pos, entries: Some(entries) } => {
                    self.damaged(path, pos, "a frame that was durable is not what was written");
                    for (log, batches) in entries {
                        if batches.is_empty() || is_whole(&batches) {
                            self.add_entry(log, batches);
                        } else {
                            self.logs.entry(log).or_default().lacks(path, pos);
                        }
                    }
                }
                // Any of the logs in the journal may have been in it.
                Piece::Damaged { pos, entries: None } => {
                    self.damaged(path, pos, "what was durable there cannot be read, nor whose it was");
                    seen.iter().for_each(|log| self.logs.entry(*log).or_default().lacks(path, pos));
                    unread = Some(pos);
                }
            }
        }
    }

    fn add_entry(&mut self, log: LogId, batches: Bytes) {
        if batches.is_empty() {
            self.logs.remove(&log);
        } else {
            self.logs.entry(log).or_default().batches.push(batches);
        }
    }

    fn damaged(&mut self, path: &Path, pos: u64, what: &'static str) {
        self.damage.push(Damage { file: path.into(), pos, what });
    }

    /// What there is of one log.
    pub fn of(&self, log: LogId) -> LeftOf {
        self.logs.get(&log).cloned().unwrap_or_default()
    }

    /// A log has it all in its own files.
    pub fn forget(&mut self, log: LogId) {
        self.logs.remove(&log);
    }

    /// The logs of which there is something, or was.
    pub fn logs(&self) -> impl Iterator<Item = LogId> {
        self.logs.keys().copied()
    }

    /// Where journals are not what was written.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Removes all journals of a data directory, durably: what they hold is in the logs' files, and durable there.
    pub async fn remove(io: &Io, dir: DirId, data_dir: &Path) -> io::Result<()> {
        let journals = journals(io, dir, data_dir).await?;
        if journals.is_empty() {
            return Ok(());
        }
        for path in journals {
            io.unlink(dir, path).await?;
        }
        io.sync_dir(dir, data_dir.into()).await.map(drop)
    }
}

/// The journals of a data directory.
async fn journals(io: &Io, dir: DirId, data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = io.list(dir, data_dir.into()).await?;
    let is_journal = |name: &str| name.strip_prefix(NAME).is_some_and(|shard| shard.parse::<u16>().is_ok());
    let journals = entries.iter().filter(|entry| !entry.is_dir && is_journal(&entry.name));
    Ok(journals.map(|entry| data_dir.join(&entry.name)).collect())
}

/// The entries of a frame, whose checksum holds.
struct Entries(Bytes);

impl Iterator for Entries {
    type Item = (LogId, Bytes);

    fn next(&mut self) -> Option<(LogId, Bytes)> {
        loop {
            let mut header = self.0.get(..ENTRY_LEN)?;
            let mut topic = [0; 16];
            header.copy_to_slice(&mut topic);
            let log = LogId { topic, index: header.get_i32() };
            let len = header.get_u32() as usize;
            if len > self.0.len() - ENTRY_LEN {
                return None;
            }
            self.0.advance(ENTRY_LEN);
            let batches = self.0.split_to(len);
            if topic != NO_TOPIC {
                return Some((log, batches));
            }
        }
    }
}

/// Whether these are batches as they were written.
fn is_whole(batches: &[u8]) -> bool {
    let mut at = 0;
    while at < batches.len() {
        match batch::whole_len(&batches[at..]) {
            Some(len) if batch::verify(&batches[at..at + len]).is_ok() => at += len,
            _ => return false,
        }
    }
    true
}

/// What lies in a journal's file, in order.
enum Piece {
    /// The entries of a frame.
    Frame(Bytes),
    /// A frame, or several, that were durable and cannot be read.
    Damaged {
        /// Where in the file.
        pos: u64,
        /// Its entries, where they can be told apart.
        entries: Option<Vec<(LogId, Bytes)>>,
    },
}

/// A frame that was found.
struct Found {
    header: FrameHeader,
    entries: Bytes,
    /// Where in its half, in whole blocks.
    at: std::ops::Range<usize>,
}

/// Reads a journal's file: of each half what was written last there.
fn pieces(file: &Bytes) -> Vec<Piece> {
    let middle = (file.len() / 2).next_multiple_of(BLOCK as usize).min(file.len());
    let halves = [file.slice(..middle), file.slice(middle..)];
    // The run is known from where a frame of the journal's own always is. Elsewhere might lie what a producer has made up to look like one.
    let runs: Vec<u64> = halves.iter().filter_map(run_of).collect();
    let found = halves.each_ref().map(|half| frames(half, &runs));
    let newest = found.iter().flatten().map(|frame| frame.header.generation).max();
    let mut sorted: Vec<_> = halves.into_iter().zip(found).zip([0, middle]).collect();
    sorted.sort_by_key(|((_, found), _)| found.first().map(|frame| frame.header.generation));
    let mut pieces = Vec::new();
    for ((half, found), pos) in sorted {
        // A former generation is being freed, or is free, and then a frame of the next but one may have been about to take its place.
        let durable = match found.iter().any(|frame| Some(frame.header.generation) == newest) {
            true => {
                found.iter().filter(|frame| Some(frame.header.generation) == newest).map(Found::durable).max()
            }
            false => None,
        };
        let generation = match durable {
            Some(_) => newest,
            None => found.first().filter(|first| first.at.start == 0).map(|first| first.header.generation),
        };
        let of_generation = found.iter().filter(|frame| Some(frame.header.generation) == generation);
        add_pieces(&mut pieces, &half, pos as u64, of_generation, durable.unwrap_or(0));
    }
    pieces
}

/// Adds the frames of one half, of which so many are known to have been durable.
fn add_pieces<'a>(
    pieces: &mut Vec<Piece>,
    half: &Bytes,
    pos: u64,
    found: impl Iterator<Item = &'a Found>,
    durable: u32,
) {
    let (mut next, mut at) = (0, 0);
    for frame in found {
        let number = frame.header.number;
        if number != next {
            if number < next || next >= durable {
                return;
            }
            let is_one = number == next + 1;
            let entries = is_one.then(|| damaged_entries(half.slice(at..frame.at.start))).flatten();
            pieces.push(Piece::Damaged { pos: pos + at as u64, entries });
            if number > durable {
                // The others that are not here were lost with the power.
                return;
            }
        }
        pieces.push(Piece::Frame(frame.entries.clone()));
        (next, at) = (number + 1, frame.at.end);
    }
}

/// The run that the first frame of a half is of.
fn run_of(half: &Bytes) -> Option<u64> {
    let header = half.get(..HEADER_LEN).filter(|header| header[..4] == MAGIC)?;
    header[8..].first_chunk().map(|run| u64::from_be_bytes(*run))
}

/// All frames of these runs in a half, and between them whatever is none.
fn frames(half: &Bytes, runs: &[u64]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut pos = 0;
    while pos < half.len() {
        let frame = FrameHeader::read(&half.slice(pos..)).filter(|(header, _)| runs.contains(&header.run));
        let Some((header, entries)) = frame else {
            pos += BLOCK as usize;
            continue;
        };
        let end = (pos + HEADER_LEN + entries.len()).next_multiple_of(BLOCK as usize).min(half.len());
        found.push(Found { header, entries, at: pos..end });
        pos = end;
    }
    found
}

impl Found {
    /// How many frames of its generation it says were durable.
    fn durable(&self) -> u32 {
        let Some(first) = self.entries.first_chunk::<ENTRY_LEN>() else { return 0 };
        let (topic, mut rest) = first.split_at(16);
        let frames = rest.get_u32();
        let says_so = topic == NO_TOPIC && rest.get_u32() == 0;
        // It says nothing of itself and of what comes after it.
        if says_so { frames.min(self.header.number) } else { 0 }
    }
}

/// The entries of a frame whose checksum fails, if the damage is in batches: then all follow each other up to the zeroes, and some batch is not what
/// was written. Else it may be in what tells whose they are.
fn damaged_entries(mut frame: Bytes) -> Option<Vec<(LogId, Bytes)>> {
    if frame.len() < HEADER_LEN {
        return None;
    }
    frame.advance(HEADER_LEN);
    let mut entries = Vec::new();
    let mut rest = Entries(frame);
    loop {
        if rest.0.iter().all(|byte| *byte == 0) {
            let some_are_damaged = entries.iter().any(|(_, batches): &(LogId, Bytes)| !is_whole(batches));
            return some_are_damaged.then_some(entries);
        }
        entries.push(rest.next()?);
    }
}

/// What a journal's file is called, before the number of its shard.
const NAME: &str = "ringlog-journal-";

const MAGIC: [u8; 4] = *b"RJL1";

/// Magic, CRC-32C of what follows, run, generation, number, and how long the frame is with this header and without its zeroes.
const HEADER_LEN: usize = 32;

/// No topic has it.
const NO_TOPIC: [u8; 16] = [0; 16];

/// Topic id, partition index, length.
pub(super) const ENTRY_LEN: usize = 24;

/// The most one frame holds: a larger write costs no less for each byte.
const FRAME_BYTES_MAX: usize = 256 << 10;

/// The most of one log that goes into a frame. More is worth a write of its own.
pub(super) const ENTRY_BYTES_MAX: usize = 16 << 10;

/// As much as a frame with one entry may take.
const ROOM_MIN: u64 = JournalLimits::HALF_BYTES_MIN;

/// Cuts in one frame: they leave room for an entry.
const CUTS_MAX: usize = 64;

/// Logs with entries in one half: each of them holds a block of memory, and gets a write of its own when the half is freed.
const LOGS_MAX: usize = 2048;

/// Logs that take their entries into their files at the same time.
const FILINGS_AT_ONCE: usize = 32;

const _: () =
    assert!(HEADER_LEN + 2 * ENTRY_LEN + ENTRY_BYTES_MAX + CUTS_MAX * ENTRY_LEN <= ROOM_MIN as usize);
