//! What the ring does for the shard: each operation's entry, and what a completion means for it.
#![expect(unsafe_code, reason = "the kernel fills memory")]

use super::slots::{Slots, Target};
use crate::io::lent::{BUFFER_BYTES, RECV_GROUP};
use crate::io::net::{self, FileSend, SEND_PARTS_MAX};
use crate::io::{Counters, File, Listener, Outcome, Socket, Token, buf};
use bytes::{Bytes, BytesMut};
use io_uring::{IoUring, opcode, squeue};
use std::collections::VecDeque;
use std::io;

/// An operation in the ring, with all the memory the kernel may touch until its last completion.
pub(super) struct Pending {
    pub(super) token: Token,
    pub(super) cancelled: bool,
    pub(super) work: Work,
}

pub(super) enum Work {
    Accept { listener: Listener },
    Recv { socket: Socket, bytes_max: usize },
    HangUp { socket: Socket },
    Exact { socket: Socket, buffer: BytesMut, len: usize },
    Send { socket: Socket, message: Box<Message>, sent: u64 },
    File { send: FileSend },
    Write { file: File, pos: u64, bytes: Bytes, written: u64 },
    WriteParts { file: File, pos: u64, message: Box<Message>, written: u64 },
    Read { file: File, pos: u64, buffer: BytesMut, len: usize },
}

/// Bytes in parts, to send or to write: the parts, and the description of them that the kernel reads.
pub(super) struct Message {
    parts: VecDeque<Bytes>,
    slices: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// Builds an entry on a registered slot or on a descriptor.
macro_rules! entry_on {
    ($target:expr, |$fd:ident| $op:expr) => {
        match $target {
            Target::Slot($fd) => $op.build(),
            Target::Descriptor($fd) => $op.build(),
        }
    };
}

impl Work {
    /// The entry for what is to be done next. It carries addresses of memory that the work owns.
    pub(super) fn entry(&mut self, ring: &IoUring, slots: &mut Slots) -> squeue::Entry {
        match self {
            Self::Accept { listener } => {
                let fd = slots.of(ring, listener.0.id(), net::fd(&listener.0));
                entry_on!(fd, |fd| opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC))
            }
            Self::Recv { socket, bytes_max } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                let len = u32::try_from((*bytes_max).min(BUFFER_BYTES)).expect("a buffer is small");
                entry_on!(fd, |fd| opcode::Recv::new(fd, std::ptr::null_mut(), len).buf_group(RECV_GROUP))
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
            Self::HangUp { socket } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                let events = u32::try_from(libc::POLLRDHUP).expect("a positive flag");
                entry_on!(fd, |fd| opcode::PollAdd::new(fd, events))
            }
            Self::Exact { socket, buffer, len } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                let turn_ends = buffer.len() + net::EXACT_TURN_BYTES;
                let (at, want) = room(buffer, turn_ends.min(*len));
                entry_on!(fd, |fd| opcode::Recv::new(fd, at, want).flags(libc::MSG_WAITALL))
            }
            Self::Send { socket, message, .. } => {
                let fd = slots.of(ring, socket.id(), net::fd(socket));
                let header = message.describe(net::TURN_BYTES);
                let flags =
                    u32::try_from(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).expect("flags are positive");
                entry_on!(fd, |fd| opcode::SendMsg::new(fd, header).flags(flags))
            }
            Self::File { send } => {
                let fd = slots.of(ring, send.socket.id(), net::fd(&send.socket));
                let events = u32::try_from(libc::POLLOUT).expect("a positive flag");
                entry_on!(fd, |fd| opcode::PollAdd::new(fd, events))
            }
            Self::Write { file, pos, bytes, written } => {
                let fd = slots.of_file(ring, file);
                let want = u32::try_from(bytes.len()).expect("a write is below 4 GiB");
                let (at, pos) = (bytes.as_ptr(), *pos + *written);
                entry_on!(fd, |fd| opcode::Write::new(fd, at, want).offset(pos))
            }
            Self::WriteParts { file, pos, message, written } => {
                let fd = slots.of_file(ring, file);
                message.describe(usize::MAX);
                let (at, count) = (message.slices.as_ptr(), message.slices.len());
                let (count, pos) = (u32::try_from(count).expect("a write has few parts"), *pos + *written);
                entry_on!(fd, |fd| opcode::Writev::new(fd, at, count).offset(pos))
            }
            Self::Read { file, pos, buffer, len } => {
                let fd = slots.of_file(ring, file);
                let pos = *pos + buffer.len() as u64;
                let (at, want) = room(buffer, *len);
                entry_on!(fd, |fd| opcode::Read::new(fd, at, want).offset(pos))
            }
        }
    }

    /// Takes in that the kernel has moved `count` more bytes: the outcome, or none while more is to be done. For work with
    /// one completion per entry.
    pub(super) fn moved(&mut self, count: usize, counters: &mut Counters) -> Option<Outcome> {
        match self {
            Self::Exact { buffer, len, .. } => {
                filled(buffer, count);
                let whole = count == 0 || buffer.len() == *len;
                whole.then(|| Outcome::Received(Ok(buffer.split().freeze())))
            }
            Self::Send { message, sent, .. } => {
                *sent += count as u64;
                net::advance(&mut message.parts, count);
                message.parts.is_empty().then_some(Outcome::Count(Ok(*sent)))
            }
            Self::Write { .. } | Self::WriteParts { .. } if count == 0 => {
                Some(Outcome::Count(Err(io::ErrorKind::WriteZero.into())))
            }
            Self::Write { bytes, written, .. } => {
                *written += count as u64;
                counters.bytes_written += count as u64;
                bytes::Buf::advance(bytes, count);
                bytes.is_empty().then_some(Outcome::Count(Ok(*written)))
            }
            Self::WriteParts { message, written, .. } => {
                *written += count as u64;
                counters.bytes_written += count as u64;
                net::advance(&mut message.parts, count);
                message.parts.is_empty().then_some(Outcome::Count(Ok(*written)))
            }
            Self::Read { buffer, len, .. } => {
                filled(buffer, count);
                counters.bytes_read += count as u64;
                // A count that is no whole number of blocks has met the end of the file.
                let ends = count == 0 || !count.is_multiple_of(buf::BLOCK) || buffer.len() == *len;
                ends.then(|| Outcome::Received(Ok(buffer.split().freeze())))
            }
            Self::HangUp { .. } => Some(Outcome::Count(Ok(0))),
            Self::Accept { .. } | Self::Recv { .. } | Self::File { .. } => {
                unreachable!("their completions count no bytes of one entry")
            }
        }
    }

    /// The outcome of work that failed.
    pub(super) fn failed(&self, error: io::Error) -> Outcome {
        match self {
            Self::Accept { .. } => Outcome::Accepted(Err(error)),
            Self::Recv { .. } | Self::Exact { .. } | Self::Read { .. } => Outcome::Received(Err(error)),
            Self::HangUp { .. }
            | Self::Send { .. }
            | Self::File { .. }
            | Self::Write { .. }
            | Self::WriteParts { .. } => Outcome::Count(Err(error)),
        }
    }
}

/// Where the rest of `len` bytes goes, and how long it is.
fn room(buffer: &mut BytesMut, len: usize) -> (*mut u8, u32) {
    let missing = len - buffer.len();
    let room = &mut buffer.spare_capacity_mut()[..missing];
    (room.as_mut_ptr().cast(), u32::try_from(missing).expect("a read is below 4 GiB"))
}

/// Takes in what the kernel put into the [`room`].
fn filled(buffer: &mut BytesMut, count: usize) {
    // SAFETY: the kernel has filled `count` bytes from the end of what was filled, within the capacity.
    unsafe { buffer.set_len(buffer.len() + count) };
}

impl Message {
    pub(super) fn new(parts: Vec<Bytes>) -> Box<Self> {
        let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        // SAFETY: a msghdr of zeroes is valid: no name, no slices, no control data.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self { slices: Vec::with_capacity(parts.len().min(SEND_PARTS_MAX)), parts, header })
    }

    /// Describes what is left to send, up to so many bytes. The description stays valid while the message is neither moved out of its
    /// box nor changed.
    fn describe(&mut self, mut room: usize) -> *const libc::msghdr {
        self.slices.clear();
        for part in self.parts.iter().take(SEND_PARTS_MAX) {
            let len = part.len().min(room);
            if len == 0 {
                break;
            }
            room -= len;
            self.slices.push(libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: len });
        }
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
        &raw const self.header
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
