//! What tasks of one shard wait for: events, values that move, budgets. None of it leaves the shard.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Something that happens again and again; whoever waits is woken by the next time. Takes memory once somebody has waited: of ten thousand
/// logs, most have things for which nobody ever does.
#[derive(Default)]
pub struct Event(OnceCell<Rc<EventInner>>);

#[derive(Default)]
struct EventInner {
    times: Cell<u64>,
    waiters: RefCell<Waiters>,
}

/// Those who wait for the next time, each in a place of its own: a task that waits for several things is polled
/// again and again without this one having happened, and must not pile up here.
#[derive(Default)]
struct Waiters {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Clone for Event {
    fn clone(&self) -> Self {
        Self(self.inner().clone().into())
    }
}

impl Event {
    fn inner(&self) -> &Rc<EventInner> {
        self.0.get_or_init(Rc::default)
    }

    /// Wakes all that wait now.
    pub fn notify(&self) {
        let Some(inner) = self.0.get() else { return };
        inner.times.set(inner.times.get() + 1);
        let waiters = inner.waiters.take();
        for waiter in waiters.places.into_iter().flatten() {
            waiter.wake();
        }
    }

    /// How many wait now.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.inner().waiters.borrow().places.iter().flatten().count()
    }

    /// Waits for the next [`Event::notify`] after this call (not after the first poll).
    pub fn next(&self) -> Next {
        let event = self.inner().clone();
        Next { seen: event.times.get(), event, place: None }
    }
}

/// The next time of an [`Event`], to come.
pub struct Next {
    event: Rc<EventInner>,
    seen: u64,
    /// Ours until the event happens: then all places are given up at once.
    place: Option<usize>,
}

impl Next {
    fn happened(&self) -> bool {
        self.event.times.get() != self.seen
    }
}

impl Future for Next {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.happened() {
            return Poll::Ready(());
        }
        let place = {
            let waiters = &mut *self.event.waiters.borrow_mut();
            let place = self.place.or_else(|| waiters.free.pop()).unwrap_or_else(|| {
                waiters.places.push(None);
                waiters.places.len() - 1
            });
            match &mut waiters.places[place] {
                Some(known) => known.clone_from(cx.waker()),
                empty => *empty = Some(cx.waker().clone()),
            }
            place
        };
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && !self.happened()
        {
            let mut waiters = self.event.waiters.borrow_mut();
            waiters.places[place] = None;
            waiters.free.push(place);
        }
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

/// A budget that tasks take from and give back to, first come first served. Takes memory once something has been taken.
pub struct Credits {
    total: usize,
    inner: OnceCell<Rc<CreditsInner>>,
}

struct CreditsInner {
    left: Cell<usize>,
    queue: RefCell<VecDeque<Rc<Claim>>>,
}

struct Claim {
    amount: usize,
    granted: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Clone for Credits {
    fn clone(&self) -> Self {
        Self { total: self.total, inner: self.inner().clone().into() }
    }
}

impl Credits {
    /// A full budget.
    pub fn new(total: usize) -> Self {
        Self { total, inner: OnceCell::new() }
    }

    fn inner(&self) -> &Rc<CreditsInner> {
        self.inner.get_or_init(|| CreditsInner::full(self.total))
    }

    /// What is left.
    pub fn left(&self) -> usize {
        self.inner.get().map_or(self.total, |inner| inner.left.get())
    }

    /// What is taken.
    pub fn taken(&self) -> usize {
        self.total - self.left()
    }

    /// Whether somebody waits for a part of it.
    pub fn is_short(&self) -> bool {
        self.inner.get().is_some_and(|inner| !inner.queue.borrow().is_empty())
    }

    /// Takes at once, or not at all; never overtakes those who wait.
    pub fn try_take(&self, amount: usize) -> Option<Permit> {
        self.inner().try_take(amount.min(self.total))
    }

    /// Waits for its turn and takes. More than the whole budget counts as the whole budget.
    pub async fn take(&self, amount: usize) -> Permit {
        self.inner().take(amount.min(self.total)).await
    }
}

/// What one task at a time may do; the others wait for their turn, first come first served. Takes memory once somebody has had one.
#[derive(Default)]
pub struct Turns(OnceCell<Rc<CreditsInner>>);

impl Turns {
    /// Waits for the next turn, which lasts until it is dropped.
    pub async fn next(&self) -> Permit {
        self.0.get_or_init(|| CreditsInner::full(1)).take(1).await
    }
}

impl CreditsInner {
    fn full(total: usize) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(total), queue: RefCell::default() })
    }

    fn try_take(self: &Rc<Self>, amount: usize) -> Option<Permit> {
        if !self.queue.borrow().is_empty() || self.left.get() < amount {
            return None;
        }
        self.left.set(self.left.get() - amount);
        Some(Permit { credits: self.clone(), amount })
    }

    async fn take(self: &Rc<Self>, amount: usize) -> Permit {
        if let Some(permit) = self.try_take(amount) {
            return permit;
        }
        let claim = Rc::new(Claim { amount, granted: Cell::new(false), waiter: RefCell::default() });
        self.queue.borrow_mut().push_back(claim.clone());
        Waiting { credits: self.clone(), claim }.await
    }

    fn give(&self, amount: usize) {
        self.left.set(self.left.get() + amount);
        self.grant();
    }

    fn grant(&self) {
        loop {
            let mut queue = self.queue.borrow_mut();
            let Some(first) = queue.front() else { return };
            if first.amount > self.left.get() {
                return;
            }
            self.left.set(self.left.get() - first.amount);
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
    credits: Rc<CreditsInner>,
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
        let before = self.credits.queue.borrow().len();
        self.credits.queue.borrow_mut().retain(|claim| !Rc::ptr_eq(claim, &self.claim));
        if self.credits.queue.borrow().len() < before {
            // A smaller claim may have waited behind this one.
            self.credits.grant();
        }
    }
}

/// A part of a budget, given back when dropped.
pub struct Permit {
    credits: Rc<CreditsInner>,
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
