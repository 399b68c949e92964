//! What happens to a log while something else is under way in it.

use super::super::*;
use super::world::{World, batch, batch_of, joined};
use super::{fill, small};
use crate::batch::Header;
use crate::io::Op;
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

#[test]
fn what_is_written_during_a_sync_becomes_durable_though_nothing_follows() {
    let mut world = World::new();
    world.run(LogConfig::default(), async |log, world| {
        let slow = Rc::new(Cell::new(true));
        let held = slow.clone();
        world.control.borrow_mut().holds =
            Some(Box::new(move |op| matches!(op, Op::Sync { .. }) && held.get()));
        world.append(&log, &batch(1, 100)).unwrap();
        log.wait_written(1).await.unwrap();
        // Nobody waits for it: the sync comes by itself.
        while !log.0.state.borrow().syncer_runs {
            world.shard().sleep(log.config().sync_delay).await;
        }
        world.append(&log, &batch(1, 100)).unwrap();
        log.wait_written(2).await.unwrap();
        slow.set(false);
        world.shard().sleep(20 * log.config().sync_delay).await;
        assert_eq!(log.marks().durable, 2);
    });
}

#[test]
fn who_waits_for_a_record_that_was_cut_is_told_though_another_took_its_place() {
    let mut world = World::new();
    world.run(small(), async |log, world| {
        fill(&log, &world, 50).await;
        let (below, written, durable) = (log.wait_durable(40), log.wait_written(60), log.wait_durable(100));
        assert_eq!(log.truncate_to(50).await.unwrap(), 50);
        world.forget_from(50);
        fill(&log, &world, 50).await;
        log.wait_durable(150).await.unwrap();
        below.await.unwrap();
        assert!(matches!(written.await, Err(LogFailed::Truncated)));
        assert!(matches!(durable.await, Err(LogFailed::Truncated)));
        world.check_all(&log).await;
    });
}

#[test]
fn truncation_knows_the_producers_where_a_snapshot_is_lost() {
    for target in 3..58 {
        let mut world = World::new();
        world.run(small(), async move |log, world| {
            for n in 0..60 {
                world.append(&log, &batch_of(7, 0, n, 1, 700)).unwrap();
            }
            log.settle().await.unwrap();
            for entry in std::fs::read_dir(world.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "snapshot") {
                    std::fs::remove_file(path).unwrap();
                }
            }
            assert_eq!(log.truncate_to(target).await.unwrap(), target);
            world.forget_from(target);
            let last = i32::try_from(target).unwrap() - 1;
            let again = log.append(&batch_of(7, 0, last, 1, 700), world.leader()).unwrap();
            assert_eq!((again.base_offset, again.duplicate), (target - 1, true));
            world.append(&log, &batch_of(7, 0, last + 1, 1, 700)).unwrap();
            log.wait_written(target + 1).await.unwrap();
            world.check_all(&log).await;
        });
    }
}

/// Holds back who opens the first segment, until told otherwise.
fn hold_opens(world: &World) -> Rc<Cell<bool>> {
    let held = Rc::new(Cell::new(true));
    let holds = held.clone();
    let first = |path: &Path| path.ends_with("00000000000000000000.log");
    world.control.borrow_mut().holds =
        Some(Box::new(move |op| matches!(op, Op::Open { path, .. } if first(path)) && holds.get()));
    held
}

type Answer = Rc<RefCell<Option<Result<Vec<u8>, ReadError>>>>;

/// Reads one batch in a task of its own.
fn start_read(log: &Log, world: &World, offset: Offset) -> Answer {
    let slot = Rc::new(RefCell::new(None));
    let (log, result) = (log.clone(), slot.clone());
    world.shard().spawn(async move {
        let limit = ReadLimit { up_to: log.marks().written, bytes_max: 1, at_least_one: true };
        let read = log.read(offset, limit).await;
        *result.borrow_mut() = Some(read.map(|parts| joined(&parts)));
    });
    slot
}

async fn turns(world: &World, turns: usize) {
    for _ in 0..turns {
        world.shard().sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn readers_of_many_segments_do_not_lead_each_other_past_anything() {
    let mut world = World::new();
    world.cache_bytes = 0;
    world.run(small(), async |log, world| {
        fill(&log, &world, 400).await;
        log.close().await.unwrap();
    });
    world.run(small(), async |log, world| {
        assert!(world.segments() > 2 * crate::limits::SEALED_INDEXES_MAX);
        let held = hold_opens(&world);
        let slow = start_read(&log, &world, 3);
        turns(&world, 20).await;
        // Others come with the indexes of all other segments, for which its own make room.
        for offset in (60..800).step_by(10) {
            let read = start_read(&log, &world, offset);
            while read.borrow().is_none() {
                turns(&world, 1).await;
            }
        }
        held.set(false);
        while slow.borrow().is_none() {
            turns(&world, 1).await;
        }
        let bytes = slow.take().unwrap().unwrap();
        assert_eq!(Header::parse(&bytes).unwrap().base_offset, 2);
    });
}

#[test]
fn what_is_deleted_while_it_is_read_is_out_of_range_and_no_failure() {
    let mut world = World::new();
    world.cache_bytes = 0;
    world.run(small(), async |log, world| {
        fill(&log, &world, 100).await;
        log.settle().await.unwrap();
        let held = hold_opens(&world);
        let read = start_read(&log, &world, 3);
        turns(&world, 20).await;
        log.delete_before(150).await.unwrap();
        held.set(false);
        turns(&world, 20).await;
        let read = read.take().expect("answered");
        assert!(matches!(read, Err(ReadError::OutOfRange { log_start: 150, .. })), "{read:?}");
    });
}
