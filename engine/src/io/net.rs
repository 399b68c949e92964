//! Sockets: the few set-up calls, and sending from files.

use super::blocking::{fd as file_fd, next_id};
use super::buf::fill;
use super::{File, Listener, Socket};
use bytes::{Bytes, BytesMut};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sockopt,
};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// Pieces given to the kernel in one send.
pub(super) const SEND_PARTS_MAX: usize = 256;

/// A listening socket that shares its address with those of the other shards, and the address it got. epoll needs sockets
/// that do not block; a ring waits only on those that would.
pub(super) fn listen(address: SocketAddr, blocking: SocketFlags) -> io::Result<(Listener, SocketAddr)> {
    let socket = bind(address)?;
    if blocking.contains(SocketFlags::NONBLOCK) {
        rustix::io::ioctl_fionbio(&socket, true)?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((Listener(Socket::new(next_id(), Some(socket))), bound))
}

/// A socket bound to an address that others of this user may share.
pub(super) fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Takes one connection; `WouldBlock` when none waits.
pub(super) fn accept(listener: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connection = rustix::net::accept_with(fd(listener), flags)?;
    accepted(connection)
}

/// Makes a connection ready for requests and replies: what is sent goes out at once. `ConnectionAborted` when its client has reset it already:
/// nothing is wrong with the listener.
pub(super) fn accepted(connection: OwnedFd) -> io::Result<(Socket, SocketAddr)> {
    let peer = peer_of(&connection).map_err(|_| io::ErrorKind::ConnectionAborted)?;
    sockopt::set_tcp_nodelay(&connection, true)?;
    if peer.ip().to_canonical().is_loopback() {
        // There is nothing to be congested. Others than this one may pace what is sent (BBR does): a timer for each 64 KiB, and a reader that
        // waits for it. Where it is not allowed what the host has chosen does.
        let _ = sockopt::set_tcp_congestion(&connection, "reno");
    }
    Ok((Socket::new(next_id(), Some(connection)), peer))
}

fn peer_of(connection: &OwnedFd) -> io::Result<SocketAddr> {
    let peer = rustix::net::getpeername(connection)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok(SocketAddr::try_from(peer)?)
}

/// Receives what is there, at most so many bytes, into what is free of a buffer.
pub(super) fn recv(socket: &Socket, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
    Ok(fill(buffer, bytes_max, |free| {
        rustix::net::recv(fd(socket), free, RecvFlags::empty()).map(|((received, _), _)| received)
    })?)
}

/// Bytes that have come and have not been received.
pub(super) fn unread(socket: &Socket) -> usize {
    let bytes = rustix::io::ioctl_fionread(fd(socket)).unwrap_or(0);
    usize::try_from(bytes).expect("a socket's buffer is in memory")
}

/// Sends what the socket takes without waiting; returns how many bytes. What is wrong with a socket the operation that sends the
/// rest tells.
pub(super) fn send_at_once(socket: &Socket, parts: &[Bytes]) -> usize {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = match parts {
        [part] => rustix::net::send(fd(socket), part, flags),
        parts => {
            let slices: SmallVec<[IoSlice<'_>; 8]> =
                parts.iter().take(SEND_PARTS_MAX).map(|part| IoSlice::new(part)).collect();
            rustix::net::sendmsg(fd(socket), &slices, &mut SendAncillaryBuffer::default(), flags)
        }
    };
    sent.unwrap_or(0)
}

/// Drops the first `count` bytes, which are done with.
pub(super) fn advance(parts: &mut VecDeque<Bytes>, mut count: usize) {
    while count > 0 {
        let first = parts.front_mut().expect("no more is sent than there is");
        if count < first.len() {
            bytes::Buf::advance(first, count);
            return;
        }
        count -= first.len();
        parts.pop_front();
    }
}

/// Ends both directions: operations that wait on the socket end.
pub(super) fn shutdown(socket: &Socket) {
    // A peer that has gone already is no news.
    let _ = rustix::net::shutdown(fd(socket), rustix::net::Shutdown::Both);
}

/// The descriptor of a socket of a real Driver.
pub(super) fn fd(socket: &Socket) -> &OwnedFd {
    socket.fd().expect("a socket of a real Driver has a descriptor")
}

/// A send from a file on its way: how much is done, and whether the pages are known to be in memory.
pub(super) struct FileSend {
    pub(super) socket: Socket,
    pub(super) file: File,
    /// Whether calls on the socket wait unless told otherwise.
    blocks: bool,
    pos: u64,
    end: u64,
    len: u64,
    /// Up to here the file is in memory.
    fetched: u64,
}

/// What a send from a file needs next.
pub(super) enum FileSendStep {
    /// It has ended.
    Done(io::Result<u64>),
    /// The socket is full.
    AwaitSocket,
    /// Others first: there is more to send.
    Again,
    /// This range of the file is not in memory.
    Fetch { from: u64, to: u64 },
}

/// Bytes of a file that are looked for in memory at a time, and brought there.
const SLICE: u64 = 512 * 1024;
/// Bytes sent in a row, some 20 us: then the shard looks at what else has come, or whoever reads much would have all others wait.
pub(super) const TURN_BYTES: usize = 64 * 1024;
/// Bytes of a large body received in a row, for the same reason: fifty clients may each have a megabyte ready.
pub(super) const EXACT_TURN_BYTES: usize = 128 * 1024;

impl FileSend {
    /// A send of this range. `blocks`: calls on this Driver's sockets wait unless told otherwise.
    pub(super) fn new(socket: Socket, file: File, range: Range<u64>, blocks: bool) -> Self {
        let Range { start, end } = range;
        Self { socket, file, blocks, pos: start, end, len: end - start, fetched: start }
    }

    /// Sends what can be sent without waiting for the socket or the disk, and without having others wait.
    pub(super) fn step(&mut self) -> FileSendStep {
        let turn_ends = self.pos + TURN_BYTES as u64;
        while self.pos < self.end {
            if self.pos >= turn_ends {
                return FileSendStep::Again;
            }
            if self.fetched <= self.pos {
                let to = self.end.min(self.pos + SLICE);
                if !super::page_cache::is_resident(file_fd(&self.file), self.pos, to - self.pos) {
                    return FileSendStep::Fetch { from: self.pos, to };
                }
                self.fetched = to;
            }
            let want = usize::try_from(self.fetched.min(turn_ends) - self.pos).expect("a slice is small");
            let mut at = self.pos;
            match self.send(&mut at, want) {
                Ok(0) => return FileSendStep::Done(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.pos = at,
                Err(rustix::io::Errno::AGAIN) => {
                    // Until there is room again, the kernel may have found another use for the memory.
                    self.fetched = self.pos;
                    return FileSendStep::AwaitSocket;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return FileSendStep::Done(Err(error.into())),
            }
        }
        FileSendStep::Done(Ok(self.len))
    }

    /// One sendfile that does not wait. A ring's sockets block, and a ring looks at that only when an operation is
    /// submitted: for the time of this call the socket is made not to.
    fn send(&self, at: &mut u64, want: usize) -> Result<usize, rustix::io::Errno> {
        let socket = fd(&self.socket);
        if self.blocks {
            rustix::io::ioctl_fionbio(socket, true)?;
        }
        let sent = rustix::fs::sendfile(socket, file_fd(&self.file), Some(at), want);
        if self.blocks {
            rustix::io::ioctl_fionbio(socket, false)?;
        }
        sent
    }

    /// A helper has brought the file into memory up to here.
    pub(super) fn fetched(&mut self, to: u64) {
        self.fetched = to;
    }
}
