//! The simulator: a world with one seed, whose machines' clocks, disks and network obey nobody else.
//!
//! Every operation of every shard becomes an event that takes effect and ends some time later, in an order the seed
//! chooses. Disks keep apart what a live process reads and what would be there after a power cut, down to unwritten
//! extents, directory entries and torn writes. The same seed runs the same world again, which [`Sim::trace`] shows.
//!
//! ```text
//!   Sim ── turns ──▶ Executor (one per shard of each machine, and those of clients)
//!    │                  │ Op
//!    └── events ──▶ World: clock · random · disks per machine · network
//! ```
//!
//! In tests only: the product never contains it.

mod disk;
mod driver;
mod fault;
mod file;
mod net;
mod random;
mod runner;
#[cfg(test)]
mod tests;
mod world;

pub use disk::EntryOrder;
pub use fault::OpKind;
pub use random::Random;
pub use runner::{ActorId, MachineId, Parked, Sim};
