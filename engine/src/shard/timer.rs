//! Timers of a shard: a heap of instants and the tasks that wait for them.

use crate::io::Instant;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Pending timers. A timer that is dropped stays in the heap until its time, and then wakes nobody.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    waiters: HashMap<u64, Waker>,
    next_id: u64,
}

impl Timers {
    /// When the first timer that somebody still waits for is due. Forgotten ones in front of it are not worth
    /// a search: waking for one of them is harmless.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Wakes all that are due; returns how many were.
    pub(super) fn fire(&mut self, now: Instant) -> usize {
        let mut fired = 0;
        while let Some(Reverse((at, id))) = self.heap.peek().copied() {
            let forgotten = !self.waiters.contains_key(&id);
            if at > now && !forgotten {
                break;
            }
            self.heap.pop();
            if let Some(waiter) = self.waiters.remove(&id) {
                waiter.wake();
                fired += 1;
            }
        }
        fired
    }
}

/// Waits until `at`.
pub(super) async fn until(timers: &RefCell<Timers>, at: Instant) {
    let timer = {
        let mut timers = timers.borrow_mut();
        let id = timers.next_id;
        timers.next_id += 1;
        timers.heap.push(Reverse((at, id)));
        id
    };
    let pending = Pending { timers, id: timer };
    let mut first = true;
    poll_fn(|cx| {
        let mut timers = pending.timers.borrow_mut();
        if !first && !timers.waiters.contains_key(&pending.id) {
            return Poll::Ready(());
        }
        first = false;
        timers.waiters.insert(pending.id, cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// A timer somebody waits for; forgotten when dropped.
struct Pending<'a> {
    timers: &'a RefCell<Timers>,
    id: u64,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.timers.borrow_mut().waiters.remove(&self.id);
    }
}
