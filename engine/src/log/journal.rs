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

mod frame;
mod left;

pub use left::{Left, LeftOf};

pub(super) use frame::{ENTRY_LEN, put_entry};

use super::{Log, Offset};
use crate::io::buf::aligned;
use crate::io::{DirId, File, FileMode, Space, SyncItem};
use crate::limits::BLOCK;
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use crate::shard::Shard;
use crate::shard::sync::{Credits, Event, Sender, oneshot};
use bytes::{BufMut, Bytes, BytesMut};
use frame::{FrameHeader, HEADER_LEN, put_durable};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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

/// What a journal's file is called, before the number of its shard.
const NAME: &str = "ringlog-journal-";

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
