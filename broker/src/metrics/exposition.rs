//! The text of a scrape: Prometheus' exposition format 0.0.4.

use super::directories::directories;
use super::lag::{Ages, Lag};
use super::process::Process;
use super::{MemoryUse, PartitionSizes, Snapshot, answered, cleaner, groups};
use ringlog_engine::io::Counters;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

/// The text of a scrape.
pub(super) fn exposition(shards: &[Snapshot], lags: &[Lag], ages: &Ages) -> String {
    let mut out = Text(String::with_capacity(16 * 1024));
    let version = env!("CARGO_PKG_VERSION");
    out.head("ringlog_build_info", "gauge", "Always 1: the label tells the version.");
    out.line(format_args!("ringlog_build_info{{version=\"{version}\"}} 1"));
    requests(&mut out, shards);
    let sum = |of: fn(&Snapshot) -> u64| shards.iter().map(of).sum::<u64>();
    out.one(
        "kafka_server_brokertopicmetrics_bytesin_total",
        "counter",
        "Bytes of records produced.",
        sum(|s| s.vitals.produced_bytes),
    );
    out.one(
        "kafka_server_brokertopicmetrics_messagesin_total",
        "counter",
        "Records produced.",
        sum(|s| s.vitals.produced_records),
    );
    out.one(
        "kafka_server_brokertopicmetrics_bytesout_total",
        "counter",
        "Bytes of records fetched.",
        sum(|s| s.vitals.fetched_bytes),
    );
    out.one(
        "ringlog_network_bytes_received_total",
        "counter",
        "Bytes of requests received.",
        sum(|s| s.vitals.bytes_in),
    );
    out.one(
        "ringlog_network_bytes_sent_total",
        "counter",
        "Bytes of answers sent.",
        sum(|s| s.vitals.bytes_out),
    );
    connections(&mut out, shards);
    out.one(
        "ringlog_fetches_waiting",
        "gauge",
        "Fetches that wait for data.",
        sum(|s| s.vitals.waiting_fetches as u64),
    );
    memory(&mut out, shards);
    out.head("ringlog_shard_busy_seconds_total", "counter", "Time a shard was awake.");
    for (shard, snapshot) in shards.iter().enumerate() {
        let seconds = Duration::from_nanos(snapshot.vitals.busy_nanos).as_secs_f64();
        out.line(format_args!("ringlog_shard_busy_seconds_total{{shard=\"{shard}\"}} {seconds}"));
    }
    drivers(&mut out, shards);
    directories(&mut out, shards);
    partitions(&mut out, shards);
    groups::groups(&mut out, shards, lags, ages);
    cleaner::cleaner(&mut out, shards);
    Process::now().write(&mut out);
    out.0
}

fn connections(out: &mut Text, shards: &[Snapshot]) {
    let open = shards.iter().map(|shard| shard.vitals.connections as u64).sum::<u64>();
    out.one("kafka_server_socketservermetrics_connection_count", "gauge", "Open connections.", open);
    let closed = |reason: &str| shards.iter().filter_map(|shard| shard.closed.get(reason)).sum::<u64>();
    out.one(
        "ringlog_connections_refused_total",
        "counter",
        "Connections closed for what their client sent.",
        closed("refused"),
    );
    let name = "ringlog_connections_closed_total";
    out.head(name, "counter", "Connections that have ended, by reason.");
    let reasons: BTreeSet<&str> = shards.iter().flat_map(|shard| shard.closed.keys().copied()).collect();
    for reason in reasons {
        out.line(format_args!("{name}{{reason=\"{reason}\"}} {}", closed(reason)));
    }
    // The shards share them.
    let quotas = shards.first().map(|shard| shard.quotas).unwrap_or_default();
    let name = "ringlog_connections_limited_total";
    out.head(name, "counter", "Connections closed for max.connections.per.ip, and those that had to wait.");
    out.line(format_args!("{name}{{how=\"closed\"}} {}", quotas.refused));
    out.line(format_args!("{name}{{how=\"delayed\"}} {}", quotas.delayed));
}

fn requests(out: &mut Text, shards: &[Snapshot]) {
    let (all, errors) = answered(shards.iter().map(|shard| &shard.vitals));
    let name = "kafka_network_requestmetrics_requests_total";
    out.head(name, "counter", "Requests answered, by API.");
    for (api, counts) in &all {
        out.line(format_args!("{name}{{request=\"{api}\"}} {}", counts.count));
    }
    let name = "kafka_network_requestmetrics_errors_total";
    out.head(name, "counter", "Errors in answers, by API and error.");
    for ((api, code), count) in &errors {
        out.line(format_args!("{name}{{request=\"{api}\",error=\"{code}\"}} {count}"));
    }
    let name = "kafka_network_requestmetrics_totaltime_seconds";
    out.head(name, "histogram", "From a request's arrival to its answer, by API.");
    for (api, times) in &all {
        for (bound, below) in times.cumulative() {
            let seconds = bound.as_secs_f64();
            out.line(format_args!("{name}_bucket{{request=\"{api}\",le=\"{seconds}\"}} {below}"));
        }
        out.line(format_args!("{name}_bucket{{request=\"{api}\",le=\"+Inf\"}} {}", times.count));
        let seconds = Duration::from_nanos(times.nanos).as_secs_f64();
        out.line(format_args!("{name}_sum{{request=\"{api}\"}} {seconds}"));
        out.line(format_args!("{name}_count{{request=\"{api}\"}} {}", times.count));
    }
}

fn memory(out: &mut Text, shards: &[Snapshot]) {
    let budgets: Vec<&str> =
        shards.first().map(|shard| shard.vitals.memory.map(|one| one.budget)).into_iter().flatten().collect();
    let mut rows = |name: &str, help: &str, of: fn(&MemoryUse) -> usize| {
        out.head(name, "gauge", help);
        for (at, budget) in budgets.iter().enumerate() {
            let bytes: usize = shards.iter().map(|shard| of(&shard.vitals.memory[at])).sum();
            out.line(format_args!("{name}{{budget=\"{budget}\"}} {bytes}"));
        }
    };
    rows("ringlog_memory_bytes", "Memory in use, by budget.", |one| one.used);
    rows("ringlog_memory_limit_bytes", "Memory there is, by budget.", |one| one.limit);
}

fn drivers(out: &mut Text, shards: &[Snapshot]) {
    let sum = |of: fn(&Counters) -> u64| shards.iter().map(|shard| of(&shard.io)).sum::<u64>();
    // These two are the process', and every shard tells them.
    let any = |of: fn(&Counters) -> u64| shards.iter().map(|shard| of(&shard.io)).max().unwrap_or(0);
    out.one(
        "ringlog_io_wq_switches_total",
        "counter",
        "Context switches of the kernel's io-wq threads of this process: operations that left their core.",
        any(|io| io.punts),
    );
    out.one("ringlog_flushes_total", "counter", "Flushes and file syncs carried out.", any(|io| io.syncs));
    out.one(
        "ringlog_sync_requests_total",
        "counter",
        "Syncs asked for, before sharing.",
        sum(|io| io.sync_requests),
    );
    out.one("ringlog_jobs_total", "counter", "Operations run on helper threads.", sum(|io| io.jobs));
    out.one(
        "ringlog_io_enters_total",
        "counter",
        "Times a shard entered the kernel for its operations.",
        sum(|io| io.enters),
    );
    out.one(
        "ringlog_file_bytes_written_total",
        "counter",
        "Bytes written to logs.",
        sum(|io| io.bytes_written),
    );
    out.one("ringlog_file_bytes_read_total", "counter", "Bytes read from files.", sum(|io| io.bytes_read));
}

fn partitions(out: &mut Text, shards: &[Snapshot]) {
    let all = || shards.iter().flat_map(|shard| &shard.partitions);
    let unopened = shards.iter().map(|shard| shard.unopened as u64).sum::<u64>();
    let leaders = all().count() as u64;
    out.one(
        "kafka_server_replicamanager_partitioncount",
        "gauge",
        "Partitions of this broker.",
        leaders + unopened,
    );
    out.one("kafka_server_replicamanager_leadercount", "gauge", "Partitions this broker leads.", leaders);
    let offline = all().filter(|partition| partition.offline).count() as u64;
    out.one(
        "kafka_server_replicamanager_offlinereplicacount",
        "gauge",
        "Partitions whose log has failed, or could not be opened.",
        offline + unopened,
    );
    out.one(
        "kafka_log_logmanager_offlinelogdirectorycount",
        "gauge",
        "Data directories that cannot be used, or have failed.",
        shards.iter().map(|shard| shard.offline_directories as u64).max().unwrap_or(0),
    );
    out.one(
        "ringlog_log_damaged_total",
        "counter",
        "Places where stored bytes were found not to be what was written.",
        shards.iter().map(|shard| shard.damaged).sum::<u64>(),
    );
    let scanned = shards.iter().map(|shard| shard.recovery.scanned_bytes).sum();
    out.one(
        "ringlog_recovery_scanned_bytes_total",
        "counter",
        "Bytes of batches checked when logs were opened: none after a clean stop.",
        scanned,
    );
    type Figure = (&'static str, &'static str, fn(&PartitionSizes) -> i128);
    let figures: [Figure; 6] = [
        ("kafka_log_log_size", "Valid bytes of a partition.", |p| p.valid_bytes.into()),
        ("ringlog_log_prepared_bytes", "Bytes prepared for what is to come.", |p| p.prepared_bytes.into()),
        ("kafka_log_log_numlogsegments", "Segments of a partition.", |p| p.segments as i128),
        ("kafka_log_log_logstartoffset", "The first offset.", |p| p.log_start.into()),
        ("kafka_log_log_logendoffset", "The offset after the last.", |p| p.log_end.into()),
        ("kafka_cluster_partition_highwatermark", "Up to where consumers see.", |p| p.high_watermark.into()),
    ];
    for (name, help, figure) in figures {
        out.head(name, "gauge", help);
        for partition in all() {
            let (topic, index, value) = (&partition.topic, partition.id.index, figure(partition));
            out.line(format_args!("{name}{{topic=\"{topic}\",partition=\"{index}\"}} {value}"));
        }
    }
}

/// A label's value: groups and directories may have any name.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Lines of the exposition format.
pub(super) struct Text(String);

impl Text {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, Vitals};
    use ringlog_wire::{ApiKey, ErrorCode};

    #[test]
    fn counts_of_shards_add_up_in_the_text() {
        let metrics = Metrics::default();
        metrics.answered(ApiKey::Produce, Duration::from_micros(60));
        metrics.answered(ApiKey::Produce, Duration::from_secs(60));
        metrics.error(ApiKey::Produce, ErrorCode::CorruptMessage);
        metrics.error(ApiKey::Produce, ErrorCode::None);
        let snapshot = Snapshot {
            vitals: Vitals {
                requests: metrics.0.requests.borrow().clone(),
                errors: metrics.0.errors.borrow().clone(),
                connections: 2,
                memory: [MemoryUse { budget: "requests", used: 3, limit: 5 }; 3],
                ..Vitals::default()
            },
            unopened: 1,
            ..Snapshot::default()
        };
        let text = exposition(&[snapshot.clone(), snapshot], &[], &Ages::new());
        for line in [
            "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 4",
            "kafka_network_requestmetrics_errors_total{request=\"Produce\",error=\"CORRUPT_MESSAGE\"} 2",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"0.00005\"} 0",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"0.0001\"} 2",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"+Inf\"} 4",
            "ringlog_memory_bytes{budget=\"requests\"} 6",
            "ringlog_memory_limit_bytes{budget=\"requests\"} 10",
            "kafka_server_socketservermetrics_connection_count 4",
            "kafka_server_replicamanager_partitioncount 2",
            "kafka_server_replicamanager_leadercount 0",
            "kafka_server_replicamanager_offlinereplicacount 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nin\n{text}");
        }
    }
}
