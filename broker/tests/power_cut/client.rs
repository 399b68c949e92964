//! A client's connection: real frames over the simulated network, and how a client gets one again and again.

use bytes::BytesMut;
use ringlog_engine::io::sim::{ActorId, MachineId, Sim};
use ringlog_engine::io::{Io, Socket};
use ringlog_engine::shard::sync::{Sender, oneshot};
use ringlog_wire::{Message, Part, Reader, Request, ResponseHeader, encode_request};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

/// Where clients wait to be connected: the world lets them in while the broker listens.
#[derive(Clone, Default)]
pub(crate) struct Door(Rc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: RefCell<VecDeque<Sender<Connection>>>,
    serial: Cell<u64>,
}

impl Door {
    /// Waits for a new connection to the broker, whichever process that is; `None` when it is not to be had any more.
    pub(crate) async fn connect(&self) -> Option<Connection> {
        let (sender, receiver) = oneshot();
        self.0.waiting.borrow_mut().push_back(sender);
        receiver.await
    }

    /// Connects who waits.
    pub(crate) fn let_in(&self, sim: &mut Sim, from: (MachineId, ActorId), to: SocketAddr, life: u64) {
        loop {
            if self.0.waiting.borrow().is_empty() {
                return;
            }
            let Ok(socket) = sim.connect(from.0, to) else { return };
            let io = sim.shard(from.1).io().clone();
            let serial = self.0.serial.replace(self.0.serial.get() + 1);
            let connection = Connection { io, socket, received: BytesMut::new(), next_id: 0, life, serial };
            let sender = self.0.waiting.borrow_mut().pop_front().expect("just seen");
            sender.send(connection);
        }
    }
}

/// One connection to one process of the broker.
pub(crate) struct Connection {
    io: Io,
    socket: Socket,
    received: BytesMut,
    next_id: i32,
    /// Which process of the broker it leads to.
    pub(crate) life: u64,
    /// Different for every connection.
    pub(crate) serial: u64,
}

impl Connection {
    /// Sends a request and returns its number; `None` once the broker is gone.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> Option<i32> {
        let id = self.next_id;
        self.next_id += 1;
        let parts = encode_request(version, id, Some("sim"), request).unwrap();
        let parts = parts.into_iter().map(|part| match part {
            Part::Bytes(bytes) => bytes,
            Part::External { .. } => panic!("requests are in memory"),
        });
        self.io.send(self.socket.clone(), parts.collect()).await.ok()?;
        Some(id)
    }

    /// The response to this request, which must be the next; `None` once the broker is gone.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16, id: i32) -> Option<R::Response> {
        loop {
            let whole = self.received.first_chunk::<4>().map(|len| 4 + u32::from_be_bytes(*len) as usize);
            if let Some(len) = whole.filter(|len| *len <= self.received.len()) {
                let frame = self.received.split_to(len).freeze().slice(4..);
                let mut reader = Reader::new(&frame);
                let header = ResponseHeader::read(&mut reader, R::API, version).unwrap();
                assert_eq!(header.correlation_id, id, "replies come in request order");
                let response = R::Response::decode(&mut reader, version).unwrap();
                assert_eq!(reader.remaining(), 0, "a response ends with its frame");
                return Some(response);
            }
            match self.io.recv(self.socket.clone()).await {
                Ok(bytes) if !bytes.is_empty() => self.received.extend_from_slice(&bytes),
                _ => return None,
            }
        }
    }

    /// Asks and waits for the answer.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let id = self.send(version, request).await?;
        self.receive::<R>(version, id).await
    }

    /// Hangs up.
    pub(crate) async fn close(self) {
        let _ = self.io.close_socket(self.socket).await;
    }
}
