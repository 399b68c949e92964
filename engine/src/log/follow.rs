//! Following: how one log comes to hold what its leader's holds, by questions and answers that somebody else carries.
//!
//! ```text
//!   follower                                            leader
//!   ask   leader epoch, log end, epoch of the last      refusal  where the two histories part, or what there is at all;
//!         record, log start                        ──▶           else its caller reads batches from that log end on
//!   take  truncate to where they part, or append,  ◀──  answer   the batches, the high watermark, the log start
//!         then carry the high watermark on
//! ```
//!
//! It is Kafka's Fetch between brokers (KIP-101, KIP-279, and KIP-595's diverging epoch), and fits into its bytes. Histories
//! are compared by leader epochs alone: one epoch has one leader, so logs that agree on the epoch of the record before
//! an offset agree on everything below it. Never by the high watermark, which a follower learns too late.
//!
//! **An ask is an acknowledgement.** It names the log end only once everything below is held as the log's durability wants it
//! (durable, or written), so a leader may count what is asked for as replicated, and needs no other message.
//!
//! What the caller sees to: one [`Follower`] at a time per log, of one leader epoch; [`Follower::take`] runs to its end before the
//! log gets another role. A leader answers for its own epoch alone, and looks again whether it still leads after it has read,
//! before it sends; and it counts an ask that it did not refuse, no other.

use super::{AppendError, Durability, EpochEnd, Log, LogFailed, Offset, TruncateError};
use crate::batch::{self, Header};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use bytes::Bytes;
use std::fmt;

/// What a follower asks its leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its leader's epoch, as it knows it: a leader of another one does not answer.
    pub leader_epoch: i32,
    /// Where its log ends. Everything below is held.
    pub fetch_offset: Offset,
    /// The newest epoch in its log; `None` in a log without records.
    pub last_fetched_epoch: Option<i32>,
    /// Where its log starts: a deletion of records is over when all replicas have come so far.
    pub log_start: Offset,
    /// Which of the follower's questions it is.
    number: u64,
}

/// What the leader answers. Answers that say no more than "not now" (not the leader, another epoch) do not come here.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The two logs agree up to the offset asked for.
    Records {
        /// Whole batches from there on, as many as the leader cares to send; perhaps none.
        batches: Bytes,
        /// The leader's high watermark. It may lie past the follower's log end.
        high_watermark: Offset,
        /// Where the leader's log starts.
        log_start: Offset,
    },
    /// They do not: the leader's largest epoch not above the follower's newest, and where that ends.
    Diverging(EpochEnd),
    /// The leader's log does not have that offset.
    OutOfRange {
        /// Where the leader's log starts.
        log_start: Offset,
        /// Where it ends.
        log_end: Offset,
    },
}

/// What has come of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was no answer to the last question, and changed nothing.
    Nothing,
    /// The log goes on to here.
    Appended(Offset),
    /// The log ends here now. Below the high watermark of before, something committed was lost: only an unclean
    /// election does that.
    Truncated(Offset),
}

/// Why a follower cannot go on. What the leader sent wrong it may send right when asked again.
#[derive(Debug)]
pub enum FollowError {
    /// The log does not take what came.
    Append(AppendError),
    /// The log could not be cut.
    Truncate(TruncateError),
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(error) => error.fmt(f),
            Self::Truncate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FollowError {}

impl From<AppendError> for FollowError {
    fn from(error: AppendError) -> Self {
        Self::Append(error)
    }
}

impl From<TruncateError> for FollowError {
    fn from(error: TruncateError) -> Self {
        Self::Truncate(error)
    }
}

/// A log that follows the leader of one epoch.
pub struct Follower {
    log: Log,
    leader_epoch: i32,
    high_watermark: Offset,
    /// The leader's high watermark, as last heard: it may lie past what is held here.
    leaders_high_watermark: Offset,
    /// The question whose answer is awaited.
    asked: u64,
}

impl Follower {
    /// Follows the leader of this epoch. The high watermark is what was known before; the log start, if nothing was.
    pub fn new(log: Log, leader_epoch: i32, high_watermark: Offset) -> Self {
        let mut follower =
            Self { log, leader_epoch, high_watermark, leaders_high_watermark: high_watermark, asked: 0 };
        follower.keep_high_watermark_in_log();
        follower
    }

    /// Everything below is committed, and held here. Where the log is not cut below it, it only moves on.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The next question, as soon as all that the log has is held.
    pub async fn ask(&mut self) -> Result<Ask, LogFailed> {
        let fetch_offset = self.log.marks().log_end;
        self.hold(fetch_offset).await?;
        self.carry_high_watermark();
        self.asked += 1;
        Ok(Ask {
            leader_epoch: self.leader_epoch,
            fetch_offset,
            last_fetched_epoch: self.last_fetched_epoch(),
            log_start: self.log.marks().log_start,
            number: self.asked,
        })
    }

    async fn hold(&self, offset: Offset) -> Result<(), LogFailed> {
        #[cfg(ringlog_plant)]
        if plant::is(Plant::AskBeforeItIsHeld) {
            return Ok(());
        }
        match self.log.config().durability {
            Durability::Fsync => self.log.wait_durable(offset).await,
            Durability::Replicated => self.log.wait_written(offset).await,
        }
    }

    fn last_fetched_epoch(&self) -> Option<i32> {
        #[cfg(ringlog_plant)]
        if plant::is(Plant::SkipTheTruncation) {
            return None;
        }
        self.log.latest_epoch()
    }

    /// Does what the answer to the last question asks for. Any other answer, and one that comes twice, is left alone: the log may
    /// have been cut since, and come to the same end again.
    pub async fn take(&mut self, ask: &Ask, answer: Answer) -> Result<Taken, FollowError> {
        let awaited = ask.number == self.asked && ask.leader_epoch == self.leader_epoch;
        #[cfg(ringlog_plant)]
        let awaited =
            awaited || plant::is(Plant::TakeAnAnswerTwice) && ask.fetch_offset == self.log.marks().log_end;
        if !awaited {
            return Ok(Taken::Nothing);
        }
        self.asked += 1;
        match answer {
            Answer::Records { batches, high_watermark, log_start } => {
                self.append(&batches, log_start).await?;
                self.leaders_high_watermark = high_watermark;
                self.carry_high_watermark();
                self.delete_before(log_start).await?;
                Ok(Taken::Appended(self.log.marks().log_end))
            }
            Answer::Diverging(leader) => {
                self.truncate_to_epoch(leader).await?;
                self.keep_high_watermark_in_log();
                Ok(Taken::Truncated(self.log.marks().log_end))
            }
            Answer::OutOfRange { log_start, log_end } => {
                self.move_into(log_start, log_end).await?;
                self.keep_high_watermark_in_log();
                Ok(Taken::Truncated(self.log.marks().log_end))
            }
        }
    }

    async fn append(&self, batches: &Bytes, leaders_log_start: Offset) -> Result<(), FollowError> {
        let mut rest = batches.clone();
        while batch::whole_len(&rest).is_some() {
            match self.log.append_as_follower(&rest, self.leader_epoch) {
                Ok(_) => break,
                Err(AppendError::Busy) => self.log.room().await,
                Err(AppendError::OutOfOrderOffset { expected }) => {
                    let all_is_older = leaders_log_start >= expected;
                    let first = self.begin_with_a_batch_around(expected, all_is_older, &rest).await?;
                    rest = rest.slice(first..);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The leader's log starts within a batch, which it sends whole: a log that is empty, or has only what is older than the leader's,
    /// begins with that batch, a little before where it was to begin or go on. (Kafka's `Partition.appendRecordsToFollowerOrFutureReplica`
    /// does so for the empty one.) Returns the batch's length.
    async fn begin_with_a_batch_around(
        &self,
        start: Offset,
        all_is_older: bool,
        batches: &Bytes,
    ) -> Result<usize, FollowError> {
        let marks = self.log.marks();
        let around = |first: &Header| first.base_offset < start && first.last_offset() >= start;
        let first = Header::parse(batches).ok().filter(around);
        let Some(first) = first.filter(|_| all_is_older || marks.log_start == marks.log_end) else {
            return Err(AppendError::OutOfOrderOffset { expected: start }.into());
        };
        let len = first.total_len();
        self.log.truncate_fully_and_start_at(first.base_offset).await?;
        self.log.append_as_follower(&batches.slice(..len), self.leader_epoch)?;
        // The log start moves back to where it was, which is held before anybody looks: no high watermark goes back.
        self.log.delete_before(start).await?;
        Ok(len)
    }

    /// The leader knows more to be committed than is held here.
    fn carry_high_watermark(&mut self) {
        let marks = self.log.marks();
        let held = match self.log.config().durability {
            Durability::Fsync => marks.durable,
            Durability::Replicated => marks.written,
        };
        #[cfg(ringlog_plant)]
        let held = if plant::is(Plant::CarryTheHighWatermarkPastTheEnd) {
            self.leaders_high_watermark
        } else {
            held
        };
        // What is deleted was committed.
        let known = self.leaders_high_watermark.min(held).max(marks.log_start);
        self.high_watermark = self.high_watermark.max(known);
    }

    /// The leader's records up to here are deleted; these too, as far as it is certain that they are the same.
    async fn delete_before(&self, log_start: Offset) -> Result<(), TruncateError> {
        self.log.delete_before(log_start.min(self.high_watermark)).await.map(drop)
    }

    async fn truncate_to_epoch(&self, leader: EpochEnd) -> Result<(), TruncateError> {
        #[cfg(ringlog_plant)]
        if plant::is(Plant::TruncateToTheHighWatermark) {
            return self.log.truncate_to(self.high_watermark).await.map(drop);
        }
        self.log.truncate_to_epoch(leader).await.map(drop)
    }

    /// The offset asked for lies outside of the leader's log (Kafka's `fetchOffsetAndTruncate`).
    async fn move_into(&self, log_start: Offset, log_end: Offset) -> Result<(), TruncateError> {
        let own_end = self.log.marks().log_end;
        if own_end < log_start {
            // The leader has deleted what would come next: all that is here is older.
            self.log.truncate_fully_and_start_at(log_start).await
        } else {
            // The leader was elected though it lacks records, and has none of an epoch that would say so.
            self.log.truncate_to(log_end.min(own_end)).await.map(drop)
        }
    }

    fn keep_high_watermark_in_log(&mut self) {
        let marks = self.log.marks();
        self.high_watermark = self.high_watermark.clamp(marks.log_start, marks.log_end);
        self.leaders_high_watermark = self.high_watermark;
    }
}

/// The leader's side: what it answers where no records are to be read. `None`: the two logs agree up to the offset asked for, which
/// the follower thereby has acknowledged, and batches may be read from there up to the log end.
pub fn refusal(log: &Log, ask: &Ask) -> Option<Answer> {
    let marks = log.marks();
    let out_of_range = Answer::OutOfRange { log_start: marks.log_start, log_end: marks.log_end };
    if ask.fetch_offset < marks.log_start {
        return Some(out_of_range);
    }
    #[cfg(ringlog_plant)]
    if plant::is(Plant::AnswerWhereHistoriesPart) && ask.fetch_offset <= marks.log_end {
        return None;
    }
    if let Some(epoch) = ask.last_fetched_epoch {
        if log.latest_epoch().is_none_or(|latest| latest < epoch) {
            return Some(out_of_range);
        }
        // Epochs from before the first record ended where it begins (Kafka's `LeaderEpochFileCache.endOffsetFor`).
        let end = log.epoch_end(epoch).unwrap_or(EpochEnd { epoch, end_offset: marks.log_start });
        if end.epoch < epoch || end.end_offset < ask.fetch_offset {
            return Some(Answer::Diverging(end));
        }
    }
    (ask.fetch_offset > marks.log_end).then_some(out_of_range)
}
