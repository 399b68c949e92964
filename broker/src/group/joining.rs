//! Joining a group: new members, members that join again, and static members that come back.

use super::machine::{Effect, Group, Kept, Limits, NEW_MEMBER_WAIT, Now, State, Then, refuse_join};
use super::member::Member;
use super::request::{GroupAnswer, Join, Ticket};
use ringlog_wire::ErrorCode;

impl Group {
    /// A JoinGroup request. `new_id` is the id that a new member gets.
    pub fn join(
        &mut self,
        now: Now,
        limits: &Limits,
        join: &Join,
        new_id: String,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        let known = join.member.as_deref().unwrap_or_default();
        if !self.has_room_for(limits, known) {
            self.remove(known, out);
            out.push(refuse_join(ticket, ErrorCode::GroupMaxSizeReached, ""));
            if self.state == (State::Preparing { initial: false }) {
                self.complete_if_all_have_joined(now, out);
            }
            return;
        }
        if !self.fits(join) {
            out.push(refuse_join(ticket, ErrorCode::InconsistentGroupProtocol, known));
            return;
        }
        match &join.member {
            None => self.join_new(now, limits, join, new_id, ticket, out),
            Some(id) => self.join_again(now, limits, join, id, ticket, out),
        }
    }

    /// While members join, those who have come count: so the last to come of too many are turned away.
    fn has_room_for(&self, limits: &Limits, known: &str) -> bool {
        let member = self.members.get(known);
        match self.state {
            State::Empty => true,
            State::Preparing { .. } => {
                let joined = self.members.values().filter(|member| member.joining.is_some()).count();
                member.is_some_and(|member| member.joining.is_some()) || joined < limits.members_max
            }
            State::Completing | State::Stable => member.is_some() || self.members.len() < limits.members_max,
        }
    }

    fn join_new(
        &mut self,
        now: Now,
        limits: &Limits,
        join: &Join,
        new_id: String,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        let replaced = join.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        match replaced {
            Some(old_id) => self.replace_static(now, limits, join, &old_id, new_id, ticket, out),
            None if join.instance.is_none() && join.id_required => {
                let deadline = now.at + super::member::millis(join.session_timeout_ms);
                out.push(refuse_join(ticket, ErrorCode::MemberIdRequired, &new_id));
                self.promised.insert(new_id, deadline);
                self.due(deadline);
            }
            None => self.add(now, limits, join, new_id, ticket, out),
        }
    }

    fn join_again(
        &mut self,
        now: Now,
        limits: &Limits,
        join: &Join,
        id: &str,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        if self.promised.contains_key(id) && join.instance.is_none() {
            return self.add(now, limits, join, id.to_owned(), ticket, out);
        }
        if let Err(code) = self.check_member(id, join.instance.as_deref()) {
            out.push(refuse_join(ticket, code, id));
            return;
        }
        let says_the_same = self.members[id].protocols == join.protocols;
        let is_leader = self.leader.as_deref() == Some(id);
        // A leader that joins again while the group is stable wants a rebalance, for reasons that its metadata may not show.
        let changes_nothing = match self.state {
            State::Completing => says_the_same,
            State::Stable => says_the_same && !is_leader,
            State::Preparing { .. } | State::Empty => false,
        };
        if changes_nothing {
            let joined = self.joined(id, false);
            out.push(Effect::Answer(ticket, GroupAnswer::Joined(Ok(joined))));
            return;
        }
        self.update(id, join, ticket, out);
        self.rebalance_or_complete(now, limits, out);
    }

    fn add(
        &mut self,
        now: Now,
        limits: &Limits,
        join: &Join,
        id: String,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        if self.state == (State::Preparing { initial: true }) {
            self.grown = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.promised.remove(&id);
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let deadline = now.at + NEW_MEMBER_WAIT;
        self.due(deadline);
        let member = Member { deadline: Some(deadline), ..Member::new(id.clone(), join, ticket) };
        self.members.insert(id, member);
        self.rebalance_or_complete(now, limits, out);
    }

    /// A member joins with what it says about itself now.
    fn update(&mut self, id: &str, join: &Join, ticket: Ticket, out: &mut Vec<Effect>) {
        let member = self.members.get_mut(id).expect("a known member");
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if let Some(older) = member.joining.replace(ticket) {
            // The same member on another connection: nobody listens on the older one any more.
            out.push(refuse_join(older, ErrorCode::RebalanceInProgress, id));
        }
    }

    fn rebalance_or_complete(&mut self, now: Now, limits: &Limits, out: &mut Vec<Effect>) {
        match self.state {
            State::Empty | State::Completing | State::Stable => self.prepare_rebalance(now, limits, out),
            State::Preparing { initial: false } => self.complete_if_all_have_joined(now, out),
            // More may come: the delay decides.
            State::Preparing { initial: true } => {}
        }
    }

    /// A static member has come back without its id: it goes on under a new one, with what it was assigned.
    #[expect(clippy::too_many_arguments, reason = "what a join is made of, and whom it replaces")]
    fn replace_static(
        &mut self,
        now: Now,
        limits: &Limits,
        join: &Join,
        old_id: &str,
        new_id: String,
        ticket: Ticket,
        out: &mut Vec<Effect>,
    ) {
        let leader = self.leader.clone();
        let mut old = self.members.remove(old_id).expect("static names lead to members");
        if let Some(ticket) = old.joining.take() {
            out.push(refuse_join(ticket, ErrorCode::FencedInstanceId, old_id));
        }
        if let Some(ticket) = old.syncing.take() {
            out.push(Effect::Answer(ticket, GroupAnswer::Refused(ErrorCode::FencedInstanceId)));
        }
        self.unsynced.remove(old_id);
        self.rename(&Member { id: new_id.clone(), is_new: false, ..old.clone() }, old_id);
        self.update(&new_id, join, ticket, out);
        self.expect_heartbeat(now, &new_id);
        match self.state {
            State::Stable if self.chosen_protocol() == self.protocol => {
                let record = self.record(self.to_stored());
                let can_skip_assignment = join.can_skip_assignment;
                let kept = Kept::Replaced { old: Box::new(old), new: new_id, leader, can_skip_assignment };
                out.push(Effect::Append(vec![record], Then::Group(self.id.clone(), kept)));
            }
            // The leader may have been told of the old id already.
            State::Stable | State::Completing => self.prepare_rebalance(now, limits, out),
            State::Preparing { initial: false } => self.complete_if_all_have_joined(now, out),
            State::Preparing { initial: true } | State::Empty => {}
        }
    }

    fn rename(&mut self, member: &Member, old_id: &str) {
        let instance = member.instance.clone().expect("a static member");
        self.instances.insert(instance, member.id.clone());
        self.members.insert(member.id.clone(), member.clone());
        if self.leader.as_deref() == Some(old_id) {
            self.leader = Some(member.id.clone());
        }
    }

    /// The record that says under which id a static member goes on is durable, or is not.
    pub(super) fn replaced(
        &mut self,
        now: Now,
        (old, new, leader, can_skip_assignment): (Member, &str, Option<String>, bool),
        result: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        // A rebalance that has begun meanwhile counts it among those who have joined, and answers it.
        if self.state != State::Stable {
            return;
        }
        let Some(ticket) = self.members.get_mut(new).and_then(|member| member.joining.take()) else { return };
        if let Err(code) = result {
            let member = self.members.remove(new).expect("just seen");
            let old = Member { assignment: member.assignment, ..old };
            self.rename(&old, new);
            self.expect_heartbeat(now, &old.id);
            out.push(refuse_join(ticket, code, ""));
            return;
        }
        self.expect_heartbeat(now, new);
        let is_leader = self.leader.as_deref() == Some(new);
        let mut joined = self.joined(new, is_leader && can_skip_assignment);
        if !can_skip_assignment {
            // Told that somebody else leads, an older client leaves the assignment alone.
            joined.leader = leader.unwrap_or_default();
            joined.members.clear();
        }
        out.push(Effect::Answer(ticket, GroupAnswer::Joined(Ok(joined))));
    }
}
