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

/// Fills some segments and lets go of the older ones.
async fn fill_and_retain(log: &Log, world: &World, batches: i64) {
    fill(log, world, batches).await;
    log.settle().await.unwrap();
    log.retain(log.marks().log_end).await.unwrap();
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
            fill_and_retain(&log, &world, 120).await;
            world.control.borrow_mut().operations_left = Some(operations);
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
            log.settle().await.unwrap();
            log.retain(log.marks().log_end).await.unwrap();
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
    let check = |what: &str, before: fn(&World)| {
        let mut world = World::new();
        let what = what.to_owned();
        world.run(config(), async move |log, world| {
            fill_and_retain(&log, &world, 100).await;
            before(&world);
            fill(&log, &world, 60).await;
            assert!(count(&world, "recycle") > 0, "{what}: it was tried");
            world.check_all(&log).await;
            let valid = log.sizes().valid_bytes;
            log.close().await.unwrap();
            assert_eq!(world.bytes_of_segments() as u64, valid, "{what}: nothing is left behind its end");
        });
    };
    check("it fails", |world| {
        world.control.borrow_mut().fails =
            Some(Box::new(|op| matches!(op, Op::Recycle { .. }).then_some(std::io::ErrorKind::Unsupported)));
    });
    check("its file is gone", |world| {
        for entry in std::fs::read_dir(world.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "deleted") {
                std::fs::remove_file(path).unwrap();
            }
        }
    });
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        let path = world.path().join(format!("{:020}.log.deleted", SEGMENT));
        let held = std::fs::read(&path).unwrap();
        let mut reader = std::fs::File::open(&path).unwrap();
        fill(&log, &world, 100).await;
        world.check_all(&log).await;
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == held, "who reads it reads what it held");
    });
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
}

#[test]
fn they_go_when_no_new_segment_has_come_for_long() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        let deleted = || {
            let entries = std::fs::read_dir(world.path()).unwrap();
            let is_deleted =
                |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deleted");
            entries.map(|entry| entry.unwrap().path()).filter(is_deleted).count()
        };
        assert!(deleted() > 0);
        world.shard().sleep(Duration::from_secs(299)).await;
        assert!(deleted() > 0);
        world.shard().sleep(Duration::from_secs(2)).await;
        assert_eq!(deleted(), 0);
        fill(&log, &world, 60).await;
        assert_eq!(count(&world, "recycle"), 0);
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
fn appends_go_on_while_a_file_is_made_ready() {
    let mut world = World::new();
    world.run(config(), async move |log, world| {
        fill_and_retain(&log, &world, 100).await;
        let held = Rc::new(Cell::new(true));
        let holds = held.clone();
        world.control.borrow_mut().holds =
            Some(Box::new(move |op| holds.get() && matches!(op, Op::Recycle { .. })));
        for n in 0..60 {
            world.append(&log, &batch_of(-1, -1, -1, 2, 600 + n)).unwrap();
            world.shard().yield_now().await;
        }
        assert!(log.marks().written < log.marks().log_end);
        // Nothing of it is removed meanwhile.
        world.shard().sleep(Duration::from_secs(400)).await;
        held.set(false);
        log.wait_durable(log.marks().log_end).await.unwrap();
        assert!(!world.control.borrow().recycled.is_empty());
        world.check_all(&log).await;
    });
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
        fill(&log, &world, 80).await;
        log.settle().await.unwrap();
        log.retain(log.marks().log_end).await.unwrap();
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
            log.settle().await.unwrap();
            log.retain(log.marks().log_end).await.unwrap();
            fill(3 << 20).await;
            assert_eq!(count(&world, "recycle").min(1), recycled, "batches of {bytes} bytes");
            log.truncate_fully_and_start_at(log.marks().log_end).await.unwrap();
            world.forget_from(log.marks().log_end);
        });
    }
}
