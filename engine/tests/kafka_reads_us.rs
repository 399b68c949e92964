//! Apache Kafka's own `kafka-dump-log` reads every file of a log that ringlog has stopped, and of its sealed segments, and finds in
//! them what was appended.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use ringlog_engine::batch::Codec;
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::io::{DirId, WallTime};
use ringlog_engine::log::{Cache, LeaderAppend, Log, LogConfig, LogDir, Origin};
use ringlog_engine::records::Builder;
use ringlog_engine::shard::{Executor, ShardId};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

const BATCHES: i64 = 200;
const RECORDS: i64 = 10;
const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

#[test]
fn kafka_dump_log_reads_what_a_stopped_log_leaves() {
    for io in [IoChoice::Auto, IoChoice::Poll] {
        let dir = tempfile::tempdir().unwrap();
        let partition = dir.path().join("topic-0");
        with_log(dir.path(), &partition, io, async |log, now| append(log, now, 0..BATCHES * RECORDS).await);
        let (segments, first) = check(&partition, BATCHES * RECORDS);
        assert!(segments > 3 && first == 0, "{segments} segments from {first}");
        let epochs = std::fs::read_to_string(partition.join("leader-epoch-checkpoint")).unwrap();
        assert_eq!(epochs, "0\n1\n4 0\n");
    }
}

/// A cut at the end inside a segment, records deleted from the front, and appends after both, each by another process.
#[test]
fn kafka_dump_log_reads_a_log_that_was_cut_at_both_ends() {
    const CUT: i64 = BATCHES * RECORDS / 2 + 3;
    const START: i64 = BATCHES * RECORDS * 3 / 4 + 7;
    for io in [IoChoice::Auto, IoChoice::Poll] {
        let dir = tempfile::tempdir().unwrap();
        let partition = dir.path().join("topic-0");
        with_log(dir.path(), &partition, io, async |log, now| append(log, now, 0..BATCHES * RECORDS).await);
        let end = with_log(dir.path(), &partition, io, async |log, _| log.truncate_to(CUT).await.unwrap());
        assert_eq!(end, CUT - CUT % RECORDS, "the batch that holds the offset goes too");
        assert_eq!(check(&partition, end).1, 0);
        with_log(dir.path(), &partition, io, async move |log, now| {
            append(log, now, end..BATCHES * RECORDS).await;
            assert_eq!(log.delete_before(START).await.unwrap(), START);
        });
        let (segments, first) = check(&partition, BATCHES * RECORDS);
        assert!(segments > 1 && first > 0 && first <= START, "{segments} segments from {first}");
        let epochs = std::fs::read_to_string(partition.join("leader-epoch-checkpoint")).unwrap();
        assert_eq!(epochs, format!("0\n1\n4 {START}\n"));

        with_log(dir.path(), &partition, io, async |log, _| {
            log.truncate_fully_and_start_at(CUT).await.unwrap();
        });
        let left = files(&partition, "log");
        assert_eq!(left, [partition.join(format!("{CUT:020}.log"))]);
        assert_eq!(left[0].metadata().unwrap().len(), 0);
        dump(&["--files"], &left[0]);
    }
}

/// What Apache Kafka sees in a partition whose log ends at `end`: every record, indexes and snapshots that fit. Returns how many
/// segments there are and the first record's offset.
fn check(partition: &Path, end: i64) -> (usize, i64) {
    let segments = files(partition, "log");
    let first: i64 = segments[0].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut next = first;
    for segment in &segments {
        let dumped = dump(&["--deep-iteration", "--files"], segment);
        for line in dumped.lines().filter(|line| line.trim_start().starts_with("| offset: ")) {
            assert_eq!(field(line, "offset: "), next, "{line}");
            assert_eq!(field(line, "CreateTime: "), BASE_TIMESTAMP + next, "{line}");
            next += 1;
        }
        let batches: Vec<_> = dumped.lines().filter(|line| line.starts_with("baseOffset: ")).collect();
        assert!(!batches.is_empty() && batches.iter().all(|line| line.contains("isvalid: true")), "{dumped}");
        let last = batches.last().unwrap();
        let end = field(last, "position: ") + field(last, " size: ");
        assert_eq!(end as u64, segment.metadata().unwrap().len(), "nothing lies past the last batch");
    }
    assert_eq!(next, end);

    let mut entries = 0;
    for segment in &segments {
        let index = dump(&["--files"], &segment.with_extension("index"));
        entries += index.lines().filter(|line| line.starts_with("offset: ")).count();
        let times = dump(&["--files"], &segment.with_extension("timeindex"));
        entries += times.lines().filter(|line| line.starts_with("timestamp: ")).count();
    }
    assert!(entries > 20, "{entries} index entries");
    for segment in &segments {
        for index in [segment.with_extension("index"), segment.with_extension("timeindex")] {
            let sane = dump(&["--index-sanity-check", "--files"], &index);
            assert!(sane.contains("passed sanity check") || sane.contains("is empty"), "{sane}");
        }
    }

    let last = files(partition, "snapshot").pop().unwrap();
    assert_eq!(last, partition.join(format!("{end:020}.snapshot")));
    let last = dump(&["--files"], &last);
    let sequence = end - 1;
    assert!(last.contains("producerId: 7 producerEpoch: 0"), "{last}");
    assert!(last.contains(&format!("lastSequence: {sequence}")), "{last}");
    (segments.len(), first)
}

/// Opens the log as a process of its own would, does something with it, and stops it.
fn with_log<T: 'static>(
    dir: &Path,
    partition: &Path,
    io: IoChoice,
    work: impl AsyncFnOnce(&Log, WallTime) -> T + 'static,
) -> T {
    let host = Host::open(&[dir.to_owned()], io).unwrap();
    let mut executor = Executor::new(ShardId(0), host.driver().unwrap());
    let shard = executor.shard().clone();
    let place = LogDir { dir: DirId(0), path: partition.to_owned() };
    executor.block_on(async move {
        let config = LogConfig { segment_bytes: 20_000, index_interval_bytes: 1_000, ..LogConfig::default() };
        let (log, _) = Log::open(&shard, place, config, &Cache::new(1 << 20)).await.unwrap();
        let done = work(&log, shard.wall_time()).await;
        log.close().await.unwrap();
        done
    })
}

/// Appends these records, a batch of an idempotent producer for each ten, one codec after another.
async fn append(log: &Log, now: WallTime, records: Range<i64>) {
    for first in records.step_by(RECORDS as usize) {
        let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        let n = first / RECORDS;
        let mut builder = Builder::new(codecs[n as usize % 5]).producer(7, 0, i32::try_from(first).unwrap());
        for offset in first..first + RECORDS {
            let value = format!("{offset}").repeat(20);
            builder.push(BASE_TIMESTAMP + offset, Some(b"key"), Some(value.as_bytes()), &[(b"h", None)]);
        }
        let leader = LeaderAppend { epoch: 4, origin: Origin::Client, now, alone: true };
        log.append(&builder.build(), leader).unwrap();
        if n % 7 == 0 {
            log.wait_durable(first).await.unwrap();
        }
    }
}

/// The files of a partition with this ending, in order.
fn files(partition: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

/// What `kafka-dump-log` says about a file. It must find nothing wrong.
fn dump(options: &[&str], file: &Path) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let fetched = Command::new(root.join("scripts/kafka-jars")).status().expect("run scripts/kafka-jars");
    assert!(fetched.success(), "scripts/kafka-jars must fetch Apache Kafka's jars; it needs Maven");
    let output = Command::new("java")
        .arg("-cp")
        .arg(root.join("target/kafka/*"))
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("org.apache.kafka.tools.DumpLogSegments")
        .args(options)
        .arg(file)
        .output()
        .expect("run java");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    // It takes the first offset of every segment but the first for one that does not follow, Apache Kafka's own segments too.
    let base = file.file_stem().unwrap().to_str().unwrap().trim_start_matches('0');
    let first = format!("Non-consecutive offsets in {}\n  -1 is followed by {base}", file.display());
    let fine = errors.is_empty() || errors.trim_end() == first;
    assert!(output.status.success() && fine, "{}: {errors}", file.display());
    for complaint in
        ["Mismatches in", "out of order", "Found timestamp mismatch", "corrupt", "invalid", "Exception"]
    {
        assert!(!text.contains(complaint), "{}: {text}", file.display());
    }
    text
}

/// The number after a label.
fn field(line: &str, label: &str) -> i64 {
    let at = line.find(label).unwrap_or_else(|| panic!("{label} in {line}")) + label.len();
    let number: String = line[at..].chars().take_while(char::is_ascii_digit).collect();
    number.parse().unwrap()
}
