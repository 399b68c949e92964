//! The Driver seam: every system call of the data path is an [`Op`] given to a [`Driver`].
//!
//! A shard owns one Driver. It submits operations under a [`Token`], then takes one [`Driver::turn`]
//! after another; each turn hands back the operations that ended. Nothing else in ringlog reads the
//! clock, draws randomness, touches a file or a socket, so one seed replays a whole broker when the
//! Driver is the simulator.
//!
//! ```text
//!   task ── io.write(file, pos, bytes).await ──▶ Io ── submit(token, Op) ──▶ Driver ──▶ kernel
//!   task ◀── wakes ── Io ◀── turn() ── Completion { token, outcome, more } ◀────────────┘
//! ```
//!
//! Ownership: a buffer moves into its operation and is held by the Driver until the *last* completion
//! of that token; dropping the future that waits frees nothing and cancels nothing.

mod blocking;
pub mod buf;
mod clock;
mod extents;
mod failure;
mod file;
mod flusher;
mod freeing;
mod handle;
mod heap;
pub mod host;
mod jobs;
mod lent;
mod names;
mod net;
mod op;
mod page_cache;
mod poll;
mod probe;
mod recycling;
mod scheduling;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod small_file;
mod time;
mod uring;
mod wakeup;
mod worker_threads;

pub use failure::{is_no_space, is_of_device};
pub use file::{DirId, File, FileMode, Listener, Socket, Space};
pub use handle::{Io, Stream};
pub use heap::give_back_memory;
pub use names::look_up_hosts_without_plugins;
pub use op::{Capacity, Completion, DirEntry, Op, Outcome, SyncItem, Token, Work};
pub use probe::DirFacts;
pub use time::{Instant, WallTime};

use std::sync::Arc;

/// What a shard waits for when it has nothing left to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Take what has already ended, submit what is queued, do not sleep.
    None,
    /// Sleep until something ends, a [`Notifier`] wakes this Driver, or this instant comes.
    Until(Instant),
    /// Sleep until something ends or a [`Notifier`] wakes this Driver.
    Forever,
}

/// One shard's way to the kernel, or to the simulator that stands in for it.
pub trait Driver {
    /// Queues one operation. Never blocks; it is handed to the kernel at the next turn at the latest.
    fn submit(&mut self, token: Token, op: Op);

    /// Reads a [`FileMode::Cached`] or [`FileMode::CachedWrite`] file at once where all of it is in memory, short only at
    /// its end. `None`: this would wait, or the Driver cannot tell; [`Op::Read`] does it.
    fn read_resident(&mut self, _file: &File, _pos: u64, _len: usize) -> Option<bytes::Bytes> {
        None
    }

    /// Sends as many of these bytes, in order, as a socket takes at once, and returns how many; no send is pending on it. The rest, and
    /// what is wrong with the socket, is for [`Op::Send`].
    fn send_at_once(&mut self, _socket: &Socket, _parts: &[bytes::Bytes]) -> usize {
        0
    }

    /// Bytes that have come to a socket and have not been received.
    fn unread(&self, _socket: &Socket) -> usize {
        0
    }

    /// Asks that a pending operation end early. Its last completion still comes (with
    /// [`std::io::ErrorKind::Interrupted`] / `ECANCELED`, or with its result if it was quicker).
    fn cancel(&mut self, token: Token);

    /// Submits what is queued, waits as told, and appends every operation that ended to `done`.
    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>);

    /// Opens a listening TCP socket. `SO_REUSEPORT` is set, so that each shard may listen on one address;
    /// the caller has first proved with an exclusive bind that no other process holds it.
    fn listen(&mut self, address: std::net::SocketAddr) -> std::io::Result<(Listener, std::net::SocketAddr)>;

    /// A handle with which other threads wake this Driver out of [`Driver::turn`].
    fn notifier(&self) -> Arc<dyn Notifier>;

    /// Monotonic time.
    fn now(&self) -> Instant;

    /// Wall-clock time, for record timestamps.
    fn wall_time(&self) -> WallTime;

    /// 64 random bits.
    fn random(&mut self) -> u64;

    /// `uring`, `poll` or `sim`.
    fn name(&self) -> &'static str;

    /// Counters since start: what left the shard's core, system calls, flushes.
    fn counters(&self) -> Counters;
}

/// Wakes a sleeping shard from another thread.
pub trait Notifier: Send + Sync {
    /// Makes the Driver's current or next sleep end. Cheap when the shard is awake: no system call.
    fn wake(&self);
}

/// What a Driver has done since start; each field only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Turns taken.
    pub turns: u64,
    /// System calls that entered the ring or waited (`io_uring_enter`, `epoll_wait`).
    pub enters: u64,
    /// Operations the kernel punted to an io-wq thread.
    pub punts: u64,
    /// Operations run on helper threads (jobs).
    pub jobs: u64,
    /// Device flushes and file syncs carried out, after sharing.
    pub syncs: u64,
    /// Sync requests asked for, before sharing.
    pub sync_requests: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
}
