//! The Driver for where io_uring is refused: epoll for sockets, helper threads for files.
//!
//! Sockets are registered once, edge-triggered, for both directions; each remembers whether it was last seen ready,
//! so an operation is tried at once and again only after the kernel has said that something changed.

use super::host::Host;
use super::jobs::Home;
use super::net::{self, FileSend, FileSendStep};
use super::op::{ByNumber, ByToken};
use super::{
    Completion, Counters, Driver, Instant, Listener, Notifier, Op, Outcome, Socket, Token, Wait, WallTime,
};
use bytes::{Bytes, BytesMut};
use rustix::event::epoll;
use rustix::net::SocketFlags;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// epoll and helper threads.
pub(super) struct PollDriver {
    host: Arc<Host>,
    home: Arc<Home>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    sockets: ByNumber<u64, Entry>,
    /// Which socket a token's operation is on.
    tokens: ByToken<u64>,
    /// Sockets with an operation to try.
    tries: VecDeque<u64>,
    /// Completions that came at once.
    done: Vec<Completion>,
    /// File sends whose pages a helper is bringing: by the helper's token.
    fetches: ByToken<(u64, u64)>,
    next_fetch: u64,
    /// What is received goes here first: all of it is there to be filled.
    spare: BytesMut,
    counters: Counters,
}

/// One socket: what waits on it, and what is known of its readiness.
struct Entry {
    socket: Socket,
    input: Option<(Token, Input)>,
    output: Option<(Token, Output)>,
    hang_up: Option<Token>,
    readable: bool,
    writable: bool,
    /// The peer sends no more.
    hung_up: bool,
    queued: bool,
}

impl Entry {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            input: None,
            output: None,
            hang_up: None,
            readable: true,
            writable: true,
            hung_up: false,
            queued: false,
        }
    }
}

enum Input {
    Accept,
    Recv { bytes_max: usize },
    Exact { buffer: BytesMut, len: usize },
}

enum Output {
    Parts { parts: VecDeque<Bytes>, sent: u64 },
    File { send: FileSend, fetching: bool },
}

/// Most bytes received in one piece.
const RECV_BYTES_MAX: usize = 64 * 1024;
/// Below this much room a new receive buffer is begun.
const RECV_BYTES_MIN: usize = 4 * 1024;
/// Pieces given to the kernel in one send.
const SEND_PARTS_MAX: usize = 256;
const EVENTS_MAX: usize = 512;
/// The eventfd's key among the sockets' ids, which begin at 1.
const WAKEUP: u64 = 0;
/// Tokens of helpers' fetches lie above all that are submitted.
const FETCH_TOKENS: u64 = 1 << 63;

impl PollDriver {
    pub(super) fn new(host: Arc<Host>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let home = Home::new()?;
        epoll::add(&epoll, home.wakeup.event(), epoll::EventData::new_u64(WAKEUP), epoll::EventFlags::IN)?;
        Ok(Self {
            host,
            home,
            epoll,
            events: Vec::with_capacity(EVENTS_MAX),
            sockets: ByNumber::default(),
            tokens: ByToken::default(),
            tries: VecDeque::new(),
            done: Vec::new(),
            fetches: ByToken::default(),
            next_fetch: FETCH_TOKENS,
            spare: BytesMut::new(),
            counters: Counters::default(),
        })
    }

    fn begin_input(&mut self, token: Token, socket: Socket, input: Input) {
        match self.entry(socket) {
            Ok(entry) => {
                assert!(entry.input.is_none(), "one receive or accept is pending on a socket");
                entry.input = Some((token, input));
                let id = entry.socket.id();
                self.tokens.insert(token, id);
                self.queue(id);
            }
            Err(error) => self.complete(token, input.failed(error)),
        }
    }

    fn begin_hang_up(&mut self, token: Token, socket: Socket) {
        match self.entry(socket) {
            Ok(entry) => {
                assert!(
                    entry.hang_up.replace(token).is_none(),
                    "one wait for the end is pending on a socket"
                );
                let id = entry.socket.id();
                self.tokens.insert(token, id);
                self.queue(id);
            }
            Err(error) => self.complete(token, Outcome::Count(Err(error))),
        }
    }

    fn begin_output(&mut self, token: Token, socket: Socket, output: Output) {
        match self.entry(socket) {
            Ok(entry) => {
                assert!(entry.output.is_none(), "one send is pending on a socket");
                entry.output = Some((token, output));
                let id = entry.socket.id();
                self.tokens.insert(token, id);
                self.queue(id);
            }
            Err(error) => self.complete(token, Outcome::Count(Err(error))),
        }
    }

    fn entry(&mut self, socket: Socket) -> io::Result<&mut Entry> {
        let id = socket.id();
        if !self.sockets.contains_key(&id) {
            let flags = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            epoll::add(&self.epoll, net::fd(&socket), epoll::EventData::new_u64(id), flags)?;
            self.sockets.insert(id, Entry::new(socket));
        }
        Ok(self.sockets.get_mut(&id).expect("just there"))
    }

    fn queue(&mut self, id: u64) {
        let Some(entry) = self.sockets.get_mut(&id) else { return };
        if !std::mem::replace(&mut entry.queued, true) {
            self.tries.push_back(id);
        }
    }

    fn complete(&mut self, token: Token, outcome: Outcome) {
        self.tokens.remove(&token);
        self.done.push(Completion { token, outcome, more: false });
    }

    fn try_socket(&mut self, id: u64) {
        let Some(entry) = self.sockets.get_mut(&id) else { return };
        entry.queued = false;
        let hang_up = if entry.hung_up { entry.hang_up.take() } else { None };
        if entry.readable && entry.input.is_some() {
            self.try_input(id);
        }
        if let Some(token) = hang_up {
            self.complete(token, Outcome::Count(Ok(0)));
        }
        self.try_output(id);
    }

    fn try_input(&mut self, id: u64) {
        let entry = self.sockets.get_mut(&id).expect("just seen");
        let (token, mut input) = entry.input.take().expect("just seen");
        let step = match &mut input {
            Input::Accept => {
                let accepted = net::accept(&entry.socket);
                step(accepted, Outcome::Accepted, Step::More)
            }
            Input::Recv { bytes_max } => {
                if self.spare.capacity() < RECV_BYTES_MIN {
                    self.spare = BytesMut::with_capacity(RECV_BYTES_MAX);
                }
                let received = net::recv(&entry.socket, &mut self.spare, *bytes_max);
                let bytes = self.spare.split().freeze();
                step(received.map(|_| bytes), Outcome::Received, Step::End)
            }
            Input::Exact { buffer, len } => {
                // Only what is about to be filled is touched: a length is a client's claim.
                let wanted = net::EXACT_TURN_BYTES.min(*len - buffer.len());
                buffer.reserve(wanted);
                match net::recv(&entry.socket, buffer, wanted) {
                    Ok(0) => Step::End(Outcome::Received(Ok(buffer.split().freeze()))),
                    Ok(_) if buffer.len() == *len => {
                        Step::End(Outcome::Received(Ok(buffer.split().freeze())))
                    }
                    Ok(_) => Step::Again,
                    Err(error) => step(Err(error), Outcome::Received, Step::End),
                }
            }
        };
        match step {
            Step::Wait => {
                entry.readable = false;
                entry.input = Some((token, input));
            }
            Step::Again => {
                entry.input = Some((token, input));
                self.queue(id);
            }
            Step::More(outcome) => {
                entry.input = Some((token, input));
                self.done.push(Completion { token, outcome, more: true });
                self.queue(id);
            }
            Step::End(outcome) => self.complete(token, outcome),
        }
    }

    fn try_output(&mut self, id: u64) {
        let Some(entry) = self.sockets.get_mut(&id) else { return };
        let Some((token, mut output)) = entry.output.take() else { return };
        let mut again = false;
        let outcome = match &mut output {
            Output::Parts { .. } | Output::File { fetching: true, .. } if !entry.writable => None,
            Output::File { fetching: true, .. } => None,
            Output::Parts { parts, sent } => send_parts(&entry.socket, parts, sent, &mut entry.writable),
            Output::File { send, fetching } => match send.step() {
                FileSendStep::Done(result) => Some(result),
                FileSendStep::AwaitSocket => {
                    entry.writable = false;
                    None
                }
                FileSendStep::Again => {
                    again = true;
                    None
                }
                FileSendStep::Fetch { from, to } => {
                    *fetching = true;
                    let fetch = Token(self.next_fetch);
                    self.next_fetch += 1;
                    self.fetches.insert(fetch, (id, to));
                    self.counters.jobs += 1;
                    let file = send.file.clone();
                    self.host
                        .jobs
                        .call(fetch, &self.home, move || super::blocking::prefetch(&file, from, to));
                    None
                }
            },
        };
        match outcome {
            Some(result) => self.complete(token, Outcome::Count(result)),
            None => entry.output = Some((token, output)),
        }
        if again {
            self.queue(id);
        }
    }

    /// Takes what helper threads have done; fetched pages let their send go on.
    fn take_jobs(&mut self, done: &mut Vec<Completion>) {
        let first = done.len();
        self.home.take(done);
        let mut at = first;
        while at < done.len() {
            let Some((id, to)) = self.fetches.remove(&done[at].token) else {
                at += 1;
                continue;
            };
            let fetched = done.swap_remove(at).outcome.into_count();
            let Some(entry) = self.sockets.get_mut(&id) else { continue };
            let Some((token, Output::File { send, fetching })) = &mut entry.output else { continue };
            *fetching = false;
            match fetched {
                Ok(_) => {
                    send.fetched(to);
                    self.queue(id);
                }
                Err(error) => {
                    let token = *token;
                    entry.output = None;
                    self.complete(token, Outcome::Count(Err(error)));
                }
            }
        }
    }

    fn sleep(&mut self, wait: Wait) {
        let timeout = match wait {
            Wait::Until(at) => Some(super::clock::timespec(at.since(self.host.clock.now()))),
            Wait::Forever => None,
            Wait::None => Some(super::clock::timespec(std::time::Duration::ZERO)),
        };
        let sleeps = wait != Wait::None && self.home.wakeup.may_sleep();
        let timeout = if sleeps { timeout } else { Some(super::clock::timespec(std::time::Duration::ZERO)) };
        self.counters.enters += 1;
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("wait for events: {error}"),
        }
        if sleeps {
            self.home.wakeup.woke();
        }
    }
}

impl Driver for PollDriver {
    fn submit(&mut self, token: Token, op: Op) {
        match op {
            Op::Accept { listener } => self.begin_input(token, listener.0, Input::Accept),
            Op::Recv { socket, bytes_max } => self.begin_input(token, socket, Input::Recv { bytes_max }),
            Op::HangUp { socket } => self.begin_hang_up(token, socket),
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
                self.begin_input(token, socket, Input::Exact { buffer, len });
            }
            Op::Send { socket, parts } => {
                let parts = parts.into_iter().filter(|part| !part.is_empty()).collect();
                self.begin_output(token, socket, Output::Parts { parts, sent: 0 });
            }
            Op::SendFile { socket, file, pos, len } => {
                let send = FileSend::new(socket.clone(), file, pos..pos + len, false);
                self.begin_output(token, socket, Output::File { send, fetching: false });
            }
            Op::CloseSocket { socket } => {
                if let Some(entry) = self.sockets.remove(&socket.id()) {
                    assert!(
                        entry.input.is_none() && entry.output.is_none() && entry.hang_up.is_none(),
                        "a socket is closed after its operations"
                    );
                    let removed = epoll::delete(&self.epoll, net::fd(&socket));
                    debug_assert!(removed.is_ok(), "a known socket is registered");
                }
                net::shutdown(&socket);
                self.complete(token, Outcome::Count(Ok(0)));
            }
            Op::Sync { items } => {
                self.counters.sync_requests += 1;
                self.host.disks.sync(token, items, &self.home);
            }
            op => {
                match &op {
                    Op::Write { bytes, more, .. } => {
                        let len = bytes.len() + more.iter().map(Bytes::len).sum::<usize>();
                        self.counters.bytes_written += len as u64;
                    }
                    Op::Read { len, .. } => self.counters.bytes_read += *len as u64,
                    _ => {}
                }
                self.counters.jobs += 1;
                self.host.jobs.submit(token, op, &self.home);
            }
        }
    }

    fn read_resident(&mut self, file: &super::File, pos: u64, len: usize) -> Option<Bytes> {
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
        // What a helper thread or the flusher has is not cancelled: it ends by itself.
        let Some(id) = self.tokens.get(&token) else { return };
        let entry = self.sockets.get_mut(id).expect("an operation's socket is known");
        if entry.input.as_ref().is_some_and(|(pending, _)| *pending == token) {
            let (_, input) = entry.input.take().expect("just seen");
            self.complete(token, input.failed(io::ErrorKind::Interrupted.into()));
        } else if entry.hang_up == Some(token) {
            entry.hang_up = None;
            self.complete(token, Outcome::Count(Err(io::ErrorKind::Interrupted.into())));
        } else if entry.output.as_ref().is_some_and(|(pending, _)| *pending == token) {
            entry.output = None;
            self.complete(token, Outcome::Count(Err(io::ErrorKind::Interrupted.into())));
        }
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        self.counters.turns += 1;
        self.take_jobs(done);
        for _ in 0..self.tries.len() {
            let id = self.tries.pop_front().expect("counted");
            self.try_socket(id);
        }
        done.append(&mut self.done);
        let wait = if done.is_empty() && self.tries.is_empty() { wait } else { Wait::None };
        self.sleep(wait);
        for at in 0..self.events.len() {
            let event = self.events[at];
            let (id, flags) = (event.data.u64(), event.flags);
            if id == WAKEUP {
                self.home.wakeup.drain();
            }
            let Some(entry) = self.sockets.get_mut(&id) else { continue };
            let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            entry.readable |= broken || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP);
            entry.writable |= broken || flags.contains(epoll::EventFlags::OUT);
            entry.hung_up |= broken || flags.contains(epoll::EventFlags::RDHUP);
            self.try_socket(id);
        }
        self.take_jobs(done);
        done.append(&mut self.done);
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        net::listen(address, SocketFlags::NONBLOCK)
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
        "poll"
    }

    fn counters(&self) -> Counters {
        let (syncs, _) = self.host.disks.counts();
        Counters { syncs, ..self.counters }
    }
}

impl Input {
    fn failed(&self, error: io::Error) -> Outcome {
        match self {
            Self::Accept => Outcome::Accepted(Err(error)),
            Self::Recv { .. } | Self::Exact { .. } => Outcome::Received(Err(error)),
        }
    }
}

/// What trying an input gave.
enum Step {
    Wait,
    Again,
    More(Outcome),
    End(Outcome),
}

fn step<T>(result: io::Result<T>, outcome: fn(io::Result<T>) -> Outcome, done: fn(Outcome) -> Step) -> Step {
    match result {
        Ok(value) => done(outcome(Ok(value))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Wait,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Step::Again,
        // A connection that was reset before it was accepted is no failure of the listener.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Step::Again,
        Err(error) => Step::End(outcome(Err(error))),
    }
}

fn send_parts(
    socket: &Socket,
    parts: &mut VecDeque<Bytes>,
    sent: &mut u64,
    writable: &mut bool,
) -> Option<io::Result<u64>> {
    while !parts.is_empty() {
        let slices: Vec<io::IoSlice<'_>> =
            parts.iter().take(SEND_PARTS_MAX).map(|part| io::IoSlice::new(part)).collect();
        let flags = rustix::net::SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(
            net::fd(socket),
            &slices,
            &mut rustix::net::SendAncillaryBuffer::default(),
            flags,
        ) {
            Ok(count) => {
                *sent += count as u64;
                net::advance(parts, count);
            }
            Err(rustix::io::Errno::AGAIN) => {
                *writable = false;
                return None;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Some(Err(error.into())),
        }
    }
    Some(Ok(*sent))
}
