//! The text of a scrape: Prometheus' exposition format 0.0.4.

use super::directories::directories;
use super::lag::{Ages, Lag};
use super::process::Process;
use super::{MemoryUse, PartitionSizes, Snapshot, answered, cleaner, groups};
use ringlog_engine::io::Counters;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

/// What a scrape tells, as it was when the shards were asked.
pub struct Figures {
    pub(super) shards: Vec<Snapshot>,
    pub(super) lags: Vec<Lag>,
    pub(super) ages: Ages,
}

impl Figures {
    /// Hands on the text, piece by piece: with ten thousand partitions it is some MiB, which nobody needs to have at once.
    pub fn write(&self, hand_on: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut out = Text::new(hand_on);
        exposition(&mut out, &self.shards, &self.lags, &self.ages);
        out.end()
    }
}

fn exposition(out: &mut Text<'_>, shards: &[Snapshot], lags: &[Lag], ages: &Ages) {
    let version = env!("CARGO_PKG_VERSION");
    out.head("ringlog_build_info", "gauge", "Always 1: the label tells the version.");
    out.line(format_args!("ringlog_build_info{{version=\"{version}\"}} 1"));
    requests(out, shards);
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
    connections(out, shards);
    out.one(
        "ringlog_fetches_waiting",
        "gauge",
        "Fetches that wait for data.",
        sum(|s| s.vitals.waiting_fetches as u64),
    );
    fetch_sessions(out, shards);
    memory(out, shards);
    out.head("ringlog_shard_busy_seconds_total", "counter", "Time a shard was awake.");
    for (shard, snapshot) in shards.iter().enumerate() {
        let seconds = Duration::from_nanos(snapshot.vitals.busy_nanos).as_secs_f64();
        out.line(format_args!("ringlog_shard_busy_seconds_total{{shard=\"{shard}\"}} {seconds}"));
    }
    drivers(out, shards);
    directories(out, shards);
    partitions(out, shards);
    groups::groups(out, shards, lags, ages);
    cleaner::cleaner(out, shards);
    Process::now().write(out);
}

fn connections(out: &mut Text<'_>, shards: &[Snapshot]) {
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

fn fetch_sessions(out: &mut Text<'_>, shards: &[Snapshot]) {
    let all = || shards.iter().map(|shard| shard.fetch_sessions);
    out.one(
        "kafka_server_fetchsessioncache_numincrementalfetchsessions",
        "gauge",
        "Fetch sessions kept.",
        all().map(|one| one.sessions as u64).sum::<u64>(),
    );
    out.one(
        "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached",
        "gauge",
        "Partitions in all fetch sessions together.",
        all().map(|one| one.partitions as u64).sum::<u64>(),
    );
    out.one(
        "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total",
        "counter",
        "Fetch sessions that had to make room for others.",
        all().map(|one| one.evictions).sum::<u64>(),
    );
}

fn requests(out: &mut Text<'_>, shards: &[Snapshot]) {
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

fn memory(out: &mut Text<'_>, shards: &[Snapshot]) {
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

fn drivers(out: &mut Text<'_>, shards: &[Snapshot]) {
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

fn partitions(out: &mut Text<'_>, shards: &[Snapshot]) {
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
    type Figure = (&'static str, &'static str, fn(&PartitionSizes) -> i64);
    let figures: [Figure; 6] = [
        ("kafka_log_log_size", "Valid bytes of a partition.", |p| signed(p.valid_bytes)),
        ("ringlog_log_prepared_bytes", "Bytes prepared for what is to come.", |p| signed(p.prepared_bytes)),
        ("kafka_log_log_numlogsegments", "Segments of a partition.", |p| signed(p.segments as u64)),
        ("kafka_log_log_logstartoffset", "The first offset.", |p| p.log_start),
        ("kafka_log_log_logendoffset", "The offset after the last.", |p| p.log_end),
        ("kafka_cluster_partition_highwatermark", "Up to where consumers see.", |p| p.high_watermark),
    ];
    for (name, help, figure) in figures {
        out.head(name, "gauge", help);
        for of_topic in shards.iter().flat_map(|shard| shard.partitions.chunk_by(PartitionSizes::is_beside)) {
            out.begin_rows(format_args!("{name}{{topic=\"{}\"", of_topic[0].topic));
            of_topic.iter().for_each(|partition| out.row(partition.id.index, figure(partition)));
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A label's value: groups and directories may have any name.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Lines of the exposition format, handed on in pieces.
pub(super) struct Text<'a> {
    piece: Vec<u8>,
    /// How each of the rows begins.
    begin: Vec<u8>,
    hand_on: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    /// How that went. Nothing is handed on after it has failed.
    handed_on: io::Result<()>,
}

/// Little enough to stay in a core's cache, and much enough for a call of the kernel.
const PIECE_BYTES: usize = 64 << 10;

impl<'a> Text<'a> {
    fn new(hand_on: &'a mut dyn FnMut(&[u8]) -> io::Result<()>) -> Self {
        let piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        Self { piece, begin: Vec::new(), hand_on, handed_on: Ok(()) }
    }

    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.piece, "{line}").expect("memory takes all");
        self.hand_on_if_full();
    }

    /// Rows come that differ in their partition alone: the last of the labels, all others have been written here.
    pub(super) fn begin_rows(&mut self, begin: std::fmt::Arguments<'_>) {
        self.begin.clear();
        write!(self.begin, "{begin},partition=\"").expect("memory takes all");
    }

    // These are most of a large text, ten for each partition: so they go without the machinery of formatting.
    pub(super) fn row(&mut self, partition: i32, value: i64) {
        self.begin_row(partition);
        push_decimal(&mut self.piece, value);
        self.end_row();
    }

    /// The value in seconds.
    pub(super) fn row_of_millis(&mut self, partition: i32, millis: u64) {
        self.begin_row(partition);
        push_decimal(&mut self.piece, signed(millis / 1000));
        let thousandths = [millis / 100 % 10, millis / 10 % 10, millis % 10];
        let digits = thousandths.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        if digits > 0 {
            self.piece.push(b'.');
        }
        thousandths[..digits].iter().for_each(|digit| self.piece.push(b'0' + *digit as u8));
        self.end_row();
    }

    fn begin_row(&mut self, partition: i32) {
        self.piece.extend_from_slice(&self.begin);
        push_decimal(&mut self.piece, partition.into());
        self.piece.extend_from_slice(b"\"} ");
    }

    fn end_row(&mut self) {
        self.piece.push(b'\n');
        self.hand_on_if_full();
    }

    fn hand_on_if_full(&mut self) {
        if self.piece.len() >= PIECE_BYTES {
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if self.handed_on.is_ok() {
            self.handed_on = (self.hand_on)(&self.piece);
        }
        self.piece.clear();
    }

    fn end(mut self) -> io::Result<()> {
        self.hand_on();
        self.handed_on
    }
}

fn push_decimal(text: &mut Vec<u8>, value: i64) {
    // As many as 2^63 has.
    let mut digits = [0; 19];
    let mut first = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if value < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(&digits[first..]);
}

/// All of it.
#[cfg(test)]
pub(super) fn text_of(shards: Vec<Snapshot>, lags: Vec<Lag>, ages: Ages) -> String {
    let mut text = Vec::new();
    let figures = Figures { shards, lags, ages };
    figures.write(&mut |piece| text.write_all(piece)).expect("memory takes all");
    String::from_utf8(text).expect("a scrape is text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SessionFigures;
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
            fetch_sessions: SessionFigures { sessions: 1, partitions: 7, evictions: 2 },
            ..Snapshot::default()
        };
        let text = text_of(vec![snapshot.clone(), snapshot], Vec::new(), Ages::new());
        for line in [
            "kafka_network_requestmetrics_requests_total{request=\"Produce\"} 4",
            "kafka_network_requestmetrics_errors_total{request=\"Produce\",error=\"CORRUPT_MESSAGE\"} 2",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"0.00005\"} 0",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"0.0001\"} 2",
            "kafka_network_requestmetrics_totaltime_seconds_bucket{request=\"Produce\",le=\"+Inf\"} 4",
            "ringlog_memory_bytes{budget=\"requests\"} 6",
            "ringlog_memory_limit_bytes{budget=\"requests\"} 10",
            "kafka_server_socketservermetrics_connection_count 4",
            "kafka_server_fetchsessioncache_numincrementalfetchsessions 2",
            "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached 14",
            "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total 4",
            "kafka_server_replicamanager_partitioncount 2",
            "kafka_server_replicamanager_leadercount 0",
            "kafka_server_replicamanager_offlinereplicacount 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nin\n{text}");
        }
    }

    fn rows(of: impl FnOnce(&mut Text<'_>)) -> String {
        let mut text = Vec::new();
        let mut hand_on = |piece: &[u8]| text.write_all(piece);
        let mut out = Text::new(&mut hand_on);
        out.begin_rows(format_args!("a{{b=\"c\""));
        of(&mut out);
        out.end().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn rows_are_written_as_any_formatter_would() {
        for value in [0, 1, 9, 10, 99, 1_000_000_007, i64::MAX, -1, i64::MIN] {
            let expected = format!("a{{b=\"c\",partition=\"7\"}} {value}\n");
            assert_eq!(rows(|out| out.row(7, value)), expected);
        }
        for millis in [0, 1, 10, 100, 120, 999, 1000, 1001, 1250, 60_000, 86_400_010] {
            let value = Duration::from_millis(millis).as_secs_f64();
            let expected = format!("a{{b=\"c\",partition=\"0\"}} {value}\n");
            assert_eq!(rows(|out| out.row_of_millis(0, millis)), expected);
        }
    }

    #[test]
    fn a_long_text_is_handed_on_in_pieces_until_nobody_takes_them() {
        let count = 3 * PIECE_BYTES as i32;
        let mut pieces = Vec::new();
        let mut hand_on = |piece: &[u8]| {
            pieces.push(piece.len());
            if pieces.len() < 3 { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        };
        let mut out = Text::new(&mut hand_on);
        out.begin_rows(format_args!("a{{b=\"c\""));
        (0..count).for_each(|partition| out.row(partition, 1));
        assert_eq!(out.end().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|len| (PIECE_BYTES..PIECE_BYTES + 100).contains(len)), "{pieces:?}");
    }
}
