//! Starts the shards: one pinned thread each, with its Driver, running one async main to its end.

use super::{Executor, Shard, ShardId};
use crate::io::Driver;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};

/// Which processors the shards run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// One shard on each of these processors, and nowhere else.
    Pinned(Vec<usize>),
    /// This many shards, wherever the kernel puts them.
    Floating(u16),
}

impl Placement {
    /// How many shards that makes.
    pub fn shards(&self) -> u16 {
        match self {
            Self::Pinned(cores) => u16::try_from(cores.len()).expect("shards are counted in 16 bits"),
            Self::Floating(shards) => *shards,
        }
    }

    fn core_of(&self, id: ShardId) -> Option<usize> {
        match self {
            Self::Pinned(cores) => Some(cores[usize::from(id.0)]),
            Self::Floating(_) => None,
        }
    }
}

/// Why no shard was started.
#[derive(Debug)]
pub enum StartError {
    /// The thread could not be made or pinned to this processor.
    Thread {
        /// The shard it was for.
        shard: ShardId,
        /// What the system said.
        error: io::Error,
    },
    /// The shard's Driver could not be made.
    Driver {
        /// The shard it was for.
        shard: ShardId,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread { shard, error } => write!(f, "start the thread of shard {}: {error}", shard.0),
            Self::Driver { shard, error } => write!(f, "make the Driver of shard {}: {error}", shard.0),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs `main` on every shard until all have returned; what they returned, by shard. `parts` has one element for each
/// shard, moved to its thread: its mailboxes and whatever else is made before. Drivers are made on the threads that
/// will use them, and no `main` begins before all of them are. What a `main` leaves behind is cancelled and waited for.
///
/// A panic on any shard ends the process: half a broker is worse than none.
pub fn run<P, T, F>(
    placement: &Placement,
    parts: Vec<P>,
    driver: impl Fn(ShardId) -> io::Result<Box<dyn Driver>> + Sync,
    main: impl Fn(Shard, P) -> F + Sync,
) -> Result<Vec<T>, StartError>
where
    P: Send,
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    assert_eq!(parts.len(), usize::from(placement.shards()), "every shard has its part");
    let start = Start { made: Barrier::new(parts.len()), failed: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let (start, driver, main) = (&start, &driver, &main);
        let threads: Vec<_> = (0..placement.shards())
            .map(ShardId)
            .zip(parts)
            .map(|(id, part)| {
                let core = placement.core_of(id);
                let body = move || shard_thread(id, core, start, driver, |shard| main(shard, part));
                // With fewer threads than expected the others would wait at the barrier for ever.
                std::thread::Builder::new()
                    .name(format!("shard-{}", id.0))
                    .spawn_scoped(scope, body)
                    .unwrap_or_else(|error| panic!("{}", StartError::Thread { shard: id, error }))
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("a panic aborts the process"));
        // All are joined before the first error is looked at; one that failed tells more than one that only stopped.
        let ended: Vec<_> = ended.collect();
        ended.into_iter().filter_map(Result::transpose).collect()
    })
}

struct Start {
    made: Barrier,
    failed: AtomicBool,
}

/// `Ok(None)`: this shard could have started, another could not.
fn shard_thread<T: 'static, F: Future<Output = T> + 'static>(
    id: ShardId,
    core: Option<usize>,
    start: &Start,
    driver: &(impl Fn(ShardId) -> io::Result<Box<dyn Driver>> + Sync),
    main: impl FnOnce(Shard) -> F,
) -> Result<Option<T>, StartError> {
    let _abort = AbortOnPanic;
    let made = core
        .map_or(Ok(()), crate::io::host::pin)
        .map_err(|error| StartError::Thread { shard: id, error })
        .and_then(|()| driver(id).map_err(|error| StartError::Driver { shard: id, error }));
    if made.is_err() {
        start.failed.store(true, Ordering::Release);
    }
    start.made.wait();
    let driver = made?;
    if start.failed.load(Ordering::Acquire) {
        return Ok(None);
    }
    let mut executor = Executor::new(id, driver);
    let shard = executor.shard().clone();
    let result = executor.block_on(main(shard));
    executor.finish();
    Ok(Some(result))
}

/// The message has been printed by the panic hook when this comes to run.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Asks all shards to stop; from any thread. What stopping means is up to each shard's main.
#[derive(Clone, Default)]
pub struct Stop(Arc<StopInner>);

#[derive(Default)]
struct StopInner {
    asked: AtomicBool,
    /// One task or so of each shard.
    waiters: Mutex<Vec<Waker>>,
}

impl Stop {
    /// Asks, now and for good.
    pub fn ask(&self) {
        let mut waiters = self.waiters();
        self.0.asked.store(true, Ordering::Release);
        for waiter in waiters.drain(..) {
            waiter.wake();
        }
    }

    /// Whether it has been asked.
    pub fn asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Waits until it is asked.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| {
            let mut waiters = self.waiters();
            if self.asked() {
                return Poll::Ready(());
            }
            if !waiters.iter().any(|known| known.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.0.waiters.lock().expect("nothing panics while it holds the list")
    }
}
