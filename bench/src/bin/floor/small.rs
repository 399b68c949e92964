//! Small batches for many logs: a block of each log's file, the page cache, or one write for all and the files later.

use super::Table;
use super::blocks::{block_bytes, written};
use super::meter::{Amount, Way, table};
use super::ring::Ring;
use rustix::fs::{FallocateFlags, OFlags, fallocate, fdatasync};
use rustix::io::{ReadWriteFlags, pwrite};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::Path;

/// Bytes of a batch; each turn has one for every log.
const BATCH: usize = 1024;
const BLOCK: usize = 4096;
const TURNS: usize = 512;
/// Where batches are gathered first, a log's file is written this often: every 64 KiB.
const GATHERED: usize = 64;

pub(crate) fn tables() -> Vec<Table> {
    let of = |logs: usize| -> Table { (format!("small-{logs}"), Box::new(move |dir: &Path| run(dir, logs))) };
    vec![of(16), of(256)]
}

fn run(dir: &Path, logs: usize) {
    let len = (TURNS * BATCH) as u64;
    let files = |name: &str, flags: OFlags| -> Vec<File> {
        (0..logs).map(|number| written(&dir.join(format!("{name}-{number}")), len, flags)).collect()
    };
    let (direct, buffered) = (files("direct", OFlags::DIRECT), files("buffered", OFlags::empty()));
    // A turn's batches, and a block that says whose they are.
    let entry = logs * BATCH + BLOCK;
    let journal = written(&dir.join("journal"), (entry * GATHERED) as u64, OFlags::DIRECT);
    let (batch, block) = (vec![7; BATCH], block_bytes(BLOCK));
    let (entry_bytes, gathered_bytes) = (block_bytes(entry), block_bytes(GATHERED * BATCH));
    // Stands for memory that outlives the process: a copy into it costs what one into any other does.
    let memory = RefCell::new(vec![0_u8; entry * GATHERED]);
    let ring = RefCell::new(Ring::new());
    let none = ReadWriteFlags::empty();
    let copied = Cell::new(0);

    let blocks = |turn: usize| {
        let pos = (turn * BATCH / BLOCK * BLOCK) as u64;
        ring.borrow_mut().write(direct.iter().map(|file| (file, pos)), &block, none);
    };
    let cached = |turn: usize| {
        for file in &buffered {
            assert_eq!(pwrite(file, &batch, (turn * BATCH) as u64).expect("write"), BATCH);
        }
    };
    let in_journal = |turn: usize| {
        let pos = (turn % GATHERED * entry) as u64;
        ring.borrow_mut().write([(&journal, pos)], &entry_bytes, none);
    };
    let in_memory = |turn: usize| {
        let memory = &mut memory.borrow_mut()[turn % GATHERED * entry..];
        for log in 0..logs {
            memory[log * BATCH..][..BATCH].copy_from_slice(&batch);
        }
        copied.set(copied.get() + usize::from(memory[entry - BLOCK - 1]));
    };
    // What was gathered goes to the logs' files.
    let gathered = |turn: usize| {
        if turn % GATHERED == GATHERED - 1 {
            let pos = ((turn + 1 - GATHERED) * BATCH) as u64;
            ring.borrow_mut().write(direct.iter().map(|file| (file, pos)), &gathered_bytes, none);
        }
    };
    let sync = |file: &File| fdatasync(file).expect("sync");
    let turns = |turn: &dyn Fn(usize)| (0..TURNS).for_each(turn);
    let ways = [
        Way::new("A a block of each file", || {
            turns(&blocks);
            sync(&direct[0]);
        }),
        Way::new("A page cache", || {
            turns(&cached);
            buffered.iter().for_each(sync);
        })
        // Unwritten extents again, out of memory: nothing is read to write a part of a page.
        .after(|| {
            for file in &buffered {
                fallocate(file, FallocateFlags::ZERO_RANGE, 0, len).expect("allocate");
                sync(file);
            }
        }),
        Way::new("A one journal, files later", || {
            turns(&|turn| {
                in_journal(turn);
                gathered(turn);
            });
            sync(&direct[0]);
        }),
        Way::new("A memory, files later", || {
            turns(&|turn| {
                in_memory(turn);
                gathered(turn);
            });
            sync(&direct[0]);
        }),
        Way::new("B a block of each file, one flush", || {
            turns(&|turn| {
                blocks(turn);
                sync(&direct[0]);
            });
        }),
        Way::new("B one journal, one flush, files later", || {
            turns(&|turn| {
                in_journal(turn);
                // What goes to the files now is durable with the next turn: before the journal comes round again.
                gathered(turn);
                sync(&journal);
            });
        }),
    ];
    let title = format!(
        "Small batches: 1 KiB for each of {logs} logs in a turn; A synced at the end, B in each turn"
    );
    table(dir, &title, Amount { operations: TURNS, bytes: (TURNS * logs * BATCH) as u64 }, &ways);
}
