//! Operations and what comes of them.

use super::{DirId, File, FileMode, Listener, Socket, Space};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Names one pending operation of one Driver; chosen by the submitter, not reused while pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What is kept of pending operations, by their tokens.
pub(super) type ByToken<T> = ByNumber<Token, T>;

/// What is kept by numbers that the process itself gives out.
pub(super) type ByNumber<K, T> = HashMap<K, T, BuildHasherDefault<NumberHasher>>;

/// A hash of numbers that nobody outside the process chooses: one multiplication.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: 2^64 over the golden ratio. The table looks at both ends of the hash.
        let product = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One operation. Those under *data path* stay on the shard's core; those under *jobs* may block and run on a
/// helper thread. In the simulator each is a step that can be reordered, delayed, failed or cut short by power loss.
#[expect(missing_docs, reason = "each variant's text speaks of its fields")]
#[derive(Debug)]
pub enum Op {
    // ---- data path: sockets ----
    /// Accept connections until cancelled: one [`Outcome::Accepted`] each.
    Accept { listener: Listener },
    /// Receive what comes next, up to `bytes_max` (not 0) or a buffer of it: [`Outcome::Received`], empty at the end of stream.
    /// Nothing is taken from a socket on which none is pending. The bytes lie in a shared receive buffer: consume or copy them
    /// soon, they starve others while held. At most one `Recv` or `RecvExact` is pending on a socket.
    Recv { socket: Socket, bytes_max: usize },
    /// Receive exactly `len` more bytes behind those that `into` holds (what came of a large body before its length was
    /// known), and without moving it where it has room for them: [`Outcome::Received`] with all of them, fewer only at
    /// the end of stream.
    RecvExact { socket: Socket, into: BytesMut, len: usize },
    /// Wait until the peer sends no more, whether or not all it sent has been received, or the connection fails:
    /// [`Outcome::Count`]. At most one is pending on a socket.
    HangUp { socket: Socket },
    /// Send all of these bytes in order: [`Outcome::Count`]. At most one `Send` or `SendFile` is pending on a socket.
    Send { socket: Socket, parts: Vec<Bytes> },
    /// Send `len` bytes of a [`FileMode::Cached`] file from `pos` without copying them: [`Outcome::Count`].
    /// Never stalls the shard: bytes that are not in memory are first brought there by a helper.
    SendFile { socket: Socket, file: File, pos: u64, len: u64 },
    /// Shut down and close a socket, after its other operations have ended: [`Outcome::Count`].
    CloseSocket { socket: Socket },

    // ---- data path: files ----
    /// Write all of these bytes at `pos`, and `more` behind them: [`Outcome::Count`]. In [`FileMode::Blocks`] everything is a
    /// multiple of 4 KiB (position, lengths, addresses) and lies within the file's size.
    Write { file: File, pos: u64, bytes: Bytes, more: Vec<Bytes> },
    /// Read up to `len` bytes at `pos`: [`Outcome::Received`], shorter at the end of the file.
    Read { file: File, pos: u64, len: usize },
    /// Make everything written to these files by operations that *completed before this one was submitted* durable:
    /// [`Outcome::Count`]. Shared: one flush serves all requests that were waiting when it began. A failure of this, or of
    /// any other operation that syncs, is final for the whole device: every later one on it fails as well.
    Sync { items: Vec<SyncItem> },

    // ---- jobs ----
    /// Open an existing file: [`Outcome::Opened`].
    Open { dir: DirId, path: PathBuf, mode: FileMode },
    /// Create a file that does not exist (`AlreadyExists` otherwise): [`Outcome::Opened`].
    /// Its directory entry is durable only after [`Op::SyncDir`].
    Create { dir: DirId, path: PathBuf, mode: FileMode },
    /// Make a file ready to be recycled: open it in [`FileMode::Blocks`], its size a multiple of 4 KiB, and the blocks of 4 KiB at `zeroed`
    /// zeroes; durable only after [`Op::SyncFile`]: [`Outcome::Opened`]. Refused as [`Op::Recycle`] is.
    Blank { dir: DirId, path: PathBuf, zeroed: Vec<u64> },
    /// Give a file that was made ready another name, and open it in [`FileMode::Blocks`] to be written over: [`Outcome::Opened`], all of it
    /// [`Space::Written`]. The name is durable only after [`Op::SyncDir`]. An error leaves the old name: `ResourceBusy` where somebody has
    /// it open or it has other names, `Unsupported` where not all of its blocks are its own and were written.
    Recycle { dir: DirId, from: PathBuf, to: PathBuf },
    /// Prepare space that holds zeroes, `from` to `to`: [`Outcome::Count`]. [`Space::Allocated`] grows the file, which shuts out its
    /// writes meanwhile; [`Space::Written`] ends durable, and shuts out none if the space was allocated before.
    Prepare { file: File, from: u64, to: u64, space: Space },
    /// Make blocks within the file, `from` to `to`, read as zeroes, their space kept: it is [`Space::Allocated`] again. Waits for direct writes
    /// that are on their way; durable only after [`Op::SyncFile`]: [`Outcome::Count`], `Unsupported` where the file system cannot.
    Zero { file: File, from: u64, to: u64 },
    /// Cut or extend the file to `len` bytes; durable only after [`Op::SyncFile`]: [`Outcome::Count`].
    Truncate { file: File, len: u64 },
    /// `fdatasync` of exactly this file, unshared, for files off the data path: [`Outcome::Count`].
    SyncFile { file: File },
    /// Rename within one file system; durable only after [`Op::SyncDir`] of both directories: [`Outcome::Count`].
    Rename { dir: DirId, from: PathBuf, to: PathBuf },
    /// Remove a file; durable only after [`Op::SyncDir`]: [`Outcome::Count`].
    Unlink { dir: DirId, path: PathBuf },
    /// Create a directory and the missing ones above it (existing is fine): [`Outcome::Count`].
    MakeDir { dir: DirId, path: PathBuf },
    /// Remove an empty directory: [`Outcome::Count`].
    RemoveDir { dir: DirId, path: PathBuf },
    /// Make a directory's entries durable: [`Outcome::Count`].
    SyncDir { dir: DirId, path: PathBuf },
    /// Make everything durable that the file system of this file holds, by whomever it was written: [`Outcome::Count`]. For many files at
    /// once, off the data path: it waits for what others have written as well.
    SyncFileSystem { dir: DirId, file: PathBuf },
    /// List a directory: [`Outcome::Listing`], in name order.
    List { dir: DirId, path: PathBuf },
    /// How large the file system is that a directory lies in: [`Outcome::Capacity`].
    Capacity { dir: DirId, path: PathBuf },
    /// Work for the processor that would hold the shard up: [`Outcome::Count`] when it is done. At low priority, and one at a time in
    /// the process.
    Compute { work: Work },
    /// Let go of a file: [`Outcome::Count`]. The descriptor closes, on a helper thread, with the last clone.
    Close { file: File },
}

/// Something to be done once, on another thread.
#[derive(Clone)]
pub struct Work(Arc<Mutex<Option<Job>>>);

type Job = Box<dyn FnOnce() + Send>;

impl Work {
    /// Wraps it.
    pub fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(work)))))
    }

    /// Does it, unless it has been done.
    pub fn run(&self) {
        let work = self.0.lock().expect("nothing panics while it holds the work").take();
        if let Some(work) = work {
            work();
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// One file of a [`Op::Sync`].
#[derive(Debug, Clone)]
pub struct SyncItem {
    /// The file that was written.
    pub file: File,
    /// Whether every block written since its last sync lay in [`Space::Written`] space. If not, only an
    /// `fdatasync` of this very file makes the data durable; if so, any flush of its device does.
    pub space: Space,
}

/// What came of an operation.
#[derive(Debug)]
pub enum Outcome {
    /// Bytes moved, or 0 for operations that move none.
    Count(io::Result<u64>),
    /// Bytes received or read.
    Received(io::Result<Bytes>),
    /// A connection and its peer.
    Accepted(io::Result<(Socket, SocketAddr)>),
    /// A file and its size in bytes.
    Opened(io::Result<(File, u64)>),
    /// The entries of a directory.
    Listing(io::Result<Vec<DirEntry>>),
    /// The size of a file system.
    Capacity(io::Result<Capacity>),
}

/// The size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// All its bytes.
    pub total_bytes: u64,
    /// Those that are free for us.
    pub usable_bytes: u64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// Its size in bytes.
    pub len: u64,
}

/// One outcome of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation.
    pub token: Token,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether more completions of this token will come (`Accept`, `Recv`).
    pub more: bool,
}
