//! Share groups among the groups of a partition: see `share/group.rs` for what they are.

use super::coordinator::Coordinator;
use super::machine::{Effect, Now, Then};
use super::request::{GroupAnswer, GroupRequest, JoinRefusal, ShareRequest, ShareTopics, Ticket};
use crate::share::{GroupLimits, ShareGroup, ShareKept, ShareRecord, Topics};
use ringlog_wire::ErrorCode;

impl Coordinator {
    /// Takes in a record that was read back.
    pub(super) fn replay_share(&mut self, record: ShareRecord) {
        let ShareRecord { group: id, kept } = record;
        let group = self.shares.entry(id.clone()).or_insert_with(|| ShareGroup::new(&id));
        if !group.replay(kept) {
            self.shares.remove(&id);
        }
    }

    /// A record lies in the log. What it says is in force already, but for a group's end.
    pub(super) fn apply_share(&mut self, record: &ShareRecord) {
        if record.kept == ShareKept::Group(None) {
            self.shares.remove(&record.group);
        }
    }

    /// All records have been read back: members' heartbeats are expected.
    pub fn activate_shares(&mut self, now: Now, limits: impl Fn(&str) -> GroupLimits) {
        for (id, group) in &mut self.shares {
            group.activate(now, &limits(id));
        }
    }

    /// Answers what is asked of a share group.
    pub fn handle_share(
        &mut self,
        now: Now,
        id: &str,
        request: ShareRequest,
        limits: &GroupLimits,
        topics: Topics<'_>,
        ticket: Ticket,
    ) -> Vec<Effect> {
        let refuse = |code| vec![Effect::Answer(ticket, GroupAnswer::Refused(code))];
        match request {
            ShareRequest::Heartbeat(heartbeat) => {
                let refuse = |refused| vec![Effect::Answer(ticket, GroupAnswer::Stands(Err(refused)))];
                if self.is_classic(id) {
                    let why = format!("Group {id} is not a share group.");
                    return refuse((ErrorCode::GroupIdNotFound, why));
                }
                if heartbeat.epoch != 0 && !self.shares.contains_key(id) {
                    return refuse((ErrorCode::GroupIdNotFound, format!("Group {id} not found.")));
                }
                let group = self.shares.entry(id.to_owned()).or_insert_with(|| ShareGroup::new(id));
                match group.heartbeat(now, limits, &heartbeat, topics) {
                    Ok((standing, records)) => {
                        let answer = GroupAnswer::Stands(Ok(standing));
                        if records.is_empty() {
                            // It may have been told something else that is not durable yet.
                            return vec![Effect::AnswerKept(ticket, answer)];
                        }
                        vec![Effect::Append(records, Then::Answer(ticket, answer))]
                    }
                    Err(refused) => refuse(refused),
                }
            }
            ShareRequest::Describe => {
                let described = self.shares.get(id).map(ShareGroup::describe);
                vec![Effect::Answer(ticket, GroupAnswer::DescribedShare(described))]
            }
            ShareRequest::Topics => {
                let topics = self.shares.get(id).map(|group| ShareTopics {
                    has_members: group.member_count() > 0,
                    topics: group.kept_topics().clone(),
                });
                vec![Effect::Answer(ticket, GroupAnswer::ShareTopics(topics))]
            }
            ShareRequest::AddTopics(topics) => match self.shares.get_mut(id) {
                None => refuse(ErrorCode::GroupIdNotFound),
                Some(group) if group.member_count() > 0 => refuse(ErrorCode::NonEmptyGroup),
                Some(group) => {
                    vec![Effect::Append(group.add_topics(&topics), Then::Answer(ticket, GroupAnswer::Done))]
                }
            },
            ShareRequest::ForgetTopics(gone) => match self.shares.get_mut(id) {
                None => refuse(ErrorCode::GroupIdNotFound),
                Some(group) if group.member_count() > 0 => refuse(ErrorCode::NonEmptyGroup),
                Some(group) => {
                    let records = group.forget_topics(|topic| gone.contains(topic));
                    vec![Effect::Append(records, Then::Answer(ticket, GroupAnswer::Done))]
                }
            },
        }
    }

    /// What groups of the classic protocol are asked, where a share group has the name.
    pub(super) fn refuse_classic(
        &mut self,
        id: &str,
        request: GroupRequest,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        let answer = match request {
            GroupRequest::Join(join) => {
                let member = join.member.unwrap_or_default();
                GroupAnswer::Joined(Err(JoinRefusal { code: ErrorCode::InconsistentGroupProtocol, member }))
            }
            GroupRequest::Sync(_) | GroupRequest::Heartbeat(_) => {
                GroupAnswer::Refused(ErrorCode::UnknownMemberId)
            }
            GroupRequest::Leave(leaving) => {
                GroupAnswer::Left(vec![ErrorCode::UnknownMemberId; leaving.len()])
            }
            GroupRequest::Commit(_) | GroupRequest::DeleteOffsets(_) | GroupRequest::Share(_) => {
                GroupAnswer::Refused(ErrorCode::GroupIdNotFound)
            }
            GroupRequest::Fetch { .. } => GroupAnswer::Fetched(Vec::new()),
            GroupRequest::Describe => GroupAnswer::Described(None),
            GroupRequest::Delete => {
                let group = &self.shares[id];
                if group.member_count() == 0 {
                    out.push(Effect::Append(group.tombstones(), Then::Answer(ticket, GroupAnswer::Done)));
                    return;
                }
                GroupAnswer::Refused(ErrorCode::NonEmptyGroup)
            }
        };
        out.push(Effect::Answer(ticket, answer));
    }

    /// Removes members that have not been heard of.
    pub fn tick_shares(&mut self, now: Now, topics: Topics<'_>) -> Vec<Effect> {
        let silent = self.shares.values_mut().map(|group| group.tick(now, topics));
        silent
            .filter(|records| !records.is_empty())
            .map(|records| Effect::Append(records, Then::Nothing))
            .collect()
    }

    /// Topics are gone: nothing is kept of them.
    pub(super) fn forget_shares(&mut self, gone: &dyn Fn(&str) -> bool, out: &mut Vec<Effect>) {
        for group in self.shares.values_mut() {
            let topics: Vec<[u8; 16]> = group
                .kept_topics()
                .iter()
                .filter(|(_, (name, _))| gone(name))
                .map(|(topic, _)| *topic)
                .collect();
            let records = group.forget_topics(|topic| topics.contains(topic));
            if !records.is_empty() {
                out.push(Effect::Append(records, Then::Nothing));
            }
        }
    }
}
