//! Appending: what is checked, which offsets and epochs are given, where the bytes are placed.

use super::config::TimestampType;
use super::error::{AppendError, LogFailed};
use super::producers::{Check, ProducerError};
use super::segment::{Incoming, Segment};
use super::tail::Tail;
use super::{Gaps, Log, Offset, State};
use crate::batch::{self, BatchError, Header};
use crate::io::WallTime;
use crate::limits::{BLOCK, UNWRITTEN_BYTES_MAX};
#[cfg(ringlog_plant)]
use crate::plant::{self, Plant};
use bytes::{Bytes, BytesMut};

/// How a leader appends.
#[derive(Debug, Clone, Copy)]
pub struct LeaderAppend {
    /// The leader epoch, stamped into each batch.
    pub epoch: i32,
    /// Who wrote the batch: clients may send less than the broker's own parts.
    pub origin: Origin,
    /// The broker's time.
    pub now: WallTime,
    /// Whether hardly anything but the batch lies in its memory: a large one may then be kept there.
    pub alone: bool,
}

/// Who wrote a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer: exactly one batch, base offset 0, no control batches.
    Client,
    /// The broker itself: a coordinator's records, transaction markers.
    Coordinator,
}

/// What has been appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first record's offset.
    pub base_offset: Offset,
    /// The last record's offset.
    pub last_offset: Offset,
    /// Whether these are the offsets of the same batch sent before. It may still be in flight: wait for it as for
    /// a new one.
    pub duplicate: bool,
    /// The broker's time stamped into the batch, with `message.timestamp.type=LogAppendTime`.
    pub log_append_time: Option<i64>,
    /// Whether `flush.messages` asks that it be durable before it is acknowledged, whatever `acks` says.
    pub sync_first: bool,
}

impl Log {
    /// Appends what a client or a coordinator sent: one batch. It is checked, gets the log's next offsets and the leader's
    /// epoch, and lies in the tail buffer when this returns; [`Log::wait_written`] and [`Log::wait_durable`] tell
    /// when it may be acknowledged.
    ///
    /// A batch of 64 KiB and more that is alone in the memory it came in may be kept there for as long as the cache holds it.
    pub fn append(&self, batches: &Bytes, as_leader: LeaderAppend) -> Result<Appended, AppendError> {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        state.takes_appends()?;
        let header = checked(batches, as_leader.origin, &state.config)?;
        if state.epochs.latest().is_some_and(|latest| as_leader.epoch < latest) {
            return Err(AppendError::StaleEpoch);
        }
        if header.has_producer_id() && as_leader.origin == Origin::Client {
            match state.producers.check(&header).map_err(producer_error)? {
                Check::Append => {}
                Check::Duplicate { base_offset, last_offset, timestamp } => {
                    let log_append_time =
                        (state.config.timestamp_type == TimestampType::LogAppendTime).then_some(timestamp);
                    let sync_first = state.wants_sync_first(last_offset);
                    return Ok(Appended {
                        base_offset,
                        last_offset,
                        duplicate: true,
                        log_append_time,
                        sync_first,
                    });
                }
            }
        }
        // After the duplicates: what was taken once is not refused because the clock has been set since.
        check_timestamps(&header, &state.config, as_leader.now)?;
        let log_append_time =
            (state.config.timestamp_type == TimestampType::LogAppendTime).then_some(as_leader.now.0);
        let mut header = header;
        header.base_offset = state.marks.log_end;
        header.leader_epoch = as_leader.epoch;
        if let Some(now) = log_append_time {
            header.max_timestamp = now;
        }
        let tail = self.tail_for(state, &header, as_leader.now);
        // Where the time is stamped, it is stamped into all of the batch: its CRC is made anew.
        let may_stay = as_leader.alone && log_append_time.is_none();
        if !may_stay || !tail.take_over(batches, &header, &self.0.cache) {
            let placed = tail.place(batches, header.base_offset..header.next_offset(), &self.0.cache);
            batch::stamp(placed, header.base_offset, header.leader_epoch);
            if let Some(now) = log_append_time {
                batch::stamp_log_append_time(placed, now);
            }
        }
        state.active_mut().note_lures(batches);
        state.took(&header, as_leader.now);
        self.write_soon(state);
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            duplicate: false,
            log_append_time,
            sync_first: state.wants_sync_first(header.last_offset()),
        })
    }

    /// Appends what the partition's leader has sent: batches with their offsets and epochs. A part of a batch at the end is
    /// left out. Offsets may leave gaps (the leader's log may be compacted) but never go back, nor do epochs, of which none is
    /// past the leader's own; all batches are checked before the first is taken.
    pub fn append_as_follower(&self, batches: &Bytes, leader_epoch: i32) -> Result<Appended, AppendError> {
        let mut state = self.0.state.borrow_mut();
        let state = &mut *state;
        state.takes_appends()?;
        let mut expected = state.marks.log_end;
        let mut epoch = state.epochs.latest().unwrap_or(i32::MIN);
        let mut gaps = false;
        let mut headers = Vec::new();
        let mut rest = &batches[..];
        while let Some(len) = batch::whole_len(rest) {
            let header = batch::verify(&rest[..len]).map_err(batch_error)?;
            if header.base_offset < expected {
                return Err(AppendError::OutOfOrderOffset { expected });
            }
            if !(epoch..=leader_epoch).contains(&header.leader_epoch) {
                return Err(AppendError::StaleEpoch);
            }
            epoch = header.leader_epoch;
            gaps |= header.base_offset > expected;
            expected = header.next_offset();
            headers.push(header);
            rest = &rest[len..];
        }
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Err(AppendError::Invalid { why: "no whole batch" });
        };
        let (base_offset, last_offset) = (first.base_offset, last.last_offset());
        let now = self.0.shard.wall_time();
        if gaps && state.gaps == Gaps::None {
            state.gaps = Gaps::Unmarked;
        }
        let mut at = 0;
        for header in &headers {
            let len = header.total_len();
            let batch = &batches[at..at + len];
            let tail = self.tail_for(state, header, now);
            tail.place(batch, header.base_offset..header.next_offset(), &self.0.cache);
            state.active_mut().note_lures(batch);
            state.took(header, now);
            at += len;
        }
        self.write_soon(state);
        let sync_first = state.wants_sync_first(last_offset);
        Ok(Appended { base_offset, last_offset, duplicate: false, log_append_time: None, sync_first })
    }

    /// Empty memory for a request of `len` bytes whose byte `batch_at` is the first of a large batch for this log. If it is the next
    /// that is appended, it is written from there: it lies, block by block, as it will lie in the file.
    pub fn request_memory(&self, len: usize, batch_at: usize) -> BytesMut {
        let state = self.0.state.borrow();
        // A log that is just being emptied has none.
        let active = state.segments.last_key_value().map(|(_, active)| active);
        let past_block = || active.map_or(0, |active| (active.size % BLOCK) as usize);
        let past = state.tails.back().map_or_else(past_block, Tail::past_block);
        self.0.cache.request_memory(len, past + BLOCK as usize - batch_at % BLOCK as usize)
    }

    /// The tail buffer a batch goes to: that of a new segment if the active one is full for it.
    fn tail_for<'a>(&self, state: &'a mut State, header: &Header, now: WallTime) -> &'a mut Tail {
        let incoming = Incoming {
            len: header.total_len(),
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
        };
        if state.tails.is_empty() {
            self.wake_up(state);
        }
        if state.active().is_full_for(&incoming, &state.config, now.0) {
            self.roll(state, header, now);
        }
        let interval = state.config.index_interval_bytes;
        state.active_mut().note(header, interval);
        state.tails.back_mut().expect("the active segment has a tail")
    }

    /// Begins a new segment. Its file is created by the writer when it gets there; until then batches gather in its tail.
    fn roll(&self, state: &mut State, first: &Header, now: WallTime) {
        let end = state.marks.log_end;
        // A gap in the offsets belongs inside a segment, unless no segment can reach across it.
        let out_of_reach = first.last_offset() - end > i64::from(i32::MAX);
        let base = if out_of_reach { first.base_offset } else { end };
        self.begin_segment(state, base, now);
        state.active_mut().out_of_reach = out_of_reach;
    }

    /// Begins a segment at this offset, and leaves the one before.
    pub(super) fn begin_segment(&self, state: &mut State, base: Offset, now: WallTime) {
        if state.tails.is_empty() {
            self.wake_up(state);
        }
        let mut segment = Segment::new(base, now.0);
        let jitter = state.config.segment_jitter_ms.min(state.config.segment_ms);
        if jitter > 0 {
            segment.roll_jitter = self.0.shard.io().random() % jitter;
        }
        let before = state.active();
        assert!(
            base > before.base,
            "a segment that is left has batches, or cannot reach the next one's offset"
        );
        segment.prepared.go_on_from(&before.prepared);
        segment.lures = Some(Box::default());
        state.snapshots.insert(base, state.producers.clone());
        state.segments.insert(base, segment);
        state.tails.push_back(Tail::new(base, 0, base));
    }
}

impl State {
    fn takes_appends(&self) -> Result<(), AppendError> {
        if let Some(failed) = &self.failed {
            return Err(AppendError::Failed(LogFailed::clone(failed)));
        }
        if self.no_space {
            return Err(AppendError::NoSpace);
        }
        if self.changing {
            return Err(AppendError::Busy);
        }
        if self.unwritten_bytes() >= UNWRITTEN_BYTES_MAX {
            return Err(AppendError::Busy);
        }
        Ok(())
    }

    /// A batch lies in the tail buffer: the log ends after it, and knows its epoch and its producer.
    fn took(&mut self, header: &Header, now: WallTime) {
        // After a gap an epoch is taken to begin with the gap, not with its first batch that is left: what another replica has there, of
        // the epoch before, it must not keep.
        let epoch_start = self.marks.log_end;
        #[cfg(ringlog_plant)]
        let epoch_start =
            if plant::is(Plant::BeginAnEpochAfterAGap) { header.base_offset } else { epoch_start };
        if header.leader_epoch >= SMALLEST_EPOCH {
            self.epochs.assign(header.leader_epoch, epoch_start);
        }
        self.marks.log_end = header.next_offset();
        self.marks.check();
        if header.has_producer_id() {
            self.producers.apply(header, now.0);
        }
    }

    fn wants_sync_first(&self, last_offset: Offset) -> bool {
        let unsynced = last_offset + 1 - self.marks.durable;
        u64::try_from(unsynced).is_ok_and(|unsynced| unsynced >= self.config.flush_messages)
    }
}

/// Checks what a leader is asked to append, all but the producer's sequence (Kafka's `UnifiedLog` and `LogValidator`).
fn checked(batches: &[u8], origin: Origin, config: &super::LogConfig) -> Result<Header, AppendError> {
    let Some(len) = batch::whole_len(batches) else {
        // Kafka looks at the magic before the length.
        return Err(if batch::is_other_magic(batches) {
            AppendError::UnsupportedMagic
        } else {
            AppendError::Corrupt
        });
    };
    if len > config.max_message_bytes as usize && origin == Origin::Client {
        return Err(AppendError::TooLarge);
    }
    if len > config.segment_bytes as usize {
        return Err(AppendError::TooLargeForSegment);
    }
    let header = batch::verify(&batches[..len]).map_err(batch_error)?;
    if len != batches.len() {
        return Err(AppendError::Invalid { why: "more than one batch" });
    }
    if origin == Origin::Client {
        batch::verify_counts(&header).map_err(batch_error)?;
        if header.base_offset != 0 {
            return Err(AppendError::Invalid { why: "the base offset is not 0" });
        }
        if header.is_control() {
            return Err(AppendError::Invalid { why: "clients may not write control records" });
        }
        // Only a broker knows when it appends.
        if header.is_log_append_time() {
            return Err(AppendError::InvalidTimestamp);
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            return Err(AppendError::Invalid { why: "a producer id without a sequence" });
        }
    }
    Ok(header)
}

fn check_timestamps(header: &Header, config: &super::LogConfig, now: WallTime) -> Result<(), AppendError> {
    if config.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    check_timestamp(header.base_timestamp, config, now)?;
    check_timestamp(header.max_timestamp, config, now)
}

fn check_timestamp(timestamp: i64, config: &super::LogConfig, now: WallTime) -> Result<(), AppendError> {
    if timestamp == NO_TIMESTAMP {
        return Ok(());
    }
    let before = now.0.saturating_sub(timestamp);
    let too_early = u64::try_from(before).is_ok_and(|before| before > config.timestamp_before_max_ms);
    let too_late = before < 0 && before.unsigned_abs() > config.timestamp_after_max_ms;
    if too_early || too_late { Err(AppendError::InvalidTimestamp) } else { Ok(()) }
}

/// What a record without a timestamp carries.
pub(super) const NO_TIMESTAMP: i64 = -1;

fn batch_error(error: BatchError) -> AppendError {
    match error {
        BatchError::Magic => AppendError::UnsupportedMagic,
        BatchError::Corrupt => AppendError::Corrupt,
        BatchError::Invalid(why) => AppendError::Invalid { why },
    }
}

fn producer_error(error: ProducerError) -> AppendError {
    match error {
        ProducerError::OutOfOrderSequence => AppendError::OutOfOrderSequence,
        ProducerError::InvalidEpoch => AppendError::InvalidProducerEpoch,
    }
}

/// Batches below it carry no leader epoch (-1).
pub(super) const SMALLEST_EPOCH: i32 = 0;
