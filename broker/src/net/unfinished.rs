//! Bytes that clients have sent and nobody can use yet: frames that have begun and not ended, and requests behind one being answered.
//!
//! No credit is taken for them, since nobody knows what they will come to. They are counted instead. Where frames take more than their
//! half of the bound, connections whose frame began first are closed; where what was sent ahead does, nobody is read from ahead of his answer.

use ringlog_engine::shard::sync::Event;
use std::cell::Cell;
use std::rc::Rc;

/// The count of one shard.
pub struct Unfinished {
    frames: Cell<usize>,
    ahead: Cell<usize>,
    /// Bytes of each.
    bytes_max: usize,
    /// Frames take too much.
    pub(super) exceeded: Event,
}

/// What one connection has of it.
pub(super) struct Share {
    of: Rc<Unfinished>,
    frame: usize,
    ahead: usize,
}

impl Unfinished {
    /// Nothing yet, and never much more than this.
    pub fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            frames: Cell::new(0),
            ahead: Cell::new(0),
            bytes_max: bytes_max / 2,
            exceeded: Event::default(),
        })
    }

    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.frames.get() + self.ahead.get()
    }

    /// How many there may be, about.
    pub fn bytes_max(&self) -> usize {
        2 * self.bytes_max
    }

    /// By how much frames are to shrink: those who are closed make room for more than one.
    pub(super) fn excess(&self) -> usize {
        let bytes = self.frames.get();
        if bytes > self.bytes_max { bytes - self.bytes_max / 4 * 3 } else { 0 }
    }

    /// Whether a connection may be read from ahead of its answer.
    pub(super) fn allows_ahead(&self) -> bool {
        self.ahead.get() < self.bytes_max
    }
}

impl Share {
    pub(super) fn new(of: &Rc<Unfinished>) -> Self {
        Self { of: of.clone(), frame: 0, ahead: 0 }
    }

    pub(super) fn set(&mut self, frame: usize, ahead: usize) {
        let all = &*self.of;
        all.frames.set(all.frames.get() - self.frame + frame);
        all.ahead.set(all.ahead.get() - self.ahead + ahead);
        (self.frame, self.ahead) = (frame, ahead);
        if all.frames.get() > all.bytes_max {
            all.exceeded.notify();
        }
    }

    pub(super) fn allows_ahead(&self) -> bool {
        self.of.allows_ahead()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}
