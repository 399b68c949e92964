//! A log that is emptied, to go on at another offset, while the power is cut: it is as it was, or empty there. Every step of it is tried.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[cfg(ringlog_plant)]
#[path = "trial/planted.rs"]
mod planted;

use ringlog_engine::batch::Codec;
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::{EntryOrder, Sim};
use ringlog_engine::log::{Cache, LeaderAppend, Log, LogConfig, LogDir, Origin};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::Plant;
use ringlog_engine::records::Builder;
use ringlog_engine::shard::{Shard, ShardId};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const DIR: DirId = DirId(0);
/// Each has one segment, of one batch.
const EPOCHS: i64 = 3;
const RECORDS: i64 = 10;

#[test]
fn a_log_that_is_emptied_is_as_it_was_or_empty_whenever_the_power_is_cut() {
    let outcomes: Vec<Outcome> = (0..SEEDS).map(outcome).collect();
    for expected in [Outcome::AsItWas, Outcome::Empty] {
        let count = outcomes.iter().filter(|outcome| **outcome == expected).count();
        assert!(count > 40, "{expected:?} after {count} of {SEEDS} cuts");
    }
}

/// This test is tested, too: the bug is planted, and must be found.
#[cfg(ringlog_plant)]
#[test]
fn every_planted_bug_is_found() {
    let planted = &[(Plant::ClearWithoutSyncingTheDirectory, 20_000)];
    planted::every_bug_is_found(planted, |seed| {
        outcome(seed);
    });
}

/// Some cuts after each number of steps that emptying such a log takes.
const SEEDS: u64 = 4 * STEPS;
const STEPS: u64 = 250;

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    AsItWas,
    Empty,
}

fn outcome(seed: u64) -> Outcome {
    let mut sim = Sim::new(seed);
    let machine = sim.add_machine();
    sim.add_disk(machine, DIR, "/data");
    if seed.is_multiple_of(4) {
        sim.set_entry_order(machine, DIR, EntryOrder::Journaled);
    }
    // Before all there is, at a segment that is there, in the midst of one, and past the end.
    let to = [5, RECORDS, 2 * RECORDS + 3, 100][(seed / STEPS % 4) as usize];
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    let begins = Rc::new(Cell::new(false));
    let begun = begins.clone();
    shard.clone().spawn(async move {
        let log = open(&shard).await;
        for epoch in 1..=EPOCHS {
            append(&log, &shard, i32::try_from(epoch).unwrap());
            log.wait_durable(epoch * RECORDS).await.unwrap();
            // Its segment is sealed.
            shard.sleep(Duration::from_millis(50)).await;
        }
        begun.set(true);
        log.truncate_fully_and_start_at(to).await.unwrap();
    });
    while !begins.get() {
        sim.step().unwrap();
    }
    for _ in 0..seed % STEPS {
        if sim.step().is_err() {
            break;
        }
    }
    sim.power_cut(machine);
    let actor = sim.start(machine, ShardId(0));
    let shard = sim.shard(actor);
    sim.run(actor, async move {
        let log = open(&shard).await;
        let marks = log.marks();
        let ends = |epoch| log.epoch_end(epoch).map(|end| (end.epoch, end.end_offset));
        if (marks.log_start, marks.log_end) == (to, to) {
            assert_eq!(ends(i32::MAX), None, "an empty log has no epochs");
            return Outcome::Empty;
        }
        assert_eq!((marks.log_start, marks.log_end), (0, EPOCHS * RECORDS), "seed {seed}: neither");
        for epoch in 1..=EPOCHS {
            let (number, end) = (i32::try_from(epoch).unwrap(), epoch * RECORDS);
            assert_eq!(ends(number), Some((number, end)), "seed {seed}: where epoch {epoch} ends");
        }
        Outcome::AsItWas
    })
}

async fn open(shard: &Shard) -> Log {
    shard.io().sync_dir(DIR, "/data".into()).await.unwrap();
    let place = LogDir { dir: DIR, path: "/data/topic-0".into() };
    // Less than two batches.
    let config = LogConfig { segment_bytes: 5_000, ..LogConfig::default() };
    Box::pin(Log::open(shard, place, config, &Cache::new(64 << 10))).await.unwrap().0
}

fn append(log: &Log, shard: &Shard, epoch: i32) {
    let now = shard.wall_time();
    let mut builder = Builder::new(Codec::None);
    for _ in 0..RECORDS {
        builder.push(now.0, None, Some(&[7; 300]), &[]);
    }
    let as_leader = LeaderAppend { epoch, origin: Origin::Client, now, alone: true };
    log.append(&builder.build(), as_leader).unwrap();
}
