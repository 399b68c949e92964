//! How many connections each shard has. `SO_REUSEPORT` deals few connections out unevenly: a shard that has more than another
//! hands the next one over as it comes in.

use super::Broker;
use crate::calls::{Answer, Call};
use ringlog_engine::shard::ShardId;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The numbers of all shards, this one's and, once they have been asked for, the others'.
#[derive(Default)]
pub(super) struct Loads {
    pub(super) own: Arc<AtomicUsize>,
    others: RefCell<Vec<(ShardId, Arc<AtomicUsize>)>>,
}

impl Broker {
    /// Asks the other shards for their numbers. Until all have told, connections stay where they come in.
    pub(super) async fn learn_loads(self) {
        let own = self.0.shard.id();
        let mut others = Vec::new();
        for shard in (0..self.shards()).map(ShardId).filter(|shard| *shard != own) {
            match self.ask(shard, Call::Load).await {
                Answer::Load(load) => others.push((shard, load)),
                _ => unreachable!("a number is answered with a number"),
            }
        }
        *self.0.loads.others.borrow_mut() = others;
    }

    /// The shard with the fewest connections, if it has fewer than this one. Its number grows at once: several may come in
    /// before it has taken the first.
    pub(super) fn lighter_shard(&self, connections: usize) -> Option<ShardId> {
        let others = self.0.loads.others.borrow();
        let (shard, load) = others.iter().min_by_key(|(_, load)| load.load(Ordering::Relaxed))?;
        if load.load(Ordering::Relaxed) >= connections {
            return None;
        }
        load.fetch_add(1, Ordering::Relaxed);
        Some(*shard)
    }
}
