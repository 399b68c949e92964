//! Share groups (KIP-932): members read the same partitions side by side, and acknowledge record by record.
//!
//! ```text
//!   api/share_group_heartbeat ─▶ the group's coordinator ─▶ ShareGroup ─▶ records in __consumer_offsets
//!   api/share_fetch, share_acknowledge ─▶ Session (the connection's shard)
//!       ─▶ the partition's shard: SharePartition ─▶ the shard that keeps its state: States ─▶ records in __share_group_state
//! ```
//!
//! - [`ShareGroup`] is who is in a group, [`SharePartition`] what has become of a partition's records in it, [`States`] what is kept of that:
//!   state machines without I/O and clock.
//! - What a member acknowledges is answered when it is durable in `__share_group_state`, in Apache Kafka's formats.
//! - `broker/sharing.rs` gives them the time, their logs, and whom to answer.

mod assignor;
mod compact;
mod config;
mod group;
mod group_record;
mod partition;
mod record;
mod session;
mod state;

pub use config::{OffsetReset, ShareConfig, state_topic};
pub use group::{DescribedShare, GroupLimits, Heartbeat, Refused, ShareGroup, Standing, Topics};
pub use group_record::{KINDS, KeptTopics, Partitions, ShareKept, ShareRecord, StoredMember};
pub use partition::{Acknowledgement, Acquire, Acquired, Change, Limits, Outcome, SharePartition};
pub use record::StateRecord;
pub use session::{Asked, Opened, Place, SessionError, Sessions};
pub use state::{Delivery, StateBatch, StateKey, StateRequest, States, Stored, Update};

/// The topic that keeps what has become of records in share groups.
pub const STATE_TOPIC: &str = "__share_group_state";
