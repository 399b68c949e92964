//! Helper threads: operations that may block run here, off the shards' cores. Work that takes the processor for long has a thread of its own,
//! and so have the zeroes that logs are given ahead.

use super::blocking::{read, run};
use super::buf::aligned;
use super::flusher::Disks;
use super::wakeup::Wakeup;
use super::{Completion, File, Notifier, Op, Outcome, Space, Token};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Helper threads. They wait in the kernel, not on the processor: for a disk that answers in 100 us, and takes as many requests at once. Ten thousand
/// logs are opened and given space through them.
const THREADS: usize = 32;

/// Those that write zeroes: each keeps one large write at the device, which is a good part of what it can take. Logs that are written alike run
/// out of space alike, and with all of them given space at once the syncs of acknowledgements would wait behind.
const ZEROING_THREADS: usize = 2;

/// Fewer zeroes than this are written by whoever is free: the flush behind them is what takes time.
const ZEROING_BYTES_MIN: u64 = 256 << 10;

/// What the kernel is told of the thread for long work: it runs when nobody else would (nice(1)).
const LOWEST_PRIORITY: i32 = 19;

/// The helper threads of a process, shared by its shards.
pub(super) struct Jobs {
    shared: Arc<Shared>,
    /// Work for the processor alone.
    computing: Arc<Shared>,
    /// Large spaces to fill with zeroes.
    zeroing: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    disks: Arc<Disks>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job, or were woken and have not looked for one yet.
    idle: usize,
    closed: bool,
}

struct Job {
    token: Token,
    work: Work,
    home: Arc<Home>,
}

enum Work {
    Op(Op),
    /// Into memory of the shard's, whose thread will let go of it: an allocator keeps for each thread what that one asked for.
    Read {
        file: File,
        pos: u64,
        into: BytesMut,
        len: usize,
    },
    Call(Box<dyn FnOnce() -> io::Result<u64> + Send>),
}

/// Where a shard's jobs come back to.
pub(super) struct Home {
    done: Mutex<Vec<Completion>>,
    pub(super) wakeup: Wakeup,
}

impl Home {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { done: Mutex::default(), wakeup: Wakeup::new()? }))
    }

    /// Brings a completion home.
    pub(super) fn deliver(&self, token: Token, outcome: Outcome) {
        self.lock().push(Completion { token, outcome, more: false });
        self.wakeup.wake();
    }

    /// Takes what has come home.
    pub(super) fn take(&self, done: &mut Vec<Completion>) {
        done.append(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Completion>> {
        self.done.lock().expect("nothing panics while it holds the list")
    }
}

impl Jobs {
    pub(super) fn start(disks: Arc<Disks>) -> io::Result<Self> {
        let mut threads = Vec::new();
        let mut pool = |name: &str, count: usize, priority: Option<i32>| {
            let pool =
                Arc::new(Shared { queue: Mutex::default(), work: Condvar::new(), disks: disks.clone() });
            for number in 0..count {
                let serving = pool.clone();
                threads.push(std::thread::Builder::new().name(format!("{name}-{number}")).spawn(
                    move || {
                        if let Some(priority) = priority {
                            // Where it is not allowed it competes with the others.
                            let _ = rustix::process::setpriority_process(None, priority);
                        }
                        serving.serve();
                    },
                )?);
            }
            io::Result::Ok(pool)
        };
        let shared = pool("job", THREADS, None)?;
        let computing = pool("compute", 1, Some(LOWEST_PRIORITY))?;
        let zeroing = pool("zero", ZEROING_THREADS, None)?;
        Ok(Self { shared, computing, zeroing, threads })
    }

    /// Runs an operation of a file, of a directory, or a read or write that may block.
    pub(super) fn submit(&self, token: Token, op: Op, home: &Arc<Home>) {
        let pool = match &op {
            Op::Compute { .. } => &self.computing,
            Op::Prepare { from, to, space: Space::Written, .. } if to - from >= ZEROING_BYTES_MIN => {
                &self.zeroing
            }
            _ => &self.shared,
        };
        let work = match op {
            Op::Read { file, pos, len } => Work::Read { file, pos, into: aligned(len), len },
            op => Work::Op(op),
        };
        pool.push(Job { token, work, home: home.clone() });
    }

    /// Runs a call that may block; its result comes home as a count.
    pub(super) fn call(
        &self,
        token: Token,
        home: &Arc<Home>,
        call: impl FnOnce() -> io::Result<u64> + Send + 'static,
    ) {
        self.shared.push(Job { token, work: Work::Call(Box::new(call)), home: home.clone() });
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for pool in [&self.shared, &self.computing, &self.zeroing] {
            pool.lock().closed = true;
            pool.work.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A job that panicked has been reported by its panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn push(&self, job: Job) {
        let mut queue = self.lock();
        queue.jobs.push_back(job);
        // Waking is a system call, and a thread that works looks for the next job before it waits.
        let idle = queue.idle > 0;
        drop(queue);
        if idle {
            self.work.notify_one();
        }
    }

    fn serve(&self) {
        while let Some(Job { token, work, home }) = self.next() {
            let outcome = match work {
                Work::Op(op) => run(op, &self.disks),
                Work::Read { file, pos, into, len } => Outcome::Received(read(&file, pos, into, len)),
                Work::Call(call) => Outcome::Count(call()),
            };
            home.deliver(token, outcome);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.work.wait(queue).expect("nothing panics while it holds the queue");
            queue.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }
}

/// Wakes the shard of a home.
pub(super) struct HomeNotifier(pub(super) Arc<Home>);

impl Notifier for HomeNotifier {
    fn wake(&self) {
        self.0.wakeup.wake();
    }
}
