//! A Driver for the log's tests: real files, done at once and in order; a clock that jumps to the next timer; and a process that
//! can be stopped after any number of operations.

use crate::io::{
    Completion, Counters, DirEntry, Driver, File, FileMode, Instant, Listener, Notifier, Op, Outcome, Space,
    Token, Wait, WallTime,
};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// What a test tells its Driver, and asks it.
#[derive(Default)]
pub(super) struct Control {
    /// File operations that are still carried out; the process "dies" before the next one. `None`: all.
    pub(super) operations_left: Option<usize>,
    /// Fails the operations this accepts.
    pub(super) fails: Option<Fails>,
    /// Holds back the operations this accepts until it is changed.
    pub(super) holds: Option<Holds>,
    /// Every operation carried out, by its name.
    pub(super) done: Vec<&'static str>,
    /// Nanoseconds since the start.
    pub(super) now: u64,
    pub(super) wall: i64,
    /// What files held when they were recycled, by their new names.
    pub(super) recycled: Vec<(PathBuf, Vec<u8>)>,
    pub(super) held: VecDeque<(Token, Op)>,
}

type Fails = Box<dyn Fn(&Op) -> Option<io::ErrorKind>>;
type Holds = Box<dyn Fn(&Op) -> bool>;

pub(super) type Handle = Rc<RefCell<Control>>;

pub(super) struct FileDriver {
    control: Handle,
    ready: VecDeque<Completion>,
    next_file: u64,
    random: u64,
}

impl FileDriver {
    pub(super) fn new(control: Handle) -> Self {
        Self { control, ready: VecDeque::new(), next_file: 0, random: 1 }
    }

    fn open(&mut self, dir: crate::io::DirId, path: &Path, mode: FileMode, create: bool) -> Outcome {
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(!matches!(mode, FileMode::Cached | FileMode::CachedOnce))
            .create_new(create)
            .open(path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        Outcome::Opened(opened.map(|(len, file)| {
            self.next_file += 1;
            (File::new(self.next_file, dir, mode, OwnedFd::from(file)), len)
        }))
    }

    /// Makes a file ready to be recycled.
    fn blank(&mut self, dir: crate::io::DirId, path: &Path, zeroed: &[u64]) -> Outcome {
        let blanked = refuse_open(path).and_then(|()| {
            let file = std::fs::OpenOptions::new().write(true).open(path)?;
            let len = file.metadata()?.len().next_multiple_of(4096);
            file.set_len(len)?;
            zeroed.iter().filter(|pos| **pos < len).try_for_each(|pos| file.write_all_at(&[0; 4096], *pos))
        });
        match blanked {
            Ok(()) => self.open(dir, path, FileMode::Blocks, false),
            Err(error) => Outcome::Opened(Err(error)),
        }
    }

    fn recycle(&mut self, dir: crate::io::DirId, from: &Path, to: &Path) -> Outcome {
        let renamed = refuse_open(from).and_then(|()| std::fs::rename(from, to));
        match renamed.and_then(|()| std::fs::read(to)) {
            Ok(held) => {
                assert!(held.len().is_multiple_of(4096), "it was made ready");
                self.control.borrow_mut().recycled.push((to.into(), held));
                self.open(dir, to, FileMode::Blocks, false)
            }
            Err(error) => Outcome::Opened(Err(error)),
        }
    }

    fn carry_out(&mut self, op: &Op) -> Outcome {
        let count = |result: io::Result<()>| Outcome::Count(result.map(|()| 0));
        match op {
            Op::Write { file, pos, bytes, more } => Outcome::Count(std_file(file).and_then(|std| {
                let mut end = *pos;
                for part in iter::once(bytes).chain(more) {
                    if file.mode() == FileMode::Blocks {
                        assert!(end.is_multiple_of(4096) && part.len().is_multiple_of(4096), "whole blocks");
                        assert_eq!(part.as_ptr() as usize % 4096, 0, "aligned memory");
                        assert!(end + part.len() as u64 <= std.metadata()?.len(), "within the file");
                    }
                    std.write_all_at(part, end)?;
                    end += part.len() as u64;
                }
                Ok(end - pos)
            })),
            Op::Read { file, pos, len } => Outcome::Received(std_file(file).and_then(|std| {
                if file.mode() == FileMode::Blocks {
                    assert!(pos.is_multiple_of(4096) && len.is_multiple_of(4096), "whole blocks");
                }
                let mut bytes = vec![0; *len];
                let mut read = 0;
                while read < *len {
                    match std.read_at(&mut bytes[read..], pos + read as u64)? {
                        0 => break,
                        more => read += more,
                    }
                }
                bytes.truncate(read);
                Ok(Bytes::from(bytes))
            })),
            Op::Sync { .. } | Op::SyncFile { .. } | Op::SyncDir { .. } | Op::Close { .. } => {
                Outcome::Count(Ok(0))
            }
            Op::Open { dir, path, mode } => self.open(*dir, path, *mode, false),
            Op::Create { dir, path, mode } => self.open(*dir, path, *mode, true),
            Op::Blank { dir, path, zeroed } => self.blank(*dir, path, zeroed),
            Op::Recycle { dir, from, to } => self.recycle(*dir, from, to),
            Op::Prepare { file, from, to, space } => count(std_file(file).and_then(|std| {
                let len = std.metadata()?.len();
                assert!(from < to, "some space");
                match space {
                    Space::Allocated => {
                        assert!(len <= from.next_multiple_of(4096), "only space past the end is prepared");
                        std.set_len(*to)
                    }
                    Space::Written => {
                        assert_eq!(len, *to, "what is written ahead was allocated before");
                        Ok(())
                    }
                }
            })),
            Op::Zero { file, from, to } => count(std_file(file).and_then(|std| {
                let zeroes = vec![0; usize::try_from(to - from).unwrap()];
                std.write_all_at(&zeroes, *from)
            })),
            Op::Truncate { file, len } => count(std_file(file).and_then(|std| std.set_len(*len))),
            Op::Compute { work } => {
                work.run();
                Outcome::Count(Ok(0))
            }
            Op::Rename { from, to, .. } => count(std::fs::rename(from, to)),
            Op::Unlink { path, .. } => count(std::fs::remove_file(path)),
            Op::MakeDir { path, .. } => count(std::fs::create_dir_all(path)),
            Op::RemoveDir { path, .. } => count(std::fs::remove_dir(path)),
            Op::List { path, .. } => Outcome::Listing(list(path)),
            other => panic!("the log does not ask for {other:?}"),
        }
    }

    fn run(&mut self, token: Token, op: Op) {
        let control = self.control.clone();
        if let Some(left) = control.borrow_mut().operations_left.as_mut() {
            if *left == 0 {
                return;
            }
            *left -= 1;
        }
        let failure = control.borrow().fails.as_ref().and_then(|fails| fails(&op));
        let outcome = match failure {
            Some(kind) => failed(&op, kind),
            None => self.carry_out(&op),
        };
        control.borrow_mut().done.push(name(&op));
        self.ready.push_back(Completion { token, outcome, more: false });
    }
}

/// Refuses a file that somebody has open.
fn refuse_open(path: &Path) -> io::Result<()> {
    let mut open = std::fs::read_dir("/proc/self/fd")?;
    match open.any(|fd| fd.and_then(|fd| std::fs::read_link(fd.path())).is_ok_and(|open| open == path)) {
        true => Err(io::ErrorKind::ResourceBusy.into()),
        false => Ok(()),
    }
}

fn std_file(file: &File) -> io::Result<std::fs::File> {
    Ok(std::fs::File::from(file.fd().expect("opened by this Driver").try_clone()?))
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let name = entry.file_name().into_string().expect("names are text");
        entries.push(DirEntry { name, is_dir: metadata.is_dir(), len: metadata.len() });
    }
    entries.sort();
    Ok(entries)
}

fn failed(op: &Op, kind: io::ErrorKind) -> Outcome {
    let error = match kind {
        // As the kernel tells it: it says that the device is not well.
        io::ErrorKind::ReadOnlyFilesystem => io::Error::from_raw_os_error(30),
        kind => kind.into(),
    };
    match op {
        Op::Read { .. } => Outcome::Received(Err(error)),
        Op::Open { .. } | Op::Create { .. } | Op::Blank { .. } | Op::Recycle { .. } => {
            Outcome::Opened(Err(error))
        }
        Op::List { .. } => Outcome::Listing(Err(error)),
        _ => Outcome::Count(Err(error)),
    }
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Write { .. } => "write",
        Op::Read { .. } => "read",
        Op::Sync { .. } => "sync",
        Op::SyncFile { .. } => "sync file",
        Op::SyncDir { .. } => "sync directory",
        Op::Open { .. } => "open",
        Op::Create { .. } => "create",
        Op::Blank { .. } => "blank",
        Op::Recycle { .. } => "recycle",
        Op::Prepare { .. } => "prepare",
        Op::Zero { .. } => "zero",
        Op::Truncate { .. } => "truncate",
        Op::Rename { .. } => "rename",
        Op::Unlink { .. } => "unlink",
        Op::MakeDir { .. } => "make directory",
        Op::RemoveDir { .. } => "remove directory",
        Op::List { .. } => "list",
        Op::Close { .. } => "close",
        Op::Compute { .. } => "compute",
        _ => "other",
    }
}

impl Driver for FileDriver {
    fn submit(&mut self, token: Token, op: Op) {
        let held = self.control.borrow().holds.as_ref().is_some_and(|holds| holds(&op));
        if held {
            self.control.borrow_mut().held.push_back((token, op));
        } else {
            self.run(token, op);
        }
    }

    fn cancel(&mut self, _: Token) {}

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        let held = std::mem::take(&mut self.control.borrow_mut().held);
        for (token, op) in held {
            self.submit(token, op);
        }
        // For a dead process no time passes: what looks again and again at a log that never goes on would keep it turning.
        let dead = self.control.borrow().operations_left == Some(0);
        if let (Wait::Until(at), true, false) = (wait, self.ready.is_empty(), dead) {
            let mut control = self.control.borrow_mut();
            let nanos = at.as_nanos().max(control.now);
            control.wall += ((nanos - control.now) / 1_000_000) as i64;
            control.now = nanos;
        }
        done.extend(self.ready.drain(..));
    }

    fn listen(&mut self, _: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn notifier(&self) -> Arc<dyn Notifier> {
        struct Silent;
        impl Notifier for Silent {
            fn wake(&self) {}
        }
        Arc::new(Silent)
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.control.borrow().now)
    }

    fn wall_time(&self) -> WallTime {
        WallTime(self.control.borrow().wall)
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random
    }

    fn name(&self) -> &'static str {
        "test"
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
