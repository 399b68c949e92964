//! What the logs of a shard would have to scan in a recovery, all together: kept within a bound by checkpoints made ahead.
//!
//! A log makes a checkpoint by itself when it has written [`CHECKPOINT_BYTES`](crate::limits::CHECKPOINT_BYTES) since the last. A
//! thousand logs could have written almost as much each: so, after every so many bytes, those that have written most are
//! made to checkpoint until no more than half of the bound is left. Where few logs are written, none ever is.
//!
//! Such a checkpoint is not synced: a log's 16 KiB would cost a flush of the device otherwise, and ten thousand logs could not keep up. It outlives
//! the process, and where the power takes it, the one before it stands.

use super::Log;
use crate::limits::SCAN_DEBT_WORTH_PAYING;
use crate::shard::Shard;
use crate::shard::sync::Credits;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// The logs of a shard, for what recovery would have to scan in them.
#[derive(Clone)]
pub(super) struct Debt(Rc<Inner>);

struct Inner {
    /// The bound, in bytes.
    max: u64,
    logs: RefCell<Vec<Weak<super::Inner>>>,
    /// Bytes written since logs were last looked through.
    grown: Cell<u64>,
    /// Logs are being made to checkpoint.
    paying: Cell<bool>,
}

impl Debt {
    /// Of no logs yet.
    pub(super) fn new(max: u64) -> Self {
        Self(Rc::new(Inner { max, logs: RefCell::default(), grown: Cell::new(0), paying: Cell::new(false) }))
    }

    /// A log has been opened.
    pub(super) fn enter(&self, log: &Log) {
        let mut logs = self.0.logs.borrow_mut();
        // A log that is gone keeps its memory for as long as it is listed, and where little is written nobody else looks through them.
        if logs.len() == logs.capacity() {
            logs.retain(|log| log.strong_count() > 0);
            let living = logs.len();
            logs.reserve(living + 1);
        }
        logs.push(Rc::downgrade(&log.0));
        self.0.grown.set(self.0.grown.get() + log.debt());
    }

    /// A log of this shard has written.
    pub(super) fn grow(&self, shard: &Shard, bytes: u64) {
        self.0.grown.set(self.0.grown.get() + bytes);
        if self.0.grown.get() >= self.0.max / 4 && !self.0.paying.replace(true) {
            self.0.grown.set(0);
            let (this, shard_of_task) = (self.clone(), shard.clone());
            shard.spawn(async move { this.pay(&shard_of_task).await });
        }
    }

    /// Makes those that owe most checkpoint, until half of the bound is left.
    async fn pay(&self, shard: &Shard) {
        let under_way = Credits::new(CHECKPOINTS_AT_ONCE);
        for log in self.deepest() {
            let permit = under_way.take(1).await;
            shard.spawn(async move {
                log.checkpoint_ahead().await;
                drop(permit);
            });
        }
        let _all = under_way.take(CHECKPOINTS_AT_ONCE).await;
        self.0.paying.set(false);
    }

    fn deepest(&self) -> Vec<Log> {
        let mut logs = Vec::new();
        self.0.logs.borrow_mut().retain(|log| {
            let log = log.upgrade().map(Log);
            let lives = log.is_some();
            logs.extend(log.map(|log| (log.debt(), log)));
            lives
        });
        let mut left: u64 = logs.iter().map(|(debt, _)| debt).sum();
        let worth_paying = SCAN_DEBT_WORTH_PAYING.min(self.0.max / 16);
        logs.retain(|(debt, _)| *debt >= worth_paying);
        logs.sort_by_key(|(debt, _)| std::cmp::Reverse(*debt));
        let paying = logs.into_iter().take_while(|(debt, _)| {
            let too_much = left > self.0.max / 2;
            left = left.saturating_sub(*debt);
            too_much
        });
        paying.map(|(_, log)| log).collect()
    }
}

impl Log {
    /// Bytes written since the last checkpoint.
    fn debt(&self) -> u64 {
        let state = self.0.state.borrow();
        if state.failed.is_some() { 0 } else { state.bytes_since_checkpoint }
    }
}

/// So many that the threads which write them need not sleep between two.
const CHECKPOINTS_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::{Cache, Durability, LogConfig, LogDir};
    use super::*;
    use crate::io::DirId;
    use crate::io::sim::Sim;
    use crate::shard::ShardId;

    #[test]
    fn logs_that_are_gone_are_forgotten_though_nothing_is_written() {
        let mut sim = Sim::new(1);
        let machine = sim.add_machine();
        sim.add_disk(machine, DirId(0), "/data");
        let actor = sim.start(machine, ShardId(0));
        let shard = sim.shard(actor);
        let (listed, living) = sim.run(actor, async move {
            let cache = Cache::new(1 << 20);
            let config = LogConfig { durability: Durability::Replicated, ..LogConfig::default() };
            let open = async |number: i32| {
                let place = LogDir { dir: DirId(0), path: format!("/data/topic-{number}").into() };
                Log::open(&shard, place, config.clone(), &cache).await.unwrap().0
            };
            let mut stay = Vec::new();
            for number in 0..100 {
                let log = open(number).await;
                if number % 10 == 0 { stay.push(log) } else { log.remove().await.unwrap() }
            }
            (cache.debt().0.logs.borrow().len(), stay.len())
        });
        assert!((living..=4 * living).contains(&listed), "{listed} are listed, {living} live");
    }
}
