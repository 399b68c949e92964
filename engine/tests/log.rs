//! The log on the real Drivers: what goes in through io_uring, and through epoll with helper threads, comes out again, after
//! a clean stop and after none.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use bytes::Bytes;
use ringlog_engine::batch::Codec;
use ringlog_engine::io::DirId;
use ringlog_engine::io::host::{Host, IoChoice};
use ringlog_engine::log::{
    Cache, Durability, LeaderAppend, Log, LogConfig, LogDir, Origin, ReadLimit, ReadPart, Recovered,
};
use ringlog_engine::records::{self, Builder};
use ringlog_engine::shard::{Executor, Shard, ShardId};
use std::path::Path;

const RECORDS: i64 = 40_000;
const BATCH: i64 = 100;

fn config(durability: Durability) -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, durability, ..LogConfig::default() }
}

/// Opens the log in a process of its own, so to say, and runs this part of a test.
fn run<T: 'static>(
    dir: &Path,
    choice: IoChoice,
    durability: Durability,
    part: impl AsyncFnOnce(Shard, Log, Recovered) -> T + 'static,
) -> T {
    let host = Host::open(&[dir.to_owned()], choice).unwrap();
    let mut executor = Executor::new(ShardId(0), host.driver().unwrap());
    let shard = executor.shard().clone();
    let place = LogDir { dir: DirId(0), path: dir.join("topic-0") };
    let result = executor.block_on(async move {
        // Small, so that most of what is read comes from the files.
        let cache = Cache::new(256 << 10);
        let (log, recovered) = Log::open(&shard, place, config(durability), &cache).await.unwrap();
        part(shard, log, recovered).await
    });
    while executor.shard().io().pending() > 0 {
        executor.turn(false);
    }
    result
}

fn batch(first: i64) -> Bytes {
    let mut builder = Builder::new(Codec::None).producer(7, 0, i32::try_from(first).unwrap());
    for n in first..first + BATCH {
        builder.push(n, None, Some(format!("{n:0100}").as_bytes()), &[]);
    }
    builder.build()
}

async fn append(shard: &Shard, log: &Log, from: i64, to: i64) {
    for first in (from..to).step_by(BATCH as usize) {
        let now = shard.wall_time();
        let appended = log
            .append(&batch(first), LeaderAppend { epoch: 3, origin: Origin::Client, now, alone: true })
            .unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (first, false));
        if first % 1_000 == 0 {
            log.wait_durable(first).await.unwrap();
        }
    }
    log.wait_durable(to).await.unwrap();
}

async fn bytes_of(shard: &Shard, part: ReadPart) -> Bytes {
    match part {
        ReadPart::Bytes(bytes) => bytes,
        ReadPart::File { file, pos, len } => shard.io().read(file, pos, len).await.unwrap(),
    }
}

/// Reads everything, by both kinds of read, and counts the records.
async fn check(shard: &Shard, log: &Log, end: i64) {
    for with_files in [false, true] {
        let mut next = 0;
        while next < end {
            let limit = ReadLimit { up_to: end, bytes_max: 100_000, at_least_one: true };
            let read =
                if with_files { log.read_with_files(next, limit).await } else { log.read(next, limit).await };
            let mut bytes = Vec::new();
            for part in read.unwrap().parts {
                bytes.extend_from_slice(&bytes_of(shard, part).await);
            }
            let mut rest = Bytes::from(bytes);
            assert!(!rest.is_empty(), "there is something at {next}");
            while let Some(len) = ringlog_engine::batch::whole_len(&rest) {
                let batch = rest.split_to(len);
                ringlog_engine::batch::verify(&batch).unwrap();
                for record in records::decode(&batch, 1 << 20).unwrap() {
                    assert_eq!(record.offset, next);
                    assert_eq!(record.value.unwrap(), format!("{next:0100}").as_bytes());
                    next += 1;
                }
            }
            assert!(rest.is_empty(), "whole batches");
        }
        assert_eq!(next, end);
    }
}

#[test]
fn what_goes_in_comes_out_on_every_driver_and_stays() {
    for choice in [IoChoice::Uring, IoChoice::Poll] {
        for durability in [Durability::Fsync, Durability::Replicated] {
            let dir = tempfile::tempdir().unwrap();
            run(dir.path(), choice, durability, async |shard, log, _| {
                append(&shard, &log, 0, RECORDS / 2).await;
                check(&shard, &log, RECORDS / 2).await;
                log.close().await.unwrap();
            });
            run(dir.path(), choice, durability, async |shard, log, recovered| {
                assert_eq!(recovered, Recovered::default(), "nothing to do after a clean stop");
                assert_eq!(log.marks().durable, RECORDS / 2);
                append(&shard, &log, RECORDS / 2, RECORDS).await;
                check(&shard, &log, RECORDS).await;
                // And no clean stop.
            });
            run(dir.path(), choice, durability, async |shard, log, _| {
                assert_eq!(log.marks().durable, RECORDS);
                check(&shard, &log, RECORDS).await;
                assert_eq!(log.truncate_to(1_234).await.unwrap(), 1_200);
                append(&shard, &log, 1_200, 3_000).await;
                check(&shard, &log, 3_000).await;
                assert_eq!(log.offset_for_time(2_000).await.unwrap().unwrap().offset, 2_000);
                log.close().await.unwrap();
            });
        }
    }
}
