//! Planted bugs: wrong turns that only a build with `--cfg ringlog_plant` can take, to show that the simulator finds them.
//!
//! One is chosen for the thread that runs the simulator, or for a whole process by its name in `RINGLOG_PLANT`. Neither the
//! product nor any other build contains a trace of this.

use std::cell::Cell;
use std::sync::LazyLock;

/// What `RINGLOG_PLANT` says.
static NAMED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("RINGLOG_PLANT").ok());

thread_local! {
    static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
}

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The written mark moves when a write begins.
    AcknowledgeBeforeTheWriteCompletes,
    /// The durable mark moves without a sync.
    SkipTheSync,
    /// A sync names the oldest open segment, whichever was written.
    SyncTheWrongFile,
    /// A new segment's name is not synced.
    SkipTheDirectorySync,
    /// Recovery leaves what lies past the last whole batch.
    LeaveTheOldTail,
    /// Space that recovery has zeroed in place is taken for space that was written.
    TakeZeroedSpaceForWritten,
    /// The writer does not wait for its last write before it begins the next, which begins with the same block.
    TwoWritesInFlightOnOneBlock,
    /// A duplicate of a batch in flight is acknowledged at once.
    AnswerADuplicateEarly,
    /// Sealing a segment sums up the log as it is, not as far as it is durable.
    CheckpointPastTheDurableMark,
    /// A failed sync is tried again, and its success taken for one of what the first should have covered.
    RetryAFailedSync,
    /// A reply that is ready leaves before those that were asked for earlier.
    RepliesOutOfOrder,
    /// With durability=fsync, consumers see what is written.
    HighWatermarkPastDurable,
    /// Recovery goes by what it found without syncing it.
    BuildOnWhatWasNotSynced,
    /// A log that has rested writes its last block again without having read what it held.
    WakeWithoutReadingBack,
    /// Recovery does not learn the producers of the batches it scans.
    ForgetTheProducers,
    /// Changes of the metadata are answered before they are synced.
    SkipTheMetadataSync,
    /// A new topic takes over the folder that another topic of its name has left.
    TakeOverAnotherTopicsFolder,
    /// acks=all with durability=fsync waits for the write alone.
    AcknowledgeAllWhenWritten,
    /// Commits of offsets are acknowledged when they lie in the log, before they are durable.
    AcknowledgeCommitsEarly,
    /// A follower names its log end as held before it is.
    AskBeforeItIsHeld,
    /// A follower does not say which epoch its last record has, so that nobody tells it to truncate.
    SkipTheTruncation,
    /// A follower that is told where histories part cuts its log at its high watermark.
    TruncateToTheHighWatermark,
    /// A follower takes the leader's high watermark for its own, whatever it has.
    CarryTheHighWatermarkPastTheEnd,
    /// A follower takes an answer to an earlier question.
    TakeAnAnswerTwice,
    /// A leader sends records without comparing histories.
    AnswerWhereHistoriesPart,
    /// A log that was truncated still knows the producers' batches that went.
    KeepTheProducersOfWhatIsCut,
    /// A truncation leaves an epoch that has begun at the log's end and has no records.
    KeepAnEpochWithoutRecords,
    /// An epoch whose first batch comes after a gap is taken to begin with that batch.
    BeginAnEpochAfterAGap,
    /// Recovery of a log whose offsets may have gaps takes what is missing between two segments for one.
    TakeAnyGapForOneOfTheLeaders,
    /// A deletion of records removes segments at which recovery would begin.
    RemoveWhereRecoveryBegins,
    /// A cleaned segment takes the place of others before its name is durable.
    SkipTheSyncOfASwap,
    /// A log that is emptied is said to be in order before its directory is synced.
    ClearWithoutSyncingTheDirectory,
    /// A half of the journal is written again before all logs have what is in it.
    ReuseTheJournalEarly,
    /// A log is opened without what the journal has of it.
    SkipTheReplay,
    /// A truncation does not make void what the journal has of the log.
    ReplayOverATruncation,
    /// What could be joined to a new header is left in a file that is recycled.
    LeaveTheLures,
    /// A checkpoint says that the log's file has what only the journal has.
    CheckpointPastTheFile,
}

/// Chooses the bug of this thread; `None`: the code is as it should be.
pub fn plant(bug: Option<Plant>) {
    PLANTED.set(bug);
}

/// Whether this thread, or the process, has this bug.
pub fn is(bug: Plant) -> bool {
    PLANTED.get() == Some(bug) || NAMED.as_ref().is_some_and(|name| *name == format!("{bug:?}"))
}
