//! The log against real files: what is appended is read back, across rolls, stops, crashes and failures.

mod driver;
mod world;

use super::*;
use crate::io::{Op, WallTime};
use bytes::Bytes;
use world::{World, batch, batch_of};

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
    let mut deaths = 0;
    for operations in 0.. {
        let mut world = World::new();
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
        world.control.borrow_mut().operations_left = None;
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
        if lived {
            break;
        }
        deaths += 1;
    }
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
        cases.push(("two batches", Bytes::from(two), |e| matches!(e, AppendError::Invalid { .. })));
        let count = cases.len();
        for (what, bytes, expected) in cases {
            let error = log.append(&bytes, leader).expect_err(what);
            assert!(expected(&error), "{what}: {error:?}");
        }
        assert_eq!(count, 7);
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
