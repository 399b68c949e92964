//! The groups of one partition of `__consumer_offsets`, and the offsets they have committed: pure, as the groups are.
//!
//! What a record says is in force as soon as it lies in the log ([`Coordinator::appended`]); nobody is told before it is durable.
//! Records are applied by the same code when they are read back after a start.

use super::machine::{Effect, Group, Kept, Limits, Now, Then};
use super::offsets::{Committed, Offsets};
use super::record::GroupRecord;
use super::request::{Commit, FetchedTopic, GroupAnswer, GroupRequest, JoinRefusal, Listed, Ticket};
use crate::config::GroupConfig;
use crate::share::ShareGroup;
use ringlog_engine::io::{Instant, WallTime};
use ringlog_wire::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    groups: BTreeMap<String, Entry>,
    /// Groups of the other kind; no name is in both.
    pub(super) shares: BTreeMap<String, ShareGroup>,
    /// Groups by when they want to be looked at; exactly those with a `due`.
    due: BTreeSet<(Instant, String)>,
    /// When offsets and groups that nobody needs any more are looked for.
    next_cleanup: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
    due: Option<Instant>,
}

impl Coordinator {
    /// Without groups.
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            shares: BTreeMap::new(),
            due: BTreeSet::new(),
            next_cleanup: None,
        }
    }

    fn limits(&self) -> Limits {
        Limits { initial_delay: self.config.initial_rebalance_delay, members_max: self.config.members_max }
    }

    /// Takes in a record that was read back.
    pub fn replay(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Group { group, value: Some(stored) } => {
                let offsets = self.groups.remove(&group).map(|entry| entry.offsets).unwrap_or_default();
                let stored = Group::stored(&group, stored);
                self.groups.insert(group, Entry { group: stored, offsets, due: None });
            }
            GroupRecord::Share(record) => self.replay_share(record),
            record => self.apply(&record),
        }
    }

    /// All records have been read back: the groups are served from now on. Offsets of topics that are gone are forgotten: their deletion may
    /// have been cut short.
    pub fn activate(&mut self, now: Now, exists: impl Fn(&str) -> bool) -> Vec<Effect> {
        let limits = self.limits();
        let mut out = Vec::new();
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in &ids {
            let entry = self.groups.get_mut(id).expect("listed just now");
            entry.group.activate(now, &limits, &mut out);
            self.reschedule(id);
        }
        self.schedule_cleanup(now);
        self.forget(|topic| !exists(topic), &mut out);
        out
    }

    /// Records lie in the log: what they say about offsets and deleted groups is in force. (What they say of a group in life is already.)
    pub fn appended(&mut self, now: Now, records: &[GroupRecord]) {
        for record in records {
            self.apply(record);
        }
        self.schedule_cleanup(now);
    }

    fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset { group, topic, partition, value: Some(committed) } => {
                let since = WallTime(committed.commit_time);
                let entry = self.groups.entry(group.clone()).or_insert_with(|| Entry::empty(group, since));
                entry.offsets.put(topic, *partition, committed.clone());
            }
            GroupRecord::Offset { group, topic, partition, value: None } => {
                if let Some(entry) = self.groups.get_mut(group) {
                    entry.offsets.remove(topic, *partition);
                }
            }
            GroupRecord::Group { group, value: None } => {
                if let Some(entry) = self.groups.remove(group) {
                    if let Some(due) = entry.due {
                        self.due.remove(&(due, group.clone()));
                    }
                    // A group that went over to another protocol leaves its offsets behind.
                    if !entry.offsets.is_empty() {
                        let emptied = Entry { offsets: entry.offsets, ..Entry::empty(group, WallTime(0)) };
                        self.groups.insert(group.clone(), emptied);
                    }
                }
            }
            GroupRecord::Group { value: Some(_), .. } => {}
            GroupRecord::Share(record) => self.apply_share(record),
        }
    }

    /// Answers a request, now or in effects to come. `random` makes the id of a new member.
    pub fn handle(
        &mut self,
        now: Now,
        id: &str,
        request: GroupRequest,
        random: u128,
        ticket: Ticket,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        self.dispatch(now, id, request, random, ticket, &mut out);
        self.reschedule(id);
        self.schedule_cleanup(now);
        out
    }

    fn dispatch(
        &mut self,
        now: Now,
        id: &str,
        request: GroupRequest,
        random: u128,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        if self.shares.contains_key(id) {
            return self.refuse_classic(id, request, ticket, out);
        }
        let limits = self.limits();
        let mut answer = |answer| out.push(Effect::Answer(ticket, answer));
        match request {
            GroupRequest::Join(join) => {
                let is_new = !self.groups.contains_key(id);
                if let (true, Some(member)) = (is_new, &join.member) {
                    let refusal = JoinRefusal { code: ErrorCode::UnknownMemberId, member: member.clone() };
                    return answer(GroupAnswer::Joined(Err(refusal)));
                }
                let entry = self.groups.entry(id.to_owned()).or_insert_with(|| Entry::empty(id, now.wall));
                let name = join.instance.as_ref().unwrap_or(&join.client_id);
                let new_id = format!("{name}-{}", uuid_text(random));
                entry.group.join(now, &limits, &join, new_id, ticket, out);
                if is_new && !out.iter().any(|effect| matches!(effect, Effect::Append(..))) {
                    let record = GroupRecord::Group {
                        group: id.to_owned(),
                        value: Some(Group::new(id, now.wall).to_stored()),
                    };
                    out.push(Effect::Append(vec![record], Then::Nothing));
                }
            }
            GroupRequest::Sync(sync) => match self.groups.get_mut(id) {
                Some(entry) => entry.group.sync(sync, ticket, out),
                None => answer(GroupAnswer::Refused(ErrorCode::UnknownMemberId)),
            },
            GroupRequest::Heartbeat(member) => {
                let group = self.groups.get_mut(id).ok_or(ErrorCode::UnknownMemberId);
                answer(done(group.and_then(|entry| entry.group.heartbeat(now, &member))));
            }
            GroupRequest::Leave(leaving) => {
                let codes = match self.groups.get_mut(id) {
                    Some(entry) => entry.group.leave(now, &limits, &leaving, out),
                    None => vec![ErrorCode::UnknownMemberId; leaving.len()],
                };
                out.push(Effect::Answer(ticket, GroupAnswer::Left(codes)));
            }
            GroupRequest::Commit(commit) => match self.may_commit(now, id, &commit) {
                Ok(()) => out.push(commit_effect(now, id, commit, ticket)),
                Err(code) => answer(GroupAnswer::Refused(code)),
            },
            GroupRequest::Fetch { topics } => {
                let fetched = self.fetch(id, topics);
                out.push(Effect::AnswerKept(ticket, GroupAnswer::Fetched(fetched)));
            }
            GroupRequest::Describe => {
                answer(GroupAnswer::Described(self.groups.get(id).map(|entry| entry.group.describe())));
            }
            GroupRequest::Delete => {
                let Some(entry) = self.groups.get(id) else {
                    return answer(GroupAnswer::Refused(ErrorCode::GroupIdNotFound));
                };
                match entry.group.may_delete() {
                    Ok(()) => {
                        let mut records: Vec<_> = entry.tombstones(id, |_, _| true);
                        records.push(GroupRecord::Group { group: id.to_owned(), value: None });
                        out.push(Effect::Append(records, Then::Answer(ticket, GroupAnswer::Done)));
                    }
                    Err(code) => answer(GroupAnswer::Refused(code)),
                }
            }
            GroupRequest::DeleteOffsets(topics) => self.delete_offsets(id, topics, ticket, out),
            GroupRequest::Share(_) => answer(GroupAnswer::Refused(ErrorCode::GroupIdNotFound)),
        }
    }

    fn may_commit(&mut self, now: Now, id: &str, commit: &Commit) -> Result<(), ErrorCode> {
        match self.groups.get_mut(id) {
            Some(entry) => entry.group.may_commit(now, &commit.member),
            // A consumer that is in no group: its offsets make one.
            None if commit.member.generation < 0 => Ok(()),
            None if commit.knows_not_found => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn fetch(&self, id: &str, topics: Option<Vec<(String, Vec<i32>)>>) -> Vec<FetchedTopic> {
        let offsets = self.groups.get(id).map(|entry| &entry.offsets);
        let Some(topics) = topics else {
            let row = |(partition, committed): (&i32, &Committed)| (*partition, Some(committed.clone()));
            let all = offsets.into_iter().flat_map(|offsets| offsets.topics_after(None));
            return all
                .map(|(topic, partitions)| FetchedTopic {
                    topic: topic.clone(),
                    partitions: partitions.iter().map(row).collect(),
                })
                .collect();
        };
        let committed = |topic: &str, partition| offsets.and_then(|all| all.get(topic, partition)).cloned();
        topics
            .into_iter()
            .map(|(topic, partitions)| FetchedTopic {
                partitions: partitions.into_iter().map(|index| (index, committed(&topic, index))).collect(),
                topic,
            })
            .collect()
    }

    fn delete_offsets(
        &mut self,
        id: &str,
        topics: Vec<(String, Vec<i32>)>,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        let entry = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound);
        let entry = match entry.and_then(|entry| entry.group.may_delete_offsets().map(|()| entry)) {
            Ok(entry) => entry,
            Err(code) => return out.push(Effect::Answer(ticket, GroupAnswer::Refused(code))),
        };
        let (subscribed, free): (Vec<_>, Vec<_>) =
            topics.into_iter().partition(|(topic, _)| entry.group.is_subscribed(topic));
        let asked: BTreeSet<(&str, i32)> =
            free.iter().flat_map(|(topic, rest)| rest.iter().map(|index| (topic.as_str(), *index))).collect();
        let records = entry.tombstones(id, |topic, partition| asked.contains(&(topic, partition)));
        let answer = GroupAnswer::OffsetsDeleted(subscribed.into_iter().map(|(topic, _)| topic).collect());
        out.push(Effect::Append(records, Then::Answer(ticket, answer)));
    }

    /// What came of a record of a group's.
    pub fn kept(&mut self, now: Now, id: &str, kept: Kept, result: Result<(), ErrorCode>) -> Vec<Effect> {
        let limits = self.limits();
        let mut out = Vec::new();
        if let Some(entry) = self.groups.get_mut(id) {
            entry.group.kept(now, &limits, kept, result, &mut out);
        }
        self.reschedule(id);
        out
    }

    /// Topics are gone: so are the offsets in them.
    pub fn forget(&mut self, gone: impl Fn(&str) -> bool, out: &mut Vec<Effect>) {
        self.forget_shares(&gone, out);
        for (id, entry) in &self.groups {
            let records = entry.tombstones(id, |topic, _| gone(topic));
            if !records.is_empty() {
                out.push(Effect::Append(records, Then::Nothing));
            }
        }
    }

    /// When [`Coordinator::tick`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        let shares = self.shares.values().filter_map(ShareGroup::next_deadline);
        due.into_iter().chain(self.next_cleanup).chain(shares).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let limits = self.limits();
        let mut out = Vec::new();
        while let Some((at, id)) = self.due.first().cloned() {
            if at > now.at {
                break;
            }
            let entry = self.groups.get_mut(&id).expect("groups that are due are there");
            entry.group.tick(now, &limits, &mut out);
            self.reschedule(&id);
        }
        if self.next_cleanup.is_some_and(|at| at <= now.at) {
            self.next_cleanup = None;
            self.clean_up(now, &mut out);
            self.schedule_cleanup(now);
        }
        out
    }

    /// Offsets past their retention are forgotten, and groups that have neither members nor offsets any more.
    fn clean_up(&self, now: Now, out: &mut Vec<Effect>) {
        let retention_ms = i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        for (id, entry) in &self.groups {
            let expired = |topic: &str, committed: &Committed| {
                let base = entry.group.retention_base(committed.commit_time);
                base.is_some_and(|base| committed.is_expired(base, now.wall.0, retention_ms))
                    && !entry.group.is_subscribed(topic)
            };
            let gone = entry.offsets.iter().filter(|(topic, _, committed)| expired(topic, committed));
            let mut records: Vec<_> =
                gone.map(|(topic, partition, _)| tombstone(id, topic, partition)).collect();
            if records.len() == entry.offsets.iter().count() && entry.group.is_unused() {
                records.push(GroupRecord::Group { group: id.clone(), value: None });
            }
            if !records.is_empty() {
                out.push(Effect::Append(records, Then::Nothing));
            }
        }
    }

    fn schedule_cleanup(&mut self, now: Now) {
        if self.next_cleanup.is_none() && !self.groups.is_empty() {
            self.next_cleanup = Some(now.at + self.config.cleanup_interval);
        }
    }

    /// Puts a group where its next deadline belongs.
    fn reschedule(&mut self, id: &str) {
        let Some(entry) = self.groups.get_mut(id) else { return };
        let next = entry.group.next_deadline();
        if next != entry.due {
            if let Some(due) = std::mem::replace(&mut entry.due, next) {
                self.due.remove(&(due, id.to_owned()));
            }
            if let Some(next) = next {
                self.due.insert((next, id.to_owned()));
            }
        }
    }

    /// All groups, as they are listed.
    pub fn list(&self) -> Vec<Listed> {
        let classic = self.groups.values().map(|entry| entry.group.list());
        let shares = self.shares.iter().map(|(id, group)| Listed {
            id: id.clone(),
            is_share: true,
            protocol_type: Some("share".to_owned()),
            state: group.state(),
        });
        classic.chain(shares).collect()
    }

    /// The groups from this name on, in name order, with what they have committed.
    pub fn groups_from(&self, id: &str) -> impl Iterator<Item = (&String, &Group, &Offsets)> {
        let groups = self.groups.range::<str, _>((Bound::Included(id), Bound::Unbounded));
        groups.map(|(id, entry)| (id, &entry.group, &entry.offsets))
    }

    /// Whether a group of the classic protocol has this name.
    pub(super) fn is_classic(&self, id: &str) -> bool {
        self.groups.contains_key(id)
    }

    /// A group.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id).map(|entry| &entry.group)
    }
}

impl Entry {
    fn empty(id: &str, since: WallTime) -> Self {
        Self { group: Group::new(id, since), offsets: Offsets::default(), due: None }
    }

    /// The records that say that offsets are gone.
    fn tombstones(&self, id: &str, gone: impl Fn(&str, i32) -> bool) -> Vec<GroupRecord> {
        let gone = self.offsets.iter().filter(|(topic, partition, _)| gone(topic, *partition));
        gone.map(|(topic, partition, _)| tombstone(id, topic, partition)).collect()
    }
}

fn tombstone(group: &str, topic: &str, partition: i32) -> GroupRecord {
    GroupRecord::Offset { group: group.to_owned(), topic: topic.to_owned(), partition, value: None }
}

fn commit_effect(now: Now, id: &str, commit: Commit, ticket: Ticket) -> Effect {
    let expire_time = commit.retention_ms.map(|retention| now.wall.0.saturating_add(retention));
    let record = |new: super::request::NewOffset| GroupRecord::Offset {
        group: id.to_owned(),
        topic: new.topic,
        partition: new.partition,
        value: Some(Committed {
            offset: new.offset,
            leader_epoch: new.leader_epoch,
            metadata: new.metadata,
            commit_time: now.wall.0,
            expire_time,
        }),
    };
    let records = commit.offsets.into_iter().map(record).collect();
    Effect::Append(records, Then::Answer(ticket, GroupAnswer::Done))
}

fn done(result: Result<(), ErrorCode>) -> GroupAnswer {
    match result {
        Ok(()) => GroupAnswer::Done,
        Err(code) => GroupAnswer::Refused(code),
    }
}

/// A random (version 4) UUID in its usual form, as Kafka ends member ids.
fn uuid_text(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// What members are told when records could not be kept, by the code of the append (Kafka's `appendGroupMetadataErrorToResponseError`).
pub fn append_failure(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}
