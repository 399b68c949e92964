//! One group with a clock that stands until it is told to pass, and a log that keeps records when it is told to.

use crate::group::*;
use bytes::Bytes;
use ringlog_engine::io::{Instant, WallTime};
use ringlog_engine::shard::ShardId;
use ringlog_wire::ErrorCode;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) struct Trial {
    pub(super) limits: Limits,
    group: Group,
    now: Now,
    tickets: u64,
    ids: u64,
    answers: BTreeMap<u64, GroupAnswer>,
    /// Records that are in the log, the newest last, and what follows when they are durable.
    records: Vec<record::GroupRecord>,
    pending: Vec<Then>,
    holds: bool,
}

impl Trial {
    pub(super) fn new() -> Self {
        let now = Now { at: Instant::from_nanos(1_000_000_000_000), wall: WallTime(1_700_000_000_000) };
        Self {
            limits: Limits { initial_delay: Duration::from_secs(3), members_max: usize::MAX },
            group: Group::new("g", now.wall),
            now,
            tickets: 0,
            ids: 0,
            answers: BTreeMap::new(),
            records: Vec::new(),
            pending: Vec::new(),
            holds: false,
        }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn state(&self) -> &'static str {
        self.group.state().name()
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket { shard: ShardId(0), number: self.tickets }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) | Effect::AnswerKept(ticket, answer) => {
                    let twice = self.answers.insert(ticket.number, answer);
                    assert_eq!(twice, None, "a request is answered once");
                }
                Effect::Append(records, then) => {
                    self.records.extend(records);
                    self.pending.push(then);
                }
            }
        }
        if !self.holds {
            self.release_records(Ok(()));
        }
    }

    pub(super) fn hold_records(&mut self) {
        self.holds = true;
    }

    pub(super) fn release_records(&mut self, result: Result<(), ErrorCode>) {
        self.holds = false;
        for then in std::mem::take(&mut self.pending) {
            if let Then::Group(_, kept) = then {
                let mut out = Vec::new();
                self.group.kept(self.now, &self.limits, kept, result, &mut out);
                self.take(out);
            }
        }
    }

    /// The broker starts anew, from the newest record.
    pub(super) fn restart(&mut self) {
        let Some(record::GroupRecord::Group { value: Some(stored), .. }) = self.records.last().cloned()
        else {
            panic!("{:?}", self.records.last());
        };
        self.group = Group::stored("g", stored);
        let mut out = Vec::new();
        self.group.activate(self.now, &self.limits, &mut out);
        self.take(out);
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.at + Duration::from_millis(ms);
        // Stops at each deadline, as timers do.
        while let Some(next) = self.group.next_deadline().filter(|next| *next <= end) {
            let at = next.max(self.now.at);
            self.step(at);
        }
        self.step(end);
    }

    fn step(&mut self, at: Instant) {
        let passed = i64::try_from(at.since(self.now.at).as_millis()).unwrap();
        self.now = Now { at, wall: WallTime(self.now.wall.0 + passed) };
        let mut out = Vec::new();
        self.group.tick(self.now, &self.limits, &mut out);
        self.take(out);
    }

    pub(super) fn answer(&mut self, ticket: u64) -> Option<GroupAnswer> {
        self.answers.remove(&ticket)
    }

    pub(super) fn join(&mut self, member: Option<&str>, change: impl FnOnce(&mut Join)) -> u64 {
        let mut join = Join {
            member: member.map(Into::into),
            instance: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: protocols(&["range"]),
            id_required: true,
            can_skip_assignment: true,
        };
        change(&mut join);
        let ticket = self.ticket();
        self.ids += 1;
        let name = join.instance.as_ref().unwrap_or(&join.client_id);
        let new_id = format!("{name}-{:036}", self.ids);
        let mut out = Vec::new();
        self.group.join(self.now, &self.limits, &join, new_id, ticket, &mut out);
        self.take(out);
        ticket.number
    }

    /// The id that a new member is promised.
    pub(super) fn promised(&mut self) -> String {
        let ticket = self.join(None, |_| {});
        match self.answer(ticket) {
            Some(GroupAnswer::Joined(Err(JoinRefusal { member, .. }))) => member,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> u64 {
        let ticket = self.ticket();
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let sync = Sync {
            member: at(member, generation),
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(|(id, text)| ((*id).into(), bytes(text))).collect(),
        };
        let mut out = Vec::new();
        self.group.sync(sync, ticket, &mut out);
        self.take(out);
        ticket.number
    }

    pub(super) fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), ErrorCode> {
        self.heartbeat_as(&at(member, generation))
    }

    pub(super) fn heartbeat_as(&mut self, member: &MemberAt) -> Result<(), ErrorCode> {
        self.group.heartbeat(self.now, member)
    }

    pub(super) fn commit(&mut self, member: &str, generation: i32) -> Result<(), ErrorCode> {
        self.group.may_commit(self.now, &at(member, generation))
    }

    pub(super) fn leave(&mut self, leaving: &[(Option<&str>, Option<&str>)]) -> Vec<ErrorCode> {
        let leaving: Vec<Leaving> = leaving
            .iter()
            .map(|(member, instance)| Leaving {
                member: member.map(Into::into),
                instance: instance.map(Into::into),
            })
            .collect();
        let mut out = Vec::new();
        let codes = self.group.leave(self.now, &self.limits, &leaving, &mut out);
        self.take(out);
        codes
    }

    /// A group whose two members have joined: the leader and the other.
    pub(super) fn two(&mut self) -> (String, String) {
        self.pair([None, None])
    }

    fn pair(&mut self, instances: [Option<&str>; 2]) -> (String, String) {
        let tickets = instances.map(|instance| {
            self.join(None, |join| (join.id_required, join.instance) = (false, instance.map(Into::into)))
        });
        self.pass(10_000);
        let [a, b] = tickets.map(|ticket| joined(&self.answer(ticket).expect("the delay is over")));
        assert_eq!((a.generation, &a.leader), (1, &b.leader));
        assert_eq!(a.leader, a.member, "the first to come leads");
        (a.member, b.member)
    }

    /// The same with an assignment: `a` for the leader, `b` for the other.
    pub(super) fn stable_two(&mut self) -> (String, String) {
        let (leader, follower) = self.two();
        self.assign(&leader, &follower);
        (leader, follower)
    }

    /// The same with the static names `one` and `two`.
    pub(super) fn stable_static(&mut self) -> (String, String) {
        let (leader, follower) = self.pair([Some("one"), Some("two")]);
        self.assign(&leader, &follower);
        (leader, follower)
    }

    fn assign(&mut self, leader: &str, follower: &str) {
        let tickets = [self.sync(follower, 1, &[]), self.sync(leader, 1, &[(leader, "a"), (follower, "b")])];
        for ticket in tickets {
            synced(&self.answer(ticket).expect("the leader has synced"));
        }
        assert_eq!(self.state(), "Stable");
    }
}

fn at(member: &str, generation: i32) -> MemberAt {
    MemberAt { id: member.into(), instance: None, generation }
}

pub(super) fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
    names.iter().map(|name| ((*name).into(), Bytes::from(format!("m-{name}")))).collect()
}

pub(super) fn code(answer: &GroupAnswer) -> ErrorCode {
    match answer {
        GroupAnswer::Refused(code) | GroupAnswer::Joined(Err(JoinRefusal { code, .. })) => *code,
        other => panic!("{other:?}"),
    }
}

pub(super) fn joined(answer: &GroupAnswer) -> Joined {
    match answer {
        GroupAnswer::Joined(Ok(joined)) => joined.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn synced(answer: &GroupAnswer) -> String {
    match answer {
        GroupAnswer::Synced(synced) => String::from_utf8(synced.assignment.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn assignment(trial: &Trial, member: &str) -> String {
    let described = trial.group().describe().members;
    let member = described.into_iter().find(|one| one.id == member).expect("a member");
    String::from_utf8(member.assignment.to_vec()).unwrap()
}
