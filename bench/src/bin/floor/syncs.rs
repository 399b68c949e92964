//! Making many files durable: one flush for all, a sync for each, or each write by itself.

use super::meter::{Variant, Way, table};
use super::writes::bytes_of::block_bytes;
use super::writes::written;
use rustix::fs::{FallocateFlags, Mode, OFlags, fdatasync};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::cell::Cell;
use std::fs::File;
use std::io::IoSlice;
use std::path::Path;

/// Blocks of each file; a round writes the next one of every file.
const BLOCKS: u64 = 256;
const BLOCK: usize = 4096;

pub(crate) fn run(dir: &Path) {
    for files in [1_usize, 64, 1000] {
        let turns = (2000 / files).clamp(4, 200);
        let before = open(dir, "before", files, true);
        let allocated = open(dir, "allocated", files, false);
        let bytes = block_bytes(BLOCK);
        // Never the same block twice, so that allocated space is always fresh.
        let next = Cell::new(0_u64);
        let write = |files: &[File], flags| {
            let pos = next.get() % BLOCKS * BLOCK as u64;
            next.set(next.get() + 1);
            for file in files {
                pwritev2(file, &[IoSlice::new(&bytes)], pos, flags).expect("write");
            }
        };
        let none = ReadWriteFlags::empty();
        let each = |files: &[File]| files.iter().for_each(|file| fdatasync(file).expect("sync"));
        let turns_of = |turn: &dyn Fn()| (0..turns).for_each(|_| turn());
        let ways: Vec<Way<'_>> = vec![
            (
                "written before, one flush for all",
                Box::new(|| {
                    turns_of(&|| {
                        write(&before, none);
                        fdatasync(&before[0]).expect("sync");
                    })
                }),
            ),
            (
                "written before, fdatasync each",
                Box::new(|| {
                    turns_of(&|| {
                        write(&before, none);
                        each(&before);
                    })
                }),
            ),
            (
                "written before, RWF_DSYNC each",
                Box::new(|| turns_of(&|| write(&before, ReadWriteFlags::DSYNC))),
            ),
            (
                "allocated only, fdatasync each",
                Box::new(|| {
                    turns_of(&|| {
                        write(&allocated, none);
                        each(&allocated);
                    })
                }),
            ),
        ];
        let mut variants: Vec<Variant<'_>> = ways
            .into_iter()
            .map(|(name, work)| Variant {
                name: name.into(),
                operations: turns,
                bytes: (turns * files * BLOCK) as u64,
                prepare: Box::new(|| {
                    for file in &allocated {
                        // Fresh unwritten extents for each run.
                        let flags = FallocateFlags::ZERO_RANGE;
                        rustix::fs::fallocate(file, flags, 0, BLOCKS * BLOCK as u64).expect("allocate");
                    }
                    each(&allocated);
                }),
                work: Box::new(work),
            })
            .collect();
        table(
            dir,
            &format!("### Syncs: a 4 KiB block of each of {files} files, durable together"),
            &mut variants,
        );
    }
}

fn open(dir: &Path, name: &str, count: usize, write: bool) -> Vec<File> {
    (0..count)
        .map(|number| {
            let path = dir.join(format!("{name}-{number}"));
            if write {
                return written(&path, BLOCKS * BLOCK as u64, OFlags::DIRECT);
            }
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT;
            let file = rustix::fs::open(&path, flags, Mode::from(0o644)).expect("create");
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BLOCKS * BLOCK as u64)
                .expect("allocate");
            fdatasync(&file).expect("sync");
            File::from(file)
        })
        .collect()
}
