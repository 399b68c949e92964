//! Handles: open files, sockets and listeners as the seam names them.

use super::extents::Synced;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
#[cfg(any(test, feature = "sim"))]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(any(test, feature = "sim"))]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

/// An open file. Clones share one descriptor, and may be used by the Drivers of all shards.
///
/// The last clone should be given to [`super::Op::Close`]: closing an unlinked file frees its blocks, which
/// may take long, and must not happen on a shard's thread.
#[derive(Clone)]
pub struct File(Arc<Inner>);

struct Inner {
    id: u64,
    mode: FileMode,
    dir: DirId,
    open: Open,
    /// Has been given to [`super::Op::Close`].
    closed: AtomicBool,
    synced: Synced,
}

enum Open {
    Descriptor(OwnedFd),
    /// In the simulator, which keeps its files by `id`: the path it was opened under.
    #[cfg(any(test, feature = "sim"))]
    Simulated(Box<Path>),
}

impl File {
    /// Wraps what a Driver opened. `id` is unique within the process.
    pub fn new(id: u64, dir: DirId, mode: FileMode, fd: OwnedFd) -> Self {
        Self::opened(id, dir, mode, Open::Descriptor(fd))
    }

    /// The same in the simulator. `id` is unique within its world.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn simulated(id: u64, dir: DirId, path: &Path, mode: FileMode) -> Self {
        Self::opened(id, dir, mode, Open::Simulated(path.into()))
    }

    fn opened(id: u64, dir: DirId, mode: FileMode, open: Open) -> Self {
        let (closed, synced) = (AtomicBool::new(false), Synced::default());
        Self(Arc::new(Inner { id, mode, dir, open, closed, synced }))
    }

    /// A handle that tells whether others are left.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn downgrade(&self) -> WeakFile {
        WeakFile(Arc::downgrade(&self.0))
    }

    /// Unique within the process; never reused.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// How it was opened.
    pub fn mode(&self) -> FileMode {
        self.0.mode
    }

    /// The data directory it lies in, whose device its syncs go to.
    pub fn dir(&self) -> DirId {
        self.0.dir
    }

    /// A path of it, as far as one is known: for what is said when something is wrong with it. The kernel knows it anyway, and of ten thousand
    /// open files hardly one is ever spoken of.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.0.open {
            Open::Descriptor(fd) => {
                let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                std::fs::read_link(&link).unwrap_or(link)
            }
            #[cfg(any(test, feature = "sim"))]
            Open::Simulated(path) => path.to_path_buf(),
        }
    }

    /// The descriptor; `None` in the simulator.
    pub fn fd(&self) -> Option<&OwnedFd> {
        match &self.0.open {
            Open::Descriptor(fd) => Some(fd),
            #[cfg(any(test, feature = "sim"))]
            Open::Simulated(_) => None,
        }
    }

    /// Where its blocks lay when it was last synced by itself.
    pub(super) fn synced(&self) -> &Synced {
        &self.0.synced
    }

    /// Notes that it is being closed: the descriptor goes with the last clone, and no Driver may hold it longer.
    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Whether it is being closed, though other clones may still be read from.
    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("id", &self.0.id).field("path", &self.path()).finish()
    }
}

/// What is left of a file when its handles are gone.
#[cfg(any(test, feature = "sim"))]
pub(super) struct WeakFile(Weak<Inner>);

#[cfg(any(test, feature = "sim"))]
impl WeakFile {
    /// Whether somebody has it.
    pub(super) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// A data directory (Kafka's log directory), by its place in the configured list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(pub u16);

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileMode {
    /// Read and write in whole, aligned 4 KiB blocks; past the page cache where the directory's probe chose so.
    /// The engine aligns positions, lengths and memory in this mode on every Driver.
    Blocks,
    /// Read only, through the page cache, any position: sealed segments, small files. A long read brings some of what follows.
    Cached,
    /// As `Cached`, but a read brings no more than it asks for: a log that is read from end to end in pieces, while others
    /// wait for the same device; a segment of which only the front may lie in the page cache.
    CachedOnce,
    /// Read and write through the page cache, any position: checkpoints, indexes, metadata.
    CachedWrite,
}

/// How space ahead of the end of a segment is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Blocks allocated and the size set, extents unwritten: cheap to make; each file must be synced by itself.
    Allocated,
    /// Zeroes written and synced: a later write may be covered by a shared flush of the device.
    Written,
}

/// A connected TCP socket. May move to another shard while none of its operations is pending.
#[derive(Clone)]
pub struct Socket(Arc<SocketInner>);

struct SocketInner {
    id: u64,
    fd: Option<OwnedFd>,
}

impl Socket {
    /// Wraps what a Driver accepted or connected. `id` is unique within the process (or the simulated world).
    pub fn new(id: u64, fd: Option<OwnedFd>) -> Self {
        Self(Arc::new(SocketInner { id, fd }))
    }

    /// Unique within the process; never reused.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The descriptor; `None` in the simulator.
    pub fn fd(&self) -> Option<&OwnedFd> {
        self.0.fd.as_ref()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.0.id)
    }
}

/// A listening TCP socket of one Driver.
#[derive(Debug, Clone)]
pub struct Listener(pub Socket);
