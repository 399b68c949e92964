//! The log against real files: what is appended is read back, across rolls, stops, crashes and failures.

mod cleaning;
mod driver;
mod files;
mod following;
mod large;
mod races;
mod recovering;
mod recycling;
mod retention;
mod settled;
mod taken_over;
mod world;

use super::*;
use crate::batch::{self, Codec};
use crate::io::{Op, WallTime};
use crate::records::Builder;
use bytes::Bytes;
use world::{World, batch, batch_of, die_at_each};

fn small() -> LogConfig {
    LogConfig { segment_bytes: 16 << 10, index_interval_bytes: 512, ..LogConfig::default() }
}

#[test]
fn what_is_appended_is_written_durable_and_read_back() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        assert_eq!(log.marks(), Marks { log_start: 0, durable: 0, written: 0, log_end: 0 });
        let first = world.append(&log, &batch(3, 100)).unwrap();
        assert_eq!((first.base_offset, first.last_offset, first.duplicate), (0, 2, false));
        assert_eq!(log.marks().log_end, 3);
        assert_eq!(log.marks().written, 0);
        let second = world.append(&log, &batch(1, 9000)).unwrap();
        assert_eq!(second.base_offset, 3);
        log.wait_durable(4).await.unwrap();
        assert_eq!(log.marks(), Marks { log_start: 0, durable: 4, written: 4, log_end: 4 });
        world.check_all(&log).await;
    });
}

#[test]
fn a_clean_stop_leaves_nothing_to_scan_and_no_prepared_space() {
    let mut world = World::new();
    for round in 0..3 {
        world.run(small(), async move |log, world| {
            assert_eq!(log.marks().log_end, world.end(), "round {round}");
            world.check_all(&log).await;
            for n in 0..40 {
                world.append(&log, &batch(1 + n % 5, 700)).unwrap();
                if n % 3 == 0 {
                    log.wait_written(log.marks().log_end).await.unwrap();
                }
            }
            world.check_all(&log).await;
            let end = log.marks().log_end;
            log.close().await.unwrap();
            assert_eq!(end, world.end());
        });
        assert_eq!(world.recovered.scanned_bytes, 0);
        assert_eq!(world.recovered.cut_bytes, 0);
        assert_eq!(
            world.bytes_of_segments(),
            world.bytes_appended(),
            "segments hold batches and nothing else"
        );
    }
    assert!(world.segments() > 5, "the log has rolled");
}

#[test]
fn an_index_that_holds_next_to_nothing_makes_small_segments() {
    for segment_index_bytes in [4, 8, 12, 24] {
        let mut world = World::new();
        let config = LogConfig { segment_index_bytes, index_interval_bytes: 512, ..LogConfig::default() };
        world.run(config, async move |log, world| {
            for _ in 0..6 {
                world.append(&log, &batch(2, 700)).unwrap();
            }
            world.check_all(&log).await;
            log.close().await.unwrap();
        });
        assert!(world.segments() > 1, "the log has rolled at {segment_index_bytes} bytes of index");
    }
}

#[test]
fn after_a_crash_every_record_that_was_written_is_there() {
    let mut world = World::new();
    for round in 0..5 {
        world.run(small(), async move |log, world| {
            assert_eq!(log.marks().log_end, world.end(), "round {round}");
            world.check_all(&log).await;
            for n in 0..30 + round {
                world.append(&log, &batch(2, 300 + 100 * n)).unwrap();
            }
            log.wait_written(log.marks().log_end).await.unwrap();
        });
    }
}

#[test]
fn wherever_the_process_dies_what_was_acknowledged_is_there_and_the_rest_whole_or_gone() {
    let deaths = die_at_each(1, |mut world, operations| {
        world.control.borrow_mut().operations_left = Some(operations);
        let acknowledged = Rc::new(std::cell::Cell::new(0));
        let seen = acknowledged.clone();
        let lived = world.run_until_death(small(), async move |log, world| {
            for n in 0..25 {
                if world.append(&log, &batch(2, 300 + 37 * n)).is_err() {
                    return;
                }
                if n % 4 == 3 {
                    log.wait_durable(log.marks().log_end).await.unwrap();
                    seen.set(log.marks().log_end);
                }
            }
            log.close().await.unwrap();
            seen.set(world.end());
        });
        let acknowledged = acknowledged.get();
        world.run(small(), async move |log, world| {
            let end = log.marks().log_end;
            assert!(
                end >= acknowledged,
                "{acknowledged} acknowledged, {end} found after {operations} operations"
            );
            world.forget_from(end);
            world.check_all(&log).await;
            // And it goes on from there.
            world.append(&log, &batch(3, 500)).unwrap();
            log.wait_durable(log.marks().log_end).await.unwrap();
            world.check_all(&log).await;
        });
        lived
    });
    assert!(deaths > 60, "the process died at {deaths} places");
}

#[test]
fn a_torn_tail_is_cut() {
    for damage in [0usize, 1, 100, 399] {
        let mut world = World::new();
        world.run(LogConfig::default(), async move |log, world| {
            for _ in 0..10 {
                world.append(&log, &batch(1, 400)).unwrap();
            }
            log.wait_durable(10).await.unwrap();
        });
        let last = world.damage_last_batch(damage);
        world.run(LogConfig::default(), async move |log, world| {
            assert_eq!(log.marks().log_end, last, "byte {damage} of the last batch changed");
            world.forget_from(last);
            world.append(&log, &batch(2, 400)).unwrap();
            log.wait_durable(last + 2).await.unwrap();
            world.check_all(&log).await;
            log.close().await.unwrap();
        });
        assert!(world.recovered.cut_bytes > 0);
        assert_eq!(world.bytes_of_segments(), world.bytes_appended());
    }
}

#[test]
fn a_duplicate_gets_the_offsets_of_the_original_still_in_flight() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        let first = batch_of(7, 0, 0, 5, 100);
        let original = world.append(&log, &first).unwrap();
        let again = log.append(&first, world.leader()).unwrap();
        assert_eq!((again.base_offset, again.last_offset, again.duplicate), (0, 4, true));
        assert_eq!(log.marks().log_end, 5);
        assert_eq!(log.marks().written, 0, "still in flight");
        assert!(!original.duplicate);
        log.wait_durable(again.last_offset + 1).await.unwrap();
        assert!(matches!(
            log.append(&batch_of(7, 0, 9, 1, 10), world.leader()),
            Err(AppendError::OutOfOrderSequence)
        ));
        world.append(&log, &batch_of(7, 0, 5, 2, 100)).unwrap();
        log.wait_written(7).await.unwrap();
    });
    // The producers' sequences survive a crash.
    world.run(LogConfig::default(), async move |log, world| {
        let again = log.append(&batch_of(7, 0, 5, 2, 100), world.leader()).unwrap();
        assert_eq!((again.base_offset, again.duplicate), (5, true));
        world.append(&log, &batch_of(7, 0, 7, 1, 100)).unwrap();
        log.close().await.unwrap();
    });
    // And a clean stop.
    world.run(LogConfig::default(), async move |log, world| {
        let again = log.append(&batch_of(7, 0, 7, 1, 100), world.leader()).unwrap();
        assert_eq!((again.base_offset, again.duplicate), (7, true));
    });
}

#[test]
fn what_may_not_be_appended_is_refused() {
    let mut world = World::new();
    world.control.borrow_mut().wall = 1_000_000_000_000;
    world.run(LogConfig { max_message_bytes: 5000, ..LogConfig::default() }, async move |log, world| {
        let leader = world.leader();
        type Expected = fn(&AppendError) -> bool;
        let mut cases: Vec<(&str, Bytes, Expected)> = vec![
            ("nothing", Bytes::new(), |e| matches!(e, AppendError::Corrupt)),
            ("half a batch", batch(1, 100).slice(..90), |e| matches!(e, AppendError::Corrupt)),
            ("too large", batch(1, 6000), |e| matches!(e, AppendError::TooLarge)),
        ];
        let damaged = |at: usize| {
            let mut bytes = batch(1, 100).to_vec();
            bytes[at] ^= 1;
            Bytes::from(bytes)
        };
        cases.push(("a damaged record", damaged(100), |e| matches!(e, AppendError::Corrupt)));
        cases.push(("a base offset", damaged(7), |e| matches!(e, AppendError::Invalid { .. })));
        cases.push(("an old magic", damaged(16), |e| matches!(e, AppendError::UnsupportedMagic)));
        let two = [batch(1, 100), batch(1, 100)].concat();
        let mut timed = batch(1, 100).to_vec();
        batch::stamp_log_append_time(&mut timed, 1_000_000_000_000);
        cases.push(("a broker's time", timed.into(), |e| matches!(e, AppendError::InvalidTimestamp)));
        cases.push(("two batches", Bytes::from(two), |e| matches!(e, AppendError::Invalid { .. })));
        let count = cases.len();
        for (what, bytes, expected) in cases {
            let error = log.append(&bytes, leader).expect_err(what);
            assert!(expected(&error), "{what}: {error:?}");
        }
        assert_eq!(count, 8);
        let early = LeaderAppend { now: WallTime(-4_000_000), ..leader };
        assert!(matches!(log.append(&batch(1, 10), early), Err(AppendError::InvalidTimestamp)));
        log.begin_epoch(9);
        assert!(matches!(log.append(&batch(1, 10), leader), Err(AppendError::StaleEpoch)));
        assert_eq!(log.marks().log_end, 0);
    });
}

#[test]
fn a_failed_write_or_sync_takes_the_log_offline_and_durable_records_stay_readable() {
    for failing in ["write", "sync"] {
        let mut world = World::new();
        world.run(LogConfig::default(), async move |log, world| {
            world.append(&log, &batch(4, 100)).unwrap();
            log.wait_durable(4).await.unwrap();
            world.control.borrow_mut().fails = Some(Box::new(move |op| {
                let hit = matches!((op, failing), (Op::Write { .. }, "write") | (Op::Sync { .. }, "sync"));
                hit.then_some(std::io::ErrorKind::Other)
            }));
            world.append(&log, &batch(1, 100)).unwrap();
            assert!(log.wait_durable(5).await.is_err());
            assert!(matches!(log.append(&batch(1, 100), world.leader()), Err(AppendError::Failed(_))));
            assert_eq!(log.marks().durable, 4);
            world.check_all(&log).await;
            world.control.borrow_mut().fails = None;
            assert!(log.append(&batch(1, 100), world.leader()).is_err(), "it is never tried again");
        });
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_space() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        world.control.borrow_mut().fails =
            Some(Box::new(|op| matches!(op, Op::Prepare { .. }).then_some(std::io::ErrorKind::StorageFull)));
        world.append(&log, &batch(1, 100)).unwrap();
        while log.append(&batch(1, 100), world.leader()).map(|_| world.note(&batch(1, 100))).is_ok() {
            world.shard().yield_now().await;
        }
        assert!(matches!(log.append(&batch(1, 100), world.leader()), Err(AppendError::NoSpace)));
        world.control.borrow_mut().fails = None;
        let end = log.marks().log_end;
        log.wait_durable(end).await.unwrap();
        world.append(&log, &batch(1, 100)).unwrap();
        log.wait_durable(end + 1).await.unwrap();
        world.check_all(&log).await;
    });
}

#[test]
fn records_nobody_waits_for_become_durable_in_a_while() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        world.append(&log, &batch(4, 100)).unwrap();
        while log.marks().durable < 4 {
            log.moved().await;
        }
        let waited = world.control.borrow().now;
        assert!((10_000_000..20_000_000).contains(&waited), "{waited} ns");
    });
}

/// Fills a log: batches of two records, one timestamp each, rising by ten.
async fn fill(log: &Log, world: &World, batches: i64) {
    for n in 0..batches {
        let timestamp = 1_000 + 10 * n;
        world.append(log, &world::batch_at(-1, -1, -1, 2, 600, timestamp)).unwrap();
    }
    log.wait_written(log.marks().log_end).await.unwrap();
}

#[test]
fn truncation_takes_records_back_wherever_the_process_dies() {
    let mut deaths = 0;
    for target in [0, 1, 25, 59, 60, 99, 100, 200] {
        // Wholly, with the batch that contains it.
        let kept = if target >= 100 { 100 } else { target - target % 2 };
        deaths += die_at_each(2, |mut world, operations| {
            let lived = world.run_until_death(small(), async move |log, world| {
                fill(&log, &world, 50).await;
                log.wait_durable(100).await.unwrap();
                log.settle().await.unwrap();
                world.control.borrow_mut().operations_left = Some(operations);
                assert_eq!(log.truncate_to(target).await.unwrap(), kept);
                world.control.borrow_mut().operations_left = None;
                world.forget_from(kept);
                world.check_all(&log).await;
                fill(&log, &world, 20).await;
                world.check_all(&log).await;
            });
            world.run(small(), async move |log, world| {
                let end = log.marks().log_end;
                if lived {
                    assert_eq!(end, kept + 40);
                } else {
                    assert!((kept..=100).contains(&end), "{end} after {operations} operations of {target}");
                    world.forget_from(end);
                }
                world.check_all(&log).await;
                fill(&log, &world, 20).await;
                world.check_all(&log).await;
                log.close().await.unwrap();
            });
            lived
        });
    }
    assert!(deaths > 40, "the process died at {deaths} places");
}

#[test]
fn a_log_is_emptied_and_goes_on_elsewhere_wherever_the_process_dies() {
    let mut deaths = 0;
    for start in [0, 40, 1_000] {
        deaths += die_at_each(1, |mut world, operations| {
            let lived = world.run_until_death(small(), async move |log, world| {
                fill(&log, &world, 50).await;
                log.settle().await.unwrap();
                world.control.borrow_mut().operations_left = Some(operations);
                log.truncate_fully_and_start_at(start).await.unwrap();
                world.control.borrow_mut().operations_left = None;
                assert_eq!(log.marks(), Marks::at(start));
            });
            world.run(small(), async move |log, world| {
                let marks = log.marks();
                if lived {
                    assert_eq!(marks, Marks::at(start));
                } else if marks != Marks::at(start) {
                    assert_eq!(
                        marks,
                        Marks { log_start: 0, ..Marks::at(100) },
                        "after {operations} operations"
                    );
                    world.check_all(&log).await;
                    return;
                }
                let again = log.append(&batch(3, 100), world.leader()).unwrap();
                assert_eq!(again.base_offset, start);
                log.wait_durable(start + 3).await.unwrap();
            });
            lived
        });
    }
    assert!(deaths > 20, "the process died at {deaths} places");
}

#[test]
fn truncation_gives_producers_back_the_sequences_it_takes() {
    let mut world = World::new();
    world.run(small(), async |log, world| {
        for n in 0..60 {
            world.append(&log, &batch_of(7, 0, n, 1, 700)).unwrap();
        }
        log.wait_written(60).await.unwrap();
        assert!(world.segments() > 2);
        let waiting = log.wait_durable(60);
        assert_eq!(log.truncate_to(45).await.unwrap(), 45);
        assert!(matches!(waiting.await, Err(LogFailed::Truncated)));
        world.forget_from(45);
        let again = log.append(&batch_of(7, 0, 44, 1, 700), world.leader()).unwrap();
        assert_eq!((again.base_offset, again.duplicate), (44, true));
        let new = world.append(&log, &batch_of(7, 0, 45, 1, 700)).unwrap();
        assert_eq!((new.base_offset, new.duplicate), (45, false));
        world.check_all(&log).await;
    });
}

#[test]
fn deleted_records_stay_deleted_and_their_segments_go() {
    let mut world = World::new();
    world.run(small(), async |log, world| {
        fill(&log, &world, 50).await;
        log.settle().await.unwrap();
        let before = world.segments();
        assert!(matches!(log.delete_before(101).await, Err(TruncateError::OutOfRange { log_end: 100 })));
        assert_eq!(log.delete_before(61).await.unwrap(), 61);
        assert_eq!(log.delete_before(10).await.unwrap(), 61, "the log start does not go back");
        assert!(world.segments() < before);
        let limit = ReadLimit { up_to: 100, bytes_max: 1, at_least_one: true };
        assert!(matches!(log.read(60, limit).await, Err(ReadError::OutOfRange { log_start: 61, .. })));
        world.check_all(&log).await;
    });
    world.run(small(), async |log, world| {
        assert_eq!((log.marks().log_start, log.marks().log_end), (61, 100));
        world.check_all(&log).await;
        assert_eq!(log.delete_before(100).await.unwrap(), 100);
        world.append(&log, &batch(1, 100)).unwrap();
        log.wait_written(101).await.unwrap();
        world.check_all(&log).await;
        log.close().await.unwrap();
    });
    world.run(small(), async |log, world| {
        assert_eq!((log.marks().log_start, log.marks().log_end), (100, 101));
        world.check_all(&log).await;
    });
}

#[test]
fn a_deletion_that_failed_is_not_done_when_asked_again() {
    let mut world = World::new();
    world.run(small(), async |log, world| {
        fill(&log, &world, 50).await;
        log.settle().await.unwrap();
        world.control.borrow_mut().fails =
            Some(Box::new(|op| matches!(op, Op::Rename { .. }).then_some(std::io::ErrorKind::Other)));
        assert!(log.delete_before(61).await.is_err());
        world.control.borrow_mut().fails = None;
        assert!(matches!(log.delete_before(61).await, Err(TruncateError::Failed(_))));
        assert!(matches!(log.delete_before(10).await, Err(TruncateError::Failed(_))));
    });
}

#[test]
fn records_are_found_by_time_in_memory_on_disk_and_after_a_restart() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = World::new();
        for round in 0..3 {
            world.run(small(), async move |log, world| {
                let first = 100 * round;
                for n in first..first + 100 {
                    // Times 1000 + 20 n and 1010 + 20 n, the later one first.
                    let mut builder = Builder::new(codec);
                    for timestamp in [1_010 + 20 * n, 1_000 + 20 * n] {
                        builder.push(timestamp, None, Some(&[n as u8; 300]), &[]);
                    }
                    world.append(&log, &builder.build()).unwrap();
                }
                log.wait_written(log.marks().log_end).await.unwrap();
                let end = 2 * (first + 100);
                for n in 0..first + 100 {
                    for (timestamp, offset) in [(995, 0), (1_000, 0), (1_005, 0), (1_010, 0), (1_011, 2)] {
                        let found = log.offset_for_time(timestamp + 20 * n).await.unwrap();
                        let found = found.map(|at| (at.offset, at.timestamp, at.leader_epoch));
                        let expected = 2 * n + offset;
                        let time = 1_010 + 10 * expected;
                        let expected = (expected < end).then_some((expected, time, Some(0)));
                        assert_eq!(found, expected, "{codec:?}, round {round}, batch {n}, time {timestamp}");
                    }
                }
                for offset in 0..=end {
                    let time = (offset < end).then_some(1_010 + 20 * (offset / 2));
                    assert_eq!(
                        log.time_from(offset).await.unwrap(),
                        time,
                        "{codec:?}, round {round}, {offset}"
                    );
                }
                let latest = log.max_timestamp().await.unwrap().map(|at| (at.offset, at.timestamp));
                assert_eq!(latest, Some((end - 2, 1_010 + 10 * (end - 2))));
                if round == 1 {
                    log.close().await.unwrap();
                }
            });
        }
        assert!(codec != Codec::None || world.segments() > 5);
        world.run(small(), async |log, _| {
            log.wait_durable(600).await.unwrap();
            log.delete_before(51).await.unwrap();
            let found = log.offset_for_time(0).await.unwrap().map(|at| (at.offset, at.timestamp));
            assert_eq!(found, Some((51, 1_500)));
            assert_eq!(log.time_from(7).await.unwrap(), Some(1_510), "the first batch there is");
        });
    }
}

#[test]
fn a_follower_takes_offsets_and_epochs_as_given() {
    let mut world = World::new();
    world.run(LogConfig::default(), async |log, world| {
        let given = |base: i64, epoch: i32, records: i32| {
            let mut bytes = batch(records, 100).to_vec();
            batch::stamp(&mut bytes, base, epoch);
            bytes
        };
        let two = Bytes::from([given(0, 0, 2), given(2, 1, 3)].concat());
        let appended = log.append_as_follower(&two, 4).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (0, 4));
        // A part of a batch at the end is left for the next fetch.
        let cut = Bytes::from([given(5, 1, 1), given(6, 1, 1)[..90].to_vec()].concat());
        assert_eq!(log.append_as_follower(&cut, 4).unwrap().last_offset, 5);
        let back = Bytes::from(given(5, 1, 1));
        assert!(matches!(
            log.append_as_follower(&back, 4),
            Err(AppendError::OutOfOrderOffset { expected: 6 })
        ));
        let mut damaged = given(6, 1, 1);
        damaged[100] ^= 1;
        let second_is_damaged = Bytes::from([given(6, 1, 1), damaged].concat());
        assert!(matches!(log.append_as_follower(&second_is_damaged, 4), Err(AppendError::Corrupt)));
        assert_eq!(log.marks().log_end, 6, "nothing of it was taken");
        // The leader's log was compacted: offsets 6 to 9 are no more.
        log.append_as_follower(&Bytes::from(given(10, 4, 1)), 4).unwrap();
        log.wait_durable(11).await.unwrap();
        let end = |epoch| log.epoch_end(epoch).map(|end| (end.epoch, end.end_offset));
        assert_eq!(
            (end(0), end(1), end(3), end(4)),
            (Some((0, 2)), Some((1, 6)), Some((1, 6)), Some((4, 11)))
        );
        for from in 6..=10 {
            let limit = ReadLimit { up_to: 11, bytes_max: 1000, at_least_one: true };
            let bytes = world::joined(&log.read(from, limit).await.unwrap());
            assert_eq!(batch::Header::parse(&bytes).unwrap().base_offset, 10, "from {from}");
        }
        assert!(log.append(&batch(1, 10), world.leader()).is_err(), "epoch 0 is over");
    });
    world.run(LogConfig::default(), async |log, _| {
        assert_eq!(log.marks().log_end, 11, "a gap survives a crash");
        assert_eq!(log.truncate_to_epoch(EpochEnd { epoch: 2, end_offset: 3 }).await.unwrap(), 2);
        assert_eq!(log.latest_epoch(), Some(0));
    });
}

#[test]
fn nothing_in_the_cache_means_reading_the_files() {
    for config in [small(), LogConfig::default()] {
        let mut world = World::new();
        world.cache_bytes = 0;
        world.run(config, async |log, world| {
            for n in 0..80 {
                world.append(&log, &batch(1 + n % 4, 200 + 50 * n)).unwrap();
                if n % 7 == 0 {
                    log.wait_written(log.marks().log_end).await.unwrap();
                }
            }
            log.wait_durable(log.marks().log_end).await.unwrap();
            world.check_all(&log).await;
            log.settle().await.unwrap();
            world.check_all(&log).await;
            let limit = ReadLimit { up_to: log.marks().written, bytes_max: 10_000, at_least_one: true };
            let mut from = 0;
            while from < limit.up_to {
                let sent = world::joined(&log.read_with_files(from, limit).await.unwrap());
                let read = world::joined(&log.read(from, limit).await.unwrap());
                let shorter = sent.len().min(read.len());
                assert!(shorter > 0 && sent[..shorter] == read[..shorter], "from {from}");
                let mut rest = &sent[..];
                while let Some(len) = batch::whole_len(rest) {
                    from = batch::Header::parse(rest).unwrap().next_offset();
                    rest = &rest[len..];
                }
                assert!(rest.is_empty(), "whole batches");
            }
        });
    }
}
