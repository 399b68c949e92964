//! What a scrape tells of compaction.

use super::Snapshot;
use super::exposition::Text;

pub(super) fn cleaner(out: &mut Text<'_>, shards: &[Snapshot]) {
    let sum = |of: fn(&Snapshot) -> u64| shards.iter().map(of).sum::<u64>();
    let percent = |of: fn(&Snapshot) -> f64| (100.0 * shards.iter().map(of).fold(0.0, f64::max)) as u64;
    out.one(
        "kafka_log_logcleanermanager_max_dirty_percent",
        "gauge",
        "The dirty share of the dirtiest compacted log, in percent.",
        percent(|s| s.cleaner.dirty_ratio_max),
    );
    out.one(
        "kafka_log_logcleanermanager_uncleanable_partitions_count",
        "gauge",
        "Compacted partitions that are not cleaned any more, since damage was met in them.",
        sum(|s| s.uncleanable as u64),
    );
    out.one(
        "kafka_log_logcleaner_cleaner_recopy_percent",
        "gauge",
        "Bytes written of each hundred read, in the last round of a shard's cleaner.",
        percent(|s| s.cleaner.recopy_ratio),
    );
    out.one(
        "kafka_log_logcleaner_max_buffer_utilization_percent",
        "gauge",
        "How full the memory for keys was in the last round, in percent.",
        percent(|s| s.cleaner.map_utilization),
    );
    let took = shards.iter().map(|s| s.cleaner.took).max().unwrap_or_default();
    out.one(
        "kafka_log_logcleaner_max_clean_time_secs",
        "gauge",
        "How long the last round took, in seconds.",
        took.as_secs(),
    );
    out.one("ringlog_cleaner_runs_total", "counter", "Rounds of compaction.", sum(|s| s.cleaner.runs));
    out.one(
        "ringlog_cleaner_bytes_read_total",
        "counter",
        "Bytes of segments read by compaction.",
        sum(|s| s.cleaner.bytes_read),
    );
    out.one(
        "ringlog_cleaner_bytes_written_total",
        "counter",
        "Bytes of segments written by compaction.",
        sum(|s| s.cleaner.bytes_written),
    );
}
