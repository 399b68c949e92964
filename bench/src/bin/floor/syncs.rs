//! Making many files durable: one flush for all, a sync for each, or each write by itself.

use super::Table;
use super::blocks::{allocated, block_bytes, written};
use super::meter::{Amount, Way, pin, table};
use super::ring::Ring;
use rustix::fs::{FallocateFlags, OFlags, fallocate, fdatasync};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::IoSlice;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Blocks of each file; a turn writes the next one of every file.
const BLOCKS: u64 = 256;
const BLOCK: usize = 4096;

pub(crate) fn tables() -> Vec<Table> {
    let of =
        |files: usize| -> Table { (format!("syncs-{files}"), Box::new(move |dir: &Path| run(dir, files))) };
    vec![of(1), of(64), of(1000)]
}

fn run(dir: &Path, count: usize) {
    let turns = (2000 / count).clamp(4, 200);
    let len = BLOCKS * BLOCK as u64;
    let path = |name: &str, number: usize| dir.join(format!("{name}-{number}"));
    // Written and durable, size and extents too: no later sync has anything but data and the device's cache to see to.
    let before: Vec<File> =
        (0..count).map(|number| written(&path("before", number), len, OFlags::DIRECT)).collect();
    let fresh: Vec<File> =
        (0..count).map(|number| allocated(&path("fresh", number), len, OFlags::DIRECT)).collect();
    let bytes = block_bytes(BLOCK);
    let ring = RefCell::new(Ring::new());
    let flusher = Flusher::start(&before[0]);

    let none = ReadWriteFlags::empty();
    let next = Cell::new(0_u64);
    // A run has fewer turns than a file has blocks: what was allocated before the run is written once in it.
    let next_pos = || next.replace(next.get() + 1) % BLOCKS * BLOCK as u64;
    let one_by_one = |files: &[File], flags| {
        let pos = next_pos();
        for file in files {
            pwritev2(file, &[IoSlice::new(&bytes)], pos, flags).expect("write");
        }
    };
    let at_once = |files: &[File], flags| {
        let pos = next_pos();
        ring.borrow_mut().write(files.iter().map(|file| (file, pos)), &bytes, flags);
    };
    let sync = |file: &File| fdatasync(file).expect("sync");
    let turns_of = |turn: &dyn Fn()| (0..turns).for_each(|_| turn());
    let dsync = ReadWriteFlags::DSYNC;
    let ways = [
        Way::new("one flush for all", || {
            turns_of(&|| {
                at_once(&before, none);
                sync(&before[0]);
            });
        }),
        Way::new("one flush for all, on a flusher thread", || {
            turns_of(&|| {
                at_once(&before, none);
                flusher.flush();
            });
        }),
        Way::new("fdatasync each", || {
            turns_of(&|| {
                at_once(&before, none);
                before.iter().for_each(sync);
            });
        }),
        Way::new("RWF_DSYNC, one after another", || turns_of(&|| one_by_one(&before, dsync))),
        Way::new("RWF_DSYNC, all in the ring at once", || turns_of(&|| at_once(&before, dsync))),
        Way::new("allocated only, fdatasync each", || {
            turns_of(&|| {
                at_once(&fresh, none);
                fresh.iter().for_each(sync);
            });
        })
        .after(|| {
            for file in &fresh {
                fallocate(file, FallocateFlags::ZERO_RANGE, 0, len).expect("allocate");
            }
            fresh.iter().for_each(sync);
        }),
    ];
    let title = format!("Syncs: a 4 KiB block of each of {count} files, durable together");
    table(dir, &title, Amount { operations: turns, bytes: (turns * count * BLOCK) as u64 }, &ways);
}

/// A thread that flushes the device of a file when asked, on another core, as the engine's does.
struct Flusher {
    ask: SyncSender<()>,
    done: Receiver<()>,
}

impl Flusher {
    fn start(file: &File) -> Self {
        let file = file.try_clone().expect("clone a descriptor");
        let (ask, asked) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        std::thread::spawn(move || {
            pin(1);
            while asked.recv().is_ok() {
                fdatasync(&file).expect("sync");
                tell.send(()).expect("somebody waits");
            }
        });
        Self { ask, done }
    }

    fn flush(&self) {
        self.ask.send(()).expect("the flusher lives");
        self.done.recv().expect("the flusher lives");
    }
}
