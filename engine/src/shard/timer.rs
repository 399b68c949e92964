//! Timers of a shard: a heap of instants and the tasks that wait for them.

use crate::io::Instant;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Pending timers. A timer that is dropped stays in the heap until it comes to the front, and wakes nobody.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    waiters: HashMap<u64, Waker>,
    next_id: u64,
}

impl Timers {
    /// When the first timer that somebody still waits for is due.
    pub(super) fn next(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, id))) = self.heap.peek() {
            if self.waiters.contains_key(id) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Wakes all that are due; returns how many were.
    pub(super) fn fire(&mut self, now: Instant) -> usize {
        let mut fired = 0;
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse((_, id))) = self.heap.pop() else { break };
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
