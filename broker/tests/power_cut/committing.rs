//! Consumers that commit offsets, as members of a group or without, and hold the broker to each commit that was acknowledged.
//!
//! What they commit are offsets of the topic that keeps them: it is never deleted.

use crate::client::{Connection, Door};
use crate::ledger::Ledger;
use bytes::Bytes;
use ringlog_engine::io::sim::Random;
use ringlog_engine::shard::Shard;
use ringlog_wire::ErrorCode;
use ringlog_wire::find_coordinator::FindCoordinatorRequest;
use ringlog_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ringlog_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringlog_wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use ringlog_wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// One consumer of a group of its own. It outlives the broker's processes.
pub(crate) struct Committer {
    pub(crate) shard: Shard,
    pub(crate) door: Door,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) stopping: Rc<Cell<bool>>,
    pub(crate) group: String,
    /// It joins its group.
    pub(crate) is_member: bool,
}

/// What a consumer keeps over its connections.
#[derive(Default)]
struct Memory {
    /// Commits so far; each is one higher.
    sent: i64,
    /// What the broker must tell: the last commit acknowledged or told, -1 for none.
    at: i64,
    /// What it may tell in its place: commits without an answer, and the life they were sent in. One that was sent over an older
    /// connection may still arrive behind newer ones.
    unanswered: BTreeMap<i64, u64>,
    /// Its id and generation in the group.
    member: Option<(String, i32)>,
    /// The last generation whose assignment was told.
    generation: i32,
}

/// The topic that keeps groups.
pub(crate) const TOPIC: &str = "__consumer_offsets";

impl Committer {
    /// Commits until told to stop.
    pub(crate) async fn run(mut self) {
        let mut memory = Memory { at: -1, ..Memory::default() };
        while !self.stopping.get() {
            let Some(mut connection) = self.door.connect().await else { return };
            let _ = self.talk(&mut connection, &mut memory).await;
            connection.close().await;
            self.pause(5_000).await;
        }
    }

    async fn pause(&mut self, micros: u64) {
        self.shard.sleep(Duration::from_micros(1 + self.random.below(micros))).await;
    }

    /// One connection, until it breaks or must be given up.
    async fn talk(&mut self, connection: &mut Connection, memory: &mut Memory) -> Option<()> {
        // The topic that keeps groups is created by who looks for a coordinator, so who is refused must look again.
        let request = FindCoordinatorRequest { key: self.group.as_str().into(), ..Default::default() };
        loop {
            match connection.call(3, &request).await?.error_code {
                ErrorCode::None => break,
                code => self.refused(connection, "a coordinator", code).await?,
            }
        }
        self.look(connection, memory).await?;
        while !self.stopping.get() {
            if self.is_member && memory.member.is_none() {
                self.join(connection, memory).await?;
            }
            self.commit(connection, memory).await?;
            if self.random.one_in(8) {
                self.look(connection, memory).await?;
            }
            if self.is_member && self.random.one_in(30) {
                // It has forgotten who it is, as after a start of its own.
                memory.member = None;
            }
            self.pause(3_000).await;
        }
        Some(())
    }

    /// Asks how far the group has come.
    async fn look(&mut self, connection: &mut Connection, memory: &mut Memory) -> Option<()> {
        let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![0] };
        let request = OffsetFetchRequest {
            group_id: self.group.as_str().into(),
            topics: Some(vec![topic]),
            require_stable: self.random.one_in(2),
            ..Default::default()
        };
        let response = loop {
            let response = connection.call(7, &request).await?;
            if response.error_code == ErrorCode::None {
                break response;
            }
            self.refused(connection, "a fetch of offsets", response.error_code).await?;
        };
        let row = &response.topics[0].partitions[0];
        assert_eq!(row.error_code, ErrorCode::None, "an offset of {}", self.group);
        let told = row.committed_offset;
        let may_be = told == memory.at || memory.unanswered.contains_key(&told);
        assert!(
            may_be,
            "group {} is at {told}, not at {} or one of {:?}",
            self.group, memory.at, memory.unanswered
        );
        memory.at = told;
        // What an older process had not done by its end is never done.
        memory.unanswered.retain(|_, life| *life == connection.life);
        let _ = self.ledger.tally(|tally| tally.offsets += 1);
        Some(())
    }

    async fn commit(&mut self, connection: &mut Connection, memory: &mut Memory) -> Option<()> {
        memory.sent += 1;
        let offset = memory.sent;
        let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let (member_id, generation) = memory.member.clone().unwrap_or((String::new(), -1));
        let request = OffsetCommitRequest {
            group_id: self.group.as_str().into(),
            member_id: member_id.into(),
            generation_id_or_member_epoch: generation,
            topics: vec![topic],
            ..Default::default()
        };
        memory.unanswered.insert(offset, connection.life);
        let response = connection.call(8, &request).await?;
        match response.topics[0].partitions[0].error_code {
            ErrorCode::None => {
                memory.unanswered.remove(&offset);
                memory.at = offset;
                let _ = self.ledger.tally(|tally| tally.commits += 1);
                Some(())
            }
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress
                if self.is_member =>
            {
                memory.unanswered.remove(&offset);
                memory.member = None;
                Some(())
            }
            // It may have been kept all the same, if only after its time.
            code => self.refused(connection, "a commit", code).await,
        }
    }

    /// Becomes the one member of its group; those that it was before are missed in time.
    async fn join(&mut self, connection: &mut Connection, memory: &mut Memory) -> Option<()> {
        let mut member_id = String::new();
        let joined = loop {
            let request = JoinGroupRequest {
                group_id: self.group.as_str().into(),
                session_timeout_ms: 100,
                rebalance_timeout_ms: 200,
                member_id: member_id.as_str().into(),
                protocol_type: "any".into(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: "one".into(),
                    metadata: Bytes::from_static(b"m"),
                }],
                ..Default::default()
            };
            let response = connection.call(5, &request).await?;
            match response.error_code {
                ErrorCode::None => break response,
                ErrorCode::MemberIdRequired => member_id = response.member_id.to_string(),
                ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress => member_id.clear(),
                code => self.refused(connection, "a join", code).await?,
            }
        };
        assert!(
            joined.generation_id > memory.generation,
            "group {} goes back from generation {} to {}",
            self.group,
            memory.generation,
            joined.generation_id
        );
        let assignment = Bytes::from(format!("{}:{}", joined.generation_id, joined.member_id));
        let part = |id| SyncGroupRequestAssignment { member_id: id, assignment: assignment.clone() };
        let request = SyncGroupRequest {
            group_id: self.group.as_str().into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: joined.members.iter().map(|member| part(member.member_id.clone())).collect(),
            ..Default::default()
        };
        let synced = connection.call(3, &request).await?;
        match synced.error_code {
            ErrorCode::None if joined.leader == joined.member_id => {
                assert_eq!(synced.assignment, assignment, "what the leader assigned to itself");
                memory.generation = joined.generation_id;
                memory.member = Some((joined.member_id.to_string(), joined.generation_id));
                let _ = self.ledger.tally(|tally| tally.generations += 1);
                Some(())
            }
            // Somebody whom it was before leads, and is missed in time.
            ErrorCode::None
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress => Some(()),
            code => self.refused(connection, "a sync", code).await,
        }
    }

    /// A broker that starts, stops or is slow says so, and is asked again; it has no other reason to refuse. `None` when it is time to go.
    async fn refused(&mut self, connection: &Connection, what: &str, code: ErrorCode) -> Option<()> {
        use ErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
        if !matches!(code, CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator) {
            self.ledger.failed(connection.life, &format!("{what} of {}: {code}", self.group));
        }
        self.pause(20_000).await;
        (!self.stopping.get()).then_some(())
    }
}
