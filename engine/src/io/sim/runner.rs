//! Runs a simulated world: turns its shards and lets its events happen, one at a time, as the seed says.

use super::disk::{Disk, EntryOrder};
use super::driver::SimDriver;
use super::fault::OpKind;
use super::world::World;
use crate::io::{DirId, Driver, Instant, Socket, WallTime};
use crate::shard::{Executor, Shard, ShardId};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

impl Drop for Sim {
    /// What a shard's tasks have left behind may hold the world for ever; its disks and what is on their way need not stay.
    fn drop(&mut self) {
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.forget();
        }
    }
}

/// One machine: its disks outlive its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineId(usize);

/// One running shard of some machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActorId(usize);

/// Nothing is ready, nothing is under way and no timer is set: nothing will ever happen again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked;

impl fmt::Display for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parked for ever: no task is ready, no operation under way, no timer set")
    }
}

impl std::error::Error for Parked {}

/// A world and the shards that live in it.
pub struct Sim {
    world: Rc<RefCell<World>>,
    /// In the order in which they were started; `None` once crashed or stopped.
    actors: Vec<Option<Actor>>,
}

struct Actor {
    machine: usize,
    driver: usize,
    executor: Executor,
    /// Has not had a turn yet: it may have work its Driver knows nothing of.
    fresh: bool,
}

impl Sim {
    /// The world of this seed, without machines.
    pub fn new(seed: u64) -> Self {
        Self { world: Rc::new(RefCell::new(World::new(seed))), actors: Vec::new() }
    }

    // ---- building ----

    /// One more machine, without disks.
    pub fn add_machine(&mut self) -> MachineId {
        MachineId(self.world.borrow_mut().add_machine())
    }

    /// Gives a machine an empty data directory, known to its operations as `dir`, at this path.
    pub fn add_disk(&mut self, machine: MachineId, dir: DirId, root: impl AsRef<Path>) {
        self.world.borrow_mut().add_disk(machine.0, dir, Disk::new(dir, root.as_ref()));
    }

    /// Starts a shard on a machine.
    pub fn start(&mut self, machine: MachineId, id: ShardId) -> ActorId {
        let driver = SimDriver::new(self.world.clone(), machine.0, false);
        let index = driver.index();
        let executor = Executor::new(id, Box::new(driver));
        self.actors.push(Some(Actor { machine: machine.0, driver: index, executor, fresh: true }));
        ActorId(self.actors.len() - 1)
    }

    /// A Driver for a shard that is driven by hand: alone in its world, it lets time pass when it sleeps.
    pub fn driver(&mut self, machine: MachineId) -> Box<dyn Driver> {
        Box::new(SimDriver::new(self.world.clone(), machine.0, true))
    }

    /// The shard of an actor that has not crashed.
    pub fn shard(&self, actor: ActorId) -> Shard {
        self.actor(actor).executor.shard().clone()
    }

    fn actor(&self, actor: ActorId) -> &Actor {
        self.actors[actor.0].as_ref().expect("this shard has crashed or stopped")
    }

    // ---- running ----

    /// One thing happens: a shard has a turn, or an event, or the clock moves to the next of those.
    pub fn step(&mut self) -> Result<(), Parked> {
        let now = self.now();
        let ready: Vec<usize> = (0..self.actors.len()).filter(|&index| self.is_ready(index, now)).collect();
        let due = self.world.borrow().next_event().is_some_and(|at| at <= now);
        if ready.is_empty() && !due {
            return self.sleep();
        }
        let chosen = self.world.borrow_mut().random.index(ready.len() + usize::from(due));
        match ready.get(chosen) {
            Some(&index) => self.turn(index),
            None => {
                self.world.borrow_mut().advance(Some(now));
            }
        }
        Ok(())
    }

    fn is_ready(&self, index: usize, now: Instant) -> bool {
        self.actors[index].as_ref().is_some_and(|actor| {
            actor.fresh
                || actor.executor.is_ready()
                || self.world.borrow().is_awake(actor.driver)
                || actor.executor.next_timer().is_some_and(|at| at <= now)
        })
    }

    fn turn(&mut self, index: usize) {
        {
            let mut world = self.world.borrow_mut();
            world.note(7, index as u64, 0, 0);
            // Running takes time, or a task that polls the clock would wait for ever.
            let nanos = world.random.within(100, 20_000);
            world.pass(Duration::from_nanos(nanos));
        }
        let actor = self.actors[index].as_mut().expect("a ready one");
        actor.fresh = false;
        actor.executor.turn(false);
    }

    /// All is idle: the clock jumps.
    fn sleep(&mut self) -> Result<(), Parked> {
        let timers = self.actors.iter().flatten().filter_map(|actor| actor.executor.next_timer());
        let timer = timers.min();
        let event = self.world.borrow().next_event();
        let next = match (timer, event) {
            (Some(timer), Some(event)) => timer.min(event),
            (one, other) => one.or(other).ok_or(Parked)?,
        };
        self.world.borrow_mut().move_to(next);
        Ok(())
    }

    /// Steps until this holds.
    pub fn run_until(&mut self, mut holds: impl FnMut() -> bool) -> Result<(), Parked> {
        while !holds() {
            self.step()?;
        }
        Ok(())
    }

    /// Steps until the clock has moved this far, or all is parked.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now() + span;
        while self.now() < until && self.step().is_ok() {}
    }

    /// Runs a future on a shard, and everything else with it, until it ends.
    ///
    /// # Panics
    /// When all is parked before it ends.
    pub fn run<T: 'static>(&mut self, actor: ActorId, main: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.actor(actor).executor.shard().spawn(async move {
            let value = main.await;
            *slot.borrow_mut() = Some(value);
        });
        if let Err(parked) = self.run_until(|| result.borrow().is_some()) {
            panic!("{parked}");
        }
        let value = result.borrow_mut().take();
        value.expect("just seen")
    }

    // ---- crashes ----

    /// The machine's power goes, now: its shards are gone, and of what was not durable its disks keep what the seed
    /// lets survive.
    pub fn power_cut(&mut self, machine: MachineId) {
        self.end_process(machine);
        self.world.borrow_mut().power_cut_disks(machine.0);
    }

    /// The machine's process is killed, now: what it had given to the kernel stays.
    pub fn kill(&mut self, machine: MachineId) {
        self.end_process(machine);
        self.world.borrow_mut().kill_disks(machine.0);
    }

    fn end_process(&mut self, machine: MachineId) {
        {
            let mut world = self.world.borrow_mut();
            world.stop_drivers(machine.0);
            world.drop_sockets(machine.0);
        }
        // Dropping the tasks may still submit operations, which go nowhere: the world must not be borrowed.
        for actor in &mut self.actors {
            if actor.as_ref().is_some_and(|actor| actor.machine == machine.0) {
                *actor = None;
            }
        }
    }

    /// Ends one shard in order: its tasks are dropped, its operations end.
    pub fn stop(&mut self, actor: ActorId) {
        if let Some(actor) = self.actors[actor.0].take() {
            actor.executor.finish();
        }
    }

    // ---- time, trace ----

    /// Monotonic time, the same on all machines.
    pub fn now(&self) -> Instant {
        self.world.borrow().now()
    }

    /// Wall-clock time.
    pub fn wall_time(&self) -> WallTime {
        self.world.borrow().wall_time()
    }

    /// Sets the wall clock forward or back.
    pub fn jump_wall_time(&mut self, millis: i64) {
        self.world.borrow_mut().jump_wall_time(millis);
    }

    /// A hash of all that has happened: equal for equal seeds and equal programs.
    pub fn trace(&self) -> u64 {
        self.world.borrow().trace()
    }

    /// A number below `end`, out of the world's seed, for what a test chooses.
    pub fn random_below(&mut self, end: u64) -> u64 {
        self.world.borrow_mut().random.below(end)
    }

    // ---- faults ----

    /// From now on one in `odds` operations of this kind fails on this machine, with this errno.
    pub fn fail_by_chance(&mut self, machine: MachineId, kind: OpKind, odds: u64, errno: i32) {
        self.world.borrow_mut().faults(machine.0).by_chance(kind, odds, errno);
    }

    /// The operation of this kind that ends after `skip` others fails, once, with this errno.
    pub fn fail_once(&mut self, machine: MachineId, kind: OpKind, skip: u32, errno: i32) {
        self.world.borrow_mut().faults(machine.0).script(kind, skip, errno);
    }

    /// Nothing fails any more, by chance or by script.
    pub fn clear_faults(&mut self, machine: MachineId) {
        self.world.borrow_mut().faults(machine.0).clear();
    }

    /// One in `odds` pieces carried over the network resets its connection; 0: none.
    pub fn reset_connections(&mut self, odds: u64) {
        self.world.borrow_mut().net.reset_odds = odds;
    }

    /// How long file operations usually take; some take a hundred times that.
    pub fn set_file_time(&mut self, usual: Duration) {
        self.world.borrow_mut().speed.file = usual;
    }

    /// What survives of directory changes; [`EntryOrder::Any`] unless told otherwise.
    pub fn set_entry_order(&mut self, machine: MachineId, dir: DirId, order: EntryOrder) {
        self.world.borrow_mut().disk(machine.0, dir).entry_order = order;
    }

    /// How many bytes all files of a data directory may take together.
    pub fn set_capacity(&mut self, machine: MachineId, dir: DirId, bytes: u64) {
        self.world.borrow_mut().disk(machine.0, dir).capacity = bytes;
    }

    /// Bytes that all files of a data directory take.
    pub fn used(&self, machine: MachineId, dir: DirId) -> u64 {
        self.world.borrow_mut().disk(machine.0, dir).used()
    }

    /// Files of a data directory that have been written over under another name.
    pub fn recycled(&self, machine: MachineId, dir: DirId) -> u64 {
        self.world.borrow_mut().disk(machine.0, dir).recycled()
    }

    // ---- files and sockets, from outside ----

    /// A file's content as a live process would read it; `None` where there is none.
    pub fn read_file(&self, machine: MachineId, dir: DirId, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.world.borrow_mut().disk(machine.0, dir).content_of(path.as_ref())
    }

    /// The paths of all files of a data directory, as a live process would find them.
    pub fn files(&self, machine: MachineId, dir: DirId) -> Vec<PathBuf> {
        self.world.borrow_mut().disk(machine.0, dir).files()
    }

    /// Puts a durable file there, and the directories above it.
    pub fn put_file(
        &mut self,
        machine: MachineId,
        dir: DirId,
        path: impl AsRef<Path>,
        content: &[u8],
    ) -> io::Result<()> {
        self.world.borrow_mut().disk(machine.0, dir).put(path.as_ref(), content)
    }

    /// Changes bytes of a file, durably, as a bad disk would.
    pub fn damage_file(
        &mut self,
        machine: MachineId,
        dir: DirId,
        path: impl AsRef<Path>,
        pos: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.world.borrow_mut().disk(machine.0, dir).damage(path.as_ref(), pos, bytes)
    }

    /// A connection from a machine to an address, for a client's shard there: it receives and sends by the same
    /// operations. Refused when nobody listens.
    pub fn connect(&mut self, machine: MachineId, address: SocketAddr) -> io::Result<Socket> {
        self.world.borrow_mut().connect(machine.0, address)
    }

    /// The connection breaks, for both ends.
    pub fn reset(&mut self, socket: &Socket) {
        self.world.borrow_mut().reset(socket.id());
    }

    /// This end sends no more, and may still receive (half-close).
    pub fn finish_sending(&mut self, socket: &Socket) {
        self.world.borrow_mut().finish_sending(socket.id());
    }
}
