//! One group of the classic protocol as a state machine: requests and the time go in, answers and records to be kept come out.
//!
//! ```text
//!            first member           everybody has joined,          the leader's assignment
//!            joins                  or their time is up            is kept
//!   Empty ────────────▶ PreparingRebalance ────────▶ CompletingRebalance ────────▶ Stable
//!     ▲                   │      ▲      ▲                     │                      │
//!     └───────────────────┘      │      └─────────────────────┘                      │
//!      nobody is left            └────────────────────────────────────────────────────┘
//!                                 a member joins, leaves, is gone, or says something new
//! ```
//!
//! It neither reads a clock nor waits nor writes: what it wants done is in [`Effect`]s, in order, and [`Group::kept`] tells it what came
//! of a record. Rules and codes are those of Apache Kafka's `GroupMetadataManager` and `ClassicGroup`. Joining is in
//! `joining.rs`, all else that members ask in `serving.rs`.

use super::member::{Member, millis};
use super::record::{GroupRecord, StoredGroup};
use super::request::{Described, GroupAnswer, Join, JoinRefusal, Joined, Listed, Synced, Ticket};
use super::subscription;
use bytes::Bytes;
use ringlog_engine::io::{Instant, WallTime};
use ringlog_wire::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The time, both of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub at: Instant,
    /// For what is kept.
    pub wall: WallTime,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Answer(Ticket, GroupAnswer),
    /// Answer a request as soon as all records appended until now are durable: what it says must not be taken back.
    AnswerKept(Ticket, GroupAnswer),
    /// Append records, all or none.
    Append(Vec<GroupRecord>, Then),
}

/// What follows when records are durable, or are not.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// Nothing that anybody waits for.
    Nothing,
    /// An answer; [`GroupAnswer::Refused`] if they are not.
    Answer(Ticket, GroupAnswer),
    /// The group goes on.
    Group(String, Kept),
}

/// For what a group's record was kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// The leader's assignment for a generation.
    Assignment {
        /// The generation.
        generation: i32,
        /// What each member gets.
        assignment: BTreeMap<String, Bytes>,
    },
    /// A static member has come back under a new id, and nothing else has changed.
    Replaced {
        /// The member as it was.
        old: Box<Member>,
        /// Its new id.
        new: String,
        /// Who was the leader before.
        leader: Option<String>,
        /// Whether it can be told to leave the assignment as it is.
        can_skip_assignment: bool,
    },
}

/// What bounds groups: part of the broker's configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a group that was empty waits for more members to join (`group.initial.rebalance.delay.ms`).
    pub initial_delay: Duration,
    /// How many members a group has at most (`group.max.size`).
    pub members_max: usize,
}

/// How long a new member's JoinGroup is held before it is taken to be gone (Kafka's `CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
pub(super) const NEW_MEMBER_WAIT: Duration = Duration::from_secs(5 * 60);

/// The kind of group whose members' metadata says what they subscribe to.
pub(super) const CONSUMER: &str = "consumer";

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no members.
    Empty,
    /// Members are joining.
    Preparing {
        /// The group was empty: it waits for more members than are there.
        initial: bool,
    },
    /// They have joined, and the leader is making the assignment.
    Completing,
    /// Every member has, or can have, its assignment.
    Stable,
}

impl State {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// When the joining of members ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinTimer {
    /// With whoever has come by then.
    End(Instant),
    /// So too, unless members have come since it was set: then it is set again, as long as there is time left.
    Initial { at: Instant, delay: Duration, remaining: Duration },
}

impl JoinTimer {
    fn at(self) -> Instant {
        match self {
            Self::End(at) | Self::Initial { at, .. } => at,
        }
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub(super) id: String,
    pub(super) state: State,
    /// Since when; `None` where the oldest records do not say.
    pub(super) since: Option<i64>,
    pub(super) generation: i32,
    /// What kind of group it is: `None` before its first member, and for one that only keeps offsets.
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// The ids of static members, by their names.
    pub(super) instances: BTreeMap<String, String>,
    /// Members that were given an id and have not come back with it, and until when they may.
    pub(super) promised: BTreeMap<String, Instant>,
    /// Members whose SyncGroup has not come in this generation.
    pub(super) unsynced: BTreeSet<String>,
    /// What the members subscribe to, where they say.
    pub(super) topics: Option<BTreeSet<String>>,
    /// Members have come since the initial delay was set.
    pub(super) grown: bool,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_timer: Option<Instant>,
    /// No deadline lies before this.
    next: Option<Instant>,
}

impl Group {
    /// A group without members.
    pub fn new(id: &str, wall: WallTime) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            since: Some(wall.0),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            promised: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            topics: None,
            grown: false,
            join_timer: None,
            sync_timer: None,
            next: None,
        }
    }

    /// A group as it was stored.
    pub fn stored(id: &str, stored: StoredGroup) -> Self {
        let mut group = Self::new(id, WallTime(0));
        let protocol = stored.protocol.clone().unwrap_or_default();
        group.since = stored.since;
        group.generation = stored.generation;
        group.protocol_type = Some(stored.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol = stored.protocol;
        for member in stored.members {
            let member = Member::stored(member, &protocol);
            if let Some(instance) = &member.instance {
                group.instances.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), member);
        }
        let known = |leader: &String| group.members.contains_key(leader);
        group.leader = stored.leader.filter(known).or_else(|| group.members.keys().next().cloned());
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group.topics = group.subscribed();
        group
    }

    /// The group is served from now on: its members' heartbeats are expected.
    pub fn activate(&mut self, now: Now, limits: &Limits, out: &mut Vec<Effect>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.expect_heartbeat(now, &id);
        }
        if self.members.len() > limits.members_max {
            self.prepare_rebalance(now, limits, out);
        }
    }

    /// What there is to keep of it.
    pub fn to_stored(&self) -> StoredGroup {
        self.to_stored_with(|member| member.assignment.clone())
    }

    pub(super) fn to_stored_with(&self, assignment: impl Fn(&Member) -> Bytes) -> StoredGroup {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| member.to_stored(protocol, assignment(member)));
        StoredGroup {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members: members.collect(),
        }
    }

    pub(super) fn record(&self, stored: StoredGroup) -> GroupRecord {
        GroupRecord::Group { group: self.id.clone(), value: Some(stored) }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether nobody is in it or about to be.
    pub fn is_unused(&self) -> bool {
        self.state == State::Empty && self.promised.is_empty()
    }

    /// Members that have joined.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// How administrators see it.
    pub fn describe(&self) -> Described {
        let protocol = self.protocol.clone().filter(|_| self.state == State::Stable);
        Described {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone(),
            members: self.members.values().map(|member| member.describe(protocol.as_deref())).collect(),
            protocol,
        }
    }

    /// How it is listed.
    pub fn list(&self) -> Listed {
        let protocol_type = self.protocol_type.clone();
        Listed { id: self.id.clone(), is_share: false, protocol_type, state: self.state.name() }
    }

    /// Whether members subscribe to a topic: a group of consumers that does not say what it subscribes to may to any.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.topics {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }

    /// From when an offset's retention counts, given when it was committed; `None` if none is to be forgotten now.
    pub fn retention_base(&self, commit_time: i64) -> Option<i64> {
        match (&self.protocol_type, self.state) {
            // Only offsets: each by itself.
            (None, _) => Some(commit_time),
            (Some(_), State::Empty) => Some(self.since.unwrap_or(commit_time)),
            (Some(kind), State::Stable) if kind == CONSUMER && self.topics.is_some() => Some(commit_time),
            _ => None,
        }
    }

    /// When [`Group::tick`] must be called at the latest. It may be called earlier.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, limits: &Limits, out: &mut Vec<Effect>) {
        if self.next.is_none_or(|next| next > now.at) {
            return;
        }
        let late = |deadline: &Instant| *deadline <= now.at;
        let promised = self.promised.iter().filter(|(_, deadline)| late(deadline));
        for id in promised.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.promised.remove(&id);
            self.complete_if_all_have_joined(now, out);
        }
        let silent = self.members.values().filter(|member| member.deadline.as_ref().is_some_and(late));
        for id in silent.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.miss_heartbeat(now, limits, &id, out);
        }
        if self.sync_timer.as_ref().is_some_and(late) {
            self.sync_timer = None;
            self.drop_unsynced(now, limits, out);
        }
        if self.join_timer.is_some_and(|timer| late(&timer.at())) {
            self.end_joining(now, limits, out);
        }
        self.next = self.earliest();
    }

    fn earliest(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(|member| member.deadline);
        let others = self.promised.values().copied();
        let timers = self.join_timer.map(JoinTimer::at).into_iter().chain(self.sync_timer);
        members.chain(others).chain(timers).min()
    }

    /// A deadline was set.
    pub(super) fn due(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    pub(super) fn enter(&mut self, now: Now, state: State) {
        self.state = state;
        self.since = Some(now.wall.0);
    }

    pub(super) fn expect_heartbeat(&mut self, now: Now, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            let deadline = now.at + member.session();
            member.deadline = Some(deadline);
            self.due(deadline);
        }
    }

    /// A member's session has ended, unless it waits for an answer.
    fn miss_heartbeat(&mut self, now: Now, limits: &Limits, id: &str, out: &mut Vec<Effect>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if member.deadline.is_none_or(|deadline| deadline > now.at) {
            // Something before this in the same tick has given it more time.
            return;
        }
        member.deadline = None;
        if member.is_excused() {
            return;
        }
        self.remove(id, out);
        match self.state {
            State::Stable | State::Completing => self.prepare_rebalance(now, limits, out),
            State::Preparing { .. } => self.complete_if_all_have_joined(now, out),
            State::Empty => {}
        }
    }

    pub(super) fn complete_if_all_have_joined(&mut self, now: Now, out: &mut Vec<Effect>) {
        if matches!(self.state, State::Preparing { .. }) && self.all_have_joined() {
            self.complete_join(now, out);
        }
    }

    /// Members that have not asked for their assignment in time are gone.
    fn drop_unsynced(&mut self, now: Now, limits: &Limits, out: &mut Vec<Effect>) {
        if !matches!(self.state, State::Completing | State::Stable) || self.unsynced.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.unsynced) {
            self.remove(&id, out);
        }
        self.prepare_rebalance(now, limits, out);
    }

    fn end_joining(&mut self, now: Now, limits: &Limits, out: &mut Vec<Effect>) {
        match self.join_timer.take() {
            Some(JoinTimer::Initial { delay, remaining, .. }) if self.grown && !remaining.is_zero() => {
                self.grown = false;
                let next = limits.initial_delay.min(remaining);
                let at = now.at + next;
                let remaining = remaining.saturating_sub(delay);
                self.join_timer = Some(JoinTimer::Initial { at, delay: next, remaining });
                self.due(at);
            }
            Some(_) => self.complete_join(now, out),
            None => {}
        }
    }

    /// Takes a member out. Whoever waits for an answer on its behalf is told that it is unknown, and may join anew.
    pub(super) fn remove(&mut self, id: &str, out: &mut Vec<Effect>) {
        self.promised.remove(id);
        self.unsynced.remove(id);
        let Some(member) = self.members.remove(id) else { return };
        if let Some(ticket) = member.joining {
            out.push(refuse_join(ticket, ErrorCode::UnknownMemberId, ""));
        }
        if let Some(ticket) = member.syncing {
            out.push(Effect::Answer(ticket, GroupAnswer::Refused(ErrorCode::UnknownMemberId)));
        }
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Begins a rebalance: everybody has to join again.
    pub(super) fn prepare_rebalance(&mut self, now: Now, limits: &Limits, out: &mut Vec<Effect>) {
        if self.state == State::Completing {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncing(now, Err(ErrorCode::RebalanceInProgress), out);
        }
        self.unsynced.clear();
        self.sync_timer = None;
        let initial = self.state == State::Empty;
        self.enter(now, State::Preparing { initial });
        if initial {
            let delay = limits.initial_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.join_timer = Some(JoinTimer::Initial { at: now.at + delay, delay, remaining });
            self.due(now.at + delay);
        } else if self.all_have_joined() {
            self.complete_join(now, out);
        } else {
            self.await_joins(now);
        }
    }

    fn await_joins(&mut self, now: Now) {
        let at = now.at + self.rebalance_timeout();
        self.join_timer = Some(JoinTimer::End(at));
        self.due(at);
    }

    /// Those who have come make the next generation.
    pub(super) fn complete_join(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.join_timer = None;
        let gone =
            self.members.values().filter(|member| member.joining.is_none() && member.instance.is_none());
        for id in gone.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(&id, out);
        }
        let leads = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(leads) {
            let joined = self.members.values().find(|member| member.joining.is_some());
            match joined.map(|member| member.id.clone()) {
                Some(leader) => self.leader = Some(leader),
                // Static members alone, and none of them has come: their sessions will end, or they will come.
                None if !self.members.is_empty() => return self.await_joins(now),
                None => {}
            }
        }
        self.generation = self.generation.wrapping_add(1).max(0);
        self.unsynced.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.topics = self.subscribed();
            self.enter(now, State::Empty);
            out.push(Effect::Append(vec![self.record(self.to_stored())], Then::Nothing));
            return;
        }
        self.protocol = self.chosen_protocol();
        self.topics = self.subscribed();
        self.enter(now, State::Completing);
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let joined = self.joined(&id, false);
            let member = self.members.get_mut(&id).expect("listed just now");
            member.is_new = false;
            if let Some(ticket) = member.joining.take() {
                out.push(Effect::Answer(ticket, GroupAnswer::Joined(Ok(joined))));
            }
            self.expect_heartbeat(now, &id);
            self.unsynced.insert(id);
        }
        let at = now.at + self.rebalance_timeout();
        self.sync_timer = Some(at);
        self.due(at);
    }

    /// The generation as a member is told of it.
    pub(super) fn joined(&self, id: &str, skip_assignment: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let is_leader = self.leader.as_deref() == Some(id);
        let row = |member: &Member| (member.id.clone(), member.instance.clone(), member.metadata(protocol));
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member: id.to_owned(),
            members: if is_leader { self.members.values().map(row).collect() } else { Vec::new() },
            skip_assignment,
        }
    }

    /// Answers whoever waits for an assignment; whoever was answered is expected to send heartbeats again.
    pub(super) fn answer_syncing(&mut self, now: Now, result: Result<(), ErrorCode>, out: &mut Vec<Effect>) {
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let member = self.members.get_mut(&id).expect("listed just now");
            let Some(ticket) = member.syncing.take() else { continue };
            let answer = match result {
                Ok(()) => GroupAnswer::Synced(Synced {
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                }),
                Err(code) => GroupAnswer::Refused(code),
            };
            out.push(Effect::Answer(ticket, answer));
            self.expect_heartbeat(now, &id);
        }
    }

    pub(super) fn all_have_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// How long joining may take: as long as the slowest member may.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| millis(member.rebalance_timeout_ms)).max().unwrap_or_default()
    }

    /// The protocol that most members like best among those that all can.
    pub(super) fn chosen_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let common = |name: &str| self.members.values().all(|member| member.can(name));
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    /// Whether a member of this kind can be in the group.
    pub(super) fn fits(&self, join: &Join) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join.protocols.iter().any(|(name, _)| self.members.values().all(|member| member.can(name)))
    }

    /// What the members of a group of consumers subscribe to, if all of them say.
    fn subscribed(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(&member.metadata(self.protocol.as_deref()?))?);
        }
        Some(topics)
    }
}

pub(super) fn refuse_join(ticket: Ticket, code: ErrorCode, member: &str) -> Effect {
    Effect::Answer(ticket, GroupAnswer::Joined(Err(JoinRefusal { code, member: member.to_owned() })))
}
