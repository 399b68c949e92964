//! What administrators ask of a shard's partitions: that records be deleted, how large logs are, which producers they know.

use super::{Broker, PendingAnswer};
use crate::calls::Answer;
use crate::cluster::DataDirs;
use crate::partition::PartitionId;
use ringlog_engine::log::KnownProducer;
use ringlog_engine::shard::sync::{Receiver, oneshot};
use ringlog_wire::ErrorCode;
use std::sync::Arc;

impl Broker {
    /// Deletes records, in tasks of their own: once begun it is done whole, also when the client that asked has hung up. Partitions do not wait
    /// for each other, as each has its own sync.
    pub(super) fn delete_records(&self, deletions: Vec<(PartitionId, Option<i64>)>) -> PendingAnswer {
        let deleting: Vec<_> = deletions
            .into_iter()
            .map(|(id, before)| self.delete_records_of(id, before).ok_or_else(|| self.absent(id)))
            .collect();
        Box::pin(async move {
            let mut starts = Vec::with_capacity(deleting.len());
            for deleted in deleting {
                starts.push(match deleted {
                    Ok(deleted) => deleted.await.expect("it is carried out to its end"),
                    Err(code) => Err(code),
                });
            }
            Answer::LogStarts(starts)
        })
    }

    fn delete_records_of(
        &self,
        id: PartitionId,
        before: Option<i64>,
    ) -> Option<Receiver<Result<i64, ErrorCode>>> {
        let partition = self.partition(id)?;
        let (done, deleted) = oneshot();
        self.0.changing.set(self.0.changing.get() + 1);
        let this = self.clone();
        self.0.shard.spawn(async move {
            done.send(partition.delete_records(before).await);
            this.0.changing.set(this.0.changing.get() - 1);
            this.0.changed.notify();
        });
        Some(deleted)
    }

    pub(super) fn sizes(&self) -> Vec<(PartitionId, u64)> {
        let partitions = self.0.partitions.borrow();
        partitions.iter().map(|(id, partition)| (*id, partition.log().sizes().valid_bytes)).collect()
    }

    pub(super) fn known_producers(
        &self,
        partitions: &[PartitionId],
    ) -> Vec<Result<Vec<KnownProducer>, ErrorCode>> {
        let known = |id: &PartitionId| match self.partition(*id) {
            Some(partition) => Ok(partition.log().producers()),
            None => Err(self.absent(*id)),
        };
        partitions.iter().map(known).collect()
    }

    /// The data directories that could be opened.
    pub fn directories(&self) -> Arc<DataDirs> {
        self.0.dirs.borrow().clone().expect("directories come before the first image")
    }
}
