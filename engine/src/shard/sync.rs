//! What tasks of one shard wait for: events, values that move, budgets. None of it leaves the shard.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Something that happens again and again; whoever waits is woken by the next time.
#[derive(Clone, Default)]
pub struct Event(Rc<EventInner>);

#[derive(Default)]
struct EventInner {
    times: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl EventInner {
    /// A task that waits for several things is polled again without having been woken by this one: it is in
    /// the list already, near its end.
    fn add_waiter(&self, waker: &Waker) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().rev().take(16).any(|known| known.will_wake(waker)) {
            waiters.push(waker.clone());
        }
    }
}

impl Event {
    /// Wakes all that wait now.
    pub fn notify(&self) {
        self.0.times.set(self.0.times.get() + 1);
        for waiter in self.0.waiters.take() {
            waiter.wake();
        }
    }

    /// Waits for the next [`Event::notify`] after this call (not after the first poll).
    pub fn next(&self) -> impl Future<Output = ()> + use<> {
        let event = self.0.clone();
        let seen = event.times.get();
        poll_fn(move |cx| {
            if event.times.get() != seen {
                return Poll::Ready(());
            }
            event.add_waiter(cx.waker());
            Poll::Pending
        })
    }
}

/// A value that moves, and the tasks that wait until it has moved far enough.
#[derive(Clone)]
pub struct Watch<T>(Rc<WatchInner<T>>);

struct WatchInner<T> {
    value: Cell<T>,
    changed: Event,
}

impl<T: Copy + 'static> Watch<T> {
    /// A watch that begins with this value.
    pub fn new(value: T) -> Self {
        Self(Rc::new(WatchInner { value: Cell::new(value), changed: Event::default() }))
    }

    /// The value now.
    pub fn get(&self) -> T {
        self.0.value.get()
    }

    /// Sets the value and wakes those who wait.
    pub fn set(&self, value: T) {
        self.0.value.set(value);
        self.0.changed.notify();
    }

    /// Waits until the value is as wanted, and returns it.
    pub async fn until(&self, wanted: impl Fn(T) -> bool) -> T {
        loop {
            let value = self.get();
            if wanted(value) {
                return value;
            }
            self.0.changed.next().await;
        }
    }
}

/// A budget that tasks take from and give back to, first come first served.
#[derive(Clone)]
pub struct Credits(Rc<CreditsInner>);

struct CreditsInner {
    total: usize,
    left: Cell<usize>,
    queue: RefCell<VecDeque<Rc<Claim>>>,
}

struct Claim {
    amount: usize,
    granted: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Credits {
    /// A full budget.
    pub fn new(total: usize) -> Self {
        Self(Rc::new(CreditsInner { total, left: Cell::new(total), queue: RefCell::default() }))
    }

    /// What is left.
    pub fn left(&self) -> usize {
        self.0.left.get()
    }

    /// What is taken.
    pub fn taken(&self) -> usize {
        self.0.total - self.0.left.get()
    }

    /// Takes at once, or not at all; never overtakes those who wait.
    pub fn try_take(&self, amount: usize) -> Option<Permit> {
        let amount = amount.min(self.0.total);
        if !self.0.queue.borrow().is_empty() || self.0.left.get() < amount {
            return None;
        }
        self.0.left.set(self.0.left.get() - amount);
        Some(Permit { credits: self.clone(), amount })
    }

    /// Waits for its turn and takes. More than the whole budget counts as the whole budget.
    pub async fn take(&self, amount: usize) -> Permit {
        if let Some(permit) = self.try_take(amount) {
            return permit;
        }
        let amount = amount.min(self.0.total);
        let claim = Rc::new(Claim { amount, granted: Cell::new(false), waiter: RefCell::default() });
        self.0.queue.borrow_mut().push_back(claim.clone());
        Waiting { credits: self.clone(), claim }.await
    }

    fn give(&self, amount: usize) {
        self.0.left.set(self.0.left.get() + amount);
        self.grant();
    }

    fn grant(&self) {
        loop {
            let mut queue = self.0.queue.borrow_mut();
            let Some(first) = queue.front() else { return };
            if first.amount > self.0.left.get() {
                return;
            }
            self.0.left.set(self.0.left.get() - first.amount);
            let claim = queue.pop_front().expect("just seen");
            drop(queue);
            claim.granted.set(true);
            if let Some(waiter) = claim.waiter.take() {
                waiter.wake();
            }
        }
    }
}

struct Waiting {
    credits: Credits,
    claim: Rc<Claim>,
}

impl Future for Waiting {
    type Output = Permit;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        if self.claim.granted.replace(false) {
            let permit = Permit { credits: self.credits.clone(), amount: self.claim.amount };
            return Poll::Ready(permit);
        }
        *self.claim.waiter.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.claim.granted.replace(false) {
            self.credits.give(self.claim.amount);
            return;
        }
        let before = self.credits.0.queue.borrow().len();
        self.credits.0.queue.borrow_mut().retain(|claim| !Rc::ptr_eq(claim, &self.claim));
        if self.credits.0.queue.borrow().len() < before {
            // A smaller claim may have waited behind this one.
            self.credits.grant();
        }
    }
}

/// A part of a budget, given back when dropped.
pub struct Permit {
    credits: Credits,
    amount: usize,
}

impl Permit {
    /// How much it is.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Gives back all above `amount`.
    pub fn shrink_to(&mut self, amount: usize) {
        let excess = self.amount.saturating_sub(amount);
        self.amount -= excess;
        self.credits.give(excess);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.credits.give(self.amount);
    }
}

/// A place for one value: who holds the other end waits for it.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let inner = Rc::new(OneshotInner {
        value: RefCell::new(None),
        waiter: RefCell::new(None),
        closed: Cell::new(false),
    });
    (Sender(inner.clone()), Receiver(inner))
}

struct OneshotInner<T> {
    value: RefCell<Option<T>>,
    waiter: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

/// Puts the value.
pub struct Sender<T>(Rc<OneshotInner<T>>);

/// Waits for the value; `None` when the sender was dropped without one.
pub struct Receiver<T>(Rc<OneshotInner<T>>);

impl<T> Sender<T> {
    /// Hands the value over.
    pub fn send(self, value: T) {
        *self.0.value.borrow_mut() = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.set(true);
        if let Some(waiter) = self.0.waiter.take() {
            waiter.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.0.value.borrow_mut().take() {
            return Poll::Ready(Some(value));
        }
        if self.0.closed.get() {
            return Poll::Ready(None);
        }
        *self.0.waiter.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}
