//! How much of a log recovery looks at: what the checkpoint allows, whatever the log's size.

use super::super::*;
use super::small;
use super::world::{World, batch};
use crate::io::DirId;

#[test]
fn recovery_scans_what_has_come_since_the_checkpoint() {
    for index_interval_bytes in [512, 4096] {
        let config = LogConfig { checkpoint_bytes: 40_000, index_interval_bytes, ..LogConfig::default() };
        let mut world = World::new();
        let mut most = 0;
        for round in 0..8 {
            world.run(config.clone(), async move |log, world| {
                assert_eq!(log.marks().log_end, world.end(), "round {round}");
                for n in 0..70 {
                    world.append(&log, &batch(2, 2000 + 13 * n)).unwrap();
                    log.wait_durable(log.marks().log_end).await.unwrap();
                }
                world.check_all(&log).await;
                // A clean stop, a late one, none: what comes next finds each.
                if round % 4 == 2 {
                    log.close().await.unwrap();
                }
            });
            most = most.max(world.recovered.scanned_bytes);
        }
        // A write is of whole blocks, so that some bytes are written, and counted, twice; one checkpoint may be on its way.
        assert!(most <= 2 * 40_000, "{most} bytes scanned of {}", world.bytes_of_segments());
        assert!(most > 1000, "something was scanned");
        assert!(world.bytes_of_segments() > 1_000_000);
    }
}

#[test]
fn the_space_that_a_killed_log_had_prepared_stays_and_is_zeroed() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        world.append(&log, &batch(1, 400)).unwrap();
        log.wait_durable(1).await.unwrap();
    });
    let file = world.segment_files().pop().unwrap();
    let len = std::fs::metadata(&file).unwrap().len();
    assert!(len > 8192, "space is prepared");
    // A write of several blocks of which the first did not reach the disk.
    let mut content = std::fs::read(&file).unwrap();
    content[4096..].fill(7);
    std::fs::write(&file, content).unwrap();
    for round in 0..2 {
        world.run(LogConfig::default(), async move |log, world| {
            world.check_all(&log).await;
            if round == 1 {
                world.append(&log, &batch(2, 400)).unwrap();
                log.wait_durable(3).await.unwrap();
                world.check_all(&log).await;
                log.close().await.unwrap();
            }
        });
        if round == 0 {
            let content = std::fs::read(&file).unwrap();
            assert_eq!(content.len() as u64, len);
            assert!(content[world.bytes_appended()..].iter().all(|byte| *byte == 0));
        }
    }
    assert_eq!(world.bytes_of_segments(), world.bytes_appended());
}

#[test]
fn logs_that_are_closed_together_leave_what_one_leaves_that_is_closed_alone() {
    let mut left = Vec::new();
    for together in [false, true] {
        let mut world = World::new();
        for _ in 0..3 {
            world.run(small(), async move |log, world| {
                for n in 0..40 {
                    world.append(&log, &batch(1, 2000 + n)).unwrap();
                }
                if together {
                    log.close_among_many().await.unwrap().end().await.unwrap();
                } else {
                    log.close().await.unwrap();
                }
            });
            let mut names: Vec<_> =
                std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            left.push(names);
            world.run(small(), async move |log, world| world.check_all(&log).await);
            assert_eq!((world.recovered.scanned_bytes, world.recovered.cut_bytes), (0, 0));
        }
    }
    assert_eq!(left[..3], left[3..]);
}

#[test]
fn a_log_whose_last_files_did_not_become_durable_is_as_after_a_crash() {
    let mut world = World::new();
    let config = LogConfig::default();
    world.run(config.clone(), async move |log, world| {
        for n in 0..10 {
            world.append(&log, &batch(1, 2000 + n)).unwrap();
        }
        log.close_among_many().await.unwrap().abandon().await.unwrap();
    });
    world.run(config, async move |log, world| {
        world.check_all(&log).await;
        let unfinished = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "tmp");
        let left = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap());
        assert_eq!(left.filter(unfinished).count(), 0);
    });
    assert_eq!(world.recovered.scanned_bytes, world.bytes_of_segments() as u64);
}

#[test]
fn a_crash_between_sealing_and_the_next_segments_file_leaves_nothing_to_scan() {
    let mut world = World::new();
    world.run(small(), async move |log, world| {
        for n in 0..40 {
            world.append(&log, &batch(1, 2000 + n)).unwrap();
        }
        log.close().await.unwrap();
    });
    // As if the last segment had never been: the checkpoint is the one that was written when its predecessor was sealed.
    let last = world.segment_files().pop().unwrap();
    let base: Offset = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let path = world.path().join(checkpoint::CHECKPOINT_FILE);
    let closed = checkpoint::Checkpoint::decode(&std::fs::read(&path).unwrap()).unwrap();
    let sealed = checkpoint::Checkpoint {
        offset: base,
        segment: base,
        pos: 0,
        first_timestamp: -1,
        max_timestamp: -1,
        max_timestamp_offset: -1,
        offsets: Vec::new(),
        times: Vec::new(),
        ..closed
    };
    std::fs::write(&path, sealed.encode()).unwrap();
    std::fs::remove_file(&last).unwrap();
    world.forget_from(base);
    for round in 0..2 {
        world.run(small(), async move |log, world| {
            assert_eq!(log.marks().log_end, world.end(), "round {round}");
            world.check_all(&log).await;
            world.append(&log, &batch(1, 500)).unwrap();
            log.wait_durable(world.end()).await.unwrap();
            world.check_all(&log).await;
        });
        assert!(world.recovered.scanned_bytes < 1000, "{:?}", world.recovered);
        assert_eq!(world.recovered.segments_removed, 0);
    }
    assert!(world.segments() > 3, "there was something to scan");
}

#[test]
fn a_checkpoint_that_is_damaged_never_leaves_one_from_before_a_truncation() {
    let config = LogConfig { checkpoint_bytes: 1, ..LogConfig::default() };
    let mut world = World::new();
    world.run(config.clone(), async |log, world| {
        // No entry of an index yet: nothing but its place tells a checkpoint from one of a log that was cut.
        for n in 0..5 {
            world.append(&log, &batch(1, 200 + n)).unwrap();
            log.wait_durable(world.end()).await.unwrap();
            settled(&log).await;
        }
        log.truncate_to(2).await.unwrap();
        world.forget_from(2);
        for n in 0..8 {
            world.append(&log, &batch(1, 333 + n)).unwrap();
            log.wait_durable(world.end()).await.unwrap();
            settled(&log).await;
        }
    });
    let path = world.path().join(checkpoint::CHECKPOINT_FILE);
    let file = std::fs::read(&path).unwrap();
    let mut begins = vec![12];
    while let Some(len) = file.get(*begins.last().unwrap()..).and_then(|rest| rest.first_chunk::<4>()) {
        begins.push(begins.last().unwrap() + 8 + u32::from_be_bytes(*len) as usize);
    }
    assert_eq!(begins.pop(), Some(file.len()));
    assert!(begins.len() > 5, "most are added to the file: {begins:?}");
    for at in begins.into_iter().skip(1) {
        let mut damaged = file.clone();
        damaged[at + 20] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        world.run(config.clone(), async move |log, world| {
            assert_eq!(log.marks().log_end, world.end(), "damaged at {at}");
            world.check_all(&log).await;
        });
    }
}

#[test]
fn a_segment_that_grew_after_a_clean_stop_is_not_taken_for_a_sealed_one() {
    let mut world = World::new();
    let sent = batch(1, 2000);
    let len = sent.len();
    let fill = async move |log: &Log, world: &World, batches| {
        for _ in 0..batches {
            world.append(log, &sent).unwrap();
        }
        log.settle().await.unwrap();
    };
    let more = fill.clone();
    world.run(small(), async move |log, world| {
        fill(&log, &world, 2).await;
        log.close().await.unwrap();
    });
    let path = world.path().join(checkpoint::CHECKPOINT_FILE);
    let closed = std::fs::read(&path).unwrap();
    world.run(small(), async move |log, world| more(&log, &world, 10).await);
    // As a power cut leaves it that takes from the first segment what was not durable, and from the second what follows it: the
    // index that the clean stop has left is there, the sealing has not come to be.
    let files = world.segment_files();
    assert_eq!(files.len(), 2);
    std::fs::write(&path, closed).unwrap();
    std::fs::remove_file(files[1].with_extension("snapshot")).unwrap();
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[4 * len + 100] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    world.forget_from(4);
    world.run(small(), async move |log, world| {
        assert_eq!(log.marks().log_end, 4);
        world.check_all(&log).await;
    });
    assert_eq!(world.recovered.segments_removed, 1);
}

/// Waits until no checkpoint is on its way.
async fn settled(log: &Log) {
    while log.0.state.borrow().checkpoint_runs {
        log.moved().await;
    }
}

#[test]
fn many_logs_together_leave_no_more_to_scan_than_one_bound() {
    const LOGS: usize = 12;
    const BOUND: u64 = 2 << 20;
    let mut world = World::new();
    let scanned = Rc::new(std::cell::Cell::new([0; 2]));
    for round in 0..2 {
        let scanned = scanned.clone();
        world.run(LogConfig::default(), async move |_, world| {
            let cache = Cache::new(1 << 20).with_scan_debt(BOUND);
            let mut logs = Vec::new();
            for n in 0..LOGS {
                let place = LogDir { dir: DirId(0), path: world.path().with_file_name(format!("many-{n}")) };
                let (log, recovered) =
                    Log::open(world.shard(), place, LogConfig::default(), &cache).await.unwrap();
                let mut sums = scanned.get();
                sums[round] += recovered.scanned_bytes;
                scanned.set(sums);
                logs.push(log);
            }
            world.control.borrow_mut().done.clear();
            // The first is written most, the last not any more after a while.
            for n in 0..400 {
                for (index, log) in logs.iter().enumerate() {
                    if n % (index + 1) == 0 && (index < LOGS - 1 || n < 200) {
                        log.append(&batch(1, 9000), world.leader()).unwrap();
                        log.wait_durable(log.marks().log_end).await.unwrap();
                    }
                }
            }
            let done = world.control.borrow().done.clone();
            let count = |name| done.iter().filter(|done| **done == name).count();
            assert!(count("open") > 20, "checkpoints are added to their files");
            assert_eq!(count("sync file"), 0, "for one that comes ahead of time nothing is synced");
        });
    }
    let [first, second] = scanned.get();
    assert_eq!(first, 0, "nothing was there");
    assert!((1 << 18..=BOUND).contains(&second), "{second} bytes scanned");
}
