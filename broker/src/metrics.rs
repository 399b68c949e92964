//! Metrics: each shard counts for itself, in plain cells; a scrape asks every shard and adds up.
//!
//! Names follow Apache Kafka's where it has the signal (`kafka_network_requestmetrics_…`); ringlog's own begin with
//! `ringlog_`, those of the process are Prometheus' (`process_…`). The text is Prometheus' exposition format 0.0.4.
//!
//! What costs as much as there are partitions is asked for by a scrape, or by a page that somebody looks at; a shard answers it in
//! pieces, between whatever else it does. [`Vitals`] cost the same however many there are, and are taken every two seconds.

mod cleaner;
mod directories;
mod exposition;
mod groups;
mod histogram;
mod history;
mod lag;
mod overview;
mod process;
mod scrapes;

pub use exposition::Figures;
pub use groups::{CommittedTopic, GroupFigures, GroupRow};
pub use history::SAMPLE_EVERY;
pub use overview::{Ask, Overview};
pub use scrapes::Scrapes;

use crate::api::SessionFigures;
use crate::broker::{Broker, CleanerFigures, Recovery};
use crate::cluster::Image;
use crate::net::{CloseReason, QuotaCounts};
use crate::partition::{Partition, PartitionId};
use directories::{Directories, Directory};
use histogram::Histogram;
use ringlog_engine::io::Counters;
use ringlog_engine::shard::PORTION;
use ringlog_wire::{ApiKey, ErrorCode, Uuid};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What one shard counts. Cheap to clone on its shard.
#[derive(Clone, Default)]
pub struct Metrics(Rc<Counts>);

#[derive(Default)]
struct Counts {
    requests: RefCell<BTreeMap<ApiKey, Histogram>>,
    errors: RefCell<BTreeMap<(ApiKey, ErrorCode), u64>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    produced_bytes: Cell<u64>,
    produced_records: Cell<u64>,
    fetched_bytes: Cell<u64>,
    closed: RefCell<BTreeMap<&'static str, u64>>,
    damaged: Cell<u64>,
}

impl Metrics {
    /// A request was answered after this time.
    pub fn answered(&self, api: ApiKey, took: Duration) {
        self.0.requests.borrow_mut().entry(api).or_default().note(took);
    }

    /// An answer, or one partition's part of it, carried this error.
    pub fn error(&self, api: ApiKey, code: ErrorCode) {
        *self.0.errors.borrow_mut().entry((api, code)).or_default() += 1;
    }

    /// A frame of this many bytes came.
    pub fn received(&self, bytes: usize) {
        add(&self.0.bytes_in, bytes as u64);
    }

    /// An answer of this many bytes was handed to its connection.
    pub fn sent(&self, bytes: u64) {
        add(&self.0.bytes_out, bytes);
    }

    /// Clients' records were appended.
    pub fn produced(&self, bytes: usize, records: u64) {
        add(&self.0.produced_bytes, bytes as u64);
        add(&self.0.produced_records, records);
    }

    /// Records were handed to a fetch.
    pub fn fetched(&self, bytes: u64) {
        add(&self.0.fetched_bytes, bytes);
    }

    /// Stored bytes were found not to be what was written.
    pub fn damaged(&self) {
        add(&self.0.damaged, 1);
    }

    /// A connection has ended.
    pub fn closed(&self, reason: &CloseReason) {
        *self.0.closed.borrow_mut().entry(reason.word()).or_default() += 1;
    }
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

/// What one shard tells whoever asks, however many partitions it has.
#[derive(Debug, Clone, Default)]
struct Vitals {
    /// When this was so, in nanoseconds of the clock that all shards share, and in milliseconds of Unix time.
    at_nanos: u64,
    wall_millis: i64,
    requests: BTreeMap<ApiKey, Histogram>,
    errors: BTreeMap<(ApiKey, ErrorCode), u64>,
    bytes_in: u64,
    bytes_out: u64,
    produced_bytes: u64,
    produced_records: u64,
    fetched_bytes: u64,
    connections: usize,
    waiting_fetches: usize,
    memory: [MemoryUse; 3],
    busy_nanos: u64,
}

/// Times of requests, and errors in answers.
type Answered = (BTreeMap<ApiKey, Histogram>, BTreeMap<(ApiKey, ErrorCode), u64>);

/// What all these shards have answered, together.
fn answered<'a>(shards: impl IntoIterator<Item = &'a Vitals>) -> Answered {
    let (mut requests, mut errors) = Answered::default();
    for shard in shards {
        for (api, times) in &shard.requests {
            requests.entry(*api).or_default().add(times);
        }
        for (key, count) in &shard.errors {
            *errors.entry(*key).or_default() += count;
        }
    }
    (requests, errors)
}

/// One budget of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Which.
    pub budget: &'static str,
    /// Bytes taken.
    pub used: usize,
    /// Bytes there are.
    pub limit: usize,
}

impl Vitals {
    fn of(broker: &Broker) -> Self {
        let counts = &broker.metrics().0;
        let shard = broker.shard();
        Self {
            at_nanos: shard.now().as_nanos(),
            wall_millis: shard.wall_time().0,
            requests: counts.requests.borrow().clone(),
            errors: counts.errors.borrow().clone(),
            bytes_in: counts.bytes_in.get(),
            bytes_out: counts.bytes_out.get(),
            produced_bytes: counts.produced_bytes.get(),
            produced_records: counts.produced_records.get(),
            fetched_bytes: counts.fetched_bytes.get(),
            connections: broker.connection_count(),
            waiting_fetches: broker.waiting_fetches(),
            memory: broker.memory_use(),
            busy_nanos: shard.load().awake_nanos(),
        }
    }
}

/// What one shard tells a scrape.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    vitals: Vitals,
    node_id: i32,
    cluster_id: Arc<str>,
    closed: BTreeMap<&'static str, u64>,
    quotas: QuotaCounts,
    fetch_sessions: SessionFigures,
    damaged: u64,
    offline_directories: usize,
    /// The data directories: from shard 0.
    directories: Vec<Directory>,
    io: Counters,
    partitions: Vec<PartitionSizes>,
    groups: GroupFigures,
    cleaner: CleanerFigures,
    uncleanable: usize,
    /// Partitions whose log could not be opened.
    unopened: usize,
    recovery: Recovery,
}

/// One partition's figures.
#[derive(Debug, Clone)]
struct PartitionSizes {
    topic: Arc<str>,
    id: PartitionId,
    directory: Uuid,
    log_start: i64,
    log_end: i64,
    high_watermark: i64,
    valid_bytes: u64,
    prepared_bytes: u64,
    segments: usize,
    offline: bool,
}

impl PartitionSizes {
    /// `None` where it has been deleted.
    fn of(partition: &Partition, broker: &Broker, image: &Image) -> Option<Self> {
        let id = partition.id();
        let topic = image.topic_by_id(Uuid(id.topic))?;
        let state = topic.partition(id.index)?;
        let (marks, sizes) = (partition.log().marks(), partition.log().sizes());
        Some(Self {
            topic: topic.name.clone(),
            id,
            directory: state.directory,
            log_start: marks.log_start,
            log_end: marks.log_end,
            high_watermark: partition.high_watermark(),
            valid_bytes: sizes.valid_bytes,
            prepared_bytes: sizes.prepared_bytes,
            segments: sizes.segments,
            // All in a directory that is offline are, though only some have met its error.
            offline: broker.is_offline(id),
        })
    }

    /// Whether it is of the same topic.
    fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topic, &other.topic)
    }
}

impl Snapshot {
    async fn of(broker: &Broker, directories: &Directories) -> Self {
        let mut partitions = Vec::with_capacity(broker.partition_count());
        let mut uncleanable = 0;
        let mut last = None;
        loop {
            let (portion, image) = (broker.partitions_after(last, PORTION), broker.image());
            for partition in &portion {
                uncleanable += usize::from(partition.log().is_uncleanable());
                partitions.extend(PartitionSizes::of(partition, broker, &image));
            }
            if portion.len() < PORTION {
                break;
            }
            last = portion.last().map(Partition::id);
            broker.shard().yield_now().await;
        }
        let groups = broker.group_figures().await;
        let counts = &broker.metrics().0;
        Self {
            vitals: Vitals::of(broker),
            node_id: broker.config().node_id,
            cluster_id: broker.image().cluster_id.clone(),
            closed: counts.closed.borrow().clone(),
            quotas: broker.quota_counts(),
            fetch_sessions: broker.sessions().figures(),
            damaged: counts.damaged.get(),
            offline_directories: broker.offline_directories(),
            directories: directories.known(broker),
            io: broker.shard().io().counters(),
            partitions,
            groups,
            cleaner: broker.cleaner_figures(),
            uncleanable,
            unopened: broker.unopened(),
            recovery: broker.recovery(),
        }
    }
}
