//! Requests parked until a partition's high watermark moves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// One parked request, on the shard it is parked on. It fires once.
pub struct Waiter {
    fired: Cell<bool>,
    wake: RefCell<Wake>,
}

enum Wake {
    /// A task of this shard waits, or will.
    Task(Option<Waker>),
    /// Something else is to be done: another shard is told.
    Act(Option<Box<dyn FnOnce()>>),
}

impl Waiter {
    /// A waiter for a task of this shard: see [`Waiter::fired`].
    pub fn for_task() -> Rc<Self> {
        Rc::new(Self { fired: Cell::new(false), wake: RefCell::new(Wake::Task(None)) })
    }

    /// A waiter that does this when it fires.
    pub fn for_action(action: impl FnOnce() + 'static) -> Rc<Self> {
        let wake = Wake::Act(Some(Box::new(action)));
        Rc::new(Self { fired: Cell::new(false), wake: RefCell::new(wake) })
    }

    /// Fires, once.
    pub fn fire(&self) {
        if self.fired.replace(true) {
            return;
        }
        let action = match &mut *self.wake.borrow_mut() {
            Wake::Task(waker) => {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
                None
            }
            Wake::Act(action) => action.take(),
        };
        if let Some(action) = action {
            action();
        }
    }

    /// Whether it has fired.
    pub fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// Waits until it fires.
    pub async fn fired(&self) {
        std::future::poll_fn(|cx| {
            if self.fired.get() {
                return Poll::Ready(());
            }
            if let Wake::Task(waker) = &mut *self.wake.borrow_mut() {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// The waiters of one partition.
#[derive(Default)]
pub struct Parked {
    waiters: RefCell<BTreeMap<u64, Rc<Waiter>>>,
    next: Cell<u64>,
}

impl Parked {
    /// Adds a waiter; the ticket takes it out again.
    pub fn add(&self, waiter: Rc<Waiter>) -> u64 {
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.waiters.borrow_mut().insert(ticket, waiter);
        ticket
    }

    /// Takes a waiter out, if it is still there.
    pub fn remove(&self, ticket: u64) {
        self.waiters.borrow_mut().remove(&ticket);
    }

    /// Fires all that wait.
    pub fn wake_all(&self) {
        for waiter in std::mem::take(&mut *self.waiters.borrow_mut()).into_values() {
            waiter.fire();
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.borrow().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
