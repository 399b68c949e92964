//! The simulated network: connections whose bytes arrive in pieces, late, or not at all.
//!
//! ```text
//!   Send ──▶ outgoing (of this end) ──Carry, a piece at a time──▶ inbox (of the other end) ──▶ Recv
//! ```

use super::world::{Event, World};
use crate::io::{Listener, Op, Outcome, Socket, Token};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Bytes that may lie unread at an end before its peer has to wait.
const INBOX_BYTES_MAX: usize = 256 * 1024;

/// A send ends when at most this many bytes have not been carried.
const OUTGOING_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Net {
    listeners: BTreeMap<u64, ListenerState>,
    ends: BTreeMap<u64, End>,
    next_port: u16,
    /// One in this many pieces carried resets its connection instead.
    pub(super) reset_odds: u64,
}

struct ListenerState {
    driver: usize,
    address: SocketAddr,
    backlog: VecDeque<(u64, SocketAddr)>,
    accept: Option<Token>,
}

/// One end of a connection.
struct End {
    peer: u64,
    machine: usize,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// The peer sends no more, and all it sent is in the inbox.
    ended: bool,
    reset: bool,
    recv: Option<Recv>,
    hang_up: Option<(usize, Token)>,
    outgoing: VecDeque<Bytes>,
    outgoing_bytes: usize,
    send: Option<Send>,
    /// Nothing more will be sent: tell the peer when all is carried.
    finishing: bool,
    carrying: bool,
    closing: Option<(usize, Token)>,
    closed: bool,
}

struct Recv {
    driver: usize,
    token: Token,
    kind: RecvKind,
}

enum RecvKind {
    /// Whatever comes next, up to so much.
    Next { bytes_max: usize },
    /// What has come, and how many bytes it is to be.
    Exact { have: BytesMut, want: usize },
}

struct Send {
    driver: usize,
    token: Token,
    bytes: u64,
}

pub(super) enum NetEvent {
    Arrived { listener_address: SocketAddr, end: u64, from: SocketAddr },
    Carry { end: u64 },
    Reset { end: u64 },
}

impl End {
    fn new(peer: u64, machine: usize) -> Self {
        Self {
            peer,
            machine,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            ended: false,
            reset: false,
            recv: None,
            hang_up: None,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            send: None,
            finishing: false,
            carrying: false,
            closing: None,
            closed: false,
        }
    }
}

impl World {
    pub(super) fn listen(
        &mut self,
        driver: usize,
        mut address: SocketAddr,
    ) -> io::Result<(Listener, SocketAddr)> {
        if address.port() == 0 {
            address.set_port(self.new_port());
        }
        let machine = self.machine_of(driver);
        let taken = self.net.listeners.values().any(|other| {
            other.address == address && {
                // Shards of one machine share an address; two machines do not.
                self.machine_of(other.driver) != machine
            }
        });
        if taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let id = self.new_id();
        let state = ListenerState { driver, address, backlog: VecDeque::new(), accept: None };
        self.net.listeners.insert(id, state);
        Ok((Listener(Socket::new(id, None)), address))
    }

    fn new_port(&mut self) -> u16 {
        self.net.next_port = (self.net.next_port + 1) % 20_000;
        40_000 + self.net.next_port
    }

    /// A connection from a machine to an address; refused when nobody listens there.
    pub(super) fn connect(&mut self, machine: usize, address: SocketAddr) -> io::Result<Socket> {
        if !self.net.listeners.values().any(|listener| listener.address == address) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = (self.new_id(), self.new_id());
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.new_port());
        self.net.ends.insert(near, End::new(far, machine));
        // Whose it is is known when it has arrived.
        self.net.ends.insert(far, End::new(near, usize::MAX));
        let arrived = NetEvent::Arrived { listener_address: address, end: far, from };
        self.schedule(self.speed.net, Event::Net(arrived));
        Ok(Socket::new(near, None))
    }

    pub(super) fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Arrived { listener_address, end, from } => self.arrive(listener_address, end, from),
            NetEvent::Carry { end } => self.carry(end),
            NetEvent::Reset { end } => self.reset(end),
        }
    }

    /// As `SO_REUSEPORT` does, one of the listeners gets it.
    fn arrive(&mut self, address: SocketAddr, end: u64, from: SocketAddr) {
        let here: Vec<u64> = self
            .net
            .listeners
            .iter()
            .filter(|(_, listener)| listener.address == address)
            .map(|(id, _)| *id)
            .collect();
        if here.is_empty() {
            return self.reset(end);
        }
        let chosen = here[self.random.index(here.len())];
        let machine = self.machine_of(self.net.listeners[&chosen].driver);
        self.end(end).machine = machine;
        let listener = self.net.listeners.get_mut(&chosen).expect("just chosen");
        listener.backlog.push_back((end, from));
        self.pump_accept(chosen);
    }

    fn pump_accept(&mut self, listener: u64) {
        while let Some(state) = self.net.listeners.get_mut(&listener) {
            let Some(token) = state.accept else { return };
            let Some((end, from)) = state.backlog.pop_front() else { return };
            let driver = state.driver;
            let accepted = Outcome::Accepted(Ok((Socket::new(end, None), from)));
            self.complete(driver, token, accepted, true);
        }
    }

    fn end(&mut self, id: u64) -> &mut End {
        self.net.ends.get_mut(&id).expect("a socket belongs to this world")
    }

    pub(super) fn submit_net(&mut self, driver: usize, token: Token, op: Op) {
        match op {
            Op::Accept { listener } => {
                let id = listener.0.id();
                match self.net.listeners.get_mut(&id) {
                    Some(state) => {
                        assert!(state.accept.replace(token).is_none(), "one accept on a listener");
                        self.pump_accept(id);
                    }
                    None => self.complete(driver, token, Outcome::Accepted(Err(closed())), false),
                }
            }
            Op::Recv { socket, bytes_max } => {
                self.start_recv(socket.id(), Recv { driver, token, kind: RecvKind::Next { bytes_max } });
            }
            Op::RecvExact { socket, into: mut buffer, len } => {
                buffer.reserve(len);
                let want = buffer.len() + len;
                let kind = RecvKind::Exact { have: buffer, want };
                self.start_recv(socket.id(), Recv { driver, token, kind });
            }
            Op::HangUp { socket } => {
                let before = self.end(socket.id()).hang_up.replace((driver, token));
                assert!(before.is_none(), "one wait for the end on a socket");
                self.pump_hang_up(socket.id());
            }
            Op::Send { socket, parts } => self.start_send(socket.id(), driver, token, parts),
            Op::CloseSocket { socket } => self.close(socket.id(), driver, token),
            other => panic!("not an operation on a socket: {other:?}"),
        }
    }

    fn start_recv(&mut self, id: u64, recv: Recv) {
        let end = self.end(id);
        if end.closed {
            return self.complete(recv.driver, recv.token, Outcome::Received(Err(closed())), false);
        }
        assert!(end.recv.is_none(), "one receive on a socket");
        end.recv = Some(recv);
        self.pump_recv(id);
    }

    /// Tells who waits for it that the peer sends no more.
    fn pump_hang_up(&mut self, id: u64) {
        let end = self.end(id);
        if (end.ended || end.reset || end.closed)
            && let Some((driver, token)) = end.hang_up.take()
        {
            self.complete(driver, token, Outcome::Count(Ok(0)), false);
        }
    }

    /// Bytes that have come to an end and have not been received.
    pub(super) fn unread(&self, id: u64) -> usize {
        self.net.ends[&id].inbox_bytes
    }

    /// Gives what has come to who receives.
    fn pump_recv(&mut self, id: u64) {
        loop {
            let end = self.end(id);
            let Some(recv) = &mut end.recv else { return };
            let (driver, token) = (recv.driver, recv.token);
            if end.reset {
                end.recv = None;
                return self.complete(driver, token, Outcome::Received(Err(reset())), false);
            }
            if let RecvKind::Exact { have, want } = &mut recv.kind
                && (have.len() == *want || (end.ended && end.inbox.is_empty()))
            {
                let bytes = have.split().freeze();
                end.recv = None;
                return self.complete(driver, token, Outcome::Received(Ok(bytes)), false);
            }
            let Some(mut piece) = end.inbox.pop_front() else {
                if end.ended {
                    end.recv = None;
                    self.complete(driver, token, Outcome::Received(Ok(Bytes::new())), false);
                }
                return;
            };
            let taken = match &mut recv.kind {
                RecvKind::Next { bytes_max } => piece.split_to(piece.len().min(*bytes_max)),
                RecvKind::Exact { have, want } => {
                    let part = piece.split_to(piece.len().min(*want - have.len()));
                    have.extend_from_slice(&part);
                    part
                }
            };
            let exact = matches!(recv.kind, RecvKind::Exact { .. });
            end.inbox_bytes -= taken.len();
            if !piece.is_empty() {
                end.inbox.push_front(piece);
            }
            let peer = end.peer;
            if !exact {
                end.recv = None;
                self.complete(driver, token, Outcome::Received(Ok(taken)), false);
            }
            self.start_carrying(peer);
        }
    }

    fn start_send(&mut self, id: u64, driver: usize, token: Token, parts: Vec<Bytes>) {
        let peer = self.end(id).peer;
        let end = self.end(id);
        assert!(end.send.is_none(), "one send on a socket");
        if end.reset || end.closed || end.finishing {
            let error = if end.reset { reset() } else { io::ErrorKind::BrokenPipe.into() };
            return self.complete(driver, token, Outcome::Count(Err(error)), false);
        }
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        end.outgoing.extend(parts.into_iter().filter(|part| !part.is_empty()));
        end.outgoing_bytes += bytes;
        end.send = Some(Send { driver, token, bytes: bytes as u64 });
        let _ = peer;
        self.pump_send(id);
        self.start_carrying(id);
    }

    /// Ends a send whose bytes are on their way, and a close that waited for it.
    fn pump_send(&mut self, id: u64) {
        let end = self.end(id);
        let outcome = if end.reset {
            Err(reset())
        } else if end.outgoing_bytes <= OUTGOING_BYTES_MAX {
            Ok(end.send.as_ref().map_or(0, |send| send.bytes))
        } else {
            return;
        };
        if let Some(send) = end.send.take() {
            self.complete(send.driver, send.token, Outcome::Count(outcome), false);
        }
        self.pump_close(id);
    }

    fn start_carrying(&mut self, id: u64) {
        let Some(end) = self.net.ends.get_mut(&id) else { return };
        let work = !end.outgoing.is_empty() || end.finishing;
        if work && !end.carrying && !end.reset {
            end.carrying = true;
            self.schedule(self.speed.net, Event::Net(NetEvent::Carry { end: id }));
        }
    }

    /// One piece arrives at the other end.
    fn carry(&mut self, id: u64) {
        self.end(id).carrying = false;
        let reset_odds = self.net.reset_odds;
        if self.end(id).reset {
            return;
        }
        let peer = self.end(id).peer;
        let far = self.end(peer);
        if far.closed && !self.end(id).outgoing.is_empty() || self.random.one_in(reset_odds) {
            return self.reset(id);
        }
        if self.end(peer).inbox_bytes >= INBOX_BYTES_MAX {
            // Goes on when the peer has read something.
            return;
        }
        // Mostly large pieces, now and then a few bytes.
        let most = if self.random.one_in(4) { 16 } else { 64 * 1024 };
        let most = usize::try_from(self.random.within(1, most)).expect("small");
        let end = self.end(id);
        let Some(part) = end.outgoing.front_mut() else {
            if end.finishing && !self.end(peer).ended {
                self.end(peer).ended = true;
                self.pump_recv(peer);
                self.pump_hang_up(peer);
            }
            return;
        };
        let piece = part.split_to(part.len().min(most));
        if part.is_empty() {
            end.outgoing.pop_front();
        }
        end.outgoing_bytes -= piece.len();
        self.note(5, id, piece.len() as u64, 0);
        let far = self.end(peer);
        far.inbox_bytes += piece.len();
        far.inbox.push_back(piece);
        self.pump_recv(peer);
        self.pump_send(id);
        let end = self.end(id);
        if !end.outgoing.is_empty() || end.finishing {
            self.start_carrying(id);
        }
    }

    /// Both ends lose the connection, and what has not been read.
    pub(super) fn reset(&mut self, id: u64) {
        let Some(end) = self.net.ends.get(&id) else { return };
        for id in [id, end.peer] {
            let end = self.end(id);
            end.reset = true;
            end.inbox.clear();
            end.inbox_bytes = 0;
            end.outgoing.clear();
            end.outgoing_bytes = 0;
            self.note(6, id, 0, 0);
            self.pump_recv(id);
            self.pump_hang_up(id);
            self.pump_send(id);
        }
    }

    /// This end sends no more; it may still receive.
    pub(super) fn finish_sending(&mut self, id: u64) {
        self.end(id).finishing = true;
        self.start_carrying(id);
    }

    fn close(&mut self, id: u64, driver: usize, token: Token) {
        if let Some(listener) = self.net.listeners.remove(&id) {
            if let Some(accept) = listener.accept {
                self.complete(listener.driver, accept, Outcome::Accepted(Err(closed())), false);
            }
            for (end, _) in listener.backlog {
                self.reset(end);
            }
            if !self.net.listeners.values().any(|other| other.address == listener.address) {
                let on_the_way = self.take_arrivals(listener.address);
                on_the_way.into_iter().for_each(|end| self.reset_later(end));
            }
            return self.complete(driver, token, Outcome::Count(Ok(0)), false);
        }
        let end = self.end(id);
        assert!(end.closing.is_none() && !end.closed, "a socket is closed once");
        end.closing = Some((driver, token));
        if let Some(recv) = end.recv.take() {
            self.complete(recv.driver, recv.token, Outcome::Received(Ok(Bytes::new())), false);
        }
        assert!(self.end(id).hang_up.is_none(), "a socket is closed after its operations");
        self.pump_close(id);
    }

    fn pump_close(&mut self, id: u64) {
        let end = self.end(id);
        if end.send.is_some() {
            return;
        }
        let Some((driver, token)) = end.closing.take() else { return };
        end.closed = true;
        let unread = !end.inbox.is_empty();
        self.complete(driver, token, Outcome::Count(Ok(0)), false);
        if unread {
            // Closing over unread bytes resets, as TCP does.
            self.reset(id);
        } else {
            self.finish_sending(id);
        }
    }

    pub(super) fn cancel_net(&mut self, driver: usize, token: Token) {
        let is = |other_driver: usize, other: Token| other_driver == driver && other == token;
        let accept =
            self.net.listeners.values_mut().find(|state| state.accept.is_some_and(|it| is(state.driver, it)));
        if let Some(state) = accept {
            state.accept = None;
            return self.complete(driver, token, Outcome::Accepted(Err(cancelled())), false);
        }
        let recv = |end: &&mut End| end.recv.as_ref().is_some_and(|recv| is(recv.driver, recv.token));
        if let Some(end) = self.net.ends.values_mut().find(recv) {
            end.recv = None;
            return self.complete(driver, token, Outcome::Received(Err(cancelled())), false);
        }
        if let Some(end) = self.net.ends.values_mut().find(|end| end.hang_up == Some((driver, token))) {
            end.hang_up = None;
            return self.complete(driver, token, Outcome::Count(Err(cancelled())), false);
        }
        let send = |end: &&mut End| end.send.as_ref().is_some_and(|send| is(send.driver, send.token));
        if let Some(end) = self.net.ends.values_mut().find(send) {
            end.send = None;
            end.outgoing.clear();
            end.outgoing_bytes = 0;
            self.complete(driver, token, Outcome::Count(Err(cancelled())), false);
        }
    }

    /// A machine's sockets go with its process: its peers see the end of stream or a reset.
    pub(super) fn drop_sockets(&mut self, machine: usize) {
        let listeners: Vec<u64> = self.net.listeners.keys().copied().collect();
        for id in listeners {
            if self.machine_of(self.net.listeners[&id].driver) == machine {
                let listener = self.net.listeners.remove(&id).expect("just seen");
                // Who is on the way to it does not get to whoever listens there next.
                let on_the_way = self.take_arrivals(listener.address);
                on_the_way.into_iter().for_each(|end| self.reset_later(end));
                listener.backlog.into_iter().for_each(|(end, _)| self.reset_later(end));
            }
        }
        let ends: Vec<u64> =
            self.net.ends.iter().filter(|(_, end)| end.machine == machine).map(|(id, _)| *id).collect();
        for id in ends {
            let end = self.end(id);
            end.recv = None;
            end.hang_up = None;
            end.send = None;
            end.closing = None;
            if std::mem::replace(&mut end.closed, true) {
                continue;
            }
            if self.random.one_in(2) {
                self.reset_later(id);
            } else {
                self.finish_sending(id);
            }
        }
    }

    fn reset_later(&mut self, id: u64) {
        self.schedule(self.speed.net, Event::Net(NetEvent::Reset { end: id }));
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

fn cancelled() -> io::Error {
    io::ErrorKind::Interrupted.into()
}
