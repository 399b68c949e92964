//! Direct, buffered and uncached writes, written or synced before the next: 16 KiB and 1 MiB a turn.

use super::meter::{Variant, Way, table};
use super::ring::Ring;
use bytes_of::block_bytes;
use rustix::fs::{Mode, OFlags, fdatasync};
use rustix::io::{ReadWriteFlags, pwritev2};
use std::cell::RefCell;
use std::fs::File;
use std::io::IoSlice;
use std::path::Path;

/// Memory for blocks, filled.
pub(crate) mod bytes_of {
    use ringlog_engine::io::buf::aligned;

    /// `len` bytes that direct I/O takes.
    pub(crate) fn block_bytes(len: usize) -> bytes::BytesMut {
        let mut bytes = aligned(len);
        bytes.resize(len, 0xa5);
        bytes
    }
}

/// Drops the pages once written (Linux 6.14).
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Opens a file of this many bytes, every block of it written and durable.
pub(crate) fn written(path: &Path, len: u64, flags: OFlags) -> File {
    let file = File::from(
        rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE | flags, Mode::from(0o644)).expect("create"),
    );
    let zeroes = block_bytes(1 << 20);
    for pos in (0..len).step_by(1 << 20) {
        let want = (len - pos).min(1 << 20) as usize;
        rustix::io::pwrite(&file, &zeroes[..want], pos).expect("write ahead");
    }
    fdatasync(&file).expect("sync");
    file
}

pub(crate) fn run(dir: &Path) {
    for (size, count) in [(16 << 10, 512_usize), (1 << 20, 64)] {
        let len = (size * count) as u64;
        let direct = written(&dir.join("direct"), len, OFlags::DIRECT);
        let buffered = written(&dir.join("buffered"), len, OFlags::empty());
        let bytes = block_bytes(size);
        let ring = RefCell::new(Ring::new());
        let each = |write: &dyn Fn(u64)| (0..count).for_each(|at| write((at * size) as u64));
        let pwrite = |file: &File, pos: u64, flags: ReadWriteFlags| {
            let wrote = pwritev2(file, &[IoSlice::new(&bytes)], pos, flags).expect("write");
            assert_eq!(wrote, size);
        };
        let sync = |file: &File| fdatasync(file).expect("sync");
        let none = ReadWriteFlags::empty();
        let ways: Vec<Way<'_>> = vec![
            ("direct, ring", Box::new(|| each(&|pos| ring.borrow_mut().write(&direct, &bytes, pos)))),
            ("direct, pwrite", Box::new(|| each(&|pos| pwrite(&direct, pos, none)))),
            (
                "buffered, pwrite, written back after",
                Box::new(|| {
                    each(&|pos| pwrite(&buffered, pos, none));
                    sync(&buffered);
                }),
            ),
            (
                "buffered, ring, written back after",
                Box::new(|| {
                    each(&|pos| ring.borrow_mut().write(&buffered, &bytes, pos));
                    sync(&buffered);
                }),
            ),
            (
                "uncached (RWF_DONTCACHE), pwrite",
                Box::new(|| {
                    each(&|pos| pwrite(&buffered, pos, DONTCACHE));
                    sync(&buffered);
                }),
            ),
            (
                "direct, ring, fdatasync each",
                Box::new(|| {
                    each(&|pos| {
                        ring.borrow_mut().write(&direct, &bytes, pos);
                        sync(&direct);
                    })
                }),
            ),
            ("direct, RWF_DSYNC each", Box::new(|| each(&|pos| pwrite(&direct, pos, ReadWriteFlags::DSYNC)))),
            (
                "buffered, fdatasync each",
                Box::new(|| {
                    each(&|pos| {
                        pwrite(&buffered, pos, none);
                        sync(&buffered);
                    })
                }),
            ),
        ];
        let mut variants: Vec<Variant<'_>> = ways
            .into_iter()
            .map(|(name, work)| Variant {
                name: name.into(),
                operations: count,
                bytes: len,
                prepare: Box::new(|| ()),
                work: Box::new(work),
            })
            .collect();
        table(dir, &format!("### Writes of {} KiB over blocks written before", size >> 10), &mut variants);
    }
}
