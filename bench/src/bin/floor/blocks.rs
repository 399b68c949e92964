//! Files of blocks to measure with, and memory that direct I/O takes.

use ringlog_engine::io::buf::aligned;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, fadvise, fdatasync};
use std::fs::File;
use std::path::Path;

/// `len` bytes that direct I/O takes, filled.
pub(crate) fn block_bytes(len: usize) -> bytes::BytesMut {
    let mut bytes = aligned(len);
    bytes.resize(len, 0xa5);
    bytes
}

/// A fresh file of this many bytes, allocated and not written.
pub(crate) fn allocated(path: &Path, len: u64, flags: OFlags) -> File {
    let file = created(path, flags);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len).expect("allocate");
    fdatasync(&file).expect("sync");
    file
}

/// A fresh file of this many bytes, every block of it written and durable: allocated first, as the engine prepares space.
pub(crate) fn written(path: &Path, len: u64, flags: OFlags) -> File {
    let file = created(path, flags);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len).expect("allocate");
    let zeroes = aligned_zeroes();
    for pos in (0..len).step_by(zeroes.len()) {
        let want = zeroes.len().min(usize::try_from(len - pos).expect("a small file"));
        rustix::io::pwrite(&file, &zeroes[..want], pos).expect("write ahead");
    }
    fdatasync(&file).expect("sync");
    file
}

/// An empty file; one of the run before must be gone, or its blocks would be found again.
pub(crate) fn created(path: &Path, flags: OFlags) -> File {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | flags;
    File::from(rustix::fs::open(path, flags, Mode::from(0o644)).expect("create"))
}

/// Takes a file's pages out of memory. They must have been written back.
pub(crate) fn forget(file: &File) {
    fadvise(file, 0, None, Advice::DontNeed).expect("forget");
}

fn aligned_zeroes() -> bytes::BytesMut {
    let mut zeroes = aligned(1 << 20);
    zeroes.resize(1 << 20, 0);
    zeroes
}
