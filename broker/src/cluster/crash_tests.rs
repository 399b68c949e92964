//! The cluster's metadata on a simulated disk: processes are killed and the power is cut at any instant, and whatever
//! was committed, or seen by a process that has started, stays.

use super::{
    Change, ConfigChange, Configured, Controller, DataDirs, Disks, Image, MetadataLog, NewTopic, Outcome,
    Record, Request,
};
use crate::config::{BrokerConfig, Settings};
use ringlog_engine::io::sim::{MachineId, Sim};
use ringlog_engine::io::{DirId, Io};
use ringlog_engine::shard::ShardId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// What outlives the processes.
#[derive(Default)]
struct Known {
    cluster_id: RefCell<Option<String>>,
    /// The largest producer id that was committed or seen.
    committed: Cell<i64>,
    /// The largest that may be there.
    asked: Cell<i64>,
    starts: Cell<u64>,
}

/// One process: reads the metadata, holds it against what is known, and commits more, several records at a time.
async fn process(io: Io, known: Rc<Known>) {
    let dirs = DataDirs::open(&io, &[PathBuf::from("/data")], 1).await.expect("open directories");
    let cluster = dirs.cluster_id.clone() + &dirs.dirs[0].id.to_string();
    let before = known.cluster_id.borrow_mut().get_or_insert_with(|| cluster.clone()).clone();
    assert_eq!(cluster, before, "a directory keeps its cluster and its id");
    let (mut log, mut image): (_, Image) =
        MetadataLog::open(&io, DirId(0), &PathBuf::from("/data")).await.expect("open metadata");
    let next = image.next_producer_id;
    assert!(next >= known.committed.get(), "committed {}, found {next}", known.committed.get());
    assert!(next <= known.asked.get(), "asked for {}, found {next}", known.asked.get());
    known.committed.set(next);
    known.starts.set(known.starts.get() + 1);
    loop {
        let first = image.next_producer_id;
        let records: Vec<Record> =
            (1..=20).map(|count| Record::ProducerIds { next: first + count }).collect();
        known.asked.set(known.asked.get().max(first + 20));
        for record in &records {
            image.apply(record).expect("ids grow");
        }
        log.append(&records).await.expect("append");
        known.committed.set(first + 20);
    }
}

fn crash(sim: &mut Sim, machine: MachineId) {
    if sim.random_below(2) == 0 {
        sim.kill(machine);
    } else {
        sim.power_cut(machine);
    }
}

#[test]
fn what_was_committed_or_seen_stays_whatever_dies() {
    let (mut starts, mut committed) = (0, 0);
    for seed in 0..300 {
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        let known = Rc::<Known>::default();
        for _ in 0..10 {
            let actor = sim.start(machine, ShardId(0));
            let shard = sim.shard(actor);
            shard.spawn(Box::pin(process(shard.io().clone(), known.clone())));
            let most = [40, 400][usize::try_from(sim.random_below(2)).unwrap()];
            for _ in 0..sim.random_below(most) {
                sim.step().unwrap();
            }
            crash(&mut sim, machine);
        }
        starts += known.starts.get();
        committed += known.committed.get();
    }
    assert!(starts > 800 && committed > 5000, "{starts} starts and {committed} records were checked");
}

/// What configs were last said to be, and asked to be, whichever process did.
#[derive(Default)]
struct KnownConfigs {
    answered: Cell<i64>,
    asked: Cell<i64>,
    starts: Cell<u64>,
}

const TOPIC: &str = "t";
/// Two that are always set together, to the same number.
const OF_TOPIC: [&str; 2] = ["retention.ms", "flush.ms"];
const OF_BROKER: [&str; 2] = ["log.retention.bytes", "log.flush.interval.ms"];

/// One process: holds the configs against what is known, and changes them again and again.
async fn configuring(io: Io, known: Rc<KnownConfigs>) {
    let dirs = DataDirs::open(&io, &[PathBuf::from("/data")], 1).await.expect("open directories");
    let opened = MetadataLog::open(&io, DirId(0), &PathBuf::from("/data")).await.expect("open metadata");
    let config = Arc::new(BrokerConfig::new(Settings::default()).expect("the defaults are valid"));
    let publish = Box::new(|_| Box::pin(std::future::ready(())) as _);
    let disks = Disks { usable: Box::new(|_| true), all_open: Box::new(|| true) };
    let controller =
        Controller::start(&io, config, Arc::new(dirs), opened, publish, disks).await.expect("start");
    let image = controller.image();
    let of_topic = image.topic(TOPIC).map(|topic| topic.configs.clone()).unwrap_or_default();
    let topics = number(&of_topic, OF_TOPIC);
    let brokers = number(&image.dynamic(1).this_broker, OF_BROKER);
    for found in [topics, brokers] {
        let (answered, asked) = (known.answered.get(), known.asked.get());
        assert!((answered..=asked).contains(&found), "{answered} was answered, {asked} asked for: {found}");
    }
    known.starts.set(known.starts.get() + 1);
    if image.topic(TOPIC).is_none() {
        let topics = vec![NewTopic { name: TOPIC.into(), ..NewTopic::default() }];
        controller.handle(Request::CreateTopics { topics, validate_only: false }).await;
    }
    for number in known.asked.get() + 1.. {
        known.asked.set(number);
        let all = |names: [&str; 2]| Change::All(names.map(|name| (name.into(), number.to_string())).into());
        let changes = vec![
            ConfigChange { of: Configured::Topic(TOPIC.into()), change: all(OF_TOPIC) },
            ConfigChange { of: Configured::ThisBroker, change: all(OF_BROKER) },
        ];
        match controller.handle(Request::AlterConfigs { changes, validate_only: false }).await {
            Outcome::Configs(outcomes) => assert_eq!(outcomes, [Ok(()), Ok(())]),
            other => panic!("{other:?}"),
        }
        known.answered.set(number);
    }
}

/// The number two configs have; they have the same, or neither has one.
fn number(configs: &BTreeMap<String, String>, names: [&str; 2]) -> i64 {
    let [one, other] =
        names.map(|name| configs.get(name).map_or(0, |value| value.parse().expect("a number")));
    assert_eq!(one, other, "what is changed together is changed whole: {configs:?}");
    one
}

#[test]
fn changed_configs_stay_whole_and_as_answered_whatever_dies() {
    let (mut starts, mut changes) = (0, 0);
    for seed in 0..60 {
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        let known = Rc::<KnownConfigs>::default();
        for _ in 0..10 {
            let actor = sim.start(machine, ShardId(0));
            let shard = sim.shard(actor);
            shard.spawn(Box::pin(configuring(shard.io().clone(), known.clone())));
            for _ in 0..sim.random_below(400) {
                sim.step().unwrap();
            }
            crash(&mut sim, machine);
        }
        starts += known.starts.get();
        changes += known.answered.get();
    }
    assert!(starts > 250 && changes > 1500, "{starts} starts and {changes} changes were checked");
}
