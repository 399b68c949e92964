//! A connection that never waits: what the socket does not take is kept, and frames are handed out when they are whole.
#![expect(unsafe_code, reason = "the kernel fills memory that nobody has cleared")]

use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{RecvFlags, SendFlags};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// Whoever waits for events waits for room to send, too.
    pub(crate) watched: bool,
    /// What waits to be sent.
    unsent: BytesMut,
    received: BytesMut,
}

/// Read at once, at least.
const ROOM: usize = 64 << 10;

impl Connection {
    pub(crate) fn open(broker: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(broker)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, watched: false, unsent: BytesMut::new(), received: BytesMut::new() })
    }

    /// Asks something and waits for the answer: before the load begins.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Bytes> {
        self.socket.write_all(request)?;
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix)?;
        let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
        self.socket.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub(crate) fn begin(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }

    /// Sends a frame, after what waits.
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let sent = if self.unsent.is_empty() { self.send_some(frame)? } else { 0 };
        self.unsent.extend_from_slice(&frame[sent..]);
        Ok(())
    }

    /// Sends what waits; says whether something still does.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            let sent = self.send_some(&self.unsent)?;
            if sent == 0 {
                break;
            }
            self.unsent.advance(sent);
        }
        Ok(!self.unsent.is_empty())
    }

    pub(crate) fn is_sending(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in what has come, once.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let missing = self.frame_len().map_or(0, |len| len.saturating_sub(self.received.len()));
        self.received.reserve(missing.max(ROOM));
        let room = self.received.spare_capacity_mut();
        let count = match rustix::net::recv(&self.socket, room, RecvFlags::empty()) {
            Ok(((filled, _), _)) => filled.len(),
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker hung up"));
        }
        // SAFETY: the kernel has filled `count` bytes of the room.
        unsafe { self.received.set_len(self.received.len() + count) };
        Ok(())
    }

    /// The next whole frame, without its length.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        let len = self.frame_len()?;
        if self.received.len() < len {
            return None;
        }
        let mut frame = self.received.split_to(len).freeze();
        frame.advance(4);
        Some(frame)
    }

    fn frame_len(&self) -> Option<usize> {
        let prefix = self.received.get(..4)?;
        Some(4 + prefix.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }
}
