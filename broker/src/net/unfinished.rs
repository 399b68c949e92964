//! Bytes that clients have sent and nobody can use yet: frames that have begun and not ended, and requests behind one being answered.
//!
//! No credit is taken for them, since nobody knows what they will come to. They are counted instead, and above the bound connections are
//! closed, those first that have kept most bytes here for longest. Of one connection it is never much more than a receive buffer: while a
//! request waits, the socket is left alone.

use ringlog_engine::shard::sync::Event;
use std::cell::Cell;
use std::rc::Rc;

/// The count of one shard.
pub struct Unfinished {
    bytes: Cell<usize>,
    bytes_max: usize,
    /// There are too many.
    pub(super) exceeded: Event,
}

/// What one connection has of it.
pub(super) struct Share {
    of: Rc<Unfinished>,
    bytes: usize,
}

impl Unfinished {
    /// Nothing yet, and never much more than this.
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self { bytes: Cell::new(0), bytes_max, exceeded: Event::default() })
    }

    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// How many there may be, about.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// By how much they are to become less: those who are closed make room for more than one.
    pub(super) fn excess(&self) -> usize {
        let bytes = self.bytes.get();
        if bytes > self.bytes_max { bytes - self.bytes_max / 4 * 3 } else { 0 }
    }
}

impl Share {
    pub(super) fn new(of: &Rc<Unfinished>) -> Self {
        Self { of: of.clone(), bytes: 0 }
    }

    pub(super) fn set(&mut self, bytes: usize) {
        let all = &*self.of;
        all.bytes.set(all.bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
        if all.bytes.get() > all.bytes_max {
            all.exceeded.notify();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
