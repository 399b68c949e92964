//! The simulated world: one clock, one source of randomness, and what is under way.

use super::disk::{Disk, os_error};
use super::driver::Bell;
use super::fault::{Faults, OpKind};
use super::net::{Net, NetEvent};
use super::random::{Random, mix};
use crate::io::{Completion, Counters, DirId, File, FileMode, Instant, Op, Outcome, Space, Token, WallTime};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct World {
    pub(super) random: Random,
    now: Instant,
    wall_millis: i64,
    /// What happens later, by when; what is due at the same instant comes in an order of the seed's.
    events: BTreeMap<(Instant, u64), Event>,
    drivers: Vec<DriverState>,
    machines: Vec<Machine>,
    pub(super) net: Net,
    next_id: u64,
    trace: u64,
    pub(super) speed: Speed,
}

pub(super) enum Event {
    /// A file operation takes effect and ends.
    File {
        driver: usize,
        token: Token,
    },
    Net(NetEvent),
}

struct DriverState {
    machine: usize,
    alive: bool,
    bell: Arc<Bell>,
    done: VecDeque<Completion>,
    files: BTreeMap<Token, PendingFile>,
    counters: Counters,
}

/// A file operation under way.
struct PendingFile {
    op: Op,
    /// What had taken effect on its disk when it was submitted.
    covered: u64,
}

#[derive(Default)]
struct Machine {
    disks: BTreeMap<DirId, Disk>,
    faults: Faults,
}

/// How long operations take: most this long, some much longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    pub(super) file: Duration,
    pub(super) net: Duration,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Some worlds are quick, in others everything takes its time and overlaps.
        let micros = [5, 50, 500][random.index(3)];
        let speed = Speed { file: Duration::from_micros(micros), net: Duration::from_micros(100) };
        Self {
            random,
            now: Instant::from_nanos(1_000_000_000),
            wall_millis: 1_700_000_000_000,
            events: BTreeMap::new(),
            drivers: Vec::new(),
            machines: Vec::new(),
            net: Net::default(),
            next_id: 0,
            trace: mix(seed),
            speed,
        }
    }

    // ---- time ----

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn wall_time(&self) -> WallTime {
        let millis = i64::try_from(self.now.as_nanos() / 1_000_000).expect("a world ends before its clock");
        WallTime(self.wall_millis + millis)
    }

    pub(super) fn jump_wall_time(&mut self, millis: i64) {
        self.wall_millis += millis;
    }

    /// Time passes; nothing happens.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    pub(super) fn move_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next event happens, if it comes before `until`; else the clock moves there. False when nothing happened.
    pub(super) fn advance(&mut self, until: Option<Instant>) -> bool {
        match self.next_event() {
            Some(at) if until.is_none_or(|until| at <= until) => {
                let ((at, _), event) = self.events.pop_first().expect("just seen");
                self.move_to(at);
                match event {
                    Event::File { driver, token } => self.end_file_op(driver, token),
                    Event::Net(event) => self.net_event(event),
                }
                true
            }
            _ => {
                if let Some(until) = until {
                    self.move_to(until);
                }
                false
            }
        }
    }

    pub(super) fn schedule(&mut self, usual: Duration, event: Event) {
        let nanos = u64::try_from(usual.as_nanos()).expect("short");
        let span = match self.random.below(64) {
            0 => self.random.within(1, nanos * 100),
            1..8 => self.random.within(1, nanos * 10),
            _ => self.random.within(1, nanos * 2),
        };
        let at = self.now + Duration::from_nanos(span);
        let order = self.random.bits();
        self.events.insert((at, order), event);
    }

    /// The connections on their way to an address, which will not arrive.
    pub(super) fn take_arrivals(&mut self, address: SocketAddr) -> Vec<u64> {
        let mut ends = Vec::new();
        self.events.retain(|_, event| match event {
            Event::Net(NetEvent::Arrived { listener_address, end, .. }) if *listener_address == address => {
                ends.push(*end);
                false
            }
            _ => true,
        });
        ends
    }

    // ---- machines and Drivers ----

    pub(super) fn add_machine(&mut self) -> usize {
        self.machines.push(Machine::default());
        self.machines.len() - 1
    }

    pub(super) fn add_disk(&mut self, machine: usize, dir: DirId, disk: Disk) {
        let before = self.machines[machine].disks.insert(dir, disk);
        assert!(before.is_none(), "each data directory is added once");
    }

    pub(super) fn disk(&mut self, machine: usize, dir: DirId) -> &mut Disk {
        self.machines[machine].disks.get_mut(&dir).expect("the machine has this data directory")
    }

    pub(super) fn faults(&mut self, machine: usize) -> &mut Faults {
        &mut self.machines[machine].faults
    }

    pub(super) fn add_driver(&mut self, machine: usize, bell: Arc<Bell>) -> usize {
        self.drivers.push(DriverState {
            machine,
            alive: true,
            bell,
            done: VecDeque::new(),
            files: BTreeMap::new(),
            counters: Counters::default(),
        });
        self.drivers.len() - 1
    }

    pub(super) fn machine_of(&self, driver: usize) -> usize {
        self.drivers[driver].machine
    }

    pub(super) fn counters_of(&mut self, driver: usize) -> &mut Counters {
        &mut self.drivers[driver].counters
    }

    pub(super) fn has_completions(&self, driver: usize) -> bool {
        !self.drivers[driver].done.is_empty()
    }

    /// Whether this Driver's next turn would find something.
    pub(super) fn is_awake(&self, driver: usize) -> bool {
        self.has_completions(driver) || self.drivers[driver].bell.is_rung()
    }

    pub(super) fn take_completions(&mut self, driver: usize, done: &mut Vec<Completion>) {
        done.extend(self.drivers[driver].done.drain(..));
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // ---- operations ----

    pub(super) fn submit(&mut self, driver: usize, token: Token, op: Op) {
        if !self.drivers[driver].alive {
            // The tasks of a machine that has crashed are being dropped.
            return;
        }
        let Some(kind) = OpKind::of(&op) else { return self.submit_net(driver, token, op) };
        self.note(1, driver as u64, token.0, kind as u64);
        let counters = self.counters_of(driver);
        match kind {
            OpKind::Sync => counters.sync_requests += 1,
            OpKind::Write | OpKind::Read | OpKind::SendFile => {}
            _ => counters.jobs += 1,
        }
        if let Op::Write { file, .. } = &op
            && file.mode() == FileMode::Blocks
        {
            let grows = |pending: &PendingFile| matches!(&pending.op, Op::Prepare { file: other, space: Space::Allocated, .. } if other.id() == file.id());
            let files = &self.drivers[driver].files;
            assert!(
                !files.values().any(grows),
                "a direct write waits, off the core, for the lock of a file that grows"
            );
        }
        let machine = self.machine_of(driver);
        let covered = dir_of(&op).map_or(0, |dir| self.disk(machine, dir).sequence());
        self.drivers[driver].files.insert(token, PendingFile { op, covered });
        self.schedule(self.speed.file, Event::File { driver, token });
    }

    pub(super) fn cancel(&mut self, driver: usize, token: Token) {
        // File operations run on to their end; the seam allows either.
        if self.drivers[driver].alive && !self.drivers[driver].files.contains_key(&token) {
            self.cancel_net(driver, token);
        }
    }

    pub(super) fn complete(&mut self, driver: usize, token: Token, outcome: Outcome, more: bool) {
        let weight = match &outcome {
            Outcome::Count(Ok(count)) => *count,
            Outcome::Received(Ok(bytes)) => content_mark(bytes),
            Outcome::Accepted(Ok((socket, _))) => socket.id(),
            Outcome::Opened(Ok((_, len))) => *len,
            Outcome::Listing(Ok(entries)) => entries.len() as u64,
            _ => u64::MAX,
        };
        self.note(2, driver as u64, token.0, weight);
        let state = &mut self.drivers[driver];
        if state.alive {
            state.done.push_back(Completion { token, outcome, more });
        }
    }

    fn end_file_op(&mut self, driver: usize, token: Token) {
        if !self.drivers[driver].alive {
            return;
        }
        let PendingFile { op, covered } =
            self.drivers[driver].files.remove(&token).expect("it ends once, and was pending");
        if let Op::SendFile { socket, file, pos, len } = op {
            return self.send_file(driver, token, socket, &file, pos, len);
        }
        let outcome = self.run_file_op(driver, op, covered);
        self.complete(driver, token, outcome, false);
    }

    fn run_file_op(&mut self, driver: usize, op: Op, covered: u64) -> Outcome {
        let id = self.new_id();
        let machine = self.machine_of(driver);
        let kind = OpKind::of(&op).expect("a file operation");
        let fault = self.machines[machine].faults.draw(kind, &mut self.random);
        if let Op::Compute { work } = &op {
            work.run();
        }
        let Some(dir) = dir_of(&op) else { return Outcome::Count(Ok(0)) };
        if let Some(error) = fault {
            return self.run_faulty(machine, dir, kind, op, covered, error);
        }
        let outcome = self.disk(machine, dir).run(op, covered, id);
        let counters = self.counters_of(driver);
        match (&outcome, kind) {
            (Outcome::Count(Ok(count)), OpKind::Write) => counters.bytes_written += count,
            (Outcome::Received(Ok(bytes)), OpKind::Read) => counters.bytes_read += bytes.len() as u64,
            (_, OpKind::Sync | OpKind::SyncFile) => counters.syncs += 1,
            _ => {}
        }
        outcome
    }

    /// A write that fails may have written a part; a sync that fails is the device's last.
    fn run_faulty(
        &mut self,
        machine: usize,
        dir: DirId,
        kind: OpKind,
        op: Op,
        covered: u64,
        error: i32,
    ) -> Outcome {
        let failed = failure(&op, error);
        if kind.is_sync() {
            let disk = self.machines[machine].disks.get_mut(&dir).expect("the operation is about it");
            disk.fail(&op, covered, &mut self.random);
        }
        if let Op::Write { file, mut pos, bytes, more } = op {
            let parts = || iter::once(&bytes).chain(&more);
            let blocks = parts().map(Bytes::len).sum::<usize>() as u64 / super::file::BLOCK;
            let end = pos + self.random.within(0, blocks) * super::file::BLOCK;
            for part in parts() {
                let len = usize::try_from(end - pos).expect("part of a buffer").min(part.len());
                if len > 0 {
                    let (file, bytes) = (file.clone(), part.slice(..len));
                    let write = Op::Write { file, pos, bytes, more: Vec::new() };
                    let _ = self.disk(machine, dir).run(write, covered, 0);
                    pos += len as u64;
                }
            }
        }
        failed
    }

    fn send_file(
        &mut self,
        driver: usize,
        token: Token,
        socket: crate::io::Socket,
        file: &File,
        pos: u64,
        len: u64,
    ) {
        let len_wanted = usize::try_from(len).expect("a simulated file fits in memory");
        match self.run_file_op(driver, Op::Read { file: file.clone(), pos, len: len_wanted }, 0) {
            Outcome::Received(Ok(bytes)) => {
                self.submit_net(driver, token, Op::Send { socket, parts: vec![bytes] })
            }
            Outcome::Received(Err(error)) => self.complete(driver, token, Outcome::Count(Err(error)), false),
            other => panic!("a read answered {other:?}"),
        }
    }

    // ---- crashes ----

    /// All Drivers of a machine stop; what was under way may have taken effect or not. Returns whether it had any.
    pub(super) fn stop_drivers(&mut self, machine: usize) {
        for driver in 0..self.drivers.len() {
            if self.drivers[driver].machine != machine || !self.drivers[driver].alive {
                continue;
            }
            let mut under_way: Vec<PendingFile> =
                std::mem::take(&mut self.drivers[driver].files).into_values().collect();
            while !under_way.is_empty() {
                let index = self.random.index(under_way.len());
                let PendingFile { op, covered } = under_way.swap_remove(index);
                // A sync that did not end promised nothing, and what it would cover may survive anyhow; nobody gets what is read.
                let kind = OpKind::of(&op).expect("a file operation");
                if let Some(dir) = dir_of(&op)
                    && !kind.is_sync()
                    && kind != OpKind::SendFile
                    && self.random.one_in(2)
                {
                    let id = self.new_id();
                    let _ = self.disk(machine, dir).run(op, covered, id);
                }
            }
            self.drivers[driver].alive = false;
            self.drivers[driver].done.clear();
        }
        self.events.retain(|_, event| {
            !matches!(event, Event::File { driver, .. } if self.drivers[*driver].machine == machine)
        });
    }

    pub(super) fn power_cut_disks(&mut self, machine: usize) {
        for disk in self.machines[machine].disks.values_mut() {
            disk.power_cut(&mut self.random);
        }
        self.note(3, machine as u64, 0, 0);
    }

    pub(super) fn kill_disks(&mut self, machine: usize) {
        for disk in self.machines[machine].disks.values_mut() {
            disk.kill(&mut self.random);
        }
        self.note(4, machine as u64, 0, 0);
    }

    /// The world ends: nothing of it is looked at any more.
    pub(super) fn forget(&mut self) {
        self.drivers.iter_mut().for_each(|driver| driver.alive = false);
        self.events.clear();
        self.machines.clear();
        self.net = Net::default();
    }

    // ---- the trace ----

    /// Takes one more step into the hash of everything that happened.
    pub(super) fn note(&mut self, what: u64, first: u64, second: u64, third: u64) {
        for word in [what, first, second, third, self.now.as_nanos()] {
            self.trace = mix(self.trace ^ word);
        }
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }
}

/// The data directory an operation is about; `None` for a `Close` and an empty sync, which are about none.
fn dir_of(op: &Op) -> Option<DirId> {
    match op {
        Op::Open { dir, .. }
        | Op::Create { dir, .. }
        | Op::Blank { dir, .. }
        | Op::Recycle { dir, .. }
        | Op::Rename { dir, .. }
        | Op::Unlink { dir, .. }
        | Op::MakeDir { dir, .. }
        | Op::RemoveDir { dir, .. }
        | Op::SyncDir { dir, .. }
        | Op::SyncFileSystem { dir, .. }
        | Op::List { dir, .. }
        | Op::Capacity { dir, .. } => Some(*dir),
        Op::Write { file, .. }
        | Op::Read { file, .. }
        | Op::Prepare { file, .. }
        | Op::Zero { file, .. }
        | Op::Truncate { file, .. }
        | Op::SyncFile { file }
        | Op::SendFile { file, .. } => Some(file.dir()),
        Op::Sync { items } => {
            let dir = items.first()?.file.dir();
            assert!(items.iter().all(|item| item.file.dir() == dir), "a sync is about one device");
            Some(dir)
        }
        Op::Close { .. }
        | Op::Compute { .. }
        | Op::Accept { .. }
        | Op::Recv { .. }
        | Op::RecvExact { .. }
        | Op::HangUp { .. }
        | Op::Send { .. }
        | Op::CloseSocket { .. } => None,
    }
}

/// The outcome of an operation that fails.
fn failure(op: &Op, error: i32) -> Outcome {
    let error: io::Error = os_error(error);
    match op {
        Op::Read { .. } => Outcome::Received(Err(error)),
        Op::Open { .. } | Op::Create { .. } | Op::Blank { .. } | Op::Recycle { .. } => {
            Outcome::Opened(Err(error))
        }
        Op::List { .. } => Outcome::Listing(Err(error)),
        Op::Capacity { .. } => Outcome::Capacity(Err(error)),
        _ => Outcome::Count(Err(error)),
    }
}

/// Stands for these bytes in the trace.
fn content_mark(bytes: &Bytes) -> u64 {
    let ends =
        bytes.first().zip(bytes.last()).map_or(0, |(first, last)| u64::from(*first) << 8 | u64::from(*last));
    (bytes.len() as u64) << 16 | ends
}
