//! What cannot be served because a disk is not well: single partitions, and whole data directories.
//!
//! Every shard knows all of it, so that any of them tells clients the same. What is offline stays so until the broker starts again: as in
//! Apache Kafka, nobody knows what a device that has failed once still holds.

use super::Broker;
use crate::calls::Call;
use crate::partition::{Partition, PartitionId};
use ringlog_engine::io::DirId;
use ringlog_engine::log::{Damage, LogFailed, Notice};
use ringlog_engine::shard::ShardId;
use ringlog_wire::{ErrorCode, Uuid};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Something that is offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offline {
    /// One partition: its log cannot be opened, or has failed.
    Partition(PartitionId),
    /// A data directory, by its id, with all partitions in it.
    Directory(Uuid),
}

/// All that is offline, as one shard knows it.
#[derive(Default)]
pub(super) struct OfflineParts {
    partitions: BTreeSet<PartitionId>,
    directories: BTreeSet<[u8; 16]>,
}

impl Broker {
    /// Whether clients are to be told that a partition has no leader.
    pub fn is_offline(&self, id: PartitionId) -> bool {
        if !self.is_any_offline() {
            return false;
        }
        let offline = self.0.offline.borrow();
        let directory = || {
            let image = self.image();
            let topic = image.topic_by_id(Uuid(id.topic))?;
            topic.partition(id.index).map(|partition| partition.directory.0)
        };
        offline.partitions.contains(&id) || directory().is_some_and(|dir| offline.directories.contains(&dir))
    }

    /// Whether anything is offline.
    pub fn is_any_offline(&self) -> bool {
        let offline = self.0.offline.borrow();
        !offline.partitions.is_empty() || !offline.directories.is_empty()
    }

    /// Whether a data directory is offline.
    pub fn is_directory_offline(&self, id: Uuid) -> bool {
        self.0.offline.borrow().directories.contains(&id.0)
    }

    /// Configured data directories that cannot be used: those that could not be opened, and those that have failed.
    pub fn offline_directories(&self) -> usize {
        let opened = self.0.dirs.borrow().as_ref().map_or(0, |dirs| dirs.dirs.len());
        self.config().data_dirs.len().saturating_sub(opened) + self.0.offline.borrow().directories.len()
    }

    /// The data directories that could be opened: their places among the configured ones, and their ids.
    pub fn opened_directories(&self) -> Vec<(DirId, Uuid)> {
        let dirs = self.0.dirs.borrow();
        dirs.iter().flat_map(|dirs| &dirs.dirs).map(|dir| (dir.dir, dir.id)).collect()
    }

    /// Partitions of this shard that are offline.
    pub fn offline_partitions(&self) -> usize {
        self.owned(&self.image()).into_iter().filter(|id| self.is_offline(*id)).count()
    }

    /// What those are told who ask for a partition that is not open here.
    pub(super) fn absent(&self, id: PartitionId) -> ErrorCode {
        if self.is_offline(id) { ErrorCode::KafkaStorageError } else { ErrorCode::NotLeaderOrFollower }
    }

    /// What a partition's log has to tell, now and later.
    pub(super) fn listen_to_log(&self, partition: &Partition) {
        let (broker, id) = (Rc::downgrade(&self.0), partition.id());
        partition.log().on_notice(move |notice| {
            let Some(broker) = broker.upgrade().map(Broker) else { return };
            match notice {
                Notice::Failed(failed) => broker.log_failed(id, &failed),
                Notice::NoSpace => broker.want_room(id),
                Notice::Damaged(damage) => broker.report_damage(&damage),
            }
        });
    }

    /// Says where stored bytes are not what was written.
    pub(super) fn report_damage(&self, damage: &Damage) {
        self.0.metrics.damaged();
        eprintln!("ERROR {damage}");
    }

    fn log_failed(&self, id: PartitionId, failed: &LogFailed) {
        if let Some(partition) = self.partition(id) {
            partition.fail();
            eprintln!("ERROR partition {partition:?} is offline: {failed}");
        }
        self.go_offline(Offline::Partition(id));
        if failed.is_of_device() {
            let image = self.image();
            let partition =
                image.topic_by_id(Uuid(id.topic)).and_then(|topic| topic.partition(id.index).copied());
            if let Some(partition) = partition {
                self.go_offline(Offline::Directory(partition.directory));
            }
        }
    }

    /// Tells every shard, this one at once.
    pub(super) fn go_offline(&self, what: Offline) {
        if !self.learn_offline(what) {
            return;
        }
        if let Offline::Directory(id) = what {
            let path = self.0.dirs.borrow().as_ref().and_then(|dirs| Some(dirs.by_id(id)?.path.clone()));
            let path = path.unwrap_or_default();
            eprintln!("ERROR data directory {} is offline until the broker is started again", path.display());
        }
        for shard in (0..self.shards()).map(ShardId).filter(|shard| *shard != self.shard().id()) {
            self.tell(shard, Call::Offline(what));
        }
    }

    /// Takes note; false if it is known.
    pub(super) fn learn_offline(&self, what: Offline) -> bool {
        let new = {
            let mut offline = self.0.offline.borrow_mut();
            match what {
                Offline::Partition(id) => offline.partitions.insert(id),
                Offline::Directory(id) => offline.directories.insert(id.0),
            }
        };
        if let (true, Offline::Directory(id)) = (new, what) {
            let image = self.image();
            for partition in self.partitions() {
                let topic = image.topic_by_id(Uuid(partition.id().topic));
                let state = topic.and_then(|topic| topic.partition(partition.id().index));
                if state.is_some_and(|state| state.directory == id) {
                    partition.fail();
                }
            }
        }
        new
    }

    /// Topics that are gone take what was known of them along.
    pub(super) fn forget_offline(&self) {
        let image = self.image();
        let known = |id: &PartitionId| image.topic_by_id(Uuid(id.topic)).is_some();
        self.0.offline.borrow_mut().partitions.retain(known);
    }
}
