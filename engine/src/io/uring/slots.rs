//! Registered descriptors: an operation names its file or socket by slot, which saves the kernel a lookup and a reference count.

use crate::io::op::ByNumber;
use crate::io::{File, blocking};
use io_uring::{IoUring, types};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Registered files and sockets; what goes beyond is named by its descriptor.
const SLOTS_MAX: u32 = 16 * 1024;

/// Registered descriptors, by the ids of their files and sockets.
pub(super) struct Slots {
    slot_of: ByNumber<u64, u32>,
    pub(super) free: Vec<u32>,
}

/// How an entry names a descriptor.
pub(super) enum Target {
    Slot(types::Fixed),
    Descriptor(types::Fd),
}

impl Slots {
    pub(super) fn register(ring: &IoUring) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let count = limit.map_or(SLOTS_MAX, |limit| u32::try_from(limit).unwrap_or(SLOTS_MAX).min(SLOTS_MAX));
        let count = if ring.submitter().register_files_sparse(count).is_ok() { count } else { 0 };
        Self { slot_of: ByNumber::default(), free: (0..count).rev().collect() }
    }

    /// Registers the locks on the data directories as well: if this process is killed, they are let go only with the
    /// ring, when no write of it can land any more in files that belong to somebody else by then.
    pub(super) fn hold(&mut self, ring: &IoUring, locks: &[OwnedFd]) -> io::Result<()> {
        for lock in locks {
            let slot = self.free.pop().ok_or(io::ErrorKind::OutOfMemory)?;
            ring.submitter().register_files_update(slot, &[lock.as_raw_fd()])?;
        }
        Ok(())
    }

    pub(super) fn of(&mut self, ring: &IoUring, id: u64, fd: &OwnedFd) -> Target {
        if let Some(slot) = self.slot_of.get(&id) {
            return Target::Slot(types::Fixed(*slot));
        }
        let Some(slot) = self.free.pop() else { return Target::Descriptor(types::Fd(fd.as_raw_fd())) };
        match ring.submitter().register_files_update(slot, &[fd.as_raw_fd()]) {
            Ok(_) => {
                self.slot_of.insert(id, slot);
                Target::Slot(types::Fixed(slot))
            }
            Err(_) => {
                self.free.push(slot);
                Target::Descriptor(types::Fd(fd.as_raw_fd()))
            }
        }
    }

    /// A file that is being closed gets no slot any more: nobody would take it back, and the ring would keep the file open.
    pub(super) fn of_file(&mut self, ring: &IoUring, file: &File) -> Target {
        let fd = blocking::fd(file);
        if file.is_closed() {
            Target::Descriptor(types::Fd(fd.as_raw_fd()))
        } else {
            self.of(ring, file.id(), fd)
        }
    }

    pub(super) fn release(&mut self, ring: &IoUring, id: u64) {
        let Some(slot) = self.slot_of.remove(&id) else { return };
        let cleared = ring.submitter().register_files_update(slot, &[-1]);
        assert!(cleared.is_ok(), "a registered slot can be cleared");
        self.free.push(slot);
    }
}
