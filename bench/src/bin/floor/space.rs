//! Space ahead of the end: blocks written before against blocks only allocated, the preparing included.

use super::meter::{Variant, table};
use super::writes::bytes_of::block_bytes;
use rustix::fs::{FallocateFlags, Mode, OFlags, fdatasync};
use std::fs::File;
use std::path::Path;

/// Bytes prepared and then written.
const LEN: u64 = 32 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Allocated,
    Written,
    Appended,
}

pub(crate) fn run(dir: &Path) {
    for size in [16 << 10, 1 << 20] {
        let bytes = block_bytes(size);
        let zeroes = block_bytes(1 << 20);
        let path = dir.join("space");
        let ways = [
            (Way::Allocated, "allocated"),
            (Way::Written, "written before"),
            (Way::Appended, "no preparing"),
        ];
        let mut variants: Vec<Variant<'_>> = Vec::new();
        for (way, name) in ways {
            for (preparing, what) in [(true, "preparing and writing"), (false, "writing alone")] {
                let prepared = std::cell::RefCell::new(None);
                let prepared = std::rc::Rc::new(prepared);
                let (before, path, zeroes, bytes) = (prepared.clone(), &path, &zeroes, &bytes);
                variants.push(Variant {
                    name: format!("{name}, {what}"),
                    operations: LEN as usize / size,
                    bytes: LEN,
                    prepare: Box::new(move || {
                        *before.borrow_mut() = (!preparing).then(|| make(path, way, zeroes));
                    }),
                    work: Box::new(move || {
                        let file = prepared.borrow_mut().take().unwrap_or_else(|| make(path, way, zeroes));
                        for pos in (0..LEN).step_by(size) {
                            rustix::io::pwrite(&file, bytes, pos).expect("write");
                            fdatasync(&file).expect("sync");
                        }
                    }),
                });
            }
        }
        table(dir, &format!("### Space: 32 MiB in durable writes of {} KiB", size >> 10), &mut variants);
    }
}

fn make(path: &Path, way: Way, zeroes: &[u8]) -> File {
    // A file of the run before may be there: its blocks must not be found again.
    let _ = std::fs::remove_file(path);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT;
    let file = File::from(rustix::fs::open(path, flags, Mode::from(0o644)).expect("create"));
    match way {
        Way::Allocated => rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, LEN).expect("allocate"),
        Way::Written => {
            for pos in (0..LEN).step_by(zeroes.len()) {
                rustix::io::pwrite(&file, zeroes, pos).expect("write ahead");
            }
        }
        Way::Appended => {}
    }
    fdatasync(&file).expect("sync");
    file
}
