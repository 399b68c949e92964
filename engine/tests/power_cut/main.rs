//! Logs on a simulated disk whose power is cut at any instant, recovery included: what was acknowledged as durable is there,
//! unaltered and in order, and nothing else is. What was acknowledged as written survives the death of the process.
//!
//! `RINGLOG_SEED=7 cargo test --test power_cut` runs one seed, `RINGLOG_SEEDS=100000` that many.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod batches;
mod book;
#[cfg(ringlog_plant)]
#[path = "../trial/planted.rs"]
mod planted;
mod work;

use book::Book;
use ringlog_engine::batch::{self, Header};
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::{EntryOrder, MachineId, OpKind, Random, Sim};
use ringlog_engine::log::{
    AppendError, Cache, Durability, EpochEnd, Journal, JournalLimits, Journaled, Left, Log, LogConfig,
    LogDir, LogId, OpenError, ReadLimit,
};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::Plant;
use ringlog_engine::shard::sync::Watch;
use ringlog_engine::shard::{Shard, ShardId};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use work::{Work, joined, leader};

const DIR: DirId = DirId(0);

/// Logs that share the data directory.
const LOGS: usize = 2;

type Books = Vec<Rc<RefCell<Book>>>;

#[test]
fn what_was_acknowledged_survives_and_nothing_else_comes_back() {
    let (total, count) = live(World::new);
    if count >= SEEDS {
        assert!(total.recoveries >= 2 * count && total.checked >= 100 * count, "too little was checked");
        assert!(total.cut_in_recovery >= count / 5, "recoveries were not cut short often enough");
        assert!(total.clean_closes >= count / 5 && total.faults >= count / 10);
    }
}

#[test]
fn what_a_recycled_file_held_does_not_come_back() {
    let (total, count) = live(World::even);
    if count >= SEEDS {
        assert!(total.checked >= 100 * count && total.recycled >= 2 * count);
    }
}

/// The worlds of as many seeds as the environment asks for.
fn live(world: fn(u64) -> World) -> (Tally, u64) {
    let variable = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seeds = match (variable("RINGLOG_SEED"), variable("RINGLOG_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut total = Tally::default();
    for seed in seeds {
        let _seed = Seed(seed);
        world(seed).run(&mut total);
    }
    println!("{count} seeds: {total:?}");
    (total, count)
}

const SEEDS: u64 = 100;

/// This simulator is tested, too: bugs of the journal are planted, and must be found within so many seeds.
#[cfg(ringlog_plant)]
#[test]
fn every_planted_bug_is_found() {
    let planted = &[
        (Plant::SkipTheReplay, 100),
        (Plant::ReuseTheJournalEarly, 100),
        (Plant::ReplayOverATruncation, 1000),
        (Plant::CheckpointPastTheFile, 500),
        (Plant::WakeWithoutReadingBack, 100),
        (Plant::RemoveWhereRecoveryBegins, 2000),
    ];
    planted::every_bug_is_found(planted, |seed| World::new(seed).run(&mut Tally::default()));
    let planted = &[(Plant::LeaveTheLures, 2000)];
    planted::every_bug_is_found(planted, |seed| World::even(seed).run(&mut Tally::default()));
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
    /// Recoveries that ended and were checked.
    recoveries: u64,
    cut_in_recovery: u64,
    clean_closes: u64,
    faults: u64,
    /// Files that were written over.
    recycled: u64,
    /// Batches compared.
    checked: u64,
}

/// What a process does before it dies.
#[derive(Clone)]
struct Plan {
    config: LogConfig,
    journal: JournalLimits,
    epoch: i32,
    producers: usize,
    /// Records are truncated and deleted, too.
    changes: bool,
    /// An operation fails, some time, or the disk is full.
    fault: bool,
    /// The process before this one closed its logs.
    after_close: bool,
    /// All batches are this long: in a recycled file they lie where others lay.
    even: Option<u64>,
}

/// How far a process has come.
#[derive(Default)]
struct Progress {
    /// All logs are open and checked.
    working: Cell<bool>,
    /// Its tasks are to end, then to close the logs.
    stopping: Rc<Cell<bool>>,
    /// The logs are closed.
    closed: Cell<bool>,
}

struct World {
    /// Logs of even batches that recycle the files of removed segments.
    even: bool,
    sim: Sim,
    machine: MachineId,
    books: Books,
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
        let books = (0..LOGS).map(|_| Rc::default()).collect();
        Self { even: false, sim, machine, books, random: Random::new(!seed) }
    }

    /// Where files are recycled: whatever of one is not yet written over when the power goes is a batch, and has just the right length.
    fn even(seed: u64) -> Self {
        Self { even: true, ..Self::new(seed) }
    }

    fn run(mut self, total: &mut Tally) {
        let config = LogConfig {
            segment_bytes: [40_000, 100_000, 1 << 20][self.random.index(3)],
            index_interval_bytes: [1, 4096][self.random.index(2)],
            max_message_bytes: 2 * batches::LARGE_BYTES_MAX as u32,
            checkpoint_bytes: [5_000, 30_000, u64::MAX / 4][self.random.index(3)],
            // The wall clock jumps, and batches are sent again after it has.
            timestamp_after_max_ms: u64::MAX,
            durability: [Durability::Fsync, Durability::Replicated][self.random.index(2)],
            retention_bytes: Some([0, 100_000][self.random.index(2)]),
            retention_ms: None,
            ..LogConfig::default()
        };
        // Of 511 and 1023 bytes: of those a sector ends within the header of one after the other.
        let even = self.even.then(|| [511, 1_023, self.random.within(80, 1_000)][self.random.index(3)]);
        let config = match even {
            None => config,
            Some(_) => LogConfig {
                segment_bytes: 20_000,
                retention_bytes: Some(20_000),
                file_delete_delay_ms: 20,
                ..config
            },
        };
        let mut after_close = false;
        for life in 1..=self.random.within(2, 6) {
            let plan = Plan {
                config: config.clone(),
                journal: self.journal_limits(),
                epoch: i32::try_from(life).unwrap(),
                producers: usize::try_from(self.random.within(1, 4)).unwrap(),
                changes: self.even || self.random.one_in(2),
                fault: self.random.one_in(6),
                after_close,
                even,
            };
            after_close = self.live(plan, total);
        }
        // At last it is left alone: it opens, and closes.
        let actor = self.sim.start(self.machine, ShardId(0));
        let shard = self.sim.shard(actor);
        let journal = self.journal_limits();
        let (epoch, producers) = (100, 0);
        let plan =
            Plan { config, journal, epoch, producers, changes: false, fault: false, after_close, even };
        let books = self.books.clone();
        self.sim.run(actor, async move {
            let (logs, journal) = open_all(&shard, &books, &plan).await.expect("open");
            assert!(close_all(logs, journal).await, "all is closed");
        });
        total.recoveries += 1;
        total.recycled += self.sim.recycled(self.machine, DIR);
        total.checked += self.books.iter().map(|book| book.borrow().checked).sum::<u64>();
    }

    /// A small journal, or none that takes anything.
    fn journal_limits(&mut self) -> JournalLimits {
        let half_bytes = [24 << 10, 64 << 10, 1 << 20][self.random.index(3)];
        let file_bytes = [0, 3_000, 20_000, 64 << 10][self.random.index(4)];
        JournalLimits { half_bytes, file_bytes }
    }

    /// One process: it opens the logs, works on them, and dies at some instant. Returns whether it had closed them.
    fn live(&mut self, plan: Plan, total: &mut Tally) -> bool {
        if plan.fault {
            self.inject();
            total.faults += 1;
        }
        let (fault, changes) = (plan.fault, plan.changes);
        let progress = self.start(plan);
        // Mostly in the middle of its work, often enough while it still recovers.
        let most = [150, 2000, 10_000][self.random.index(3)];
        let steps = self.random.below(most);
        self.steps(steps / 2, &progress);
        if self.random.one_in(4) {
            let hours = self.random.within(0, 4);
            self.sim.jump_wall_time((hours as i64 - 2) * 3_600_000);
        }
        if self.random.one_in(2) {
            self.sim.set_capacity(self.machine, DIR, u64::MAX);
        }
        self.steps(steps.div_ceil(2), &progress);
        if changes && self.random.one_in(2) {
            self.go_to_a_change(&progress);
        }
        if self.random.one_in(3) {
            // It is told to stop, and may get to the end of that.
            progress.stopping.set(true);
            self.steps(20_000, &progress);
        }
        total.recoveries += u64::from(progress.working.get());
        total.cut_in_recovery += u64::from(!progress.working.get());
        total.clean_closes += u64::from(progress.closed.get());
        if !fault && self.random.one_in(3) {
            self.sim.kill(self.machine);
        } else {
            self.sim.power_cut(self.machine);
            self.books.iter().for_each(|book| book.borrow_mut().power_was_cut = true);
        }
        self.sim.clear_faults(self.machine);
        self.sim.set_capacity(self.machine, DIR, u64::MAX);
        progress.closed.get()
    }

    /// One operation of some kind will fail, or the disk is nearly full.
    fn inject(&mut self) {
        let kinds = [
            OpKind::Write,
            OpKind::Sync,
            OpKind::Create,
            OpKind::Prepare,
            OpKind::Truncate,
            OpKind::SyncFile,
            OpKind::SyncDir,
            OpKind::Rename,
            OpKind::Blank,
            OpKind::Recycle,
        ];
        let Some(kind) = kinds.get(self.random.index(kinds.len() + 4)) else {
            let capacity = self.random.within(0, 3_000_000);
            return self.sim.set_capacity(self.machine, DIR, capacity);
        };
        let skip = u32::try_from(self.random.below(20)).unwrap();
        let error = if *kind == OpKind::Prepare && self.random.one_in(2) { ENOSPC } else { EIO };
        self.sim.fail_once(self.machine, *kind, skip, error);
    }

    /// Until a log is being emptied or lets go of a segment, and a little longer.
    fn go_to_a_change(&mut self, progress: &Progress) {
        let put_away = |sim: &Sim| {
            let files = sim.files(self.machine, DIR);
            files.iter().filter(|path| path.extension().is_some_and(|found| found == "deleted")).count()
        };
        let before = put_away(&self.sim);
        for _ in 0..2000 {
            let clears = self.books.iter().any(|book| book.borrow().clearing_to.is_some());
            if clears || put_away(&self.sim) > before {
                break;
            }
            if progress.closed.get() || self.sim.step().is_err() {
                return;
            }
        }
        let mut more = self.random.below(150);
        let clearing = self.books.iter().position(|book| book.borrow().clearing_to.is_some());
        if let Some(log) = clearing.filter(|_| self.random.one_in(2)) {
            // To where it is empty, and about to say so.
            let offset = self.books[log].borrow().clearing_to.expect("just seen");
            let begun = Path::new(&format!("/data/topic-{log}/{offset:020}.log")).to_owned();
            for _ in 0..2000 {
                if self.sim.files(self.machine, DIR).contains(&begun) || self.sim.step().is_err() {
                    break;
                }
            }
            more %= 30;
        }
        self.steps(more, progress);
    }

    fn steps(&mut self, most: u64, progress: &Progress) {
        for _ in 0..most {
            if progress.closed.get() || self.sim.step().is_err() {
                break;
            }
        }
    }

    fn start(&mut self, plan: Plan) -> Rc<Progress> {
        let actor = self.sim.start(self.machine, ShardId(0));
        let shard = self.sim.shard(actor);
        let progress = Rc::<Progress>::default();
        let seed = self.random.bits();
        shard.spawn(Box::pin(process(shard.clone(), self.books.clone(), plan, progress.clone(), seed)));
        progress
    }
}

/// A process, from opening the logs to closing them, if it gets there.
async fn process(shard: Shard, books: Books, plan: Plan, progress: Rc<Progress>, seed: u64) {
    let (logs, journal) = match open_all(&shard, &books, &plan).await {
        Ok(opened) => opened,
        Err(error) => {
            assert!(plan.fault, "{error}");
            return;
        }
    };
    progress.working.set(true);
    let mut random = Random::new(seed);
    let at_work = Watch::new(0);
    for (index, log) in logs.iter().enumerate() {
        let mut work = || Work {
            shard: shard.clone(),
            log: log.clone(),
            index,
            book: books[index].clone(),
            epoch: plan.epoch,
            random: Random::new(random.bits()),
            stopping: progress.stopping.clone(),
            large_batches: u64::from(plan.config.segment_bytes) >= 2 * batches::LARGE_BYTES_MAX,
            even: plan.even,
        };
        for producer in 0..plan.producers {
            spawn(&shard, &at_work, work().produce(producer % 2 == 0));
        }
        spawn(&shard, &at_work, work().read());
        if plan.changes {
            spawn(&shard, &at_work, work().change());
        }
    }
    at_work.until(|tasks| tasks == 0).await;
    if !progress.stopping.get() {
        return;
    }
    let clean = close_all(logs, journal).await;
    assert!(clean || plan.fault, "what had no fault closes");
    progress.closed.set(clean);
}

/// Closes logs and their journal; whether all of it went well.
async fn close_all(logs: Vec<Log>, journal: Journal) -> bool {
    let mut clean = true;
    for log in logs {
        clean &= Box::pin(log.close()).await.is_ok();
    }
    clean & journal.close().await.is_ok()
}

fn spawn(shard: &Shard, at_work: &Watch<i32>, task: impl Future<Output = ()> + 'static) {
    at_work.set(at_work.get() + 1);
    let at_work = at_work.clone();
    shard.spawn(async move {
        Box::pin(task).await;
        at_work.set(at_work.get() - 1);
    });
}

/// So short that logs rest between two batches now and then.
const REST_AFTER: Duration = Duration::from_millis(10);

async fn open_all(shard: &Shard, books: &Books, plan: &Plan) -> Result<(Vec<Log>, Journal), OpenError> {
    let cache = Cache::new(64 * 1024).with_rest_after(REST_AFTER);
    let mut logs = Vec::new();
    let synced = shard.io().sync_dir(DIR, "/data".into()).await;
    let failed = |doing| move |error| OpenError::Io { doing, path: "/data".into(), error };
    synced.map_err(failed("sync directory"))?;
    let data = Path::new("/data");
    let mut left = Left::default();
    left.read(shard.io(), DIR, data).await.map_err(failed("read journals of"))?;
    let journal = Journal::new(shard, DIR, data, plan.journal);
    for (index, book) in books.iter().enumerate() {
        let place = LogDir { dir: DIR, path: format!("/data/topic-{index}").into() };
        let id = LogId { topic: [1 + index as u8; 16], index: index as i32 };
        let journaled =
            Journaled { journal: Some(&journal), id, left: left.of(id), was_open: book.borrow().was_open };
        assert_eq!(left.damage(), [], "a crash is not taken for damage");
        let opening = Box::pin(Log::open_journaled(shard, place, plan.config.clone(), &cache, journaled));
        let (log, recovered) = opening.await?;
        book.borrow_mut().was_open = true;
        if plan.after_close {
            assert_eq!(
                recovered.scanned_bytes + recovered.cut_bytes,
                0,
                "a closed log has nothing to recover"
            );
        }
        check(&log, book).await;
        log.begin_epoch(plan.epoch);
        if !plan.fault {
            check_producers(shard, &log, book, plan.epoch);
        }
        logs.push(log);
    }
    Left::remove(shard.io(), DIR, data).await.map_err(failed("remove journals of"))?;
    journal.begin();
    Ok((logs, journal))
}

/// Holds an opened log against its book.
async fn check(log: &Log, book: &RefCell<Book>) {
    let marks = log.marks();
    book.borrow().check_marks(marks);
    let mut from = marks.log_start;
    let mut epochs = Vec::new();
    while from < marks.log_end {
        let limit = ReadLimit { up_to: marks.log_end, bytes_max: 50_000, at_least_one: true };
        let bytes = joined(&log.read(from, limit).await.expect("read"));
        assert!(!bytes.is_empty(), "there is a batch at {from} of {marks:?}");
        from = book.borrow_mut().check_bytes(from, &bytes);
        note_epochs(&bytes, &mut epochs);
    }
    assert_eq!(from, marks.log_end);
    for end in epochs {
        assert_eq!(log.epoch_end(end.epoch), Some(end), "where the epoch of the log's batches ends");
    }
    book.borrow_mut().reopened(marks);
}

/// Where each epoch of these batches ends.
fn note_epochs(mut bytes: &[u8], epochs: &mut Vec<EpochEnd>) {
    while let Some(len) = batch::whole_len(bytes) {
        let header = Header::parse(bytes).expect("checked");
        let end = EpochEnd { epoch: header.leader_epoch, end_offset: header.next_offset() };
        epochs.pop_if(|last| last.epoch == end.epoch);
        epochs.push(end);
        bytes = &bytes[len..];
    }
}

/// A producer that sends any of its last batches again learns that it is there.
fn check_producers(shard: &Shard, log: &Log, book: &RefCell<Book>, epoch: i32) {
    let truncated = book.borrow().truncations > 0;
    for batches in book.borrow().last_of_producers(BATCHES_REMEMBERED) {
        for (n, (base, sent)) in batches.into_iter().enumerate() {
            match log.append(&sent, leader(epoch, shard.wall_time())) {
                Ok(again) if again.duplicate && again.base_offset == base => {}
                // Where a truncation has cut into what was remembered, no more than the last may be left of it.
                Err(AppendError::OutOfOrderSequence) if truncated && n > 0 => {}
                other => panic!("the batch at {base}, sent again, got {other:?}"),
            }
        }
    }
}

/// As many as a client may have in flight.
const BATCHES_REMEMBERED: usize = 5;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
