//! What a log lets go of by itself, and when the files of it go.

use super::world::{World, batch_at, batch_of, die_at_each};
use super::{fill, small};
use crate::io::{Op, WallTime};
use crate::log::*;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Batches of two records in one segment of `small`.
const SEGMENT: i64 = 48;

/// After so many milliseconds without a new segment none is expected soon, and removed ones are not kept to be recycled.
const NOT_SOON: i64 = 600_000;

fn config(change: impl Fn(&mut LogConfig)) -> LogConfig {
    let mut config = LogConfig { retention_ms: None, ..small() };
    change(&mut config);
    config
}

fn segment_bytes(world: &World) -> u64 {
    world.bytes_appended() as u64 / 100 * 24
}

fn deleted_files(world: &World) -> usize {
    let entries = std::fs::read_dir(world.path()).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "deleted")).count()
}

#[test]
fn segments_past_the_limits_go_and_no_other() {
    // 100 batches of ten milliseconds each, 24 of them in a segment; the newest is of 1990.
    type Change = Rc<dyn Fn(&mut LogConfig, u64)>;
    let check = |what: &str, wall: i64, visible: i64, kept_from: i64, change: Change| {
        let mut world = World::new();
        let what = what.to_owned();
        world.run(config(|_| {}), async move |log, world| {
            fill(&log, &world, 100).await;
            log.settle().await.unwrap();
            let segment = segment_bytes(&world);
            log.configure(config(|config| change(config, segment)));
            world.control.borrow_mut().wall = wall;
            assert_eq!(log.retain(visible).await.unwrap(), kept_from, "{what}");
            assert_eq!(log.marks().log_start, kept_from, "{what}");
            assert_eq!(log.marks().log_end, 200, "{what}");
            // Asked again there is nothing more to do.
            assert_eq!(log.retain(visible).await.unwrap(), kept_from, "{what}");
            world.check_all(&log).await;
            world.append(&log, &batch_at(-1, -1, -1, 2, 600, 2_000)).unwrap();
            log.wait_durable(202).await.unwrap();
            world.check_all(&log).await;
        });
        world.run(config(|_| {}), async move |log, world| {
            assert_eq!((log.marks().log_start, log.marks().log_end), (kept_from, 202));
            world.check_all(&log).await;
            log.close().await.unwrap();
        });
    };
    let unlimited: Change = Rc::new(|_, _| {});
    check("no limit", 100_000, 200, 0, unlimited);
    // By size: one goes if what is left is no less than the limit. Three segments are whole, the fourth has 4 batches.
    let bytes = |segments: f64| -> Change {
        Rc::new(move |config, segment| config.retention_bytes = Some((segment as f64 * segments) as u64))
    };
    check("all fits", 2_000, 200, 0, bytes(5.0));
    check("not all of a segment is past it", 2_000, 200, 0, bytes(4.0));
    check("one segment is", 2_000, 200, SEGMENT, bytes(3.1));
    check("two segments are", 2_000, 200, 2 * SEGMENT, bytes(2.1));
    check("one of them cannot be seen", 2_000, 95, SEGMENT, bytes(2.1));
    check("nothing is to be kept", 2_000, 200, 200, bytes(0.0));
    // By time: a segment goes when its newest record is older.
    let ms = |ms: u64| -> Change { Rc::new(move |config, _| config.retention_ms = Some(ms)) };
    let newest = |segment: i64| 1_000 + 10 * (24 * segment - 1);
    check("nothing is old", newest(1) + 50, 200, 0, ms(50));
    check("one segment is", newest(1) + 51, 200, SEGMENT, ms(50));
    check("two segments are", newest(2) + 51, 200, 2 * SEGMENT, ms(50));
    check("but not all seen", newest(2) + 51, SEGMENT, SEGMENT, ms(50));
    check("all is, the active segment too", 2_000 + 51, 200, 200, ms(50));
    check("all is, but its end has not been seen", 2_000 + 51, 199, 4 * SEGMENT, ms(50));
    // What counts is the policy.
    check(
        "compacted",
        100_000,
        200,
        0,
        Rc::new(|config, _| {
            (config.retention_ms, config.retention_bytes) = (Some(1), Some(1));
            (config.delete, config.compact) = (false, true);
        }),
    );
}

#[test]
fn the_brokers_time_counts_where_it_is_stamped() {
    let stamped = config(|config| config.timestamp_type = TimestampType::LogAppendTime);
    let mut world = World::new();
    world.run(stamped.clone(), async move |log, world| {
        for n in 0..60 {
            world.control.borrow_mut().wall = 500_000 + n;
            // Their own time, long past, is not asked for.
            let batch = batch_at(-1, -1, -1, 2, 600, 5);
            let leader = LeaderAppend { now: WallTime(500_000 + n), ..world.leader() };
            log.append(&batch, leader).unwrap();
        }
        log.wait_written(120).await.unwrap();
        log.settle().await.unwrap();
        log.configure(LogConfig { retention_ms: Some(1_000), ..stamped.clone() });
        world.control.borrow_mut().wall = 500_023 + 1_000;
        assert_eq!(log.retain(120).await.unwrap(), 0);
        world.control.borrow_mut().wall = 500_023 + 1_001;
        assert_eq!(log.retain(120).await.unwrap(), SEGMENT);
    });
}

#[test]
fn the_files_stay_for_a_while_under_another_name() {
    let mut world = World::new();
    world.cache_bytes = 0;
    let keep =
        |bytes| config(move |config| (config.segment_bytes, config.retention_bytes) = (100 << 10, bytes));
    world.run(keep(None), async move |log, world| {
        fill(&log, &world, 400).await;
        log.settle().await.unwrap();
        // Somebody is about to send from the first segment, which has been read before.
        let limit = ReadLimit { up_to: 800, bytes_max: 1 << 20, at_least_one: true };
        log.read(0, limit).await.unwrap();
        let parts = log.read_with_files(0, limit).await.unwrap();
        let sent_from = parts.parts.iter().find_map(|part| match part {
            ReadPart::File { file, pos, len } => Some((file.clone(), *pos, *len)),
            ReadPart::Bytes(_) => None,
        });
        log.configure(keep(Some(1)));
        world.control.borrow_mut().wall += NOT_SOON;
        log.retain(800).await.unwrap();
        assert!(log.marks().log_start > 600);
        assert!(deleted_files(&world) >= 6, "two segments of three files and more");
        assert!(!world.path().join("00000000000000000000.log").exists());
        assert!(world.path().join("00000000000000000000.log.deleted").exists());
        world.check_all(&log).await;
        world.shard().sleep(Duration::from_secs(59)).await;
        assert!(deleted_files(&world) >= 6);
        world.shard().sleep(Duration::from_secs(2)).await;
        assert_eq!(deleted_files(&world), 0);
        // The file is gone, and he sends on.
        let (file, pos, len) = sent_from.expect("a large part of a sealed segment is sent from its file");
        let sent = world.shard().io().read(file, pos, len).await.unwrap();
        assert_eq!(sent.len(), len);
        assert_eq!(crate::batch::verify(&sent[..661]).unwrap().base_offset, 0);
        // The next ones are removed at once where the disk is full.
        fill(&log, &world, 200).await;
        log.settle().await.unwrap();
        log.retain(1200).await.unwrap();
        assert!(deleted_files(&world) > 0);
        log.remove_put_away().await.unwrap();
        assert_eq!(deleted_files(&world), 0);
        // And what a stop leaves is removed by the next start.
        fill(&log, &world, 200).await;
        log.settle().await.unwrap();
        log.retain(1600).await.unwrap();
        log.close().await.unwrap();
        assert!(deleted_files(&world) > 0);
    });
    world.run(keep(None), async move |log, world| {
        assert_eq!(deleted_files(&world), 0);
        world.check_all(&log).await;
    });
}

#[test]
fn wherever_the_process_dies_the_log_start_does_not_go_back_and_nothing_else_is_lost() {
    let mut deaths = 0;
    for (retention_bytes, kept_from) in [(30_000, 2 * SEGMENT), (0, 200)] {
        deaths += die_at_each(1, |mut world, operations| {
            let limits = config(move |config| config.retention_bytes = Some(retention_bytes));
            let moved = Rc::new(Cell::new(false));
            let seen = moved.clone();
            let lived = world.run_until_death(limits.clone(), async move |log, world| {
                // A producer whose last batch goes with the rest.
                world.append(&log, &batch_of(7, 0, 0, 2, 600)).unwrap();
                for n in 1..100 {
                    world.append(&log, &batch_at(-1, -1, -1, 2, 600, 1_000 + n)).unwrap();
                }
                log.wait_durable(200).await.unwrap();
                log.settle().await.unwrap();
                world.control.borrow_mut().wall += NOT_SOON;
                world.control.borrow_mut().operations_left = Some(operations);
                let retaining = log.clone();
                world.shard().spawn(async move { drop(retaining.retain(200).await) });
                while log.marks().log_start < kept_from {
                    log.moved().await;
                }
                seen.set(true);
                world.shard().sleep(Duration::from_secs(400)).await;
                world.control.borrow_mut().operations_left = None;
                assert_eq!(deleted_files(&world), 0);
            });
            world.run(limits, async move |log, world| {
                let marks = log.marks();
                assert_eq!(marks.log_end, 200, "after {operations} operations");
                assert!(marks.log_start == kept_from || (marks.log_start == 0 && !moved.get()));
                assert_eq!(deleted_files(&world), 0);
                world.check_all(&log).await;
                let again = log.append(&batch_of(7, 0, 0, 2, 600), world.leader()).unwrap();
                assert!(again.duplicate && again.base_offset == 0, "{again:?}");
                world.append(&log, &batch_at(-1, -1, -1, 2, 600, 1_000)).unwrap();
                log.wait_durable(202).await.unwrap();
                log.retain(202).await.unwrap();
                world.check_all(&log).await;
                log.close().await.unwrap();
            });
            lived
        });
    }
    assert!(deaths > 40, "the process died at {deaths} places");
}

#[test]
fn appends_go_on_while_everything_before_them_goes() {
    let mut world = World::new();
    world.run(config(|config| config.retention_ms = Some(10)), async move |log, world| {
        for round in 0..5 {
            fill(&log, &world, 30).await;
            world.control.borrow_mut().wall += 10_000;
            let retaining = log.clone();
            let done = Rc::new(Cell::new(false));
            let (end, is_done) = (log.marks().log_end, done.clone());
            world.shard().spawn(async move {
                retaining.retain(end).await.unwrap();
                is_done.set(true);
            });
            // It has left the active segment, and waits for the file of the next, while these come.
            let held = Rc::new(Cell::new(true));
            let holds = held.clone();
            world.control.borrow_mut().holds =
                Some(Box::new(move |op| holds.get() && matches!(op, Op::Create { .. })));
            world.shard().yield_now().await;
            assert!(!done.get());
            for _ in 0..40 {
                world.append(&log, &batch_at(-1, -1, -1, 2, 600, 1_000)).unwrap();
            }
            held.set(false);
            while !done.get() {
                world.shard().sleep(Duration::from_micros(1)).await;
            }
            log.wait_durable(log.marks().log_end).await.unwrap();
            assert_eq!(log.marks().log_start, end, "round {round}");
            world.check_all(&log).await;
        }
        log.close().await.unwrap();
    });
}

#[test]
fn a_log_on_a_full_disk_says_so_each_time_it_asks_for_room() {
    let mut world = World::new();
    world.run(config(|_| {}), async move |log, world| {
        let told = Rc::new(Cell::new(0));
        let heard = told.clone();
        log.on_notice(move |notice| match notice {
            Notice::NoSpace => heard.set(heard.get() + 1),
            other => panic!("{other:?}"),
        });
        world.control.borrow_mut().fails =
            Some(Box::new(|op| matches!(op, Op::Prepare { .. }).then_some(std::io::ErrorKind::StorageFull)));
        world.append(&log, &batch_of(-1, -1, -1, 1, 100)).unwrap();
        world.shard().sleep(Duration::from_millis(3_500)).await;
        assert_eq!(told.get(), 4);
        world.control.borrow_mut().fails = None;
        log.wait_durable(1).await.unwrap();
        assert_eq!(told.get(), 4);
    });
}
