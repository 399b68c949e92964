//! Listening sockets of one shard, and the connections that came in by them.

use super::connection::{CloseReason, Connection, Control, Patience};
use super::quotas::Admission;
use super::{Limits, NewConnection, Peer, Requests};
use ringlog_engine::io::{Listener, Socket, Stream};
use ringlog_engine::shard::Shard;
use ringlog_engine::shard::sync::Event;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// The listeners of one shard. Dropping it stops nothing: see [`Listeners::stop_accepting`].
#[derive(Clone)]
pub struct Listeners(Rc<Inner>);

struct Inner {
    shard: Shard,
    limits: Rc<Limits>,
    requests: Rc<dyn Requests>,
    connections: RefCell<BTreeMap<u64, Rc<Control>>>,
    accepts: Cell<usize>,
    stopping: Cell<bool>,
    changed: Event,
}

/// How often silent connections are looked for, unless they are given less time than this.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_EVERY_LEAST: Duration = Duration::from_millis(50);

/// So many connections are looked at in a row: if all are to be closed, that takes some 100 µs.
const CLOSED_AT_ONCE: usize = 16;

fn sweep_every(limits: &Limits) -> Duration {
    let shortest = [limits.idle, limits.handshake].into_iter().filter(|time| !time.is_zero()).min();
    shortest.map_or(SWEEP_EVERY, |time| (time / 4).clamp(SWEEP_EVERY_LEAST, SWEEP_EVERY))
}

/// How long a listener rests when accepting fails (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Listeners {
    /// A shard's connections, not listening yet.
    pub fn new(shard: &Shard, limits: Limits, requests: Rc<dyn Requests>) -> Self {
        let listeners = Self(Rc::new(Inner {
            shard: shard.clone(),
            limits: Rc::new(limits),
            requests,
            connections: RefCell::default(),
            accepts: Cell::new(0),
            stopping: Cell::new(false),
            changed: Event::default(),
        }));
        shard.spawn(listeners.clone().sweep());
        shard.spawn(listeners.clone().make_room());
        listeners
    }

    /// Listens on one more address and takes connections from then on. `index` is its place among the configured
    /// listeners. Returns the address, its port chosen if it was 0.
    pub fn listen(&self, index: usize, address: SocketAddr) -> io::Result<SocketAddr> {
        let (listener, address) = self.0.shard.io().listen(address)?;
        self.0.accepts.set(self.0.accepts.get() + 1);
        let this = self.clone();
        self.0.shard.spawn(async move {
            this.accept(index, listener).await;
            this.0.accepts.set(this.0.accepts.get() - 1);
            this.0.changed.notify();
        });
        Ok(address)
    }

    /// Connections that are open.
    pub fn connection_count(&self) -> usize {
        self.0.connections.borrow().len()
    }

    /// Takes no more connections. Those that are open go on.
    pub async fn stop_accepting(&self) {
        self.0.stopping.set(true);
        self.0.changed.notify();
        self.wait_until(|inner| inner.accepts.get() == 0).await;
    }

    /// Answers what has been asked, then closes all connections; waits until the last one is closed.
    pub async fn drain(&self) {
        self.for_each(Control::drain);
        self.wait_until(|inner| inner.connections.borrow().is_empty()).await;
    }

    /// Closes all connections now.
    pub async fn close(&self) {
        self.for_each(|control| control.close(CloseReason::Stopping));
        self.wait_until(|inner| inner.connections.borrow().is_empty()).await;
    }

    /// Serves a connection, accepted here or handed over by another shard.
    pub fn serve(&self, new: NewConnection) {
        let inner = &self.0;
        if inner.stopping.get() {
            return self.turn_away(new.socket);
        }
        let control = Control::new(inner.shard.now(), new.socket.clone());
        inner.connections.borrow_mut().insert(new.socket.id(), control.clone());
        let peer = Peer::new(&new);
        let NewConnection { socket, place, .. } = new;
        let connection = Connection {
            shard: inner.shard.clone(),
            peer,
            socket,
            control,
            limits: inner.limits.clone(),
            requests: inner.requests.clone(),
        };
        let this = self.clone();
        inner.shard.spawn(async move {
            let peer = connection.peer.clone();
            let reason = Box::pin(connection.serve()).await;
            drop(place);
            this.0.requests.closed(&peer, &reason);
            this.0.connections.borrow_mut().remove(&peer.socket);
            this.0.changed.notify();
        });
    }

    async fn accept(&self, index: usize, listener: Listener) {
        let io = self.0.shard.io().clone();
        let mut stream = io.accept(listener.clone());
        loop {
            let outcome = self.unless_stopping(&mut stream).await;
            let Some(outcome) = outcome else { break };
            match outcome {
                Ok((socket, address)) => self.admit(index, socket, address, &stream).await,
                // It was told to end, while its listener was full.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.0.shard.sleep(ACCEPT_PAUSE).await,
            }
            if stream.ended() {
                stream = io.accept(listener.clone());
            }
        }
        stream.cancel();
        while !stream.ended() {
            if let Ok((socket, _)) = stream.next().await.into_accepted() {
                let _ = io.close_socket(socket).await;
            }
        }
        let _ = io.close_socket(listener.0).await;
    }

    /// Serves a connection as soon as there may be one more. Until then no more are accepted: they stay with the kernel.
    async fn admit(&self, index: usize, socket: Socket, address: SocketAddr, stream: &Stream) {
        let Inner { shard, limits, requests, .. } = &*self.0;
        let mut waits = false;
        while !self.0.stopping.get() {
            match limits.quotas.admit(index, address.ip(), shard.now()) {
                Admission::Admitted(place) => {
                    let new = NewConnection { socket, address, listener: index, place };
                    if let Some(new) = requests.hand_over(new, self.connection_count()) {
                        self.serve(new);
                    }
                    return;
                }
                Admission::Refused => {
                    requests.too_many(address.ip());
                    break;
                }
                Admission::Later(span) => {
                    if !std::mem::replace(&mut waits, true) {
                        limits.quotas.count_delayed();
                        stream.cancel();
                    }
                    self.sleep_unless_stopping(span).await;
                }
            }
        }
        self.turn_away(socket);
    }

    fn turn_away(&self, socket: Socket) {
        let io = self.0.shard.io().clone();
        self.0.shard.spawn(async move {
            let _ = io.close_socket(socket).await;
        });
    }

    async fn unless_stopping(&self, stream: &mut Stream) -> Option<io::Result<(Socket, SocketAddr)>> {
        let mut stopping = std::pin::pin!(self.wait_until(|inner| inner.stopping.get()));
        poll_fn(|cx| {
            if stopping.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            stream.poll_next(cx).map(|outcome| Some(outcome.into_accepted()))
        })
        .await
    }

    async fn sweep(self) {
        while !self.0.stopping.get() {
            let now = self.0.shard.now();
            let limits = &self.0.limits;
            let patience = Patience {
                idle: limits.idle,
                handshake: limits.handshake,
                frame: limits.frame_time_max,
                short_of_requests: limits.large_request_memory.is_short(),
                short_of_replies: limits.request_memory.is_short()
                    || limits.heavy_request_memory.is_short()
                    || limits.large_request_memory.is_short()
                    || self.0.requests.is_short_of_reply_memory(),
            };
            let controls: Vec<_> = self.0.connections.borrow().values().cloned().collect();
            for portion in controls.chunks(CLOSED_AT_ONCE) {
                for control in portion {
                    control.sweep(now, &patience, self.0.shard.io());
                }
                self.0.shard.yield_now().await;
            }
            drop(controls);
            self.sleep_unless_stopping(sweep_every(limits)).await;
        }
    }

    /// Whenever what nobody can use yet takes too much memory, closes those that have had most of it for longest.
    async fn make_room(self) {
        let unfinished = self.0.limits.unfinished.clone();
        loop {
            unfinished.exceeded.next().await;
            let mut excess = unfinished.excess();
            let now = self.0.shard.now();
            let connections = self.0.connections.borrow();
            let mut crowd: Vec<_> = connections
                .values()
                .filter_map(|one| one.unfinished().map(|(since, bytes)| (now.since(since), bytes, one)))
                .collect();
            crowd.sort_by_key(|(age, bytes, _)| Reverse(age.as_nanos() * *bytes as u128));
            for (_, bytes, control) in crowd {
                if excess == 0 {
                    break;
                }
                control.close(CloseReason::Crowded);
                excess = excess.saturating_sub(bytes);
            }
        }
    }

    async fn sleep_unless_stopping(&self, span: Duration) {
        let mut sleep = std::pin::pin!(self.0.shard.sleep(span));
        let mut stopping = std::pin::pin!(self.wait_until(|inner| inner.stopping.get()));
        poll_fn(|cx| {
            if sleep.as_mut().poll(cx).is_ready() || stopping.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    fn for_each(&self, mut act: impl FnMut(&Control)) {
        for control in self.0.connections.borrow().values() {
            act(control);
        }
    }

    async fn wait_until(&self, holds: impl Fn(&Inner) -> bool) {
        while !holds(&self.0) {
            self.0.changed.next().await;
        }
    }
}
