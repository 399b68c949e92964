//! What is asked of a group's coordinator, and what it answers: between the APIs, on any shard, and the shard of the group's partition.

use super::offsets::Committed;
use crate::share::{DescribedShare, Heartbeat, KeptTopics, Refused, Standing};
use bytes::Bytes;
use ringlog_engine::shard::ShardId;
use ringlog_wire::ErrorCode;

/// Where an answer goes: who asked, and under which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// The shard that asked.
    pub shard: ShardId,
    /// Its number for the question.
    pub number: u64,
}

/// One question to the coordinator of a group.
#[derive(Debug, Clone)]
pub enum GroupRequest {
    /// Become a member, or take part in the next generation: [`GroupAnswer::Joined`].
    Join(Join),
    /// Learn what the member is assigned, and (from the leader) what all are: [`GroupAnswer::Synced`].
    Sync(Sync),
    /// The member lives: [`GroupAnswer::Done`].
    Heartbeat(MemberAt),
    /// Remove members: [`GroupAnswer::Left`].
    Leave(Vec<Leaving>),
    /// Keep offsets: [`GroupAnswer::Done`] when they are as durable as a produce with acks=all.
    Commit(Commit),
    /// Tell offsets: [`GroupAnswer::Fetched`].
    Fetch {
        /// Of which partitions, by topic; `None` for all there are.
        topics: Option<Vec<(String, Vec<i32>)>>,
    },
    /// Tell about the group: [`GroupAnswer::Described`].
    Describe,
    /// Delete the group with all its offsets: [`GroupAnswer::Done`].
    Delete,
    /// Forget offsets: [`GroupAnswer::OffsetsDeleted`].
    DeleteOffsets(Vec<(String, Vec<i32>)>),
    /// What is asked of a share group.
    Share(ShareRequest),
}

/// One question to the coordinator of a share group.
#[derive(Debug, Clone)]
pub enum ShareRequest {
    /// A member lives, joins or leaves: [`GroupAnswer::Stands`].
    Heartbeat(Heartbeat),
    /// Tell about the group: [`GroupAnswer::DescribedShare`].
    Describe,
    /// Tell of which topics state is kept: [`GroupAnswer::ShareTopics`].
    Topics,
    /// State of these topics is kept from now on: [`GroupAnswer::Done`].
    AddTopics(KeptTopics),
    /// State of these topics is kept no more: [`GroupAnswer::Done`].
    ForgetTopics(Vec<[u8; 16]>),
}

/// What the coordinator answers.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupAnswer {
    /// No, whatever was asked.
    Refused(ErrorCode),
    /// It is done.
    Done,
    /// To [`GroupRequest::Join`].
    Joined(Result<Joined, JoinRefusal>),
    /// To [`GroupRequest::Sync`].
    Synced(Synced),
    /// To [`GroupRequest::Leave`]: of each member, in the same order.
    Left(Vec<ErrorCode>),
    /// To [`GroupRequest::Fetch`].
    Fetched(Vec<FetchedTopic>),
    /// To [`GroupRequest::Describe`]; `None` if there is no such group.
    Described(Option<Described>),
    /// To [`GroupRequest::DeleteOffsets`]: the topics that are left alone because members subscribe to them.
    OffsetsDeleted(Vec<String>),
    /// To [`ShareRequest::Heartbeat`].
    Stands(Result<Standing, Refused>),
    /// To [`ShareRequest::Describe`]; `None` if there is no such share group.
    DescribedShare(Option<DescribedShare>),
    /// To [`ShareRequest::Topics`]; `None` if there is no such share group.
    ShareTopics(Option<ShareTopics>),
}

/// Of what a share group keeps state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareTopics {
    /// Whether it has members.
    pub has_members: bool,
    /// The topics.
    pub topics: KeptTopics,
}

/// What a group has committed in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic.
    pub topic: String,
    /// Partitions, each with its offset if there is one.
    pub partitions: Vec<(i32, Option<Committed>)>,
}

/// A JoinGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The member; `None` for one that is new.
    pub member: Option<String>,
    /// The name of a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: String,
    /// After how long without a heartbeat it is taken to be gone, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long it may take to join again, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// What kind of group it is.
    pub protocol_type: String,
    /// What it can do, the best first: names, and what it says about itself under each.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member is only given its id, to come back with it (KIP-394).
    pub id_required: bool,
    /// Whether a leader can be told to leave the assignment as it is (KIP-814).
    pub can_skip_assignment: bool,
}

/// A generation, as a member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub generation: i32,
    /// What kind of group it is.
    pub protocol_type: Option<String>,
    /// The protocol chosen.
    pub protocol: Option<String>,
    /// The member that makes the assignment.
    pub leader: String,
    /// The member that is answered.
    pub member: String,
    /// All members: ids, static names, metadata. For the leader alone.
    pub members: Vec<(String, Option<String>, Bytes)>,
    /// Whether the leader is to leave the assignment as it is.
    pub skip_assignment: bool,
}

/// Why a member does not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// The member's id, as it is told; empty for none.
    pub member: String,
}

/// A SyncGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// Who.
    pub member: MemberAt,
    /// What kind of group it takes this for.
    pub protocol_type: Option<String>,
    /// The protocol it takes to be chosen.
    pub protocol: Option<String>,
    /// What each member gets; from the leader.
    pub assignments: Vec<(String, Bytes)>,
}

/// A member's part of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// What kind of group it is.
    pub protocol_type: Option<String>,
    /// The protocol chosen.
    pub protocol: Option<String>,
    /// What the member gets.
    pub assignment: Bytes,
}

/// A member in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAt {
    /// Its id.
    pub id: String,
    /// The name of a static member.
    pub instance: Option<String>,
    /// The generation it knows.
    pub generation: i32,
}

/// A member that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Its id; `None` where it is named by its static name alone.
    pub member: Option<String>,
    /// The name of a static member.
    pub instance: Option<String>,
}

/// An OffsetCommit request.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Who; the generation is below 0 for one that is in no group.
    pub member: MemberAt,
    /// How long to keep the offsets, in milliseconds, where the client says.
    pub retention_ms: Option<i64>,
    /// Whether the client knows `GROUP_ID_NOT_FOUND` (from version 9).
    pub knows_not_found: bool,
    /// What to keep: topic, partition, offset, leader epoch, metadata.
    pub offsets: Vec<NewOffset>,
}

/// One offset to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the last record consumed.
    pub leader_epoch: Option<i32>,
    /// What the client keeps beside it.
    pub metadata: String,
}

/// A group as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// What kind of group it is.
    pub protocol_type: Option<String>,
    /// The protocol chosen, while the group is stable.
    pub protocol: Option<String>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: String,
    /// The name of a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it says about itself, while the group is stable.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The group.
    pub id: String,
    /// Whether it is a share group.
    pub is_share: bool,
    /// What kind of group it is.
    pub protocol_type: Option<String>,
    /// Kafka's name of its state.
    pub state: &'static str,
}
