//! One member of a group.

use super::record::StoredMember;
use super::request::{DescribedMember, Join, Ticket};
use bytes::Bytes;
use ringlog_engine::io::Instant;
use std::time::Duration;

/// A member, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, as the coordinator named it.
    pub id: String,
    /// The name of a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// After how long without a heartbeat it is gone, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long it may take to join again, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// What it can do, the best first.
    pub protocols: Vec<(String, Bytes)>,
    /// What it was assigned.
    pub assignment: Bytes,
    /// It has not seen a generation yet: it does not know its id, and so sends no heartbeats.
    pub is_new: bool,
    /// Its JoinGroup waits.
    pub joining: Option<Ticket>,
    /// Its SyncGroup waits.
    pub syncing: Option<Ticket>,
    /// When it is taken to be gone; `None` while it is waited for in another way.
    pub deadline: Option<Instant>,
}

impl Member {
    /// A member that joins for the first time.
    pub fn new(id: String, join: &Join, ticket: Ticket) -> Self {
        Self {
            id,
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            is_new: true,
            joining: Some(ticket),
            syncing: None,
            deadline: None,
        }
    }

    /// A member as it was stored, which can the protocol that was chosen then.
    pub fn stored(stored: StoredMember, protocol: &str) -> Self {
        Self {
            rebalance_timeout_ms: stored.rebalance_timeout_ms.unwrap_or(stored.session_timeout_ms),
            id: stored.id,
            instance: stored.instance,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_timeout_ms: stored.session_timeout_ms,
            protocols: vec![(protocol.to_owned(), stored.subscription)],
            assignment: stored.assignment,
            is_new: false,
            joining: None,
            syncing: None,
            deadline: None,
        }
    }

    /// What is kept of it, with this assignment.
    pub fn to_stored(&self, protocol: &str, assignment: Bytes) -> StoredMember {
        StoredMember {
            id: self.id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: Some(self.rebalance_timeout_ms),
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// How administrators see it; without a protocol there is no metadata to show.
    pub fn describe(&self, protocol: Option<&str>) -> DescribedMember {
        DescribedMember {
            id: self.id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol.map(|protocol| self.metadata(protocol)).unwrap_or_default(),
            assignment: self.assignment.clone(),
        }
    }

    /// What it says about itself under a protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether it can a protocol.
    pub fn can(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Whether nobody expects a heartbeat of it: it waits for an answer. A new member may be gone even then, since only its
    /// connection would tell, and that is not looked at.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// Its heartbeats are counted from now on.
    pub fn session(&self) -> Duration {
        millis(self.session_timeout_ms)
    }
}

/// A span of the protocol; negative ones are none.
pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
