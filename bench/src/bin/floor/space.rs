//! Space ahead of the end: blocks written before against blocks only allocated, with and without the cost of preparing them.

use super::Table;
use super::blocks::{allocated, block_bytes, created, written};
use super::meter::{Amount, Way, table};
use rustix::fs::{OFlags, fdatasync};
use std::cell::RefCell;
use std::fs::File;
use std::path::Path;

pub(crate) fn tables() -> Vec<Table> {
    let of = |kib: usize, mib: u64| -> Table {
        (format!("space-{kib}k"), Box::new(move |dir: &Path| run(dir, kib << 10, mib << 20)))
    };
    vec![of(4, 16), of(16, 32), of(64, 64), of(128, 64), of(256, 128), of(1024, 128)]
}

#[derive(Clone, Copy)]
enum Space {
    Written,
    Allocated,
    Appended,
}

impl Space {
    fn prepare(self, path: &Path, len: u64) -> File {
        match self {
            Self::Written => written(path, len, OFlags::DIRECT),
            Self::Allocated => allocated(path, len, OFlags::DIRECT),
            Self::Appended => created(path, OFlags::DIRECT),
        }
    }
}

fn run(dir: &Path, size: usize, len: u64) {
    let bytes = &block_bytes(size);
    let path = &dir.join("space");
    let write_all = move |file: &File| {
        for pos in (0..len).step_by(size) {
            rustix::io::pwrite(file, bytes, pos).expect("write");
            fdatasync(file).expect("sync");
        }
    };
    // What removing the last run's file costs is nobody's: it is over when the directory is synced.
    let clear = move || {
        let _ = std::fs::remove_file(path);
        File::open(dir).and_then(|dir| dir.sync_all()).expect("sync the directory");
    };
    let spaces = [
        (Space::Written, "written before"),
        (Space::Allocated, "allocated only"),
        (Space::Appended, "appended"),
    ];
    let prepared = &RefCell::new(None);
    let mut ways: Vec<Way<'_>> = Vec::new();
    for (space, name) in spaces {
        ways.push(
            Way::new(format!("{name}, preparing and writing"), move || write_all(&space.prepare(path, len)))
                .after(clear),
        );
        ways.push(
            Way::new(format!("{name}, writing alone"), move || {
                write_all(&prepared.borrow_mut().take().expect("prepared before each run"));
            })
            .after(move || {
                clear();
                *prepared.borrow_mut() = Some(space.prepare(path, len));
            }),
        );
    }
    let title =
        format!("Space: {} MiB in writes of {} KiB, each durable before the next", len >> 20, size >> 10);
    table(dir, &title, Amount { operations: len as usize / size, bytes: len }, &ways);
}
