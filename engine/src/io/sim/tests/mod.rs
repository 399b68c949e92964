//! The simulator's own laws: what a power cut may do, and that a seed repeats.

mod disk;
mod net;
mod toy_log;

use super::{ActorId, MachineId, Sim};
use crate::io::{DirId, Io};
use crate::shard::ShardId;
use bytes::Bytes;

const DIR: DirId = DirId(0);

/// One machine with one data directory, and a shard on it.
struct One {
    sim: Sim,
    machine: MachineId,
    actor: ActorId,
}

impl One {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let machine = sim.add_machine();
        sim.add_disk(machine, DIR, "/data");
        let actor = sim.start(machine, ShardId(0));
        Self { sim, machine, actor }
    }

    fn run<T: 'static, F: Future<Output = T> + 'static>(&mut self, main: impl FnOnce(Io) -> F) -> T {
        let io = self.sim.shard(self.actor).io().clone();
        self.sim.run(self.actor, main(io))
    }

    fn power_cut(&mut self) {
        self.sim.power_cut(self.machine);
        self.actor = self.sim.start(self.machine, ShardId(0));
    }

    fn kill(&mut self) {
        self.sim.kill(self.machine);
        self.actor = self.sim.start(self.machine, ShardId(0));
    }

    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.sim.read_file(self.machine, DIR, path)
    }
}

/// Bytes for a block write: this byte again and again, at an aligned address.
fn blocks(byte: u8, count: usize) -> Bytes {
    const BLOCK: usize = 4096;
    let memory = Bytes::from(vec![byte; (count + 1) * BLOCK]);
    let from = memory.as_ptr().align_offset(BLOCK);
    memory.slice(from..from + count * BLOCK)
}
