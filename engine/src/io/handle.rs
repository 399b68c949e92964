//! What a shard's tasks hold: operations as futures.

use super::op::ByToken;
use super::{
    Capacity, Completion, Counters, DirEntry, DirId, Driver, File, FileMode, Instant, Listener, Notifier, Op,
    Outcome, Socket, Space, SyncItem, Token, Wait, WallTime, Work,
};
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// A shard's Driver, shared by the tasks of that shard. Each method is one [`Op`] as a future; see there for the contract.
#[derive(Clone)]
pub struct Io(Rc<RefCell<Inner>>);

struct Inner {
    driver: Box<dyn Driver>,
    next_token: u64,
    pending: ByToken<Slot>,
    done: Vec<Completion>,
}

/// Up to this many bytes a read that need not wait is done on the shard's thread: the copy takes less time (about 10 us)
/// than a helper thread takes to be woken.
const RESIDENT_READ_BYTES_MAX: usize = 64 << 10;

/// One pending operation: what has come of it, and who waits.
#[derive(Default)]
struct Slot {
    arrived: Option<Outcome>,
    /// What came behind it: of an accept, which has many.
    behind: VecDeque<Outcome>,
    ended: bool,
    abandoned: bool,
    waiter: Option<Waker>,
}

impl Io {
    /// Takes charge of a Driver.
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            driver,
            next_token: 0,
            pending: ByToken::default(),
            done: Vec::new(),
        })))
    }

    /// One turn of the Driver: delivers what ended and wakes the tasks that wait for it. Returns how many completions came.
    pub fn turn(&self, wait: Wait) -> usize {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        let mut done = std::mem::take(&mut inner.done);
        inner.driver.turn(wait, &mut done);
        let count = done.len();
        for completion in done.drain(..) {
            inner.deliver(completion);
        }
        inner.done = done;
        count
    }

    /// Operations that have not ended. A shard may stop only when there are none.
    pub fn pending(&self) -> usize {
        self.0.borrow().pending.len()
    }

    /// Asks every pending operation to end: for a shard that stops.
    pub fn cancel_all(&self) {
        let inner = &mut *self.0.borrow_mut();
        let mut tokens: Vec<Token> =
            inner.pending.iter().filter(|(_, slot)| !slot.ended).map(|(token, _)| *token).collect();
        // In the order of their submission, so that a simulated run repeats.
        tokens.sort_unstable();
        for token in tokens {
            inner.driver.cancel(token);
        }
    }

    /// Monotonic time.
    pub fn now(&self) -> Instant {
        self.0.borrow().driver.now()
    }

    /// Wall-clock time.
    pub fn wall_time(&self) -> WallTime {
        self.0.borrow().driver.wall_time()
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.0.borrow_mut().driver.random()
    }

    /// See [`Driver::name`].
    pub fn driver_name(&self) -> &'static str {
        self.0.borrow().driver.name()
    }

    /// See [`Driver::counters`].
    pub fn counters(&self) -> Counters {
        self.0.borrow().driver.counters()
    }

    /// See [`Driver::notifier`].
    pub fn notifier(&self) -> Arc<dyn Notifier> {
        self.0.borrow().driver.notifier()
    }

    /// See [`Driver::listen`].
    pub fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        self.0.borrow_mut().driver.listen(address)
    }

    /// [`Op::Accept`] as a stream of connections.
    pub fn accept(&self, listener: Listener) -> Stream {
        self.stream(Op::Accept { listener })
    }

    /// [`Op::Recv`] of a buffer.
    pub async fn recv(&self, socket: Socket) -> io::Result<Bytes> {
        self.run(Op::Recv { socket, bytes_max: usize::MAX }).await.into_bytes()
    }

    /// See [`Driver::unread`].
    pub fn unread(&self, socket: &Socket) -> usize {
        self.0.borrow().driver.unread(socket)
    }

    /// [`Op::RecvExact`].
    pub async fn recv_exact(&self, socket: Socket, into: BytesMut, len: usize) -> io::Result<Bytes> {
        self.run(Op::RecvExact { socket, into, len }).await.into_bytes()
    }

    /// [`Op::Send`].
    pub async fn send(&self, socket: Socket, parts: Vec<Bytes>) -> io::Result<u64> {
        self.run(Op::Send { socket, parts }).await.into_count()
    }

    /// Sends what the socket takes at once, and leaves the rest for [`Op::Send`]: nearly always nothing, and then neither an
    /// operation nor a turn of the Driver was needed.
    pub fn send_at_once(&self, socket: &Socket, parts: &mut Vec<Bytes>) {
        if parts.is_empty() {
            return;
        }
        let mut sent = self.0.borrow_mut().driver.send_at_once(socket, parts);
        let whole = parts.iter().take_while(|part| {
            let whole = part.len() <= sent;
            sent -= if whole { part.len() } else { 0 };
            whole
        });
        let whole = whole.count();
        parts.drain(..whole);
        if let Some(first) = parts.first_mut() {
            bytes::Buf::advance(first, sent);
        }
    }

    /// [`Op::SendFile`].
    pub async fn send_file(&self, socket: Socket, file: File, pos: u64, len: u64) -> io::Result<u64> {
        self.run(Op::SendFile { socket, file, pos, len }).await.into_count()
    }

    /// [`Op::CloseSocket`].
    pub async fn close_socket(&self, socket: Socket) -> io::Result<u64> {
        self.run(Op::CloseSocket { socket }).await.into_count()
    }

    /// [`Op::Write`].
    pub async fn write(&self, file: File, pos: u64, bytes: Bytes) -> io::Result<u64> {
        self.run(Op::Write { file, pos, bytes, more: Vec::new() }).await.into_count()
    }

    /// [`Op::Read`]; a little that is in memory already is read at once.
    pub async fn read(&self, file: File, pos: u64, len: usize) -> io::Result<Bytes> {
        if file.mode() != FileMode::Blocks && len <= RESIDENT_READ_BYTES_MAX {
            let resident = self.0.borrow_mut().driver.read_resident(&file, pos, len);
            if let Some(bytes) = resident {
                return Ok(bytes);
            }
        }
        self.run(Op::Read { file, pos, len }).await.into_bytes()
    }

    /// [`Op::Sync`].
    pub async fn sync(&self, items: Vec<SyncItem>) -> io::Result<u64> {
        self.run(Op::Sync { items }).await.into_count()
    }

    /// [`Op::Open`].
    pub async fn open(&self, dir: DirId, path: PathBuf, mode: FileMode) -> io::Result<(File, u64)> {
        self.run(Op::Open { dir, path, mode }).await.into_opened()
    }

    /// [`Op::Create`].
    pub async fn create(&self, dir: DirId, path: PathBuf, mode: FileMode) -> io::Result<File> {
        self.run(Op::Create { dir, path, mode }).await.into_opened().map(|(file, _)| file)
    }

    /// [`Op::Blank`].
    pub async fn blank(&self, dir: DirId, path: PathBuf, zeroed: Vec<u64>) -> io::Result<File> {
        self.run(Op::Blank { dir, path, zeroed }).await.into_opened().map(|(file, _)| file)
    }

    /// [`Op::Recycle`].
    pub async fn recycle(&self, dir: DirId, from: PathBuf, to: PathBuf) -> io::Result<(File, u64)> {
        self.run(Op::Recycle { dir, from, to }).await.into_opened()
    }

    /// [`Op::Prepare`].
    pub async fn prepare(&self, file: File, from: u64, to: u64, space: Space) -> io::Result<u64> {
        self.run(Op::Prepare { file, from, to, space }).await.into_count()
    }

    /// [`Op::Zero`].
    pub async fn zero(&self, file: File, from: u64, to: u64) -> io::Result<u64> {
        self.run(Op::Zero { file, from, to }).await.into_count()
    }

    /// [`Op::Truncate`].
    pub async fn truncate(&self, file: File, len: u64) -> io::Result<u64> {
        self.run(Op::Truncate { file, len }).await.into_count()
    }

    /// [`Op::SyncFile`].
    pub async fn sync_file(&self, file: File) -> io::Result<u64> {
        self.run(Op::SyncFile { file }).await.into_count()
    }

    /// [`Op::Rename`].
    pub async fn rename(&self, dir: DirId, from: PathBuf, to: PathBuf) -> io::Result<u64> {
        self.run(Op::Rename { dir, from, to }).await.into_count()
    }

    /// [`Op::Unlink`].
    pub async fn unlink(&self, dir: DirId, path: PathBuf) -> io::Result<u64> {
        self.run(Op::Unlink { dir, path }).await.into_count()
    }

    /// [`Op::MakeDir`].
    pub async fn make_dir(&self, dir: DirId, path: PathBuf) -> io::Result<u64> {
        self.run(Op::MakeDir { dir, path }).await.into_count()
    }

    /// [`Op::RemoveDir`].
    pub async fn remove_dir(&self, dir: DirId, path: PathBuf) -> io::Result<u64> {
        self.run(Op::RemoveDir { dir, path }).await.into_count()
    }

    /// [`Op::SyncDir`].
    pub async fn sync_dir(&self, dir: DirId, path: PathBuf) -> io::Result<u64> {
        self.run(Op::SyncDir { dir, path }).await.into_count()
    }

    /// [`Op::SyncFileSystem`].
    pub async fn sync_file_system(&self, dir: DirId, file: PathBuf) -> io::Result<u64> {
        self.run(Op::SyncFileSystem { dir, file }).await.into_count()
    }

    /// [`Op::List`].
    pub async fn list(&self, dir: DirId, path: PathBuf) -> io::Result<Vec<DirEntry>> {
        match self.run(Op::List { dir, path }).await {
            Outcome::Listing(result) => result,
            other => panic!("the Driver answered a listing with {other:?}"),
        }
    }

    /// [`Op::Capacity`].
    pub async fn capacity(&self, dir: DirId, path: PathBuf) -> io::Result<Capacity> {
        match self.run(Op::Capacity { dir, path }).await {
            Outcome::Capacity(result) => result,
            other => panic!("the Driver answered a question for a capacity with {other:?}"),
        }
    }

    /// [`Op::Compute`]: what the work gives.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let given = Arc::new(Mutex::new(None));
        let place = given.clone();
        let work = Work::new(move || {
            let result = work();
            *place.lock().expect("nothing panics while it holds the place") = Some(result);
        });
        self.run(Op::Compute { work }).await.into_count()?;
        let result = given.lock().expect("nothing panics while it holds the place").take();
        Ok(result.expect("work that has ended has given its result"))
    }

    /// [`Op::Close`].
    pub async fn close(&self, file: File) -> io::Result<u64> {
        self.run(Op::Close { file }).await.into_count()
    }

    async fn run(&self, op: Op) -> Outcome {
        let mut stream = self.stream(op);
        poll_fn(|cx| stream.poll_next(cx)).await
    }

    /// Starts any operation. Where an operation may have to be cancelled, its [`Stream`] is kept instead of a future.
    pub fn start(&self, op: Op) -> Stream {
        self.stream(op)
    }

    fn stream(&self, op: Op) -> Stream {
        let mut inner = self.0.borrow_mut();
        let token = Token(inner.next_token);
        inner.next_token += 1;
        inner.pending.insert(token, Slot::default());
        inner.driver.submit(token, op);
        Stream { io: self.clone(), token, ended: false }
    }
}

impl Inner {
    fn deliver(&mut self, completion: Completion) {
        let Completion { token, outcome, more } = completion;
        let slot = self.pending.get_mut(&token).expect("a completion belongs to a pending operation");
        assert!(!slot.ended, "nothing comes after the last completion");
        slot.ended = !more;
        if slot.abandoned {
            if slot.ended {
                self.pending.remove(&token);
            }
            return;
        }
        match &slot.arrived {
            None => slot.arrived = Some(outcome),
            Some(_) => slot.behind.push_back(outcome),
        }
        if let Some(waiter) = slot.waiter.take() {
            waiter.wake();
        }
    }
}

/// The outcomes of one pending operation. Dropping it abandons them: the operation runs on to its end, unseen.
pub struct Stream {
    io: Io,
    token: Token,
    ended: bool,
}

impl Stream {
    /// The next outcome. Must not be called again after the last one (see [`Stream::ended`]).
    pub async fn next(&mut self) -> Outcome {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether the last outcome has been taken.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Asks the operation to end; keep taking outcomes until [`Stream::ended`].
    pub fn cancel(&self) {
        if !self.ended {
            self.io.0.borrow_mut().driver.cancel(self.token);
        }
    }

    /// Polls for the next outcome.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        assert!(!self.ended, "the operation has ended");
        let mut inner = self.io.0.borrow_mut();
        let slot = inner.pending.get_mut(&self.token).expect("a pending operation has a slot");
        let Some(outcome) = slot.arrived.take() else {
            slot.waiter = Some(cx.waker().clone());
            return Poll::Pending;
        };
        slot.arrived = slot.behind.pop_front();
        if slot.ended && slot.arrived.is_none() {
            self.ended = true;
            inner.pending.remove(&self.token);
        }
        Poll::Ready(outcome)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut inner = self.io.0.borrow_mut();
        let slot = inner.pending.get_mut(&self.token).expect("a pending operation has a slot");
        if slot.ended {
            inner.pending.remove(&self.token);
        } else {
            *slot = Slot { abandoned: true, ..Slot::default() };
        }
    }
}

impl Outcome {
    /// The outcome of an operation that moves bytes or none.
    pub fn into_count(self) -> io::Result<u64> {
        match self {
            Self::Count(result) => result,
            other => panic!("the Driver answered a count with {other:?}"),
        }
    }

    /// The outcome of a receive or a read.
    pub fn into_bytes(self) -> io::Result<Bytes> {
        match self {
            Self::Received(result) => result,
            other => panic!("the Driver answered bytes with {other:?}"),
        }
    }

    /// The outcome of an accept.
    pub fn into_accepted(self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Accepted(result) => result,
            other => panic!("the Driver answered an accept with {other:?}"),
        }
    }

    /// The outcome of an open.
    pub fn into_opened(self) -> io::Result<(File, u64)> {
        match self {
            Self::Opened(result) => result,
            other => panic!("the Driver answered an open with {other:?}"),
        }
    }
}
