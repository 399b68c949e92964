//! What it takes to check, append and read a batch, and to ask another shard, in instructions.
//!
//! Over the simulated Driver: a ring cannot be made where instructions are counted, and what the kernel does would not be counted anyway.

#![expect(missing_docs, unused_qualifications, reason = "what the macros make of each benchmark")]

use bytes::Bytes;
use gungraun::prelude::*;
use ringlog_engine::batch::{self, Codec, Header};
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::Sim;
use ringlog_engine::log::{
    Appended, Cache, Durability, LeaderAppend, Log, LogConfig, LogDir, Origin, ReadLimit, ReadParts,
};
use ringlog_engine::records::Builder;
use ringlog_engine::shard::{Executor, Mesh, Shard, ShardId, mesh_ends};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// As a producer with Kafka's defaults sends: 16 KiB in a batch.
const RECORDS: i64 = 150;
const RECORD_BYTES: usize = 100;
const CACHE_BYTES: usize = 64 << 20;
const EPOCH: i32 = 1;

fn sent(idempotent: bool, number: i32) -> Bytes {
    let mut builder = Builder::new(Codec::None);
    if idempotent {
        builder = builder.producer(7, 0, number * i32::try_from(RECORDS).expect("few records"));
    }
    for _ in 0..RECORDS {
        builder.push(0, None, Some(&[b'v'; RECORD_BYTES]), &[]);
    }
    builder.build()
}

/// A log of so many batches, all of them in memory.
struct World {
    _sim: Sim,
    shard: Shard,
    log: Log,
    /// What comes next.
    next: Bytes,
}

fn world(batches: i32, idempotent: bool) -> World {
    let mut sim = Sim::new(1);
    let machine = sim.add_machine();
    sim.add_disk(machine, DirId(0), "/data");
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    let place = LogDir { dir: DirId(0), path: "/data/topic-0".into() };
    let config = LogConfig { durability: Durability::Replicated, ..LogConfig::default() };
    let opened = shard.clone();
    let log = sim.run(actor, async move {
        let cache = Cache::new(CACHE_BYTES);
        let (log, _) = Log::open(&opened, place, config, &cache).await.expect("an empty log opens");
        log.begin_epoch(EPOCH);
        for number in 0..batches {
            let appended = append(&opened, &log, &sent(idempotent, number));
            log.wait_written(appended.last_offset + 1).await.expect("it is written");
        }
        log
    });
    World { _sim: sim, shard, log, next: sent(idempotent, batches) }
}

fn append(shard: &Shard, log: &Log, batch: &Bytes) -> Appended {
    let as_leader =
        LeaderAppend { epoch: EPOCH, origin: Origin::Client, now: shard.wall_time(), alone: false };
    log.append(batch, as_leader).expect("a batch that fits")
}

#[library_benchmark]
#[bench::of_16_kib(sent(false, 0))]
fn header_read(batch: Bytes) -> (Bytes, Header) {
    let header = Header::parse(black_box(&batch)).expect("an own batch");
    (batch, header)
}

#[library_benchmark]
#[bench::of_16_kib(sent(false, 0))]
fn batch_verified(batch: Bytes) -> (Bytes, Header) {
    let header = batch::verify(black_box(&batch)).expect("an own batch");
    (batch, header)
}

#[library_benchmark(setup = world)]
#[bench::of_16_kib(1, false)]
#[bench::of_16_kib_idempotent(1, true)]
#[bench::of_16_kib_behind_1000(1000, false)]
fn batch_appended(world: World) -> (World, Appended) {
    let appended = append(&world.shard, black_box(&world.log), &world.next);
    (world, appended)
}

// An offset in the middle of a batch in the middle of the log: the index is asked, and the batch found behind the entry.
#[library_benchmark(setup = world)]
#[bench::among_10(10, false)]
#[bench::among_1000(1000, false)]
fn offset_found_and_read(world: World) -> (World, ReadParts) {
    let end = world.log.marks().log_end;
    let limit = ReadLimit { up_to: end, bytes_max: 1 << 10, at_least_one: true };
    let parts = {
        let read = pin!(world.log.read(black_box(end / 2), limit));
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(parts) => parts.expect("it is there"),
            Poll::Pending => panic!("it is in memory"),
        }
    };
    assert!(parts.bytes > 0);
    (world, parts)
}

/// Two shards that take turns in one thread.
struct Shards {
    _sims: [Sim; 2],
    executors: Vec<Executor>,
    meshes: Vec<Mesh<u64, u64>>,
    calls: u64,
}

fn shards(calls: u64) -> Shards {
    let mut sims = [Sim::new(1), Sim::new(2)];
    let (mut executors, mut meshes) = (Vec::new(), Vec::new());
    for ((number, sim), ends) in (0..).zip(&mut sims).zip(mesh_ends(2)) {
        let machine = sim.add_machine();
        let executor = Executor::new(ShardId(number), sim.driver(machine));
        meshes.push(Mesh::open(executor.shard(), ends));
        executors.push(executor);
    }
    meshes[1].serve(|_, request, reply| reply.send(request + 1));
    let mut shards = Shards { _sims: sims, executors, meshes, calls };
    // The first call makes room for those that follow.
    ask(&mut shards);
    shards
}

/// Asks so many things at once, gives each shard a turn, and takes the answers.
fn ask(shards: &mut Shards) -> u64 {
    let calls: Vec<_> = (0..shards.calls).map(|number| shards.meshes[0].call(ShardId(1), number)).collect();
    shards.executors[1].turn(false);
    shards.executors[0].turn(false);
    let mut sum = 0;
    for call in calls {
        match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => sum += answer,
            Poll::Pending => panic!("it has been answered"),
        }
    }
    sum
}

#[library_benchmark(setup = shards)]
#[bench::once(1)]
#[bench::a_hundred_times(100)]
fn another_shard_asked(mut shards: Shards) -> (Shards, u64) {
    let sum = ask(black_box(&mut shards));
    (shards, sum)
}

library_benchmark_group!(
    name = engine,
    benchmarks = [header_read, batch_verified, batch_appended, offset_found_and_read, another_shard_asked]
);
gungraun::main!(library_benchmark_groups = engine);
