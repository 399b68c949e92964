//! A topic made anew under a former name, on a disk that crashes: the directory is the new one's, or nobody's.

use super::client::batch;
use crate::broker::identity::{Before, Claimed, claim, remove_leftovers};
use crate::cluster::{DataDir, DataDirs, PartitionState, Topic};
use ringlog_engine::batch::Header;
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::{OpKind, Sim};
use ringlog_engine::log::{Cache, LeaderAppend, Log, LogConfig, LogDir, Origin, ReadLimit, ReadPart};
use ringlog_engine::shard::{Shard, ShardId};
use ringlog_wire::Uuid;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// What outlives the processes: the metadata, so to say.
#[derive(Default)]
struct Known {
    /// The topic that has the name now.
    topic: Cell<u8>,
    /// Its records that were acknowledged as durable.
    durable: Cell<i64>,
    opened: Cell<u64>,
    /// The last topic that had a directory of its own.
    claimed: Cell<Option<u8>>,
}

/// Opens the topic that has the name, looks whose records are in it, appends, deletes it and makes the next one.
async fn process(shard: Shard, known: Rc<Known>) {
    let io = shard.io().clone();
    let dirs = vec![DataDir { dir: DirId(0), path: "/data".into(), id: Uuid([1; 16]) }];
    let mut dirs = DataDirs { dirs, cluster_id: String::new(), not_removed: BTreeSet::new() };
    remove_leftovers(&io, &mut dirs, &[]).await;
    io.sync_dir(DirId(0), "/data".into()).await.expect("sync as a start does");
    let cache = Cache::new(1 << 16);
    loop {
        let topic = known.topic.get();
        let place = LogDir { dir: DirId(0), path: "/data/t-0".into() };
        let before = if known.claimed.get() == Some(topic) { Before::Opened } else { Before::PerhapsNever };
        claim(&io, &place, Uuid([topic + 1; 16]), before, |found| found.0[0] <= topic).await.expect("claim");
        known.claimed.set(Some(topic));
        let opening = Box::pin(Log::open(&shard, place, LogConfig::default(), &cache));
        let (log, _) = opening.await.expect("open");
        let end = log.marks().log_end;
        assert!(end >= known.durable.get(), "acknowledged {}, found {end}", known.durable.get());
        let limit = ReadLimit { up_to: end, bytes_max: 1 << 20, at_least_one: true };
        let read = log.read(0, limit).await.expect("read");
        for part in &read.parts {
            let ReadPart::Bytes(bytes) = part else { panic!("in memory") };
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let header = Header::parse(rest).expect("a batch");
                assert_eq!(header.leader_epoch, i32::from(topic), "a record of another topic");
                rest = &rest[header.total_len()..];
            }
        }
        known.opened.set(known.opened.get() + 1);
        for _ in 0..io.random() % 20 {
            let leader = LeaderAppend {
                epoch: i32::from(topic),
                origin: Origin::Client,
                now: shard.wall_time(),
                alone: true,
            };
            let appended = log.append(&batch(b"v"), leader).expect("append");
            log.wait_durable(appended.last_offset + 1).await.expect("durable");
            known.durable.set(appended.last_offset + 1);
        }
        // The metadata says so first; the directory follows, or not.
        known.topic.set(topic + 1);
        known.durable.set(0);
        log.remove().await.expect("remove");
    }
}

#[test]
fn a_topic_never_gets_the_records_of_its_predecessor() {
    let mut opened = 0;
    for seed in 0..60 {
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        let known = Rc::<Known>::default();
        for _ in 0..8 {
            let actor = sim.start(machine, ShardId(0));
            let shard = sim.shard(actor);
            shard.spawn(Box::pin(process(shard.clone(), known.clone())));
            for _ in 0..sim.random_below(400) {
                sim.step().unwrap();
            }
            if sim.random_below(2) == 0 {
                sim.kill(machine);
            } else {
                sim.power_cut(machine);
            }
        }
        opened += known.opened.get();
    }
    assert!(opened > 300, "only {opened} logs were opened");
}

#[test]
fn what_a_deletion_left_is_removed_or_known() {
    let place = || LogDir { dir: DirId(0), path: "/data/t-0".into() };
    let (old, new) = (Uuid([2; 16]), Uuid([3; 16]));
    let mut sim = Sim::new(0);
    let machine = sim.add_machine();
    sim.add_disk(machine, DirId(0), "/data");
    let actor = sim.start(machine, ShardId(0));
    let io = sim.shard(actor).io().clone();
    let directory = Uuid([1; 16]);
    let partitions = vec![PartitionState { leader_epoch: 1, directory }];
    let deleted = Arc::new(Topic { name: "t".into(), id: old, partitions, configs: BTreeMap::new() });
    let start = |sim: &mut Sim| {
        let (io, deleted) = (io.clone(), deleted.clone());
        sim.run(actor, async move {
            let dirs = vec![DataDir { dir: DirId(0), path: "/data".into(), id: directory }];
            let mut dirs = DataDirs { dirs, cluster_id: String::new(), not_removed: BTreeSet::new() };
            remove_leftovers(&io, &mut dirs, &[deleted]).await;
            dirs.not_removed
        })
    };
    let claim_as = |sim: &mut Sim, topic: Uuid, not_removed: BTreeSet<[u8; 16]>| {
        let io = io.clone();
        sim.run(actor, async move {
            claim(&io, &place(), topic, Before::PerhapsNever, |found| not_removed.contains(&found.0)).await
        })
    };
    assert_eq!(claim_as(&mut sim, old, BTreeSet::new()).expect("it is free"), Claimed::Now { aside: None });
    sim.fail_once(machine, OpKind::Rename, 0, 5);
    let left = start(&mut sim);
    assert_eq!(left, BTreeSet::from([old.0]));
    claim_as(&mut sim, new, BTreeSet::new()).expect_err("a topic that nobody knows to be gone");
    let Claimed::Now { aside: Some(aside) } = claim_as(&mut sim, new, left).expect("it is free") else {
        panic!("it is moved")
    };
    assert!(aside.to_string_lossy().ends_with("-stray"), "{}", aside.display());
    assert_eq!(start(&mut sim), BTreeSet::new());
    assert_eq!(claim_as(&mut sim, new, BTreeSet::new()).expect("its own"), Claimed::Before);
}

#[test]
fn a_directory_that_was_there_is_not_made_anew() {
    let mut sim = Sim::new(0);
    let machine = sim.add_machine();
    sim.add_disk(machine, DirId(0), "/data");
    let actor = sim.start(machine, ShardId(0));
    let io = sim.shard(actor).io().clone();
    sim.run(actor, async move {
        let place = LogDir { dir: DirId(0), path: "/data/t-0".into() };
        let claim_after = async |before| claim(&io, &place, Uuid([1; 16]), before, |_| false).await;
        let why = claim_after(Before::Opened).await.expect_err("it is gone").to_string();
        assert!(why.starts_with("/data/t-0 is gone"), "{why}");
        assert!(io.list(DirId(0), "/data".into()).await.expect("list").is_empty());
        claim_after(Before::PerhapsNever).await.expect("its creation was cut short");
        assert_eq!(claim_after(Before::Opened).await.expect("it is there"), Claimed::Before);
        io.unlink(DirId(0), "/data/t-0/partition.metadata".into()).await.expect("unlink");
        let by_hand = claim_after(Before::Opened).await.expect("the directory was made by hand");
        assert_eq!(by_hand, Claimed::Now { aside: None }, "and what was in it is not missed");
    });
}
