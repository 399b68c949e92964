//! Starting and stopping the shards' threads.

use super::BareDriver;
use crate::shard::{Placement, ShardId, StartError, Stop, run};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn each_shard_runs_pinned_with_its_part_and_answers_in_order() {
    let cores = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|&core| cores.is_set(core)).unwrap();
    let answers = run(
        &Placement::Pinned(vec![first, first]),
        vec!["a", "b"],
        |_| Ok(Box::new(BareDriver::default())),
        |shard, part| {
            let allowed = rustix::thread::sched_getaffinity(None).unwrap();
            async move { (shard.id(), part, allowed.count()) }
        },
    )
    .unwrap();
    assert_eq!(answers, [(ShardId(0), "a", 1), (ShardId(1), "b", 1)]);
}

#[test]
fn no_main_begins_when_one_driver_cannot_be_made() {
    let begun = AtomicU32::new(0);
    let error = run(
        &Placement::Floating(3),
        vec![(); 3],
        |id| match id {
            ShardId(1) => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(Box::new(BareDriver::default())),
        },
        |_, ()| {
            begun.fetch_add(1, Ordering::Relaxed);
            async {}
        },
    )
    .unwrap_err();
    assert!(matches!(error, StartError::Driver { shard: ShardId(1), .. }), "{error}");
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[test]
fn a_processor_that_is_not_there_is_an_error() {
    let error = run(
        &Placement::Pinned(vec![rustix::thread::CpuSet::MAX_CPU]),
        vec![()],
        |_| Ok(Box::new(BareDriver::default())),
        |_, ()| async {},
    )
    .unwrap_err();
    assert!(matches!(error, StartError::Thread { shard: ShardId(0), .. }), "{error}");
}

#[test]
fn all_shards_stop_when_one_asks() {
    let stop = Stop::default();
    let asked = run(
        &Placement::Floating(2),
        vec![stop.clone(), stop],
        |_| Ok(Box::new(BareDriver::default())),
        |shard, stop| async move {
            if shard.id() == ShardId(1) {
                stop.ask();
            }
            stop.wait().await;
            stop.asked()
        },
    )
    .unwrap();
    assert_eq!(asked, [true, true]);
}
