//! The product's Driver: one io_uring per shard.
//!
//! - One submission a turn: operations are queued as entries and handed over by the call that also waits.
//! - Sockets and files are registered; an operation names them by slot, which saves the kernel a lookup and a reference count.
//! - Accept is multishot: one entry serves until it is cancelled. Receive is not, for then the kernel would take what lies in the
//!   socket at one go, up to a megabyte of it, whoever has use for it. Received bytes lie in a ring of shared buffers ([`super::lent`]).
//! - What the ring would run on a worker thread of the kernel (syncs, space, names) goes to our own helper threads and
//!   flushers instead, so that nothing the shard submits leaves its core unseen.
#![expect(unsafe_code, reason = "entries of the ring carry addresses")]

mod ring;
mod slots;
mod work;

pub(super) use self::ring::refusal;
use self::slots::Slots;
use self::work::{Message, Pending, Work};
use super::host::Host;
use super::jobs::Home;
use super::lent::Lender;
use super::net::{self, FileSend, FileSendStep};
use super::op::ByToken;
use super::{
    Completion, Counters, Driver, File, FileMode, Instant, Listener, Notifier, Op, Outcome, Socket, Token,
    Wait, WallTime,
};
use bytes::Bytes;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::net::SocketFlags;
use std::collections::VecDeque;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// One shard's ring and the operations in it.
pub(super) struct UringDriver {
    // The ring comes first: it is closed before the memory its operations use is freed.
    ring: IoUring,
    ops: Vec<Option<Pending>>,
    free: Vec<u32>,
    /// The place of each token that is in the ring.
    tokens: ByToken<u32>,
    slots: Slots,
    /// Closed files and sockets that still have their slots.
    closed: Vec<u64>,
    lender: Lender,
    /// Receives that ended because all shared buffers were lent, in the order in which they did.
    starved: VecDeque<u32>,
    /// Entries that found the submission queue full.
    overflow: VecDeque<squeue::Entry>,
    /// File sends whose pages a helper is bringing: by the helper's token.
    fetches: ByToken<(u32, u64)>,
    next_fetch: u64,
    host: Arc<Host>,
    home: Arc<Home>,
    wakeup_armed: bool,
    done: Vec<Completion>,
    counters: Counters,
}

/// Entries of the submission queue; a turn that needs more submits more than once.
const SUBMISSIONS: u32 = 1024;
/// Completions: enough for every connection to have several.
const COMPLETIONS: u32 = 16 * 1024;
/// Completions that belong to no operation of the shard.
const WAKEUP: u64 = u64::MAX;
const IGNORED: u64 = u64::MAX - 1;
/// Marks the completion of the attempt to cancel the operation with the rest of the number.
const CANCEL: u64 = 1 << 40;
/// Tokens of helpers' fetches lie above all that are submitted.
const FETCH_TOKENS: u64 = 1 << 63;

impl UringDriver {
    /// Whether this process may have a ring with all that is needed.
    pub(super) fn try_ring() -> io::Result<()> {
        let ring = ring::make(8, 16)?;
        Lender::new(&ring, 2).map(drop)
    }

    pub(super) fn new(host: Arc<Host>) -> io::Result<Self> {
        let ring = ring::make(SUBMISSIONS, COMPLETIONS)?;
        let mut slots = Slots::register(&ring);
        slots.hold(&ring, host.locks())?;
        let lender = Lender::new(&ring, super::lent::BUFFERS)?;
        let home = Home::new()?;
        lender.wake_when_starved(home.clone());
        Ok(Self {
            ring,
            ops: Vec::new(),
            free: Vec::new(),
            tokens: ByToken::default(),
            slots,
            closed: Vec::new(),
            lender,
            starved: VecDeque::new(),
            overflow: VecDeque::new(),
            fetches: ByToken::default(),
            next_fetch: FETCH_TOKENS,
            host,
            home,
            wakeup_armed: false,
            done: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// Takes an operation into the ring.
    fn begin(&mut self, token: Token, work: Work) {
        let id = self.take_in(token, work);
        self.push_op(id);
    }

    /// Gives an operation its place.
    fn take_in(&mut self, token: Token, work: Work) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.ops.push(None);
            u32::try_from(self.ops.len() - 1).expect("operations are counted in 32 bits")
        });
        self.ops[id as usize] = Some(Pending { token, cancelled: false, work });
        self.tokens.insert(token, id);
        id
    }

    /// Queues the entry for what the operation has to do next.
    fn push_op(&mut self, id: u32) {
        let pending = self.ops[id as usize].as_mut().expect("an operation in the ring");
        let entry = pending.work.entry(&self.ring, &mut self.slots);
        self.push(entry.user_data(u64::from(id)));
    }

    /// Queues an entry. Every address in it must stay valid until its last completion.
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: entries are built by `Work::entry` from memory that its operation owns until its last completion, or carry
        // no address.
        if !self.overflow.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
        }
    }

    fn drain_overflow(&mut self) {
        while let Some(entry) = self.overflow.front() {
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.overflow.pop_front();
        }
    }

    /// Lets go of the slots of what was closed. An entry names its file by the slot until the kernel takes the entry: before that the slot
    /// would stand for nothing, or for another file.
    fn release_closed(&mut self) {
        if self.overflow.is_empty() && self.ring.submission().is_empty() {
            for id in self.closed.drain(..) {
                self.slots.release(&self.ring, id);
            }
        }
    }

    fn arm_wakeup(&mut self) {
        if std::mem::replace(&mut self.wakeup_armed, true) {
            return;
        }
        let fd = types::Fd(self.home.wakeup.event().as_raw_fd());
        let events = u32::try_from(libc::POLLIN).expect("a positive flag");
        self.push(opcode::PollAdd::new(fd, events).build().user_data(WAKEUP));
    }

    /// Hands over what is queued and waits for `want` completions at most until the instant.
    fn enter(&mut self, want: u32, until: Option<Instant>) {
        self.counters.enters += 1;
        let span = until.map(|at| at.since(self.now()));
        ring::enter(&mut self.ring, want, span);
    }

    fn take_completions(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            match entry.user_data() {
                WAKEUP => {
                    self.wakeup_armed = false;
                    self.home.wakeup.drain();
                }
                IGNORED => {}
                id if id & CANCEL != 0 => self.cancel_tried(id & !CANCEL, entry.result()),
                id => self.completed(u32::try_from(id).expect("operations are counted in 32 bits"), &entry),
            }
        }
    }

    fn completed(&mut self, id: u32, entry: &cqueue::Entry) {
        let more = cqueue::more(entry.flags());
        let result = outcome(entry.result());
        let pending = self.ops[id as usize].as_mut().expect("a completion belongs to an operation");
        let retry =
            matches!(&result, Err(error) if error.kind() == io::ErrorKind::Interrupted) && !pending.cancelled;
        match (&mut pending.work, result) {
            (Work::Accept { .. }, result) => {
                // SAFETY: the kernel made this descriptor for this completion and nobody else has it.
                let accepted = result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).and_then(net::accepted);
                let aborted =
                    matches!(&accepted, Err(error) if error.kind() == io::ErrorKind::ConnectionAborted);
                // There is nothing to tell.
                if aborted && more {
                    return;
                }
                if retry || (aborted && !pending.cancelled) {
                    return self.push_op(id);
                }
                let ends = accepted.is_err() && !more;
                self.hand_on(id, Outcome::Accepted(accepted), more, ends);
            }
            (Work::Recv { .. }, Err(error)) if finds_no_buffer(&error) => {
                if pending.cancelled {
                    // The connection is as well as before.
                    let interrupted = Outcome::Received(Err(io::ErrorKind::Interrupted.into()));
                    return self.hand_on(id, interrupted, false, true);
                }
                self.starved.push_back(id);
                self.lender.starve();
            }
            (_, Err(_)) if retry => self.push_op(id),
            (Work::Recv { .. }, Ok(count @ 1..)) => {
                let buffer =
                    cqueue::buffer_select(entry.flags()).expect("received bytes lie in a shared buffer");
                let bytes = self.lender.lend(buffer, usize::try_from(count).expect("a count"));
                self.hand_on(id, Outcome::Received(Ok(bytes)), false, true);
            }
            (Work::Recv { .. }, Ok(_)) => self.hand_on(id, Outcome::Received(Ok(Bytes::new())), false, true),
            (work, Err(error)) => {
                let failed = work.failed(error);
                self.hand_on(id, failed, false, true);
            }
            (Work::File { .. }, Ok(_)) => self.send_file(id),
            (work, Ok(count)) => {
                match work.moved(usize::try_from(count).expect("a count"), &mut self.counters) {
                    Some(outcome) => self.hand_on(id, outcome, false, true),
                    None => self.push_op(id),
                }
            }
        }
    }

    /// Gives an outcome to the shard. An accept that the kernel ended although nothing is wrong is begun again, unseen.
    fn hand_on(&mut self, id: u32, outcome: Outcome, more: bool, ends: bool) {
        let pending = self.ops[id as usize].as_ref().expect("an operation in the ring");
        let token = pending.token;
        let rearm = !more && !ends && !pending.cancelled;
        let ends = !more && !rearm;
        // A cancelled accept that ended with a connection still owes its last completion.
        let owes_end = ends && pending.cancelled && matches!(outcome, Outcome::Accepted(Ok(_)));
        let last = owes_end.then(|| Outcome::Accepted(Err(io::ErrorKind::Interrupted.into())));
        self.done.push(Completion { token, outcome, more: !ends || last.is_some() });
        if let Some(outcome) = last {
            self.done.push(Completion { token, outcome, more: false });
        }
        if rearm {
            self.push_op(id);
        } else if ends {
            self.tokens.remove(&token);
            self.ops[id as usize] = None;
            self.free.push(id);
        }
    }

    fn send_file(&mut self, id: u32) {
        let pending = self.ops[id as usize].as_mut().expect("an operation in the ring");
        let Work::File { send } = &mut pending.work else { unreachable!("called for file sends") };
        match send.step() {
            FileSendStep::Done(result) => self.hand_on(id, Outcome::Count(result), false, true),
            FileSendStep::AwaitSocket | FileSendStep::Again => self.push_op(id),
            FileSendStep::Fetch { from, to } => {
                let fetch = Token(self.next_fetch);
                self.next_fetch += 1;
                self.fetches.insert(fetch, (id, to));
                self.counters.jobs += 1;
                let file = send.file.clone();
                self.host.jobs.call(fetch, &self.home, move || super::blocking::prefetch(&file, from, to));
            }
        }
    }

    /// Takes what helper threads and flushers have done; fetched pages let their send go on.
    fn take_jobs(&mut self, done: &mut Vec<Completion>) {
        let mut at = done.len();
        self.home.take(done);
        while at < done.len() {
            let Some((id, to)) = self.fetches.remove(&done[at].token) else {
                at += 1;
                continue;
            };
            let fetched = done.swap_remove(at).outcome.into_count();
            let pending = self.ops[id as usize].as_mut().expect("a file send waits for its pages");
            let cancelled = pending.cancelled;
            let Work::File { send } = &mut pending.work else { unreachable!("fetches are for file sends") };
            match fetched {
                Ok(_) if cancelled => {
                    self.hand_on(id, Outcome::Count(Err(io::ErrorKind::Interrupted.into())), false, true);
                }
                Ok(_) => {
                    send.fetched(to);
                    self.send_file(id);
                }
                Err(error) => self.hand_on(id, Outcome::Count(Err(error)), false, true),
            }
        }
    }

    /// Gives returned buffers to the kernel, and begins again as many receives that had none: of thousands, all the others would find none.
    fn feed(&mut self) {
        self.lender.take_back(self.starved.len());
        for _ in 0..self.lender.free() {
            let Some(id) = self.starved.pop_front() else { return };
            if self.ops[id as usize].is_some() {
                self.push_op(id);
            }
        }
        if !self.starved.is_empty() {
            self.lender.starve();
        }
    }

    fn push_cancel(&mut self, id: u32) {
        let id = u64::from(id);
        self.push(opcode::AsyncCancel::new(id).build().user_data(id | CANCEL));
    }

    /// The kernel does not find a multishot operation while it is queued to go on after many receives in a row, and
    /// does not cancel what runs just then: while the operation lives, it is tried again.
    fn cancel_tried(&mut self, id: u64, result: i32) {
        let id = u32::try_from(id).expect("operations are counted in 32 bits");
        let lives = self.ops[id as usize].as_ref().is_some_and(|pending| pending.cancelled);
        if lives && matches!(-result, libc::ENOENT | libc::EALREADY) {
            self.push_cancel(id);
        }
    }

    fn in_ring(&self) -> usize {
        self.ops.len() - self.free.len()
    }
}

impl Driver for UringDriver {
    fn submit(&mut self, token: Token, op: Op) {
        match op {
            Op::Accept { listener } => self.begin(token, Work::Accept { listener }),
            Op::Recv { socket, bytes_max } => self.begin(token, Work::Recv { socket, bytes_max }),
            Op::HangUp { socket } => self.begin(token, Work::HangUp { socket }),
            // Asked for nothing a socket would wait for something.
            Op::RecvExact { into, len: 0, .. } => {
                self.done.push(Completion {
                    token,
                    outcome: Outcome::Received(Ok(into.freeze())),
                    more: false,
                });
            }
            Op::RecvExact { socket, into: mut buffer, len } => {
                buffer.reserve(len);
                let len = buffer.len() + len;
                self.begin(token, Work::Exact { socket, buffer, len });
            }
            Op::Send { socket, parts } => {
                let message = Message::new(parts);
                if message.is_empty() {
                    self.done.push(Completion { token, outcome: Outcome::Count(Ok(0)), more: false });
                } else {
                    self.begin(token, Work::Send { socket, message, sent: 0 });
                }
            }
            Op::SendFile { socket, file, pos, len } => {
                let id = self
                    .take_in(token, Work::File { send: FileSend::new(socket, file, pos..pos + len, true) });
                self.send_file(id);
            }
            Op::CloseSocket { socket } => {
                self.closed.push(socket.id());
                net::shutdown(&socket);
                self.done.push(Completion { token, outcome: Outcome::Count(Ok(0)), more: false });
            }
            // Through the page cache the ring would punt: ext4 has no asynchronous buffered writes.
            Op::Write { file, pos, bytes, more } if file.mode() == FileMode::Blocks => {
                let work = if more.is_empty() {
                    Work::Write { file, pos, bytes, written: 0 }
                } else {
                    let parts = iter::once(bytes).chain(more).collect();
                    Work::WriteParts { file, pos, message: Message::new(parts), written: 0 }
                };
                self.begin(token, work);
            }
            Op::Read { file, pos, len } if file.mode() == FileMode::Blocks => {
                self.begin(token, Work::Read { file, pos, buffer: super::buf::aligned(len), len });
            }
            Op::Sync { items } => {
                self.counters.sync_requests += 1;
                self.host.disks.sync(token, items, &self.home);
            }
            op => {
                if let Op::Close { file } = &op {
                    file.close();
                    self.closed.push(file.id());
                }
                self.counters.jobs += 1;
                self.host.jobs.submit(token, op, &self.home);
            }
        }
    }

    fn read_resident(&mut self, file: &File, pos: u64, len: usize) -> Option<Bytes> {
        let bytes = super::blocking::read_resident(file, pos, len)?;
        self.counters.bytes_read += bytes.len() as u64;
        Some(bytes)
    }

    fn send_at_once(&mut self, socket: &Socket, parts: &[Bytes]) -> usize {
        net::send_at_once(socket, parts)
    }

    fn unread(&self, socket: &Socket) -> usize {
        net::unread(socket)
    }

    fn cancel(&mut self, token: Token) {
        // What a helper thread or a flusher has is not cancelled: it ends by itself.
        let Some(&id) = self.tokens.get(&token) else { return };
        let pending = self.ops[id as usize].as_mut().expect("a token in the ring has an operation");
        if std::mem::replace(&mut pending.cancelled, true) {
            return;
        }
        if let Some(at) = self.starved.iter().position(|starved| *starved == id) {
            self.starved.remove(at);
            let outcome = Outcome::Received(Err(io::ErrorKind::Interrupted.into()));
            self.hand_on(id, outcome, false, true);
            return;
        }
        self.push_cancel(id);
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        self.counters.turns += 1;
        self.feed();
        self.take_jobs(done);
        done.append(&mut self.done);
        let wait = if done.is_empty() { wait } else { Wait::None };
        if wait != Wait::None {
            self.arm_wakeup();
        }
        self.drain_overflow();
        // Who sleeps must have handed over all there is: what would end the sleep may be among the rest.
        let sleeps = wait != Wait::None && self.overflow.is_empty() && self.home.wakeup.may_sleep();
        match wait {
            Wait::Until(at) if sleeps => self.enter(1, Some(at)),
            Wait::Forever if sleeps => self.enter(1, None),
            _ => self.enter(0, None),
        }
        if sleeps {
            self.home.wakeup.woke();
        }
        self.release_closed();
        self.take_completions();
        self.take_jobs(done);
        done.append(&mut self.done);
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        net::listen(address, SocketFlags::empty())
    }

    fn notifier(&self) -> Arc<dyn Notifier> {
        Arc::new(super::jobs::HomeNotifier(self.home.clone()))
    }

    fn now(&self) -> Instant {
        self.host.clock.now()
    }

    fn wall_time(&self) -> WallTime {
        self.host.clock.wall_time()
    }

    fn random(&mut self) -> u64 {
        super::clock::random()
    }

    fn name(&self) -> &'static str {
        "uring"
    }

    fn counters(&self) -> Counters {
        let (syncs, _) = self.host.disks.counts();
        Counters { syncs, punts: super::worker_threads::switches(), ..self.counters }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // The kernel may write to the memory of operations until their last completions have come.
        self.starved.clear();
        for op in self.ops.iter_mut().flatten() {
            op.cancelled = true;
        }
        for id in self.fetches.values().map(|(id, _)| *id).collect::<Vec<_>>() {
            self.ops[id as usize] = None;
            self.free.push(id);
        }
        while self.in_ring() > 0 || self.wakeup_armed {
            // Again and again: one that is queued to go on is not found (see `cancel_tried`).
            self.push(opcode::AsyncCancel2::new(types::CancelBuilder::any()).build().user_data(IGNORED));
            self.drain_overflow();
            self.enter(1, None);
            self.take_completions();
            self.done.clear();
        }
    }
}

/// A result of the ring as the standard library has it; a cancelled operation is an interrupted one.
fn outcome(result: i32) -> io::Result<i32> {
    match result {
        count @ 0.. => Ok(count),
        error if -error == libc::ECANCELED => Err(io::ErrorKind::Interrupted.into()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Whether a receive ended because all shared buffers were lent.
fn finds_no_buffer(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests;
