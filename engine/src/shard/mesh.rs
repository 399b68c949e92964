//! Mailboxes between shards: requests one way, replies the other, over bounded rings.
//!
//! ```text
//!   shard 0 ──ring 0→1──▶ shard 1      each ring carries requests of its sender
//!   shard 0 ◀──ring 1→0── shard 1      and replies to its receiver's requests
//! ```
//!
//! A call holds one of [`CALLS_MAX`] places toward its target from the moment its request is sent until its reply has
//! come, and each ring has room for that many requests and as many replies: neither push can fail, so full
//! mailboxes cannot lock each other. Calls beyond that wait on the caller's side, in order.

use super::{Shard, ShardId};
use crate::io::Notifier;
use rtrb::{Consumer, Producer, RingBuffer};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

/// Calls from one shard to another that may be unanswered at a time.
pub const CALLS_MAX: usize = 1024;

enum Envelope<Req, Rep> {
    Request { slot: u64, request: Req },
    Reply { slot: u64, reply: Rep },
}

/// One shard's ends of all rings, made before the shard's thread starts.
pub struct MeshEnds<Req, Rep> {
    id: ShardId,
    to: Vec<Option<Producer<Envelope<Req, Rep>>>>,
    from: Vec<Option<Inbox<Req, Rep>>>,
    notifiers: Notifiers,
}

type Inbox<Req, Rep> = Consumer<Envelope<Req, Rep>>;
type Notifiers = Arc<Vec<OnceLock<Arc<dyn Notifier>>>>;

/// Rings between every two of `shards` shards.
pub fn mesh_ends<Req, Rep>(shards: u16) -> Vec<MeshEnds<Req, Rep>> {
    let notifiers: Notifiers = Arc::new((0..shards).map(|_| OnceLock::new()).collect());
    let mut ends: Vec<MeshEnds<Req, Rep>> = (0..shards)
        .map(|id| MeshEnds {
            id: ShardId(id),
            to: (0..shards).map(|_| None).collect(),
            from: (0..shards).map(|_| None).collect(),
            notifiers: notifiers.clone(),
        })
        .collect();
    for from in 0..usize::from(shards) {
        for to in 0..usize::from(shards) {
            if from != to {
                let (producer, consumer) = RingBuffer::new(2 * CALLS_MAX);
                ends[from].to[to] = Some(producer);
                ends[to].from[from] = Some(consumer);
            }
        }
    }
    ends
}

type Handler<Req, Rep> = Rc<dyn Fn(ShardId, Req, Reply<Req, Rep>)>;

/// A shard's mailboxes.
pub struct Mesh<Req: 'static, Rep: 'static>(Rc<Inner<Req, Rep>>);

impl<Req, Rep> Clone for Mesh<Req, Rep> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<Req: 'static, Rep: 'static> {
    shard: Shard,
    notifiers: Notifiers,
    peers: Vec<RefCell<Peer<Req, Rep>>>,
    inboxes: RefCell<Vec<Option<Inbox<Req, Rep>>>>,
    calls: RefCell<HashMap<u64, Waiting<Rep>>>,
    next_slot: Cell<u64>,
    handler: RefCell<Option<Handler<Req, Rep>>>,
}

struct Peer<Req, Rep> {
    ring: Option<Producer<Envelope<Req, Rep>>>,
    unanswered: usize,
    backlog: VecDeque<Envelope<Req, Rep>>,
}

enum Waiting<Rep> {
    Pending(Option<Waker>),
    Answered(Rep),
    Abandoned,
}

impl<Req: 'static, Rep: 'static> Mesh<Req, Rep> {
    /// Opens this shard's mailboxes. Requests that arrive before [`Mesh::serve`] stay in their rings.
    pub fn open(shard: &Shard, ends: MeshEnds<Req, Rep>) -> Self {
        assert_eq!(shard.id(), ends.id, "a shard opens its own ends");
        let registered = ends.notifiers[usize::from(ends.id.0)].set(shard.io().notifier());
        assert!(registered.is_ok(), "a shard opens its mailboxes once");
        let peers = ends
            .to
            .into_iter()
            .map(|ring| RefCell::new(Peer { ring, unanswered: 0, backlog: VecDeque::new() }))
            .collect();
        let mesh = Self(Rc::new(Inner {
            shard: shard.clone(),
            notifiers: ends.notifiers,
            peers,
            inboxes: RefCell::new(ends.from),
            calls: RefCell::default(),
            next_slot: Cell::new(0),
            handler: RefCell::new(None),
        }));
        let pump = mesh.clone();
        shard.on_turn(move || pump.0.deliver());
        // The handler holds whoever holds the mailboxes.
        let served = mesh.clone();
        shard.on_end(move || drop(served.0.handler.take()));
        mesh
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.0.peers.len()).expect("shards are counted in 16 bits")
    }

    /// Sets what answers the other shards' requests. Called in the order in which each of them called.
    pub fn serve(&self, handler: impl Fn(ShardId, Req, Reply<Req, Rep>) + 'static) {
        *self.0.handler.borrow_mut() = Some(Rc::new(handler));
        self.0.deliver();
    }

    /// Asks another shard. The request takes its place in the order now, not when the future is first polled.
    pub fn call(&self, to: ShardId, request: Req) -> Call<Req, Rep> {
        assert_ne!(to, self.0.shard.id(), "a shard does not write to itself");
        let slot = self.0.next_slot.get();
        self.0.next_slot.set(slot + 1);
        self.0.calls.borrow_mut().insert(slot, Waiting::Pending(None));
        let mut peer = self.0.peer(to).borrow_mut();
        let envelope = Envelope::Request { slot, request };
        if peer.unanswered < CALLS_MAX && peer.backlog.is_empty() {
            peer.unanswered += 1;
            peer.push(envelope);
            drop(peer);
            self.0.wake(to);
        } else {
            peer.backlog.push_back(envelope);
        }
        Call { mesh: self.clone(), slot }
    }

    /// Calls without an answer yet.
    pub fn unanswered(&self) -> usize {
        self.0.calls.borrow().len()
    }
}

impl<Req: 'static, Rep: 'static> Inner<Req, Rep> {
    fn peer(&self, id: ShardId) -> &RefCell<Peer<Req, Rep>> {
        &self.peers[usize::from(id.0)]
    }

    /// Wakes a peer; one that has not opened its mailboxes yet looks into them when it does.
    fn wake(&self, id: ShardId) {
        if let Some(notifier) = self.notifiers[usize::from(id.0)].get() {
            notifier.wake();
        }
    }

    /// Takes what has come: hands requests to the handler, replies to their callers. Returns how many.
    fn deliver(self: &Rc<Self>) -> usize {
        let mut delivered = 0;
        for from in (0..self.peers.len()).filter(|&from| from != usize::from(self.shard.id().0)) {
            let from = ShardId(u16::try_from(from).expect("shards are counted in 16 bits"));
            while let Some(envelope) = self.take(from) {
                delivered += 1;
                match envelope {
                    Envelope::Request { slot, request } => {
                        let handler =
                            self.handler.borrow().clone().expect("requests are taken only once served");
                        let reply = Reply { mesh: self.clone(), to: from, slot, sent: Cell::new(false) };
                        handler(from, request, reply);
                    }
                    Envelope::Reply { slot, reply } => self.answered(from, slot, reply),
                }
            }
        }
        delivered
    }

    fn take(&self, from: ShardId) -> Option<Envelope<Req, Rep>> {
        let mut inboxes = self.inboxes.borrow_mut();
        let inbox = inboxes[usize::from(from.0)].as_mut()?;
        if matches!(inbox.peek(), Ok(Envelope::Request { .. })) && self.handler.borrow().is_none() {
            return None;
        }
        inbox.pop().ok()
    }

    fn answered(&self, from: ShardId, slot: u64, reply: Rep) {
        let mut calls = self.calls.borrow_mut();
        let waiting = calls.get_mut(&slot).expect("a reply belongs to a call");
        match std::mem::replace(waiting, Waiting::Answered(reply)) {
            Waiting::Pending(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Waiting::Abandoned => {
                calls.remove(&slot);
            }
            Waiting::Answered(_) => panic!("a call is answered once"),
        }
        drop(calls);
        let mut peer = self.peer(from).borrow_mut();
        match peer.backlog.pop_front() {
            // The place goes to the call that waited longest.
            Some(envelope) => {
                peer.push(envelope);
                drop(peer);
                self.wake(from);
            }
            None => peer.unanswered -= 1,
        }
    }
}

impl<Req, Rep> Peer<Req, Rep> {
    fn push(&mut self, envelope: Envelope<Req, Rep>) {
        let ring = self.ring.as_mut().expect("there is a ring to every other shard");
        assert!(ring.push(envelope).is_ok(), "a ring has room for every place given");
    }
}

/// A reply's reserved place: a caller waits for it until [`Reply::send`]. Dropping it unsent would leave that caller
/// waiting for ever: a mistake of ours, and the end of the process.
#[must_use]
pub struct Reply<Req: 'static, Rep: 'static> {
    mesh: Rc<Inner<Req, Rep>>,
    to: ShardId,
    slot: u64,
    sent: Cell<bool>,
}

impl<Req: 'static, Rep: 'static> Reply<Req, Rep> {
    /// Answers.
    pub fn send(self, reply: Rep) {
        self.mesh.peer(self.to).borrow_mut().push(Envelope::Reply { slot: self.slot, reply });
        self.mesh.wake(self.to);
        self.sent.set(true);
    }
}

impl<Req: 'static, Rep: 'static> Drop for Reply<Req, Rep> {
    fn drop(&mut self) {
        let excused = self.sent.get() || self.mesh.shard.ending() || std::thread::panicking();
        assert!(excused, "every request is answered");
    }
}

/// A call's answer, to come. Dropping it abandons the answer; the request is served all the same.
pub struct Call<Req: 'static, Rep: 'static> {
    mesh: Mesh<Req, Rep>,
    slot: u64,
}

impl<Req, Rep> Future for Call<Req, Rep> {
    type Output = Rep;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Rep> {
        let mut calls = self.mesh.0.calls.borrow_mut();
        match calls.remove(&self.slot).expect("an answer is taken once") {
            Waiting::Answered(reply) => Poll::Ready(reply),
            Waiting::Pending(_) => {
                calls.insert(self.slot, Waiting::Pending(Some(cx.waker().clone())));
                Poll::Pending
            }
            Waiting::Abandoned => unreachable!("only a dropped call is abandoned"),
        }
    }
}

impl<Req, Rep> Drop for Call<Req, Rep> {
    fn drop(&mut self) {
        let mut calls = self.mesh.0.calls.borrow_mut();
        match calls.get_mut(&self.slot) {
            Some(waiting @ Waiting::Pending(_)) => *waiting = Waiting::Abandoned,
            Some(Waiting::Answered(_)) => {
                calls.remove(&self.slot);
            }
            Some(Waiting::Abandoned) | None => {}
        }
    }
}
