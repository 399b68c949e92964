//! A partition on the shard that owns it: its log, its role, its high watermark, and who waits for it.
//!
//! ```text
//!   log_start <= high_watermark <= durable (durability=fsync) <= written <= log_end
//! ```
//!
//! With `durability=fsync` the high watermark follows the durable mark, so nothing a consumer has read can vanish;
//! with `replicated` it follows the written mark, as in Apache Kafka. The log itself calls when its marks have moved.

mod acks;
mod deleting;
mod leader;
mod parked;
mod reader;

pub use acks::Acks;
pub use leader::{AppendRefusal, Appending};
pub use parked::{Parked, Waiter};
pub use reader::{EpochEnd, Found, Offset, Read, ReadRefusal, Reader, Sought};

use crate::config::{Durability, TimestampType, TopicConfig};
use acks::Waiting;
use leader::Backlog;
use ringlog_engine::log::{self, Log, LogConfig};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use ringlog_wire::{ErrorCode, Uuid};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// A partition's name within the broker: the topic's id, so that a deleted topic's namesake is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's id.
    pub topic: [u8; 16],
    /// The partition's index in it.
    pub index: i32,
}

impl PartitionId {
    /// A partition of this topic.
    pub fn new(topic: Uuid, index: i32) -> Self {
        Self { topic: topic.0, index }
    }
}

/// One partition. Owned by one shard; cheap to clone there.
#[derive(Clone)]
pub struct Partition(Rc<Inner>);

struct Inner {
    name: Arc<str>,
    id: PartitionId,
    log: Log,
    leader_epoch: Cell<i32>,
    /// Where this leader's epoch began: until the high watermark is there, "latest" is not known (KIP-207).
    epoch_start: Cell<i64>,
    config: RefCell<Arc<TopicConfig>>,
    high_watermark: Cell<i64>,
    waiting: RefCell<Waiting>,
    backlog: RefCell<Backlog>,
    parked: Parked,
    state: Cell<State>,
}

/// Whether a partition serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Online,
    /// Its log failed: Kafka's offline log directory.
    Failed,
    /// It is being closed or deleted.
    Closing,
}

impl Partition {
    /// Takes charge of an opened log, as the leader of this epoch.
    pub fn lead(topic: Lead, log: Log) -> Self {
        let marks = log.marks();
        log.begin_epoch(topic.leader_epoch);
        let partition = Self(Rc::new(Inner {
            name: topic.name,
            id: topic.id,
            log,
            leader_epoch: Cell::new(topic.leader_epoch),
            epoch_start: Cell::new(marks.log_end),
            config: RefCell::new(topic.config),
            high_watermark: Cell::new(marks.durable),
            waiting: RefCell::default(),
            backlog: RefCell::default(),
            parked: Parked::default(),
            state: Cell::new(State::Online),
        }));
        let follower = Rc::downgrade(&partition.0);
        partition.0.log.on_move(move || {
            if let Some(inner) = follower.upgrade() {
                Self(inner).follow();
            }
        });
        partition.follow();
        partition
    }

    /// Its name.
    pub fn id(&self) -> PartitionId {
        self.0.id
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The epoch of its leader.
    pub fn leader_epoch(&self) -> i32 {
        self.0.leader_epoch.get()
    }

    /// The first offset a consumer cannot read.
    pub fn high_watermark(&self) -> i64 {
        self.0.high_watermark.get()
    }

    /// The first offset of a transaction that is neither committed nor aborted, or else the high watermark: who reads committed records gets none
    /// from there on. No transaction is open: none is begun here, and a log with an open one is not taken over.
    pub fn last_stable_offset(&self) -> i64 {
        self.high_watermark()
    }

    /// The first offset there is.
    pub fn log_start(&self) -> i64 {
        self.0.log.marks().log_start
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// What its topic runs with.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.0.config.borrow().clone()
    }

    /// Takes new configs into force.
    pub fn configure(&self, config: Arc<TopicConfig>) {
        self.0.log.configure(log_config(&config));
        *self.0.config.borrow_mut() = config;
        self.follow();
    }

    /// Who waits for its high watermark to move.
    pub fn parked(&self) -> &Parked {
        &self.0.parked
    }

    /// Serves no more: whoever waits is told.
    pub fn retire(&self) {
        self.0.state.set(State::Closing);
        self.fail_waiting();
        self.0.parked.wake_all();
    }

    /// What those are told whose answer will not come: the log has failed, or the topic is being deleted.
    fn lost(&self) -> ErrorCode {
        match self.0.state.get() {
            State::Closing => ErrorCode::NotLeaderOrFollower,
            State::Online | State::Failed => ErrorCode::KafkaStorageError,
        }
    }

    fn durability(&self) -> Durability {
        self.0.config.borrow().durability
    }

    /// Moves the high watermark to where the log's marks allow, answers who waited for them, and sees to it that
    /// somebody waits for what is not there yet.
    fn advance(&self) {
        let inner = &self.0;
        let marks = inner.log.marks();
        let visible = match self.durability() {
            Durability::Fsync => marks.durable,
            Durability::Replicated => marks.written,
        };
        #[cfg(ringlog_plant)]
        let visible = match plant::is(Plant::HighWatermarkPastDurable) {
            true => marks.written,
            false => visible,
        };
        let before = inner.high_watermark.get();
        // A topic that goes from `replicated` to `fsync` has shown more than is durable; what was shown stays shown.
        let high_watermark = before.max(visible);
        assert!(high_watermark <= marks.log_end, "{self:?}: the high watermark is past the end of the log");
        inner.waiting.borrow_mut().reached(marks.written, marks.durable);
        if high_watermark > before {
            inner.high_watermark.set(high_watermark);
            inner.parked.wake_all();
        }
    }

    /// Its log, or the directory it lies in, has failed.
    pub fn fail(&self) {
        if self.0.state.get() == State::Online {
            self.0.state.set(State::Failed);
        }
        self.fail_waiting();
        self.0.parked.wake_all();
    }

    fn fail_waiting(&self) {
        self.0.waiting.borrow_mut().fail();
        self.0.backlog.borrow_mut().clear();
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.name, self.0.id.index)
    }
}

/// What a leader is to lead.
pub struct Lead {
    /// The topic's name.
    pub name: Arc<str>,
    /// The partition.
    pub id: PartitionId,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// What its topic runs with.
    pub config: Arc<TopicConfig>,
}

/// A topic's configs as its logs take them.
pub fn log_config(config: &TopicConfig) -> LogConfig {
    let millis = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    LogConfig {
        segment_bytes: u32::try_from(config.segment_bytes).unwrap_or(u32::MAX),
        segment_ms: millis(config.segment_ms),
        segment_jitter_ms: millis(config.segment_jitter_ms),
        segment_index_bytes: u32::try_from(config.index_bytes_max).unwrap_or(u32::MAX),
        index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or(u32::MAX),
        max_message_bytes: u32::try_from(config.message_bytes_max).unwrap_or(u32::MAX),
        durability: match config.durability {
            Durability::Fsync => log::Durability::Fsync,
            Durability::Replicated => log::Durability::Replicated,
        },
        flush_messages: config.flush_messages,
        flush_ms: config.flush_ms,
        timestamp_type: match config.timestamp_type {
            TimestampType::CreateTime => log::TimestampType::CreateTime,
            TimestampType::LogAppendTime => log::TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: millis(config.timestamp_before_max_ms),
        timestamp_after_max_ms: millis(config.timestamp_after_max_ms),
        retention_bytes: config.retention_bytes,
        retention_ms: config.retention_ms.map(millis),
        delete: config.cleanup.delete,
        compact: config.cleanup.compact,
        min_cleanable_dirty_ratio: config.cleanable_ratio_min,
        min_compaction_lag_ms: config.compaction_lag_min_ms,
        max_compaction_lag_ms: config.compaction_lag_max_ms,
        delete_retention_ms: config.delete_retention_ms,
        file_delete_delay_ms: config.file_delete_delay_ms,
        producer_expiration_ms: config.producer_expiration_ms,
        ..LogConfig::default()
    }
}
