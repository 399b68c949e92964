//! The loop: what has come is taken, what is to be done is handed to the ring.
#![expect(unsafe_code, reason = "entries of the ring carry addresses")]

use crate::Options;
use crate::memory::Memory;
use crate::partition::{Partition, Waiter};
use crate::wire::{self, Cursor, PRODUCE};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::net::sockopt::set_tcp_nodelay;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(crate) struct Broker {
    // Comes first: it is closed before the memory its operations use is freed.
    ring: IoUring,
    listener: TcpListener,
    connections: Vec<Connection>,
    partitions: Vec<Partition>,
    durable: bool,
    buffered: bool,
    /// Who waits for the next sync, and for the one under way.
    unsynced: Vec<Waiter>,
    syncing: Vec<Waiter>,
}

struct Connection {
    socket: OwnedFd,
    received: Memory,
    filled: usize,
    /// Answers in the order of their requests, and how many batches each still waits for.
    answers: VecDeque<(usize, Vec<u8>)>,
    /// The number of the first of them.
    first: u64,
    unsent: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
    is_sending: bool,
}

/// What an operation is for, in the upper half of its user data; the lower is whose.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const WRITE: u64 = 3;
const SYNC: u64 = 4;

const NOSIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits().cast_signed();

/// The largest request, and what may lie behind it.
const RECEIVED: usize = 4 << 20;

impl Broker {
    pub(crate) fn new(options: &Options) -> io::Result<Self> {
        std::fs::create_dir_all(&options.data)?;
        let partition = |index| {
            let path = options.data.join(format!("{index}"));
            Partition::create(&path, options.megabytes << 20, options.fresh, options.buffered)
        };
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_cqsize(16 * 1024);
        Ok(Self {
            ring: builder.build(1024)?,
            listener: TcpListener::bind(options.listen)?,
            connections: Vec::new(),
            partitions: (0..options.partitions).map(partition).collect::<io::Result<_>>()?,
            durable: options.durable,
            buffered: options.buffered,
            unsynced: Vec::new(),
            syncing: Vec::new(),
        })
    }

    /// Goes on until something fails.
    pub(crate) fn run(mut self) -> io::Error {
        let listener = types::Fd(self.listener.as_raw_fd());
        self.push(opcode::AcceptMulti::new(listener).build(), ACCEPT, 0);
        loop {
            if let Err(error) = self.turn() {
                return error;
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        if let Err(error) = self.ring.submit_and_wait(1)
            // It may have been stopped and continued.
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            self.completed(&entry)?;
        }
        for number in 0..self.partitions.len() {
            self.write(number)?;
        }
        if self.durable && self.syncing.is_empty() && !self.unsynced.is_empty() {
            std::mem::swap(&mut self.syncing, &mut self.unsynced);
            // One flush of the device covers all that is written: every file's blocks were there before.
            let file = types::Fd(self.partitions[0].file.as_raw_fd());
            self.push(opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(), SYNC, 0);
        }
        for number in 0..self.connections.len() {
            self.send(number);
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry, kind: u64, number: usize) {
        let entry = entry.user_data(kind << 32 | number as u64);
        // SAFETY: what an entry points to belongs to a connection or a partition, neither of which goes before the ring.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit().expect("enter the ring");
        }
    }

    fn completed(&mut self, entry: &cqueue::Entry) -> io::Result<()> {
        let number = (entry.user_data() & u64::from(u32::MAX)) as usize;
        let kind = entry.user_data() >> 32;
        let result = entry.result();
        if result < 0 && kind != RECEIVE && kind != SEND {
            return Err(io::Error::from_raw_os_error(-result));
        }
        match kind {
            ACCEPT => self.accept(result)?,
            // A connection that has ended is not asked again.
            RECEIVE if result > 0 => {
                self.connections[number].filled += usize::try_from(result).expect("a count");
                self.take_requests(number);
                self.receive(number);
            }
            SEND if result > 0 => {
                let connection = &mut self.connections[number];
                connection.is_sending = false;
                connection.sent += usize::try_from(result).expect("a count");
            }
            WRITE => {
                self.partitions[number].writing -= 1;
                if self.partitions[number].writing == 0 {
                    self.written(number);
                }
            }
            SYNC => {
                for waiter in std::mem::take(&mut self.syncing) {
                    self.done(waiter);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn accept(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the kernel made this descriptor for this completion and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_tcp_nodelay(&socket, true)?;
        self.connections.push(Connection {
            socket,
            received: Memory::new(RECEIVED),
            filled: 0,
            answers: VecDeque::new(),
            first: 0,
            unsent: Vec::new(),
            sending: Vec::new(),
            sent: 0,
            is_sending: false,
        });
        self.receive(self.connections.len() - 1);
        Ok(())
    }

    fn receive(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let socket = types::Fd(connection.socket.as_raw_fd());
        let room = &mut connection.received[connection.filled..];
        let len = u32::try_from(room.len()).expect("a small room");
        let entry = opcode::Recv::new(socket, room.as_mut_ptr(), len).build();
        self.push(entry, RECEIVE, number);
    }

    fn take_requests(&mut self, number: usize) {
        let mut at = 0;
        loop {
            let connection = &self.connections[number];
            let rest = &connection.received[at..connection.filled];
            let Some(prefix) = rest.first_chunk::<4>() else { break };
            let len = 4 + u32::from_be_bytes(*prefix) as usize;
            assert!(len <= RECEIVED, "a request of {len} bytes");
            if rest.len() < len {
                break;
            }
            self.take_request(number, at..at + len);
            at += len;
        }
        let connection = &mut self.connections[number];
        connection.received.copy_within(at..connection.filled, 0);
        connection.filled -= at;
    }

    fn take_request(&mut self, number: usize, range: std::ops::Range<usize>) {
        let connection = &mut self.connections[number];
        let request = connection.first + connection.answers.len() as u64;
        let frame = &connection.received[range];
        let mut cursor = Cursor { bytes: frame, at: 4 };
        if i16::from_be_bytes(cursor.int()) != PRODUCE {
            let answer = wire::other(&frame[4..], self.partitions.len());
            connection.answers.push_back((0, answer));
            self.answer(number);
            return;
        }
        cursor.at += 2;
        let correlation: [u8; 4] = cursor.int();
        let client = u16::from_be_bytes(cursor.int());
        cursor.at += usize::from(client);
        cursor.tags();
        // No transaction; acks and timeout.
        cursor.at += 1 + 2 + 4;
        let mut answer = Vec::with_capacity(128);
        answer.extend([0; 4]);
        answer.extend(correlation);
        answer.push(0);
        let mut batches = 0;
        let topics = cursor.compact();
        wire::put_compact(&mut answer, topics);
        for _ in 0..topics {
            let name = cursor.compact();
            wire::put_compact(&mut answer, name);
            answer.extend_from_slice(cursor.take(name));
            let partitions = cursor.compact();
            wire::put_compact(&mut answer, partitions);
            for _ in 0..partitions {
                let index = i32::from_be_bytes(cursor.int());
                let len = cursor.compact();
                let batch = cursor.take(len);
                cursor.tags();
                let crc = u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]);
                assert_eq!(crc_fast::crc32_iscsi(&batch[21..]), crc, "a batch arrives as it was sent");
                let records = i32::from_be_bytes([batch[57], batch[58], batch[59], batch[60]]);
                let partition = &mut self.partitions[usize::try_from(index).expect("a partition")];
                let offset = partition.append(batch, i64::from(records), (number, request));
                wire::put_partition(&mut answer, index, offset);
                batches += 1;
            }
            cursor.tags();
            answer.push(0);
        }
        // Not throttled, no tags.
        answer.extend([0; 5]);
        let len = u32::try_from(answer.len() - 4).expect("a short answer");
        answer[..4].copy_from_slice(&len.to_be_bytes());
        connection.answers.push_back((batches, answer));
    }

    fn write(&mut self, number: usize) -> io::Result<()> {
        let partition = &mut self.partitions[number];
        if self.buffered {
            if partition.write_buffered()? {
                self.written(number);
            }
            return Ok(());
        }
        let file = types::Fd(partition.file.as_raw_fd());
        let Some((bytes, pos, cut)) = partition.begin_write() else { return Ok(()) };
        let parts = [(&bytes[..cut], pos), (&bytes[cut..], pos + cut as u64)];
        let entries = parts.map(|(part, pos)| {
            let len = u32::try_from(part.len()).expect("a small write");
            opcode::Write::new(file, part.as_ptr(), len).offset(pos).build()
        });
        let [first, second] = entries;
        if cut > 0 {
            self.push(first, WRITE, number);
        }
        self.push(second, WRITE, number);
        Ok(())
    }

    fn written(&mut self, number: usize) {
        let partition = &mut self.partitions[number];
        if self.durable {
            self.unsynced.append(&mut partition.written);
            return;
        }
        for waiter in std::mem::take(&mut partition.written) {
            self.done(waiter);
        }
    }

    /// A batch needs nothing more.
    fn done(&mut self, (number, request): Waiter) {
        let connection = &mut self.connections[number];
        let place = usize::try_from(request - connection.first).expect("few requests in flight");
        connection.answers[place].0 -= 1;
        self.answer(number);
    }

    fn answer(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        while let Some((0, _)) = connection.answers.front() {
            let (_, answer) = connection.answers.pop_front().expect("it was there");
            connection.first += 1;
            connection.unsent.extend(answer);
        }
    }

    fn send(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        if connection.is_sending {
            return;
        }
        if connection.sent == connection.sending.len() {
            connection.sending.clear();
            connection.sent = 0;
            std::mem::swap(&mut connection.sending, &mut connection.unsent);
        }
        let rest = &connection.sending[connection.sent..];
        if rest.is_empty() {
            return;
        }
        connection.is_sending = true;
        let socket = types::Fd(connection.socket.as_raw_fd());
        let len = u32::try_from(rest.len()).expect("a short answer");
        let entry = opcode::Send::new(socket, rest.as_ptr(), len).flags(NOSIGNAL).build();
        self.push(entry, SEND, number);
    }
}
