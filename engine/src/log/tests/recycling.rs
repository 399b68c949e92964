//! The file of a removed segment is written over as that of a new one, and what it held never comes back.

use super::world::{World, batch_at, batch_of, die_at_each};
use super::{fill, small};
use crate::batch;
use crate::io::Op;
use crate::log::lures::Lures;
use crate::log::*;
use bytes::Bytes;
use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

/// Batches of two records in one segment of `small`.
const SEGMENT: i64 = 48;

fn config() -> LogConfig {
    LogConfig { retention_ms: None, retention_bytes: Some(20_000), ..small() }
}

fn count(world: &World, operation: &str) -> usize {
    world.control.borrow().done.iter().filter(|done| **done == operation).count()
}

/// Lets go of the older segments.
async fn retain(log: &Log) {
    log.settle().await.unwrap();
    log.retain(log.marks().log_end).await.unwrap();
}

/// Fills some segments and lets go of the older ones, until their files are ready.
async fn fill_and_retain(log: &Log, world: &World, batches: i64) {
    fill(log, world, batches).await;
    retain(log).await;
    world.shard().sleep(DELAY).await;
}

/// A little more than `file.delete.delay.ms`.
const DELAY: Duration = Duration::from_secs(61);

/// The names of removed segments' own files.
fn deleted(world: &World) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_string_lossy().ends_with(".log.deleted")).collect()
}

#[test]
fn the_next_segments_take_the_files_of_removed_ones() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 120).await;
        assert_eq!(log.marks().log_start, 3 * SEGMENT);
        // The first segment is not recycled: it was made when the log was opened.
        for segment in 0..2 {
            fill(&log, &world, 24).await;
            assert_eq!(count(&world, "recycle"), 1 + segment);
        }
        world.check_all(&log).await;
        // There is none left.
        fill(&log, &world, 24).await;
        assert_eq!(count(&world, "recycle"), 2);
        world.check_all(&log).await;
    });
    for _ in 0..2 {
        world.run(config(), async move |log, world| {
            assert_eq!(log.marks().log_end, 192 * 2);
            world.check_all(&log).await;
        });
    }
}

#[test]
fn wherever_the_process_dies_nothing_of_what_a_file_held_comes_back() {
    let deaths = die_at_each(1, |mut world, operations| {
        let lived = world.run_until_death(config(), async move |log, world| {
            fill(&log, &world, 120).await;
            retain(&log).await;
            world.control.borrow_mut().operations_left = Some(operations);
            world.shard().sleep(DELAY).await;
            for n in 0..60 {
                world.append(&log, &batch_of(-1, -1, -1, 2, 500 + n)).unwrap();
                log.wait_durable(log.marks().log_end).await.unwrap();
            }
            world.control.borrow_mut().operations_left = None;
            assert_eq!(count(&world, "recycle"), 2);
        });
        for _ in 0..2 {
            world.run(config(), async move |log, world| {
                world.forget_from(log.marks().log_end);
                world.check_all(&log).await;
                world.append(&log, &batch_of(-1, -1, -1, 2, 600)).unwrap();
                log.wait_durable(log.marks().log_end).await.unwrap();
            });
        }
        lived
    });
    assert!(deaths > 100, "the process died at {deaths} places");
}

#[test]
fn in_whichever_sector_the_power_goes_nothing_of_what_a_file_held_comes_back() {
    for len in 600..=640 {
        let mut world = World::new();
        world.run(config(), async move |log, world| {
            let fill = async |batches| {
                for _ in 0..batches {
                    // None is like another.
                    let time = 1_000 + log.marks().log_end;
                    world.append(&log, &batch_at(-1, -1, -1, 1, len, time)).unwrap();
                }
                log.wait_written(log.marks().log_end).await.unwrap();
            };
            fill(120).await;
            retain(&log).await;
            world.shard().sleep(DELAY).await;
            while world.control.borrow().recycled.is_empty() {
                fill(1).await;
            }
            fill(10).await;
        });
        let (path, held) = world.control.borrow_mut().recycled.pop().unwrap();
        let name = path.file_name().unwrap();
        let written = std::fs::read(&path).unwrap();
        for pos in (0..held.len()).step_by(512) {
            let mut copy = world.copy();
            std::fs::write(copy.path().join(name), [&written[..pos], &held[pos..]].concat()).unwrap();
            copy.run(config(), async move |log, world| {
                world.forget_from(log.marks().log_end);
                world.check_all(&log).await;
            });
        }
    }
}

#[test]
fn what_somebody_reads_or_cannot_be_recycled_is_left_alone() {
    let check = |what: &str, tried: &'static str, unready: fn(&World), ready: fn(&World)| {
        let mut world = World::new();
        let what = what.to_owned();
        world.run(config(), async move |log, world| {
            fill(&log, &world, 100).await;
            retain(&log).await;
            unready(&world);
            world.shard().sleep(DELAY).await;
            ready(&world);
            fill(&log, &world, 60).await;
            assert!(count(&world, tried) > 0, "{what}: it was tried");
            assert!(world.control.borrow().recycled.is_empty(), "{what}: in vain");
            assert!(deleted(&world).is_empty(), "{what}: what cannot be recycled is removed");
            world.check_all(&log).await;
            let valid = log.sizes().valid_bytes;
            log.close().await.unwrap();
            assert_eq!(world.bytes_of_segments() as u64, valid, "{what}: nothing is left behind its end");
        });
    };
    let nothing = |_: &World| {};
    let refuse = |world: &World| {
        world.control.borrow_mut().fails = Some(Box::new(|op| {
            matches!(op, Op::Blank { .. } | Op::Recycle { .. }).then_some(std::io::ErrorKind::Unsupported)
        }));
    };
    let remove = |world: &World| deleted(world).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    check("it cannot be made ready", "blank", refuse, nothing);
    check("it is not ready any more", "recycle", nothing, refuse);
    check("it was gone before", "blank", remove, nothing);
    check("it has gone", "recycle", nothing, remove);
    for is_ready in [false, true] {
        let mut world = World::new();
        world.run(config(), async move |log, world| {
            fill(&log, &world, 100).await;
            retain(&log).await;
            let path = deleted(&world).into_iter().max().unwrap();
            let before = std::fs::read(&path).unwrap();
            if is_ready {
                world.shard().sleep(DELAY).await;
            }
            let held = std::fs::read(&path).unwrap();
            assert_eq!(held == before, !is_ready);
            let mut reader = std::fs::File::open(&path).unwrap();
            world.shard().sleep(DELAY).await;
            assert_eq!(path.exists(), is_ready, "it goes when its time has come");
            fill(&log, &world, 100).await;
            world.check_all(&log).await;
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == held, "who reads it reads what it held");
        });
    }
}

#[test]
fn a_device_that_fails_under_a_file_made_ready_takes_the_log_offline() {
    for fails in [|op: &Op| matches!(op, Op::Blank { .. }), |op: &Op| matches!(op, Op::SyncFile { .. })] {
        let mut world = World::new();
        world.run(config(), async move |log, world| {
            fill(&log, &world, 100).await;
            retain(&log).await;
            // Of the errors that have a kind of their own this one is of the device.
            let kind = std::io::ErrorKind::ReadOnlyFilesystem;
            world.control.borrow_mut().fails = Some(Box::new(move |op| fails(op).then_some(kind)));
            world.shard().sleep(DELAY).await;
            assert!(matches!(log.failed(), Some(LogFailed::Storage { .. })));
        });
    }
}

#[test]
fn files_of_another_size_and_from_before_a_cut_are_not_recycled() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        log.configure(LogConfig { segment_bytes: 40 << 10, ..config() });
        fill(&log, &world, 70).await;
        assert_eq!(count(&world, "recycle"), 0, "they are less than half as large");
        log.configure(LogConfig { segment_bytes: 12 << 10, ..config() });
        fill(&log, &world, 30).await;
        assert_eq!(count(&world, "recycle"), 0, "they are larger");
        log.configure(config());
        log.truncate_fully_and_start_at(10).await.unwrap();
        world.forget_from(0);
    });
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        log.truncate_fully_and_start_at(0).await.unwrap();
        world.forget_from(0);
        fill(&log, &world, 60).await;
        assert_eq!(count(&world, "recycle"), 0, "what they held has offsets that are used again");
        world.check_all(&log).await;
    });
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill(&log, &world, 100).await;
        retain(&log).await;
        let held = hold(&world, |op| matches!(op, Op::Blank { .. }));
        world.shard().sleep(DELAY).await;
        log.truncate_fully_and_start_at(0).await.unwrap();
        world.forget_from(0);
        held.set(false);
        fill(&log, &world, 60).await;
        assert_eq!((count(&world, "blank"), count(&world, "recycle")), (1, 0), "it was being made ready");
        world.check_all(&log).await;
    });
}

/// Holds back some operations until the answer is set to false.
fn hold(world: &World, which: fn(&Op) -> bool) -> Rc<Cell<bool>> {
    let held = Rc::new(Cell::new(true));
    let holds = held.clone();
    world.control.borrow_mut().holds = Some(Box::new(move |op| holds.get() && which(op)));
    held
}

#[test]
fn they_go_when_no_new_segment_has_come_for_long() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        assert_eq!(deleted(&world).len(), 1);
        world.shard().sleep(Duration::from_secs(298)).await;
        assert_eq!(deleted(&world).len(), 1);
        world.shard().sleep(Duration::from_secs(2)).await;
        assert_eq!(deleted(&world).len(), 0);
        fill(&log, &world, 60).await;
        assert_eq!(count(&world, "recycle"), 0);
    });
}

#[test]
fn a_full_disk_does_not_wait_for_them() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 120).await;
        assert_eq!(deleted(&world).len(), 2);
        let kept = deleted(&world);
        let fails = kept[0].clone();
        world.control.borrow_mut().fails = Some(Box::new(move |op| {
            let fails = matches!(op, Op::Unlink { path, .. } if *path == fails);
            fails.then_some(std::io::ErrorKind::PermissionDenied)
        }));
        log.remove_put_away().await.unwrap_err();
        assert_eq!(deleted(&world), kept[..1], "one that cannot be removed keeps no other");
        fill(&log, &world, 60).await;
        assert_eq!(count(&world, "recycle"), 0);
        world.check_all(&log).await;
    });
}

#[test]
fn where_the_name_cannot_be_made_durable_the_file_begins_empty() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        let failed = Rc::new(Cell::new(0));
        let fails = failed.clone();
        let cuts = count(&world, "truncate");
        world.control.borrow_mut().fails = Some(Box::new(move |op| {
            let fails_now = matches!(op, Op::SyncDir { .. }) && fails.get() < 2;
            fails_now.then(|| fails.set(fails.get() + 1)).map(|()| std::io::ErrorKind::StorageFull)
        }));
        for n in 0..30 {
            world.append(&log, &batch_of(-1, -1, -1, 2, 600 + n)).unwrap();
        }
        log.wait_durable(log.marks().log_end).await.unwrap();
        assert_eq!((world.control.borrow().recycled.len(), failed.get()), (1, 2));
        assert!(count(&world, "truncate") > cuts);
        world.check_all(&log).await;
    });
    world.run(config(), async move |log, world| {
        assert_eq!(log.marks().log_end, world.end());
        world.check_all(&log).await;
    });
}

#[test]
fn appends_go_on_while_a_file_is_made_ready_or_gets_its_name() {
    for name in ["blank", "recycle"] {
        let mut world = World::new();
        world.run(config(), async move |log, world| {
            fill(&log, &world, 100).await;
            retain(&log).await;
            let held = match name {
                "blank" => hold(&world, |op| matches!(op, Op::Blank { .. })),
                _ => hold(&world, |op| matches!(op, Op::Recycle { .. })),
            };
            world.shard().sleep(DELAY).await;
            for n in 0..60 {
                world.append(&log, &batch_of(-1, -1, -1, 2, 600 + n)).unwrap();
                world.shard().yield_now().await;
            }
            if name == "blank" {
                // Nobody waits for it.
                log.wait_durable(log.marks().log_end).await.unwrap();
            }
            assert_eq!(log.marks().written < log.marks().log_end, name == "recycle");
            // Nothing of it is removed meanwhile.
            world.shard().sleep(Duration::from_secs(400)).await;
            held.set(false);
            log.wait_durable(log.marks().log_end).await.unwrap();
            fill(&log, &world, 60).await;
            assert_eq!((count(&world, name), world.control.borrow().recycled.len()), (1, 1));
            world.check_all(&log).await;
        });
    }
}

/// A batch of one record that holds something from this place of its own on.
fn with(what: &[u8], at: usize) -> Bytes {
    let mut batch = batch_of(-1, -1, -1, 1, 8192).to_vec();
    batch[at..][..what.len()].copy_from_slice(what);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

#[test]
fn what_a_client_has_made_to_look_like_a_later_batch_is_zeroed() {
    let mut forged = batch_of(7, 0, 0, 1, 300).to_vec();
    batch::stamp(&mut forged, 5 * SEGMENT, 0);
    assert_eq!(batch::verify(&forged).unwrap().base_offset, 5 * SEGMENT);
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill(&log, &world, 24).await;
        // The second segment begins with it.
        world.append(&log, &with(&forged, 9 * 512)).unwrap();
        fill_and_retain(&log, &world, 80).await;
        assert!(log.marks().log_start > 2 * SEGMENT);
        fill(&log, &world, 24).await;
        assert_eq!(count(&world, "recycle"), 1);
        let control = world.control.borrow();
        let (_, held) = &control.recycled[0];
        assert!(!held.windows(forged.len()).any(|window| window == forged));
        assert!(held[..4096].iter().any(|byte| *byte != 0), "what lies elsewhere is left as it was");
    });
}

#[test]
fn a_header_is_seen_wherever_a_sector_ends_within_it() {
    let mut forged = batch_of(7, 0, 0, 1, 300).to_vec();
    batch::stamp(&mut forged, 1 << 40, 0);
    let noted = |pos: u64, batch: &[u8]| {
        let mut lures = Lures::default();
        assert!(lures.note(pos, batch));
        lures.positions()
    };
    let plain = with(&[], 0);
    for pos in 8192..8192 + 512 {
        // Its own begins it, and what is left of that may lie in the next sector. From the CRC's end on only the records could be old.
        let own = (8704 - 20..8704).contains(&pos);
        assert_eq!(noted(pos, &plain), if own { vec![8192] } else { vec![] }, "at {pos}");
        let batch = with(&forged, 5000);
        let begin = pos + 5000;
        let within = begin % 512 == 0 || begin % 512 > 512 - 21;
        let expected = within.then(|| begin.next_multiple_of(512) / 4096 * 4096);
        assert_eq!(
            noted(pos, &batch),
            own.then_some(8192).into_iter().chain(expected).collect::<Vec<_>>(),
            "at {pos}"
        );
    }
    // Up to the end of the batch, as far as it can be told.
    for len in 0..forged.len() {
        let mut batch = plain[..2048].to_vec();
        batch.extend(&forged[..len]);
        assert_eq!(noted(0, &batch).len(), usize::from(len >= 17), "{len} bytes");
    }
}

#[test]
fn a_segment_of_small_batches_is_not_recycled() {
    let mut world = World::new();
    let config = LogConfig { segment_bytes: 1 << 20, retention_bytes: Some(1 << 20), ..config() };
    for (bytes, recycled) in [(100, 0), (4000, 1)] {
        world.run(config.clone(), async move |log, world| {
            let fill = async |to: u64| {
                while log.sizes().valid_bytes < to {
                    world.append(&log, &batch_of(-1, -1, -1, 1, bytes)).unwrap();
                }
                log.wait_written(log.marks().log_end).await.unwrap();
            };
            fill(5 << 20).await;
            retain(&log).await;
            world.shard().sleep(DELAY).await;
            fill(3 << 20).await;
            assert_eq!(count(&world, "recycle").min(1), recycled, "batches of {bytes} bytes");
            log.truncate_fully_and_start_at(log.marks().log_end).await.unwrap();
            world.forget_from(log.marks().log_end);
        });
    }
}

#[test]
fn what_a_recycled_file_held_is_no_trace_of_a_crash() {
    // The first block of a write was lost, and what came behind it was not.
    let tear = |world: &World| {
        let path = world.segment_files().pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let behind = end.next_multiple_of(4096);
        bytes[behind..behind + 4096].fill(7);
        std::fs::write(&path, bytes).unwrap();
    };
    for removed in [false, true] {
        let mut world = World::new();
        world.run(config(), async move |log, world| {
            fill(&log, &world, 60).await;
            if removed {
                log.delete_before(SEGMENT).await.unwrap();
            }
        });
        tear(&world);
        world.run(config(), async move |log, world| world.check_all(&log).await);
        assert_eq!(world.recovered.torn, !removed);
    }
}
