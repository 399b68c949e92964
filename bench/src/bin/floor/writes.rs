//! Direct, buffered and uncached writes, synced now and then (A) or before the next (B): 16 KiB and 1 MiB a turn.

use super::Table;
use super::blocks::{block_bytes, forget, written};
use super::meter::{Amount, Way, table};
use super::ring::Ring;
use rustix::fs::{FallocateFlags, OFlags, fallocate, fdatasync};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::cell::RefCell;
use std::fs::File;
use std::io::IoSlice;
use std::path::Path;

/// Drops the pages once written (Linux 6.14).
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

pub(crate) fn tables() -> Vec<Table> {
    let of = |kib: usize, count: usize| -> Table {
        (format!("writes-{kib}k"), Box::new(move |dir: &Path| run(dir, kib << 10, count)))
    };
    vec![of(16, 4096), of(1024, 128)]
}

fn run(dir: &Path, size: usize, count: usize) {
    let len = (size * count) as u64;
    let direct = written(&dir.join("direct"), len, OFlags::DIRECT);
    let buffered = written(&dir.join("buffered"), len, OFlags::empty());
    // Files of their own: an uncached write leaves pages alone that somebody else has brought into memory.
    let uncached = written(&dir.join("uncached"), len, OFlags::empty());
    let allocated = written(&dir.join("allocated"), len, OFlags::empty());
    let bytes = block_bytes(size);
    let ring = RefCell::new(Ring::new());
    let none = ReadWriteFlags::empty();
    let each = |write: &dyn Fn(u64)| (0..count).for_each(|at| write((at * size) as u64));
    let sync = |file: &File| fdatasync(file).expect("sync");
    let pwrite = |file: &File, pos: u64, flags: ReadWriteFlags| {
        let wrote = pwritev2(file, &[IoSlice::new(&bytes)], pos, flags).expect("write");
        assert_eq!(wrote, size);
    };
    let by_ring = |file: &File, pos: u64| ring.borrow_mut().write([(file, pos)], &bytes, none);
    let eight_by_ring = |file: &File, turn: usize| {
        let places = (turn * 8..turn * 8 + 8).map(|at| (file, (at * size) as u64));
        ring.borrow_mut().write(places, &bytes, none);
    };
    let forget_buffered = || forget(&buffered);
    let forget_uncached = || forget(&uncached);
    // Unwritten extents again, which takes the pages out of memory as well.
    let allocate = || {
        fallocate(&allocated, FallocateFlags::ZERO_RANGE, 0, len).expect("allocate");
        sync(&allocated);
    };
    let ways = [
        Way::new("A direct, ring", || {
            each(&|pos| by_ring(&direct, pos));
            sync(&direct);
        }),
        Way::new("A direct, ring, 8 a turn", || {
            (0..count / 8).for_each(|turn| eight_by_ring(&direct, turn));
            sync(&direct);
        }),
        Way::new("A direct, pwrite", || {
            each(&|pos| pwrite(&direct, pos, none));
            sync(&direct);
        }),
        Way::new("A buffered, pwrite", || {
            each(&|pos| pwrite(&buffered, pos, none));
            sync(&buffered);
        })
        .after(forget_buffered),
        Way::new("A buffered, pwrite, allocated only", || {
            each(&|pos| pwrite(&allocated, pos, none));
            sync(&allocated);
        })
        .after(allocate),
        Way::new("A buffered, ring", || {
            each(&|pos| by_ring(&buffered, pos));
            sync(&buffered);
        })
        .after(forget_buffered),
        Way::new("A uncached, pwrite", || {
            each(&|pos| pwrite(&uncached, pos, DONTCACHE));
            sync(&uncached);
        })
        .after(forget_uncached),
        Way::new("B direct, ring, fdatasync", || {
            each(&|pos| {
                by_ring(&direct, pos);
                sync(&direct);
            });
        }),
        Way::new("B direct, RWF_DSYNC", || each(&|pos| pwrite(&direct, pos, ReadWriteFlags::DSYNC))),
        Way::new("B buffered, pwrite, fdatasync", || {
            each(&|pos| {
                pwrite(&buffered, pos, none);
                sync(&buffered);
            });
        })
        .after(forget_buffered),
        Way::new("B uncached, pwrite, fdatasync", || {
            each(&|pos| {
                pwrite(&uncached, pos, DONTCACHE);
                sync(&uncached);
            });
        })
        .after(forget_uncached),
    ];
    let title = format!(
        "Writes of {} KiB over blocks written before: A synced every {} MiB, B before the next",
        size >> 10,
        len >> 20
    );
    table(dir, &title, Amount { operations: count, bytes: len }, &ways);
}
