//! What is asked of each runtime.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes of a request, behind four bytes that say so.
pub(crate) const REQUEST: usize = 16 << 10;
/// Bytes of an answer.
pub(crate) const ANSWER: [u8; 4] = *b"done";
pub(crate) const CONNECTIONS: usize = 16;
/// Requests on their way on each connection.
pub(crate) const IN_FLIGHT: usize = 5;
/// Each connection's file is this long, written before, and written over again and again.
pub(crate) const FILE_BYTES: u64 = 32 << 20;
/// What a server receives at once at most.
pub(crate) const RECEIVE: usize = 64 << 10;
/// Memory, places and lengths of direct writes are multiples of this.
pub(crate) const BLOCK: usize = 4096;

/// One server's work.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) dir: PathBuf,
    pub(crate) sync: bool,
}

/// The file of a connection, counted from 0.
pub(crate) fn file(dir: &Path, connection: usize) -> PathBuf {
    dir.join(format!("{}.log", connection % CONNECTIONS))
}

pub(crate) fn make_files(dir: &Path) {
    for connection in 0..CONNECTIONS {
        let mut made = File::create(file(dir, connection)).expect("a file in the directory");
        for _ in 0..FILE_BYTES >> 20 {
            made.write_all(&[0; 1 << 20]).expect("room on the disk");
        }
        made.sync_all().expect("a disk that syncs");
    }
}

pub(crate) fn remove_files(dir: &Path) {
    for connection in 0..CONNECTIONS {
        fs::remove_file(file(dir, connection)).expect("it was made");
    }
}

/// Pins this thread, and those that it starts.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the core is there");
}

/// Requests as they come out of a stream of bytes: gathers what came and hands out whole ones.
#[derive(Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// Calls `each` with every request that is whole now.
    pub(crate) fn came(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        if !self.0.is_empty() {
            let missing = (4 + REQUEST - self.0.len()).min(rest.len());
            self.0.extend_from_slice(&rest[..missing]);
            rest = &rest[missing..];
            if self.0.len() < 4 + REQUEST {
                return;
            }
            each(&self.0[4..]);
            self.0.clear();
        }
        while rest.len() >= 4 + REQUEST {
            each(&rest[4..4 + REQUEST]);
            rest = &rest[4 + REQUEST..];
        }
        self.0.extend_from_slice(rest);
    }
}

/// Where a connection's next request goes in its file.
pub(crate) struct Places(u64);

impl Places {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    pub(crate) fn next(&mut self) -> u64 {
        let at = self.0;
        self.0 = (at + REQUEST as u64) % FILE_BYTES;
        at
    }
}
