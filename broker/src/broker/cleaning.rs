//! Compaction: each shard has one cleaner, which cleans its dirtiest log, one after the other.

use super::Broker;
use crate::config::CleanerConfig;
use crate::partition::Partition;
use ringlog_engine::log::{CleanError, Cleaned, CleanerLimits};
use std::time::Duration;

/// What one shard's cleaner has done, and what there is for it to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanerFigures {
    /// Rounds that came to their end.
    pub runs: u64,
    /// Bytes of segments read.
    pub bytes_read: u64,
    /// Bytes of segments written.
    pub bytes_written: u64,
    /// The dirty share of the dirtiest log, when logs were last looked through.
    pub dirty_ratio_max: f64,
    /// Bytes written of each byte read, in the last round.
    pub recopy_ratio: f64,
    /// How full the memory for keys was in the last round.
    pub map_utilization: f64,
    /// How long the last round took.
    pub took: Duration,
}

impl CleanerFigures {
    fn add(&mut self, cleaned: &Cleaned) {
        self.runs += 1;
        self.bytes_read += cleaned.bytes_read;
        self.bytes_written += cleaned.bytes_written;
        self.recopy_ratio = cleaned.bytes_written as f64 / cleaned.bytes_read.max(1) as f64;
        self.map_utilization = cleaned.map_utilization;
        self.took = cleaned.took;
    }
}

impl Broker {
    /// Cleans this shard's logs for as long as it serves.
    pub(super) async fn clean_logs(self) {
        let shards = usize::from(self.shards());
        while !self.is_stopping() {
            let backoff = CleanerConfig::new(&self.settings()).backoff;
            self.0.shard.sleep(backoff.max(BACKOFF_MIN)).await;
            let config = CleanerConfig::new(&self.settings());
            if !config.enabled {
                return;
            }
            let limits = CleanerLimits {
                map_bytes: config.map_bytes / shards,
                load_factor: config.load_factor,
                bytes_per_second: config.bytes_per_second / shards as f64,
            };
            while let Some(partition) = self.dirtiest().await {
                if self.is_stopping() || !self.clean(&partition, limits).await {
                    break;
                }
            }
        }
    }

    /// What its cleaner has done.
    pub fn cleaner_figures(&self) -> CleanerFigures {
        *self.0.cleaned.borrow()
    }

    /// The log that would gain most by being cleaned, of those that are due.
    async fn dirtiest(&self) -> Option<Partition> {
        let mut dirtiest: Option<(f64, Partition)> = None;
        let mut dirty_ratio_max = 0.0_f64;
        for partition in self.partitions() {
            let visible = partition.high_watermark();
            let dirtiness = match Box::pin(partition.log().dirtiness(visible)).await {
                Ok(Some(dirtiness)) => dirtiness,
                // What cannot be read is told where it is read.
                Ok(None) | Err(_) => continue,
            };
            dirty_ratio_max = dirty_ratio_max.max(dirtiness.ratio);
            if dirtiness.is_due && dirtiest.as_ref().is_none_or(|(ratio, _)| dirtiness.ratio > *ratio) {
                dirtiest = Some((dirtiness.ratio, partition));
            }
        }
        self.0.cleaned.borrow_mut().dirty_ratio_max = dirty_ratio_max;
        dirtiest.map(|(_, partition)| partition)
    }

    /// Cleans one log once. False where it cannot be done now: others wait with it, until the cleaner looks again.
    async fn clean(&self, partition: &Partition, limits: CleanerLimits) -> bool {
        match Box::pin(partition.log().clean(limits, partition.high_watermark())).await {
            Ok(Some(cleaned)) => {
                self.0.cleaned.borrow_mut().add(&cleaned);
                true
            }
            Ok(None) | Err(CleanError::Stopped | CleanError::NoSpace) => false,
            Err(CleanError::Uncleanable(error)) => {
                eprintln!("ERROR compaction of partition {partition:?} has ended: {error}");
                true
            }
        }
    }
}

/// `log.cleaner.backoff.ms=0` does not make a shard look at its logs all the time.
const BACKOFF_MIN: Duration = Duration::from_millis(1);
