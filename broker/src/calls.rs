//! What shards ask of each other, and of themselves: one shape whether a partition is here or elsewhere.
//!
//! A call is taken in at once, in the caller's order: what must happen in that order (an append, a place in a queue)
//! has happened when the handler returns. The answer may come later. Nothing that waits for data to arrive holds a
//! call open: a fetch that finds too little leaves a ticket, and the owner sends [`Call::Woken`] when there is more.

use crate::broker::{Offline, ShareAcknowledgements, ShareFound, ShareRead, StateAnswer};
use crate::cluster::{DataDirs, Image};
use crate::group::{GroupAnswer, GroupRequest, Listed, Ticket};
use crate::net::NewConnection;
use crate::partition::{Acks, AppendRefusal, EpochEnd, Found, Offset, PartitionId, Read, Reader, Sought};
use crate::share::{StateKey, StateRequest};
use bytes::Bytes;
use ringlog_engine::io::DirId;
use ringlog_engine::log::{KnownProducer, Left};
use ringlog_engine::shard;
use ringlog_wire::ErrorCode;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Mailboxes between the broker's shards.
pub type Mesh = shard::Mesh<Call, Answer>;
/// One shard's ends of them.
pub type MeshEnds = shard::MeshEnds<Call, Answer>;

/// One question to the shard that owns what it is about.
pub enum Call {
    /// Append clients' batches: [`Answer::Appended`], in the same order, when they are acknowledged.
    Append {
        /// Where each goes.
        batches: Vec<(PartitionId, Bytes)>,
        /// Whether there is hardly more than one of them in their memory.
        alone: bool,
        /// What the acknowledgement means.
        acks: Acks,
        /// How long it may take.
        timeout: Duration,
    },
    /// Read: [`Answer::Read`], in the same order.
    Read {
        /// What of each partition.
        reads: Vec<(PartitionId, Read)>,
        /// Bytes wanted at most, of all together; the first batch comes whatever its size.
        bytes_max: usize,
        /// Under which ticket to tell the caller ([`Call::Woken`]) when any of them has more.
        ticket: Option<u64>,
    },
    /// Forget a ticket of the caller's: [`Answer::Done`].
    Unpark(u64),
    /// A partition has more for the receiver's ticket: [`Answer::Done`].
    Woken(u64),
    /// Look offsets up: [`Answer::Found`], in the same order.
    Seek(Vec<Seek>),
    /// Where epochs end: [`Answer::EpochEnds`], in the same order.
    EpochEnds(Vec<EpochQuery>),
    /// These are the broker's data directories, and what journals hold of the logs in them: [`Answer::Done`]. Comes before the first image.
    Directories(Arc<DataDirs>, Arc<Mutex<Left>>),
    /// The journals of these data directories may be written: [`Answer::Done`].
    BeginJournals(Vec<DirId>),
    /// The image has changed: [`Answer::Done`] when the shard has opened and closed what it owns.
    Apply(Arc<Image>),
    /// This is offline: [`Answer::Done`].
    Offline(Offline),
    /// A disk is full: let go of what may go, at once: [`Answer::Done`].
    MakeRoom,
    /// Change the cluster's metadata (asked of shard 0): [`Answer::Control`].
    Control(crate::cluster::Request),
    /// A question to the coordinator of a group: [`Answer::Done`]; what it answers comes with [`Call::GroupAnswered`], which may be minutes
    /// later.
    Group {
        /// The partition that keeps the group.
        partition: PartitionId,
        /// The group.
        group: String,
        /// The question.
        request: GroupRequest,
        /// Whom to answer.
        ticket: Ticket,
    },
    /// The answer to a question of the receiver's, by its number: [`Answer::Done`].
    GroupAnswered(u64, GroupAnswer),
    /// List the groups that the shard coordinates: [`Answer::Groups`].
    ListGroups,
    /// Acquire records for a member of a share group: [`Answer::ShareFetched`], in the same order.
    ShareFetch {
        /// What.
        read: ShareRead,
        /// Under which ticket to tell the caller ([`Call::Woken`]) when there may be more.
        ticket: Option<u64>,
    },
    /// A member of a share group says what became of records: [`Answer::ShareAcknowledged`], in the same order, when that is durable.
    ShareAcknowledge(ShareAcknowledgements),
    /// A member of a share group has gone: [`Answer::Done`] when what it had is free.
    ShareRelease {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// What it read.
        partitions: Vec<PartitionId>,
    },
    /// Tell or change what is kept of a share partition: [`Answer::ShareState`], when it is durable.
    ShareState {
        /// The partition that keeps it.
        partition: PartitionId,
        /// Which share partition.
        key: StateKey,
        /// What.
        request: StateRequest,
    },
    /// What a share group has made of these topics is to be read anew: [`Answer::Done`].
    ShareForget {
        /// The group.
        group: String,
        /// The topics' ids.
        topics: Vec<[u8; 16]>,
    },
    /// Delete the records before these offsets, `None` for the high watermark: [`Answer::LogStarts`], in the same order, when it is durable.
    DeleteRecords(Vec<(PartitionId, Option<i64>)>),
    /// How large the shard's logs are: [`Answer::Sizes`].
    Sizes,
    /// The idempotent producers that partitions know: [`Answer::Producers`], in the same order.
    Producers(Vec<PartitionId>),
    /// How many connections the shard has: [`Answer::Load`].
    Load,
    /// Serve this connection, accepted by a shard that has more: [`Answer::Done`].
    Adopt(NewConnection),
}

/// One look-up.
#[derive(Debug, Clone, Copy)]
pub struct Seek {
    /// Where.
    pub partition: PartitionId,
    /// What.
    pub sought: Sought,
    /// For whom.
    pub reader: Reader,
    /// The leader epoch the client knows.
    pub current_leader_epoch: Option<i32>,
}

/// One question for the end of an epoch.
#[derive(Debug, Clone, Copy)]
pub struct EpochQuery {
    /// Where.
    pub partition: PartitionId,
    /// Which epoch.
    pub epoch: i32,
    /// The leader epoch the client knows.
    pub current_leader_epoch: Option<i32>,
}

/// What a shard answers.
pub enum Answer {
    /// Nothing to tell.
    Done,
    /// To [`Call::Append`].
    Appended(Vec<Result<Acknowledged, AppendRefusal>>),
    /// To [`Call::Read`].
    Read(Vec<Result<Found, ErrorCode>>),
    /// To [`Call::Seek`].
    Found(Vec<Result<Option<Offset>, ErrorCode>>),
    /// To [`Call::EpochEnds`].
    EpochEnds(Vec<Result<Option<EpochEnd>, ErrorCode>>),
    /// To [`Call::DeleteRecords`]: the first offset there is.
    LogStarts(Vec<Result<i64, ErrorCode>>),
    /// To [`Call::Sizes`]: the bytes of each log's batches.
    Sizes(Vec<(PartitionId, u64)>),
    /// To [`Call::Producers`].
    Producers(Vec<Result<Vec<KnownProducer>, ErrorCode>>),
    /// To [`Call::Load`]: the number itself, kept up to date.
    Load(Arc<AtomicUsize>),
    /// To [`Call::ListGroups`]; refused while some are being loaded.
    Groups(Result<Vec<Listed>, ErrorCode>),
    /// To [`Call::ShareFetch`].
    ShareFetched(Vec<Result<ShareFound, ErrorCode>>),
    /// To [`Call::ShareAcknowledge`].
    ShareAcknowledged(Vec<Result<(), ErrorCode>>),
    /// To [`Call::ShareState`]: what is kept, after it.
    ShareState(StateAnswer),
    /// To [`Call::Control`].
    Control(crate::cluster::Outcome),
}

/// An append that is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The broker's time, if that is what the topic's records carry.
    pub log_append_time: Option<i64>,
    /// The first offset there is.
    pub log_start: i64,
}
