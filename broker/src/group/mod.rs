//! Consumer groups (the classic protocol): who is in a group, what each member gets, how far the group has come.
//!
//! ```text
//!   api/join_group … ─▶ Broker::ask_group ─▶ the shard of the group's partition of __consumer_offsets ─▶ Coordinator ─▶ Group
//!                                                                          │ Effects
//!                    ◀──────────── answers, by ticket ◀────────────────────┴─▶ records, appended as with acks=all
//! ```
//!
//! - [`Group`] is one group, [`Coordinator`] the groups of one partition: state machines without I/O and clock.
//! - [`record`] is what is kept of them: Apache Kafka's own formats, so that each can go on with the other's topic.
//! - `broker/coordinating.rs` gives them the time, their log, and whom to answer.

mod coordinator;
mod joining;
mod machine;
mod member;
mod offsets;
pub mod record;
mod request;
mod serving;
mod sharing;
mod subscription;
#[cfg(test)]
mod tests;

pub use coordinator::{Coordinator, append_failure};
pub use machine::{Effect, Group, Kept, Limits, Now, State, Then};
pub use offsets::{Committed, Offsets};
pub use request::{
    Commit, Described, DescribedMember, FetchedTopic, GroupAnswer, GroupRequest, Join, JoinRefusal, Joined,
    Leaving, Listed, MemberAt, NewOffset, ShareRequest, ShareTopics, Sync, Synced, Ticket,
};
pub use subscription::assigned_partitions;

use crate::cluster::NewTopic;
use crate::config::GroupConfig;

/// The topic that keeps groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The topic's partition that keeps a group: Java's hash of its name, as Kafka's clients and tools reckon too.
pub fn partition_for(group: &str, partitions: usize) -> i32 {
    let hash =
        group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `Utils.abs`: the one number without a positive is 0.
    let hash = hash.checked_abs().unwrap_or(0);
    hash % i32::try_from(partitions.max(1)).expect("partitions are counted in 32 bits")
}

/// The topic that keeps groups, as it is created when it is first needed.
pub fn offsets_topic(config: &GroupConfig) -> NewTopic {
    let set = |name: &str, value: String| (name.to_owned(), Some(value));
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: Some(config.offsets_partitions),
        // There is one broker: more replicas have to wait for more.
        replication_factor: Some(config.offsets_replication_factor.min(1)),
        configs: vec![
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", config.offsets_segment_bytes.to_string()),
        ],
        ..NewTopic::default()
    }
}
