//! What survives a power cut, and what a live process sees.

use super::{DIR, One, blocks};
use crate::io::sim::{EntryOrder, OpKind, Sim};
use crate::io::{FileMode, Io, Space, SyncItem};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;

const SEEDS: u64 = 300;

/// A block file whose name and first `count` blocks are durable, prepared as told.
async fn block_file(io: &Io, count: u64, space: Space) -> crate::io::File {
    let file = io.create(DIR, "/data/f".into(), FileMode::Blocks).await.unwrap();
    io.prepare(file.clone(), 0, count * 4096, space).await.unwrap();
    io.sync_file(file.clone()).await.unwrap();
    io.sync_dir(DIR, "/data".into()).await.unwrap();
    file
}

async fn sync(io: &Io, file: &crate::io::File, space: Space) {
    io.sync(vec![SyncItem { file: file.clone(), space }]).await.unwrap();
}

/// The contents that power cuts of many seeds leave of `/data/f` after this.
fn outcomes<F: Future<Output = ()> + 'static>(run: impl Fn(Io) -> F) -> BTreeSet<Option<Vec<u8>>> {
    let after = |seed| {
        let mut one = One::new(seed);
        one.run(&run);
        one.power_cut();
        one.content("/data/f")
    };
    (0..SEEDS).map(after).collect()
}

fn is_one_of(content: &Option<Vec<u8>>, bytes: &[u8]) -> bool {
    content.as_ref().is_some_and(|content| content.iter().all(|byte| bytes.contains(byte)))
}

#[test]
fn a_synced_write_is_there_whole_after_any_cut() {
    for space in [Space::Allocated, Space::Written] {
        let left = outcomes(move |io| async move {
            let file = block_file(&io, 2, space).await;
            io.write(file.clone(), 0, blocks(7, 2)).await.unwrap();
            sync(&io, &file, space).await;
        });
        assert_eq!(left, BTreeSet::from([Some(vec![7; 8192])]));
    }
}

#[test]
fn an_unsynced_write_may_be_there_lost_or_torn() {
    let left = outcomes(|io| async move {
        let file = block_file(&io, 1, Space::Written).await;
        io.write(file, 0, blocks(7, 1)).await.unwrap();
    });
    assert!(left.contains(&Some(vec![7; 4096])) && left.contains(&Some(vec![0; 4096])));
    assert!(left.len() > 10, "torn in many ways: {}", left.len());
    for content in left {
        let content = content.unwrap();
        assert!(content.chunks(512).all(|sector| sector == [0; 512] || sector == [7; 512]));
    }
}

#[test]
fn a_shared_flush_does_not_cover_unwritten_extents() {
    let left = outcomes(|io| async move {
        let file = block_file(&io, 1, Space::Allocated).await;
        io.write(file.clone(), 0, blocks(7, 1)).await.unwrap();
        // A claim that is not true.
        sync(&io, &file, Space::Written).await;
    });
    assert!(left.contains(&Some(vec![0; 4096])), "acknowledged data reads back as zeroes");
}

#[test]
fn after_a_sync_of_the_file_itself_its_blocks_are_covered_by_shared_flushes() {
    let left = outcomes(|io| async move {
        let file = block_file(&io, 1, Space::Allocated).await;
        io.write(file.clone(), 0, blocks(6, 1)).await.unwrap();
        sync(&io, &file, Space::Allocated).await;
        io.write(file.clone(), 0, blocks(7, 1)).await.unwrap();
        sync(&io, &file, Space::Written).await;
    });
    assert_eq!(left, BTreeSet::from([Some(vec![7; 4096])]));
}

#[test]
fn zeroed_blocks_are_old_or_zero_until_the_file_is_synced_and_unwritten_after() {
    let zeroed = |synced: bool, space: Space| {
        outcomes(move |io| async move {
            let file = block_file(&io, 2, Space::Written).await;
            io.write(file.clone(), 0, blocks(6, 2)).await.unwrap();
            sync(&io, &file, Space::Written).await;
            io.zero(file.clone(), 4096, 8192).await.unwrap();
            assert_eq!(io.read(file.clone(), 4096, 4096).await.unwrap(), vec![0; 4096]);
            if synced {
                io.sync_file(file.clone()).await.unwrap();
            }
            io.write(file.clone(), 4096, blocks(7, 1)).await.unwrap();
            sync(&io, &file, space).await;
        })
    };
    let content = |fill: u8| Some([vec![6; 4096], vec![fill; 4096]].concat());
    assert!(zeroed(false, Space::Written).is_superset(&BTreeSet::from([content(6), content(0), content(7)])));
    assert!(zeroed(true, Space::Written).is_superset(&BTreeSet::from([content(0), content(7)])));
    assert_eq!(zeroed(true, Space::Allocated), BTreeSet::from([content(7)]));
}

#[test]
fn a_sync_covers_only_writes_that_had_completed_when_it_was_submitted() {
    let left = outcomes(|io| async move {
        let file = block_file(&io, 1, Space::Written).await;
        let syncing = io.start(crate::io::Op::Sync {
            items: vec![SyncItem { file: file.clone(), space: Space::Written }],
        });
        io.write(file, 0, blocks(7, 1)).await.unwrap();
        let mut syncing = syncing;
        syncing.next().await.into_count().unwrap();
    });
    assert!(left.contains(&Some(vec![0; 4096])), "the sync ended after the write, and does not cover it");
}

#[test]
fn truncation_and_what_follows_it_needs_a_sync_of_the_file() {
    let left = outcomes(|io| async move {
        let file = block_file(&io, 2, Space::Written).await;
        io.truncate(file.clone(), 4096).await.unwrap();
        io.prepare(file.clone(), 4096, 8192, Space::Allocated).await.unwrap();
        io.write(file.clone(), 4096, blocks(7, 1)).await.unwrap();
        sync(&io, &file, Space::Written).await;
    });
    let lost: Vec<u8> = vec![0; 8192];
    assert!(left.contains(&Some(lost)), "the truncation took the block's extent with it");
}

#[test]
fn a_small_file_replaced_in_order_is_old_or_new_and_never_mixed() {
    let replace = |seed: u64, sync_first: bool| {
        let mut one = One::new(seed);
        one.sim.put_file(one.machine, DIR, "/data/f", &[1; 5000]).unwrap();
        one.run(|io| async move {
            let file = io.create(DIR, "/data/f.tmp".into(), FileMode::CachedWrite).await.unwrap();
            io.write(file.clone(), 0, vec![2; 5000].into()).await.unwrap();
            if sync_first {
                io.sync_file(file).await.unwrap();
            }
            io.rename(DIR, "/data/f.tmp".into(), "/data/f".into()).await.unwrap();
        });
        one.power_cut();
        one.content("/data/f")
    };
    let left: BTreeSet<_> = (0..SEEDS).map(|seed| replace(seed, true)).collect();
    assert_eq!(left, BTreeSet::from([Some(vec![1; 5000]), Some(vec![2; 5000])]));
    let careless: BTreeSet<_> = (0..SEEDS).map(|seed| replace(seed, false)).collect();
    assert!(careless.len() > 2, "renamed before it was synced, the file may be anything");
}

#[test]
fn a_file_synced_without_its_directory_may_lose_its_name() {
    let left = outcomes(|io| async move {
        let file = io.create(DIR, "/data/f".into(), FileMode::CachedWrite).await.unwrap();
        io.write(file.clone(), 0, vec![5; 10].into()).await.unwrap();
        io.sync_file(file).await.unwrap();
    });
    assert_eq!(left, BTreeSet::from([None, Some(vec![5; 10])]));
}

#[test]
fn names_survive_in_any_subset_or_as_a_prefix() {
    let names = |seed: u64, order: EntryOrder| -> Vec<bool> {
        let mut one = One::new(seed);
        one.sim.set_entry_order(one.machine, DIR, order);
        one.run(|io| async move {
            for name in ["a", "b", "c"] {
                let path = PathBuf::from("/data").join(name);
                io.create(DIR, path, FileMode::CachedWrite).await.unwrap();
            }
        });
        one.power_cut();
        ["/data/a", "/data/b", "/data/c"].iter().map(|path| one.content(path).is_some()).collect()
    };
    let any: BTreeSet<_> = (0..SEEDS).map(|seed| names(seed, EntryOrder::Any)).collect();
    assert_eq!(any.len(), 8);
    let journaled: BTreeSet<_> = (0..SEEDS).map(|seed| names(seed, EntryOrder::Journaled)).collect();
    assert_eq!(journaled.len(), 4);
}

#[test]
fn a_directory_moves_with_what_is_in_it() {
    let mut one = One::new(1);
    one.run(|io| async move {
        io.make_dir(DIR, "/data/t-0".into()).await.unwrap();
        let file = io.create(DIR, "/data/t-0/x".into(), FileMode::CachedWrite).await.unwrap();
        io.write(file.clone(), 0, vec![5; 10].into()).await.unwrap();
        io.sync_file(file).await.unwrap();
        io.sync_dir(DIR, "/data/t-0".into()).await.unwrap();
        io.rename(DIR, "/data/t-0".into(), "/data/t-0.gone".into()).await.unwrap();
        io.sync_dir(DIR, "/data".into()).await.unwrap();
    });
    one.power_cut();
    assert_eq!(one.content("/data/t-0.gone/x"), Some(vec![5; 10]));
    assert_eq!(one.content("/data/t-0/x"), None);
}

#[test]
fn a_killed_process_leaves_all_that_had_completed() {
    for seed in 0..SEEDS {
        let mut one = One::new(seed);
        one.run(|io| async move {
            let file = io.create(DIR, "/data/f".into(), FileMode::CachedWrite).await.unwrap();
            io.write(file, 0, vec![5; 10].into()).await.unwrap();
        });
        one.kill();
        assert_eq!(one.content("/data/f"), Some(vec![5; 10]));
    }
}

#[test]
fn a_failed_sync_is_the_last_of_its_device() {
    let mut one = One::new(3);
    let file = one.run(|io| async move { block_file(&io, 1, Space::Written).await });
    one.sim.fail_once(one.machine, OpKind::Sync, 1, 5);
    one.run(|io| async move {
        sync(&io, &file, Space::Written).await;
        let item = || vec![SyncItem { file: file.clone(), space: Space::Written }];
        assert_eq!(io.sync(item()).await.unwrap_err().raw_os_error(), Some(5));
        assert!(io.sync(item()).await.is_err(), "and stays failed");
        assert!(io.sync_file(file.clone()).await.is_err());
    });
}

#[test]
fn refusals() {
    let mut one = One::new(4);
    one.sim.set_capacity(one.machine, DIR, 10 * 4096);
    one.run(|io| async move {
        let file = block_file(&io, 2, Space::Written).await;
        let kind = |result: std::io::Result<u64>| result.unwrap_err().kind();
        let unaligned = blocks(1, 1).slice(1..);
        assert_eq!(kind(io.write(file.clone(), 0, unaligned).await), ErrorKind::InvalidInput);
        assert_eq!(kind(io.write(file.clone(), 512, blocks(1, 1)).await), ErrorKind::InvalidInput);
        assert_eq!(kind(io.write(file.clone(), 8192, blocks(1, 1)).await), ErrorKind::InvalidInput);
        assert_eq!(kind(io.prepare(file, 8192, 11 * 4096, Space::Allocated).await), ErrorKind::StorageFull);
        let missing = io.open(DIR, "/data/missing".into(), FileMode::Cached).await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        let again = io.create(DIR, "/data/f".into(), FileMode::Blocks).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        io.make_dir(DIR, "/data/d/e".into()).await.unwrap();
        assert_eq!(kind(io.remove_dir(DIR, "/data/d".into()).await), ErrorKind::DirectoryNotEmpty);
        assert!(io.unlink(DIR, "/data/d".into()).await.is_err());
    });
}

#[test]
fn a_seed_repeats_and_seeds_differ() {
    let run = |seed: u64| {
        let mut one = One::new(seed);
        let shard = one.sim.shard(one.actor);
        for task in 0..5_u8 {
            let io = shard.io().clone();
            shard.spawn(async move {
                let path = PathBuf::from(format!("/data/{task}"));
                let file = io.create(DIR, path, FileMode::CachedWrite).await.unwrap();
                for round in 0..20 {
                    io.write(file.clone(), round * 10, vec![task; 10].into()).await.unwrap();
                }
            });
        }
        while shard.task_count() > 0 {
            one.sim.step().unwrap();
        }
        one.power_cut();
        one.sim.trace()
    };
    let traces: BTreeSet<u64> = (0..20).map(run).collect();
    assert_eq!(traces.len(), 20);
    assert_eq!((0..20).map(run).collect::<BTreeSet<_>>(), traces);
}

#[test]
fn a_world_in_which_nothing_can_happen_says_so() {
    let mut sim = Sim::new(0);
    let machine = sim.add_machine();
    let actor = sim.start(machine, crate::shard::ShardId(0));
    sim.shard(actor).spawn(std::future::pending());
    let steps = std::iter::from_fn(|| sim.step().ok()).count();
    assert!(steps < 10);
}

#[test]
fn any_bytes_left_are_ones_that_were_written() {
    let left = outcomes(|io| async move {
        let file = block_file(&io, 4, Space::Written).await;
        for byte in 1..6 {
            io.write(file.clone(), 4096, blocks(byte, 2)).await.unwrap();
            if byte == 3 {
                sync(&io, &file, Space::Written).await;
            }
        }
    });
    assert!(left.len() > 20);
    for content in left {
        assert!(is_one_of(&content, &[0, 3, 4, 5]));
        assert!(content.unwrap()[4096..12288].iter().all(|byte| *byte >= 3));
    }
}
