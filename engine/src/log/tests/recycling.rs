//! The file of a removed segment is written over as that of a new one, and what it held never comes back.

use super::world::{World, batch_of, die_at_each};
use super::{fill, small};
use crate::batch::{self, HEADER_LEN, Header};
use crate::io::Op;
use crate::log::*;
use bytes::Bytes;
use std::io::Read;
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

/// A batch of one record, which holds something where the fourth sector begins, if it is the first of its segment.
fn with_in_fourth_sector(what: &[u8]) -> Bytes {
    let mut batch = batch_of(-1, -1, -1, 1, 8192).to_vec();
    batch[3 * 512..][..what.len()].copy_from_slice(what);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

#[test]
fn what_a_client_has_made_to_look_like_a_later_batch_is_not_written_over() {
    let check = |what: &str, offset: i64, recycled: usize| {
        let mut forged = batch_of(7, 0, 0, 1, 300).to_vec();
        batch::stamp(&mut forged, offset, 0);
        assert_eq!(batch::verify(&forged).unwrap().base_offset, offset);
        let what = what.to_owned();
        let mut world = World::new();
        world.run(config(), async move |log, world| {
            fill(&log, &world, 24).await;
            // The second segment begins with it.
            world.append(&log, &with_in_fourth_sector(&forged)).unwrap();
            fill(&log, &world, 80).await;
            log.settle().await.unwrap();
            log.retain(log.marks().log_end).await.unwrap();
            assert!(log.marks().log_start > 2 * SEGMENT);
            fill(&log, &world, 24).await;
            fill(&log, &world, 24).await;
            assert_eq!(count(&world, "recycle"), recycled, "{what}");
            world.check_all(&log).await;
        });
    };
    check("it has been", 3, 2);
    check("it is to come", 500, 1);
    check("it comes after the next segments", 500 + (1 << 31), 2);
    check("it is itself", SEGMENT, 2);
    check("it has been by then", SEGMENT + 1, 2);
    check("it never comes", 1 << 60, 2);
}

#[test]
fn what_may_be_taken_for_a_batch_is_seen_wherever_it_begins() {
    let batch = batch_of(-1, -1, -1, 2, 9000);
    let header = Header { base_offset: 70_000, leader_epoch: 3, ..batch::verify(&batch).unwrap() };
    let mut stamped = batch.to_vec();
    batch::stamp(&mut stamped, header.base_offset, header.leader_epoch);
    for at in 1..batch.len() {
        let lure = batch::lure_at(&batch, at, &header);
        assert_eq!(lure, batch::lure_at(&stamped, at, &header), "stamped or not, at {at}");
        // As it would be read there: behind it lies the next.
        let mut read = stamped[at..].to_vec();
        read.extend(70_002_i64.to_be_bytes());
        read.extend([2; HEADER_LEN]);
        let offset = i64::from_be_bytes(*read.first_chunk().unwrap());
        assert!(lure.is_none_or(|lure| lure == offset && offset >= 70_002), "at {at}");
        // Another one lies there, whole or up to the end.
        let (mut other, len) = (stamped.clone(), HEADER_LEN + 50);
        let mut forged = batch_of(-1, -1, -1, 1, 50).to_vec();
        batch::stamp(&mut forged, 80_000, 3);
        let end = (at + len).min(other.len());
        if at >= HEADER_LEN {
            other[at..end].copy_from_slice(&forged[..end - at]);
            let expected = if end - at < 8 { None } else { Some(80_000) };
            assert!(expected.is_none() || batch::lure_at(&other, at, &header) == expected, "at {at}");
            if end - at == len {
                other[at + 90] ^= 1;
                assert_eq!(batch::lure_at(&other, at, &header), None, "its CRC fails, at {at}");
            }
        }
    }
}
