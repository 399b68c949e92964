//! Large files are freed a little at a time once their names are gone.
//!
//! Freed at once, the 64 MB of a segment are one discard on a file system that is mounted so, and every write that comes after it waits
//! for all of it in the device: 15 ms where 64 MB take that long, for a record that is written in 80 us. So who takes a large file's
//! last name away leaves it open here, and one thread cuts it off from its end, with a pause after each step. The more waits, the larger
//! the steps: what is written as fast as the device can has to be freed as fast.
//!
//! A file that has another name (a backup's hard link), or that somebody still reads, is left as it is.

use super::recycling::lease;
use crate::limits::reserve;
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes freed at once: a discard of so many takes a quarter of a millisecond where this was measured.
const STEP: u64 = 1 << 20;

/// For each time so many bytes that wait a step is one [`STEP`] larger, up to so many of them.
const WAITING: u64 = 1 << 30;
const STEPS_MAX: u64 = 4;

/// Each file that waits holds a descriptor. Beyond so many one is freed in one go.
const FILES_MAX: usize = 512;

/// A file up to this size is freed in one go.
const SMALL: u64 = 2 * STEP;

/// After each step the device is left to others for so long.
const PAUSE: Duration = Duration::from_millis(2);

/// After so long it is looked again whether a file is still being read.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// The thread, and what it has to free.
pub(super) struct Freeing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    files: VecDeque<Unnamed>,
    /// What they take.
    bytes: u64,
    closed: bool,
}

/// A file that is to be freed.
struct Unnamed {
    fd: OwnedFd,
    len: u64,
}

/// Whether a file may be cut.
#[derive(Debug, PartialEq)]
enum Use {
    /// Nobody else has it.
    None,
    /// Somebody has it open.
    Open,
    /// It has a name, or the file system cannot tell.
    Keep,
}

impl Freeing {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        let thread = std::thread::Builder::new().name("free".into()).spawn(move || serving.serve())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes a name away, by removing it or by giving it to another file; what lay under it is freed bit by bit.
    pub(super) fn unname(&self, path: &Path, take_away: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let file = Unnamed::hold(path);
        take_away()?;
        if let Some(file) = file {
            self.shared.add(file);
        }
        Ok(())
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        // What is left is freed with its descriptor.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self) {
        while let Some(mut file) = self.next() {
            match file.in_use() {
                Use::None => while !file.is_short_of_space() && file.cut(self.step()) && self.pause(PAUSE) {},
                Use::Open => {
                    self.add(file);
                    self.pause(READ_PAUSE);
                }
                Use::Keep => {}
            }
        }
    }

    fn add(&self, file: Unnamed) {
        let mut queue = self.lock();
        if queue.files.len() < FILES_MAX {
            queue.bytes += file.len;
            queue.files.push_back(file);
            self.changed.notify_one();
        }
    }

    fn next(&self) -> Option<Unnamed> {
        let mut queue = self.lock();
        while !queue.closed && queue.files.is_empty() {
            queue = self.changed.wait(queue).expect("nothing panics while it holds the queue");
        }
        let file = queue.files.pop_front().filter(|_| !queue.closed)?;
        queue.bytes -= file.len;
        Some(file)
    }

    /// How much is freed at once.
    fn step(&self) -> u64 {
        STEP * (1 + self.lock().bytes / WAITING).min(STEPS_MAX)
    }

    /// Waits; false where the process is ending.
    fn pause(&self, span: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), span, |queue| !queue.closed);
        !waited.expect("nothing panics while it holds the queue").0.closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }
}

impl Unnamed {
    /// Opens what lies under a name, if it is large and there is no need for its space at once.
    fn hold(path: &Path) -> Option<Self> {
        let stat = rustix::fs::lstat(path).ok()?;
        let len = u64::try_from(stat.st_size).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || len <= SMALL {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        let file = Self { fd, len };
        (!file.is_short_of_space()).then_some(file)
    }

    /// Space is more urgent than anybody's latency: retention frees it because nothing can be written otherwise.
    fn is_short_of_space(&self) -> bool {
        rustix::fs::fstatvfs(&self.fd).map_or(true, |disk| {
            let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
            free < 8 * reserve(all)
        })
    }

    fn in_use(&self) -> Use {
        if !rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0) {
            return Use::Keep;
        }
        // From then on nobody can open it: it has no name.
        match lease(&self.fd, libc::F_WRLCK) {
            Ok(()) => Use::None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Use::Open,
            Err(_) => Use::Keep,
        }
    }

    /// Cuts off a little; false where so little is left that it may go in one go.
    fn cut(&mut self, bytes: u64) -> bool {
        self.len = self.len.saturating_sub(bytes);
        self.len > 0 && rustix::fs::ftruncate(&self.fd, self.len).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(path: &Path) -> Unnamed {
        std::fs::write(path, vec![7; SMALL as usize + 1]).unwrap();
        let stat = rustix::fs::stat(path).unwrap();
        let fd = rustix::fs::open(path, OFlags::WRONLY, Mode::empty()).unwrap();
        Unnamed { fd, len: stat.st_size as u64 }
    }

    fn waiting(len: u64) -> Unnamed {
        let fd = rustix::fs::open("/dev/null", OFlags::WRONLY, Mode::empty()).unwrap();
        Unnamed { fd, len }
    }

    #[test]
    fn a_file_is_cut_once_nobody_else_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let mut file = large(&path);
        let reader = std::fs::File::open(&path).unwrap();
        assert_eq!(file.in_use(), Use::Keep, "it has its name");
        std::fs::hard_link(&path, dir.path().join("backup")).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.in_use(), Use::Keep, "a backup has it");
        std::fs::remove_file(dir.path().join("backup")).unwrap();
        assert_eq!(file.in_use(), Use::Open, "it is being read");
        drop(reader);
        assert_eq!(file.in_use(), Use::None);
        let size = |file: &Unnamed| rustix::fs::fstat(&file.fd).unwrap().st_size as u64;
        let mut steps = Vec::new();
        while file.cut(STEP) {
            steps.push(size(&file));
        }
        assert_eq!(steps, [STEP + 1, 1], "all but what goes with the descriptor");
    }

    #[test]
    fn the_more_waits_the_more_is_freed_at_once() {
        let shared = Shared::default();
        let mut steps = Vec::new();
        for gib in [0, 1, 1, 1, 1] {
            shared.add(waiting(gib << 30));
            steps.push(shared.step() / STEP);
        }
        assert_eq!(steps, [1, 2, 3, 4, 4]);
        while shared.lock().bytes > 0 {
            shared.next();
        }
        assert_eq!(shared.step(), STEP);
    }

    #[test]
    fn who_comes_when_too_many_wait_goes_at_once() {
        let shared = Shared::default();
        for _ in 0..=FILES_MAX {
            shared.add(waiting(STEP));
        }
        let queue = shared.lock();
        assert_eq!((queue.files.len(), queue.bytes), (FILES_MAX, FILES_MAX as u64 * STEP));
    }

    #[test]
    fn small_files_and_what_is_no_file_are_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let small = dir.path().join("small");
        std::fs::write(&small, vec![7; SMALL as usize]).unwrap();
        assert!(Unnamed::hold(&small).is_none());
        assert!(Unnamed::hold(dir.path()).is_none());
        assert!(Unnamed::hold(&dir.path().join("missing")).is_none());
    }

    #[test]
    fn a_name_that_another_file_takes_is_that_files() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        drop(large(&old));
        std::fs::write(&new, vec![8; SMALL as usize + 5]).unwrap();
        let freeing = Freeing::start().unwrap();
        freeing.unname(&old, || std::fs::rename(&new, &old)).unwrap();
        freeing.unname(&new, || std::fs::remove_file(&new)).unwrap_err();
        drop(freeing);
        assert_eq!(std::fs::read(&old).unwrap(), vec![8; SMALL as usize + 5]);
    }
}
