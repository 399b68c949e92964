//! Members that act in any order, some of them wrongly, and time that passes between: whatever happens, every request is answered once, a
//! generation has one leader and one assignment, and what was told is what a restart would find.

use super::trial::protocols;
use crate::config::{BrokerConfig, Settings, Source};
use crate::group::record::GroupRecord;
use crate::group::*;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringlog_engine::io::{Instant, WallTime};
use ringlog_engine::shard::ShardId;
use ringlog_wire::ErrorCode;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// What one step does; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    /// A client joins, anew or as who it was.
    Join { client: usize, anew: bool, protocol: u8 },
    /// A client syncs; a leader brings an assignment.
    Sync { client: usize },
    /// A client says that it lives, perhaps of an older generation.
    Heartbeat { client: usize, older: bool },
    /// A client leaves.
    Leave { client: usize },
    /// A client commits.
    Commit { client: usize, offset: i64 },
    /// Time passes.
    Pass { ms: u64 },
    /// Records become durable, or cannot.
    Kept { well: bool },
    /// The broker starts anew, from its records.
    Restart,
    /// An administrator deletes the group.
    Delete,
}

const CLIENTS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        8 => (client.clone(), prop::bool::weighted(0.2), 0_u8..3)
            .prop_map(|(client, anew, protocol)| Step::Join { client, anew, protocol }),
        8 => client.clone().prop_map(|client| Step::Sync { client }),
        4 => (client.clone(), prop::bool::weighted(0.1)).prop_map(|(client, older)| Step::Heartbeat { client, older }),
        2 => client.clone().prop_map(|client| Step::Leave { client }),
        3 => (client, 0_i64..1000).prop_map(|(client, offset)| Step::Commit { client, offset }),
        4 => prop_oneof![0_u64..500, 0_u64..20_000].prop_map(|ms| Step::Pass { ms }),
        6 => prop::bool::weighted(0.9).prop_map(|well| Step::Kept { well }),
        1 => Just(Step::Restart),
        1 => Just(Step::Delete),
    ]
}

/// One client, as far as it knows. The last two are static members.
#[derive(Debug, Default, Clone)]
struct Client {
    id: Option<String>,
    generation: i32,
    leads: Vec<String>,
}

/// A request on its way.
#[derive(Debug)]
enum Open {
    Join(usize),
    Sync { client: usize, id: String, generation: i32 },
    Commit,
    Delete,
}

struct World {
    coordinator: Coordinator,
    config: BrokerConfig,
    now: Now,
    tickets: u64,
    open: BTreeMap<u64, Open>,
    clients: Vec<Client>,
    /// The log, how much of it is durable, and what follows when more is.
    log: Vec<GroupRecord>,
    durable: usize,
    pending: Vec<(usize, Then)>,
    /// Told of each generation since the group was last made: its leader, and what it assigned to whom.
    leaders: BTreeMap<i32, String>,
    assignments: BTreeMap<(i32, String), Bytes>,
    /// How much of the log the acknowledgements so far stand for.
    acknowledged: usize,
    answered: usize,
}

impl World {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.set_pair("group.initial.rebalance.delay.ms=1000", Source::CommandLine).unwrap();
        settings.set_pair("group.max.size=4", Source::CommandLine).unwrap();
        let config = BrokerConfig::new(settings).unwrap();
        Self {
            coordinator: Coordinator::new(config.groups.clone()),
            config,
            now: Now { at: Instant::from_nanos(1), wall: WallTime(1_700_000_000_000) },
            tickets: 0,
            open: BTreeMap::new(),
            clients: vec![Client::default(); CLIENTS],
            log: Vec::new(),
            durable: 0,
            pending: Vec::new(),
            leaders: BTreeMap::new(),
            assignments: BTreeMap::new(),
            acknowledged: 0,
            answered: 0,
        }
    }

    fn ask(&mut self, open: Open, request: GroupRequest) {
        self.tickets += 1;
        self.open.insert(self.tickets, open);
        let ticket = Ticket { shard: ShardId(0), number: self.tickets };
        let effects = self.coordinator.handle(self.now, "g", request, u128::from(self.tickets), ticket);
        self.take(effects);
    }

    /// A question that is answered at once.
    fn ask_now(&mut self, request: GroupRequest) -> GroupAnswer {
        let ticket = Ticket { shard: ShardId(0), number: 0 };
        let effects = self.coordinator.handle(self.now, "g", request, 0, ticket);
        let mut answer = None;
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Answer(to, told) if to == ticket => assert!(answer.replace(told).is_none()),
                other => rest.push(other),
            }
        }
        self.take(rest);
        answer.expect("answered at once")
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                Effect::AnswerKept(..) => unreachable!("no offsets are fetched here"),
                Effect::Append(records, then) => {
                    self.coordinator.appended(self.now, &records);
                    self.log.extend(records);
                    self.pending.push((self.log.len(), then));
                }
            }
        }
        self.check();
    }

    fn answer(&mut self, ticket: Ticket, answer: GroupAnswer) {
        self.answered += 1;
        let open = self.open.remove(&ticket.number).expect("a request is answered once");
        match (open, answer) {
            (Open::Join(client), GroupAnswer::Joined(Ok(joined))) => {
                let group = self.coordinator.group("g").expect("somebody has joined it");
                assert!(
                    group.describe().members.iter().any(|member| member.id == joined.member),
                    "{joined:?}"
                );
                assert_eq!(joined.members.is_empty(), joined.leader != joined.member);
                // An older client that comes back is told the id that led before: here all are new.
                let leader =
                    self.leaders.entry(joined.generation).or_insert_with(|| joined.leader.clone()).clone();
                // A static member may lead on under another id, which begins with the same name.
                let name = |id: &str| id.strip_prefix("static-").map(|rest| rest[..1].to_owned());
                let same = leader == joined.leader
                    || name(&leader).is_some() && name(&leader) == name(&joined.leader);
                assert!(same, "one leader in generation {}: {leader} {joined:?}", joined.generation);
                let leads = joined.members.iter().map(|(id, ..)| id.clone());
                let leads = if joined.skip_assignment { Vec::new() } else { leads.collect() };
                self.clients[client] =
                    Client { id: Some(joined.member), generation: joined.generation, leads };
            }
            (Open::Join(client), GroupAnswer::Joined(Err(refusal))) => {
                let id = Some(refusal.member).filter(|id| !id.is_empty());
                self.clients[client] = match refusal.code {
                    ErrorCode::MemberIdRequired => Client { id, ..Client::default() },
                    _ => Client::default(),
                };
            }
            (Open::Sync { client: _, id, generation }, GroupAnswer::Synced(synced)) => {
                let told =
                    self.assignments.entry((generation, id)).or_insert_with(|| synced.assignment.clone());
                assert_eq!(*told, synced.assignment, "one assignment in generation {generation}");
                let text = String::from_utf8(synced.assignment.to_vec()).unwrap();
                assert!(
                    text.is_empty() || text.starts_with(&format!("{generation}:")),
                    "{text} in {generation}"
                );
            }
            (Open::Sync { client, .. }, GroupAnswer::Refused(code)) => {
                if code == ErrorCode::UnknownMemberId {
                    self.clients[client] = Client::default();
                }
            }
            (Open::Commit | Open::Delete, GroupAnswer::Done) => self.acknowledged = self.durable,
            (Open::Commit | Open::Delete, GroupAnswer::Refused(_)) => {}
            (open, answer) => panic!("{open:?} is answered with {answer:?}"),
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let Some(group) = self.coordinator.group("g") else { return };
        let described = group.describe();
        match group.state() {
            State::Empty => assert!(described.members.is_empty()),
            State::Completing | State::Stable => assert!(!described.members.is_empty()),
            State::Preparing { .. } => {}
        }
        if !described.members.is_empty() {
            let deadline = self.coordinator.next_deadline();
            assert!(deadline.is_some(), "a group with members is waited for: {group:?}");
        }
        // What is stored and read back is the same group.
        let stored = group.to_stored();
        if group.state() == State::Stable {
            assert_eq!(Group::stored("g", stored.clone()).to_stored(), stored);
        }
    }

    fn member(&self, client: usize, older: bool) -> MemberAt {
        let known = &self.clients[client];
        MemberAt {
            id: known.id.clone().unwrap_or_default(),
            instance: instance(client),
            generation: known.generation - i32::from(older),
        }
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Join { client, anew, protocol } => {
                let waits = self.open.values().any(
                    |open| matches!(open, Open::Join(of) | Open::Sync { client: of, .. } if *of == client),
                );
                if waits && !anew {
                    return;
                }
                let join = Join {
                    member: self.clients[client].id.clone().filter(|_| !anew),
                    instance: instance(client),
                    client_id: format!("c{client}"),
                    client_host: "/127.0.0.1".into(),
                    session_timeout_ms: 6_000,
                    rebalance_timeout_ms: 10_000,
                    protocol_type: "consumer".into(),
                    protocols: protocols([&["a", "b"][..], &["b"], &["b", "a"]][usize::from(protocol)]),
                    id_required: client.is_multiple_of(2),
                    can_skip_assignment: true,
                };
                self.ask(Open::Join(client), GroupRequest::Join(join));
            }
            Step::Sync { client } => {
                let member = self.member(client, false);
                let generation = member.generation;
                let part = |id: &String| (id.clone(), Bytes::from(format!("{generation}:{id}")));
                let sync = Sync {
                    protocol_type: Some("consumer".into()),
                    protocol: None,
                    assignments: self.clients[client].leads.iter().map(part).collect(),
                    member: member.clone(),
                };
                self.ask(Open::Sync { client, id: member.id, generation }, GroupRequest::Sync(sync));
            }
            Step::Heartbeat { client, older } => {
                let member = self.member(client, older);
                if self.ask_now(GroupRequest::Heartbeat(member))
                    == GroupAnswer::Refused(ErrorCode::UnknownMemberId)
                {
                    self.clients[client] = Client::default();
                }
            }
            Step::Leave { client } => {
                let leaving = Leaving { member: self.clients[client].id.take(), instance: instance(client) };
                self.ask_now(GroupRequest::Leave(vec![leaving]));
                self.clients[client] = Client::default();
            }
            Step::Commit { client, offset } => {
                let new = NewOffset {
                    topic: "t".into(),
                    partition: 0,
                    offset,
                    leader_epoch: None,
                    metadata: String::new(),
                };
                let commit = Commit {
                    member: self.member(client, false),
                    retention_ms: None,
                    knows_not_found: true,
                    offsets: vec![new],
                };
                self.ask(Open::Commit, GroupRequest::Commit(commit));
            }
            Step::Pass { ms } => self.pass(Duration::from_millis(ms)),
            Step::Kept { well } => self.kept(well),
            Step::Restart => self.restart(),
            Step::Delete => {
                self.ask(Open::Delete, GroupRequest::Delete);
                if self.coordinator.group("g").is_none() {
                    // A group of the same name begins with the first generation again.
                    self.leaders.clear();
                }
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.at + span;
        while let Some(next) = self.coordinator.next_deadline().filter(|next| *next <= end) {
            self.tick(next.max(self.now.at));
        }
        self.tick(end);
    }

    fn tick(&mut self, at: Instant) {
        let passed = i64::try_from(at.since(self.now.at).as_millis()).unwrap();
        self.now = Now { at, wall: WallTime(self.now.wall.0 + passed) };
        let effects = self.coordinator.tick(self.now);
        self.take(effects);
    }

    /// The first record in line becomes durable; or it takes too long, and those in line behind it are told too.
    fn kept(&mut self, well: bool) {
        if self.pending.is_empty() {
            return;
        }
        let (end, then) = self.pending.remove(0);
        self.durable = end;
        let result = if well { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) };
        match then {
            Then::Nothing => {}
            Then::Answer(ticket, answer) => {
                self.answer(ticket, result.map_or_else(GroupAnswer::Refused, |()| answer))
            }
            Then::Group(id, kept) => {
                let effects = self.coordinator.kept(self.now, &id, kept, result);
                self.take(effects);
            }
        }
    }

    /// A power cut, at worst: what is not durable may be there or not; connections are gone.
    fn restart(&mut self) {
        self.log.truncate(self.durable);
        self.pending.clear();
        self.open.clear();
        self.coordinator = Coordinator::new(self.config.groups.clone());
        for record in self.log.clone() {
            // Through its bytes.
            let (key, value) = (Bytes::from(record.key()), record.value().map(Bytes::from));
            self.coordinator.replay(GroupRecord::read(&key, value.as_ref()).unwrap().unwrap());
        }
        // Generations that nobody was told of come again.
        let generation = self.coordinator.group("g").map_or(0, |group| group.to_stored().generation);
        self.leaders.retain(|of, _| *of < generation);
        self.assignments.retain(|(of, _), _| *of <= generation);
        assert!(self.log.len() >= self.acknowledged, "what was acknowledged is there");
        let newest = self.log.iter().rev().find_map(|record| match record {
            GroupRecord::Offset { value, .. } => Some(value.as_ref().map(|committed| committed.offset)),
            GroupRecord::Group { .. } | GroupRecord::Share(_) => None,
        });
        let told =
            self.coordinator.groups_from("").find_map(|(_, _, offsets)| Some(offsets.get("t", 0)?.offset));
        assert_eq!(told, newest.flatten(), "the newest commit is told");
        let effects = self.coordinator.activate(self.now, |_| true);
        self.take(effects);
    }

    /// Everybody stops: whoever waits is answered in the end, and the group is empty.
    fn end(&mut self) {
        for _ in 0..1000 {
            let is_empty = self.coordinator.group("g").is_none_or(|group| group.state() == State::Empty);
            if is_empty && self.open.is_empty() {
                break;
            }
            self.kept(true);
            self.pass(Duration::from_secs(1));
        }
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        if let Some(group) = self.coordinator.group("g") {
            assert_eq!(group.state(), State::Empty, "{group:?}");
        }
    }
}

/// The last two clients are static members, of one name each.
fn instance(client: usize) -> Option<String> {
    (client + 2 >= CLIENTS).then(|| format!("static-{client}"))
}

#[test]
fn members_in_any_order_are_answered_once_and_told_the_same() {
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
    let (answers, generations) = (Cell::new(0), Cell::new(0));
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..120), |steps| {
            let mut world = World::new();
            for step in &steps {
                world.act(step);
            }
            generations.set(generations.get() + world.leaders.len());
            world.end();
            answers.set(answers.get() + world.answered);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{} answers in {} generations", answers.get(), generations.get());
    assert!(answers.get() >= 60_000 && generations.get() >= 2_000, "fewer than there were");
}
