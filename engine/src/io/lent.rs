//! Shared receive buffers: a ring of them belongs to the kernel, which fills whichever is next; the filled one is lent out
//! and goes home when its bytes are dropped, on whatever thread.
//!
//! ```text
//!   kernel ──fills──▶ lend() ──Bytes──▶ dropped anywhere ──▶ returned list ──take_back()──▶ kernel, or spare
//! ```
//!
//! The kernel takes them in the order in which it got them. It has only as many as have been needed at a time, and the next it gets is
//! the one that came back last: so what is received lies in memory that the processor still has in its cache.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use super::Notifier;
use super::jobs::Home;
use bytes::Bytes;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// The group under which the ring of buffers is registered.
pub(super) const RECV_GROUP: u16 = 0;
/// Buffers of a shard. A power of two.
pub(super) const BUFFERS: u16 = 128;
/// Bytes of one buffer: four batches of Kafka clients' default 16 KiB, so that few of them lie in two.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// Up to this many received bytes are copied out, so that small requests that wait long do not hold buffers.
const COPY_BYTES_MAX: usize = 512;

/// Buffers that the kernel has, at first: what they hold fits into a processor's own cache.
const READY_LEAST: u16 = 16;

/// The buffers of one shard.
pub(super) struct Lender {
    memory: Arc<Memory>,
    /// Buffers that nobody has; the last came back last.
    spare: Vec<u16>,
    /// Buffers that the kernel should have.
    ready: u16,
    /// Entries given to the kernel so far.
    tail: u16,
    /// Buffers the kernel has and nobody is known to have got.
    free: u16,
}

/// The buffers' memory and the list of those that came back.
struct Memory {
    /// Of [`BufRingEntry`].
    ring: Mapped,
    buffers: Mapped,
    count: u16,
    returned: Mutex<Vec<u16>>,
    /// Whether a receive waits for a buffer, so that one that comes back must wake the shard.
    starved: AtomicBool,
    notifier: Mutex<Option<Arc<Home>>>,
}

// SAFETY: the pointers are to memory that this structure owns. A buffer's bytes are written by the kernel before it is lent and
// by nobody while it is; the ring's entries are written by the shard's thread alone.
unsafe impl Send for Memory {}
// SAFETY: as above: shared access reads lent buffers and pushes to the locked list.
unsafe impl Sync for Memory {}

impl Lender {
    /// Registers `count` buffers (a power of two) with the ring and gives them all to the kernel.
    pub(super) fn new(ring: &IoUring, count: u16) -> io::Result<Self> {
        let memory = Arc::new(Memory::new(count)?);
        let at = memory.ring.at.as_ptr().addr() as u64;
        // SAFETY: the ring of buffers is as long as told, aligned to a page, and outlives the ring: `UringDriver` closes its
        // ring before it drops its lender.
        unsafe { ring.submitter().register_buf_ring_with_flags(at, count, RECV_GROUP, 0)? };
        let spare = (0..count).rev().collect();
        let mut lender = Self { memory, spare, ready: READY_LEAST.min(count), tail: 0, free: 0 };
        lender.make_ready();
        Ok(lender)
    }

    /// Names whom to wake when a buffer comes back while a receive waits for one.
    pub(super) fn wake_when_starved(&self, home: Arc<Home>) {
        *self.memory.notifier.lock().expect("nothing panics while it holds this") = Some(home);
    }

    /// The bytes the kernel has put into a buffer.
    pub(super) fn lend(&mut self, buffer: u16, len: usize) -> Bytes {
        self.free -= 1;
        let lent = Lent { memory: self.memory.clone(), buffer, len };
        if len <= COPY_BYTES_MAX { Bytes::copy_from_slice(lent.as_ref()) } else { Bytes::from_owner(lent) }
    }

    /// How many buffers a receive may find, at most.
    pub(super) fn free(&self) -> u16 {
        self.free
    }

    /// Takes the buffers that came back, and gives the kernel what it should have: from now on so many more, which were missing.
    pub(super) fn take_back(&mut self, missing: usize) {
        let missing = u16::try_from(missing).unwrap_or(u16::MAX);
        self.ready = self.ready.saturating_add(missing).min(self.memory.count);
        let before = self.spare.len();
        self.spare.append(&mut self.memory.returned());
        if self.spare.len() > before {
            self.memory.starved.store(false, Ordering::SeqCst);
        }
        self.make_ready();
    }

    fn make_ready(&mut self) {
        while self.free < self.ready
            && let Some(buffer) = self.spare.pop()
        {
            self.provide(buffer);
        }
    }

    /// A receive waits for a buffer: the next that comes back wakes the shard, and so does one that has come back already.
    pub(super) fn starve(&self) {
        self.memory.starved.store(true, Ordering::SeqCst);
        if !self.memory.returned().is_empty() {
            self.memory.wake();
        }
    }

    fn provide(&mut self, buffer: u16) {
        let memory = &self.memory;
        let at = memory.at(buffer).addr() as u64;
        let slot = usize::from(self.tail & (memory.count - 1));
        let entries: *mut BufRingEntry = memory.ring.at.as_ptr().cast();
        // SAFETY: `slot` is below `count`, the length of the ring.
        let entry = unsafe { entries.add(slot) };
        // SAFETY: the entry is initialised (zeroed) memory of ours, and the kernel does not read it before the tail passes it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(at);
        entry.set_len(u32::try_from(BUFFER_BYTES).expect("a small constant"));
        entry.set_bid(buffer);
        self.free += 1;
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the address is that of the ring's first, initialised entry.
        let tail = unsafe { BufRingEntry::tail(entries) };
        // SAFETY: the tail is an aligned u16 in the ring's memory, which the kernel reads and only this thread writes.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Memory {
    fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel wants a power of two");
        Ok(Self {
            ring: Mapped::new(usize::from(count) * size_of::<BufRingEntry>())?,
            buffers: Mapped::new(usize::from(count) * BUFFER_BYTES)?,
            count,
            returned: Mutex::default(),
            starved: AtomicBool::new(false),
            notifier: Mutex::new(None),
        })
    }

    fn at(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < self.count, "the kernel names buffers it was given");
        // SAFETY: the buffers' memory is `count` times BUFFER_BYTES long.
        unsafe { self.buffers.at.as_ptr().add(usize::from(buffer) * BUFFER_BYTES) }
    }

    fn wake(&self) {
        if let Some(home) = &*self.notifier.lock().expect("nothing panics while it holds this") {
            home.wakeup.wake();
        }
    }

    fn returned(&self) -> std::sync::MutexGuard<'_, Vec<u16>> {
        self.returned.lock().expect("nothing panics while it holds the list")
    }
}

/// One filled buffer, on loan.
struct Lent {
    memory: Arc<Memory>,
    buffer: u16,
    len: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        assert!(self.len <= BUFFER_BYTES, "the kernel fills within a buffer");
        // SAFETY: the kernel has filled `len` bytes, and writes to the buffer again only after it has been given back.
        unsafe { std::slice::from_raw_parts(self.memory.at(self.buffer), self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.memory.returned().push(self.buffer);
        if self.memory.starved.load(Ordering::SeqCst) {
            self.memory.wake();
        }
    }
}

/// Memory that is the process's from the first touch of each page on: an allocator would touch all of it at once, to zero it.
struct Mapped {
    at: NonNull<u8>,
    len: usize,
}

impl Mapped {
    fn new(len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let at = unsafe { mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE)? };
        Ok(Self { at: NonNull::new(at.cast()).expect("no memory lies at zero"), len })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, and nobody lends or fills buffers any more.
        let unmapped = unsafe { munmap(self.at.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}
