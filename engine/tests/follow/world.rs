//! The machines, and what happens to them.

use crate::cluster::Cluster;
use crate::plan::{Act, Plan, What};
use crate::replica::{DIR, process};
use ringlog_engine::io::sim::{EntryOrder, MachineId, Sim};
use ringlog_engine::shard::ShardId;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What a scenario has seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Offsets committed.
    pub(crate) committed: u64,
    /// Batches compared.
    pub(crate) checked: u64,
    pub(crate) elections: u64,
    /// Times a log gave up records that its leader did not have.
    pub(crate) truncated: u64,
    /// Leaders that were followed by another before they had appended anything.
    pub(crate) idle: u64,
    /// Gaps met in logs.
    pub(crate) gaps: u64,
    pub(crate) cuts: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.checked += other.checked;
        self.elections += other.elections;
        self.truncated += other.truncated;
        self.gaps += other.gaps;
        self.idle += other.idle;
        self.cuts += other.cuts;
    }
}

pub(crate) struct World {
    sim: Sim,
    cluster: Rc<Cluster>,
    machines: Vec<MachineId>,
    up: Vec<bool>,
    cuts: u64,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut sim = Sim::new(plan.seed);
        let mut machines = Vec::new();
        for n in 0..plan.machines {
            let machine = sim.add_machine();
            sim.add_disk(machine, DIR, "/data");
            if (plan.seed + n as u64).is_multiple_of(2) {
                sim.set_entry_order(machine, DIR, EntryOrder::Journaled);
            }
            machines.push(machine);
        }
        let up = vec![false; machines.len()];
        Self { sim, cluster: Rc::new(Cluster::new(plan)), machines, up, cuts: 0 }
    }

    pub(crate) fn run(mut self) -> Tally {
        for machine in 0..self.machines.len() {
            self.start(machine);
        }
        for Act { steps, what } in self.cluster.plan.acts.clone() {
            for _ in 0..steps {
                if self.sim.step().is_err() {
                    break;
                }
            }
            self.act(what);
        }
        self.end_in_peace();
        let book = self.cluster.book.borrow();
        Tally {
            committed: book.committed_end as u64,
            checked: book.checked,
            elections: self.cluster.elections.get(),
            truncated: book.truncated,
            gaps: book.gaps,
            idle: book.idle,
            cuts: self.cuts,
        }
    }

    fn act(&mut self, what: What) {
        match what {
            What::Cut(machine) => self.end(&[machine], true),
            What::CutAtRoll(machine) => {
                self.until_files_change(machine);
                self.end(&[machine], true);
            }
            What::Kill(machine) => self.end(&[machine], false),
            What::Depose => {
                if let Some(leader) = self.cluster.role().leader {
                    self.end(&[leader], false);
                }
            }
            What::CutAll => {
                let all: Vec<usize> = (0..self.machines.len()).collect();
                self.end(&all, true);
            }
            What::Up(machine) => self.start(machine),
            What::Elect(machine) => {
                self.cluster.elect(machine);
            }
            What::Lag(machine) => self.cluster.lags(machine),
        }
    }

    /// Until a machine's segments are others, and a little longer.
    fn until_files_change(&mut self, machine: usize) {
        let segments = |sim: &Sim| {
            let files = sim.files(self.machines[machine], DIR);
            let segments =
                files.into_iter().filter(|path| path.extension().is_some_and(|found| found == "log"));
            segments.collect::<BTreeSet<_>>()
        };
        let before = segments(&self.sim);
        for _ in 0..3000 {
            if segments(&self.sim) != before || self.sim.step().is_err() {
                break;
            }
        }
        for _ in 0..self.cluster.below(100) {
            let _ = self.sim.step();
        }
    }

    fn start(&mut self, machine: usize) {
        if std::mem::replace(&mut self.up[machine], true) {
            return;
        }
        let actor = self.sim.start(self.machines[machine], ShardId(0));
        let shard = self.sim.shard(actor);
        shard.spawn(Box::pin(process(self.cluster.clone(), machine, shard.clone())));
    }

    fn end(&mut self, machines: &[usize], power: bool) {
        let up: Vec<usize> = machines.iter().copied().filter(|machine| self.up[*machine]).collect();
        // What is durable nowhere else survives: the processes die, the machines do not.
        let power = power && !self.cluster.would_lose(&up);
        self.cluster.goes_down(&up, power);
        for machine in up {
            self.up[machine] = false;
            self.cuts += u64::from(power);
            match power {
                true => self.sim.power_cut(self.machines[machine]),
                false => self.sim.kill(self.machines[machine]),
            }
        }
    }

    /// All machines come back and nothing happens to them any more: every follower comes to hold what its leader has, and all of it
    /// is committed.
    fn end_in_peace(&mut self) {
        self.cluster.calm.set(true);
        for machine in 0..self.machines.len() {
            self.start(machine);
        }
        self.steps_until("everybody follows", |cluster| cluster.role().leader.is_some());
        for _ in 0..2_000 {
            self.sim.step().expect("there is a leader");
        }
        self.cluster.over.set(true);
        self.cluster.changed.notify();
        self.steps_until("all is committed everywhere", |cluster| {
            let Some(leader) = cluster.role().leader.and_then(|one| cluster.live(one)) else { return false };
            let end = leader.log.marks().log_end;
            let acked = cluster.book.borrow().producers.iter().all(|one| one.unacked.is_empty());
            acked && (0..cluster.plan.machines).all(|one| cluster.live(one).is_some_and(|live| live.has(end)))
        });
        let checked = Rc::new(Cell::new(0));
        for live in (0..self.machines.len()).filter_map(|machine| self.cluster.live(machine)) {
            let checked = checked.clone();
            live.shard.clone().spawn(async move {
                live.check_committed().await;
                checked.set(checked.get() + 1);
            });
        }
        let all = self.machines.len();
        self.steps_until("the logs are equal", move |_| checked.get() == all);
        self.cluster.forget();
    }

    fn steps_until(&mut self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        for _ in 0..STEPS_MAX {
            if holds(&self.cluster) {
                return;
            }
            self.sim.step().expect("something goes on");
        }
        let live: Vec<_> = (0..self.machines.len()).map(|one| self.cluster.live(one)).collect();
        let state = live.iter().map(|live| live.as_ref().map(|live| live.state()));
        let state: Vec<_> = state.collect();
        panic!("{:?} {state:?}: in {STEPS_MAX} steps it does not come to this: {what}", self.cluster.role());
    }
}

/// Enough for the slowest scenario to come to its end.
const STEPS_MAX: u64 = 400_000;
