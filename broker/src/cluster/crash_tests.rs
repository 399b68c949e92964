//! The cluster's metadata on a simulated disk: processes are killed and the power is cut at any instant, and whatever
//! was committed, or seen by a process that has started, stays.

use super::{DataDirs, Image, MetadataLog, Record};
use ringlog_engine::io::sim::{MachineId, Sim};
use ringlog_engine::io::{DirId, Io};
use ringlog_engine::shard::ShardId;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

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
