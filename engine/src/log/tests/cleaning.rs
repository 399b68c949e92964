//! Compaction on real files: the last record of each key stays, where it was, whatever happens meanwhile.

use super::small;
use super::world::{World, die_at_each, joined};
use crate::batch::{self, Codec, Header};
use crate::log::*;
use crate::records::{Builder, decode};
use bytes::Bytes;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

const LIMITS: CleanerLimits =
    CleanerLimits { map_bytes: 1 << 20, load_factor: 0.9, bytes_per_second: f64::INFINITY };

fn compacted() -> LogConfig {
    LogConfig { compact: true, delete: false, min_cleanable_dirty_ratio: 0.0, ..small() }
}

/// What a consumer who reads from the start ends up with: the value and offset of each key. `None` for a mark of deletion.
type Table = BTreeMap<Vec<u8>, (Offset, Option<Vec<u8>>)>;

/// All records that are there, in order.
async fn records(log: &Log) -> Vec<crate::records::Record> {
    let marks = log.marks();
    let mut found = Vec::new();
    let mut from = marks.log_start;
    while from < marks.written {
        let limit = ReadLimit { up_to: marks.written, bytes_max: 3_000, at_least_one: true };
        let bytes = Bytes::from(joined(&log.read(from, limit).await.expect("read")));
        if bytes.is_empty() {
            break;
        }
        let mut at = 0;
        while let Some(len) = batch::whole_len(&bytes[at..]) {
            let bytes = bytes.slice(at..at + len);
            let header = batch::verify(&bytes).expect("a batch");
            assert!(header.next_offset() > from, "offsets go forward");
            let records = decode(&bytes, 1 << 20).unwrap();
            if !records.is_empty() {
                let time = header.delete_horizon().map_or(header.base_timestamp, |_| header.max_timestamp);
                assert_eq!(log.time_from(from).await.expect("looked up"), Some(time), "at {from}");
            }
            found.extend(records.into_iter().filter(|record| record.offset >= from));
            from = header.next_offset();
            at += len;
        }
    }
    assert!(found.is_sorted_by(|one, next| one.offset < next.offset));
    found
}

fn table(records: &[crate::records::Record]) -> Table {
    let entry = |record: &crate::records::Record| {
        (
            record.key.clone().unwrap().to_vec(),
            (record.offset, record.value.clone().map(|value| value.to_vec())),
        )
    };
    records.iter().map(entry).collect()
}

/// What has been written to a log of keys.
#[derive(Default, Clone)]
struct Writer {
    written: Table,
    count: u64,
}

impl Writer {
    /// Appends so many batches of three records of forty keys; one in seven records deletes its key.
    async fn write(&mut self, log: &Log, world: &World, batches: u64, producer: Option<i64>) {
        for _ in 0..batches {
            let codec = CODECS[self.count as usize % CODECS.len()];
            let mut builder = Builder::new(codec);
            if let Some(id) = producer {
                builder = builder.producer(id, 0, 3 * self.count as i32);
            }
            let base = log.marks().log_end;
            for n in 0..3 {
                let number = 3 * self.count + n;
                let key = format!("key {}", number * 7919 % 40).into_bytes();
                let noise = (0..100).map(|at| (number * 31 + at * at * 17 + at * number) as u8);
                let value = (number % 7 != 3)
                    .then(|| format!("{number} ").into_bytes().into_iter().chain(noise).collect());
                let time = world.control.borrow().wall;
                builder.push(time, Some(&key), value.as_deref(), &[]);
                self.written.insert(key, (base + n as i64, value));
            }
            self.count += 1;
            log.append(&builder.build(), world.leader()).unwrap();
        }
        log.wait_durable(log.marks().log_end).await.unwrap();
        log.settle().await.unwrap();
    }

    /// The log tells what was written. Marks of deletion may be gone.
    async fn check(&self, log: &Log) -> usize {
        let records = records(log).await;
        let found = table(&records);
        for (key, (offset, value)) in &self.written {
            let key_text = String::from_utf8_lossy(key);
            match found.get(key) {
                Some(found) => assert_eq!(found, &(*offset, value.clone()), "{key_text}"),
                None => assert_eq!(*value, None, "{key_text} at {offset} is lost"),
            }
        }
        assert!(found.keys().all(|key| self.written.contains_key(key)));
        records.len()
    }
}

async fn clean(log: &Log) -> Option<Cleaned> {
    Box::pin(log.clean(LIMITS, log.marks().durable)).await.expect("cleaned")
}

#[test]
fn the_last_record_of_each_key_stays_where_it_was() {
    let mut world = World::new();
    let writer = Rc::new(RefCell::new(Writer::default()));
    let shared = writer.clone();
    world.run(compacted(), async move |log, world| {
        let mut writer = Writer::default();
        writer.write(&log, &world, 400, None).await;
        let (before, end) = (log.sizes(), log.marks().log_end);
        let dirty = log.dirtiness(end).await.unwrap().unwrap();
        assert!(dirty.is_due && dirty.ratio == 1.0 && dirty.dirty_bytes > before.valid_bytes / 2);
        let cleaned = clean(&log).await.expect("something");
        assert!(cleaned.bytes_written < cleaned.bytes_before / 3, "{cleaned:?}");
        let after = log.sizes();
        assert!(after.valid_bytes < before.valid_bytes / 3, "{before:?} to {after:?}");
        assert_eq!(log.marks().log_end, end);
        let left = writer.check(&log).await;
        assert!(left < 400, "{left} records of 1200 are left");
        // Nothing is dirty any more.
        let dirty = log.dirtiness(end).await.unwrap().unwrap();
        assert_eq!((dirty.dirty_bytes, dirty.is_due), (0, false));
        assert_eq!(clean(&log).await, None);
        // From each offset the next record there is.
        let all = records(&log).await;
        for from in (0..end).step_by(7) {
            let limit = ReadLimit { up_to: end, bytes_max: 1, at_least_one: true };
            let bytes = Bytes::from(joined(&log.read(from, limit).await.unwrap()));
            let header = Header::parse(&bytes).unwrap();
            assert!(header.last_offset() >= from);
            let next = all.iter().find(|record| record.offset >= from).map(|record| record.offset);
            if header.record_count > 0 && header.base_offset >= from {
                assert_eq!(decode(&bytes, 1 << 20).unwrap().first().map(|record| record.offset), next);
            }
        }
        // Again and again, and over a stop.
        for _ in 0..3 {
            writer.write(&log, &world, 100, None).await;
            clean(&log).await.expect("something");
            writer.check(&log).await;
        }
        assert!(log.sizes().segments <= 4, "{:?}", log.sizes());
        log.close().await.unwrap();
        *shared.borrow_mut() = writer;
    });
    world.run(compacted(), async move |log, world| {
        let mut writer = writer.borrow().clone();
        writer.check(&log).await;
        writer.write(&log, &world, 100, None).await;
        let dirty = log.dirtiness(log.marks().durable).await.unwrap().unwrap();
        assert!(dirty.ratio < 1.0, "what was cleaned before is clean: {dirty:?}");
        clean(&log).await.expect("something");
        writer.check(&log).await;
        log.close().await.unwrap();
    });
}

#[test]
fn marks_of_deletion_go_after_their_time() {
    let mut world = World::new();
    let config = LogConfig { delete_retention_ms: 10_000, ..compacted() };
    world.run(config, async move |log, world| {
        let mut writer = Writer::default();
        let cleaned_to = Cell::new(0);
        let deletions = |records: &[crate::records::Record]| {
            records.iter().filter(|record| record.value.is_none() && record.offset < cleaned_to.get()).count()
        };
        writer.write(&log, &world, 300, None).await;
        writer.write(&log, &world, 1, None).await;
        clean(&log).await.unwrap();
        cleaned_to.set(log.0.state.borrow().active().base);
        let marked = deletions(&records(&log).await);
        assert!(marked > 0);
        // A round that comes too soon leaves them, the next one does not.
        for (later, left) in [(9_000, true), (2_000, false)] {
            world.control.borrow_mut().wall += later;
            // Other keys.
            for n in 0..40 {
                let mut builder = Builder::new(Codec::None);
                let key = format!("another {n} {later}");
                builder.push(world.control.borrow().wall, Some(key.as_bytes()), Some(&[1; 600]), &[]);
                log.append(&builder.build(), world.leader()).unwrap();
            }
            log.wait_durable(log.marks().log_end).await.unwrap();
            log.settle().await.unwrap();
            clean(&log).await.expect("something");
            let found = deletions(&records(&log).await);
            assert_eq!(found > 0, left, "{found} of {marked} marks after {later} more ms");
        }
    });
}

#[test]
fn a_producer_is_known_by_its_last_batch_though_its_records_are_gone() {
    let mut world = World::new();
    world.run(compacted(), async move |log, world| {
        let sent = |key: &[u8], sequence| {
            let mut builder = Builder::new(Codec::Lz4).producer(5, 0, sequence);
            builder.push(1_000, Some(key), Some(b"v"), &[]);
            builder.build()
        };
        for sequence in 0..3 {
            log.append(&sent(b"key 1", sequence), world.leader()).unwrap();
        }
        let mut writer = Writer::default();
        writer.write(&log, &world, 300, None).await;
        clean(&log).await.unwrap();
        let limit = ReadLimit { up_to: log.marks().written, bytes_max: 1, at_least_one: true };
        let first = Header::parse(&joined(&log.read(0, limit).await.unwrap())).unwrap();
        assert_eq!(
            (first.base_offset, first.record_count, first.base_sequence),
            (2, 0, 2),
            "its header is left"
        );
        // Where nothing else tells the producers, they are read from what is left.
        let again = log.append(&sent(b"key 1", 2), world.leader()).unwrap();
        assert!(again.duplicate && again.base_offset == 2);
        for name in std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if name.extension().is_some_and(|extension| extension == "snapshot") {
                std::fs::remove_file(name).unwrap();
            }
        }
        log.truncate_to(900).await.unwrap();
        let again = log.append(&sent(b"key 1", 2), world.leader()).unwrap();
        assert!(again.duplicate && again.base_offset == 2);
    });
}

#[test]
fn a_map_that_is_too_small_takes_several_rounds() {
    let mut world = World::new();
    world.run(compacted(), async move |log, world| {
        let mut writer = Writer::default();
        writer.write(&log, &world, 400, None).await;
        let limits = CleanerLimits { map_bytes: 24 * 20, ..LIMITS };
        let mut rounds = 0;
        while Box::pin(log.clean(limits, log.marks().durable)).await.unwrap().is_some() {
            rounds += 1;
            writer.check(&log).await;
            assert!(rounds < 200);
        }
        assert!(rounds > 5, "{rounds}");
        let left = writer.check(&log).await;
        assert!(left < 600, "{left}");
    });
}

#[test]
fn what_is_too_young_stays_and_what_is_too_old_does_not_wait() {
    let mut world = World::new();
    let lazy = LogConfig { min_cleanable_dirty_ratio: 1.0, ..compacted() };
    world.run(lazy.clone(), async move |log, world| {
        let mut writer = Writer::default();
        writer.write(&log, &world, 200, None).await;
        let end = log.marks().log_end;
        let due = async |config: LogConfig| {
            log.configure(config);
            log.dirtiness(end).await.unwrap().map(|dirty| (dirty.dirty_bytes > 0, dirty.is_due))
        };
        assert_eq!(due(lazy.clone()).await, Some((true, false)), "a ratio above 1 there is not");
        assert_eq!(due(compacted()).await, Some((true, true)));
        assert_eq!(due(LogConfig { compact: false, ..compacted() }).await, None);
        let young = LogConfig { min_compaction_lag_ms: 5_000, ..compacted() };
        assert_eq!(due(young.clone()).await, Some((false, false)));
        assert_eq!(log.clean(LIMITS, end).await.unwrap(), None);
        let old = LogConfig { max_compaction_lag_ms: 7_000, ..lazy.clone() };
        assert_eq!(due(old.clone()).await, Some((true, false)));
        world.control.borrow_mut().wall += 6_000;
        assert_eq!(due(young).await, Some((true, true)));
        assert_eq!(due(old.clone()).await, Some((true, false)));
        world.control.borrow_mut().wall += 2_000;
        assert_eq!(due(old).await, Some((true, true)));
        // Nobody has seen it yet.
        assert_eq!(log.clean(LIMITS, 0).await.unwrap(), None);
        writer.check(&log).await;
    });
}

#[test]
fn wherever_the_process_dies_each_key_has_its_last_value() {
    let deaths = die_at_each(1, |mut world, operations| {
        let writer = Rc::new(RefCell::new(Writer::default()));
        let shared = writer.clone();
        let lived = world.run_until_death(compacted(), async move |log, world| {
            let mut writer = Writer::default();
            writer.write(&log, &world, 150, Some(3)).await;
            *shared.borrow_mut() = writer;
            world.control.borrow_mut().operations_left = Some(operations);
            clean(&log).await.unwrap();
            world.control.borrow_mut().operations_left = None;
        });
        world.run(compacted(), async move |log, world| {
            assert_eq!((log.marks().log_start, log.marks().log_end), (0, 450), "after {operations}");
            for entry in std::fs::read_dir(world.path()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let left = [".cleaned", ".swap", ".deleted"].iter().any(|ending| name.ends_with(ending));
                assert!(!left, "{name} after {operations}");
            }
            let mut writer = writer.borrow().clone();
            writer.check(&log).await;
            writer.write(&log, &world, 50, Some(3)).await;
            clean(&log).await.expect("something");
            writer.check(&log).await;
            log.close().await.unwrap();
        });
        lived
    });
    assert!(deaths > 40, "the process died at {deaths} places");
}

#[test]
fn readers_go_on_while_segments_are_replaced() {
    let mut world = World::new();
    world.cache_bytes = 0;
    world.run(compacted(), async move |log, world| {
        let mut writer = Writer::default();
        writer.write(&log, &world, 300, None).await;
        // One who opens a file that is being replaced, and others all the time.
        let reads = Rc::new(Cell::new(0));
        let stop = Rc::new(Cell::new(false));
        for n in 0..4 {
            let (log, reads, stop) = (log.clone(), reads.clone(), stop.clone());
            let shard = world.shard().clone();
            world.shard().spawn(async move {
                let mut from = n * 200;
                while !stop.get() {
                    let limit =
                        ReadLimit { up_to: log.marks().written, bytes_max: 2_000, at_least_one: true };
                    let bytes = joined(&log.read(from, limit).await.expect("read"));
                    let header = batch::verify(&bytes[..batch::whole_len(&bytes).unwrap()]).expect("a batch");
                    assert!(header.last_offset() >= from);
                    log.offset_for_time(1_000 + n).await.expect("looked up");
                    reads.set(reads.get() + 1);
                    from = (from + 31) % 890;
                    // So that others have a turn where all was in memory.
                    shard.io().sync_dir(DirId(0), "/".into()).await.unwrap();
                }
            });
        }
        for _ in 0..5 {
            writer.write(&log, &world, 100, None).await;
            clean(&log).await.expect("something");
        }
        stop.set(true);
        assert!(reads.get() > 100, "{}", reads.get());
        world.shard().sleep(std::time::Duration::from_millis(1)).await;
        writer.check(&log).await;
    });
}

#[test]
fn a_round_gives_up_for_who_truncates_or_closes() {
    for close in [false, true] {
        let mut world = World::new();
        world.run(compacted(), async move |log, world| {
            let mut writer = Writer::default();
            writer.write(&log, &world, 300, None).await;
            let cleaning = log.clone();
            let result = Rc::new(RefCell::new(None));
            let ended = result.clone();
            // Slow enough that it is in the middle of it.
            let limits = CleanerLimits { bytes_per_second: 20_000.0, ..LIMITS };
            world.shard().spawn(async move {
                let cleaned = Box::pin(cleaning.clean(limits, 900)).await;
                *ended.borrow_mut() = Some(cleaned);
            });
            world.shard().sleep(std::time::Duration::from_secs(2)).await;
            assert!(result.borrow().is_none());
            if close {
                log.close().await.unwrap();
            } else {
                log.truncate_to(600).await.unwrap();
                world.shard().sleep(std::time::Duration::from_secs(1)).await;
            }
            let result = result.take();
            assert!(matches!(result, Some(Err(CleanError::Stopped))), "{result:?}");
        });
        world.run(compacted(), async move |log, _| {
            assert_eq!(log.marks().log_end, if close { 900 } else { 600 });
            let found = records(&log).await;
            assert!(found.len() > 500);
            log.close().await.unwrap();
        });
    }
}

#[test]
fn damage_stops_the_cleaner_and_is_told() {
    let mut world = World::new();
    world.run(compacted(), async move |log, world| {
        let mut writer = Writer::default();
        writer.write(&log, &world, 300, None).await;
        let path = world.segment_files()[1].clone();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let told = Rc::new(Cell::new(0));
        let heard = told.clone();
        log.on_notice(move |notice| match notice {
            Notice::Damaged(_) => heard.set(heard.get() + 1),
            other => panic!("{other:?}"),
        });
        let result = Box::pin(log.clean(LIMITS, 900)).await;
        assert!(matches!(result, Err(CleanError::Uncleanable(_))), "{result:?}");
        assert!(told.get() > 0);
        assert_eq!(log.dirtiness(900).await.unwrap(), None);
        assert!(log.clean(LIMITS, 900).await.is_err());
        assert!(log.failed().is_none());
    });
}
