//! The executor: a shard's tasks, and the loop that runs them over its Driver.

use super::timer::{Timers, until};
use crate::io::{Driver, Instant, Io, Wait, WallTime};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A shard's number, from 0; shard 0 also owns what there is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// What a task holds of its shard: the way to its Driver, its timers and its other tasks.
#[derive(Clone)]
pub struct Shard(Rc<Inner>);

struct Inner {
    id: ShardId,
    io: Io,
    timers: RefCell<Timers>,
    tasks: RefCell<Tasks>,
    woken: Arc<Woken>,
    line: RefCell<Line>,
    load: Arc<Load>,
    ending: Cell<bool>,
    hooks: RefCell<Vec<Hook>>,
    ends: RefCell<Vec<Box<dyn FnOnce()>>>,
}

type Hook = Box<dyn FnMut() -> usize>;

impl Shard {
    /// This shard's number.
    pub fn id(&self) -> ShardId {
        self.0.id
    }

    /// This shard's Driver.
    pub fn io(&self) -> &Io {
        &self.0.io
    }

    /// Monotonic time.
    pub fn now(&self) -> Instant {
        self.0.io.now()
    }

    /// Wall-clock time.
    pub fn wall_time(&self) -> WallTime {
        self.0.io.wall_time()
    }

    /// Starts a task. It runs until its future ends; nobody waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.tasks.borrow_mut().insert(Box::pin(task), &self.0.woken);
    }

    /// Waits this long.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now() + span).await;
    }

    /// Waits until this instant.
    pub async fn sleep_until(&self, at: Instant) {
        until(&self.0.timers, at).await;
    }

    /// Lets the other ready tasks, and the Driver, have a turn first. Of all who have yielded one goes on with each turn, in their order: so
    /// what takes long, and yields after each portion, takes from the others one portion a turn, however many do so.
    pub async fn yield_now(&self) {
        let mut number = None;
        std::future::poll_fn(|cx| {
            let mut line = self.0.line.borrow_mut();
            match number {
                None => {
                    number = Some(line.join(cx.waker()));
                    Poll::Pending
                }
                Some(number) => line.poll(number, cx.waker()),
            }
        })
        .await;
    }

    /// For a loop that may be long: yields after each [`PORTION`] rounds.
    pub fn portions(&self) -> Portions<'_> {
        Portions { shard: self, left: PORTION }
    }

    /// Runs this after every turn of the Driver: it looks for work that other threads have left, and says how
    /// much it found.
    pub(crate) fn on_turn(&self, hook: impl FnMut() -> usize + 'static) {
        self.0.hooks.borrow_mut().push(Box::new(hook));
    }

    /// Runs this when the executor goes away and its tasks are gone: what was handed to something it holds itself lets
    /// go of it then, or neither would ever be freed.
    pub fn on_end(&self, end: impl FnOnce() + 'static) {
        self.0.ends.borrow_mut().push(Box::new(end));
    }

    /// How busy this shard is, for whoever shows it: any thread may read it.
    pub fn load(&self) -> Arc<Load> {
        self.0.load.clone()
    }

    /// Whether the executor is going away, and with it all tasks, wherever they are.
    pub(super) fn ending(&self) -> bool {
        self.0.ending.get()
    }

    /// Tasks that have not ended.
    pub fn task_count(&self) -> usize {
        self.0.tasks.borrow().live
    }
}

/// Work that leaves the shard to others after each portion.
pub struct Portions<'a> {
    shard: &'a Shard,
    left: usize,
}

/// What has a hundred nanoseconds to a microsecond of work, as a partition of a request has, so many times: what others then wait for is some
/// tens of microseconds.
pub const PORTION: usize = 64;

impl Portions<'_> {
    /// Before one more.
    pub async fn next(&mut self) {
        if self.left == 0 {
            self.shard.yield_now().await;
            self.left = PORTION;
        }
        self.left -= 1;
    }
}

/// Those who have yielded. Each has drawn a number, and goes on when that has been called, whatever else wakes its task meanwhile.
#[derive(Default)]
struct Line {
    called: u64,
    /// Of the numbers from `called` on.
    waiting: VecDeque<Waker>,
}

impl Line {
    fn join(&mut self, waker: &Waker) -> u64 {
        self.waiting.push_back(waker.clone());
        self.called + self.waiting.len() as u64 - 1
    }

    fn poll(&mut self, number: u64, waker: &Waker) -> Poll<()> {
        let Some(ahead) = number.checked_sub(self.called) else { return Poll::Ready(()) };
        let ahead = usize::try_from(ahead).expect("they are in memory");
        self.waiting[ahead].clone_from(waker);
        Poll::Pending
    }

    /// Calls the next number. One that was given up meanwhile wakes its task for nothing.
    fn let_one_go_on(&mut self) {
        if let Some(waker) = self.waiting.pop_front() {
            self.called += 1;
            waker.wake();
        }
    }
}

/// Owns a shard's tasks and drives them. A thread calls [`Executor::turn`] in a loop; the simulator steps many
/// executors in one thread.
pub struct Executor {
    shard: Shard,
    ready: VecDeque<usize>,
    awake_since: Instant,
}

/// Tasks run between two turns of the Driver, so that its completions are never left waiting for long.
const TASKS_PER_TURN_MAX: usize = 256;

impl Executor {
    /// An executor without tasks over this Driver.
    pub fn new(id: ShardId, driver: Box<dyn Driver>) -> Self {
        let notifier = driver.notifier();
        let io = Io::new(driver);
        let awake_since = io.now();
        let shard = Shard(Rc::new(Inner {
            id,
            io,
            timers: RefCell::default(),
            tasks: RefCell::default(),
            woken: Arc::new(Woken { ids: Mutex::default(), notifier, home: here() }),
            line: RefCell::default(),
            load: Arc::default(),
            ending: Cell::new(false),
            hooks: RefCell::default(),
            ends: RefCell::default(),
        }));
        Self { shard, ready: VecDeque::new(), awake_since }
    }

    /// A handle on the shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Runs what is ready, fires timers, takes one turn of the Driver. Sleeps there if it may and nothing is ready.
    /// Returns whether anything happened.
    pub fn turn(&mut self, may_sleep: bool) -> bool {
        let ran = self.run_ready();
        self.drive(may_sleep) + ran > 0
    }

    /// The rest of a turn: timers and the Driver. Returns how much happened.
    fn drive(&mut self, may_sleep: bool) -> usize {
        let inner = &self.shard.0;
        let idle = !self.is_ready();
        let wait = match inner.timers.borrow_mut().next() {
            _ if !(idle && may_sleep) => Wait::None,
            Some(at) => Wait::Until(at),
            None => Wait::Forever,
        };
        let before = inner.io.now();
        let completions = inner.io.turn(wait);
        let now = inner.io.now();
        // A turn that may not sleep is work; one that may is taken as sleep, whole.
        let awake = if wait == Wait::None { now } else { before }.since(self.awake_since);
        inner.load.note(awake, now);
        self.awake_since = now;
        let fired = inner.timers.borrow_mut().fire(now);
        // After what has completed, which it has let go first.
        inner.line.borrow_mut().let_one_go_on();
        let found: usize = inner.hooks.borrow_mut().iter_mut().map(|hook| hook()).sum();
        completions + fired + found
    }

    /// Runs until this future ends; other tasks go on meanwhile.
    pub fn block_on<T: 'static>(&mut self, main: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.shard.spawn(async move {
            let value = main.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            self.run_ready();
            // Before sleeping.
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
            self.drive(true);
        }
    }

    /// When the next timer is due, if any: the simulator's clock may jump there when all is idle.
    pub fn next_timer(&self) -> Option<Instant> {
        self.shard.0.timers.borrow_mut().next()
    }

    /// Whether a task is ready to run.
    pub fn is_ready(&self) -> bool {
        let inner = &self.shard.0;
        !self.ready.is_empty() || !inner.woken.is_empty() || !inner.line.borrow().waiting.is_empty()
    }

    fn run_ready(&mut self) -> usize {
        let mut ran = 0;
        while ran < TASKS_PER_TURN_MAX {
            if self.ready.is_empty() {
                self.shard.0.woken.take_into(&mut self.ready);
            }
            let Some(id) = self.ready.pop_front() else { break };
            self.run(id);
            ran += 1;
        }
        ran
    }

    fn run(&self, id: usize) {
        // The future is taken out while it runs, so that it may spawn others.
        let Some((mut future, waker)) = self.shard.0.tasks.borrow_mut().take(id) else { return };
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        match poll {
            Poll::Ready(()) => {
                drop(future);
                self.shard.0.tasks.borrow_mut().remove(id);
            }
            Poll::Pending => self.shard.0.tasks.borrow_mut().put_back(id, future),
        }
    }

    /// Ends what is left: drops all tasks, cancels their operations and waits until the Driver has let go of each.
    pub fn finish(mut self) {
        self.drop_tasks();
        let io = self.shard.io().clone();
        io.cancel_all();
        while io.pending() > 0 {
            io.turn(Wait::Forever);
        }
    }

    fn drop_tasks(&mut self) {
        let inner = &self.shard.0;
        inner.ending.set(true);
        // Tasks hold handles on the shard, and the shard holds the tasks: break the circle. A task that is dropped
        // may spawn or wake others, so the table is not borrowed meanwhile, and is looked at again.
        while inner.tasks.borrow().live > 0 || !inner.ends.borrow().is_empty() {
            let tasks = std::mem::take(&mut *inner.tasks.borrow_mut());
            drop(tasks);
            inner.ends.take().into_iter().for_each(|end| end());
        }
        inner.hooks.take();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.drop_tasks();
    }
}

/// How busy a shard is: both only grow, and their quotient over a span is its busy ratio.
#[derive(Debug, Default)]
pub struct Load {
    awake_nanos: AtomicU64,
    until_nanos: AtomicU64,
}

impl Load {
    /// Nanoseconds spent awake since start.
    pub fn awake_nanos(&self) -> u64 {
        self.awake_nanos.load(Ordering::Relaxed)
    }

    /// When [`Load::awake_nanos`] was last brought up to date, on the Driver's clock.
    pub fn until_nanos(&self) -> u64 {
        self.until_nanos.load(Ordering::Relaxed)
    }

    /// Only the shard itself writes, so no addition needs to be atomic.
    fn note(&self, awake: Duration, now: Instant) {
        let awake = u64::try_from(awake.as_nanos()).unwrap_or(u64::MAX);
        self.awake_nanos.store(self.awake_nanos().wrapping_add(awake), Ordering::Relaxed);
        self.until_nanos.store(now.as_nanos(), Ordering::Relaxed);
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Tasks {
    slots: Vec<Slot>,
    free: Vec<usize>,
    live: usize,
}

struct Slot {
    /// `None` while the task runs, and in a free slot.
    future: Option<Task>,
    waker: Arc<TaskWaker>,
}

impl Tasks {
    fn insert(&mut self, future: Task, woken: &Arc<Woken>) {
        let id = self.free.pop().unwrap_or(self.slots.len());
        let new_waker = || Arc::new(TaskWaker { id, queued: true.into(), woken: woken.clone() });
        match self.slots.get_mut(id) {
            Some(slot) => {
                slot.future = Some(future);
                match Arc::get_mut(&mut slot.waker) {
                    Some(waker) => *waker.queued.get_mut() = true,
                    // A waker of the slot's former task is still about: it must not wake this one.
                    None => slot.waker = new_waker(),
                }
            }
            None => self.slots.push(Slot { future: Some(future), waker: new_waker() }),
        }
        self.live += 1;
        woken.push(id);
    }

    /// A task's future, to be polled with this waker. From here on it can be woken again.
    fn take(&mut self, id: usize) -> Option<(Task, Waker)> {
        let slot = &mut self.slots[id];
        let future = slot.future.take()?;
        slot.waker.queued.store(false, Ordering::Release);
        Some((future, slot.waker.clone().into()))
    }

    fn put_back(&mut self, id: usize, future: Task) {
        self.slots[id].future = Some(future);
    }

    fn remove(&mut self, id: usize) {
        self.free.push(id);
        self.live -= 1;
    }
}

/// Wakes one task: puts it in the shard's queue, once.
struct TaskWaker {
    id: usize,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.woken.push(self.id);
        }
    }
}

/// Tasks that were woken and have not run since. Nearly always used by the shard's own thread, so the lock is free.
struct Woken {
    ids: Mutex<Vec<usize>>,
    notifier: Arc<dyn crate::io::Notifier>,
    /// The shard's thread, by [`here`].
    home: usize,
}

/// A number that no other living thread has.
fn here() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

impl Woken {
    fn push(&self, id: usize) {
        self.lock().push(id);
        if here() != self.home {
            self.notifier.wake();
        }
    }

    fn take_into(&self, ready: &mut VecDeque<usize>) {
        ready.extend(self.lock().drain(..));
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.ids.lock().expect("nothing panics while it holds the list")
    }
}
