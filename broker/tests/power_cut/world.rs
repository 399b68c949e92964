//! A scenario's world: one machine with the broker, one with its clients, and the cuts.

use crate::administering::{Admin, check};
use crate::client::Door;
use crate::committing::{self, Committer};
use crate::compacting::{self, Table};
use crate::consuming::Consumer;
use crate::keeping::Keeper;
use crate::ledger::{Ended, Ledger, Tally, Target};
use crate::plan::{End, FAULTS, Life, Plan};
use crate::producing::{Kind, Producer};
use ringlog::broker::{Broker, Parts, Recovery, Stage};
use ringlog::calls::Mesh;
use ringlog::config::{BrokerConfig, Settings, Source};
use ringlog::net::ConnectionQuotas;
use ringlog::serve::lead;
use ringlog_engine::io::DirId;
use ringlog_engine::io::sim::{ActorId, EntryOrder, MachineId, OpKind, Random, Sim};
use ringlog_engine::log::Cache;
use ringlog_engine::shard::{Shard, ShardId, mesh_ends};
use ringlog_wire::Uuid;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct World {
    plan: Plan,
    sim: Sim,
    machine: MachineId,
    clients: (MachineId, ActorId),
    ledger: Ledger,
    table: Table,
    /// Where the clients wait to be connected, and where the checker does.
    door: Door,
    checkers_door: Door,
    stopping: Rc<Cell<bool>>,
    at_work: Rc<Cell<usize>>,
    random: Random,
    brokers: Vec<Broker>,
    /// Of the process that lives.
    progress: Rc<Progress>,
    /// Of the same: all that is the broker's holds it.
    config: Option<Arc<BrokerConfig>>,
    /// The last process has stopped: the next has nothing to scan.
    stopped: bool,
}

/// How far a process of the broker has come.
#[derive(Default)]
struct Progress {
    listening: Cell<bool>,
    refused: RefCell<Option<String>>,
    checked: Cell<bool>,
    /// An operation fails: what is missing may be missing.
    faulty: bool,
    /// Its files have been looked at, and clients may come.
    open: Cell<bool>,
}

/// Steps after which a broker that is left alone has long done what is asked of it.
const STEPS_MAX: u64 = 2_000_000;

/// Steps after which a broker whose disks have room again has long taken something: a log asks for room once a second, and busy
/// clients make more than 100,000 steps of one.
const FULL_STEPS_MAX: u64 = 1_000_000;

/// Steps that a life may go on for until a client is told something.
const TOLD_STEPS_MAX: u64 = 2000;

/// What the logs of a broker that makes checkpoints early leave to scan, about: a few rounds of a producer.
const SCAN_DEBT: u64 = 16 << 10;

/// So short that logs rest between two batches now and then.
const REST_AFTER: Duration = Duration::from_millis(10);

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut sim = Sim::new(plan.seed);
        let machine = sim.add_machine();
        for dir in 0..plan.dirs {
            sim.add_disk(machine, DirId(dir), format!("/data{dir}"));
            if plan.seed % 2 == 1 {
                sim.set_entry_order(machine, DirId(dir), EntryOrder::Journaled);
            }
        }
        let clients = sim.add_machine();
        let actor = sim.start(clients, ShardId(0));
        let mut world = Self {
            plan: plan.clone(),
            sim,
            machine,
            clients: (clients, actor),
            ledger: Ledger::default(),
            table: Table::default(),
            door: Door::default(),
            checkers_door: Door::default(),
            stopping: Rc::default(),
            at_work: Rc::default(),
            random: Random::new(!plan.seed),
            brokers: Vec::new(),
            progress: Rc::default(),
            stopped: false,
            config: None,
        };
        world.start_clients();
        world
    }

    fn start_clients(&mut self) {
        let shard = self.sim.shard(self.clients.1);
        let seed = self.plan.seed;
        // Of the clients' own, so that a plan with fewer of them changes nothing for the others.
        let random = |client: u64| Random::new(seed.wrapping_mul(1000).wrapping_add(client));
        self.spawn_client(
            &shard,
            Admin {
                shard: shard.clone(),
                door: self.door.clone(),
                ledger: self.ledger.clone(),
                random: random(0),
                stopping: self.stopping.clone(),
                topics: self.plan.topics,
                partitions: self.plan.partitions,
                deletes: self.plan.admin,
                retains: self.plan.retains,
            }
            .run(),
        );
        let kinds = [(Kind::Idempotent, self.plan.idempotent), (Kind::Plain, self.plan.plain)];
        for (base, (kind, count)) in kinds.into_iter().enumerate() {
            for at in 0..count {
                let producer = Producer {
                    shard: shard.clone(),
                    door: self.door.clone(),
                    ledger: self.ledger.clone(),
                    random: random((base as u64 + 1) * 100 + at as u64),
                    stopping: self.stopping.clone(),
                    kind,
                };
                self.spawn_client(&shard, producer.run());
            }
        }
        for at in 0..self.plan.consumers {
            let consumer = Consumer {
                shard: shard.clone(),
                door: self.door.clone(),
                ledger: self.ledger.clone(),
                random: random(300 + at as u64),
                stopping: self.stopping.clone(),
            };
            self.spawn_client(&shard, consumer.run());
        }
        for at in 0..self.plan.groups {
            let committer = Committer {
                shard: shard.clone(),
                door: self.door.clone(),
                ledger: self.ledger.clone(),
                random: random(400 + at as u64),
                stopping: self.stopping.clone(),
                group: format!("group-{at}"),
                is_member: at % 2 == 1,
            };
            self.spawn_client(&shard, committer.run());
        }
        if self.plan.compacts {
            self.start_keeper(&shard, random(500));
        }
    }

    fn start_keeper(&mut self, shard: &Shard, random: Random) {
        let keeper = Keeper {
            shard: shard.clone(),
            door: self.door.clone(),
            ledger: self.ledger.clone(),
            random,
            stopping: self.stopping.clone(),
            table: self.table.clone(),
        };
        self.spawn_client(shard, keeper.run());
    }

    fn spawn_client(&self, shard: &Shard, client: impl Future<Output = ()> + 'static) {
        let at_work = self.at_work.clone();
        at_work.set(at_work.get() + 1);
        shard.spawn(async move {
            Box::pin(client).await;
            at_work.set(at_work.get() - 1);
        });
    }

    /// The whole scenario; panics where the broker breaks a promise.
    pub(crate) fn run(mut self) -> Tally {
        for life in self.plan.lives.clone() {
            self.live(life);
        }
        self.last_life();
        self.sim.reset_connections(0);
        let progress = self.boot(false);
        self.steps(STEPS_MAX, || progress.open.get());
        self.must(progress.open.get(), "a stopped broker comes back", &progress);
        self.tally(|tally| tally.recoveries += 1)
    }

    fn tally(&self, note: impl FnOnce(&mut Tally)) -> Tally {
        self.ledger.tally(note)
    }

    /// One process, from its start to its violent end.
    fn live(&mut self, life: Life) {
        self.sim.reset_connections(self.plan.resets);
        let progress = self.boot(life.fault.is_some());
        if life.full {
            // What finds no room is refused.
            self.ledger.begins(true);
            self.tally(|tally| tally.full += 1);
        }
        if let Some((kind, skip)) = life.fault {
            let kinds: [OpKind; FAULTS] = [
                OpKind::Write,
                OpKind::Sync,
                OpKind::Create,
                OpKind::Prepare,
                OpKind::Truncate,
                OpKind::SyncFile,
                OpKind::SyncDir,
                OpKind::Rename,
                OpKind::Sync,
            ];
            self.sim.fail_once(self.machine, kinds[kind], skip, EIO);
            self.tally(|tally| tally.faults += 1);
        }
        let mut left = life.steps;
        while left > 0 {
            let some = left.min(self.random.within(1, 600));
            left -= some;
            self.steps(some, || false);
            if progress.open.get() && self.plan.deletes {
                self.delete_records();
            }
            if life.full && progress.open.get() {
                self.fill_or_empty();
            }
        }
        if life.full {
            self.make_room(&progress);
        }
        if life.told && progress.open.get() {
            let told = |ledger: &Ledger| {
                let tally = ledger.tally(|_| {});
                tally.acknowledged + tally.read
            };
            let (ledger, before) = (self.ledger.clone(), told(&self.ledger));
            self.steps(TOLD_STEPS_MAX, || told(&ledger) > before);
        }
        let refused = progress.refused.take();
        assert!(refused.is_none() || life.fault.is_some(), "the broker does not start: {refused:?}");
        let checked = progress.checked.get();
        self.tally(|tally| if checked { tally.recoveries += 1 } else { tally.cut_in_recovery += 1 });
        match life.end {
            End::Kill if life.fault.is_none() => {
                self.ledger.ended(Ended::Killed);
                self.end(Sim::kill);
            }
            End::Stop if life.fault.is_none() && checked => self.stop(100_000),
            _ => {
                self.ledger.ended(Ended::PowerCut);
                self.end(Sim::power_cut);
            }
        }
    }

    /// A process that is left alone: every client gets its answers, and the broker stops when told.
    fn last_life(&mut self) {
        let progress = self.boot(false);
        self.steps(STEPS_MAX / 4, || progress.open.get());
        if !progress.open.get() {
            // Who checks it may have more to read than connections last for that break.
            self.sim.reset_connections(0);
            self.steps(STEPS_MAX, || progress.open.get());
        }
        self.must(progress.open.get(), "the broker comes back", &progress);
        self.steps(3_000, || false);
        self.stopping.set(true);
        let at_work = self.at_work.clone();
        self.steps(STEPS_MAX, || at_work.get() == 0);
        self.must(at_work.get() == 0, "every client is answered", &progress);
        self.tally(|tally| tally.recoveries += 1);
        self.stop(STEPS_MAX);
        assert!(self.brokers.is_empty());
    }

    fn must(&self, holds: bool, what: &str, progress: &Progress) {
        let Progress { listening, refused, checked, .. } = progress;
        let come = format!("listening {}, checked {}, refused {:?}", listening.get(), checked.get(), refused);
        assert!(holds, "{what}: not in {STEPS_MAX} steps ({come})");
    }

    /// Tells the broker to stop; the power goes when it has, or after so many steps.
    fn stop(&mut self, steps: u64) {
        let stages = |brokers: &[Broker], stage| brokers.iter().all(|broker| broker.stage() >= stage);
        for broker in self.brokers.clone() {
            broker.shard().clone().spawn(async move { broker.drain().await });
        }
        let brokers = self.brokers.clone();
        self.steps(steps, || stages(&brokers, Stage::Drained));
        if stages(&brokers, Stage::Drained) {
            // Who is gone may still stand in a line, of a partition or of a sync.
            let left =
                |broker: &Broker| (broker.parked_count(), broker.memory_in_use(), broker.acks_waiting());
            let idle = || brokers.iter().all(|broker| left(broker) == (0, (0, 0), 0));
            self.steps(steps, idle);
            let left: Vec<_> = brokers.iter().map(left).collect();
            assert!(idle(), "a drained broker has something left: {left:?}");
            for broker in brokers.clone() {
                broker.shard().clone().spawn(async move { broker.close().await });
            }
            self.steps(steps, || stages(&brokers, Stage::Closed));
        }
        let closed = stages(&brokers, Stage::Closed);
        drop(brokers);
        // What could not be written when the broker stopped is scanned, as after a crash.
        self.stopped = closed && !self.ledger.is_faulty();
        self.ledger.ended(if closed { Ended::Stopped } else { Ended::PowerCut });
        self.tally(|tally| tally.stops += u64::from(closed));
        assert!(closed || steps < STEPS_MAX, "a broker that is told to stop stops");
        self.end(Sim::power_cut);
    }

    fn end(&mut self, how: impl FnOnce(&mut Sim, MachineId)) {
        let rounds: u64 = self.brokers.iter().map(|broker| broker.cleaner_figures().runs).sum();
        self.tally(|tally| tally.rounds += rounds);
        self.brokers.clear();
        how(&mut self.sim, self.machine);
        self.sim.clear_faults(self.machine);
        let config = self.config.take().expect("it has begun");
        assert_eq!(Arc::strong_count(&config), 1, "of a process that is gone nothing stays in memory");
    }

    /// Starts a process of the broker, and the check of what it holds.
    fn boot(&mut self, faulty: bool) -> Rc<Progress> {
        self.ledger.begins(faulty);
        let config = Arc::new(self.config());
        self.config = Some(config.clone());
        let quotas = ConnectionQuotas::new(&config, usize::MAX);
        let mut actors = Vec::new();
        for (id, ends) in mesh_ends(self.plan.shards).into_iter().enumerate() {
            let actor = self.sim.start(self.machine, ShardId(u16::try_from(id).unwrap()));
            let shard = self.sim.shard(actor);
            let mesh = Mesh::open(&shard, ends);
            // Small: much is read from the disk, logs rest between two batches now and then, and half of the brokers make checkpoints of what little is written.
            let cache = Cache::new(64 * 1024).with_rest_after(REST_AFTER);
            let cache =
                if self.plan.seed.is_multiple_of(2) { cache.with_scan_debt(SCAN_DEBT) } else { cache };
            let (config, quotas) = (config.clone(), quotas.clone());
            self.brokers.push(Broker::start(Parts { shard, mesh, config, cache, quotas }));
            actors.push(actor);
        }
        let progress = Rc::new(Progress { faulty, ..Progress::default() });
        self.progress = progress.clone();
        let (brokers, told) = (self.brokers.clone(), progress.clone());
        let stopped = std::mem::take(&mut self.stopped);
        self.sim.shard(actors[0]).spawn(async move {
            if let Err(why) = lead(&brokers[0]).await {
                *told.refused.borrow_mut() = Some(why.to_string());
                return;
            }
            for broker in &brokers {
                let Recovery { scanned_bytes, cut_bytes, .. } = broker.recovery();
                assert!(
                    !stopped || (scanned_bytes, cut_bytes) == (0, 0),
                    "a stopped broker has nothing to scan"
                );
                broker.listen(0, address()).unwrap();
            }
            told.listening.set(true);
        });
        // A door of its own: who checked the process before is not let in any more.
        self.checkers_door = Door::default();
        let (door, ledger, told) = (self.checkers_door.clone(), self.ledger.clone(), progress.clone());
        let table = self.table.clone();
        self.sim.shard(self.clients.1).spawn(async move {
            if Box::pin(check(door, ledger, table)).await.is_some() {
                told.checked.set(true);
            }
        });
        progress
    }

    /// Steps until this holds; lets in who waits.
    fn steps(&mut self, most: u64, until: impl Fn() -> bool) {
        for _ in 0..most {
            if until() || self.sim.step().is_err() {
                return;
            }
            let progress = self.progress.clone();
            let life = self.ledger.life();
            if progress.open.get() {
                self.door.let_in(&mut self.sim, self.clients, address(), life);
            } else if progress.checked.get() {
                if !progress.faulty {
                    self.check_files();
                }
                progress.open.set(true);
            } else if progress.listening.get() {
                self.checkers_door.let_in(&mut self.sim, self.clients, address(), life);
            }
        }
    }

    /// Looks at the bytes of every log, before anything is added to them, and that nothing is left of deleted topics.
    fn check_files(&mut self) {
        let topics: BTreeSet<_> =
            self.brokers.iter().flat_map(Broker::partitions).map(|partition| partition.id().topic).collect();
        for dir in (0..self.plan.dirs).map(DirId) {
            for path in self.sim.files(self.machine, dir) {
                if path.ends_with("partition.metadata")
                    && let Some(target) = self.target_of(dir, &path)
                {
                    assert!(topics.contains(&target.topic), "{} is of a deleted topic", path.display());
                }
                if path.extension().is_none_or(|extension| extension != "log") {
                    continue;
                }
                let Some(target) = self.target_of(dir, &path) else { continue };
                let bytes = self.sim.read_file(self.machine, dir, &path).expect("just listed");
                self.ledger.check_file(target, &path.display().to_string(), &bytes);
            }
        }
    }

    /// Which partition a file says it belongs to; one of a deleted topic may still lie under the name of another.
    fn target_of(&self, dir: DirId, path: &Path) -> Option<Target> {
        let folder = path.parent()?;
        let (_, index) = folder.file_name()?.to_str()?.rsplit_once('-')?;
        let metadata = self.sim.read_file(self.machine, dir, folder.join("partition.metadata"))?;
        let topic: Uuid = String::from_utf8(metadata).ok()?.trim().rsplit_once(' ')?.1.parse().ok()?;
        Some(Target { topic: topic.0, index: index.parse().ok()? })
    }

    /// Somebody else fills the disks, all but a little, or takes away what he has put there.
    fn fill_or_empty(&mut self) {
        for dir in (0..self.plan.dirs).map(DirId) {
            let room = [0, 3_000, 70_000, 300_000, u64::MAX][self.random.index(5)];
            let bytes = self.sim.used(self.machine, dir).saturating_add(room);
            self.sim.set_capacity(self.machine, dir, bytes);
        }
    }

    /// There is room again: nobody has to do anything for the broker to take records.
    fn make_room(&mut self, progress: &Progress) {
        for dir in (0..self.plan.dirs).map(DirId) {
            self.sim.set_capacity(self.machine, dir, u64::MAX);
        }
        let online = |broker: &Broker| !broker.partitions().is_empty() && broker.offline_partitions() == 0;
        let producing = self.plan.idempotent > 0 && self.brokers.iter().any(online);
        if !progress.open.get()
            || !producing
            || self.brokers.iter().any(|broker| broker.offline_partitions() > 0)
        {
            return;
        }
        let acknowledged = |ledger: &Ledger| ledger.tally(|_| {}).acknowledged;
        let (ledger, before) = (self.ledger.clone(), acknowledged(&self.ledger));
        self.steps(FULL_STEPS_MAX, || acknowledged(&ledger) > before);
        assert!(acknowledged(&self.ledger) > before, "there is room again, and nothing is acknowledged");
        if self.plan.groups > 0 {
            let committed = |ledger: &Ledger| ledger.tally(|_| {}).commits;
            let before = committed(&self.ledger);
            self.steps(FULL_STEPS_MAX, || committed(&ledger) > before);
            assert!(committed(&self.ledger) > before, "there is room again, and no offset is committed");
        }
        self.tally(|tally| tally.emptied += 1);
    }

    /// Deletes records from the front of some partition, as its broker does when it is asked to.
    fn delete_records(&mut self) {
        if !self.random.one_in(4) {
            return;
        }
        let mut partitions: Vec<_> = self.brokers.iter().flat_map(Broker::partitions).collect();
        // Nobody deletes what groups keep, nor from a compacted topic.
        partitions
            .retain(|partition| ![committing::TOPIC, compacting::TOPIC].contains(&&**partition.topic()));
        if partitions.is_empty() {
            return;
        }
        let partition = partitions[self.random.index(partitions.len())].clone();
        let (from, to) = (partition.log_start(), partition.high_watermark());
        let offset = from + i64::try_from(self.random.below((to - from).unsigned_abs() + 1)).unwrap();
        let target = Target { topic: partition.id().topic, index: partition.id().index };
        self.ledger.deletion_of_records_begins(target, offset);
        let ledger = self.ledger.clone();
        let broker = self.brokers.iter().find(|broker| broker.partition(partition.id()).is_some());
        broker.expect("one of them has it").shard().clone().spawn(async move {
            if let Ok(log_start) = Box::pin(partition.delete_records(Some(offset))).await {
                ledger.records_deleted(target, log_start);
            }
        });
    }

    fn config(&mut self) -> BrokerConfig {
        let dirs: Vec<String> = (0..self.plan.dirs).map(|dir| format!("/data{dir}")).collect();
        let mut settings = Settings::default();
        for pair in [
            "listeners=PLAINTEXT://127.0.0.1:9092".to_owned(),
            "auto.create.topics.enable=false".to_owned(),
            format!("log.dirs={}", dirs.join(",")),
            format!("journal.bytes={}", self.plan.journal),
            "offsets.topic.num.partitions=2".to_owned(),
            "group.initial.rebalance.delay.ms=2".to_owned(),
            "group.min.session.timeout.ms=1".to_owned(),
            format!("log.cleaner.backoff.ms={}", if self.plan.compacts { 2 } else { 15_000 }),
            format!("log.retention.check.interval.ms={}", if self.plan.retains { 10 } else { 300_000 }),
        ] {
            settings.set_pair(&pair, Source::CommandLine).unwrap();
        }
        let mut config = BrokerConfig::new(settings).unwrap();
        config.set_bound(&[address().port()], "localhost");
        config
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9092))
}

const EIO: i32 = 5;
