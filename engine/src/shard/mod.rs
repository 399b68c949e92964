//! The shard: one pinned thread, its Driver, its tasks, and its mailboxes to the other shards.
//!
//! Tasks are local futures: they never leave their shard, so they need no locks. Awake, a shard runs what
//! is ready and then takes a turn of its Driver; with nothing ready it sleeps there until an operation
//! ends, a timer is due or another shard sends a message.

mod executor;
mod mesh;
mod run;
pub mod sync;
mod timer;

pub use executor::{Executor, Load, PORTION, Portions, Shard, ShardId};
pub use mesh::{CALLS_MAX, Call, Mesh, MeshEnds, Reply, mesh_ends};
pub use run::{Placement, StartError, Stop, run};

#[cfg(test)]
mod tests;
