//! A broker of several shards in one thread, as the simulator runs it, here over loopback sockets.

use crate::broker::{Broker, Parts, Stage};
use crate::calls::Mesh;
use crate::cluster::{Controller, DataDirs, Disks, MetadataLog, PartitionRecord, Record};
use crate::config::{BrokerConfig, Settings, Source};
use crate::net::ConnectionQuotas;
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::log::Cache;
use ringlog_engine::shard::{Executor, ShardId, mesh_ends};
use ringlog_wire::Uuid;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

type Act = Box<dyn FnOnce(&[Broker]) + Send>;

/// A running broker. Stopped, drained and checked for leaks when dropped.
pub(super) struct TestBroker {
    pub(super) address: SocketAddr,
    acts: Option<Sender<Act>>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

/// The ids of the topics made for tests: of `name`, with as many partitions as told.
pub(super) fn topic_id(name: &str) -> Uuid {
    let mut id = [7; 16];
    for (at, byte) in name.bytes().enumerate().take(12) {
        id[at + 4] = byte;
    }
    Uuid(id)
}

pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) partitions: usize,
    pub(super) configs: &'static [(&'static str, &'static str)],
}

impl TestBroker {
    pub(super) fn start(shards: u16, topics: &[Topic]) -> Self {
        Self::with(shards, &[], topics)
    }

    pub(super) fn with(shards: u16, settings: &[&str], topics: &[Topic]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_owned();
        let mut values = Settings::default();
        for pair in settings {
            values.set_pair(pair, Source::CommandLine).unwrap();
        }
        values.set_pair("listeners=PLAINTEXT://127.0.0.1:0", Source::CommandLine).unwrap();
        values.set("log.dirs", data.to_str().unwrap(), Source::CommandLine).unwrap();
        let mut config = BrokerConfig::new(values).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        config.set_bound(&[port], "localhost");
        let config = Arc::new(config);
        let quotas = ConnectionQuotas::new(&config, usize::MAX);
        let topics: Vec<Record> = topics.iter().map(record).collect();
        let (acts, to_do) = channel();
        let (started, address) = channel();
        let thread = std::thread::spawn(move || {
            let host = Host::open(std::slice::from_ref(&data), IoChoice::Poll).unwrap();
            let ends = mesh_ends(shards);
            let mut executors = Vec::new();
            let mut brokers = Vec::new();
            for (id, ends) in ends.into_iter().enumerate() {
                let executor = Executor::new(ShardId(u16::try_from(id).unwrap()), host.driver().unwrap());
                let shard = executor.shard().clone();
                brokers.push(Broker::start(Parts {
                    mesh: Mesh::open(&shard, ends),
                    shard,
                    config: config.clone(),
                    cache: Cache::new(16 << 20),
                    quotas: quotas.clone(),
                }));
                executors.push(executor);
            }
            run(executors, &brokers, data, topics, &started, &to_do);
        });
        let address = address.recv().expect("the broker starts");
        Self { address, acts: Some(acts), thread: Some(thread), _dir: dir }
    }

    /// Runs this on the broker's thread and waits for what it returns.
    pub(super) fn ask<T: Send + 'static>(&self, act: impl FnOnce(&[Broker]) -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let act: Act = Box::new(move |brokers| answer.send(act(brokers)).unwrap());
        self.acts.as_ref().unwrap().send(act).unwrap();
        answered.recv().unwrap()
    }

    pub(super) fn parked(&self) -> usize {
        self.ask(|brokers| brokers.iter().map(Broker::parked_count).sum())
    }

    /// Looks again and again until it is so.
    pub(super) fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            std::thread::yield_now();
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        drop(self.acts.take());
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.expect("the broker stops cleanly");
        }
    }
}

/// The record of a topic; its directory is filled in once it is known. The broker's start makes its leader epoch 4.
pub(super) fn record(topic: &Topic) -> Record {
    let configs = topic.configs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Record::Topic {
        name: topic.name.into(),
        id: topic_id(topic.name),
        partitions: vec![PartitionRecord { leader_epoch: 3, directory: Uuid::ZERO }; topic.partitions],
        configs: configs.collect::<BTreeMap<String, String>>(),
    }
}

/// What the broker's `main` does on shard 0, with topics that were there before.
pub(super) async fn start(brokers: Vec<Broker>, data: PathBuf, mut topics: Vec<Record>) -> SocketAddr {
    let first = brokers[0].clone();
    let config = first.config().clone();
    let io = first.shard().io().clone();
    let dirs = Arc::new(DataDirs::open(&io, &[data], config.node_id).await.unwrap());
    for topic in &mut topics {
        let Record::Topic { partitions, .. } = topic else { panic!("topics only") };
        partitions.iter_mut().for_each(|partition| partition.directory = dirs.dirs[0].id);
    }
    let (mut log, _) = MetadataLog::open(&io, dirs.dirs[0].dir, &dirs.dirs[0].path).await.unwrap();
    if !topics.is_empty() {
        log.append(&topics).await.unwrap();
    }
    drop(log);
    let opened = MetadataLog::open(&io, dirs.dirs[0].dir, &dirs.dirs[0].path).await.unwrap();
    let publisher = first.clone();
    let publish = Box::new(move |image| {
        let broker = publisher.clone();
        Box::pin(async move { broker.publish(image).await }) as Pin<Box<dyn Future<Output = ()>>>
    });
    let disks = Disks { usable: Box::new(|_| true), all_open: Box::new(|| true) };
    let controller = Controller::start(&io, config, dirs.clone(), opened, publish, disks).await.unwrap();
    first.use_directories(dirs.clone()).await;
    first.publish(controller.image()).await;
    first.sync_directories(&dirs).await;
    first.begin_journals(&dirs).await;
    first.lead_cluster(move |request| {
        let controller = controller.clone();
        Box::pin(async move { controller.handle(request).await })
    });
    let address = SocketAddr::from(([127, 0, 0, 1], first.config().listeners[0].port));
    for broker in &brokers {
        broker.listen(0, address).unwrap();
    }
    address
}

fn run(
    mut executors: Vec<Executor>,
    brokers: &[Broker],
    data: PathBuf,
    topics: Vec<Record>,
    started: &Sender<SocketAddr>,
    to_do: &Receiver<Act>,
) {
    let starting = start(brokers.to_vec(), data, topics);
    let started = started.clone();
    executors[0].shard().spawn(async move { started.send(starting.await).unwrap() });
    loop {
        match to_do.try_recv() {
            Ok(act) => act(brokers),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => break,
        }
        turn(&mut executors);
    }
    for broker in brokers {
        let broker = broker.clone();
        broker.shard().clone().spawn(async move { broker.drain().await });
    }
    while brokers.iter().any(|broker| broker.stage() < Stage::Drained) {
        turn(&mut executors);
    }
    // Who is gone may still stand in a line, of a partition or of a sync; and coordinators wait for what they have kept last.
    let left = || brokers.iter().map(left_behind).find(|left| *left != NOTHING);
    for _ in 0..TURNS_MAX {
        if left().is_none() {
            break;
        }
        turn(&mut executors);
    }
    assert_eq!(left(), None, "fetches, memory, producers left behind");
    for broker in brokers {
        let broker = broker.clone();
        broker.shard().clone().spawn(async move { broker.close().await });
    }
    while brokers.iter().any(|broker| broker.stage() < Stage::Closed) {
        turn(&mut executors);
    }
}

/// What a drained broker may have on its hands for a while: fetches that wait, memory of requests and replies, producers that wait.
pub(super) fn left_behind(broker: &Broker) -> (usize, (usize, usize), usize) {
    (broker.parked_count(), broker.memory_in_use(), broker.acks_waiting())
}

pub(super) const NOTHING: (usize, (usize, usize), usize) = (0, (0, 0), 0);

/// So many turns are enough for what is under way when a broker has drained.
const TURNS_MAX: u32 = 10_000_000;

fn turn(executors: &mut [Executor]) {
    let mut busy = false;
    for executor in executors {
        busy |= executor.turn(false);
    }
    if !busy {
        std::thread::yield_now();
    }
}
