//! One process: it opens its log, and leads or follows, as it hears.

use crate::book::{Chain, joined, last_header, read_all};
use crate::cluster::{Cluster, Role};
use ringlog_engine::io::DirId;
use ringlog_engine::log::{
    Answer, Ask, Cache, Durability, Follower, Log, LogConfig, LogDir, ReadLimit, Taken, refusal,
};
use ringlog_engine::shard::Shard;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

pub(crate) const DIR: DirId = DirId(0);

/// A process whose log is open.
pub(crate) struct Live {
    pub(crate) id: usize,
    pub(crate) shard: Shard,
    pub(crate) log: Log,
    pub(crate) cluster: Rc<Cluster>,
    /// The epoch it leads, if it does, or thinks so.
    pub(crate) leads: Cell<Option<i32>>,
    pub(crate) high_watermark: Cell<i64>,
    /// As a leader: what its log holds.
    pub(crate) chain: RefCell<Chain>,
    /// As a leader: what each follower has said to hold, in this epoch.
    held: RefCell<BTreeMap<usize, i64>>,
    epoch_start: Cell<i64>,
}

/// A process, from its start on.
pub(crate) async fn process(cluster: Rc<Cluster>, id: usize, shard: Shard) {
    let plan = &cluster.plan;
    let config = LogConfig {
        segment_bytes: plan.segment_bytes,
        index_interval_bytes: [1, 4096][(plan.seed % 2) as usize],
        max_message_bytes: 40_000,
        checkpoint_bytes: [u64::MAX / 4, 5_000, 30_000][(plan.seed % 3) as usize],
        durability: if plan.fsync { Durability::Fsync } else { Durability::Replicated },
        ..LogConfig::default()
    };
    // The process before may have made the log's directory, and died.
    shard.io().sync_dir(DIR, "/data".into()).await.expect("sync");
    let place = LogDir { dir: DIR, path: "/data/topic-0".into() };
    let (log, _) = Box::pin(Log::open(&shard, place, config, &Cache::new(64 << 10))).await.expect("open");
    let (marks, bytes) = Box::pin(read_all(&log)).await;
    let chain = cluster.book.borrow_mut().check_bytes(marks, &bytes);
    assert!(marks.log_start <= cluster.book.borrow().deleted_to, "more gone than was deleted: {marks:?}");
    let live = Rc::new(Live {
        id,
        shard,
        log,
        cluster: cluster.clone(),
        leads: Cell::new(None),
        high_watermark: Cell::new(marks.log_start),
        chain: RefCell::new(chain),
        held: RefCell::default(),
        epoch_start: Cell::new(0),
    });
    cluster.came_up(live.clone());
    loop {
        let changed = cluster.changed.next();
        let role = cluster.role();
        match role.leader {
            Some(leader) if leader == id => Box::pin(live.clone().lead(role.epoch)).await,
            Some(leader) => Box::pin(live.follow(role, leader)).await,
            None => changed.await,
        }
        // What has changed is heard of some time.
        live.pause(20_000).await;
    }
}

impl Live {
    pub(crate) async fn pause(&self, micros: u64) {
        let span = self.cluster.below(micros);
        self.shard.sleep(Duration::from_micros(span)).await;
    }

    // ---- leading ----

    async fn lead(self: Rc<Self>, epoch: i32) {
        let cluster = &self.cluster;
        self.log.wait_written(self.log.marks().log_end).await.expect("write");
        let (marks, bytes) = read_all(&self.log).await;
        if cluster.role().epoch != epoch {
            return;
        }
        let chain = cluster.book.borrow_mut().check_bytes(marks, &bytes);
        let committed_end = cluster.book.borrow().committed_end;
        assert!(marks.log_end >= committed_end || cluster.plan.gaps, "{marks:?} of {committed_end}");
        cluster.book.borrow().holds(&chain, marks.log_start, committed_end);
        *self.chain.borrow_mut() = chain;
        self.held.borrow_mut().clear();
        self.log.begin_epoch(epoch);
        self.epoch_start.set(marks.log_end);
        self.leads.set(Some(epoch));
        self.clone().start_producers(epoch);
        loop {
            let moved = self.log.moved();
            let changed = cluster.changed.next();
            self.advance(epoch);
            if cluster.role().epoch != epoch {
                break;
            }
            either(moved, changed).await;
        }
        let marks = self.log.marks();
        let idle = marks.log_end == self.epoch_start.get() && marks.log_end > marks.log_start;
        cluster.book.borrow_mut().idle += u64::from(idle);
        // It does not know at once.
        self.pause(30_000).await;
        self.leads.set(None);
    }

    /// Whether it still thinks that it leads in this epoch.
    pub(crate) fn is_leading(&self, epoch: i32) -> bool {
        self.leads.get() == Some(epoch)
    }

    /// Its log up to here is held as durability wants it.
    fn holds(&self) -> i64 {
        let marks = self.log.marks();
        if self.cluster.plan.fsync { marks.durable } else { marks.written }
    }

    fn advance(&self, epoch: i32) {
        let cluster = &self.cluster;
        let Some(in_sync) = cluster.in_sync(epoch) else { return };
        let held = self.held.borrow();
        let of = |replica: &usize| match *replica == self.id {
            true => self.holds(),
            false => held.get(replica).copied().unwrap_or(-1),
        };
        let mark = in_sync.iter().map(of).min().expect("itself");
        if mark <= self.high_watermark.get() {
            return;
        }
        for live in in_sync.iter().filter_map(|&replica| cluster.live(replica)) {
            assert!(live.holds() >= mark, "{} holds {:?}, not {mark}", live.id, live.log.marks());
        }
        cluster.book.borrow_mut().commit(&self.chain.borrow(), mark, cluster.plan.gaps);
        self.high_watermark.set(mark);
        cluster.changed.notify();
    }

    /// Answers a follower; `None`: not the leader of that epoch.
    async fn answer(&self, from: usize, ask: &Ask) -> Option<Answer> {
        if !self.is_leading(ask.leader_epoch) {
            return None;
        }
        if let Some(answer) = refusal(&self.log, ask) {
            return Some(answer);
        }
        self.held.borrow_mut().insert(from, ask.fetch_offset);
        if ask.fetch_offset >= self.high_watermark.get().max(self.epoch_start.get()) {
            self.cluster.joins_sync(ask.leader_epoch, from);
        }
        self.cluster.changed.notify();
        let mut batches = self.read(ask.fetch_offset).await;
        if batches.is_empty() {
            self.pause(20_000).await;
            batches = self.read(ask.fetch_offset).await;
        }
        // What was read since may be another leader's.
        self.is_leading(ask.leader_epoch).then(|| Answer::Records {
            batches: batches.into(),
            high_watermark: self.high_watermark.get(),
            log_start: self.log.marks().log_start,
        })
    }

    async fn read(&self, mut from: i64) -> Vec<u8> {
        loop {
            let bytes_max = [1, 5_000, 100_000][self.cluster.below(3) as usize];
            let limit = ReadLimit { up_to: self.log.marks().log_end, bytes_max, at_least_one: true };
            // Its log start may have moved past it: the follower will ask again.
            let Ok(parts) = self.log.read(from, limit).await else { return Vec::new() };
            let bytes = joined(&parts.parts);
            let Some(last) = last_header(&bytes) else { return Vec::new() };
            let sent = self.cluster.book.borrow().without_compacted(&bytes);
            if !sent.is_empty() {
                return sent;
            }
            from = last.next_offset();
        }
    }

    // ---- following ----

    async fn follow(&self, role: Role, leader: usize) {
        let cluster = &self.cluster;
        let mut follower = Follower::new(self.log.clone(), role.epoch, self.high_watermark.get());
        let mut former: Option<(Ask, Answer)> = None;
        while cluster.role() == role {
            let ask = follower.ask().await.expect("hold");
            let Some(answer) = self.ask(role, leader, &ask).await else {
                self.pause(5_000).await;
                continue;
            };
            if cluster.plan.disorder && !cluster.calm.get() {
                if cluster.one_in(8) {
                    // Lost on its way.
                    continue;
                }
                if let Some((ask, answer)) = former.take().filter(|_| cluster.one_in(4)) {
                    let taken = follower.take(&ask, answer).await;
                    assert!(matches!(taken, Ok(Taken::Nothing)), "an old answer: {taken:?}");
                }
                former = former.filter(|_| !cluster.one_in(4)).or(Some((ask.clone(), answer.clone())));
            }
            let before = self.log.marks().log_end;
            let taken = follower.take(&ask, answer).await;
            match taken.unwrap_or_else(|error| panic!("{} cannot follow: {error}", self.id)) {
                Taken::Truncated(end) if end < before => cluster.book.borrow_mut().truncated += 1,
                _ => {}
            }
            self.check_high_watermark(follower.high_watermark());
            if cluster.one_in(16) {
                self.check_committed().await;
            }
        }
    }

    fn check_high_watermark(&self, high_watermark: i64) {
        let (holds, committed) = (self.holds(), self.cluster.book.borrow().committed_end);
        assert!(high_watermark >= self.high_watermark.get(), "a follower's high watermark went back");
        assert!(
            high_watermark <= committed,
            "a follower takes {high_watermark} for committed, not {committed}"
        );
        assert!(
            high_watermark <= holds,
            "the high watermark {high_watermark} is past {:?}",
            self.log.marks()
        );
        self.high_watermark.set(high_watermark);
    }

    /// Whether it holds all up to here, and knows that it is committed.
    pub(crate) fn has(&self, end: i64) -> bool {
        self.log.marks().log_end == end && self.high_watermark.get() == end
    }

    /// For a failure's message.
    pub(crate) fn state(&self) -> String {
        let (marks, high_watermark) = (self.log.marks(), self.high_watermark.get());
        format!("{marks:?} high watermark {high_watermark}, held {:?}", self.held.borrow())
    }

    /// What it takes for committed is what is.
    pub(crate) async fn check_committed(&self) {
        let high_watermark = self.high_watermark.get();
        let (marks, bytes) = read_all(&self.log).await;
        let mut book = self.cluster.book.borrow_mut();
        let chain = book.check_bytes(marks, &bytes);
        book.holds(&chain, marks.log_start, high_watermark);
    }

    /// Sends a question and waits for the answer. `None`: there is none.
    async fn ask(&self, role: Role, leader: usize, ask: &Ask) -> Option<Answer> {
        let cluster = &self.cluster;
        let disorder = cluster.plan.disorder && !cluster.calm.get();
        self.pause(if disorder { 10_000 } else { 500 }).await;
        let to = cluster.live(leader)?;
        let slot = Rc::new(RefCell::new(None));
        {
            let (slot, ask, to, from) = (slot.clone(), ask.clone(), to.clone(), self.id);
            let shard = to.shard.clone();
            shard.spawn(async move {
                let answer = Box::pin(to.answer(from, &ask)).await;
                to.pause(if disorder { 10_000 } else { 500 }).await;
                *slot.borrow_mut() = Some(answer);
                to.cluster.changed.notify();
            });
        }
        loop {
            let changed = cluster.changed.next();
            if let Some(answer) = slot.borrow_mut().take() {
                return answer;
            }
            if cluster.role() != role {
                return None;
            }
            changed.await;
        }
    }
}

/// Waits for one of two things.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match (one.as_mut().poll(cx), other.as_mut().poll(cx)) {
        (Poll::Pending, Poll::Pending) => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}
