//! Large batches that are written from the memory they came in.

use super::super::*;
use super::world::{World, batch, batch_at, joined};
use crate::batch::HEADER_LEN;
use crate::io::buf::BLOCK;
use crate::io::{DirId, Op};
use crate::limits::{LARGE_WRITE_BYTES_MIN, LARGE_WRITES_BYTES};
use bytes::Bytes;
use std::cell::Cell;
use std::time::Duration;

/// A batch of this length in memory that lies as the log's next bytes will lie in the file.
fn fitting(log: &Log, len: usize) -> Bytes {
    let batch = batch_at(-1, -1, -1, 3, len - HEADER_LEN, 1_000);
    let mut memory = log.request_memory(len, 0);
    memory.extend_from_slice(&batch);
    memory.freeze()
}

/// Whether a read of the newest batch, right after it was written, is served from this memory.
async fn is_read_from(log: &Log, batch: &Bytes) -> bool {
    let up_to = log.marks().log_end;
    log.wait_written(up_to).await.unwrap();
    let limit = ReadLimit { up_to, bytes_max: usize::MAX, at_least_one: true };
    let read = log.read(up_to - 1, limit).await.unwrap();
    let Some(ReadPart::Bytes(last)) = read.parts.last() else { return false };
    let memory = batch.as_ptr().addr()..batch.as_ptr().addr() + batch.len();
    memory.contains(&last.as_ptr().addr())
}

#[test]
fn a_large_batch_that_lies_right_is_not_copied_and_all_reads_back() {
    let config = LogConfig { segment_bytes: 3 << 20, ..LogConfig::default() };
    for small in [0, 1, 40, BLOCK - HEADER_LEN - 60, BLOCK - HEADER_LEN - 61, BLOCK - HEADER_LEN, 5_000] {
        let mut world = World::new();
        world.cache_bytes = 8 << 20;
        world.run(config.clone(), async move |log, world| {
            let mut taken = 0;
            for (n, len) in
                [100_000, 96 << 10, (96 << 10) + 1, (96 << 10) - 1, 1 << 20, 64 << 10].into_iter().enumerate()
            {
                if small > 0 {
                    world.append(&log, &batch(1, small as i32)).unwrap();
                }
                if n % 2 == 0 {
                    log.wait_written(log.marks().log_end).await.unwrap();
                }
                let large = fitting(&log, len);
                world.append(&log, &large).unwrap();
                if n % 3 == 0 {
                    // In one go with what comes behind it.
                    world.append(&log, &batch(2, 10)).unwrap();
                    world.append(&log, &fitting(&log, 70_000)).unwrap();
                } else {
                    taken += usize::from(is_read_from(&log, &large).await);
                }
            }
            assert_eq!(taken, 4, "after batches of {small} bytes");
            log.wait_durable(log.marks().log_end).await.unwrap();
            world.check_all(&log).await;
            for bytes_max in [0, 64 << 10, 100_061, 1 << 20, 3 << 20] {
                let limit = ReadLimit { up_to: log.marks().log_end - 1, bytes_max, at_least_one: false };
                let read = joined(&log.read(0, limit).await.unwrap());
                assert!(read.len() <= bytes_max);
            }
            log.close().await.unwrap();
        });
        // From the files, after a clean stop and after none.
        for _ in 0..2 {
            world.run(config.clone(), async |log, world| {
                world.check_all(&log).await;
                world.append(&log, &batch(1, 100)).unwrap();
                world.append(&log, &fitting(&log, 200_000)).unwrap();
                log.wait_written(log.marks().log_end).await.unwrap();
                world.check_all(&log).await;
            });
        }
    }
}

#[test]
fn a_large_batch_that_lies_wrong_or_gets_its_time_stamped_is_copied() {
    for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
        let mut world = World::new();
        let config = LogConfig { timestamp_type, ..LogConfig::default() };
        world.run(config, async move |log, world| {
            let stamped = timestamp_type == TimestampType::LogAppendTime;
            let mut memory = log.request_memory(100_000, usize::from(!stamped));
            memory.extend_from_slice(&fitting(&log, 100_000));
            let given = memory.freeze();
            log.append(&given, world.leader()).unwrap();
            assert!(!is_read_from(&log, &given).await);
        });
    }
}

#[test]
fn a_large_batch_with_much_beside_it_in_its_memory_is_copied() {
    World::new().run(LogConfig::default(), async |log, world| {
        let given = fitting(&log, 100_000);
        log.append(&given, LeaderAppend { alone: false, ..world.leader() }).unwrap();
        assert!(!is_read_from(&log, &given).await);
    });
}

#[test]
fn batches_kept_where_they_came_stay_within_the_budget() {
    let mut world = World::new();
    world.cache_bytes = 2 << 20;
    world.run(LogConfig::default(), async |log, world| {
        for _ in 0..30 {
            world.append(&log, &fitting(&log, 300_000)).unwrap();
            log.wait_written(log.marks().log_end).await.unwrap();
            assert!(log.0.cache.bytes() <= 2 << 20, "{} bytes", log.0.cache.bytes());
        }
        world.check_all(&log).await;
    });
}

#[test]
fn of_many_logs_large_writes_few_are_under_way_and_small_ones_pass_by() {
    let bytes = |op: &Op| match op {
        Op::Write { bytes, more, .. } => bytes.len() + more.iter().map(Bytes::len).sum::<usize>(),
        _ => 0,
    };
    let mut world = World::new();
    let (control, path, leader) = (world.control.clone(), world.path(), world.leader());
    world.without_log(async move |shard| {
        let cache = Cache::new(8 << 20);
        let slow = Rc::new(Cell::new(true));
        let held = slow.clone();
        control.borrow_mut().holds =
            Some(Box::new(move |op| held.get() && bytes(op) >= LARGE_WRITE_BYTES_MIN));
        let mut logs = Vec::new();
        for (name, size) in [("a", 900_000), ("b", 900_000), ("c", 900_000), ("d", 900_000), ("small", 100)] {
            let place = LogDir { dir: DirId(0), path: path.with_file_name(name) };
            let (log, _) = Log::open(&shard, place, LogConfig::default(), &cache).await.unwrap();
            log.append(&batch(1, size), leader).unwrap();
            logs.push(log);
        }
        logs.last().unwrap().wait_durable(1).await.unwrap();
        for _ in 0..20 {
            shard.sleep(Duration::from_millis(1)).await;
        }
        let under_way: usize = control.borrow().held.iter().map(|(_, op)| bytes(op)).sum();
        assert_eq!(under_way, 900_000_usize.next_multiple_of(BLOCK));
        assert!(under_way <= LARGE_WRITES_BYTES);
        slow.set(false);
        for log in &logs {
            log.wait_durable(1).await.unwrap();
        }
    });
}

#[test]
fn who_has_fallen_behind_finds_more_in_memory_soon() {
    let mut world = World::new();
    world.cache_bytes = 32 << 20;
    // Nothing waits for a time to pass: all is written at once.
    let config = LogConfig { durability: Durability::Replicated, ..LogConfig::default() };
    world.run(config, async |log, world| {
        let go_on = async |batches| {
            for _ in 0..batches {
                world.append(&log, &batch(1, 500_000)).unwrap();
                log.wait_written(log.marks().log_end).await.unwrap();
            }
        };
        let behind = || log.marks().written - 50;
        go_on(300).await;
        assert!(log.0.cache.bytes() <= 18 << 20, "much is written, and nobody reads");
        assert!(log.0.chunks.nth_from(behind(), 0).is_none());
        let limit = ReadLimit { up_to: log.marks().written, bytes_max: 1, at_least_one: true };
        assert!(log.read(behind(), limit).await.unwrap().bytes > 0);
        go_on(60).await;
        assert!(log.0.chunks.nth_from(behind(), 0).is_some());
    });
}
