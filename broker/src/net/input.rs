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
//!   ahead (ours)  chunks that came while a request was being answered
//! ```

use super::connection::Control;
use super::unfinished::Share;
use super::{AHEAD_BYTES_MAX, LARGE_FRAME_BYTES, LARGE_START_BYTES, Limits, Requests};
use bytes::{Buf, Bytes, BytesMut};
use ringlog_engine::io::{Io, Op, Outcome, Socket, Stream};
use std::collections::VecDeque;
use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The receiving half of a connection.
pub(super) struct Input {
    io: Io,
    socket: Socket,
    stream: Option<Stream>,
    chunk: Bytes,
    held: BytesMut,
    ahead: VecDeque<Bytes>,
    ahead_bytes: usize,
    request_bytes_max: usize,
    end: Option<End>,
    /// The last frame was a large one, so that the next is likely to be.
    after_large: bool,
    /// The stream has been told to end.
    cancelled: bool,
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

const LENGTH_BYTES: usize = 4;
/// What every request has: its length, then the API's key and version. [`Requests::cost`] needs no more.
const START_BYTES: usize = LENGTH_BYTES + 4;

impl Input {
    pub(super) fn new(io: Io, socket: Socket, limits: &Limits, control: Rc<Control>) -> Self {
        Self {
            io,
            socket,
            control,
            share: Share::new(&limits.unfinished),
            cancelled: false,
            stream: None,
            chunk: Bytes::new(),
            held: BytesMut::new(),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            request_bytes_max: limits.request_bytes_max,
            end: None,
            after_large: false,
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
        self.disarm().await;
        while self.held.len() < LENGTH_BYTES + len && self.take_ahead() {
            self.fill_held(LENGTH_BYTES + len);
        }
        self.held.advance(LENGTH_BYTES);
        if self.held.len() >= len {
            return Ok(self.held.split_to(len).freeze());
        }
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
        let stream =
            self.stream.insert(self.io.start(Op::RecvExact { socket: self.socket.clone(), into, len }));
        let outcome = stream.next().await;
        self.stream = None;
        match outcome.into_bytes() {
            Ok(bytes) if bytes.len() == whole => Ok(bytes),
            Ok(_) => Err(self.ended(End::Closed)),
            Err(_) => Err(self.ended(End::Failed)),
        }
    }

    /// Runs `work` while what the client sends meanwhile is kept, up to a bound. `None` when the client closed its
    /// side first and `until_closed` is set.
    pub(super) async fn keep_while<T>(
        &mut self,
        work: impl Future<Output = T>,
        until_closed: bool,
    ) -> Option<T> {
        self.keep_chunk();
        if !self.share.allows_ahead() {
            self.cancel();
        }
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.poll_ahead(cx);
            if until_closed && self.end.is_some() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// Stops receiving, whatever it was that was being received, and gives lent buffers back.
    pub(super) async fn stop(&mut self) {
        self.cancelled = false;
        self.chunk = Bytes::new();
        self.disarm().await;
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
        loop {
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
            if len >= LARGE_FRAME_BYTES {
                return Ok(Some(Next::Large { len }));
            }
            if !self.take_ahead() {
                return Ok(None);
            }
        }
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

    /// Puts the next chunk that came ahead in the place of the chunk, which must be used up.
    fn take_ahead(&mut self) -> bool {
        assert!(self.chunk.is_empty(), "chunks are used in order");
        let Some(chunk) = self.ahead.pop_front() else { return false };
        self.ahead_bytes -= chunk.len();
        self.chunk = chunk;
        true
    }

    /// Waits for the next chunk.
    async fn more(&mut self) -> Result<(), End> {
        if self.take_ahead() {
            return Ok(());
        }
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if self.stream.is_none() {
                self.cancelled = false;
                self.stream = Some(self.receive());
            }
            let Poll::Ready(outcome) = self.poll_stream(cx) else { return Poll::Pending };
            match self.received(outcome) {
                Ok(Some(chunk)) => {
                    self.chunk = chunk;
                    return Poll::Ready(Ok(()));
                }
                // The stream ended because it was told to; take it up again.
                Ok(None) => {}
                Err(end) => return Poll::Ready(Err(end)),
            }
        }
    }

    /// Receives whatever comes next, or after a large frame only the next one's start, for once.
    fn receive(&mut self) -> Stream {
        let socket = self.socket.clone();
        if std::mem::take(&mut self.after_large) && self.held.is_empty() {
            return self.io.start(Op::RecvExact { socket, into: BytesMut::new(), len: START_BYTES });
        }
        self.io.recv(socket)
    }

    /// Takes what has come into memory of our own; leaves the socket alone once that is enough.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        while self.stream.is_some() {
            let Poll::Ready(outcome) = self.poll_stream(cx) else { return };
            if let Ok(Some(chunk)) = self.received(outcome) {
                self.push_ahead(&chunk);
            }
            self.count();
            if self.ahead_bytes > AHEAD_BYTES_MAX || !self.share.allows_ahead() {
                self.cancel();
            }
        }
    }

    /// The next outcome of the stream, which there must be.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let stream = self.stream.as_mut().expect("the caller has looked");
        let outcome = stream.poll_next(cx);
        if stream.ended() {
            self.stream = None;
        }
        outcome
    }

    fn cancel(&mut self) {
        if let Some(stream) = &self.stream
            && !std::mem::replace(&mut self.cancelled, true)
        {
            stream.cancel();
        }
    }

    /// Ends the receive stream; what still comes of it is kept.
    async fn disarm(&mut self) {
        self.cancel();
        self.keep_chunk();
        while self.stream.is_some() {
            let outcome = poll_fn(|cx| self.poll_stream(cx)).await;
            if let Ok(Some(chunk)) = self.received(outcome) {
                self.push_ahead(&chunk);
            }
        }
    }

    /// Takes note of what lies here and is of no use yet.
    fn count(&mut self) {
        let held = if self.held.is_empty() { 0 } else { self.held.capacity() };
        self.control.set_unfinished(held);
        self.share.set(held, self.ahead_bytes);
    }

    fn push_ahead(&mut self, chunk: &Bytes) {
        self.ahead_bytes += chunk.len();
        self.ahead.push_back(Bytes::copy_from_slice(chunk));
    }

    /// The chunk leaves its lent buffer.
    fn keep_chunk(&mut self) {
        if !self.chunk.is_empty() {
            self.chunk = Bytes::copy_from_slice(&self.chunk);
        } else {
            self.chunk = Bytes::new();
        }
    }

    fn received(&mut self, outcome: Outcome) -> Result<Option<Bytes>, End> {
        match outcome.into_bytes() {
            Ok(bytes) if bytes.is_empty() => Err(self.ended(End::Closed)),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_cancelled(&error) => Ok(None),
            Err(_) => Err(self.ended(End::Failed)),
        }
    }

    fn ended(&mut self, end: End) -> End {
        self.end = Some(end.clone());
        end
    }
}

/// Whether an operation ended because it was asked to.
fn is_cancelled(error: &io::Error) -> bool {
    const ECANCELED: i32 = 125;
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(ECANCELED)
}
