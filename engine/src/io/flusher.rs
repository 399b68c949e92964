//! Shared syncs: for each device one thread that flushes it, one flush for all who wait, and one that syncs what must be synced file by file.
//!
//! ```text
//!   requests   A B        C D E          F
//!   flushes      [ A B ]      [ C D E ]      [ F ]
//!
//!   requests   G H               I
//!   syncs        [ G  ][ H     ]    [ I  ]
//! ```
//!
//! What arrives while a flush runs may not have been written when it began, so it waits for the next one. A file's own sync may wait for the
//! file system's journal, and eight of them take as long as a hundred flushes: whoever needs only a flush does not stand behind them. A device
//! on which a sync failed stays failed: the kernel may have dropped the pages it could not write, and a second sync
//! that succeeds would say nothing about them (PostgreSQL's "fsyncgate", 2018). A file whose blocks were moved since its last own sync, by a copy that
//! shares them for example, gets one before it is flushed again ([`super::extents`]).

use super::blocking::fd;
use super::extents::Layout;
use super::failure::DeviceOffline;
use super::freeing::Freeing;
use super::jobs::Home;
use super::probe::DirFacts;
use super::scheduling::run_when_woken;
use super::{DirId, File, FileMode, Outcome, Space, SyncItem, Token};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// The devices under the data directories, and their threads.
pub(super) struct Disks {
    dirs: Vec<Dir>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) freeing: Freeing,
}

struct Dir {
    usable: bool,
    direct: bool,
    device: Arc<Device>,
}

struct Device {
    shared_flush: bool,
    queue: Mutex<Queue>,
    /// For each [`Kind`].
    work: [Condvar; 2],
    syncs: AtomicU64,
    requests: AtomicU64,
}

/// What a request takes, and which of a device's threads it is for.
#[derive(Clone, Copy)]
enum Kind {
    /// A flush of the device, which may be one for many.
    Flush,
    /// Syncs of files by themselves.
    Files,
}

#[derive(Default)]
struct Queue {
    /// For each [`Kind`].
    waiting: [Vec<Request>; 2],
    /// The error that took the device offline.
    failed: Option<Failure>,
    closed: bool,
}

struct Request {
    token: Token,
    items: Vec<SyncItem>,
    home: Arc<Home>,
}

/// Why a device is offline. Of no kind: a sync that found the disk full is as final as any other.
type Failure = DeviceOffline;

impl Disks {
    /// Starts the threads of each device under these directories.
    pub(super) fn start(facts: &[DirFacts], direct: bool) -> io::Result<Arc<Self>> {
        let mut devices: BTreeMap<u64, Arc<Device>> = BTreeMap::new();
        let mut dirs = Vec::new();
        for facts in facts {
            let device = devices.entry(facts.device).or_insert_with(|| {
                // Through the page cache the data itself must be written back first, file by file.
                Arc::new(Device::new(facts.shared_flush && direct && facts.direct))
            });
            dirs.push(Dir { usable: facts.usable, direct: direct && facts.direct, device: device.clone() });
        }
        let mut threads = Vec::new();
        for (number, device) in devices {
            for (name, kind) in [("flush", Kind::Flush), ("sync", Kind::Files)] {
                let (name, device) = (format!("{name}-{number:x}"), device.clone());
                threads.push(std::thread::Builder::new().name(name).spawn(move || device.serve(kind))?);
            }
        }
        Ok(Arc::new(Self { dirs, threads: Mutex::new(threads), freeing: Freeing::start()? }))
    }

    /// Whether files of blocks in this directory go past the page cache.
    pub(super) fn is_direct(&self, dir: DirId) -> bool {
        self.dirs.get(usize::from(dir.0)).is_some_and(|dir| dir.direct)
    }

    /// Refuses a directory that could not be looked at when the process started.
    pub(super) fn check_usable(&self, dir: DirId) -> io::Result<()> {
        match self.dirs.get(usize::from(dir.0)) {
            Some(dir) if !dir.usable => {
                Err(io::Error::other(DeviceOffline("the directory is not usable".into())))
            }
            _ => Ok(()),
        }
    }

    /// Asks for a sync. All files lie on one device: a log's files lie in one directory.
    pub(super) fn sync(&self, token: Token, items: Vec<SyncItem>, home: &Arc<Home>) {
        let Some(first) = items.first() else {
            home.deliver(token, Outcome::Count(Ok(0)));
            return;
        };
        let device = self.device(first.file.dir());
        device.take_in(Request { token, items, home: home.clone() });
    }

    /// Syncs one file, on the calling thread. A failure takes its device offline, like that of a shared sync: it was a failure of
    /// the device's flush, or the kernel has forgotten what else it knew to be wrong with the file.
    pub(super) fn sync_file(&self, file: &File) -> io::Result<()> {
        let device = self.device(file.dir());
        device.sync_one(|| file.path(), || device.sync_by_itself(file))
    }

    /// Syncs a directory, in the same way.
    pub(super) fn sync_dir(&self, dir: DirId, path: &Path) -> io::Result<()> {
        let opened = std::fs::File::open(path)?;
        self.device(dir).sync_one(|| path.into(), || rustix::fs::fsync(&opened))
    }

    /// Syncs the file system that a file lies in, in the same way. XFS then writes what is dirty, but flushes the device's cache only if its log
    /// had something to write; the file's own sync always does.
    pub(super) fn sync_file_system(&self, dir: DirId, file: &Path) -> io::Result<()> {
        let opened = std::fs::File::open(file)?;
        let sync = || rustix::fs::syncfs(&opened).and_then(|()| rustix::fs::fdatasync(&opened));
        self.device(dir).sync_one(|| file.into(), sync)
    }

    fn device(&self, dir: DirId) -> &Device {
        &self.dirs[usize::from(dir.0)].device
    }

    /// Flushes and file syncs carried out, and requests they answered.
    pub(super) fn counts(&self) -> (u64, u64) {
        let mut seen: Vec<&Arc<Device>> = Vec::new();
        for dir in &self.dirs {
            if !seen.iter().any(|device| Arc::ptr_eq(device, &dir.device)) {
                seen.push(&dir.device);
            }
        }
        let sum = |count: fn(&Device) -> &AtomicU64| {
            seen.iter().map(|device| count(device).load(Ordering::Relaxed)).sum()
        };
        (sum(|device| &device.syncs), sum(|device| &device.requests))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for dir in &self.dirs {
            dir.device.lock().closed = true;
            dir.device.work.iter().for_each(Condvar::notify_all);
        }
        for thread in self.threads.get_mut().expect("none of them panics").drain(..) {
            let _ = thread.join();
        }
    }
}

impl Device {
    fn new(shared_flush: bool) -> Self {
        Self {
            shared_flush,
            queue: Mutex::default(),
            work: Default::default(),
            syncs: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    fn take_in(&self, request: Request) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.lock();
        if let Some(failure) = queue.failed.clone() {
            drop(queue);
            return request.home.deliver(request.token, Outcome::Count(Err(failure.into())));
        }
        let kind = self.kind(&request.items) as usize;
        queue.waiting[kind].push(request);
        drop(queue);
        self.work[kind].notify_one();
    }

    fn kind(&self, items: &[SyncItem]) -> Kind {
        let is_shared = |item: &SyncItem| self.shared_flush && item.space == Space::Written;
        if items.iter().all(is_shared) { Kind::Flush } else { Kind::Files }
    }

    fn serve(&self, kind: Kind) {
        run_when_woken();
        while let Some(requests) = self.next(kind) {
            let result = self.sync_all(&requests);
            for Request { token, home, .. } in requests {
                home.deliver(token, Outcome::Count(result.clone().map(|()| 0).map_err(Into::into)));
            }
        }
    }

    /// All of a kind that wait, once somebody does.
    fn next(&self, kind: Kind) -> Option<Vec<Request>> {
        let kind = kind as usize;
        let mut queue = self.lock();
        loop {
            let waiting = std::mem::take(&mut queue.waiting[kind]);
            match &queue.failed {
                Some(failure) => {
                    for Request { token, home, .. } in waiting {
                        home.deliver(token, Outcome::Count(Err(failure.clone().into())));
                    }
                }
                None if !waiting.is_empty() => return Some(waiting),
                None => {}
            }
            if queue.closed {
                return None;
            }
            queue = self.work[kind].wait(queue).expect("nothing panics while it holds the queue");
        }
    }

    fn sync_all(&self, requests: &[Request]) -> Result<(), Failure> {
        let mut alone: BTreeMap<u64, &File> = BTreeMap::new();
        let mut shared: Option<&File> = None;
        for SyncItem { file, space } in requests.iter().flat_map(|request| &request.items) {
            // What was written before may have been moved since.
            if *space == Space::Written && self.shared_flush && file.synced().is_still(fd(file)) {
                shared = Some(file);
            } else {
                alone.insert(file.id(), file);
            }
        }
        self.syncs.fetch_add(alone.len().max(1) as u64, Ordering::Relaxed);
        // A file's own sync flushes its device as well, so it serves the shared ones too.
        let flush = shared.filter(|_| alone.is_empty()).map(|file| (file, rustix::fs::fdatasync(fd(file))));
        let syncs = alone.into_values().map(|file| (file, self.sync_by_itself(file)));
        flush
            .into_iter()
            .chain(syncs)
            .try_for_each(|(file, synced)| synced.map_err(|error| self.fail(&file.path(), error)))
    }

    /// Makes a file durable, wherever it lies, and notes where that is.
    fn sync_by_itself(&self, file: &File) -> rustix::io::Result<()> {
        let is_flushed = self.shared_flush && file.mode() == FileMode::Blocks;
        let layout = is_flushed.then(|| Layout::of(fd(file), u64::MAX));
        rustix::fs::fdatasync(fd(file))?;
        if let Some(Ok(layout)) = layout {
            file.synced().set(layout);
        }
        Ok(())
    }

    fn sync_one(
        &self,
        path: impl FnOnce() -> PathBuf,
        sync: impl FnOnce() -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        if let Some(failure) = self.lock().failed.clone() {
            return Err(failure.into());
        }
        Ok(sync().map_err(|error| self.fail(&path(), error))?)
    }

    /// Takes the device offline. The first failure is the one that is told.
    fn fail(&self, path: &Path, error: rustix::io::Errno) -> Failure {
        let error = io::Error::from(error);
        let text = format!("sync of {} failed, its device is offline: {error}", path.display());
        self.lock().failed.get_or_insert(DeviceOffline(text.into())).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocking::run;
    use super::super::{FileMode, Op};
    use super::*;

    #[test]
    fn who_needs_a_flush_alone_does_not_stand_behind_syncs_of_files() {
        let home = Home::new().unwrap();
        let file = File::simulated(1, DirId(0), Path::new("file"), FileMode::Blocks);
        let item = |space| SyncItem { file: file.clone(), space };
        let (flush, sync) = (vec![item(Space::Written)], vec![item(Space::Written), item(Space::Allocated)]);
        for (shared_flush, in_line_for_flushes) in [(true, vec![Token(1)]), (false, vec![])] {
            let device = Device::new(shared_flush);
            for (token, items) in [(0, &sync), (1, &flush), (2, &sync)] {
                device.take_in(Request { token: Token(token), items: items.clone(), home: home.clone() });
            }
            device.lock().closed = true;
            let taken = device.next(Kind::Flush).unwrap_or_default();
            assert_eq!(taken.iter().map(|request| request.token).collect::<Vec<_>>(), in_line_for_flushes);
            assert_eq!(device.next(Kind::Files).unwrap().len(), 3 - in_line_for_flushes.len());
        }
    }

    #[test]
    fn a_file_whose_blocks_were_moved_is_synced_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 64 << 12]).unwrap();
        let real = std::fs::File::options().write(true).open(&path).unwrap();
        real.sync_all().unwrap();
        let device = Device::new(true);
        let file = File::new(1, DirId(0), FileMode::Blocks, real.into());
        let item = SyncItem { file: file.clone(), space: Space::Written };
        let sync = || {
            let request = Request { token: Token(0), items: vec![item.clone()], home: Home::new().unwrap() };
            device.sync_all(&[request]).unwrap();
            file.synced().is_still(fd(&file))
        };
        if !sync() {
            eprintln!("not tested: the file system of temporary files tells no extents");
            return;
        }
        let collapse = rustix::fs::FallocateFlags::COLLAPSE_RANGE;
        rustix::fs::fallocate(fd(&file), collapse, 8 << 12, 4 << 12).unwrap();
        assert!(!file.synced().is_still(fd(&file)));
        assert!(sync(), "it was synced by itself, and where it lies is known");
    }

    #[test]
    fn whatever_sync_fails_the_device_is_offline() {
        for failing in ["sync file", "prepare", "shared sync"] {
            let dir = tempfile::tempdir().unwrap();
            let disks = Disks::start(&[DirFacts::probe(dir.path()).unwrap()], false).unwrap();
            let open = |path: &str| match run(
                Op::Create { dir: DirId(0), path: dir.path().join(path), mode: FileMode::Blocks },
                &disks,
            ) {
                Outcome::Opened(Ok((file, _))) => file,
                other => panic!("{other:?}"),
            };
            let good = open("good");
            let sync = || run(Op::SyncFile { file: good.clone() }, &disks).into_count();
            sync().unwrap();
            // An eventfd cannot be synced.
            let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
            let bad = File::new(u64::MAX, DirId(0), FileMode::Blocks, event);
            match failing {
                "sync file" => {
                    run(Op::SyncFile { file: bad }, &disks).into_count().unwrap_err();
                }
                "prepare" => {
                    disks.sync_file(&bad).unwrap_err();
                    let prepare = Op::Prepare { file: open("new"), from: 0, to: 4096, space: Space::Written };
                    run(prepare, &disks).into_count().unwrap_err();
                }
                _ => {
                    let home = Home::new().unwrap();
                    disks.sync(Token(0), vec![SyncItem { file: bad, space: Space::Allocated }], &home);
                    let mut done = Vec::new();
                    while done.is_empty() {
                        home.take(&mut done);
                    }
                    done.pop().unwrap().outcome.into_count().unwrap_err();
                }
            }
            assert!(sync().is_err(), "after a failed {failing}");
            let path = dir.path().to_owned();
            assert!(run(Op::SyncDir { dir: DirId(0), path }, &disks).into_count().is_err());
            let home = Home::new().unwrap();
            disks.sync(Token(1), vec![SyncItem { file: good, space: Space::Allocated }], &home);
            let mut done = Vec::new();
            home.take(&mut done);
            done.pop().expect("refused at once").outcome.into_count().unwrap_err();
        }
    }
}
