//! A share group: its members, their epochs, and who reads what. Pure, as the groups of the classic protocol are.
//!
//! A member that joins, leaves or subscribes to something else raises the group's epoch; so does a topic that comes, goes or grows. The
//! partitions are then shared anew, and each member has its part with its next heartbeat: there is nothing to wait for, since a partition may
//! have several readers. Rules and codes are those of Apache Kafka's `GroupMetadataManager` (KIP-932).

use super::assignor::{Reader, assign};
use super::group_record::{Current, KeptTopics, Partitions, ShareKept, ShareRecord, StoredMember};
use crate::group::Now;
use crate::group::record::GroupRecord;
use ringlog_engine::io::Instant;
use ringlog_wire::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The topics there are: ids and counts of partitions, by name.
pub type Topics<'a> = &'a dyn Fn(&str) -> Option<([u8; 16], i32)>;

/// What bounds a share group: configs of the broker and of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// After how long without a heartbeat a member is gone.
    pub session: Duration,
    /// Members.
    pub members_max: usize,
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The member, as it named itself.
    pub member: String,
    /// Its epoch: 0 to join, -1 to leave.
    pub epoch: i32,
    /// Its rack, where it says.
    pub rack: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it subscribes to, where it says.
    pub topics: Option<BTreeSet<String>>,
}

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its epoch.
    pub epoch: i32,
    /// What it has, where that is news.
    pub partitions: Option<Partitions>,
}

/// A refusal: a code, and why.
pub type Refused = (ErrorCode, String);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Member {
    described: StoredMember,
    current: Current,
    target: Partitions,
    deadline: Option<Instant>,
}

/// A share group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShareGroup {
    id: String,
    epoch: i32,
    /// Of the topics that the assignment was made with.
    topics_hash: i64,
    target_epoch: i32,
    target_made_ms: i64,
    members: BTreeMap<String, Member>,
    kept: KeptTopics,
}

/// A share group as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedShare {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// Its epoch.
    pub epoch: i32,
    /// That of its assignment.
    pub assignment_epoch: i32,
    /// Its members: ids, how they describe themselves, epochs, what they have.
    pub members: Vec<(String, StoredMember, i32, Partitions)>,
}

impl ShareGroup {
    /// A group without members.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Takes in a record that was read back; whether anything is left of the group.
    pub fn replay(&mut self, kept: ShareKept) -> bool {
        match kept {
            ShareKept::Member(id, Some(described)) => {
                self.members.entry(id).or_default().described = described;
            }
            ShareKept::Member(id, None) => {
                self.members.remove(&id);
            }
            ShareKept::Group(Some((epoch, hash))) => (self.epoch, self.topics_hash) = (epoch, hash),
            ShareKept::Group(None) => return false,
            ShareKept::Target(value) => {
                (self.target_epoch, self.target_made_ms) = value.unwrap_or_default();
            }
            ShareKept::TargetOf(id, Some(target)) => self.members.entry(id).or_default().target = target,
            ShareKept::CurrentOf(id, Some(current)) => self.members.entry(id).or_default().current = current,
            ShareKept::TargetOf(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.target.clear();
                }
            }
            ShareKept::CurrentOf(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.current = Current::default();
                }
            }
            ShareKept::Topics(topics) => self.kept = topics.unwrap_or_default(),
        }
        true
    }

    /// The group is served from now on.
    pub fn activate(&mut self, now: Now, limits: &GroupLimits) {
        for member in self.members.values_mut() {
            member.deadline = Some(now.at + limits.session);
        }
    }

    /// Kafka's name of its state.
    pub fn state(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    /// Its members.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Topics of which it keeps state.
    pub fn kept_topics(&self) -> &KeptTopics {
        &self.kept
    }

    /// How administrators see it.
    pub fn describe(&self) -> DescribedShare {
        let member = |(id, member): (&String, &Member)| {
            (id.clone(), member.described.clone(), member.current.epoch, member.current.partitions.clone())
        };
        DescribedShare {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            members: self.members.iter().map(member).collect(),
        }
    }

    /// A heartbeat: where the member stands, and what is to be kept before it is told.
    pub fn heartbeat(
        &mut self,
        now: Now,
        limits: &GroupLimits,
        heartbeat: &Heartbeat,
        topics: Topics<'_>,
    ) -> Result<(Standing, Vec<GroupRecord>), Refused> {
        let id = &heartbeat.member;
        if heartbeat.epoch < 0 {
            return self.leave(now, id, topics);
        }
        self.check(limits, heartbeat)?;
        let mut records = Vec::new();
        let joins = heartbeat.epoch == 0;
        let is_new = !self.members.contains_key(id);
        let member = self.members.entry(id.clone()).or_default();
        let mut described = member.described.clone();
        described.client_id.clone_from(&heartbeat.client_id);
        described.client_host.clone_from(&heartbeat.client_host);
        if let Some(topics) = &heartbeat.topics {
            described.topics.clone_from(topics);
        }
        if heartbeat.rack.is_some() {
            described.rack.clone_from(&heartbeat.rack);
        }
        let subscribes_anew = is_new || described.topics != member.described.topics;
        if is_new || described != member.described {
            member.described = described.clone();
            records.push(self.record(ShareKept::Member(id.clone(), Some(described))));
        }
        self.assign(now, subscribes_anew, topics, &mut records);
        let member = self.members.get_mut(id).expect("just put there");
        member.deadline = Some(now.at + limits.session);
        let is_news = member.current.partitions != member.target;
        if is_news || member.current.epoch != self.target_epoch {
            member.current = Current {
                epoch: self.target_epoch,
                former_epoch: member.current.epoch,
                partitions: member.target.clone(),
            };
            let current = member.current.clone();
            records.push(self.record(ShareKept::CurrentOf(id.clone(), Some(current))));
        }
        let current = &self.members[id].current;
        let partitions = (joins || is_news).then(|| current.partitions.clone());
        Ok((Standing { epoch: current.epoch, partitions }, records))
    }

    fn check(&self, limits: &GroupLimits, heartbeat: &Heartbeat) -> Result<(), Refused> {
        let id = &heartbeat.member;
        let Some(member) = self.members.get(id) else {
            if heartbeat.epoch > 0 {
                return Err(self.unknown(id));
            }
            if self.members.len() >= limits.members_max {
                let why = format!(
                    "The share group has reached its maximum capacity of {} members.",
                    limits.members_max
                );
                return Err((ErrorCode::GroupMaxSizeReached, why));
            }
            return Ok(());
        };
        let known = &member.current;
        let is_right =
            heartbeat.epoch == 0 || heartbeat.epoch == known.epoch || heartbeat.epoch == known.former_epoch;
        if is_right {
            return Ok(());
        }
        let why = format!(
            "The share group member has epoch {}, the coordinator has {} for it. The member must abandon all its partitions and rejoin.",
            heartbeat.epoch, known.epoch
        );
        Err((ErrorCode::FencedMemberEpoch, why))
    }

    fn unknown(&self, id: &str) -> Refused {
        (ErrorCode::UnknownMemberId, format!("Member {id} is not a member of group {}.", self.id))
    }

    fn leave(
        &mut self,
        now: Now,
        id: &str,
        topics: Topics<'_>,
    ) -> Result<(Standing, Vec<GroupRecord>), Refused> {
        if !self.members.contains_key(id) {
            return Err(self.unknown(id));
        }
        let records = self.remove(now, &[id.to_owned()], topics);
        Ok((Standing { epoch: -1, partitions: None }, records))
    }

    fn remove(&mut self, now: Now, ids: &[String], topics: Topics<'_>) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for id in ids {
            self.members.remove(id);
            records.push(self.record(ShareKept::CurrentOf(id.clone(), None)));
            records.push(self.record(ShareKept::TargetOf(id.clone(), None)));
            records.push(self.record(ShareKept::Member(id.clone(), None)));
        }
        self.assign(now, true, topics, &mut records);
        records
    }

    /// Shares the partitions anew, if members or topics have changed.
    fn assign(&mut self, now: Now, changed: bool, topics: Topics<'_>, records: &mut Vec<GroupRecord>) {
        let names: BTreeSet<&String> =
            self.members.values().flat_map(|member| &member.described.topics).collect();
        let known: BTreeMap<&String, ([u8; 16], i32)> =
            names.into_iter().filter_map(|name| Some((name, topics(name)?))).collect();
        let hash = hash(&known);
        if !changed && hash == self.topics_hash && self.epoch > 0 {
            return;
        }
        let partitions: BTreeMap<[u8; 16], i32> = known.values().copied().collect();
        let reader = |member: &Member| Reader {
            topics: member.described.topics.iter().filter_map(|name| Some(known.get(name)?.0)).collect(),
            before: member.target.clone(),
        };
        let readers: BTreeMap<String, Reader> =
            self.members.iter().map(|(id, member)| (id.clone(), reader(member))).collect();
        let mut kept = self.kept.clone();
        for (name, (id, count)) in &known {
            kept.entry(*id).or_insert_with(|| ((*name).clone(), BTreeSet::new())).1.extend(0..*count);
        }
        self.epoch += 1;
        self.topics_hash = hash;
        (self.target_epoch, self.target_made_ms) = (self.epoch, now.wall.0);
        records.push(self.record(ShareKept::Group(Some((self.epoch, hash)))));
        for (id, target) in assign(&readers, &partitions) {
            let member = self.members.get_mut(&id).expect("readers are members");
            if member.target != target {
                member.target.clone_from(&target);
                records.push(self.record(ShareKept::TargetOf(id, Some(target))));
            }
        }
        records.push(self.record(ShareKept::Target(Some((self.target_epoch, self.target_made_ms)))));
        self.keep_topics(kept, records);
    }

    fn keep_topics(&mut self, kept: KeptTopics, records: &mut Vec<GroupRecord>) {
        if kept != self.kept {
            self.kept.clone_from(&kept);
            records.push(self.record(ShareKept::Topics(Some(kept))));
        }
    }

    /// Nothing is kept of these topics any more; whether there was something.
    pub fn forget_topics(&mut self, gone: impl Fn(&[u8; 16]) -> bool) -> Vec<GroupRecord> {
        let mut kept = self.kept.clone();
        kept.retain(|id, _| !gone(id));
        let mut records = Vec::new();
        self.keep_topics(kept, &mut records);
        records
    }

    /// State of these partitions is kept from now on.
    pub fn add_topics(&mut self, topics: &KeptTopics) -> Vec<GroupRecord> {
        let mut kept = self.kept.clone();
        for (id, (name, partitions)) in topics {
            kept.entry(*id).or_insert_with(|| (name.clone(), BTreeSet::new())).1.extend(partitions);
        }
        let mut records = Vec::new();
        self.keep_topics(kept, &mut records);
        records
    }

    /// The records that say that the group is gone.
    pub fn tombstones(&self) -> Vec<GroupRecord> {
        let members = self.members.keys().flat_map(|id| {
            [
                ShareKept::CurrentOf(id.clone(), None),
                ShareKept::TargetOf(id.clone(), None),
                ShareKept::Member(id.clone(), None),
            ]
        });
        let rest = [ShareKept::Target(None), ShareKept::Topics(None), ShareKept::Group(None)];
        members.chain(rest).map(|kept| self.record(kept)).collect()
    }

    /// When [`ShareGroup::tick`] is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.deadline).min()
    }

    /// Removes members that have not been heard of.
    pub fn tick(&mut self, now: Now, topics: Topics<'_>) -> Vec<GroupRecord> {
        let late = |member: &Member| member.deadline.is_some_and(|deadline| deadline <= now.at);
        let gone = self.members.iter().filter(|(_, member)| late(member));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        if gone.is_empty() { Vec::new() } else { self.remove(now, &gone, topics) }
    }

    fn record(&self, kept: ShareKept) -> GroupRecord {
        GroupRecord::Share(ShareRecord { group: self.id.clone(), kept })
    }
}

/// Tells subscribed topics from others, and from what they were (FNV-1a): only this broker reads it.
fn hash(topics: &BTreeMap<&String, ([u8; 16], i32)>) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, (id, count)) in topics {
        for byte in name.bytes().chain([0]).chain(*id).chain(count.to_be_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    if topics.is_empty() { 0 } else { hash.cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlog_engine::io::WallTime;

    fn now(seconds: u64) -> Now {
        Now { at: Instant::default() + Duration::from_secs(seconds), wall: WallTime(1000 * seconds as i64) }
    }

    const LIMITS: GroupLimits = GroupLimits { session: Duration::from_secs(45), members_max: 3 };

    fn beat(member: &str, epoch: i32, topics: &[&str]) -> Heartbeat {
        Heartbeat {
            member: member.into(),
            epoch,
            rack: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            topics: (epoch == 0).then(|| topics.iter().map(|topic| (*topic).to_owned()).collect()),
        }
    }

    fn topics(name: &str) -> Option<([u8; 16], i32)> {
        match name {
            "t" => Some(([1; 16], 2)),
            "u" => Some(([2; 16], 1)),
            _ => None,
        }
    }

    /// What a restart makes of the records.
    fn replayed(records: &[GroupRecord]) -> ShareGroup {
        let mut group = ShareGroup::new("g");
        for record in records {
            let GroupRecord::Share(record) = record else { panic!("{record:?}") };
            assert!(group.replay(record.kept.clone()));
        }
        group
    }

    #[test]
    fn members_join_share_and_leave() {
        let mut group = ShareGroup::new("g");
        let mut log = Vec::new();
        let mut send = |group: &mut ShareGroup, heartbeat: Heartbeat| {
            let (standing, records) = group.heartbeat(now(0), &LIMITS, &heartbeat, &topics)?;
            log.extend(records);
            let count = |partitions: Partitions| partitions.values().map(BTreeSet::len).sum::<usize>();
            let mut again = replayed(&log);
            again.members.values_mut().for_each(|member| member.deadline = Some(now(0).at + LIMITS.session));
            assert_eq!(&again, group, "what is kept is all there is");
            Ok::<_, Refused>((standing.epoch, standing.partitions.map(count)))
        };
        let code = |result: Result<_, Refused>| result.map_err(|(code, _)| code);
        assert_eq!(send(&mut group, beat("a", 0, &["t", "none"])), Ok((1, Some(2))));
        assert_eq!(send(&mut group, beat("a", 1, &[])), Ok((1, None)), "nothing new");
        assert_eq!(send(&mut group, beat("b", 0, &["t", "none"])), Ok((2, Some(1))));
        assert_eq!(send(&mut group, beat("a", 1, &[])), Ok((2, Some(1))), "b has one of them now");
        assert_eq!(send(&mut group, beat("a", 1, &[])), Ok((2, None)), "the answer was lost");
        assert_eq!(code(send(&mut group, beat("a", 3, &[]))), Err(ErrorCode::FencedMemberEpoch));
        assert_eq!(code(send(&mut group, beat("x", 1, &[]))), Err(ErrorCode::UnknownMemberId));
        assert_eq!(send(&mut group, beat("c", 0, &["u"])), Ok((3, Some(1))));
        assert_eq!(code(send(&mut group, beat("d", 0, &["t"]))), Err(ErrorCode::GroupMaxSizeReached));
        assert_eq!(send(&mut group, beat("b", -1, &[])), Ok((-1, None)));
        assert_eq!(send(&mut group, beat("a", 2, &[])), Ok((4, Some(2))));
        assert_eq!(group.kept_topics().len(), 2);
        assert_eq!(code(send(&mut group, beat("b", -1, &[]))), Err(ErrorCode::UnknownMemberId));
    }

    #[test]
    fn a_topic_that_grows_is_shared_anew() {
        let mut group = ShareGroup::new("g");
        let none = |_: &str| None;
        let joined = group.heartbeat(now(0), &LIMITS, &beat("a", 0, &["t"]), &none).expect("joins").0;
        assert_eq!(joined, Standing { epoch: 1, partitions: Some(Partitions::new()) });
        let (standing, _) = group.heartbeat(now(1), &LIMITS, &beat("a", 1, &[]), &topics).expect("lives");
        assert_eq!(standing.epoch, 2);
        assert_eq!(standing.partitions, Some(Partitions::from([([1; 16], BTreeSet::from([0, 1]))])));
        let gone = group.forget_topics(|id| *id == [1; 16]);
        assert_eq!((gone.len(), group.kept_topics().len()), (1, 0));
    }

    #[test]
    fn silent_members_are_removed() {
        let mut group = ShareGroup::new("g");
        group.heartbeat(now(0), &LIMITS, &beat("a", 0, &["t"]), &topics).expect("joins");
        group.heartbeat(now(40), &LIMITS, &beat("b", 0, &["t"]), &topics).expect("joins");
        assert_eq!(group.next_deadline(), Some(now(45).at));
        assert_eq!(group.tick(now(44), &topics), []);
        assert!(!group.tick(now(45), &topics).is_empty());
        assert_eq!((group.member_count(), group.state()), (1, "Stable"));
        group.tick(now(100), &topics);
        assert_eq!((group.member_count(), group.state()), (0, "Empty"));
        assert_eq!(group.tombstones().len(), 3);
    }
}
