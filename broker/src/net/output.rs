//! What a client gets: replies in request order, ready ones gathered into one send.

use super::connection::Control;
use super::{Part, PendingReply, Reply, SEND_BYTES_MAX, SEND_PARTS_KEPT, SEND_PARTS_MAX};
use bytes::Bytes;
use ringlog_engine::io::{Io, Op, Socket, Stream};
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use ringlog_engine::shard::sync::Permit;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

/// Replies of one connection that are on their way, in request order. Shared by its two halves, which one task runs.
#[derive(Default)]
pub(super) struct Replies {
    queue: RefCell<VecDeque<Pending>>,
    /// Requests accepted, and requests whose reply has left (or that get none).
    accepted: Cell<u64>,
    answered: Cell<u64>,
    finished: Cell<bool>,
    /// The send that is under way, kept here so that it can be cancelled.
    sending: RefCell<Option<Stream>>,
}

struct Pending {
    reply: State,
    /// Memory held for the request until it is answered.
    _held: Option<Permit>,
}

enum State {
    Waits(PendingReply),
    Ready(Reply),
}

impl Replies {
    /// Puts a reply in its place. It is looked at once, so that what it asks for (a sync, another shard's answer)
    /// is asked for now and not when the replies before it have left.
    pub(super) fn push(&self, mut reply: PendingReply, held: Option<Permit>) {
        let reply = match reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => State::Ready(reply),
            Poll::Pending => State::Waits(reply),
        };
        self.queue.borrow_mut().push_back(Pending { reply, _held: held });
        self.accepted.set(self.accepted.get() + 1);
    }

    /// Requests that have not been answered.
    pub(super) fn waiting(&self) -> u64 {
        self.accepted.get() - self.answered.get()
    }

    /// No further request will come.
    pub(super) fn finish(&self) {
        self.finished.set(true);
    }

    /// Ends the send that is under way, if any. Nothing may be sent afterwards.
    pub(super) async fn stop(&self) {
        let sending = self.sending.take();
        if let Some(mut sending) = sending {
            sending.cancel();
            sending.next().await;
        }
    }

    async fn run(&self, io: &Io, op: Op) -> std::io::Result<u64> {
        *self.sending.borrow_mut() = Some(io.start(op));
        poll_fn(|cx| {
            let mut sending = self.sending.borrow_mut();
            let outcome = ready!(sending.as_mut().expect("put there above").poll_next(cx));
            *sending = None;
            Poll::Ready(outcome.into_count())
        })
        .await
    }

    /// Grows with every change that the other half of the connection may wait for.
    pub(super) fn progress(&self) -> u64 {
        self.accepted.get() + self.answered.get() + u64::from(self.finished.get())
    }

    /// Gathers replies that are ready, in order. The next one that is not is left with this task's waker.
    fn poll_gather(&self, cx: &mut Context<'_>, gathered: &mut Gathered) -> Poll<()> {
        let mut queue = self.queue.borrow_mut();
        #[cfg(ringlog_plant)]
        if plant::is(Plant::RepliesOutOfOrder) {
            ready_first(&mut queue, cx);
        }
        while gathered.bytes < SEND_BYTES_MAX && gathered.parts.len() < SEND_PARTS_MAX {
            let Some(front) = queue.front_mut() else {
                gathered.last = self.finished.get();
                break;
            };
            if let State::Waits(reply) = &mut front.reply {
                match reply.as_mut().poll(cx) {
                    Poll::Ready(reply) => front.reply = State::Ready(reply),
                    Poll::Pending => break,
                }
            }
            let pending = queue.pop_front().expect("there is a front");
            let State::Ready(reply) = pending.reply else { unreachable!("it has just become ready") };
            gathered.add(reply);
            if gathered.close.is_some() {
                break;
            }
        }
        if gathered.count == 0 && !gathered.last { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(ringlog_plant)]
fn ready_first(queue: &mut VecDeque<Pending>, cx: &mut Context<'_>) {
    for pending in queue.iter_mut() {
        if let State::Waits(reply) = &mut pending.reply
            && let Poll::Ready(reply) = reply.as_mut().poll(cx)
        {
            pending.reply = State::Ready(reply);
        }
    }
    let ready = queue.iter().position(|pending| matches!(pending.reply, State::Ready(_)));
    if let Some(pending) = ready.and_then(|at| queue.remove(at)) {
        queue.push_front(pending);
    }
}

/// Replies that leave together.
#[derive(Default)]
struct Gathered {
    parts: Vec<Part>,
    /// Room for those of them that lie in memory.
    in_memory: Vec<Bytes>,
    bytes: u64,
    count: u64,
    held: Vec<Permit>,
    close: Option<String>,
    last: bool,
}

impl Gathered {
    fn add(&mut self, reply: Reply) {
        self.count += 1;
        let parts = match reply {
            Reply::Nothing => return,
            Reply::Close(why) => return self.close = Some(why),
            Reply::Send(parts) => parts,
            Reply::SendHeld(parts, held) => {
                self.held.push(held);
                parts
            }
        };
        self.bytes += parts.iter().map(Part::len).sum::<u64>();
        self.parts.extend(parts.into_iter().filter(|part| !part.is_empty()));
    }

    /// They have left: what comes next goes where they were.
    fn clear(&mut self) {
        self.parts.shrink_to(SEND_PARTS_KEPT);
        self.in_memory.shrink_to(SEND_PARTS_KEPT);
        let (parts, in_memory) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.in_memory));
        *self = Self { parts, in_memory, ..Self::default() };
    }
}

/// Why the sending half ended.
pub(super) enum Done {
    /// Everything asked for has been answered.
    Finished,
    /// A request cannot be answered but by closing.
    Close(String),
    /// The client cannot be reached.
    Failed,
}

/// Sends replies until the last one.
pub(super) async fn send_replies(io: &Io, socket: &Socket, replies: &Replies, control: &Control) -> Done {
    let mut gathered = Gathered::default();
    loop {
        poll_fn(|cx| replies.poll_gather(cx, &mut gathered)).await;
        control.sending_began(io.now(), gathered.bytes);
        if send(io, socket, replies, &mut gathered).await.is_err() {
            return Done::Failed;
        }
        control.sending_ended();
        replies.answered.set(replies.answered.get() + gathered.count);
        if let Some(why) = gathered.close {
            return Done::Close(why);
        }
        if gathered.last {
            return Done::Finished;
        }
        gathered.clear();
    }
}

/// Sends parts in order: what is in memory in one operation, ranges of files without copying them.
async fn send(io: &Io, socket: &Socket, replies: &Replies, gathered: &mut Gathered) -> std::io::Result<()> {
    let Gathered { parts, in_memory, .. } = gathered;
    for part in parts.drain(..) {
        match part {
            Part::Bytes(bytes) => in_memory.push(bytes),
            Part::File { file, pos, len } => {
                send_bytes(io, socket, replies, in_memory).await?;
                let sent = replies.run(io, Op::SendFile { socket: socket.clone(), file, pos, len }).await?;
                if sent < len {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
    send_bytes(io, socket, replies, in_memory).await
}

/// Up to this many bytes are sent without asking the ring, which takes a turn; more leave the shard to others meanwhile.
const SEND_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// Sends these, and leaves none.
async fn send_bytes(
    io: &Io,
    socket: &Socket,
    replies: &Replies,
    parts: &mut Vec<Bytes>,
) -> std::io::Result<()> {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    if bytes <= SEND_AT_ONCE_BYTES_MAX {
        io.send_at_once(socket, parts);
    }
    if !parts.is_empty() {
        replies.run(io, Op::Send { socket: socket.clone(), parts: std::mem::take(parts) }).await?;
    }
    Ok(())
}
