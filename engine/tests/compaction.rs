//! Compacted logs on a simulated disk whose power is cut at any instant, in the middle of cleaning and of recovery from it: the last
//! value of each key stays where it was, no older one comes after it, and what was deleted stays deleted.
//!
//! `RINGLOG_SEED=7 cargo test --test compaction` runs one seed, `RINGLOG_SEEDS=100000` that many.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[cfg(ringlog_plant)]
#[path = "trial/planted.rs"]
mod planted;

use bytes::Bytes;
use ringlog_engine::batch::{self, Codec};
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::{EntryOrder, MachineId, OpKind, Random, Sim};
use ringlog_engine::log::{
    Cache, CleanError, CleanerLimits, LeaderAppend, Log, LogConfig, LogDir, Origin, ReadLimit, ReadPart,
};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::Plant;
use ringlog_engine::records::{Builder, decode};
use ringlog_engine::shard::{Shard, ShardId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const DIR: DirId = DirId(0);
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const SEEDS: u64 = 24;

#[test]
fn the_last_value_of_each_key_survives_and_what_is_deleted_stays_so() {
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seeds = match (variable("RINGLOG_SEED"), variable("RINGLOG_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut total = Tally::default();
    for seed in seeds {
        let _seed = Seed(seed);
        World::new(seed).run(&mut total);
    }
    println!("{count} seeds: {total:?}");
    if count >= SEEDS {
        assert!(total.opened >= 2 * count && total.checked >= 100 * count, "too little was checked");
        assert!(total.rounds >= count && total.cut_in_round >= count / 2, "too little was cleaned");
        assert!(
            total.leftovers >= count / 10 && total.deletions_gone >= count,
            "too little was left or went"
        );
    }
}

/// This simulator is tested, too: the bug is planted, and must be found within so many seeds.
#[cfg(ringlog_plant)]
#[test]
fn every_planted_bug_is_found() {
    let planted = &[(Plant::SkipTheSyncOfASwap, 1000)];
    planted::every_bug_is_found(planted, |seed| World::new(seed).run(&mut Tally::default()));
}

/// Names the seed when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("RINGLOG_SEED={}", self.0);
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    opened: u64,
    checked: u64,
    /// Rounds that came to their end.
    rounds: u64,
    /// Processes that ended in the middle of one.
    cut_in_round: u64,
    /// Starts that found files of a round that was cut short.
    leftovers: u64,
    /// Marks of deletion that were seen to be gone.
    deletions_gone: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    key: String,
    value: Option<Bytes>,
    /// When, in wall-clock milliseconds.
    at: i64,
}

/// The log's book. It outlives crashes.
#[derive(Default)]
struct Book {
    records: BTreeMap<i64, Written>,
    durable: i64,
    written: i64,
    power_was_cut: bool,
    /// The last batch of each producer: as sent, where it is.
    producers: BTreeMap<i64, (Bytes, i64)>,
    next_producer: i64,
    number: u64,
    rounds: u64,
    in_round: bool,
    checked: u64,
    deletions_gone: u64,
}

impl Book {
    /// What the log holds, of all from its start on, is what was written, and enough of it.
    fn check(&mut self, log_end: i64, now: i64, found: &[(i64, String, Option<Bytes>)]) {
        let promised = if self.power_was_cut { self.durable } else { self.written };
        assert!(log_end >= promised, "acknowledged up to {promised}, lost from {log_end} on");
        let mut table: BTreeMap<&str, (i64, &Option<Bytes>)> = BTreeMap::new();
        for (offset, key, value) in found {
            let written = self.records.get(offset).unwrap_or_else(|| panic!("nobody wrote at {offset}"));
            assert_eq!((&written.key, &written.value), (key, value), "another record at {offset}");
            table.insert(key, (*offset, value));
        }
        let mut last: BTreeMap<&str, (i64, &Written)> = BTreeMap::new();
        for (offset, written) in self.records.range(..log_end) {
            last.insert(&written.key, (*offset, written));
        }
        for (key, (offset, written)) in last {
            match table.get(key) {
                Some(found) => {
                    assert_eq!(*found, (offset, &written.value), "{key} has an older value");
                }
                None => {
                    assert!(written.value.is_none(), "{key} at {offset} is lost");
                    assert!(
                        now >= written.at + DELETE_RETENTION_MS,
                        "{key} was marked at {}: {now}",
                        written.at
                    );
                    self.deletions_gone += 1;
                }
            }
            self.checked += 1;
        }
    }
}

const DELETE_RETENTION_MS: i64 = 100;

#[derive(Clone)]
struct Plan {
    config: LogConfig,
    map_bytes: usize,
    epoch: i32,
    fault: bool,
}

struct World {
    sim: Sim,
    machine: MachineId,
    book: Rc<RefCell<Book>>,
    random: Random,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DIR, "/data");
        if seed % 2 == 1 {
            sim.set_entry_order(machine, DIR, EntryOrder::Journaled);
        }
        Self { sim, machine, book: Rc::default(), random: Random::new(!seed) }
    }

    fn run(mut self, total: &mut Tally) {
        let config = LogConfig {
            segment_bytes: [5_000, 20_000][self.random.index(2)],
            index_interval_bytes: [1, 4096][self.random.index(2)],
            timestamp_after_max_ms: u64::MAX,
            compact: true,
            delete: false,
            delete_retention_ms: DELETE_RETENTION_MS as u64,
            file_delete_delay_ms: [0, 20][self.random.index(2)],
            ..LogConfig::default()
        };
        let map_bytes = [24 * 8, 1 << 16][self.random.index(2)];
        for life in 1..=self.random.within(2, 7) {
            let fault = self.random.one_in(6);
            let epoch = i32::try_from(life).unwrap();
            self.live(Plan { config: config.clone(), map_bytes, epoch, fault }, total);
        }
        let actor = self.sim.start(self.machine, ShardId(0));
        let (shard, book) = (self.sim.shard(actor), self.book.clone());
        let plan = Plan { config, map_bytes, epoch: 100, fault: false };
        self.sim.run(actor, async move {
            let log = open(&shard, &book, &plan).await.unwrap();
            log.close().await.expect("close");
        });
        let book = self.book.borrow();
        total.opened += 1;
        total.checked += book.checked;
        total.rounds += book.rounds;
        total.deletions_gone += book.deletions_gone;
    }

    fn has_file(&self, extension: &str) -> bool {
        let files = self.sim.files(self.machine, DIR);
        files.iter().any(|path| path.extension().is_some_and(|found| found == extension))
    }

    /// One process, until it dies.
    fn live(&mut self, plan: Plan, total: &mut Tally) {
        if plan.fault {
            let kinds = [
                OpKind::Write,
                OpKind::SyncFile,
                OpKind::SyncDir,
                OpKind::Rename,
                OpKind::Create,
                OpKind::Read,
            ];
            let kind = kinds[self.random.index(kinds.len())];
            let skip = u32::try_from(self.random.below(300)).unwrap();
            match self.random.one_in(3) {
                true => self.sim.set_capacity(self.machine, DIR, self.random.within(50_000, 200_000)),
                false => self.sim.fail_once(self.machine, kind, skip, 5),
            }
        }
        let actor = self.sim.start(self.machine, ShardId(0));
        let shard = self.sim.shard(actor);
        let (book, seed) = (self.book.clone(), self.random.bits());
        let opened = Rc::new(Cell::new(false));
        let is_open = opened.clone();
        self.book.borrow_mut().in_round = false;
        shard.spawn(Box::pin(process(shard.clone(), book, plan.clone(), is_open, seed)));
        let most = [300, 5_000, 20_000][self.random.index(3)];
        for _ in 0..self.random.below(most) {
            if self.sim.step().is_err() {
                break;
            }
        }
        // Often in the moments in which something is put in place.
        if self.random.one_in(2) {
            for _ in 0..5_000 {
                if self.has_file("swap") || self.sim.step().is_err() {
                    break;
                }
            }
            let most = [40, 400][self.random.index(2)];
            for _ in 0..self.random.below(most) {
                let _ = self.sim.step();
            }
        }
        total.leftovers += u64::from(self.has_file("cleaned") || self.has_file("swap"));
        total.opened += u64::from(opened.get());
        total.cut_in_round += u64::from(self.book.borrow().in_round);
        if !plan.fault && self.random.one_in(3) {
            self.sim.kill(self.machine);
        } else {
            self.sim.power_cut(self.machine);
            self.book.borrow_mut().power_was_cut = true;
        }
        self.sim.clear_faults(self.machine);
        self.sim.set_capacity(self.machine, DIR, u64::MAX);
    }
}

async fn process(shard: Shard, book: Rc<RefCell<Book>>, plan: Plan, opened: Rc<Cell<bool>>, seed: u64) {
    let Some(log) = open(&shard, &book, &plan).await else {
        assert!(plan.fault, "it opens");
        return;
    };
    opened.set(true);
    shard.spawn(Box::pin(clean(shard.clone(), log.clone(), book.clone(), plan.clone())));
    shard.spawn(Box::pin(read(shard.clone(), log.clone(), Random::new(!seed))));
    for _ in 0..2 {
        let random = Random::new(seed ^ book.borrow().number);
        shard.spawn(Box::pin(produce(shard.clone(), log.clone(), book.clone(), plan.epoch, random)));
    }
}

async fn open(shard: &Shard, book: &RefCell<Book>, plan: &Plan) -> Option<Log> {
    let place = LogDir { dir: DIR, path: "/data/topic-0".into() };
    let opened = Box::pin(Log::open(shard, place, plan.config.clone(), &Cache::new(32 << 10))).await;
    let (log, _) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert!(plan.fault, "{error}");
            return None;
        }
    };
    let marks = log.marks();
    assert_eq!(marks.log_start, 0);
    let found = match records(&log, 0).await {
        Some(found) => found,
        None => {
            assert!(plan.fault, "what is opened is read");
            return None;
        }
    };
    let mut book = book.borrow_mut();
    book.check(marks.log_end, shard.wall_time().0, &found);
    book.records.split_off(&marks.log_end);
    (book.durable, book.written, book.power_was_cut) = (marks.log_end, marks.log_end, false);
    log.begin_epoch(plan.epoch);
    let kept: Vec<_> = book.producers.values().filter(|(_, base)| *base < marks.log_end).cloned().collect();
    book.producers.clear();
    for (sent, base) in kept {
        if plan.fault {
            break;
        }
        let again = log.append(&sent, leader(shard, plan.epoch)).expect("a batch that is there");
        assert!(again.duplicate && again.base_offset == base, "{again:?} is the batch at {base}");
    }
    Some(log)
}

/// Every record from an offset on: where, key, value. `None` if the disk fails.
async fn records(log: &Log, mut from: i64) -> Option<Vec<(i64, String, Option<Bytes>)>> {
    let mut found = Vec::new();
    let end = log.marks().written;
    while from < end {
        let limit = ReadLimit { up_to: end, bytes_max: 4_000, at_least_one: true };
        let parts = log.read(from, limit).await.ok()?;
        let bytes: Vec<Bytes> = parts
            .parts
            .into_iter()
            .map(|part| match part {
                ReadPart::Bytes(bytes) => bytes,
                ReadPart::File { .. } => panic!("a read brings bytes into memory"),
            })
            .collect();
        let bytes = Bytes::from(bytes.concat());
        assert!(!bytes.is_empty(), "there is a batch from {from} on");
        let mut at = 0;
        while let Some(len) = batch::whole_len(&bytes[at..]) {
            let one = bytes.slice(at..at + len);
            let header = batch::verify(&one).expect("a batch");
            assert!(header.last_offset() >= from, "offsets go forward");
            for record in decode(&one, 1 << 20).expect("records") {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                if record.offset >= from {
                    found.push((record.offset, key, record.value));
                }
            }
            from = header.next_offset();
            at += len;
        }
        assert_eq!(at, bytes.len(), "whole batches");
    }
    assert!(found.is_sorted_by(|one, next| one.0 < next.0));
    Some(found)
}

fn leader(shard: &Shard, epoch: i32) -> LeaderAppend {
    LeaderAppend { epoch, origin: Origin::Client, now: shard.wall_time(), alone: true }
}

async fn produce(shard: Shard, log: Log, book: Rc<RefCell<Book>>, epoch: i32, mut random: Random) {
    let id = {
        let mut book = book.borrow_mut();
        book.next_producer += 1;
        book.next_producer
    };
    let mut sequence = 0;
    loop {
        let now = shard.wall_time();
        let mut builder = Builder::new(CODECS[random.index(5)]).producer(id, 0, sequence);
        let mut sent = Vec::new();
        for _ in 0..random.within(1, 4) {
            let number = {
                let mut book = book.borrow_mut();
                book.number += 1;
                book.number
            };
            // Some keys change all the time, some rarely.
            let keys = [3, 30, 300][random.index(3)];
            let key = format!("{keys}-{}", random.below(keys));
            let value = (!random.one_in(5)).then(|| {
                let mut value = number.to_string().into_bytes();
                value.resize(random.index(300) + 20, number as u8);
                Bytes::from(value)
            });
            builder.push(now.0, Some(key.as_bytes()), value.as_deref(), &[]);
            sent.push(Written { key, value, at: now.0 });
        }
        let bytes = builder.build();
        let appended = match log.append(&bytes, leader(&shard, epoch)) {
            Ok(appended) => appended,
            Err(_) if log.failed().is_some() => return,
            Err(_) => {
                shard.sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        let end = appended.last_offset + 1;
        {
            let mut book = book.borrow_mut();
            book.records.extend((appended.base_offset..).zip(sent));
            book.producers.insert(id, (bytes, appended.base_offset));
            sequence += i32::try_from(end - appended.base_offset).unwrap();
        }
        if log.wait_durable(end).await.is_err() {
            return;
        }
        {
            let mut book = book.borrow_mut();
            book.durable = book.durable.max(end);
            book.written = book.written.max(end);
        }
        shard.sleep(Duration::from_micros(random.below(500))).await;
    }
}

async fn clean(shard: Shard, log: Log, book: Rc<RefCell<Book>>, plan: Plan) {
    let limits =
        CleanerLimits { map_bytes: plan.map_bytes, load_factor: 0.9, bytes_per_second: f64::INFINITY };
    while log.failed().is_none() {
        shard.sleep(Duration::from_millis(3)).await;
        book.borrow_mut().in_round = true;
        let cleaned = Box::pin(log.clean(limits, log.marks().durable)).await;
        book.borrow_mut().in_round = false;
        match cleaned {
            Ok(Some(_)) => book.borrow_mut().rounds += 1,
            Ok(None) => {}
            Err(CleanError::Stopped | CleanError::NoSpace) => assert!(plan.fault, "{cleaned:?}"),
            Err(CleanError::Uncleanable(error)) => assert!(plan.fault, "{error}"),
        }
    }
}

/// Somebody reads all the time: from anywhere to the end, whatever is put in place meanwhile.
async fn read(shard: Shard, log: Log, mut random: Random) {
    while log.failed().is_none() {
        shard.sleep(Duration::from_millis(random.below(10))).await;
        let end = log.marks().written;
        if end > 0 {
            let from = random.below(end.unsigned_abs()).cast_signed();
            let found = records(&log, from).await;
            assert!(found.is_some() || log.failed().is_some(), "from {from}");
        }
    }
}
