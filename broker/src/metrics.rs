//! Metrics: each shard counts for itself, in plain cells; a scrape asks every shard and adds up.
//!
//! Names follow Apache Kafka's where it has the signal (`kafka_network_requestmetrics_…`); ringlog's own begin with
//! `ringlog_`. The text is Prometheus' exposition format 0.0.4.

mod cleaner;
mod groups;
mod lag;

pub use groups::{CommittedTopic, GroupFigures};

use crate::broker::{Broker, CleanerFigures, Recovery};
use crate::net::{CloseReason, QuotaCounts};
use crate::partition::PartitionId;
use lag::{Ages, Place, Times};
use ringlog_engine::io::Counters;
use ringlog_wire::{ApiKey, ErrorCode};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What one shard counts. Cheap to clone on its shard.
#[derive(Clone, Default)]
pub struct Metrics(Rc<Counts>);

#[derive(Default)]
struct Counts {
    requests: RefCell<BTreeMap<ApiKey, RequestCounts>>,
    errors: RefCell<BTreeMap<(ApiKey, ErrorCode), u64>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    produced_bytes: Cell<u64>,
    produced_records: Cell<u64>,
    fetched_bytes: Cell<u64>,
    closed: RefCell<BTreeMap<&'static str, u64>>,
    damaged: Cell<u64>,
}

/// Requests of one API: how many, and how long they took.
#[derive(Debug, Clone, Default)]
struct RequestCounts {
    count: u64,
    nanos: u64,
    buckets: [u64; BUCKETS.len()],
}

/// Upper bounds of the request times' buckets, in microseconds.
const BUCKETS: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600,
    1_000_000, 10_000_000,
];

impl Metrics {
    /// A request was answered after this time.
    pub fn answered(&self, api: ApiKey, took: Duration) {
        let mut requests = self.0.requests.borrow_mut();
        let counts = requests.entry(api).or_default();
        counts.count += 1;
        counts.nanos += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS.iter().position(|bound| micros <= *bound) {
            counts.buckets[bucket] += 1;
        }
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

/// What one shard tells a scrape.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    requests: BTreeMap<ApiKey, RequestCounts>,
    errors: BTreeMap<(ApiKey, ErrorCode), u64>,
    bytes_in: u64,
    bytes_out: u64,
    produced_bytes: u64,
    produced_records: u64,
    fetched_bytes: u64,
    closed: BTreeMap<&'static str, u64>,
    quotas: QuotaCounts,
    damaged: u64,
    offline_directories: usize,
    connections: usize,
    waiting_fetches: usize,
    request_memory: usize,
    fetch_memory: usize,
    cache: usize,
    busy_nanos: u64,
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
    log_start: i64,
    log_end: i64,
    high_watermark: i64,
    valid_bytes: u64,
    prepared_bytes: u64,
    segments: usize,
    offline: bool,
}

impl Snapshot {
    fn of(broker: &Broker) -> Self {
        let counts = &broker.metrics().0;
        let (request_memory, fetch_memory) = broker.memory_in_use();
        let image = broker.image();
        let partitions = broker.partitions().into_iter().filter_map(|partition| {
            let id = partition.id();
            let topic = image.topic_by_id(ringlog_wire::Uuid(id.topic))?;
            let (marks, sizes) = (partition.log().marks(), partition.log().sizes());
            Some(PartitionSizes {
                topic: topic.name.clone(),
                id,
                log_start: marks.log_start,
                log_end: marks.log_end,
                high_watermark: partition.high_watermark(),
                valid_bytes: sizes.valid_bytes,
                prepared_bytes: sizes.prepared_bytes,
                segments: sizes.segments,
                offline: partition.log().failed().is_some(),
            })
        });
        Self {
            requests: counts.requests.borrow().clone(),
            errors: counts.errors.borrow().clone(),
            bytes_in: counts.bytes_in.get(),
            bytes_out: counts.bytes_out.get(),
            produced_bytes: counts.produced_bytes.get(),
            produced_records: counts.produced_records.get(),
            fetched_bytes: counts.fetched_bytes.get(),
            closed: counts.closed.borrow().clone(),
            quotas: broker.quota_counts(),
            damaged: counts.damaged.get(),
            offline_directories: broker.offline_directories(),
            connections: broker.connection_count(),
            waiting_fetches: broker.waiting_fetches(),
            request_memory,
            fetch_memory,
            cache: broker.cache_bytes(),
            busy_nanos: broker.shard().load().awake_nanos(),
            io: broker.shard().io().counters(),
            partitions: partitions.collect(),
            groups: broker.group_figures(),
            cleaner: broker.cleaner_figures(),
            uncleanable: broker.partitions().iter().filter(|one| one.log().is_uncleanable()).count(),
            unopened: broker.unopened(),
            recovery: broker.recovery(),
        }
    }
}

/// Where scrapes leave their questions for the shards.
pub struct Scrapes {
    inboxes: Vec<Mutex<Inbox>>,
    ready: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    asked: VecDeque<Asked>,
    waiter: Option<Waker>,
}

/// What a scrape wants of a shard, and where it waits for it.
enum Asked {
    /// Only whether it answers.
    Alive(SyncSender<()>),
    Snapshot(SyncSender<Snapshot>),
    /// For how many milliseconds what lies next at each place has been there.
    Ages(Vec<Place>, SyncSender<Vec<Option<u64>>>),
}

/// How long a shard may take to answer a scrape: one that takes longer is stuck.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

impl Scrapes {
    /// For this many shards.
    pub fn new(shards: u16) -> Arc<Self> {
        let inboxes = (0..shards).map(|_| Mutex::default()).collect();
        Arc::new(Self { inboxes, ready: AtomicBool::new(false) })
    }

    /// Starts the task that answers for a shard.
    pub fn serve(self: &Arc<Self>, broker: &Broker) {
        let (scrapes, broker) = (self.clone(), broker.clone());
        let shard = broker.shard().clone();
        shard.spawn(async move {
            let mut times = Times::default();
            // A broker that stops is alive to its end.
            loop {
                // A scrape that has given up does not read.
                let _ = match scrapes.next(broker.shard().id().0).await {
                    Asked::Alive(answer) => answer.try_send(()).ok(),
                    Asked::Snapshot(answer) => answer.try_send(Snapshot::of(&broker)).ok(),
                    Asked::Ages(places, answer) => answer.try_send(times.ages(&broker, &places).await).ok(),
                };
            }
        });
    }

    /// Whether clients can connect, from now on.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether clients can connect.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether every shard answers.
    pub fn are_alive(&self) -> bool {
        self.ask_all(vec![(); self.inboxes.len()], |(), answer| Asked::Alive(answer)).is_some()
    }

    /// Asks every shard and writes what they say; `None` when one does not answer.
    pub fn collect(&self) -> Option<String> {
        let shards = self.ask_all(vec![(); self.inboxes.len()], |(), answer| Asked::Snapshot(answer))?;
        let lags = lag::lags(&shards);
        let places = lag::places(&lags, shards.len());
        let ages = self.ask_all(places.clone(), Asked::Ages)?;
        let known = places.into_iter().flatten().zip(ages.into_iter().flatten());
        let ages: Ages = known.filter_map(|(place, age)| Some((place, age?))).collect();
        Some(exposition(&shards, &lags, &ages))
    }

    /// Asks all shards at once, each its question; `None` when one does not answer.
    fn ask_all<Q, A>(&self, questions: Vec<Q>, asked: impl Fn(Q, SyncSender<A>) -> Asked) -> Option<Vec<A>> {
        let ask_one = |(inbox, question)| {
            let (sender, receiver) = sync_channel(1);
            ask(inbox, asked(question, sender));
            receiver
        };
        let answers: Vec<Receiver<A>> = self.inboxes.iter().zip(questions).map(ask_one).collect();
        answers.into_iter().map(|answer| answer.recv_timeout(ANSWER_TIME_MAX).ok()).collect()
    }

    async fn next(&self, shard: u16) -> Asked {
        std::future::poll_fn(|cx| {
            let mut inbox = lock(&self.inboxes[usize::from(shard)]);
            if let Some(asked) = inbox.asked.pop_front() {
                return Poll::Ready(asked);
            }
            inbox.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn ask(inbox: &Mutex<Inbox>, asked: Asked) {
    let mut inbox = lock(inbox);
    inbox.asked.push_back(asked);
    if let Some(waiter) = inbox.waiter.take() {
        waiter.wake();
    }
}

fn lock(inbox: &Mutex<Inbox>) -> std::sync::MutexGuard<'_, Inbox> {
    inbox.lock().expect("nothing panics while it holds the inbox")
}

/// The text of a scrape.
fn exposition(shards: &[Snapshot], lags: &[lag::Lag<'_>], ages: &Ages) -> String {
    let mut out = Text(String::with_capacity(16 * 1024));
    requests(&mut out, shards);
    let sum = |of: fn(&Snapshot) -> u64| shards.iter().map(of).sum::<u64>();
    out.one(
        "kafka_server_brokertopicmetrics_bytesin_total",
        "counter",
        "Bytes of records produced.",
        sum(|s| s.produced_bytes),
    );
    out.one(
        "kafka_server_brokertopicmetrics_messagesin_total",
        "counter",
        "Records produced.",
        sum(|s| s.produced_records),
    );
    out.one(
        "kafka_server_brokertopicmetrics_bytesout_total",
        "counter",
        "Bytes of records fetched.",
        sum(|s| s.fetched_bytes),
    );
    out.one(
        "ringlog_network_bytes_received_total",
        "counter",
        "Bytes of requests received.",
        sum(|s| s.bytes_in),
    );
    out.one("ringlog_network_bytes_sent_total", "counter", "Bytes of answers sent.", sum(|s| s.bytes_out));
    connections(&mut out, shards);
    out.one(
        "ringlog_fetches_waiting",
        "gauge",
        "Fetches that wait for data.",
        sum(|s| s.waiting_fetches as u64),
    );
    out.head("ringlog_memory_bytes", "gauge", "Memory in use, by budget.");
    for (budget, bytes) in [
        ("requests", sum(|s| s.request_memory as u64)),
        ("fetches", sum(|s| s.fetch_memory as u64)),
        ("cache", sum(|s| s.cache as u64)),
    ] {
        out.line(format_args!("ringlog_memory_bytes{{budget=\"{budget}\"}} {bytes}"));
    }
    out.head("ringlog_shard_busy_seconds_total", "counter", "Time a shard was awake.");
    for (shard, snapshot) in shards.iter().enumerate() {
        let seconds = Duration::from_nanos(snapshot.busy_nanos).as_secs_f64();
        out.line(format_args!("ringlog_shard_busy_seconds_total{{shard=\"{shard}\"}} {seconds}"));
    }
    drivers(&mut out, shards);
    partitions(&mut out, shards);
    groups::groups(&mut out, shards, lags, ages);
    cleaner::cleaner(&mut out, shards);
    out.0
}

fn connections(out: &mut Text, shards: &[Snapshot]) {
    let open = shards.iter().map(|shard| shard.connections as u64).sum::<u64>();
    out.one("kafka_server_socketservermetrics_connection_count", "gauge", "Open connections.", open);
    let closed = |reason: &str| shards.iter().filter_map(|shard| shard.closed.get(reason)).sum::<u64>();
    out.one(
        "ringlog_connections_refused_total",
        "counter",
        "Connections closed for what their client sent.",
        closed("refused"),
    );
    let name = "ringlog_connections_closed_total";
    out.head(name, "counter", "Connections that have ended, by reason.");
    let reasons: BTreeSet<&str> = shards.iter().flat_map(|shard| shard.closed.keys().copied()).collect();
    for reason in reasons {
        out.line(format_args!("{name}{{reason=\"{reason}\"}} {}", closed(reason)));
    }
    // The shards share them.
    let quotas = shards.first().map(|shard| shard.quotas).unwrap_or_default();
    let name = "ringlog_connections_limited_total";
    out.head(name, "counter", "Connections closed for max.connections.per.ip, and those that had to wait.");
    out.line(format_args!("{name}{{how=\"closed\"}} {}", quotas.refused));
    out.line(format_args!("{name}{{how=\"delayed\"}} {}", quotas.delayed));
}

fn requests(out: &mut Text, shards: &[Snapshot]) {
    let mut all: BTreeMap<ApiKey, RequestCounts> = BTreeMap::new();
    let mut errors: BTreeMap<(ApiKey, ErrorCode), u64> = BTreeMap::new();
    for shard in shards {
        for (api, counts) in &shard.requests {
            let sum = all.entry(*api).or_default();
            sum.count += counts.count;
            sum.nanos += counts.nanos;
            sum.buckets.iter_mut().zip(counts.buckets).for_each(|(sum, more)| *sum += more);
        }
        for (key, count) in &shard.errors {
            *errors.entry(*key).or_default() += count;
        }
    }
    let name = "kafka_network_requestmetrics_requests_total";
    out.head(name, "counter", "Requests answered, by API.");
    for (api, counts) in &all {
        out.line(format_args!("{name}{{request=\"{api}\"}} {}", counts.count));
    }
    let name = "kafka_network_requestmetrics_errors_total";
    out.head(name, "counter", "Errors in answers, by API and error.");
    for ((api, code), count) in &errors {
        out.line(format_args!("{name}{{request=\"{api}\",error=\"{code}\"}} {count}"));
    }
    let name = "kafka_network_requestmetrics_totaltime_seconds";
    out.head(name, "histogram", "From a request's arrival to its answer, by API.");
    for (api, counts) in &all {
        let mut below = 0;
        for (bound, count) in BUCKETS.iter().zip(counts.buckets) {
            below += count;
            let seconds = Duration::from_micros(*bound).as_secs_f64();
            out.line(format_args!("{name}_bucket{{request=\"{api}\",le=\"{seconds}\"}} {below}"));
        }
        out.line(format_args!("{name}_bucket{{request=\"{api}\",le=\"+Inf\"}} {}", counts.count));
        let seconds = Duration::from_nanos(counts.nanos).as_secs_f64();
        out.line(format_args!("{name}_sum{{request=\"{api}\"}} {seconds}"));
        out.line(format_args!("{name}_count{{request=\"{api}\"}} {}", counts.count));
    }
}

fn drivers(out: &mut Text, shards: &[Snapshot]) {
    let sum = |of: fn(&Counters) -> u64| shards.iter().map(|shard| of(&shard.io)).sum::<u64>();
    // These two are the process', and every shard tells them.
    let any = |of: fn(&Counters) -> u64| shards.iter().map(|shard| of(&shard.io)).max().unwrap_or(0);
    out.one(
        "ringlog_io_wq_switches_total",
        "counter",
        "Context switches of the kernel's io-wq threads of this process: operations that left their core.",
        any(|io| io.punts),
    );
    out.one("ringlog_flushes_total", "counter", "Flushes and file syncs carried out.", any(|io| io.syncs));
    out.one(
        "ringlog_sync_requests_total",
        "counter",
        "Syncs asked for, before sharing.",
        sum(|io| io.sync_requests),
    );
    out.one("ringlog_jobs_total", "counter", "Operations run on helper threads.", sum(|io| io.jobs));
    out.one(
        "ringlog_io_enters_total",
        "counter",
        "Times a shard entered the kernel for its operations.",
        sum(|io| io.enters),
    );
    out.one(
        "ringlog_file_bytes_written_total",
        "counter",
        "Bytes written to logs.",
        sum(|io| io.bytes_written),
    );
    out.one("ringlog_file_bytes_read_total", "counter", "Bytes read from files.", sum(|io| io.bytes_read));
}

fn partitions(out: &mut Text, shards: &[Snapshot]) {
    let all = || shards.iter().flat_map(|shard| &shard.partitions);
    let unopened = shards.iter().map(|shard| shard.unopened as u64).sum::<u64>();
    let leaders = all().count() as u64;
    out.one(
        "kafka_server_replicamanager_partitioncount",
        "gauge",
        "Partitions of this broker.",
        leaders + unopened,
    );
    out.one("kafka_server_replicamanager_leadercount", "gauge", "Partitions this broker leads.", leaders);
    let offline = all().filter(|partition| partition.offline).count() as u64;
    out.one(
        "kafka_server_replicamanager_offlinereplicacount",
        "gauge",
        "Partitions whose log has failed, or could not be opened.",
        offline + unopened,
    );
    out.one(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "gauge",
        "Data directories that cannot be used, or have failed.",
        shards.iter().map(|shard| shard.offline_directories as u64).max().unwrap_or(0),
    );
    out.one(
        "ringlog_log_damaged_total",
        "counter",
        "Places where stored bytes were found not to be what was written.",
        shards.iter().map(|shard| shard.damaged).sum::<u64>(),
    );
    let scanned = shards.iter().map(|shard| shard.recovery.scanned_bytes).sum();
    out.one(
        "ringlog_recovery_scanned_bytes_total",
        "counter",
        "Bytes of batches checked when logs were opened: none after a clean stop.",
        scanned,
    );
    type Figure = (&'static str, &'static str, fn(&PartitionSizes) -> i128);
    let figures: [Figure; 6] = [
        ("kafka_log_log_size", "Valid bytes of a partition.", |p| p.valid_bytes.into()),
        ("ringlog_log_prepared_bytes", "Bytes prepared for what is to come.", |p| p.prepared_bytes.into()),
        ("kafka_log_log_numlogsegments", "Segments of a partition.", |p| p.segments as i128),
        ("kafka_log_log_logstartoffset", "The first offset.", |p| p.log_start.into()),
        ("kafka_log_log_logendoffset", "The offset after the last.", |p| p.log_end.into()),
        ("kafka_cluster_partition_highwatermark", "Up to where consumers see.", |p| p.high_watermark.into()),
    ];
    for (name, help, figure) in figures {
        out.head(name, "gauge", help);
        for partition in all() {
            let (topic, index, value) = (&partition.topic, partition.id.index, figure(partition));
            out.line(format_args!("{name}{{topic=\"{topic}\",partition=\"{index}\"}} {value}"));
        }
    }
}

/// Lines of the exposition format.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_shards_add_up_in_the_text() {
        let metrics = Metrics::default();
        metrics.answered(ApiKey::Produce, Duration::from_micros(60));
        metrics.answered(ApiKey::Produce, Duration::from_secs(60));
        metrics.error(ApiKey::Produce, ErrorCode::CorruptMessage);
        metrics.error(ApiKey::Produce, ErrorCode::None);
        let snapshot = Snapshot {
            requests: metrics.0.requests.borrow().clone(),
            errors: metrics.0.errors.borrow().clone(),
            connections: 2,
            unopened: 1,
            ..Snapshot::default()
        };
        let text = exposition(&[snapshot.clone(), snapshot], &[], &Ages::new());
        for line in [
            "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 4",
            "kafka_network_requestmetrics_errors_total{request=\"Produce\",error=\"CORRUPT_MESSAGE\"} 2",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"0.00005\"} 0",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"0.0001\"} 2",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"+Inf\"} 4",
            "kafka_server_socketservermetrics_connection_count 4",
            "kafka_server_replicamanager_partitioncount 2",
            "kafka_server_replicamanager_leadercount 0",
            "kafka_server_replicamanager_offlinereplicacount 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nin\n{text}");
        }
    }
}
