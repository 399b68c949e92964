//! What a client sends: received, cut into frames.
//!
//! Received bytes lie in buffers the Driver lends to all connections of the shard. A frame that lies whole in one
//! is handed on as a slice of it; everything that has to wait is copied out at once. A frame of
//! [`LARGE_FRAME_BYTES`] and more is received into memory of its own, after credit for it was taken; the start of the
//! frame after it is received alone, so that of a second large one hardly a byte comes through lent buffers.
//!
//! ```text
//!   chunk (lent)  │len│ body │len│ body │le        the rest goes to `held` when the next chunk is needed
//!   held (ours)                         │len│ bod
//! ```
//!
//! While a request waits, for memory or for its answer, nothing is received: what the client sends meanwhile stays with the kernel, and
//! holds the client up. What had come before is copied and kept, so little is received at a time of a client of which that is likely.

use super::connection::Control;
use super::unfinished::Share;
use super::{LARGE_FRAME_BYTES, LARGE_START_BYTES, Limits, Requests};
use bytes::{Buf, Bytes, BytesMut};
use ringlog_engine::io::{Io, Op, Socket, Stream};
use std::future::Future;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The receiving half of a connection.
pub(super) struct Input {
    io: Io,
    socket: Socket,
    /// The receive that is under way.
    receiving: Option<Stream>,
    /// Ends when the client sends no more; `None` once it has.
    hang_up: Option<Stream>,
    chunk: Bytes,
    /// The chunk lies in a shared receive buffer.
    lent: bool,
    held: BytesMut,
    request_bytes_max: usize,
    /// The last frame was a large one, so that the next is likely to be.
    after_large: bool,
    /// So much is received at a time.
    receive_max: usize,
    control: Rc<Control>,
    share: Share,
}

/// The next thing to do with what came.
pub(super) enum Next {
    /// A whole body. `lent`: it is a slice of a shared receive buffer.
    Frame { body: Bytes, lent: bool },
    /// A large body of this length: take credit, then [`Input::large_body`].
    Large { len: usize },
    /// Nothing more will come.
    End(End),
}

/// Why nothing more will come.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The client closed its side.
    Closed,
    /// Receiving failed.
    Failed,
    /// The length is negative, or more than is allowed.
    BadLength(i32),
}

/// So much is received at a time of a client of which nothing is known yet, or of which something had to be kept the last time. Of one that
/// has sent more, and none of it had to be, a whole buffer is received, so that few frames lie in two.
const FEW_BYTES: usize = 4096;
const LENGTH_BYTES: usize = 4;
/// What every request has: its length, then the API's key and version. [`Requests::cost`] needs no more.
const START_BYTES: usize = LENGTH_BYTES + 4;

impl Input {
    pub(super) fn new(io: Io, socket: Socket, limits: &Limits, control: Rc<Control>) -> Self {
        Self {
            hang_up: Some(io.start(Op::HangUp { socket: socket.clone() })),
            io,
            socket,
            control,
            share: Share::new(&limits.unfinished),
            receiving: None,
            chunk: Bytes::new(),
            lent: false,
            held: BytesMut::new(),
            request_bytes_max: limits.request_bytes_max,
            after_large: false,
            receive_max: FEW_BYTES,
        }
    }

    /// The next frame, or the end. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            match self.cut() {
                Ok(Some(next)) => {
                    self.control.frame_ended();
                    self.count();
                    self.after_large = matches!(next, Next::Large { .. });
                    return next;
                }
                Ok(None) => {}
                Err(end) => return Next::End(end),
            }
            if !self.held.is_empty() {
                self.control.frame_began(self.io.now());
            }
            self.count();
            if let Err(end) = self.more().await {
                return Next::End(end);
            }
        }
    }

    /// What has come of the large body that [`Input::next`] has just announced.
    pub(super) fn body_start(&self) -> &[u8] {
        &self.held[LENGTH_BYTES..]
    }

    /// Receives the rest of the large body that [`Input::next`] has just announced.
    pub(super) async fn large_body(&mut self, len: usize, requests: &dyn Requests) -> Result<Bytes, End> {
        self.held.advance(LENGTH_BYTES);
        self.control.large_body_began(self.io.now(), len - self.held.len());
        let mut start = self.held.split();
        self.count();
        if start.len() < LARGE_START_BYTES {
            let missing = LARGE_START_BYTES - start.len();
            start = self.receive_exactly(start, missing).await?.into();
        }
        let start = start.freeze();
        let mut body = requests.memory(&start, len);
        body.extend_from_slice(&start);
        let body = self.receive_exactly(body, len - start.len()).await?;
        self.control.frame_ended();
        Ok(body)
    }

    /// Receives this many bytes more than there are.
    async fn receive_exactly(&mut self, into: BytesMut, len: usize) -> Result<Bytes, End> {
        let whole = into.len() + len;
        let bytes = self.receive(Op::RecvExact { socket: self.socket.clone(), into, len }).await?;
        if bytes.len() == whole { Ok(bytes) } else { Err(End::Closed) }
    }

    /// Runs `work`, during which nothing is received.
    pub(super) async fn keep_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let done = work.as_mut().poll(cx);
            if done.is_pending() {
                self.keep_chunk();
            }
            done
        })
        .await
    }

    /// The same; `None` when the client closed its side first.
    pub(super) async fn keep_while_heard<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.keep_chunk();
            self.poll_hang_up(cx).map(|()| None)
        })
        .await
    }

    /// Ends what is under way on the socket, and gives lent buffers back.
    pub(super) async fn stop(&mut self) {
        self.chunk = Bytes::new();
        for mut pending in [self.receiving.take(), self.hang_up.take()].into_iter().flatten() {
            pending.cancel();
            pending.next().await;
        }
    }

    /// Cuts the next frame out of what is there.
    fn cut(&mut self) -> Result<Option<Next>, End> {
        if self.held.is_empty() && self.chunk.len() >= LENGTH_BYTES {
            let len = self.frame_len(&self.chunk)?;
            if self.chunk.len() >= LENGTH_BYTES + len {
                self.chunk.advance(LENGTH_BYTES);
                return Ok(Some(Next::Frame { body: self.chunk.split_to(len), lent: true }));
            }
        }
        self.fill_held(LENGTH_BYTES);
        if self.held.len() < LENGTH_BYTES {
            return Ok(None);
        }
        let len = self.frame_len(&self.held)?;
        self.fill_held(LENGTH_BYTES + len);
        if self.held.len() >= LENGTH_BYTES + len {
            self.held.advance(LENGTH_BYTES);
            return Ok(Some(Next::Frame { body: self.held.split_to(len).freeze(), lent: false }));
        }
        Ok((len >= LARGE_FRAME_BYTES).then_some(Next::Large { len }))
    }

    fn frame_len(&self, bytes: &[u8]) -> Result<usize, End> {
        let len = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match usize::try_from(len) {
            Ok(len) if len <= self.request_bytes_max => Ok(len),
            _ => Err(End::BadLength(len)),
        }
    }

    /// Moves bytes of the chunk into `held` until it has `len`.
    fn fill_held(&mut self, len: usize) {
        let count = len.saturating_sub(self.held.len()).min(self.chunk.len());
        if count > 0 {
            self.held.extend_from_slice(&self.chunk[..count]);
            self.chunk.advance(count);
        }
    }

    /// Waits for the next chunk: whatever comes next, or after a large frame only the next one's start, for once.
    async fn more(&mut self) -> Result<(), End> {
        let socket = self.socket.clone();
        let op = if std::mem::take(&mut self.after_large) && self.held.is_empty() {
            Op::RecvExact { socket, into: BytesMut::new(), len: START_BYTES }
        } else {
            Op::Recv { socket, bytes_max: self.receive_max }
        };
        self.chunk = self.receive(op).await?;
        self.lent = true;
        // Until something has to be kept.
        if self.chunk.len() >= FEW_BYTES {
            self.receive_max = usize::MAX;
        }
        Ok(())
    }

    /// Receives, or goes on with a receive that is under way.
    async fn receive(&mut self, op: Op) -> Result<Bytes, End> {
        // The chunk is used up, but would keep its buffer from others.
        assert!(self.chunk.is_empty(), "bytes are used in order");
        self.chunk = Bytes::new();
        self.receiving.get_or_insert_with(|| self.io.start(op));
        let outcome = poll_fn(|cx| self.receiving.as_mut().expect("just begun").poll_next(cx)).await;
        self.receiving = None;
        match outcome.into_bytes() {
            Ok(bytes) if bytes.is_empty() => Err(End::Closed),
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(End::Failed),
        }
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(hang_up) = &mut self.hang_up {
            ready!(hang_up.poll_next(cx));
            self.hang_up = None;
        }
        Poll::Ready(())
    }

    /// Takes note of what lies here and is of no use yet.
    fn count(&mut self) {
        let held = if self.held.is_empty() { 0 } else { self.held.capacity() };
        let kept = if self.lent { 0 } else { self.chunk.len() };
        self.control.set_unfinished(held + kept, || self.io.now());
        self.share.set(held + kept);
    }

    /// The chunk leaves its lent buffer.
    fn keep_chunk(&mut self) {
        if std::mem::replace(&mut self.lent, false) {
            if !self.chunk.is_empty() {
                self.receive_max = FEW_BYTES;
            }
            self.chunk = Bytes::copy_from_slice(&self.chunk);
            self.count();
        }
    }
}
