//! One connection: a task whose two halves take requests in and send replies out.

use super::input::{End, Input, Next};
use super::output::{Done, Replies, send_replies};
use super::{HEAVY_FRAME_BYTES, LARGE_FRAME_BYTES, Limits, Peer, Requests};
use bytes::Bytes;
use ringlog_engine::io::{Instant, Io, Socket};
use ringlog_engine::shard::Shard;
use ringlog_engine::shard::sync::Permit;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it, or went away.
    Client,
    /// The client broke the protocol; the text says how.
    Refused(String),
    /// Nothing was asked for too long.
    Idle,
    /// Nothing was asked since it came.
    Handshake,
    /// A frame that had begun did not end in time.
    SlowFrame,
    /// What nobody can use yet took too much memory, and it had much for long.
    Crowded,
    /// It has sent too much behind a request that waits for its answer for long.
    Ahead,
    /// A reply that had begun to leave was not taken in time.
    SlowReader,
    /// The broker stops.
    Stopping,
}

impl CloseReason {
    /// One word for it, as metrics tell it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Refused(_) => "refused",
            Self::Idle => "idle",
            Self::Handshake => "handshake",
            Self::SlowFrame => "slow_request",
            Self::Crowded => "crowded",
            Self::Ahead => "ahead",
            Self::SlowReader => "slow_reader",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => write!(f, "the client closed it"),
            Self::Refused(why) => write!(f, "{why}"),
            Self::Idle => write!(f, "it was idle for longer than connections.max.idle.ms"),
            Self::Handshake => write!(f, "it asked for nothing within connections.max.handshake.ms"),
            Self::SlowFrame => write!(f, "a request that had begun did not arrive in time"),
            Self::Crowded => {
                write!(f, "requests that had begun, or were behind others, took too much memory")
            }
            Self::Ahead => write!(f, "it sent more behind a request than can wait for its answer"),
            Self::SlowReader => write!(f, "a reply was not read in time"),
            Self::Stopping => write!(f, "the broker stops"),
        }
    }
}

/// What others on the shard see of a connection, and how they end it.
pub(super) struct Control {
    socket: Socket,
    /// The frame that has begun to come, and the replies that have begun to leave.
    frame: Cell<Option<Transfer>>,
    sending: Cell<Option<Transfer>>,
    /// Bytes that have come and nobody can use yet, if there are any, and since when.
    unfinished: Cell<Option<(Instant, usize)>>,
    /// A request that none may overlap waits for its answer.
    waits_alone: Cell<bool>,
    /// When it last had a request or an answer, or came; and whether it ever had a request.
    last_used: Cell<Instant>,
    has_asked: Cell<bool>,
    busy: Cell<bool>,
    draining: Cell<bool>,
    close: RefCell<Option<CloseReason>>,
    waker: RefCell<Option<Waker>>,
}

/// Bytes on their way in or out.
#[derive(Clone, Copy)]
struct Transfer {
    began: Instant,
    len: u64,
    /// It holds memory that others may wait for.
    holds_memory: bool,
}

/// How long connections may take.
pub(super) struct Patience {
    /// Without a request, or for a reply to be read; zero: for ever.
    pub(super) idle: Duration,
    /// Until the first request; zero: for ever.
    pub(super) handshake: Duration,
    /// For a frame to come.
    pub(super) frame: Duration,
    /// Somebody waits for the memory of frames that are coming.
    pub(super) short_of_requests: bool,
    /// Somebody waits for memory that replies which are leaving hold, or requests behind them.
    pub(super) short_of_replies: bool,
}

/// The slowest bytes may come and go, on top of the time that is given anyway.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// The same for those who hold memory that others wait for, and the time given to them.
const BYTES_PER_SECOND_MIN_SHORT: u64 = 8 * 1024 * 1024;
const TIME_SHORT: Duration = Duration::from_secs(5);
/// So many bytes may wait in the socket behind a request whose answer takes longer than [`TIME_SHORT`]. Who sent more is not seen to go,
/// for the end comes after all of it.
const AHEAD_BYTES_MAX: usize = 32 * 1024;

impl Transfer {
    fn is_late(&self, now: Instant, time: Duration, short: bool) -> bool {
        let taken = now.since(self.began);
        let pace = |rate| Duration::from_secs(self.len / rate);
        (!time.is_zero() && taken >= time + pace(BYTES_PER_SECOND_MIN))
            || (short && self.holds_memory && taken >= TIME_SHORT + pace(BYTES_PER_SECOND_MIN_SHORT))
    }
}

impl Control {
    pub(super) fn new(now: Instant, socket: Socket) -> Rc<Self> {
        Rc::new(Self {
            socket,
            frame: Cell::new(None),
            sending: Cell::new(None),
            unfinished: Cell::new(None),
            waits_alone: Cell::new(false),
            last_used: Cell::new(now),
            has_asked: Cell::new(false),
            busy: Cell::new(false),
            draining: Cell::new(false),
            close: RefCell::default(),
            waker: RefCell::default(),
        })
    }

    /// A small frame has begun, unless it had already.
    pub(super) fn frame_began(&self, now: Instant) {
        if self.frame.get().is_none() {
            let len = LARGE_FRAME_BYTES as u64;
            self.frame.set(Some(Transfer { began: now, len, holds_memory: false }));
        }
    }

    pub(super) fn set_unfinished(&self, bytes: usize, now: impl FnOnce() -> Instant) {
        let since = |before: Option<(Instant, usize)>| before.map_or_else(now, |(since, _)| since);
        self.unfinished.set((bytes > 0).then(|| (since(self.unfinished.get()), bytes)));
    }

    /// Since when there are bytes that nobody can use, and how many.
    pub(super) fn unfinished(&self) -> Option<(Instant, usize)> {
        self.unfinished.get()
    }

    /// A large body of this length, for which memory was taken, is being received.
    pub(super) fn large_body_began(&self, now: Instant, len: usize) {
        self.frame.set(Some(Transfer { began: now, len: len as u64, holds_memory: true }));
    }

    pub(super) fn frame_ended(&self) {
        self.frame.set(None);
        self.unfinished.set(None);
    }

    /// Replies of this length together have begun to leave. They hold memory, and so may the requests behind them.
    pub(super) fn sending_began(&self, now: Instant, len: u64) {
        self.sending.set(Some(Transfer { began: now, len, holds_memory: true }));
    }

    pub(super) fn sending_ended(&self) {
        self.sending.set(None);
    }

    /// A request has come whole.
    fn asked(&self, now: Instant) {
        self.has_asked.set(true);
        self.last_used.set(now);
    }

    /// Whether requests wait for their answers.
    fn set_busy(&self, busy: bool, now: impl FnOnce() -> Instant) {
        if self.busy.replace(busy) && !busy {
            self.last_used.set(now());
        }
    }

    /// Takes no further request, answers those that were taken, closes.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    /// Closes at once.
    pub(super) fn close(&self, reason: CloseReason) {
        self.close.borrow_mut().get_or_insert(reason);
        self.wake();
    }

    /// Closes what has been silent too long.
    pub(super) fn sweep(&self, now: Instant, patience: &Patience, io: &Io) {
        let Patience { idle, handshake, frame, short_of_requests, short_of_replies } = *patience;
        let unused = now.since(self.last_used.get());
        if self.frame.get().is_some_and(|coming| coming.is_late(now, frame, short_of_requests)) {
            self.close(CloseReason::SlowFrame);
        } else if self.sending.get().is_some_and(|leaving| leaving.is_late(now, idle, short_of_replies)) {
            self.close(CloseReason::SlowReader);
        } else if !handshake.is_zero() && !self.has_asked.get() && unused >= handshake {
            self.close(CloseReason::Handshake);
        } else if self.waits_alone.get()
            && self.sending.get().is_none()
            && unused >= TIME_SHORT
            && io.unread(&self.socket) > AHEAD_BYTES_MAX
        {
            self.close(CloseReason::Ahead);
        } else if !idle.is_zero() && !self.busy.get() && unused >= idle {
            self.close(CloseReason::Idle);
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One connection, served until it ends.
pub(super) struct Connection {
    pub(super) shard: Shard,
    pub(super) socket: Socket,
    pub(super) peer: Rc<Peer>,
    pub(super) control: Rc<Control>,
    pub(super) limits: Rc<Limits>,
    pub(super) requests: Rc<dyn Requests>,
}

impl Connection {
    /// Serves it to its end and closes the socket.
    pub(super) async fn serve(self) -> CloseReason {
        let io = self.shard.io().clone();
        let replies = Replies::default();
        let mut input = Input::new(io.clone(), self.socket.clone(), &self.limits, self.control.clone());
        let reason = self.run(&mut input, &replies).await;
        // Nothing of this connection may be pending when its socket closes.
        input.stop().await;
        replies.stop().await;
        drop(replies);
        // The client may have closed it already.
        let _ = io.close_socket(self.socket.clone()).await;
        reason
    }

    /// Runs both halves until one of them ends the connection.
    async fn run(&self, input: &mut Input, replies: &Replies) -> CloseReason {
        let mut reading = pin!(self.read_requests(input, replies));
        let mut sending = pin!(send_replies(self.shard.io(), &self.socket, replies, &self.control));
        let mut read = None;
        poll_fn(|cx| {
            *self.control.waker.borrow_mut() = Some(cx.waker().clone());
            loop {
                let before = replies.progress();
                if let Some(reason) = self.control.close.take() {
                    return Poll::Ready(reason);
                }
                if read.is_none()
                    && let Poll::Ready(reason) = reading.as_mut().poll(cx)
                {
                    read = Some(reason);
                    replies.finish();
                }
                if let Poll::Ready(done) = sending.as_mut().poll(cx) {
                    return Poll::Ready(match done {
                        Done::Finished => read.take().expect("replies finish after the requests"),
                        Done::Close(why) => CloseReason::Refused(why),
                        Done::Failed => CloseReason::Client,
                    });
                }
                self.control.set_busy(replies.waiting() > 0, || self.shard.now());
                // One half waits for what the other does; both are tasks of this waker only.
                if replies.progress() == before {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Takes requests in until the client ends, breaks the protocol, or the broker drains.
    async fn read_requests(&self, input: &mut Input, replies: &Replies) -> CloseReason {
        // Thousands of small requests fit into one receive buffer.
        let mut row = Row::default();
        loop {
            if row.is_full() {
                input.keep_while(self.shard.yield_now()).await;
                row.has_yielded();
            }
            let (body, lent, held) = match self.next_unless_draining(input, &mut row).await {
                None => return CloseReason::Stopping,
                Some(Next::End(end)) => return end.into(),
                Some(Next::Frame { body, lent }) => (body, lent, None),
                Some(Next::Large { len }) => {
                    let cost = self.requests.cost(input.body_start(), len);
                    let taken = self.limits.large_request_memory.take(cost);
                    let held = input.keep_while(taken).await;
                    match input.large_body(len, &*self.requests).await {
                        Ok(body) => (body, false, Some(held)),
                        Err(end) => return end.into(),
                    }
                }
            };
            self.control.asked(self.shard.now());
            row.grew();
            let overlaps = self.requests.overlaps(&body);
            // What overlaps is mostly records; anything else of this length names hundreds of things.
            let is_heavy = !overlaps && body.len() >= HEAVY_FRAME_BYTES;
            let ahead_max = if overlaps { self.limits.overlapping_max as u64 - 1 } else { 0 };
            let mut request = Request { body, lent };
            if replies.waiting() > ahead_max {
                request.keep();
                input.keep_while(answered_to(replies, ahead_max)).await;
            }
            let held = match held {
                Some(held) => held,
                None => self.memory_for(input, &mut request, is_heavy).await,
            };
            // The records of a large one are to be checked: a megabyte takes 100 us.
            if is_heavy || request.body.len() >= LARGE_FRAME_BYTES {
                request.keep();
                input.keep_while(self.shard.yield_now()).await;
            }
            if overlaps {
                replies.push(self.requests.dispatch(&self.peer, request.body), Some(held));
                continue;
            }
            request.keep();
            replies.push(self.requests.dispatch(&self.peer, request.body), Some(held));
            self.control.waits_alone.set(true);
            if input.keep_while_heard(answered_to(replies, 0)).await.is_none() {
                // Nobody is left to hear the answer: it is given up, not waited for.
                self.control.close(CloseReason::Client);
                return CloseReason::Client;
            }
            self.control.waits_alone.set(false);
        }
    }

    async fn next_unless_draining(&self, input: &mut Input, row: &mut Row) -> Option<Next> {
        let mut next = pin!(input.next());
        let mut waits = false;
        poll_fn(|cx| {
            if self.control.draining.get() {
                return Poll::Ready(None);
            }
            let next = next.as_mut().poll(cx);
            if next.is_pending() && !std::mem::replace(&mut waits, true) {
                row.ran_dry();
            }
            next.map(Some)
        })
        .await
    }

    /// Request memory for a body that is here; nearly always there is some and nothing waits.
    async fn memory_for(&self, input: &mut Input, request: &mut Request, is_heavy: bool) -> Permit {
        let cost = self.requests.cost(&request.body, request.body.len());
        // Each kind waits for its own.
        let memory = if is_heavy { &self.limits.heavy_request_memory } else { &self.limits.request_memory };
        if let Some(held) = memory.try_take(cost) {
            return held;
        }
        request.keep();
        input.keep_while(memory.take(cost)).await
    }
}

/// Requests that were taken one after the other and not waited for. At most [`ROW_MAX`] are, and then others go first. Who has let others
/// go first sends much: of what comes next it has one taken before it does so again, or all that come at once would each have a row.
#[derive(Default)]
struct Row {
    taken: usize,
    has_yielded: bool,
}

/// Each takes some microseconds, most of them for sending its answer: others wait for a hundred.
const ROW_MAX: usize = 16;

impl Row {
    fn is_full(&self) -> bool {
        self.taken >= ROW_MAX
    }

    fn grew(&mut self) {
        self.taken += 1;
    }

    fn has_yielded(&mut self) {
        *self = Self { taken: 0, has_yielded: true };
    }

    /// There was nothing to take.
    fn ran_dry(&mut self) {
        self.taken = if std::mem::take(&mut self.has_yielded) { ROW_MAX - 1 } else { 0 };
    }
}

/// A body on its way to be dispatched.
struct Request {
    body: Bytes,
    lent: bool,
}

impl Request {
    /// The body leaves the receive buffer it was lent in, because it has to wait.
    fn keep(&mut self) {
        if std::mem::replace(&mut self.lent, false) {
            self.body = Bytes::copy_from_slice(&self.body);
        }
    }
}

/// Waits until at most `count` requests are unanswered. The connection's task polls this again after every reply.
fn answered_to(replies: &Replies, count: u64) -> impl Future<Output = ()> {
    poll_fn(move |_| if replies.waiting() <= count { Poll::Ready(()) } else { Poll::Pending })
}

impl From<End> for CloseReason {
    fn from(end: End) -> Self {
        match end {
            End::Closed | End::Failed => Self::Client,
            End::BadLength(len) => Self::Refused(format!(
                "a request announces {len} bytes, which is negative or more than socket.request.max.bytes"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROW_MAX, Row};

    /// How many are taken before it lets others go first.
    fn taken(row: &mut Row) -> usize {
        let before = row.taken;
        while !row.is_full() {
            row.grew();
        }
        row.taken - before
    }

    #[test]
    fn who_let_others_go_first_has_one_taken_of_what_comes_next() {
        let mut row = Row::default();
        assert_eq!(taken(&mut row), ROW_MAX);
        row.has_yielded();
        assert_eq!(taken(&mut row), ROW_MAX);
        row.has_yielded();
        row.grew();
        row.ran_dry();
        assert_eq!(taken(&mut row), 1);
        // Who does not send so much any more is as everybody else again.
        row.has_yielded();
        row.ran_dry();
        row.grew();
        assert!(row.is_full());
        row = Row::default();
        row.grew();
        row.ran_dry();
        assert_eq!(taken(&mut row), ROW_MAX);
    }
}
