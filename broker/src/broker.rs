//! The broker as one shard sees it: the partitions it owns, the connections it serves, the image it goes by.
//!
//! Every shard has one; they share nothing but mailboxes. What concerns a partition is asked of its owner with
//! [`Broker::ask`], which answers from here when that is this shard: handlers do not care where a partition lies.

mod administering;
mod cleaning;
mod closing;
mod coordinating;
mod identity;
mod journals;
mod keeping;
mod loads;
mod offline;
mod opening;
mod reading;
mod retaining;
mod sharing;
#[cfg(test)]
mod tests;

pub use cleaning::CleanerFigures;
pub use identity::{remove_leftovers, topic_of};
pub use keeping::StateAnswer;
pub use offline::Offline;
pub use opening::Recovery;
pub use reading::{Fetch, ReadResult};
pub use sharing::{ShareAcknowledgements, ShareFetch, ShareFound, ShareRead};

use crate::api;
use crate::calls::{Answer, Call, Mesh};
use crate::cluster::{self, DataDirs, Image, Topic};
use crate::config::{BrokerConfig, Settings, TopicConfig};
use crate::metrics::{MemoryUse, Metrics};
use crate::net::{
    CloseReason, ConnectionQuotas, Limits, Listeners, NewConnection, Peer, PendingReply, QuotaCounts,
    Requests, Unfinished,
};
use crate::partition::{Acks, Appending, Partition, PartitionId, Waiter};
use crate::share;
use bytes::{Bytes, BytesMut};
use coordinating::{Coordinators, Questions};
use journals::Journals;
use keeping::Keepers;
use loads::Loads;
use offline::OfflineParts;
use reading::ParkedReads;
use ringlog_engine::io::Instant;
use ringlog_engine::log::Cache;
use ringlog_engine::shard::sync::{Credits, Event, Permit, oneshot};
use ringlog_engine::shard::{Shard, ShardId};
use ringlog_wire::{ApiKey, ErrorCode};
use sharing::Shares;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One shard of the broker. Cheap to clone on its shard.
#[derive(Clone)]
pub struct Broker(Rc<Inner>);

struct Inner {
    shard: Shard,
    mesh: Mesh,
    config: Arc<BrokerConfig>,
    /// What the broker was started with, and what was set since.
    settings: RefCell<Arc<Settings>>,
    dirs: RefCell<Option<Arc<DataDirs>>>,
    journals: RefCell<Rc<Journals>>,
    cache: Cache,
    image: RefCell<Arc<Image>>,
    /// What topics run with, by what was set on them: of ten thousand, most have nothing of their own.
    topic_configs: RefCell<HashMap<BTreeMap<String, String>, Arc<TopicConfig>>>,
    partitions: RefCell<BTreeMap<PartitionId, Partition>>,
    /// Partitions being opened, or waiting to be; those really in it; and those being removed.
    opening: RefCell<BTreeSet<PartitionId>>,
    opening_now: Cell<usize>,
    /// Logs being closed.
    closing_now: Cell<usize>,
    /// That partitions have been opened is about to be noted.
    noting: Cell<bool>,
    removing: Cell<usize>,
    offline: RefCell<OfflineParts>,
    recovery: RefCell<Recovery>,
    /// Changes of the metadata that the controller, if it is here, carries out.
    changing: Cell<usize>,
    changed: Event,
    /// Producer ids this shard may still hand out.
    producer_ids: RefCell<std::ops::Range<i64>>,
    controller: RefCell<Option<Controller>>,
    /// A disk is full: retention does not wait for its time.
    room_wanted: Cell<bool>,
    /// When this shard has last said that a disk is full.
    full_told: Cell<Option<Instant>>,
    room_is_wanted: Event,
    cleaned: RefCell<CleanerFigures>,
    sessions: RefCell<api::Sessions>,
    /// Fetches of this shard's connections that wait for data, by ticket.
    waiters: RefCell<HashMap<u64, Rc<Waiter>>>,
    next_ticket: Cell<u64>,
    parked_reads: ParkedReads,
    /// The groups this shard coordinates, and what its connections have asked of coordinators.
    coordinators: Coordinators,
    questions: Questions,
    /// What share groups make of this shard's partitions, where that is kept, and what members read over this shard's connections.
    shares: Shares,
    keepers: Keepers,
    share_sessions: RefCell<share::Sessions>,
    fetch_memory: Credits,
    heavy_fetch_memory: Credits,
    /// Memory for other replies that may be large, and the largest each API has had.
    list_memory: Credits,
    list_bytes: RefCell<BTreeMap<ApiKey, usize>>,
    unfinished: Rc<Unfinished>,
    /// Turns of heavy fetches.
    heavy_fetches: Credits,
    listeners: RefCell<Option<Listeners>>,
    quotas: Arc<ConnectionQuotas>,
    loads: Loads,
    stage: Cell<Stage>,
    request_memory: Credits,
    heavy_request_memory: Credits,
    large_request_memory: Credits,
    metrics: Metrics,
    /// Lines about closed connections that need not be said again.
    said: RefCell<BTreeSet<String>>,
}

/// What a shard of the broker is made of.
pub struct Parts {
    /// The shard.
    pub shard: Shard,
    /// Its mailboxes.
    pub mesh: Mesh,
    /// What the broker runs with.
    pub config: Arc<BrokerConfig>,
    /// Memory for the tails of logs.
    pub cache: Cache,
    /// The connections of all shards.
    pub quotas: Arc<ConnectionQuotas>,
}

/// How far a shard's stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It does not stop.
    Serving,
    /// Requests in hand are being answered.
    Draining,
    /// There are no connections any more.
    Drained,
    /// The logs are closed.
    Closed,
}

/// An answer to come.
pub type PendingAnswer = Pin<Box<dyn Future<Output = Answer>>>;

/// Answers what concerns the whole cluster.
type Controller = Rc<dyn Fn(cluster::Request) -> Pin<Box<dyn Future<Output = cluster::Outcome>>>>;

/// How often producers whose time is up are looked for.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);

impl Broker {
    /// A shard without partitions or listeners: see [`Broker::apply`] and [`Broker::listen`].
    pub fn start(parts: Parts) -> Self {
        let shards = usize::from(parts.mesh.shards());
        let config = &parts.config;
        let sessions = api::Sessions::new(parts.shard.id(), config.fetch_sessions_max.div_ceil(shards));
        let share_sessions_max: usize =
            config.settings.parse("group.share.max.share.sessions").expect("it has a default");
        let request_bytes = config.requests_bytes_budget / shards;
        let request_memory = Credits::new(request_bytes / 8);
        let heavy_request_memory = Credits::new(request_bytes / 16);
        let unfinished = Unfinished::new(request_bytes / 8);
        let left = request_bytes / 16 * 11;
        let large_request_memory = Credits::new(left.max(config.request_bytes_max));
        let reply_bytes = (config.replies_bytes_budget / shards).max(REPLY_BYTES_LEAST);
        let limits = Limits {
            request_bytes_max: config.request_bytes_max,
            quotas: parts.quotas.clone(),
            idle: config.connection_idle_ms.map_or(Duration::ZERO, Duration::from_millis),
            handshake: config.handshake_ms.map_or(Duration::ZERO, Duration::from_millis),
            frame_time_max: FRAME_TIME_MAX,
            overlapping_max: PRODUCES_IN_FLIGHT_MAX,
            request_memory: request_memory.clone(),
            heavy_request_memory: heavy_request_memory.clone(),
            large_request_memory: large_request_memory.clone(),
            unfinished: unfinished.clone(),
        };
        let broker = Self(Rc::new(Inner {
            mesh: parts.mesh,
            sessions: RefCell::new(sessions),
            fetch_memory: Credits::new(reply_bytes / 2),
            heavy_fetch_memory: Credits::new(reply_bytes / 4),
            list_memory: Credits::new(reply_bytes / 4),
            list_bytes: RefCell::default(),
            unfinished: unfinished.clone(),
            heavy_fetches: Credits::new(reading::HEAVY_FETCHES_MAX),
            shard: parts.shard,
            settings: RefCell::new(Arc::new(parts.config.settings.clone())),
            config: parts.config,
            dirs: RefCell::new(None),
            journals: RefCell::default(),
            cache: parts.cache,
            image: RefCell::default(),
            topic_configs: RefCell::default(),
            partitions: RefCell::default(),
            opening: RefCell::default(),
            opening_now: Cell::new(0),
            closing_now: Cell::new(0),
            noting: Cell::new(false),
            removing: Cell::new(0),
            offline: RefCell::default(),
            recovery: RefCell::default(),
            changing: Cell::new(0),
            producer_ids: RefCell::new(0..0),
            controller: RefCell::new(None),
            room_wanted: Cell::new(false),
            full_told: Cell::new(None),
            room_is_wanted: Event::default(),
            cleaned: RefCell::default(),
            changed: Event::default(),
            waiters: RefCell::default(),
            next_ticket: Cell::new(0),
            parked_reads: ParkedReads::default(),
            coordinators: Coordinators::default(),
            questions: Questions::default(),
            shares: Shares::default(),
            keepers: Keepers::default(),
            share_sessions: RefCell::new(share::Sessions::new(share_sessions_max.div_ceil(shards))),
            listeners: RefCell::new(None),
            quotas: parts.quotas,
            loads: Loads::default(),
            stage: Cell::new(Stage::Serving),
            request_memory,
            heavy_request_memory,
            large_request_memory,
            metrics: Metrics::default(),
            said: RefCell::default(),
        }));
        let listeners = Listeners::new(&broker.0.shard, limits, Rc::new(broker.clone()));
        *broker.0.listeners.borrow_mut() = Some(listeners);
        let this = broker.clone();
        broker.0.mesh.serve(move |from, call, reply| {
            let answer = this.handle(from, call);
            this.0.shard.spawn(async move { reply.send(answer.await) });
        });
        // What the broker was handed to it holds itself.
        let held = broker.clone();
        broker.0.shard.on_end(move || {
            drop(held.0.listeners.take());
            drop(held.0.controller.take());
        });
        broker.0.shard.spawn(broker.clone().expire_acks());
        broker.0.shard.spawn(broker.clone().learn_loads());
        broker.0.shard.spawn(broker.clone().retain_logs());
        broker.0.shard.spawn(broker.clone().clean_logs());
        broker
    }

    /// Its shard.
    pub fn shard(&self) -> &Shard {
        &self.0.shard
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What the broker runs with.
    pub fn config(&self) -> &Arc<BrokerConfig> {
        &self.0.config
    }

    /// Config values as of now: what the broker was started with, and what was set since.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings.borrow().clone()
    }

    /// The metadata as of now.
    pub fn image(&self) -> Arc<Image> {
        self.0.image.borrow().clone()
    }

    /// A partition that the metadata knows.
    pub fn find(&self, topic: &str, index: i32) -> Option<PartitionId> {
        let image = self.image();
        let topic = image.topic(topic)?;
        topic.partition(index).map(|_| PartitionId::new(topic.id, index))
    }

    /// How many shards the broker has.
    pub fn shards(&self) -> u16 {
        self.0.mesh.shards()
    }

    /// The shard that owns a partition: those of one topic go round all shards, beginning where its id says.
    pub fn owner(&self, partition: PartitionId) -> ShardId {
        let [a, b, c, d, ..] = partition.topic;
        let start = u32::from_be_bytes([a, b, c, d]);
        let index = u32::try_from(partition.index).expect("indexes of partitions are not negative");
        let shard = start.wrapping_add(index) % u32::from(self.shards());
        ShardId(u16::try_from(shard).expect("fewer than there are shards"))
    }

    /// What a topic runs with.
    pub fn topic_config(&self, topic: &Topic) -> Arc<TopicConfig> {
        let mut known = self.0.topic_configs.borrow_mut();
        if let Some(config) = known.get(&topic.configs) {
            return config.clone();
        }
        let config = Arc::new(TopicConfig::resolve(&self.settings(), &topic.configs));
        known.insert(topic.configs.clone(), config.clone());
        config
    }

    /// A partition this shard owns and has open.
    pub fn partition(&self, id: PartitionId) -> Option<Partition> {
        self.0.partitions.borrow().get(&id).cloned()
    }

    /// All partitions this shard has open.
    pub fn partitions(&self) -> Vec<Partition> {
        self.0.partitions.borrow().values().cloned().collect()
    }

    /// How many there are.
    pub fn partition_count(&self) -> usize {
        self.0.partitions.borrow().len()
    }

    /// Some of them, those after one: for who looks at all in portions.
    pub fn partitions_after(&self, after: Option<PartitionId>, most: usize) -> Vec<Partition> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let partitions = self.0.partitions.borrow();
        partitions
            .range((from, Bound::Unbounded))
            .take(most)
            .map(|(_, partition)| partition.clone())
            .collect()
    }

    /// Listens on one more address.
    pub fn listen(&self, index: usize, address: SocketAddr) -> std::io::Result<SocketAddr> {
        self.listeners().listen(index, address)
    }

    /// Whether the broker is shutting down.
    pub fn is_stopping(&self) -> bool {
        self.0.stage.get() != Stage::Serving
    }

    /// Connections of this shard.
    pub fn connection_count(&self) -> usize {
        self.listeners().connection_count()
    }

    /// What the limits of connections have done, over all shards.
    pub fn quota_counts(&self) -> QuotaCounts {
        self.0.quotas.counts()
    }

    /// Fetches of this shard's connections that wait for data.
    pub fn waiting_fetches(&self) -> usize {
        self.0.waiters.borrow().len()
    }

    /// All traces of waiting fetches: on this shard's partitions, and of its connections.
    pub fn parked_count(&self) -> usize {
        let parked: usize =
            self.0.partitions.borrow().values().map(|partition| partition.parked().len()).sum();
        parked + self.0.waiters.borrow().len() + self.0.parked_reads.len()
    }

    /// Hands this shard the cluster's controller, which answers [`Broker::control`] of all shards. For shard 0.
    pub fn lead_cluster(
        &self,
        handle: impl Fn(cluster::Request) -> Pin<Box<dyn Future<Output = cluster::Outcome>>> + 'static,
    ) {
        *self.0.controller.borrow_mut() = Some(Rc::new(handle));
    }

    /// Asks the controller, wherever it is.
    pub async fn control(&self, request: cluster::Request) -> cluster::Outcome {
        match self.ask(ShardId(0), Call::Control(request)).await {
            Answer::Control(outcome) => outcome,
            _ => unreachable!("the controller answers for itself"),
        }
    }

    /// A producer id nobody has had. Ids come in blocks, which are durable before the first of them is used.
    pub async fn new_producer_id(&self) -> Result<i64, ErrorCode> {
        loop {
            if let Some(id) = self.0.producer_ids.borrow_mut().next() {
                return Ok(id);
            }
            match self.control(cluster::Request::ProducerIds).await {
                cluster::Outcome::ProducerIds { first, count } => {
                    *self.0.producer_ids.borrow_mut() = first..first + count;
                }
                // Retriable: the client asks again.
                _ => return Err(ErrorCode::CoordinatorNotAvailable),
            }
        }
    }

    /// The fetch sessions of this shard's connections.
    pub fn sessions(&self) -> RefMut<'_, api::Sessions> {
        self.0.sessions.borrow_mut()
    }

    /// Producers that wait for an acknowledgement of this shard's partitions.
    pub fn acks_waiting(&self) -> usize {
        self.0.partitions.borrow().values().map(Partition::acks_waiting).sum()
    }

    /// Memory taken by requests in hand and by replies, in bytes.
    pub fn memory_in_use(&self) -> (usize, usize) {
        let [requests, replies, _] = self.memory_use();
        (requests.used, replies.used)
    }

    /// Memory for requests in hand, for replies, and for the newest batches: what is taken, and what there is on this shard.
    pub fn memory_use(&self) -> [MemoryUse; 3] {
        let inner = &self.0;
        let taken = |of: [&Credits; 3]| of.map(Credits::taken).iter().sum::<usize>();
        let all =
            |of: [&Credits; 3]| of.map(|credits| credits.taken() + credits.left()).iter().sum::<usize>();
        let requests = [&inner.request_memory, &inner.heavy_request_memory, &inner.large_request_memory];
        let replies = [&inner.fetch_memory, &inner.heavy_fetch_memory, &inner.list_memory];
        [
            MemoryUse {
                budget: "requests",
                used: taken(requests) + inner.unfinished.bytes(),
                limit: all(requests) + inner.unfinished.bytes_max(),
            },
            MemoryUse { budget: "fetches", used: taken(replies), limit: all(replies) },
            MemoryUse {
                budget: "cache",
                used: inner.cache.bytes(),
                limit: inner.config.cache_bytes / usize::from(self.shards()),
            },
        ]
    }

    /// Memory for an answer to this API, as large as the largest there has been. Nothing is taken where answers are small.
    pub async fn list_memory(&self, api: ApiKey) -> Option<Permit> {
        let largest = self.0.list_bytes.borrow().get(&api).copied();
        let bytes = largest.filter(|bytes| *bytes > LIST_BYTES_UNCOUNTED)?;
        Some(self.0.list_memory.take(bytes).await)
    }

    /// An answer has come to this many bytes.
    pub fn note_list_bytes(&self, api: ApiKey, bytes: usize) {
        let mut largest = self.0.list_bytes.borrow_mut();
        let largest = largest.entry(api).or_default();
        *largest = bytes.max(*largest);
    }

    /// Whether [`Broker::drain`] and [`Broker::close`] have ended.
    pub fn stage(&self) -> Stage {
        self.0.stage.get()
    }

    /// Takes no more connections and requests, answers what has been asked, closes the connections.
    pub async fn drain(&self) {
        self.0.stage.set(Stage::Draining);
        let listeners = self.listeners();
        listeners.stop_accepting().await;
        for waiter in self.0.waiters.borrow().values() {
            waiter.fire();
        }
        self.release_members();
        let mut drained = std::pin::pin!(listeners.drain());
        let mut late = std::pin::pin!(self.0.shard.sleep(DRAIN_TIME_MAX));
        let drained = std::future::poll_fn(|cx| {
            if drained.as_mut().poll(cx).is_ready() {
                return std::task::Poll::Ready(true);
            }
            late.as_mut().poll(cx).map(|()| false)
        })
        .await;
        if !drained {
            listeners.close().await;
        }
        // Changes whose clients have gone; the other shards still answer.
        while self.0.changing.get() > 0 {
            self.0.changed.next().await;
        }
        self.0.stage.set(Stage::Drained);
    }

    /// Asks the shard that owns something; in the order of the calls.
    pub fn ask(&self, owner: ShardId, call: Call) -> PendingAnswer {
        if owner == self.0.shard.id() {
            return self.handle(owner, call);
        }
        Box::pin(self.0.mesh.call(owner, call))
    }

    /// Tells another shard something whose answer does not matter.
    fn tell(&self, owner: ShardId, call: Call) {
        drop(self.ask(owner, call));
    }

    /// Takes in a call. Everything that has to happen in order has happened when this returns.
    fn handle(&self, from: ShardId, call: Call) -> PendingAnswer {
        match call {
            Call::Append { batches, alone, acks, timeout } => self.append_all(batches, alone, acks, timeout),
            Call::Read { reads, bytes_max, ticket } => self.read(from, reads, bytes_max, ticket),
            Call::Unpark(ticket) => {
                self.0.parked_reads.remove(from, ticket);
                done()
            }
            Call::Woken(ticket) => {
                if let Some(waiter) = self.0.waiters.borrow().get(&ticket) {
                    waiter.fire();
                }
                done()
            }
            Call::Seek(seeks) => {
                let this = self.clone();
                Box::pin(async move {
                    let mut found = Vec::with_capacity(seeks.len());
                    for seek in seeks {
                        found.push(match this.partition(seek.partition) {
                            Some(partition) => {
                                partition.seek(seek.sought, seek.reader, seek.current_leader_epoch).await
                            }
                            None => Err(this.absent(seek.partition)),
                        });
                    }
                    Answer::Found(found)
                })
            }
            Call::EpochEnds(queries) => {
                let ends = queries
                    .into_iter()
                    .map(|query| match self.partition(query.partition) {
                        Some(partition) => partition.epoch_end(query.epoch, query.current_leader_epoch),
                        None => Err(self.absent(query.partition)),
                    })
                    .collect();
                Box::pin(std::future::ready(Answer::EpochEnds(ends)))
            }
            Call::Directories(dirs, left) => {
                self.open_journals(&dirs, left);
                *self.0.dirs.borrow_mut() = Some(dirs);
                done()
            }
            Call::BeginJournals(dirs) => {
                self.0.journals.borrow().begin(&dirs);
                done()
            }
            Call::Apply(image) => {
                let this = self.clone();
                Box::pin(async move {
                    this.apply(image).await;
                    Answer::Done
                })
            }
            Call::Offline(what) => {
                self.learn_offline(what);
                done()
            }
            Call::MakeRoom => {
                self.hurry();
                done()
            }
            Call::Control(request) => self.change(request),
            Call::Group { partition, group, request, ticket } => {
                self.serve_group(partition, &group, request, ticket);
                done()
            }
            Call::GroupAnswered(number, answer) => {
                self.0.questions.answer(number, answer);
                done()
            }
            Call::ShareFetch { read, ticket } => self.share_fetch(from, read, ticket),
            Call::ShareAcknowledge(said) => self.share_acknowledge(said),
            Call::ShareRelease { group, member, partitions } => {
                self.share_release(&group, &member, &partitions)
            }
            Call::ShareState { partition, key, request } => self.serve_state(partition, &key, &request),
            Call::ShareForget { group, topics } => {
                self.forget_shared(
                    |id, known| known == group && topics.contains(&id.topic),
                    ErrorCode::NotLeaderOrFollower,
                );
                done()
            }
            Call::ListGroups => Box::pin(std::future::ready(Answer::Groups(self.list_own_groups()))),
            Call::DeleteRecords(deletions) => self.delete_records(deletions),
            Call::Sizes => Box::pin(std::future::ready(Answer::Sizes(self.sizes()))),
            Call::Producers(partitions) => {
                Box::pin(std::future::ready(Answer::Producers(self.known_producers(&partitions))))
            }
            Call::Load => {
                let load = self.0.loads.own.clone();
                Box::pin(std::future::ready(Answer::Load(load)))
            }
            Call::Adopt(new) => {
                self.listeners().serve(new);
                self.0.loads.own.store(self.connection_count(), Ordering::Relaxed);
                done()
            }
        }
    }

    /// Has the controller carry a request out, in a task of its own: once begun it is done whole, also when the client that asked
    /// has hung up.
    fn change(&self, request: cluster::Request) -> PendingAnswer {
        let controller = self.0.controller.borrow().clone().expect("shard 0 has the controller");
        let (done, outcome) = oneshot();
        self.0.changing.set(self.0.changing.get() + 1);
        let this = self.clone();
        let makes_partitions = matches!(
            request,
            cluster::Request::CreateTopics { .. } | cluster::Request::CreatePartitions { .. }
        );
        self.0.shard.spawn(async move {
            done.send(controller(request).await);
            if makes_partitions {
                this.note_opened_soon();
            }
            this.0.changing.set(this.0.changing.get() - 1);
            this.0.changed.notify();
        });
        Box::pin(async move { Answer::Control(outcome.await.expect("it is carried out to its end")) })
    }

    /// Appends a client's batch to a partition of this shard; `alone` tells whether hardly anything else lies in the batch's memory.
    pub fn append(
        &self,
        id: PartitionId,
        records: &Bytes,
        alone: bool,
        acks: Acks,
        deadline: Instant,
    ) -> Appending {
        match self.partition(id) {
            Some(partition) => partition.append(records, alone, acks, deadline),
            None => Appending::refused(self.absent(id)),
        }
    }

    fn append_all(
        &self,
        batches: Vec<(PartitionId, Bytes)>,
        alone: bool,
        acks: Acks,
        timeout: Duration,
    ) -> PendingAnswer {
        let deadline = self.0.shard.now() + timeout;
        let append = |(id, records)| self.append(id, &records, alone, acks, deadline);
        let appending: Vec<_> = batches.into_iter().map(append).collect();
        Box::pin(async move {
            let mut answers = Vec::with_capacity(appending.len());
            for append in appending {
                answers.push(append.acknowledged().await);
            }
            Answer::Appended(answers)
        })
    }

    async fn expire_acks(self) {
        while !self.is_stopping() {
            self.0.shard.sleep(EXPIRE_EVERY).await;
            let now = self.0.shard.now();
            for partition in self.0.partitions.borrow().values() {
                partition.expire_acks(now);
            }
        }
    }

    /// Says why a connection was closed, if it was not the client's wish: once for each client and reason.
    fn log_close(&self, peer: &Peer, reason: &CloseReason) {
        let CloseReason::Refused(why) = reason else { return };
        let line = format!("client {:?}: connection closed: {why}", peer.client_id.borrow());
        self.say_once(&peer.address, line);
    }

    fn say_once(&self, who: &dyn std::fmt::Display, line: String) {
        let mut said = self.0.said.borrow_mut();
        if said.len() < SAID_MAX && said.insert(line.clone()) {
            eprintln!("{who} {line}");
        }
    }

    fn listeners(&self) -> Listeners {
        self.0.listeners.borrow().clone().expect("made at start")
    }
}

fn done() -> PendingAnswer {
    Box::pin(std::future::ready(Answer::Done))
}

impl Requests for Broker {
    fn overlaps(&self, frame: &[u8]) -> bool {
        api::overlaps(frame)
    }

    fn cost(&self, start: &[u8], len: usize) -> usize {
        api::cost(start, len)
    }

    fn memory(&self, start: &Bytes, len: usize) -> BytesMut {
        api::memory(self, start, len)
    }

    fn dispatch(&self, peer: &Rc<Peer>, frame: Bytes) -> PendingReply {
        api::dispatch(self, peer, &frame)
    }

    fn hand_over(&self, new: NewConnection, connections: usize) -> Option<NewConnection> {
        match self.lighter_shard(connections) {
            Some(shard) => {
                self.tell(shard, Call::Adopt(new));
                None
            }
            None => {
                self.0.loads.own.store(connections + 1, Ordering::Relaxed);
                Some(new)
            }
        }
    }

    fn is_short_of_reply_memory(&self) -> bool {
        let inner = &self.0;
        [&inner.fetch_memory, &inner.heavy_fetch_memory, &inner.list_memory]
            .into_iter()
            .any(Credits::is_short)
    }

    fn too_many(&self, address: IpAddr) {
        let line = "has as many connections as max.connections.per.ip allows: another was closed";
        self.say_once(&address, format!("{line} ({address})"));
    }

    fn closed(&self, peer: &Peer, reason: &CloseReason) {
        self.0.metrics.closed(reason);
        self.0.loads.own.store(self.connection_count().saturating_sub(1), Ordering::Relaxed);
        self.share_disconnected(peer.socket);
        self.log_close(peer, reason);
    }
}

/// Memory for the replies of a shard, at least.
const REPLY_BYTES_LEAST: usize = 4 << 20;

/// Replies that are not larger than this are not worth counting: of each connection there is one.
const LIST_BYTES_UNCOUNTED: usize = 4 << 10;

/// Produce requests of one connection that overlap. Clients send five at a time; acks=0 and others may send more.
const PRODUCES_IN_FLIGHT_MAX: usize = 64;

/// A request that has begun must arrive within this time (and a second for each 64 KiB).
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// Lines about closed connections, at most: a client that misbehaves in ever new ways does not fill the log.
const SAID_MAX: usize = 1000;

/// How long requests in hand may take when the broker stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
