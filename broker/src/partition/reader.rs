//! The reader's side: what a consumer (or a follower) may see, and look-ups of offsets.

use super::{Partition, State};
use crate::net::Part;
use ringlog_engine::log::{AbortedTransaction, ReadError, ReadLimit, ReadPart, TimedOffset};
use ringlog_wire::ErrorCode;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A consumer, up to the high watermark.
    Consumer,
    /// A consumer of committed records, up to the last stable offset: it is told of transactions that were aborted before the log was
    /// taken over from Apache Kafka.
    CommittedConsumer,
    /// A follower or a debugging tool, up to the end of the log.
    Replica,
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Who reads.
    pub reader: Reader,
    /// The first offset wanted.
    pub from: i64,
    /// Bytes wanted at most.
    pub bytes_max: usize,
    /// Whether the first batch comes whatever its size.
    pub at_least_one: bool,
    /// The leader epoch the reader knows.
    pub current_leader_epoch: Option<i32>,
    /// The epoch of the reader's last record.
    pub last_fetched_epoch: Option<i32>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The first offset consumers cannot read.
    pub high_watermark: i64,
    /// The first offset that is not yet decided for read_committed.
    pub last_stable_offset: i64,
    /// The first offset there is.
    pub log_start: i64,
    /// Where the reader's history and this log part, if they do; then there are no records.
    pub diverging: Option<EpochEnd>,
    /// Aborted transactions that the records may be of, for a reader of committed ones.
    pub aborted: Vec<AbortedTransaction>,
    /// The records.
    pub records: Vec<Part>,
    /// Their bytes.
    pub bytes: usize,
    /// Whether they come near what the reader takes from this partition: waiting for more is not worth it.
    pub is_full: bool,
}

/// Where an epoch ends in this log. `None` where the log does not know the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch not above the one asked for.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: i64,
}

/// What a look-up seeks (ListOffsets).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// The first offset there is.
    Earliest,
    /// The offset the next record visible to the reader gets.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time.
    Time(i64),
    /// The last offset in remote storage, of which there is none.
    Remote,
}

/// A look-up's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, where one was sought.
    pub timestamp: Option<i64>,
    /// The leader epoch of the record there.
    pub leader_epoch: Option<i32>,
}

/// Why a read is refused: Kafka's code.
pub type ReadRefusal = ErrorCode;

impl Partition {
    /// Reads.
    pub async fn read(&self, read: Read) -> Result<Found, ReadRefusal> {
        self.check_epoch(read.current_leader_epoch)?;
        let marks = self.0.log.marks();
        let mut found = Found {
            high_watermark: self.high_watermark(),
            last_stable_offset: self.last_stable_offset(),
            log_start: marks.log_start,
            ..Found::default()
        };
        if let Some(epoch) = read.last_fetched_epoch {
            let end = self.end_of(epoch).ok_or(ErrorCode::OffsetOutOfRange)?;
            if read.from < marks.log_start {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            if end.epoch < epoch || end.end_offset < read.from {
                found.diverging = Some(end);
                return Ok(found);
            }
        }
        if read.from < marks.log_start || read.from > marks.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let up_to = match read.reader {
            Reader::Consumer => found.high_watermark,
            Reader::CommittedConsumer => found.last_stable_offset,
            Reader::Replica => marks.log_end,
        };
        if read.from >= up_to || (read.bytes_max == 0 && !read.at_least_one) {
            return Ok(found);
        }
        let limit = ReadLimit { up_to, bytes_max: read.bytes_max, at_least_one: read.at_least_one };
        let parts =
            self.0.log.read_with_files(read.from, limit).await.map_err(|error| self.refusal(&error))?;
        if read.reader == Reader::CommittedConsumer {
            found.aborted = self.0.log.aborted_in(read.from, &parts);
        }
        found.bytes = parts.bytes;
        found.is_full = parts.bytes >= read.bytes_max / 2;
        found.records = parts.parts.into_iter().map(part).collect();
        Ok(found)
    }

    /// Looks an offset up. `None`: there is no such record.
    pub async fn seek(
        &self,
        sought: Sought,
        reader: Reader,
        current_leader_epoch: Option<i32>,
    ) -> Result<Option<Offset>, ReadRefusal> {
        self.check_epoch(current_leader_epoch)?;
        let marks = self.0.log.marks();
        // After a start or an election "latest" is not known until all of former epochs is visible again (KIP-207).
        let known = reader == Reader::Replica || self.0.epoch_start.get() <= self.high_watermark();
        let visible = match reader {
            Reader::Consumer => self.high_watermark(),
            Reader::CommittedConsumer => self.last_stable_offset(),
            Reader::Replica => marks.log_end,
        };
        let offset = |offset, leader_epoch| Ok(Some(Offset { offset, timestamp: None, leader_epoch }));
        let found = match sought {
            Sought::Earliest => return offset(marks.log_start, self.0.log.latest_epoch()),
            Sought::Latest if known => return offset(visible, Some(self.leader_epoch())),
            Sought::Latest => return Err(ErrorCode::OffsetNotAvailable),
            Sought::Remote => return offset(-1, Some(-1)),
            Sought::MaxTimestamp => self.0.log.max_timestamp().await,
            Sought::Time(time) => self.0.log.offset_for_time(time).await,
        };
        match found.map_err(|error| self.refusal(&error))?.filter(|found| found.offset < visible) {
            Some(TimedOffset { offset, timestamp, leader_epoch }) => {
                Ok(Some(Offset { offset, timestamp: Some(timestamp), leader_epoch }))
            }
            None if known => Ok(None),
            None => Err(ErrorCode::OffsetNotAvailable),
        }
    }

    /// Where an epoch ends; `None` where the log does not know.
    pub fn epoch_end(
        &self,
        epoch: i32,
        current_leader_epoch: Option<i32>,
    ) -> Result<Option<EpochEnd>, ReadRefusal> {
        self.check_epoch(current_leader_epoch)?;
        Ok(self.end_of(epoch))
    }

    /// An epoch that has not begun has no end, one from before the first record ended there (Kafka's
    /// `LeaderEpochFileCache.endOffsetFor`).
    fn end_of(&self, epoch: i32) -> Option<EpochEnd> {
        let log = &self.0.log;
        log.latest_epoch().filter(|latest| (0..=*latest).contains(&epoch))?;
        Some(match log.epoch_end(epoch) {
            Some(end) => EpochEnd { epoch: end.epoch, end_offset: end.end_offset },
            None => EpochEnd { epoch, end_offset: log.marks().log_start },
        })
    }

    fn refusal(&self, error: &ReadError) -> ReadRefusal {
        match error {
            ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            // A consumer's user is told, where Kafka's broker finds it. What comes after can be read.
            ReadError::Corrupt { .. } => ErrorCode::CorruptMessage,
            ReadError::Io { .. } => self.lost(),
        }
    }

    /// Whether a client that knows this epoch speaks with the leader it thinks.
    pub(super) fn check_epoch(&self, known: Option<i32>) -> Result<(), ReadRefusal> {
        match self.0.state.get() {
            State::Online => {}
            State::Failed => return Err(ErrorCode::KafkaStorageError),
            State::Closing => return Err(ErrorCode::NotLeaderOrFollower),
        }
        match known {
            Some(epoch) if epoch < self.leader_epoch() => Err(ErrorCode::FencedLeaderEpoch),
            Some(epoch) if epoch > self.leader_epoch() => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

fn part(part: ReadPart) -> Part {
    match part {
        ReadPart::Bytes(bytes) => Part::Bytes(bytes),
        ReadPart::File { file, pos, len } => Part::File { file, pos, len: len as u64 },
    }
}
