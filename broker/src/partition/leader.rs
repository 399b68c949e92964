//! The leader's side: appends of clients, and what follows from the log's marks.

use super::acks::{Acked, Mark};
use super::{Acks, Partition, State};
use crate::calls::Acknowledged;
use bytes::Bytes;
use ringlog_engine::batch;
use ringlog_engine::io::Instant;
use ringlog_engine::log::{AppendError, LeaderAppend, LogFailed, Origin};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use ringlog_engine::records;
use ringlog_engine::shard::sync::{Receiver, Sender, oneshot};
use ringlog_wire::ErrorCode;
use std::collections::VecDeque;

/// A client's append on its way: in the log, or in line for it, or refused.
pub struct Appending(Stage);

enum Stage {
    Placed(Placed, Partition),
    InLine(Receiver<Result<Placed, AppendRefusal>>, Partition),
    Refused(AppendRefusal),
}

/// A batch in the log, and what its acknowledgement waits for.
struct Placed {
    acknowledged: Acknowledged,
    ack: Option<Receiver<Acked>>,
}

/// Why an append is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRefusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What the producer's user should know.
    pub message: Option<String>,
    /// The records at fault, by their places in the batch, and what is wrong with each of them.
    pub records: Option<(Vec<i32>, String)>,
}

/// Appends that came while too much was waiting to be written: they stand in line while there is a task that works through it.
#[derive(Default)]
pub(super) struct Backlog(Option<Box<Line>>);

/// In the order in which they came.
#[derive(Default)]
struct Line(VecDeque<InLine>);

struct InLine {
    records: Bytes,
    acks: Acks,
    deadline: Instant,
    done: Sender<Result<Placed, AppendRefusal>>,
}

impl AppendRefusal {
    /// A refusal whose code says it all.
    pub fn code(code: ErrorCode) -> Self {
        Self { code, message: None, records: None }
    }

    fn text(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), records: None }
    }
}

impl Appending {
    /// An append that is refused.
    pub fn refused(code: ErrorCode) -> Self {
        Self(Stage::Refused(AppendRefusal::code(code)))
    }

    /// Waits until it may be acknowledged.
    pub async fn acknowledged(self) -> Result<Acknowledged, AppendRefusal> {
        let (placed, partition) = match self.0 {
            Stage::Placed(placed, partition) => (placed, partition),
            Stage::Refused(refusal) => return Err(refusal),
            Stage::InLine(placed, partition) => match placed.await {
                Some(placed) => (placed?, partition),
                None => return Err(AppendRefusal::code(partition.lost())),
            },
        };
        let Some(ack) = placed.ack else { return Ok(placed.acknowledged) };
        match ack.await {
            Some(Acked::Reached) => Ok(placed.acknowledged),
            Some(Acked::TimedOut) => Err(AppendRefusal::code(ErrorCode::RequestTimedOut)),
            Some(Acked::Failed) | None => Err(AppendRefusal::code(partition.lost())),
        }
    }
}

impl Backlog {
    /// Those whose time is up are not appended any more, and told so.
    fn expire(&mut self, now: Instant) {
        // A line is in the order of arrival, and nearly so in that of its deadlines: who is behind one with more time waits a little longer.
        let Some(Line(line)) = self.0.as_deref_mut() else { return };
        while let Some(InLine { done, .. }) = line.pop_front_if(|first| first.deadline <= now) {
            done.send(Err(AppendRefusal::code(ErrorCode::RequestTimedOut)));
        }
    }

    /// Those in line learn that it has gone.
    pub(super) fn clear(&mut self) {
        if let Some(Line(line)) = self.0.as_deref_mut() {
            line.clear();
        }
    }

    fn line(&mut self) -> &mut VecDeque<InLine> {
        &mut self.0.get_or_insert_default().0
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |line| line.0.len())
    }
}

impl Partition {
    /// Appends a client's batch. Its place among the partition's appends is taken when this returns.
    ///
    /// `alone` tells whether hardly anything else lies in the batch's memory.
    pub fn append(&self, records: &Bytes, alone: bool, acks: Acks, deadline: Instant) -> Appending {
        if let Err(refusal) = self.may_append() {
            return Appending(Stage::Refused(refusal));
        }
        if self.0.config.borrow().cleanup.compact
            && let Err(refusal) = self.check_keys(records)
        {
            return Appending(Stage::Refused(refusal));
        }
        if self.0.backlog.borrow().len() == 0 {
            match self.place(records, Origin::Client, alone, acks, deadline) {
                Ok(placed) => return Appending(Stage::Placed(placed, self.clone())),
                Err(AppendError::Busy) => {}
                Err(error) => return Appending(Stage::Refused(refusal(&error))),
            }
        }
        Appending(Stage::InLine(self.stand_in_line(records, acks, deadline), self.clone()))
    }

    /// Appends records of a coordinator of the broker's own, to be acknowledged as with acks=all. In the log or refused when this returns:
    /// a coordinator goes on from what lies in its log.
    pub fn append_as_coordinator(&self, batch: &Bytes, deadline: Instant) -> Result<Appending, ErrorCode> {
        self.may_append().map_err(|refusal| refusal.code)?;
        match self.place(batch, Origin::Coordinator, true, Acks::All, deadline) {
            Ok(placed) => Ok(Appending(Stage::Placed(placed, self.clone()))),
            // The disk is behind: the client comes again.
            Err(AppendError::Busy) => Err(ErrorCode::CoordinatorNotAvailable),
            Err(error) => Err(refusal(&error).code),
        }
    }

    /// Waits until all that is in the log now would be acknowledged with acks=all.
    pub fn all_acknowledged(&self, deadline: Instant) -> impl Future<Output = Result<(), ErrorCode>> + use<> {
        let marks = self.0.log.marks();
        let state = self.may_append();
        let ack = self.await_mark(Acks::All.mark(self.durability()), marks.log_end, deadline);
        let this = self.clone();
        async move {
            state.map_err(|refusal| refusal.code)?;
            let Some(ack) = ack else { return Ok(()) };
            match ack.await {
                Some(Acked::Reached) => Ok(()),
                Some(Acked::TimedOut) => Err(ErrorCode::RequestTimedOut),
                Some(Acked::Failed) | None => Err(this.lost()),
            }
        }
    }

    /// Answers producers whose time is up.
    pub fn expire_acks(&self, now: Instant) {
        if self.0.waiting.borrow().len() > 0 {
            self.0.waiting.borrow_mut().expire(now);
        }
        self.0.backlog.borrow_mut().expire(now);
    }

    /// Producers that wait for an acknowledgement, or to be appended.
    pub fn acks_waiting(&self) -> usize {
        self.0.waiting.borrow().len() + self.0.backlog.borrow().len()
    }

    /// `min.insync.replicas` asks for no more replicas than the partition has (Kafka's `Partition.effectiveMinIsr`): on a single node
    /// the leader alone is enough.
    fn may_append(&self) -> Result<(), AppendRefusal> {
        match self.0.state.get() {
            State::Online => Ok(()),
            State::Failed => Err(AppendRefusal::code(ErrorCode::KafkaStorageError)),
            State::Closing => Err(AppendRefusal::code(ErrorCode::NotLeaderOrFollower)),
        }
    }

    /// A compacted topic keeps the last record of each key, so each needs one. The only look into a client's batch.
    fn check_keys(&self, batch: &Bytes) -> Result<(), AppendRefusal> {
        if batch::verify(batch).is_err() {
            // The log says what is wrong with it.
            return Ok(());
        }
        let records = records::decode(batch, UNCOMPRESSED_BYTES_MAX)
            .map_err(|error| AppendRefusal::text(ErrorCode::InvalidRecord, error.to_string()))?;
        let without = records.iter().zip(0..).filter(|(record, _)| record.key.is_none());
        let without: Vec<i32> = without.map(|(_, at)| at).collect();
        if without.is_empty() {
            return Ok(());
        }
        let each = format!("Compacted topic cannot accept message without key in topic partition {self:?}.");
        Err(AppendRefusal {
            code: ErrorCode::InvalidRecord,
            message: Some("One or more records have been rejected".into()),
            records: Some((without, each)),
        })
    }

    fn place(
        &self,
        records: &Bytes,
        origin: Origin,
        alone: bool,
        acks: Acks,
        deadline: Instant,
    ) -> Result<Placed, AppendError> {
        let log = &self.0.log;
        let now = self.0.log.shard().wall_time();
        let as_leader = LeaderAppend { epoch: self.leader_epoch(), origin, now, alone };
        let appended = log.append(records, as_leader)?;
        let marks = log.marks();
        let end = appended.last_offset + 1;
        let mark = match acks.mark(self.durability()) {
            Some(_) if appended.sync_first => Some(Mark::Durable),
            mark => mark,
        };
        #[cfg(ringlog_plant)]
        let mark = mark.filter(|_| !(appended.duplicate && plant::is(Plant::AnswerADuplicateEarly)));
        #[cfg(ringlog_plant)]
        let mark = match plant::is(Plant::AcknowledgeAllWhenWritten) {
            true => mark.map(|_| Mark::Written),
            false => mark,
        };
        let ack = self.await_mark(mark, end, deadline);
        Ok(Placed {
            acknowledged: Acknowledged {
                base_offset: appended.base_offset,
                log_append_time: appended.log_append_time,
                log_start: marks.log_start,
            },
            ack,
        })
    }

    /// Who waits for a mark to reach this offset; nobody where it has.
    fn await_mark(&self, mark: Option<Mark>, end: i64, deadline: Instant) -> Option<Receiver<Acked>> {
        let log = &self.0.log;
        let marks = log.marks();
        let mark = mark?;
        let reached = match mark {
            Mark::Written => marks.written,
            Mark::Durable => marks.durable,
        };
        if reached >= end {
            return None;
        }
        if mark == Mark::Durable {
            // Asking is enough: the marks are followed for all who wait.
            drop(log.wait_durable(end));
        }
        Some(self.0.waiting.borrow_mut().add(mark, end, deadline))
    }

    /// The disk is behind: the batch leaves the buffer it came in and waits for room.
    fn stand_in_line(
        &self,
        records: &Bytes,
        acks: Acks,
        deadline: Instant,
    ) -> Receiver<Result<Placed, AppendRefusal>> {
        let (done, placed) = oneshot();
        let mut backlog = self.0.backlog.borrow_mut();
        if backlog.0.is_none() {
            self.0.log.shard().spawn(self.clone().work_backlog());
        }
        let records = Bytes::copy_from_slice(records);
        backlog.line().push_back(InLine { records, acks, deadline, done });
        placed
    }

    async fn work_backlog(self) {
        loop {
            self.0.log.room().await;
            let next = self.0.backlog.borrow_mut().line().pop_front();
            let Some(InLine { records, acks, deadline, done }) = next else { break };
            match self.place(&records, Origin::Client, true, acks, deadline) {
                Err(AppendError::Busy) => {
                    self.0.backlog.borrow_mut().line().push_front(InLine { records, acks, deadline, done });
                    self.0.log.shard().yield_now().await;
                }
                placed => done.send(placed.map_err(|error| refusal(&error))),
            }
        }
        self.0.backlog.take();
    }

    /// The log's marks have moved, or it has failed.
    pub(super) fn follow(&self) {
        if self.0.state.get() != State::Online {
            return;
        }
        self.advance();
        if self.0.log.failed().is_some() {
            self.fail();
        }
    }
}

/// What Kafka's broker says to each refusal of the log.
fn refusal(error: &AppendError) -> AppendRefusal {
    let code = match error {
        AppendError::Corrupt => ErrorCode::CorruptMessage,
        AppendError::UnsupportedMagic => ErrorCode::InvalidRecord,
        AppendError::Invalid { why } => {
            return AppendRefusal {
                code: ErrorCode::InvalidRecord,
                message: Some((*why).into()),
                records: None,
            };
        }
        AppendError::TooLarge => ErrorCode::MessageTooLarge,
        AppendError::TooLargeForSegment => ErrorCode::RecordListTooLarge,
        AppendError::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        AppendError::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        AppendError::StaleEpoch | AppendError::Failed(LogFailed::Closed) => ErrorCode::NotLeaderOrFollower,
        AppendError::OutOfOrderOffset { .. } | AppendError::Busy => ErrorCode::UnknownServerError,
        AppendError::NoSpace => {
            return AppendRefusal::text(ErrorCode::KafkaStorageError, "the disk is full");
        }
        AppendError::Failed(_) => ErrorCode::KafkaStorageError,
    };
    AppendRefusal::code(code)
}

/// The most a compressed batch for a compacted topic may grow to while its keys are looked at.
const UNCOMPRESSED_BYTES_MAX: usize = 64 << 20;
