//! A partition that another broker wrote: looked through, taken over, opened.

use super::super::survey::{SurveyError, survey, take_over};
use super::super::*;
use super::world::World;
use crate::batch::{self, Codec};
use crate::records::Builder;
use bytes::Bytes;

const PLAIN: i64 = -1;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// A batch of ten records, of a transaction if a producer is given.
fn written(producer: i64, base: Offset) -> Bytes {
    let builder = Builder::new(Codec::None);
    let mut builder =
        if producer == PLAIN { builder } else { builder.producer(producer, 0, 0).transactional() };
    for n in 0..10 {
        builder.push(1_000 + n, None, Some(&[7; 100]), &[]);
    }
    at(builder, base)
}

/// The end of a producer's transaction.
fn marker(producer: i64, says: i16, base: Offset) -> Bytes {
    let mut builder = Builder::new(Codec::None).producer(producer, 0, -1).transactional().control();
    let key = [&0_i16.to_be_bytes()[..], &says.to_be_bytes()].concat();
    builder.push(2_000, Some(&key), Some(&[0; 6]), &[]);
    at(builder, base)
}

fn at(builder: Builder, base: Offset) -> Bytes {
    let mut bytes = builder.build().to_vec();
    batch::stamp(&mut bytes, base, 3);
    bytes.into()
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 3_000, ..LogConfig::default() }
}

/// A log with a gap, and two aborted transactions around a committed one, in several segments.
fn log_of_another() -> World {
    let mut world = World::new();
    world.run(config(), async |log, _| {
        for batch in [
            written(PLAIN, 0),
            written(5, 10),
            written(6, 20),
            marker(5, ABORT, 30),
            written(PLAIN, 40),
            marker(6, COMMIT, 50),
            written(7, 51),
            marker(7, ABORT, 61),
            written(PLAIN, 62),
        ] {
            log.append_as_follower(&batch, i32::MAX).unwrap();
        }
        log.wait_durable(72).await.unwrap();
        log.close().await.unwrap();
    });
    world
}

/// Aborted transactions as (producer, first offset, marker, all decided before).
fn aborted(log: &Log, from: Offset, up_to: Offset) -> Vec<(i64, Offset, Offset, Offset)> {
    let found = log.aborted_transactions(from, up_to);
    found
        .iter()
        .map(|one| (one.producer_id, one.first_offset, one.last_offset, one.last_stable_offset))
        .collect()
}

const FIRST: (i64, Offset, Offset, Offset) = (5, 10, 30, 20);
const SECOND: (i64, Offset, Offset, Offset) = (7, 51, 61, 62);

/// Looks through the partition and takes it over.
fn take(world: &mut World) {
    let place = LogDir { dir: DirId(0), path: world.path() };
    world.without_log(async move |shard| {
        let found = survey(shard.io(), &place).await.unwrap();
        assert_eq!((found.first, found.end, found.batches, found.records), (0, 72, 9, 63));
        assert_eq!((found.aborted, found.torn_bytes), (2, 0));
        assert_eq!(take_over(shard.io(), &place).await.unwrap(), found);
    });
}

#[test]
fn aborted_transactions_are_known_to_readers_of_committed_records() {
    let mut world = log_of_another();
    take(&mut world);
    for _ in 0..2 {
        world.run(config(), async |log, _| {
            assert_eq!(aborted(&log, 0, 72), [FIRST, SECOND]);
            assert_eq!(aborted(&log, 30, 72), [FIRST, SECOND], "the marker itself");
            assert_eq!(aborted(&log, 31, 72), [SECOND]);
            assert_eq!(aborted(&log, 0, 51), [FIRST]);
            assert_eq!(aborted(&log, 62, 72), []);
            log.close().await.unwrap();
        });
    }
}

#[test]
fn a_reader_is_told_of_the_transactions_in_what_it_gets_and_of_no_others() {
    let mut world = log_of_another();
    take(&mut world);
    world.run(config(), async |log, _| {
        let told = async |from, bytes_max| {
            let limit = ReadLimit { up_to: 72, bytes_max, at_least_one: true };
            let parts = log.read_with_files(from, limit).await.unwrap();
            let told = log.aborted_in(from, &parts);
            (parts.end, told.iter().map(|one| one.producer_id).collect::<Vec<_>>())
        };
        // A batch at a time.
        assert_eq!(told(0, 1).await, (10, vec![]), "nothing before it");
        assert_eq!(told(10, 1).await, (20, vec![5]));
        assert_eq!(told(20, 1).await, (30, vec![5]), "open all the while");
        assert_eq!(told(40, 1).await, (50, vec![]));
        assert_eq!(told(51, 1).await, (61, vec![7]));
        assert_eq!(told(62, 1).await, (72, vec![]));
        assert_eq!(told(72, 1).await.1, []);
        // What one read gets of the first segment.
        let (end, producers) = told(0, 1 << 20).await;
        assert!((20..=50).contains(&end), "{end}");
        assert_eq!(producers, [5]);
        log.close().await.unwrap();
    });
}

#[test]
fn the_end_of_what_is_sent_from_a_file_is_known_from_its_index() {
    let mut world = World::new();
    let config = || LogConfig { segment_bytes: 400_000, ..LogConfig::default() };
    world.run(config(), async |log, _| {
        for n in 0..500 {
            log.append_as_follower(&written(PLAIN, 10 * n), i32::MAX).unwrap();
        }
        log.wait_durable(5000).await.unwrap();
        log.close().await.unwrap();
    });
    world.run(config(), async |log, _| {
        let mut from_files = 0;
        for bytes_max in [100_000, 200_000, 1 << 20] {
            let mut from = 0;
            while from < 5000 {
                let limit = ReadLimit { up_to: 5000, bytes_max, at_least_one: true };
                let in_memory = log.read(from, limit).await.unwrap();
                let batches = in_memory.bytes as i64 / written(PLAIN, 0).len() as i64;
                assert_eq!(in_memory.end, from + 10 * batches);
                let parts = log.read_with_files(from, limit).await.unwrap();
                let batches = parts.bytes as i64 / written(PLAIN, 0).len() as i64;
                if let [ReadPart::File { .. }] = parts.parts[..] {
                    from_files += 1;
                    // The index knows of a batch its last offset alone.
                    let end = from + 10 * batches;
                    assert!((end..end + 10).contains(&parts.end), "{} of {end}", parts.end);
                }
                from += 10 * batches;
            }
        }
        assert!(from_files > 5, "only {from_files} reads came from a file");
    });
}

#[test]
fn what_is_cut_off_was_never_aborted() {
    let mut world = log_of_another();
    take(&mut world);
    world.run(config(), async |log, _| {
        assert_eq!(log.truncate_to(61).await.unwrap(), 61, "the marker goes");
        assert_eq!(aborted(&log, 0, 100), [FIRST]);
        // Others get the offsets.
        log.append_as_follower(&written(PLAIN, 61), i32::MAX).unwrap();
        log.wait_durable(71).await.unwrap();
        log.close().await.unwrap();
    });
    world.run(config(), async |log, _| {
        assert_eq!(aborted(&log, 0, 100), [FIRST]);
        log.truncate_fully_and_start_at(5).await.unwrap();
        assert_eq!(aborted(&log, 0, 100), []);
    });
}

#[test]
fn a_cut_that_a_crash_interrupted_leaves_no_transaction_of_what_is_gone() {
    let mut world = log_of_another();
    take(&mut world);
    let index = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut index: Vec<_> = index.filter(|path| path.extension().is_some_and(|e| e == "txnindex")).collect();
    index.sort();
    let last = index.pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    world.run(config(), async |log, _| {
        log.truncate_to(61).await.unwrap();
        log.close().await.unwrap();
    });
    // As if the process had died before it came to the index.
    std::fs::write(&last, bytes).unwrap();
    world.run(config(), async |log, _| {
        assert_eq!(aborted(&log, 0, 100), [FIRST]);
        log.append_as_follower(&written(PLAIN, 61), i32::MAX).unwrap();
        log.wait_durable(71).await.unwrap();
    });
    world.run(config(), async |log, _| assert_eq!(aborted(&log, 0, 100), [FIRST]));
}

#[test]
fn damage_and_open_transactions_are_told_and_a_torn_end_is_cut() {
    let mut world = log_of_another();
    let place = LogDir { dir: DirId(0), path: world.path() };
    let mut logs: Vec<_> =
        std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.sort();
    assert!(logs.len() >= 3, "{logs:?}");
    let (first, last) = (logs.first().unwrap(), logs.last().unwrap());
    let (first_bytes, last_bytes) = (std::fs::read(first).unwrap(), std::fs::read(last).unwrap());

    let mut look = |what: &'static str| {
        let place = place.clone();
        world.without_log(async move |shard| {
            let found = survey(shard.io(), &place).await;
            match what {
                "torn" => assert!(found.is_ok_and(|found| found.torn_bytes == 99), "{what}"),
                "damaged" => assert!(matches!(found, Err(SurveyError::Damaged { pos: 0, .. })), "{found:?}"),
                _ => assert!(
                    matches!(found, Err(SurveyError::OpenTransaction { producer_id: 9, first_offset: 72 })),
                    "{found:?}"
                ),
            }
        });
    };
    std::fs::write(last, [&last_bytes[..], &written(PLAIN, 72)[..99]].concat()).unwrap();
    look("torn");
    std::fs::write(last, [&last_bytes[..], &written(9, 72)].concat()).unwrap();
    look("open");
    let mut damaged = first_bytes.clone();
    damaged[70] ^= 1;
    std::fs::write(first, damaged).unwrap();
    look("damaged");
}
