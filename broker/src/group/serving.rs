//! What members ask beside joining: their assignments, heartbeats, leaving; and whether they may commit offsets.

use super::machine::{Effect, Group, Kept, Limits, Now, State, Then};
use super::request::{GroupAnswer, Leaving, MemberAt, Sync, Synced, Ticket};
use bytes::Bytes;
use ringlog_wire::ErrorCode;
use std::collections::BTreeMap;

impl Group {
    /// Whether a member is who it says it is.
    pub(super) fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if known != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn check_generation(&self, member: &MemberAt) -> Result<(), ErrorCode> {
        self.check_member(&member.id, member.instance.as_deref())?;
        if member.generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// A SyncGroup request.
    pub fn sync(&mut self, sync: Sync, ticket: Ticket, out: &mut Vec<Effect>) {
        let refuse = |code| Effect::Answer(ticket, GroupAnswer::Refused(code));
        let differs = |said: &Option<String>, known: &Option<String>| {
            said.as_ref().zip(known.as_ref()).is_some_and(|(said, known)| said != known)
        };
        if let Err(code) = self.check_generation(&sync.member) {
            return out.push(refuse(code));
        }
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return out.push(refuse(ErrorCode::InconsistentGroupProtocol));
        }
        let id = sync.member.id;
        match self.state {
            State::Empty => out.push(refuse(ErrorCode::UnknownMemberId)),
            State::Preparing { .. } => out.push(refuse(ErrorCode::RebalanceInProgress)),
            State::Completing => {
                self.has_synced(&id);
                let member = self.members.get_mut(&id).expect("checked above");
                if let Some(older) = member.syncing.replace(ticket) {
                    // The same member on another connection: nobody listens on the older one any more.
                    out.push(Effect::Answer(older, GroupAnswer::Refused(ErrorCode::RebalanceInProgress)));
                }
                if self.leader.as_deref() == Some(id.as_str()) {
                    self.keep_assignment(sync.assignments.into_iter().collect(), out);
                }
            }
            State::Stable => {
                self.has_synced(&id);
                let synced = Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: self.members[&id].assignment.clone(),
                };
                out.push(Effect::Answer(ticket, GroupAnswer::Synced(synced)));
            }
        }
    }

    fn has_synced(&mut self, id: &str) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_timer = None;
        }
    }

    /// The leader has made the assignment: it holds when it is durable.
    fn keep_assignment(&mut self, mut assignment: BTreeMap<String, Bytes>, out: &mut Vec<Effect>) {
        assignment.retain(|id, _| self.members.contains_key(id));
        let of = |id: &str| assignment.get(id).cloned().unwrap_or_default();
        let record = self.record(self.to_stored_with(|member| of(&member.id)));
        let kept = Kept::Assignment { generation: self.generation, assignment };
        out.push(Effect::Append(vec![record], Then::Group(self.id.clone(), kept)));
    }

    /// What came of a record of the group's.
    pub fn kept(
        &mut self,
        now: Now,
        limits: &Limits,
        kept: Kept,
        result: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        match kept {
            Kept::Assignment { generation, assignment } => {
                // Members may have come or gone since.
                if self.state != State::Completing || self.generation != generation {
                    return;
                }
                match result {
                    Ok(()) => {
                        for (id, member) in &mut self.members {
                            member.assignment = assignment.get(id).cloned().unwrap_or_default();
                        }
                        self.answer_syncing(now, Ok(()), out);
                        self.enter(now, State::Stable);
                    }
                    Err(code) => {
                        for member in self.members.values_mut() {
                            member.assignment = Bytes::new();
                        }
                        self.answer_syncing(now, Err(code), out);
                        self.prepare_rebalance(now, limits, out);
                    }
                }
            }
            Kept::Replaced { old, new, leader, can_skip_assignment } => {
                self.replaced(now, (*old, &new, leader, can_skip_assignment), result, out);
            }
        }
    }

    /// A Heartbeat request.
    pub fn heartbeat(&mut self, now: Now, member: &MemberAt) -> Result<(), ErrorCode> {
        self.check_generation(member)?;
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::Preparing { .. } => {
                self.expect_heartbeat(now, &member.id);
                Err(ErrorCode::RebalanceInProgress)
            }
            State::Completing | State::Stable => {
                self.expect_heartbeat(now, &member.id);
                Ok(())
            }
        }
    }

    /// A LeaveGroup request: what becomes of each member.
    pub fn leave(
        &mut self,
        now: Now,
        limits: &Limits,
        leaving: &[Leaving],
        out: &mut Vec<Effect>,
    ) -> Vec<ErrorCode> {
        let codes: Vec<ErrorCode> = leaving.iter().map(|member| self.leave_one(member, out)).collect();
        if codes.contains(&ErrorCode::None) {
            match self.state {
                State::Stable | State::Completing => self.prepare_rebalance(now, limits, out),
                State::Preparing { initial: false } => self.complete_if_all_have_joined(now, out),
                State::Preparing { initial: true } | State::Empty => {}
            }
        }
        codes
    }

    fn leave_one(&mut self, leaving: &Leaving, out: &mut Vec<Effect>) -> ErrorCode {
        let instance = leaving.instance.as_deref();
        let id = match &leaving.member {
            // An administrator removes a static member by its name.
            None => match instance.and_then(|instance| self.instances.get(instance)) {
                Some(id) => id.clone(),
                None => return ErrorCode::UnknownMemberId,
            },
            Some(id) if self.promised.remove(id).is_some() => return ErrorCode::None,
            Some(id) => match self.check_member(id, instance) {
                Ok(()) => id.clone(),
                Err(code) => return code,
            },
        };
        self.remove(&id, out);
        ErrorCode::None
    }

    /// Whether offsets may be committed on behalf of this member. Without a member and a generation they may while nobody is in the group.
    pub fn may_commit(&mut self, now: Now, member: &MemberAt) -> Result<(), ErrorCode> {
        let anonymous = member.generation < 0 && member.id.is_empty() && member.instance.is_none();
        match self.state {
            State::Empty if member.generation < 0 => return Ok(()),
            _ if anonymous => return Err(ErrorCode::UnknownMemberId),
            _ => self.check_generation(member)?,
        }
        match self.state {
            State::Completing => Err(ErrorCode::RebalanceInProgress),
            State::Preparing { .. } | State::Stable => {
                self.expect_heartbeat(now, &member.id);
                Ok(())
            }
            State::Empty => Ok(()),
        }
    }

    /// Whether the group may be deleted.
    pub fn may_delete(&self) -> Result<(), ErrorCode> {
        if self.state == State::Empty { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// Whether single offsets may be deleted: of a group of consumers also while it has members, since it says what they subscribe to.
    pub fn may_delete_offsets(&self) -> Result<(), ErrorCode> {
        let of_consumers = self.protocol_type.as_deref() == Some(super::machine::CONSUMER);
        if self.state == State::Empty || of_consumers { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }
}
