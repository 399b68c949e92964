//! What a log is told about itself: Kafka's topic settings that matter to storage, typed.

use crate::limits::CHECKPOINT_BYTES;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Settings of one shard's logs, of which most have the same: a copy for each would take 0.2 KB. Only of the newest few is it known that they
/// are shared; more have a copy of their own.
#[derive(Clone, Default)]
pub(super) struct SharedConfigs(Rc<RefCell<VecDeque<Rc<LogConfig>>>>);

/// So many different settings are compared at each log's opening, at most.
const SHARED_MAX: usize = 8;

impl SharedConfigs {
    /// These settings, shared with the logs that have the same.
    pub(super) fn share(&self, config: LogConfig) -> Rc<LogConfig> {
        let mut known = self.0.borrow_mut();
        if let Some(same) = known.iter().find(|known| ***known == config) {
            return same.clone();
        }
        let config = Rc::new(config);
        known.push_front(config.clone());
        known.truncate(SHARED_MAX);
        config
    }
}

/// A log's settings; [`super::Log::configure`] changes them while it is open.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a batch that does not fit in the rest of this goes into a new segment.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment whose batches' timestamps would span more is not appended to.
    pub segment_ms: u64,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, for each segment anew, so that not all roll at once.
    pub segment_jitter_ms: u64,
    /// `segment.index.bytes`: the most a segment's offset index and its time index may each hold.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: log bytes between two index entries.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: the largest batch taken from a client, compressed or not.
    pub max_message_bytes: u32,
    /// What an acknowledgement of `acks=all`, and being visible, stand for.
    pub durability: Durability,
    /// `flush.messages`: at this many records that are not durable, a sync is asked for.
    pub flush_messages: u64,
    /// `flush.ms`: records are not left unsynced for longer.
    pub flush_ms: u64,
    /// With [`Durability::Fsync`], how long records that nobody waits for may stay unsynced (and unseen).
    pub sync_delay: Duration,
    /// Bytes between two checkpoints, if the shard's other logs leave it at that.
    pub checkpoint_bytes: u64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's time may lie before the broker's.
    pub timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`: how far a record's time may lie after the broker's.
    pub timestamp_after_max_ms: u64,
    /// `retention.bytes`; `None` is without bound.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None` is for ever.
    pub retention_ms: Option<u64>,
    /// Whether `cleanup.policy` names `delete`: the limits of retention count.
    pub delete: bool,
    /// Whether `cleanup.policy` names `compact`.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`: the share of a compacted log that must be dirty before it is cleaned.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: for how long at least a record stays as it is.
    pub min_compaction_lag_ms: u64,
    /// `max.compaction.lag.ms`: after how long a record is cleaned in any case; `u64::MAX` is never.
    pub max_compaction_lag_ms: u64,
    /// `delete.retention.ms`: how long the mark of a deleted key stays once the log has been cleaned.
    pub delete_retention_ms: u64,
    /// `file.delete.delay.ms`: how long a removed segment's files stay under another name.
    pub file_delete_delay_ms: u64,
    /// `producer.id.expiration.ms`: how long an idempotent producer is remembered after its last batch.
    pub producer_expiration_ms: u64,
}

impl Default for LogConfig {
    /// Kafka's defaults, and ringlog's own for what Kafka does not have.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            durability: Durability::Fsync,
            flush_messages: u64::MAX,
            flush_ms: u64::MAX,
            sync_delay: Duration::from_millis(10),
            checkpoint_bytes: CHECKPOINT_BYTES,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: u64::MAX,
            timestamp_after_max_ms: 3_600_000,
            retention_bytes: None,
            retention_ms: Some(7 * 24 * 3_600_000),
            delete: true,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: u64::MAX,
            delete_retention_ms: 24 * 3_600_000,
            file_delete_delay_ms: 60_000,
            producer_expiration_ms: 24 * 3_600_000,
        }
    }
}

impl LogConfig {
    /// How much time a segment's batches may span: what must be compacted soon must be left soon.
    pub(super) fn segment_ms_max(&self) -> u64 {
        if self.compact { self.segment_ms.min(self.max_compaction_lag_ms) } else { self.segment_ms }
    }

    /// How long written records may wait for a sync that nobody asked for; `None`: until a segment is sealed.
    pub(super) fn background_sync(&self) -> Option<Duration> {
        let flush = (self.flush_ms < u64::MAX).then(|| Duration::from_millis(self.flush_ms));
        match self.durability {
            Durability::Fsync => Some(flush.map_or(self.sync_delay, |flush| flush.min(self.sync_delay))),
            Durability::Replicated => flush,
        }
    }
}

/// What an acknowledgement of `acks=all` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage here and on every in-sync follower; what consumers see is durable.
    Fsync,
    /// Written here and on every in-sync follower, as Kafka does by default.
    Replicated,
}

/// `message.timestamp.type`: whose clock stamps the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at append.
    LogAppendTime,
}
