//! Who leads, who is in sync, who may be elected: a cluster's metadata as if they were always right. Each replica hears of
//! them late.

use crate::book::Book;
use crate::plan::{MIN_INSYNC, Plan};
use crate::replica::Live;
use ringlog_engine::io::sim::Random;
use ringlog_engine::shard::sync::Event;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// What the replicas share. It outlives their processes.
pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) book: RefCell<Book>,
    pub(crate) random: RefCell<Random>,
    role: Cell<Role>,
    /// Replicas that the high watermark waits for.
    in_sync: RefCell<BTreeSet<usize>>,
    /// Replicas that have all that is committed (Kafka's ISR and ELR, KIP-966).
    eligible: RefCell<BTreeSet<usize>>,
    /// Processes whose log is open.
    live: RefCell<Vec<Option<Rc<Live>>>>,
    /// Something of this, or a replica's high watermark, has changed, or a message has come.
    pub(crate) changed: Event,
    /// All is left alone: what is under way comes to its end.
    pub(crate) calm: Cell<bool>,
    /// Nothing is produced any more.
    pub(crate) over: Cell<bool>,
    /// How many elections there have been.
    pub(crate) elections: Cell<u64>,
}

/// Who leads, in which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) epoch: i32,
    pub(crate) leader: Option<usize>,
}

impl Cluster {
    pub(crate) fn new(plan: &Plan) -> Self {
        let all: BTreeSet<usize> = (0..plan.machines).collect();
        Self {
            plan: plan.clone(),
            book: RefCell::new(Book::new(plan.idempotent)),
            random: RefCell::new(Random::new(!plan.seed)),
            role: Cell::new(Role { epoch: 0, leader: None }),
            in_sync: RefCell::new(BTreeSet::new()),
            eligible: RefCell::new(all),
            live: RefCell::new(vec![None; plan.machines]),
            changed: Event::default(),
            calm: Cell::new(false),
            over: Cell::new(false),
            elections: Cell::new(0),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role.get()
    }

    /// The process of this replica, if its log is open.
    pub(crate) fn live(&self, replica: usize) -> Option<Rc<Live>> {
        self.live.borrow()[replica].clone()
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.random.borrow_mut().below(end)
    }

    pub(crate) fn one_in(&self, odds: u64) -> bool {
        self.random.borrow_mut().one_in(odds)
    }

    /// A process has opened its log.
    pub(crate) fn came_up(&self, live: Rc<Live>) {
        let replica = live.id;
        if self.eligible.borrow().contains(&replica) {
            let end = self.book.borrow().committed_end;
            self.book.borrow().holds(&live.chain.borrow(), live.log.marks().log_start, end);
        }
        self.live.borrow_mut()[replica] = Some(live);
        if self.role().leader.is_none() {
            self.elect(replica);
        }
    }

    /// Whether the disks of these hold, of something committed, what no other is known to hold durably.
    pub(crate) fn would_lose(&self, replicas: &[usize]) -> bool {
        !self.plan.fsync && self.eligible.borrow().iter().all(|one| replicas.contains(one))
    }

    /// Processes end: with their disks as they were written, or with what a power cut leaves of them.
    pub(crate) fn goes_down(&self, replicas: &[usize], power: bool) {
        let loses = power && !self.plan.fsync;
        for &replica in replicas {
            self.live.borrow_mut()[replica] = None;
            if loses {
                self.eligible.borrow_mut().remove(&replica);
            }
            self.leaves_sync(replica);
            if self.role().leader == Some(replica) {
                self.role.set(Role { leader: None, ..self.role() });
            }
        }
        if self.role().leader.is_none() {
            let up: Vec<usize> = self.live.borrow().iter().flatten().map(|live: &Rc<Live>| live.id).collect();
            if !up.is_empty() {
                let from = self.below(up.len() as u64) as usize;
                let _ = up.iter().cycle().skip(from).take(up.len()).any(|&replica| self.elect(replica));
            }
        }
        self.changed.notify();
    }

    /// The world ends.
    pub(crate) fn forget(&self) {
        self.live.borrow_mut().fill(None);
    }

    /// Makes a replica the leader of the next epoch, if its process is there and it has all that is committed.
    pub(crate) fn elect(&self, replica: usize) -> bool {
        let role = self.role();
        let may = self.eligible.borrow().contains(&replica) && self.live(replica).is_some();
        if !may || role.leader == Some(replica) {
            return false;
        }
        self.role.set(Role { epoch: role.epoch + 1, leader: Some(replica) });
        self.elections.set(self.elections.get() + 1);
        {
            let mut in_sync = self.in_sync.borrow_mut();
            if in_sync.is_empty() && role.epoch == 0 {
                *in_sync = (0..self.plan.machines).collect();
            } else if !in_sync.contains(&replica) {
                *in_sync = [replica].into();
            }
        }
        self.changed.notify();
        true
    }

    /// A replica that is slow is not waited for.
    pub(crate) fn lags(&self, replica: usize) {
        if self.role().leader != Some(replica) {
            self.leaves_sync(replica);
            self.changed.notify();
        }
    }

    fn leaves_sync(&self, replica: usize) {
        let mut in_sync = self.in_sync.borrow_mut();
        if in_sync.remove(&replica) && in_sync.len() >= MIN_INSYNC {
            // The high watermark goes on without it.
            self.eligible.borrow_mut().clone_from(&in_sync);
        }
    }

    /// A leader finds that a follower has all that is committed, and its epoch's beginning.
    pub(crate) fn joins_sync(&self, epoch: i32, replica: usize) {
        if self.role().epoch != epoch || self.live(replica).is_none() {
            return;
        }
        let mut in_sync = self.in_sync.borrow_mut();
        if in_sync.insert(replica) && in_sync.len() >= MIN_INSYNC {
            self.eligible.borrow_mut().clone_from(&in_sync);
        }
    }

    /// Those the leader of this epoch waits for, itself among them; `None` where nothing may be committed.
    pub(crate) fn in_sync(&self, epoch: i32) -> Option<Vec<usize>> {
        let in_sync = self.in_sync.borrow();
        (self.role().epoch == epoch && in_sync.len() >= MIN_INSYNC).then(|| in_sync.iter().copied().collect())
    }
}
