//! How far a log has come: its four marks, and the tasks that wait for one of them to pass an offset.

use super::Offset;
use std::collections::VecDeque;
use std::task::Waker;

/// How far a log has come. `log_start <= durable <= written <= log_end` always; the high watermark, which is
/// the partition's, lies below `durable` or `written`, as its durability asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// Everything below is on stable storage.
    pub durable: Offset,
    /// Everything below has been written: it survives the death of this process.
    pub written: Offset,
    /// The offset the next record gets.
    pub log_end: Offset,
}

impl Marks {
    /// All marks at one offset: a log without records.
    pub(super) fn at(offset: Offset) -> Self {
        Self { log_start: offset, durable: offset, written: offset, log_end: offset }
    }

    /// Stops the process where a mark has overtaken another: what has been promised no longer holds.
    pub(super) fn check(self) {
        assert!(self.log_start <= self.durable, "log start is not past the durable mark: {self:?}");
        assert!(self.durable <= self.written, "the durable mark is not past the written mark: {self:?}");
        assert!(self.written <= self.log_end, "the written mark is not past the log end: {self:?}");
    }
}

/// Tasks that wait for one mark, in the order of the offsets they wait for.
#[derive(Default)]
pub(super) struct Waiters {
    queue: VecDeque<Waiter>,
    next_id: u64,
}

struct Waiter {
    offset: Offset,
    id: u64,
    waker: Waker,
}

impl Waiters {
    /// Remembers a task. Offsets mostly come in order, so its place is at or near the end.
    pub(super) fn add(&mut self, offset: Offset, waker: &Waker) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let after = self.queue.iter().rev().take_while(|waiter| waiter.offset > offset).count();
        let at = self.queue.len() - after;
        self.queue.insert(at, Waiter { offset, id, waker: waker.clone() });
        id
    }

    /// A task that is in the queue was polled again, perhaps as another task.
    pub(super) fn renew(&mut self, id: u64, waker: &Waker) {
        if let Some(waiter) = self.queue.iter_mut().find(|waiter| waiter.id == id) {
            waiter.waker.clone_from(waker);
        }
    }

    /// Forgets a task that no longer waits.
    pub(super) fn remove(&mut self, id: u64) {
        self.queue.retain(|waiter| waiter.id != id);
    }

    /// Takes out those whose offset the mark has reached.
    pub(super) fn reached(&mut self, mark: Offset, woken: &mut Vec<Waker>) {
        while self.queue.front().is_some_and(|first| first.offset <= mark) {
            woken.extend(self.queue.pop_front().map(|first| first.waker));
        }
    }

    /// Gives up the memory of those who waited once.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Takes out all: the log has failed or was cut.
    pub(super) fn all(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.queue.drain(..).map(|waiter| waiter.waker));
    }
}
