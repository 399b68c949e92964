//! What a log asks of its files, and what it makes of their failures.

use super::super::*;
use super::world::{World, batch};
use crate::io::Op;
use bytes::Bytes;
use std::cell::Cell;

/// Batches of this many bytes, header included.
fn sized(bytes: i32) -> Bytes {
    batch(1, bytes - crate::batch::HEADER_LEN as i32)
}

#[test]
fn the_last_block_of_a_segment_is_filled_after_a_restart() {
    let config = LogConfig { segment_bytes: 16 << 10, ..LogConfig::default() };
    for clean in [true, false] {
        let mut world = World::new();
        world.run(config.clone(), async move |log, world| {
            world.append(&log, &sized((16 << 10) - 500)).unwrap();
            log.wait_durable(1).await.unwrap();
            if clean {
                log.close().await.unwrap();
            }
        });
        world.run(config.clone(), async move |log, world| {
            world.append(&log, &sized(200)).unwrap();
            log.wait_durable(2).await.expect("a batch that fits");
            world.append(&log, &sized(300)).unwrap();
            log.wait_durable(3).await.expect("another, up to the last byte");
            assert_eq!(world.segments(), 1);
            world.check_all(&log).await;
        });
    }
}

#[test]
fn no_write_crosses_from_one_step_of_space_into_the_next() {
    let mut world = World::new();
    for round in 0..3 {
        world.run(LogConfig::default(), async move |log, world| {
            let edges = RefCell::new(Vec::new());
            let crossed = Rc::new(RefCell::new(Vec::new()));
            let seen = crossed.clone();
            world.control.borrow_mut().fails = Some(Box::new(move |op| {
                let mut edges = edges.borrow_mut();
                match op {
                    Op::Prepare { from, to, .. } => edges.extend([*from, *to]),
                    Op::Write { pos, bytes, more, .. } => {
                        let len = bytes.len() + more.iter().map(Bytes::len).sum::<usize>();
                        let inside = pos + 1..pos + len as u64;
                        seen.borrow_mut().extend(edges.iter().filter(|edge| inside.contains(edge)).copied());
                    }
                    _ => {}
                }
                None
            }));
            for n in 0..200 {
                world.append(&log, &batch(1, 3000 + 97 * n)).unwrap();
                if n % 9 == round {
                    log.wait_durable(log.marks().log_end).await.unwrap();
                }
            }
            log.wait_durable(log.marks().log_end).await.unwrap();
            assert_eq!(*crossed.borrow(), [0u64; 0], "round {round}");
            world.check_all(&log).await;
        });
    }
}

#[test]
fn space_that_fails_to_be_prepared_ahead_is_not_asked_for_again() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        world.append(&log, &batch(1, 100)).unwrap();
        log.wait_durable(1).await.unwrap();
        let fails = Cell::new(true);
        world.control.borrow_mut().fails = Some(Box::new(move |op| {
            let hit = matches!(op, Op::Prepare { .. }) && fails.replace(false);
            hit.then_some(std::io::ErrorKind::Other)
        }));
        for end in 2..200 {
            if world.append(&log, &batch(1, 3000)).is_err() || log.wait_durable(end).await.is_err() {
                break;
            }
        }
        assert!(matches!(log.failed(), Some(LogFailed::Storage { doing: "prepare space in", .. })));
    });
}

#[test]
fn a_log_on_a_full_disk_can_be_closed() {
    let mut world = World::new();
    world.run(LogConfig::default(), async move |log, world| {
        world.control.borrow_mut().fails =
            Some(Box::new(|op| matches!(op, Op::Prepare { .. }).then_some(std::io::ErrorKind::StorageFull)));
        world.append(&log, &batch(1, 100)).unwrap();
        let closed = log.close().await;
        assert!(matches!(closed, Err(LogFailed::Storage { .. })), "{closed:?}");
    });
}

#[test]
fn a_removed_log_leaves_the_directory_to_the_next_of_its_name() {
    let config = LogConfig { segment_bytes: 16 << 10, ..LogConfig::default() };
    let mut world = World::new();
    world.run(config, async move |log, world| {
        // The sync with which a segment is sealed takes longer than it takes to make the directory anew.
        let (cut, left) = (Rc::new(Cell::new(None)), Cell::new(100));
        let is_cut = cut.clone();
        world.control.borrow_mut().holds = Some(Box::new(move |op| {
            if let Op::Truncate { file, .. } = op {
                cut.set(cut.get().or(Some(file.id())));
            }
            let held = matches!(op, Op::SyncFile { file } if cut.get() == Some(file.id()));
            held && left.replace(left.get() - 1) > 0
        }));
        // While operations are held, somebody must do something for the world to go on.
        let (shard, ended) = (world.shard().clone(), Rc::new(Cell::new(false)));
        let has_ended = ended.clone();
        world.shard().spawn(async move {
            while !has_ended.get() {
                shard.yield_now().await;
            }
        });
        for n in 0..8 {
            world.append(&log, &batch(1, 3000 + n)).unwrap();
        }
        while is_cut.get().is_none() {
            world.shard().yield_now().await;
        }
        let (place, cache) = (log.place_on_disk().clone(), Cache::new(0));
        log.remove().await.expect("remove");
        let next = Log::open(world.shard(), place.clone(), LogConfig::default(), &cache);
        let (_next, _) = next.await.expect("a new log");
        for _ in 0..150 {
            world.shard().io().list(place.dir, place.path.clone()).await.unwrap();
        }
        let checkpoint = std::fs::read(world.path().join("ringlog.checkpoint")).unwrap();
        let checkpoint = checkpoint::Checkpoint::decode(&checkpoint).expect("a checkpoint");
        assert_eq!((checkpoint.offset, checkpoint.segment), (0, 0), "that of the new log");
        ended.set(true);
    });
}

#[test]
fn a_log_that_is_closed_while_it_is_truncated_is_whole() {
    for pause in 0..40 {
        let mut world = World::new();
        world.run(LogConfig::default(), async move |log, world| {
            for _ in 0..10 {
                world.append(&log, &batch(1, 3000)).unwrap();
            }
            log.wait_durable(10).await.unwrap();
            let (truncating, shard) = (log.clone(), world.shard().clone());
            world.shard().spawn(async move {
                for _ in 0..pause {
                    shard.yield_now().await;
                }
                drop(truncating.truncate_to(5).await);
            });
            log.close().await.unwrap();
            for _ in 0..50 {
                world.shard().yield_now().await;
            }
        });
        world.run(LogConfig::default(), async move |log, world| {
            let end = log.marks().log_end;
            world.forget_from(end);
            world.check_all(&log).await;
        });
        assert_eq!(world.recovered.scanned_bytes + world.recovered.cut_bytes, 0, "pause {pause}");
    }
}

#[test]
fn a_damaged_header_in_a_sealed_segment_stops_nobody_but_who_reads_it() {
    let config = LogConfig { segment_bytes: 16 << 10, index_interval_bytes: 512, ..LogConfig::default() };
    // The base offset goes back, or far ahead.
    for damage in [[0; 8], i64::MAX.to_be_bytes(), (1i64 << 40).to_be_bytes()] {
        let mut world = World::new();
        world.cache_bytes = 0;
        world.run(config.clone(), async move |log, world| {
            for _ in 0..30 {
                world.append(&log, &batch(1, 1000)).unwrap();
            }
            log.close().await.unwrap();
        });
        let segment = &world.segment_files()[0];
        let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
        let third = 3 * (1000 + crate::batch::HEADER_LEN) as u64;
        std::os::unix::fs::FileExt::write_all_at(&file, &damage, third).unwrap();
        std::fs::remove_file(segment.with_extension("index")).unwrap();
        world.run(config.clone(), async move |log, _| {
            let limit = ReadLimit { up_to: 30, bytes_max: 1, at_least_one: true };
            for from in [0, 1, 2, 29] {
                let bytes = super::world::joined(&log.read(from, limit).await.unwrap());
                assert_eq!(crate::batch::Header::parse(&bytes).unwrap().base_offset, from);
            }
            // What comes of it is not the point, but that something does.
            drop(log.read(4, limit).await);
            let truncated = log.truncate_to(8).await;
            assert!(
                matches!(truncated, Err(TruncateError::Read(ReadError::Corrupt { .. }))),
                "{truncated:?}"
            );
        });
    }
}
