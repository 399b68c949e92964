//! Waking a shard that sleeps in the kernel: an eventfd, and a word that tells whether it is needed.

use super::Notifier;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

/// Wakes one Driver out of its sleep; costs a system call only when it sleeps.
pub(super) struct Wakeup {
    state: AtomicU8,
    event: OwnedFd,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

impl Wakeup {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { state: AtomicU8::new(AWAKE), event })
    }

    /// To be called before sleeping. `false`: somebody has woken the shard since, it must look for work instead.
    pub(super) fn may_sleep(&self) -> bool {
        match self.state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(_) => {
                self.state.store(AWAKE, Ordering::SeqCst);
                false
            }
        }
    }

    /// To be called after sleeping.
    pub(super) fn woke(&self) {
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    /// To be called when the event has been seen: it is written by whoever found the shard asleep, maybe only after
    /// something else has woken it.
    pub(super) fn drain(&self) {
        // Nothing to read is nothing to drain.
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
    }

    /// The descriptor that becomes readable when a sleeping shard is woken.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Notifier for Wakeup {
    fn wake(&self) {
        if self.state.swap(NOTIFIED, Ordering::SeqCst) == ASLEEP {
            // The counter cannot overflow: each sleep is ended by one write.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}
