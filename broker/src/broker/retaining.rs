//! Retention: each shard looks after its own logs, every `log.retention.check.interval.ms`, and at once when a disk is full.

use super::Broker;
use crate::calls::Call;
use crate::partition::{Partition, PartitionId};
use ringlog_engine::log::TruncateError;
use ringlog_engine::shard::ShardId;
use ringlog_wire::Uuid;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

impl Broker {
    /// Looks after this shard's logs for as long as it serves.
    pub(super) async fn retain_logs(self) {
        let every = self.config().retention_check;
        self.wait_for_retention(every.min(FIRST_CHECK)).await;
        while !self.is_stopping() {
            let hurries = self.0.room_wanted.get();
            for partition in self.partitions() {
                if hurries {
                    self.remove_put_away(&partition).await;
                }
                self.retain(&partition).await;
                if hurries {
                    self.remove_put_away(&partition).await;
                }
            }
            if hurries {
                // What there was is gone. The next that finds the disk full may ask again.
                self.0.shard.sleep(BETWEEN_HURRIES).await;
                self.0.room_wanted.set(false);
            }
            self.wait_for_retention(every).await;
        }
    }

    async fn retain(&self, partition: &Partition) {
        let retained = Box::pin(partition.log().retain(partition.high_watermark())).await;
        match retained {
            // A log that has failed has said so itself; one on a full disk is looked after again.
            Ok(_) | Err(TruncateError::Failed(_) | TruncateError::NoSpace) => {}
            Err(error) => eprintln!("ERROR retention of partition {partition:?}: {error}"),
        }
    }

    async fn remove_put_away(&self, partition: &Partition) {
        if let Err(error) = partition.log().remove_put_away().await {
            eprintln!("ERROR remove deleted segments of partition {partition:?}: {error}");
        }
    }

    /// Until the next check is due, or a disk is full.
    async fn wait_for_retention(&self, span: Duration) {
        let mut wanted = pin!(self.0.room_is_wanted.next());
        let mut due = pin!(self.0.shard.sleep(span));
        std::future::poll_fn(|cx| {
            if self.0.room_wanted.get() || wanted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            due.as_mut().poll(cx)
        })
        .await;
    }

    /// A log of this shard has found its disk full: the logs of all shards make room. Asked for as often as may be, it is done once
    /// in a while.
    pub(super) fn want_room(&self, id: PartitionId) {
        if self.0.room_wanted.get() {
            return;
        }
        self.report_full(id);
        for shard in 0..self.shards() {
            self.tell(ShardId(shard), Call::MakeRoom);
        }
    }

    /// Says now and then, as long as it is so, which disk is full.
    fn report_full(&self, id: PartitionId) {
        let now = self.0.shard.now();
        if self.0.full_told.get().is_some_and(|told| now.since(told) < BETWEEN_LINES) {
            return;
        }
        self.0.full_told.set(Some(now));
        let image = self.image();
        let Some(topic) = image.topic_by_id(Uuid(id.topic)) else { return };
        let directory = topic.partition(id.index).map(|state| state.directory);
        let dirs = self.directories();
        let path = directory.and_then(|id| dirs.by_id(id)).map(|dir| dir.path.display());
        let Some(path) = path else { return };
        eprintln!(
            "ERROR the disk of {path} is full, but for what is kept in reserve: partition {}-{} takes no records until there is room",
            topic.name, id.index
        );
    }

    /// Retention acts now.
    pub(super) fn hurry(&self) {
        self.0.room_wanted.set(true);
        self.0.room_is_wanted.notify();
    }
}

/// The first check comes soon after the start: what expired while the broker was down need not wait (Kafka's
/// `log.initial.task.delay.ms`).
const FIRST_CHECK: Duration = Duration::from_secs(30);

/// Between two lines of a shard about a full disk.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Between two checks on a full disk: what a check can find has to have expired since the last.
const BETWEEN_HURRIES: Duration = Duration::from_secs(1);
