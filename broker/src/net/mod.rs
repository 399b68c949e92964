//! Connections: frames in, replies out in request order, memory and time bounded.
//!
//! ```text
//!   accept ─▶ connection task ─┬─ Input: receive, cut frames ─▶ Requests::dispatch, in order
//!                              └─ Output: replies, in request order ─▶ one vectored send
//! ```
//!
//! This module knows that a frame is a length and a body, and nothing of Kafka's APIs: what a frame means,
//! whether it may overlap with earlier ones and what it costs is asked of [`Requests`].

mod connection;
mod input;
mod listener;
mod output;
mod quotas;
mod unfinished;

pub use connection::CloseReason;
pub use listener::Listeners;
pub use quotas::{Admission, ConnectionQuotas, Place, QuotaCounts};
pub use unfinished::Unfinished;

use bytes::{Bytes, BytesMut};
use ringlog_engine::io::{File, Socket};
use ringlog_engine::shard::sync::{Credits, Permit};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What connections ask of the broker's shard that owns them.
pub trait Requests: 'static {
    /// Whether a request with this body may start before those ahead of it on its connection are answered.
    fn overlaps(&self, frame: &[u8]) -> bool;

    /// Bytes of request memory to hold while the request runs. `start` is what has come of its body, which has this
    /// length.
    fn cost(&self, start: &[u8], len: usize) -> usize;

    /// Memory for a large body of this length, of which the start is here: empty, with room for all of it.
    fn memory(&self, start: &Bytes, len: usize) -> BytesMut;

    /// Starts one request. Called in the order of arrival; whatever must happen in that order (the append of a
    /// produce) has happened when this returns. The bytes may lie in a shared receive buffer while the request
    /// overlaps; otherwise they are its own.
    fn dispatch(&self, peer: &Rc<Peer>, frame: Bytes) -> PendingReply;

    /// Gives a new connection to a shard that has fewer, if there is one; returns it if it is to stay here, where there are
    /// `connections` already.
    fn hand_over(&self, new: NewConnection, connections: usize) -> Option<NewConnection>;

    /// Whether replies wait for memory that replies on their way hold.
    fn is_short_of_reply_memory(&self) -> bool;

    /// A connection from an address that has too many was closed.
    fn too_many(&self, address: IpAddr);

    /// A connection has ended.
    fn closed(&self, peer: &Peer, reason: &CloseReason);
}

/// A connection nobody serves yet.
#[derive(Debug)]
pub struct NewConnection {
    /// The connection.
    pub socket: Socket,
    /// Its peer.
    pub address: SocketAddr,
    /// Which of the configured listeners it came in by.
    pub listener: usize,
    /// Its place among those there may be.
    pub place: Place,
}

/// A reply on its way.
pub type PendingReply = Pin<Box<dyn Future<Output = Reply>>>;

/// What the client gets.
pub enum Reply {
    /// These bytes, the frame's length in front.
    Send(Parts),
    /// The same, while this memory is held until it has been sent.
    SendHeld(Parts, Permit),
    /// Nothing (acks=0).
    Nothing,
    /// Its connection is closed, for this reason.
    Close(String),
}

/// The pieces of a reply, in order. Most replies are one.
pub type Parts = SmallVec<[Part; 1]>;

/// A piece of a reply.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file, sent without being copied.
    File {
        /// The file, opened for cached reads.
        file: File,
        /// Where the range begins.
        pos: u64,
        /// Its length in bytes.
        len: u64,
    },
}

impl Part {
    /// Bytes this part puts on the wire.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// Whether it puts nothing on the wire.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who is at the other end of a connection.
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Which of the configured listeners it came in by.
    pub listener: usize,
    /// The connection, unique within the process.
    pub socket: u64,
    /// What it last called itself, for log lines.
    pub client_id: RefCell<String>,
    /// Name and version of its software, once it has told (ApiVersions v3+).
    pub software: RefCell<Option<(String, String)>>,
}

impl Peer {
    fn new(connection: &NewConnection) -> Rc<Self> {
        Rc::new(Self {
            address: connection.address,
            listener: connection.listener,
            socket: connection.socket.id(),
            client_id: RefCell::default(),
            software: RefCell::default(),
        })
    }
}

/// Bounds of the connections of one shard.
#[derive(Clone)]
pub struct Limits {
    /// Largest frame, the length itself not counted (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Connections over all shards.
    pub quotas: Arc<ConnectionQuotas>,
    /// A connection without a request for this long is closed (`connections.max.idle.ms`); zero: never.
    pub idle: Duration,
    /// A connection's first request must have come whole within this time (`connections.max.handshake.ms`); zero: it need not.
    pub handshake: Duration,
    /// A frame that has begun must end within this time.
    pub frame_time_max: Duration,
    /// Requests of one connection that overlap.
    pub overlapping_max: usize,
    /// Request memory of this shard for bodies below [`LARGE_FRAME_BYTES`].
    pub request_memory: Credits,
    /// The same for those that are heavy.
    pub heavy_request_memory: Credits,
    /// Bytes that have come and are no whole request yet, or lie behind one that is being answered.
    pub unfinished: Rc<Unfinished>,
    /// Request memory for larger bodies. It is taken before they have come: those that do not come keep no small ones waiting.
    pub large_request_memory: Credits,
}

/// From this many bytes on a body is received into memory of its own instead of through shared buffers.
pub const LARGE_FRAME_BYTES: usize = 64 * 1024;
/// From this many bytes on a request that does not overlap is *heavy*: it may take as long as hundreds of others, waits for others of its kind, and
/// lets all else go first.
const HEAVY_FRAME_BYTES: usize = 4 * 1024;
/// So much of a large body is looked at to choose the memory for it.
const LARGE_START_BYTES: usize = 512;

/// Replies are gathered into one send up to this many bytes or pieces.
const SEND_BYTES_MAX: u64 = 1024 * 1024;
const SEND_PARTS_MAX: usize = 256;
/// Room for so many pieces is kept from one send for the next.
const SEND_PARTS_KEPT: usize = 8;
