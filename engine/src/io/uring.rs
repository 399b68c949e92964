//! The product's Driver: one io_uring per shard.
//!
//! - One submission a turn: operations are queued as entries and handed over by the call that also waits.
//! - Sockets and files are registered; an operation names them by slot, which saves the kernel a lookup and a reference count.
//! - Accept and receive are multishot: one entry serves until it is cancelled. Received bytes lie in a ring of shared
//!   buffers ([`super::lent`]).
//! - What the ring would run on a worker thread of the kernel (syncs, space, names) goes to our own helper threads and
//!   flushers instead, so that nothing the shard submits leaves its core unseen.
#![expect(unsafe_code, reason = "entries of the ring carry addresses")]

use super::host::Host;
use super::jobs::Home;
use super::lent::{Lender, RECV_GROUP};
use super::net::{self, FileSend, FileSendStep, SEND_PARTS_MAX};
use super::op::{ByToken, NumberHasher};
use super::{
    Completion, Counters, Driver, File, FileMode, Instant, Listener, Notifier, Op, Outcome, Socket, Token,
    Wait, WallTime,
};
use bytes::{Bytes, BytesMut};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use rustix::net::SocketFlags;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
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
    /// Receives that ended because all shared buffers were lent.
    starved: Vec<u32>,
    /// Entries that found the submission queue full.
    overflow: VecDeque<squeue::Entry>,
    /// File sends whose pages a helper is bringing: by the helper's token.
    fetches: ByToken<(u32, u64)>,
    next_fetch: u64,
    host: Arc<Host>,
    home: Arc<Home>,
    wakeup_armed: bool,
    no_iowait: bool,
    done: Vec<Completion>,
    counters: Counters,
}

/// An operation in the ring, with all the memory the kernel may touch until its last completion.
struct Pending {
    token: Token,
    cancelled: bool,
    work: Work,
}

enum Work {
    Accept { listener: Listener },
    Recv { socket: Socket },
    Exact { socket: Socket, buffer: BytesMut, len: usize },
    Send { socket: Socket, message: Box<Message>, sent: u64 },
    File { send: FileSend },
    Write { file: File, pos: u64, bytes: Bytes, written: usize },
    WriteParts { file: File, pos: u64, message: Box<Message>, written: u64 },
    Read { file: File, pos: u64, buffer: BytesMut, len: usize },
}

/// Bytes in parts, to send or to write: the parts, and the description of them that the kernel reads.
struct Message {
    parts: VecDeque<Bytes>,
    slices: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// Entries of the submission queue; a turn that needs more submits more than once.
const SUBMISSIONS: u32 = 1024;
/// Completions: enough for every connection to have several.
const COMPLETIONS: u32 = 16 * 1024;
/// Registered files and sockets; what goes beyond is named by its descriptor.
const SLOTS_MAX: u32 = 16 * 1024;
/// Completions that belong to no operation of the shard.
const WAKEUP: u64 = u64::MAX;
const IGNORED: u64 = u64::MAX - 1;
/// Marks the completion of the attempt to cancel the operation with the rest of the number.
const CANCEL: u64 = 1 << 40;
/// Tokens of helpers' fetches lie above all that are submitted.
const FETCH_TOKENS: u64 = 1 << 63;

/// Builds an entry on a registered slot or on a descriptor.
macro_rules! entry_on {
    ($target:expr, |$fd:ident| $op:expr) => {
        match $target {
            Target::Slot($fd) => $op.build(),
            Target::Descriptor($fd) => $op.build(),
        }
    };
}
impl UringDriver {
    /// Whether this process may have a ring with all that is needed.
    pub(super) fn try_ring() -> io::Result<()> {
        let ring = ring(8, 16)?;
        Lender::new(&ring, 2).map(drop)
    }

    pub(super) fn new(host: Arc<Host>) -> io::Result<Self> {
        let ring = ring(SUBMISSIONS, COMPLETIONS)?;
        let no_iowait = ring.params().is_feature_no_iowait();
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
            starved: Vec::new(),
            overflow: VecDeque::new(),
            fetches: ByToken::default(),
            next_fetch: FETCH_TOKENS,
            host,
            home,
            wakeup_armed: false,
            no_iowait,
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
        let slots = &mut self.slots;
        let ring = &self.ring;
        let entry = match &mut pending.work {
            Work::Accept { listener } => {
                let fd = slots.of(ring, listener.0.id(), net::fd(&listener.0));
                entry_on!(fd, |fd| opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC))
            }
            Work::Recv { socket } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                entry_on!(fd, |fd| opcode::RecvMulti::new(fd, RECV_GROUP))
            }
            Work::Exact { socket, buffer, len } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                let missing = *len - buffer.len();
                let room = &mut buffer.spare_capacity_mut()[..missing];
                let want = u32::try_from(room.len()).expect("a body is below 2 GiB");
                let at = room.as_mut_ptr().cast();
                entry_on!(fd, |fd| opcode::Recv::new(fd, at, want).flags(libc::MSG_WAITALL))
            }
            Work::Send { socket, message, .. } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                let header = message.describe();
                let flags =
                    u32::try_from(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).expect("flags are positive");
                entry_on!(fd, |fd| opcode::SendMsg::new(fd, header).flags(flags))
            }
            Work::File { send } => {
                let fd = slots.of(ring, send.socket.id(), net::fd(&send.socket));
                let events = u32::try_from(libc::POLLOUT).expect("a positive flag");
                entry_on!(fd, |fd| opcode::PollAdd::new(fd, events))
            }
            Work::Write { file, pos, bytes, written } => {
                let fd = slots.of_file(ring, file);
                let rest = &bytes[*written..];
                let want = u32::try_from(rest.len()).expect("a write is below 4 GiB");
                let (at, pos) = (rest.as_ptr(), *pos + *written as u64);
                entry_on!(fd, |fd| opcode::Write::new(fd, at, want).offset(pos))
            }
            Work::WriteParts { file, pos, message, written } => {
                let fd = slots.of_file(ring, file);
                message.describe();
                let (at, count) = (message.slices.as_ptr(), message.slices.len());
                let (count, pos) = (u32::try_from(count).expect("a write has few parts"), *pos + *written);
                entry_on!(fd, |fd| opcode::Writev::new(fd, at, count).offset(pos))
            }
            Work::Read { file, pos, buffer, len } => {
                let fd = slots.of_file(ring, file);
                let filled = buffer.len();
                let room = &mut buffer.spare_capacity_mut()[..*len - filled];
                let want = u32::try_from(room.len()).expect("a read is below 4 GiB");
                let (at, pos) = (room.as_mut_ptr().cast(), *pos + filled as u64);
                entry_on!(fd, |fd| opcode::Read::new(fd, at, want).offset(pos))
            }
        };
        self.push(entry.user_data(u64::from(id)));
    }

    /// Queues an entry. Every address in it must stay valid until its last completion.
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: entries are built by `push_op` from memory that its operation owns until its last completion, or carry
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
        let mut flags = EnterFlags::GETEVENTS;
        if self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let span = until.map(|at| at.since(self.now()));
        let timeout = span.map(|span| types::Timespec::new().sec(span.as_secs()).nsec(span.subsec_nanos()));
        let argument = EventsArgument {
            sigmask: 0,
            sigmask_size: 0,
            min_wait_usec: 0,
            timeout: timeout.as_ref().map_or(0, |timeout| std::ptr::from_ref(timeout).addr() as u64),
        };
        flags |= EnterFlags::EXT_ARG;
        let queued = u32::try_from(self.ring.submission().len()).expect("the queue is short");
        // SAFETY: the argument has the layout of io_uring_getevents_arg, which EXT_ARG announces; it and the timeout it
        // points to live across the call.
        let result = unsafe { self.ring.submitter().enter(queued, want, flags.bits(), Some(&argument)) };
        match result {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // The time is up, a signal came, or completions must be taken first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => panic!("enter the ring: {error}"),
            },
        }
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
        match &mut pending.work {
            Work::Accept { .. } => {
                let aborted =
                    matches!(&result, Err(error) if error.kind() == io::ErrorKind::ConnectionAborted);
                if (retry || aborted) && !more {
                    return self.push_op(id);
                }
                // SAFETY: the kernel made this descriptor for this completion and nobody else has it.
                let accepted = result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).and_then(net::accepted);
                let ends = accepted.is_err() && !more;
                self.hand_on(id, Outcome::Accepted(accepted), more, ends);
            }
            Work::Recv { .. } => {
                let received = match result {
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && !pending.cancelled => {
                        self.starved.push(id);
                        if self.lender.starve() {
                            self.feed();
                        }
                        return;
                    }
                    Err(_) if retry => return self.push_op(id),
                    Err(error) => Err(error),
                    Ok(0) => Ok(Bytes::new()),
                    Ok(count) => {
                        let buffer = cqueue::buffer_select(entry.flags())
                            .expect("received bytes lie in a shared buffer");
                        Ok(self.lender.lend(buffer, usize::try_from(count).expect("a count")))
                    }
                };
                let ends = !more && received.as_ref().map_or(true, Bytes::is_empty);
                self.hand_on(id, Outcome::Received(received), more, ends);
            }
            Work::Exact { buffer, len, .. } => match result {
                Ok(count) => {
                    let count = usize::try_from(count).expect("a count");
                    // SAFETY: the kernel has filled `count` bytes from the end of what was filled, within the capacity.
                    unsafe { buffer.set_len(buffer.len() + count) };
                    if count > 0 && buffer.len() < *len {
                        return self.push_op(id);
                    }
                    let bytes = buffer.split().freeze();
                    self.hand_on(id, Outcome::Received(Ok(bytes)), false, true);
                }
                Err(_) if retry => self.push_op(id),
                Err(error) => self.hand_on(id, Outcome::Received(Err(error)), false, true),
            },
            Work::Send { message, sent, .. } => match result {
                Ok(count) => {
                    let count = usize::try_from(count).expect("a count");
                    *sent += count as u64;
                    super::poll::advance(&mut message.parts, count);
                    if !message.parts.is_empty() {
                        return self.push_op(id);
                    }
                    let sent = *sent;
                    self.hand_on(id, Outcome::Count(Ok(sent)), false, true);
                }
                Err(_) if retry => self.push_op(id),
                Err(error) => self.hand_on(id, Outcome::Count(Err(error)), false, true),
            },
            Work::File { .. } => match result {
                Ok(_) => self.send_file(id),
                Err(_) if retry => self.push_op(id),
                Err(error) => self.hand_on(id, Outcome::Count(Err(error)), false, true),
            },
            Work::Write { bytes, written, .. } => match result {
                Ok(0) => self.hand_on(id, Outcome::Count(Err(io::ErrorKind::WriteZero.into())), false, true),
                Ok(count) => {
                    *written += usize::try_from(count).expect("a count");
                    self.counters.bytes_written += u64::try_from(count).expect("a count");
                    if *written < bytes.len() {
                        return self.push_op(id);
                    }
                    let count = bytes.len() as u64;
                    self.hand_on(id, Outcome::Count(Ok(count)), false, true);
                }
                Err(_) if retry => self.push_op(id),
                Err(error) => self.hand_on(id, Outcome::Count(Err(error)), false, true),
            },
            Work::WriteParts { message, written, .. } => match result {
                Ok(0) => self.hand_on(id, Outcome::Count(Err(io::ErrorKind::WriteZero.into())), false, true),
                Ok(count) => {
                    let count = usize::try_from(count).expect("a count");
                    *written += count as u64;
                    self.counters.bytes_written += count as u64;
                    super::poll::advance(&mut message.parts, count);
                    if !message.parts.is_empty() {
                        return self.push_op(id);
                    }
                    let written = *written;
                    self.hand_on(id, Outcome::Count(Ok(written)), false, true);
                }
                Err(_) if retry => self.push_op(id),
                Err(error) => self.hand_on(id, Outcome::Count(Err(error)), false, true),
            },
            Work::Read { buffer, len, .. } => match result {
                Ok(count) => {
                    let count = usize::try_from(count).expect("a count");
                    self.counters.bytes_read += count as u64;
                    // SAFETY: the kernel has filled `count` bytes from the end of what was filled, within the capacity.
                    unsafe { buffer.set_len(buffer.len() + count) };
                    // A count that is no whole number of blocks has met the end of the file.
                    if count > 0 && count.is_multiple_of(super::buf::BLOCK) && buffer.len() < *len {
                        return self.push_op(id);
                    }
                    let bytes = buffer.split().freeze();
                    self.hand_on(id, Outcome::Received(Ok(bytes)), false, true);
                }
                Err(_) if retry => self.push_op(id),
                Err(error) => self.hand_on(id, Outcome::Received(Err(error)), false, true),
            },
        }
    }

    /// Gives an outcome to the shard. A multishot operation that the kernel ended although nothing is wrong is
    /// begun again, unseen.
    fn hand_on(&mut self, id: u32, outcome: Outcome, more: bool, ends: bool) {
        let pending = self.ops[id as usize].as_ref().expect("an operation in the ring");
        let token = pending.token;
        let rearm = !more && !ends && !pending.cancelled;
        // A cancelled multishot operation that ended with bytes still owes its last completion.
        let ends = !more && !rearm;
        let owes_end = ends && pending.cancelled && !is_end(&outcome);
        let last = match (&pending.work, owes_end) {
            (Work::Recv { .. }, true) => Some(Outcome::Received(Err(io::ErrorKind::Interrupted.into()))),
            (Work::Accept { .. }, true) => Some(Outcome::Accepted(Err(io::ErrorKind::Interrupted.into()))),
            _ => None,
        };
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
            FileSendStep::AwaitSocket => self.push_op(id),
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

    /// Gives returned buffers to the kernel and begins the receives again that had none.
    fn feed(&mut self) {
        if self.lender.take_back() > 0 {
            for id in std::mem::take(&mut self.starved) {
                if self.ops[id as usize].is_some() {
                    self.push_op(id);
                }
            }
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
            Op::Recv { socket } => self.begin(token, Work::Recv { socket }),
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
                if message.parts.is_empty() {
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

    fn cancel(&mut self, token: Token) {
        // What a helper thread or a flusher has is not cancelled: it ends by itself.
        let Some(&id) = self.tokens.get(&token) else { return };
        let pending = self.ops[id as usize].as_mut().expect("a token in the ring has an operation");
        if std::mem::replace(&mut pending.cancelled, true) {
            return;
        }
        if let Some(at) = self.starved.iter().position(|starved| *starved == id) {
            self.starved.swap_remove(at);
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

/// Whether nothing may follow this outcome.
fn is_end(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Received(Ok(bytes)) => bytes.is_empty(),
        Outcome::Received(Err(_)) | Outcome::Accepted(Err(_)) | Outcome::Count(_) => true,
        _ => false,
    }
}

impl Message {
    fn new(parts: Vec<Bytes>) -> Box<Self> {
        let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        // SAFETY: a msghdr of zeroes is valid: no name, no slices, no control data.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self { slices: Vec::with_capacity(parts.len().min(SEND_PARTS_MAX)), parts, header })
    }

    /// Describes what is left to send. The description stays valid while the message is neither moved out of its box
    /// nor changed.
    fn describe(&mut self) -> *const libc::msghdr {
        self.slices.clear();
        self.slices.extend(
            self.parts
                .iter()
                .take(SEND_PARTS_MAX)
                .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }),
        );
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
        &raw const self.header
    }
}

/// Registered descriptors, by the ids of their files and sockets.
struct Slots {
    slot_of: HashMap<u64, u32, BuildHasherDefault<NumberHasher>>,
    free: Vec<u32>,
}

/// How an entry names a descriptor.
enum Target {
    Slot(types::Fixed),
    Descriptor(types::Fd),
}

impl Slots {
    fn register(ring: &IoUring) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let count = limit.map_or(SLOTS_MAX, |limit| u32::try_from(limit).unwrap_or(SLOTS_MAX).min(SLOTS_MAX));
        let count = if ring.submitter().register_files_sparse(count).is_ok() { count } else { 0 };
        Self { slot_of: HashMap::default(), free: (0..count).rev().collect() }
    }

    /// Registers the locks on the data directories as well: if this process is killed, they are let go only with the
    /// ring, when no write of it can land any more in files that belong to somebody else by then.
    fn hold(&mut self, ring: &IoUring, locks: &[OwnedFd]) -> io::Result<()> {
        for lock in locks {
            let slot = self.free.pop().ok_or(io::ErrorKind::OutOfMemory)?;
            ring.submitter().register_files_update(slot, &[lock.as_raw_fd()])?;
        }
        Ok(())
    }

    fn of(&mut self, ring: &IoUring, id: u64, fd: &OwnedFd) -> Target {
        if let Some(slot) = self.slot_of.get(&id) {
            return Target::Slot(types::Fixed(*slot));
        }
        let Some(slot) = self.free.pop() else { return Target::Descriptor(types::Fd(fd.as_raw_fd())) };
        match ring.submitter().register_files_update(slot, &[fd.as_raw_fd()]) {
            Ok(_) => {
                self.slot_of.insert(id, slot);
                Target::Slot(types::Fixed(slot))
            }
            Err(_) => {
                self.free.push(slot);
                Target::Descriptor(types::Fd(fd.as_raw_fd()))
            }
        }
    }

    /// A file that is being closed gets no slot any more: nobody would take it back, and the ring would keep the file open.
    fn of_file(&mut self, ring: &IoUring, file: &File) -> Target {
        let fd = super::blocking::fd(file);
        if file.is_closed() {
            Target::Descriptor(types::Fd(fd.as_raw_fd()))
        } else {
            self.of(ring, file.id(), fd)
        }
    }

    fn release(&mut self, ring: &IoUring, id: u64) {
        let Some(slot) = self.slot_of.remove(&id) else { return };
        let cleared = ring.submitter().register_files_update(slot, &[-1]);
        assert!(cleared.is_ok(), "a registered slot can be cleared");
        self.free.push(slot);
    }
}

/// `io_uring_getevents_arg`.
#[repr(C)]
struct EventsArgument {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_usec: u32,
    timeout: u64,
}

/// A ring with the best flags this kernel takes.
fn ring(entries: u32, completions: u32) -> io::Result<IoUring> {
    let build = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(completions)
            .dontfork();
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    };
    let ring = match build(true) {
        // NO_SQARRAY came with Linux 6.6, the other flags with 6.1.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false)?,
        ring => ring?,
    };
    if ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop() {
        Ok(ring)
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

/// Why there is no ring, and what would give one.
pub(super) fn refusal(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring: Linux 6.1 or newer is needed".into(),
        Some(libc::EINVAL) => "this kernel's io_uring lacks what is needed: Linux 6.1 or newer has it".into(),
        Some(libc::EPERM | libc::EACCES) if matches!(disabled.trim(), "1" | "2") => format!(
            "io_uring is switched off on this machine: `sysctl kernel.io_uring_disabled=0` allows it (it is {})",
            disabled.trim()
        ),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is refused by a seccomp filter: with Docker or Podman run with `--security-opt seccomp=unconfined` \
             or a profile that allows io_uring_setup, io_uring_enter and io_uring_register"
                .into()
        }
        Some(libc::ENOMEM) => {
            "io_uring is refused for want of lockable memory: raise `ulimit -l` (LimitMEMLOCK=infinity in a systemd unit)".into()
        }
        _ => format!("io_uring is refused: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::IoChoice;
    use super::*;
    use crate::io::DirId;

    fn driver(dir: &std::path::Path) -> Option<UringDriver> {
        UringDriver::try_ring().ok()?;
        let host = Host::open(&[dir.to_owned()], IoChoice::Uring).unwrap();
        Some(UringDriver::new(host).unwrap())
    }

    fn end(driver: &mut UringDriver, token: Token, op: Op) -> Outcome {
        let mut done = Vec::new();
        driver.submit(token, op);
        loop {
            driver.turn(Wait::Forever, &mut done);
            if let Some(at) = done.iter().position(|completion| completion.token == token) {
                return done.swap_remove(at).outcome;
            }
        }
    }

    #[test]
    fn a_file_that_is_read_while_it_is_closed_does_not_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut driver) = driver(dir.path()) else { return };
        let create = Op::Create { dir: DirId(0), path: dir.path().join("file"), mode: FileMode::Blocks };
        let Outcome::Opened(Ok((file, _))) = end(&mut driver, Token(0), create) else { panic!("created") };
        let slots = driver.slots.free.len();
        let read = || Op::Read { file: file.clone(), pos: 0, len: 4096 };
        assert!(end(&mut driver, Token(1), read()).into_bytes().unwrap().is_empty());
        assert_eq!(driver.slots.free.len(), slots - 1);
        end(&mut driver, Token(2), Op::Close { file: file.clone() }).into_count().unwrap();
        // A reader has been going through the file, and goes on.
        assert!(end(&mut driver, Token(3), read()).into_bytes().unwrap().is_empty());
        assert_eq!(driver.slots.free.len(), slots);
    }

    #[test]
    fn a_read_on_its_way_is_of_its_own_file_though_that_is_closed_and_another_opened() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut driver) = driver(dir.path()) else { return };
        let mut file = |token: u64, content: u8| {
            let path = dir.path().join(format!("{token}"));
            std::fs::write(&path, [content; 4096]).unwrap();
            let open = Op::Open { dir: DirId(0), path, mode: FileMode::Blocks };
            let Outcome::Opened(Ok((file, _))) = end(&mut driver, Token(token), open) else {
                panic!("opened")
            };
            file
        };
        let (first, second) = (file(0, 1), file(1, 2));
        let read = |file: &File| Op::Read { file: file.clone(), pos: 0, len: 4096 };
        // It has a slot, named by an entry that the kernel has not taken yet.
        driver.submit(Token(2), read(&first));
        driver.submit(Token(3), Op::Close { file: first.clone() });
        driver.submit(Token(4), read(&second));
        let mut done = Vec::new();
        while done.len() < 3 {
            driver.turn(Wait::Forever, &mut done);
        }
        for completion in done.into_iter().filter(|completion| completion.token != Token(3)) {
            let content = completion.outcome.into_bytes().unwrap();
            let own = completion.token.0 as u8 / 2;
            assert!(content.iter().all(|byte| *byte == own), "{:?} is of the other file", completion.token);
        }
    }

    #[test]
    fn nobody_sleeps_before_all_is_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut driver) = driver(dir.path()) else { return };
        let (listener, _) = net::listen("127.0.0.1:0".parse().unwrap(), SocketFlags::empty()).unwrap();
        // Nobody connects: none of these ends.
        for token in 0..u64::from(SUBMISSIONS) + 10 {
            driver.submit(Token(token), Op::Accept { listener: listener.clone() });
        }
        assert!(!driver.overflow.is_empty());
        let at = Instant::from_nanos(driver.now().as_nanos() + 10_000_000_000);
        driver.turn(Wait::Until(at), &mut Vec::new());
        assert!(driver.now() < at, "it slept while operations, and its own wakeup, waited to be handed over");
    }
}
