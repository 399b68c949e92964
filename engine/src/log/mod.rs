//! One partition's log on this broker: segments, their tail buffer, the marks, and the tasks that move them.
//!
//! A [`Log`] belongs to one shard and is `!Send`. Appending never waits: batches are placed in the tail buffer, and
//! two tasks of the log do the rest.
//!
//! ```text
//!   append ──▶ tail buffer ──▶ writer: one write at a time ──▶ written ──▶ syncer: shared sync ──▶ durable
//!   log_end                    (blocks, space prepared ahead)
//! ```
//!
//! - The *writer* takes everything placed so far as one write of whole 4 KiB blocks. It exists while there is
//!   something to write. At most one write of a log is in flight, so no older copy of its last block can land
//!   over a newer one.
//! - What is little goes to the shard's *journal* instead, if it has one, in one write with that of other logs, and to the log's file
//!   later ([`journal`]): `written` and `durable` may then pass what the file holds.
//! - A log to which nothing comes for a while *rests*, without a tail buffer ([`resting`]): so is each when it has been opened.
//! - The *syncer* exists while somebody waits for the durable mark. A sync covers what was written when it was submitted;
//!   writes go on meanwhile, for the next one.
//!
//! What it costs, per batch of 16 KiB (sketch, before measuring): one CRC pass over 16 KiB (about 0.3 us with folding),
//! one copy of 16 KiB into the tail buffer (1 us), a lookup of the producer, at most two index entries. Per *write*, shared by
//! all batches that came since the last: one arena of its size, up to 4,095 bytes of the last block copied, one ring
//! operation, one task started and woken once. Per *sync*: the same again, and a sync operation shared by all logs of
//! the device. Nothing is allocated per record, and a log at rest has no task, no timer and no arena.
//!
//! Files are as Kafka keeps them: `<base offset>.log`, `.index`, `.timeindex`, `<offset>.snapshot`, `leader-epoch-checkpoint`;
//! and ringlog's own checkpoint, which bounds recovery.

mod append;
mod arenas;
mod cache;
mod checkpoint;
mod cleaning;
mod close;
mod config;
mod debt;
mod demand;
mod epochs;
mod error;
mod files;
mod follow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod journal;
mod journaling;
mod large_writes;
mod locating;
mod lures;
mod marks;
mod notices;
mod offset_index;
mod producers;
mod read;
mod recovery;
mod resting;
mod retention;
mod scan;
mod sealing;
mod segment;
mod segments;
mod seldom;
mod space;
mod survey;
mod tail;
mod time;
mod time_index;
mod transactions;
mod truncate;
mod verifying;
mod waiting;
mod writer;

pub use append::{Appended, LeaderAppend, Origin};
pub use cache::Cache;
pub use cleaning::{CleanError, Cleaned, CleanerLimits, Dirtiness};
pub use close::{Closing, is_removed, remove_directory, remove_partition};
pub use config::{Durability, LogConfig, TimestampType};
pub use epochs::EpochEnd;
pub use error::{AppendError, LogFailed, OpenError, ReadError};
pub use follow::{Answer, Ask, FollowError, Follower, Taken, refusal};
pub use journal::{Journal, JournalLimits, Left, LeftOf, LogId};
pub use marks::Marks;
pub use notices::{Damage, Notice};
pub use producers::KnownProducer;
pub use read::{ReadLimit, ReadPart, ReadParts};
pub use recovery::{Journaled, Recovered};
pub use survey::{Survey, SurveyError, forget_checkpoint, survey, take_over};
pub use time::TimedOffset;
pub use transactions::AbortedTransaction;
pub use truncate::TruncateError;

use crate::io::{DirId, File, Space};
use crate::shard::Shard;
use crate::shard::sync::{Credits, Event, Turns};
use cache::Chunks;
use checkpoint::OnDisk;
use cleaning::Cleaning;
use epochs::Epochs;
use journal::WeakJournal;
use marks::Waiters;
use notices::Notices;
use producers::Producers;
use retention::PutAways;
use segment::Segment;
use segments::Segments;
use seldom::Seldom;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use tail::Tail;

/// A record's place in its partition, from 0.
pub type Offset = i64;

/// Where a log's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// The data directory.
    pub dir: DirId,
    /// The partition's own directory in it.
    pub path: PathBuf,
}

/// One partition's log: a handle, cheap to clone on its shard.
#[derive(Clone)]
pub struct Log(Rc<Inner>);

struct Inner {
    shard: Shard,
    place: LogDir,
    cache: Cache,
    chunks: Chunks,
    /// Happens when a mark has moved, and when the log has failed.
    moved: Event,
    /// What is called then: see [`Log::on_move`].
    follower: OnceCell<Box<dyn Fn()>>,
    /// Happens when a step of space has been prepared, or could not be.
    prepared: Event,
    /// Held while the log is truncated or its start moves.
    changes: Turns,
    /// Held while a checkpoint is being written.
    checkpointing: Turns,
    /// Held while segments are put away, and while cleaned ones take their place.
    removing: Turns,
    /// One is held by who reads files, all of them while segments are replaced.
    reading: Credits,
    notices: Notices,
    journal: Option<(WeakJournal, LogId)>,
    /// Never borrowed across an await.
    state: RefCell<State>,
}

struct State {
    config: Rc<LogConfig>,
    marks: Marks,
    /// By base offset; the last one is the active one. Never empty.
    segments: Segments,
    /// Of the segments not yet wholly written, in order; the last is the active one's. None while the log is at rest.
    tails: VecDeque<Tail>,
    /// Of what the last, partly filled block held when the log went to rest.
    partial_crc: u32,
    /// It is among those that are looked at, to see whether they may rest.
    is_awake: bool,
    producers: Producers,
    epochs: Epochs,
    /// Transactions that were aborted before the log was taken over from Apache Kafka, in the order of their markers.
    aborted: Box<[AbortedTransaction]>,
    /// The producers as they were where a segment begins, until that is on disk.
    snapshots: Seldom<BTreeMap<Offset, Producers>>,
    /// Files of removed segments, renamed, and when they are to go.
    put_away: Seldom<PutAways>,
    waiters: Waiters,
    /// Somebody wants the durable mark here.
    durable_wanted: Offset,
    /// Everything below is written in the log's own files; what is not lies in the journal, or is not written yet.
    filed: Offset,
    /// Everything below is on stable storage in the log's own files.
    filed_durable: Offset,
    /// Somebody wants that here.
    filed_wanted: Offset,
    /// Where the durable mark will be when the sync under way has ended.
    durable_soon: Offset,
    /// Which generation of the journal the log was last in.
    journaled_in: Option<u64>,
    /// The journal's next frame will look here.
    enlisted: bool,
    /// Files written since their last sync was submitted, and whether each must be synced by itself.
    dirty: Vec<(File, Space)>,
    writer_runs: bool,
    syncer_runs: bool,
    background_sync_is_due: bool,
    /// Bytes of the write in flight.
    in_flight: usize,
    failed: Option<Box<LogFailed>>,
    cleaning: Seldom<Cleaning>,
    /// The disk was full when space was last asked for.
    no_space: bool,
    /// The log is being truncated, cleared or closed: appends must come again.
    changing: bool,
    /// The log is being closed: what waits for space gives up.
    closing: bool,
    /// How often offsets have been taken back, so that who waits for one of them is told.
    truncations: u64,
    /// The lowest offset that was ever taken back.
    cut_from: Offset,
    /// Segments that have been left and are not sealed yet, in order.
    to_seal: Seldom<VecDeque<Offset>>,
    sealer_runs: bool,
    gaps: Gaps,
    /// What the leader epochs' own file holds.
    epochs_on_disk: Option<Box<[u8]>>,
    /// Where the last checkpoint lets recovery begin.
    checkpointed: Offset,
    /// The segment in which it does: of the checkpoint that is certainly durable.
    recovers_from: Offset,
    /// What its file holds, where more can be added to it.
    checkpoint_on_disk: Option<OnDisk>,
    /// Bytes written since the last checkpoint.
    bytes_since_checkpoint: u64,
    checkpoint_runs: bool,
    /// Bytes written per sync, on a sliding average: small ones pay for space that is written before.
    bytes_per_sync: u64,
    bytes_since_sync: u64,
}

/// Reads of one log that are under way together: no less than there may be.
const READERS_MAX: usize = usize::MAX >> 1;

/// Whether a log's offsets may have gaps: where they may not, recovery takes a gap for damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// They have none.
    None,
    /// The first lies in the tail buffer; before it is written, its mark must be on disk.
    Unmarked,
    /// A file says so.
    Marked,
}

/// What a log takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of batches.
    pub valid_bytes: u64,
    /// Bytes of space prepared for batches to come.
    pub prepared_bytes: u64,
    /// Segments.
    pub segments: usize,
}

impl Log {
    /// The idempotent producers it knows, by their ids.
    pub fn producers(&self) -> Vec<KnownProducer> {
        self.0.state.borrow().producers.known()
    }

    /// How far the log has come.
    pub fn marks(&self) -> Marks {
        self.0.state.borrow().marks
    }

    /// The next time a mark moves, or the log fails.
    pub fn moved(&self) -> impl Future<Output = ()> + use<> {
        self.0.moved.next()
    }

    /// Why the log is offline, if it is.
    pub fn failed(&self) -> Option<LogFailed> {
        self.0.state.borrow().failed.as_deref().cloned()
    }

    /// Its settings.
    pub fn config(&self) -> LogConfig {
        LogConfig::clone(&self.0.state.borrow().config)
    }

    /// Changes its settings, from the next append on.
    pub fn configure(&self, config: LogConfig) {
        self.0.state.borrow_mut().config = self.0.cache.configs().share(config);
    }

    /// The shard it belongs to.
    pub fn shard(&self) -> &Shard {
        &self.0.shard
    }

    /// Where its files are.
    pub fn place_on_disk(&self) -> &LogDir {
        &self.0.place
    }

    /// A leader of this epoch begins to append: the epoch starts at the log end, even before its first batch.
    pub fn begin_epoch(&self, epoch: i32) {
        let mut state = self.0.state.borrow_mut();
        let end = state.marks.log_end;
        state.epochs.assign(epoch, end);
    }

    /// The newest leader epoch the log knows.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.0.state.borrow().epochs.latest()
    }

    /// Where a leader epoch ended (Kafka's `endOffsetFor`): the largest epoch not above the one asked for, and the offset
    /// after its last record. `None` if the log does not know.
    pub fn epoch_end(&self, epoch: i32) -> Option<EpochEnd> {
        let state = self.0.state.borrow();
        state.epochs.end_offset_for(epoch, state.marks.log_end)
    }

    /// What it takes on disk.
    pub fn sizes(&self) -> Sizes {
        let state = self.0.state.borrow();
        let valid_bytes = state.segments.values().map(|segment| segment.size).sum();
        let prepared =
            state.segments.values().map(|segment| segment.prepared.to().saturating_sub(segment.size));
        let prepared_bytes = prepared.sum();
        Sizes { valid_bytes, prepared_bytes, segments: state.segments.len() }
    }
}

impl State {
    fn active(&self) -> &Segment {
        self.segments.last_key_value().expect("a log has a segment").1
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has a segment")
    }

    /// Bytes placed and not yet written.
    fn unwritten_bytes(&self) -> usize {
        self.in_flight + self.tails.iter().map(Tail::waiting_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
