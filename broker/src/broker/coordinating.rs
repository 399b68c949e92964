//! Coordinating groups: on the shard that owns a partition of `__consumer_offsets`, its groups get the time, their log and whom to answer;
//! on the shard that serves a connection, a question is kept until its answer comes.
//!
//! A question waits for its answer under a number and holds no call open meanwhile: a member may wait for minutes until all others have
//! joined.

use super::Broker;
use crate::calls::{Answer, Call};
use crate::cluster::{Image, Topic};
use crate::group::{
    Coordinator, Effect, GroupAnswer, GroupRequest, Listed, Now, OFFSETS_TOPIC, Then, Ticket, append_failure,
    partition_for, record::GroupRecord,
};
use crate::partition::{Appending, Partition, PartitionId};
use ringlog_engine::batch::Codec;
use ringlog_engine::io::Instant;
#[cfg(ringlog_plant)]
use ringlog_engine::plant::{self, Plant};
use ringlog_engine::records::Builder;
use ringlog_engine::shard::ShardId;
use ringlog_engine::shard::sync::{Event, Receiver, Sender, oneshot};
use ringlog_wire::ErrorCode;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

mod figures;
mod loading;

/// The groups this shard coordinates, by the partition that keeps them.
#[derive(Default)]
pub(super) struct Coordinators(RefCell<BTreeMap<PartitionId, Rc<Coordinating>>>);

/// The coordinator of one partition at work.
struct Coordinating {
    partition: Partition,
    coordinator: RefCell<Coordinator>,
    progress: Cell<Progress>,
    /// Until when a task sleeps before it looks for what is due; `None` without one.
    sleeps_until: Cell<Option<Instant>>,
    /// That task must look earlier.
    earlier: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The records are being read back.
    Loading,
    Serving,
    /// The partition has gone, or its log has failed: what is in memory may not be what is kept.
    Ended,
}

/// Questions to coordinators that wait for their answers, by number.
#[derive(Default)]
pub(super) struct Questions {
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Question>>,
}

struct Question {
    answer: Sender<GroupAnswer>,
    /// It is answered when other members have come, not as soon as can be.
    is_parked: bool,
}

impl Questions {
    fn open(&self, is_parked: bool) -> (u64, Receiver<GroupAnswer>) {
        let number = self.next.get();
        self.next.set(number + 1);
        let (answer, receiver) = oneshot();
        self.open.borrow_mut().insert(number, Question { answer, is_parked });
        (number, receiver)
    }

    /// Who asked may have gone.
    pub(super) fn answer(&self, number: u64, answer: GroupAnswer) {
        let question = self.open.borrow_mut().remove(&number);
        if let Some(question) = question {
            question.answer.send(answer);
        }
    }
}

/// A question that is forgotten when nobody waits for its answer any more.
struct Asked {
    broker: Broker,
    number: u64,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.broker.0.questions.open.borrow_mut().remove(&self.number);
    }
}

/// Bytes of records in one batch, about.
const BATCH_BYTES: usize = 512 << 10;

impl Broker {
    /// The partition that keeps a group, if there are such partitions.
    pub fn coordinator_of(&self, group: &str) -> Option<PartitionId> {
        let image = self.image();
        let topic = image.topic(OFFSETS_TOPIC)?;
        Some(PartitionId::new(topic.id, partition_for(group, topic.partitions.len())))
    }

    /// Asks the coordinator of a group. The question is on its way, in order, when this returns.
    pub fn ask_group(&self, group: &str, request: GroupRequest) -> impl Future<Output = GroupAnswer> + use<> {
        let asked = self.coordinator_of(group).map(|partition| {
            let is_parked = matches!(request, GroupRequest::Join(_) | GroupRequest::Sync(_));
            let (number, answer) = self.0.questions.open(is_parked);
            let ticket = Ticket { shard: self.0.shard.id(), number };
            let call = Call::Group { partition, group: group.to_owned(), request, ticket };
            let sent = self.ask(self.owner(partition), call);
            (sent, answer, Asked { broker: self.clone(), number })
        });
        async move {
            let Some((sent, answer, _asked)) = asked else {
                return GroupAnswer::Refused(ErrorCode::NotCoordinator);
            };
            sent.await;
            // Nobody answers while the broker stops.
            answer.await.unwrap_or(GroupAnswer::Refused(ErrorCode::NotCoordinator))
        }
    }

    /// All groups of all shards.
    pub async fn list_groups(&self) -> Result<Vec<Listed>, ErrorCode> {
        let asked: Vec<_> =
            (0..self.shards()).map(|shard| self.ask(ShardId(shard), Call::ListGroups)).collect();
        let mut groups = Vec::new();
        for answer in asked {
            match answer.await {
                Answer::Groups(listed) => groups.extend(listed?),
                _ => unreachable!("a list is answered with groups"),
            }
        }
        Ok(groups)
    }

    pub(super) fn list_own_groups(&self) -> Result<Vec<Listed>, ErrorCode> {
        let topic = self.image().topic(OFFSETS_TOPIC).map(|topic| topic.id);
        if topic.is_some_and(|topic| self.0.opening.borrow().iter().any(|id| id.topic == topic.0)) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let mut groups = Vec::new();
        for coordinating in self.coordinating() {
            match coordinating.progress.get() {
                Progress::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
                Progress::Serving => groups.extend(coordinating.coordinator.borrow().list()),
                Progress::Ended => {}
            }
        }
        Ok(groups)
    }

    /// The broker stops: members that wait for others are told to look elsewhere.
    pub(super) fn release_members(&self) {
        self.0.questions.open.borrow_mut().retain(|_, question| !question.is_parked);
    }

    /// Takes charge of the groups in a partition that has been opened.
    pub(super) fn coordinate(&self, partition: Partition) {
        let coordinating = Rc::new(Coordinating {
            coordinator: RefCell::new(Coordinator::new(self.0.config.groups.clone())),
            progress: Cell::new(Progress::Loading),
            sleeps_until: Cell::new(None),
            earlier: Event::default(),
            partition,
        });
        let id = coordinating.partition.id();
        self.0.coordinators.0.borrow_mut().insert(id, coordinating.clone());
        let marks = coordinating.partition.log().marks();
        if marks.log_start == marks.log_end {
            self.begin(&coordinating);
        } else {
            self.0.shard.spawn(self.clone().load(coordinating));
        }
    }

    /// Lets go of the groups of a partition that goes away.
    pub(super) fn stop_coordinating(&self, partition: PartitionId) {
        let gone = self.0.coordinators.0.borrow_mut().remove(&partition);
        if let Some(gone) = gone {
            gone.progress.set(Progress::Ended);
            gone.earlier.notify();
        }
    }

    /// All records are known: requests are answered from now on.
    fn begin(&self, coordinating: &Rc<Coordinating>) {
        let image = self.image();
        let exists = |topic: &str| image.topic(topic).is_some();
        let effects = coordinating.coordinator.borrow_mut().activate(self.now(), exists);
        let limits = |group: &str| self.share_config(group).group_limits();
        coordinating.coordinator.borrow_mut().activate_shares(self.now(), limits);
        coordinating.progress.set(Progress::Serving);
        self.carry_out(coordinating, effects);
    }

    /// Topics have gone: the offsets in them are forgotten before anybody hears that they have.
    pub(super) async fn forget_offsets(&self, gone: &[Arc<Topic>]) {
        if gone.is_empty() {
            return;
        }
        let gone: BTreeSet<&str> = gone.iter().map(|topic| &*topic.name).collect();
        let mut forgotten = Vec::new();
        for coordinating in self.coordinating() {
            if coordinating.progress.get() != Progress::Serving {
                continue;
            }
            let mut effects = Vec::new();
            coordinating.coordinator.borrow_mut().forget(|topic| gone.contains(topic), &mut effects);
            if !effects.is_empty() {
                self.carry_out(&coordinating, effects);
                forgotten.push(coordinating.partition.all_acknowledged(self.deadline()));
            }
        }
        for kept in forgotten {
            // A log that fails has said so; its groups have ended with it.
            let _ = kept.await;
        }
    }

    fn coordinating(&self) -> Vec<Rc<Coordinating>> {
        self.0.coordinators.0.borrow().values().cloned().collect()
    }

    fn now(&self) -> Now {
        Now { at: self.0.shard.now(), wall: self.0.shard.wall_time() }
    }

    /// Until when records of groups must be durable.
    fn deadline(&self) -> Instant {
        self.0.shard.now() + self.0.config.groups.commit_timeout
    }

    /// Takes in a question to a coordinator of this shard's.
    pub(super) fn serve_group(
        &self,
        partition: PartitionId,
        group: &str,
        request: GroupRequest,
        ticket: Ticket,
    ) {
        let coordinating = self.0.coordinators.0.borrow().get(&partition).cloned();
        let progress = match &coordinating {
            Some(coordinating) => coordinating.progress.get(),
            None if self.is_to_come(partition) => Progress::Loading,
            None => Progress::Ended,
        };
        match (progress, coordinating) {
            (Progress::Serving, Some(coordinating)) => {
                let effects = match request {
                    GroupRequest::Share(request) => {
                        let limits = self.share_config(group).group_limits();
                        let image = self.image();
                        let topics = |name: &str| topic_of(&image, name);
                        let mut coordinator = coordinating.coordinator.borrow_mut();
                        coordinator.handle_share(self.now(), group, request, &limits, &topics, ticket)
                    }
                    request => {
                        let io = self.0.shard.io();
                        let random = u128::from(io.random()) << 64 | u128::from(io.random());
                        let mut coordinator = coordinating.coordinator.borrow_mut();
                        coordinator.handle(self.now(), group, request, random, ticket)
                    }
                };
                self.carry_out(&coordinating, effects);
            }
            // Whether the member is known is not known yet.
            (Progress::Loading, _) if matches!(request, GroupRequest::Heartbeat(_)) => {
                self.answer_group(ticket, GroupAnswer::Done);
            }
            (Progress::Loading, _) => {
                self.answer_group(ticket, GroupAnswer::Refused(ErrorCode::CoordinatorLoadInProgress));
            }
            _ => self.answer_group(ticket, GroupAnswer::Refused(ErrorCode::NotCoordinator)),
        }
    }

    fn answer_group(&self, ticket: Ticket, answer: GroupAnswer) {
        if ticket.shard == self.0.shard.id() {
            self.0.questions.answer(ticket.number, answer);
        } else {
            self.tell(ticket.shard, Call::GroupAnswered(ticket.number, answer));
        }
    }

    /// Does what a coordinator wants done, in order.
    fn carry_out(&self, coordinating: &Rc<Coordinating>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => self.answer_group(ticket, answer),
                Effect::AnswerKept(ticket, answer) => self.answer_kept(coordinating, ticket, answer),
                Effect::Append(records, then) => match self.keep(coordinating, &records) {
                    #[cfg(ringlog_plant)]
                    Ok(_) if plant::is(Plant::AcknowledgeCommitsEarly) => {
                        self.go_on(coordinating, then, Ok(()))
                    }
                    Ok(Some(appending)) if then != Then::Nothing => {
                        let (this, coordinating) = (self.clone(), coordinating.clone());
                        self.0.shard.spawn(async move {
                            let result = appending.acknowledged().await.map(drop);
                            this.go_on(&coordinating, then, result.map_err(|refusal| refusal.code));
                        });
                    }
                    Ok(_) => self.go_on(coordinating, then, Ok(())),
                    Err(code) => self.go_on(coordinating, then, Err(code)),
                },
            }
        }
        self.keep_time(coordinating);
    }

    fn answer_kept(&self, coordinating: &Rc<Coordinating>, ticket: Ticket, answer: GroupAnswer) {
        let partition = &coordinating.partition;
        if partition.high_watermark() >= partition.log().marks().log_end {
            return self.answer_group(ticket, answer);
        }
        let kept = partition.all_acknowledged(self.deadline());
        let this = self.clone();
        self.0.shard.spawn(async move {
            let answer = match kept.await {
                Ok(()) => answer,
                Err(code) => GroupAnswer::Refused(append_failure(code)),
            };
            this.answer_group(ticket, answer);
        });
    }

    /// Appends records, in batches. What of them lies in the log is in force, also where the rest is refused.
    fn keep(
        &self,
        coordinating: &Coordinating,
        records: &[GroupRecord],
    ) -> Result<Option<Appending>, ErrorCode> {
        let now = self.now();
        let mut last = None;
        let mut rest = records;
        while !rest.is_empty() {
            let mut batch = Builder::new(Codec::None);
            let mut count = 0;
            for record in rest {
                if !batch.is_empty() && batch.len() >= BATCH_BYTES {
                    break;
                }
                batch.push(now.wall.0, Some(&record.key()), record.value().as_deref(), &[]);
                count += 1;
            }
            let (placed, after) = rest.split_at(count);
            last = Some(coordinating.partition.append_as_coordinator(&batch.build(), self.deadline())?);
            coordinating.coordinator.borrow_mut().appended(now, placed);
            rest = after;
        }
        Ok(last)
    }

    /// Records are durable, or are not.
    fn go_on(&self, coordinating: &Rc<Coordinating>, then: Then, result: Result<(), ErrorCode>) {
        // A disk that is full refuses, and takes records again later; what has failed or is closed does not, and may lack what is in force here.
        let has_failed = coordinating.partition.log().failed().is_some();
        if has_failed || matches!(result, Err(ErrorCode::NotLeaderOrFollower)) {
            coordinating.progress.set(Progress::Ended);
        }
        let result = result.map_err(append_failure);
        match then {
            Then::Nothing => {}
            Then::Answer(ticket, answer) => {
                self.answer_group(ticket, result.map_or_else(GroupAnswer::Refused, |()| answer));
            }
            Then::Group(id, kept) => {
                let effects = coordinating.coordinator.borrow_mut().kept(self.now(), &id, kept, result);
                self.carry_out(coordinating, effects);
            }
        }
    }

    /// Sees to it that a task wakes when something is due.
    fn keep_time(&self, coordinating: &Rc<Coordinating>) {
        let Some(next) = coordinating.coordinator.borrow().next_deadline() else { return };
        match coordinating.sleeps_until.get() {
            None => {
                coordinating.sleeps_until.set(Some(next));
                self.0.shard.spawn(self.clone().watch(coordinating.clone()));
            }
            Some(until) if next < until => {
                coordinating.sleeps_until.set(Some(next));
                coordinating.earlier.notify();
            }
            Some(_) => {}
        }
    }

    /// Does what is due, for as long as something will be.
    async fn watch(self, coordinating: Rc<Coordinating>) {
        while let Some(until) = coordinating.sleeps_until.get() {
            let earlier = coordinating.earlier.next();
            first(self.0.shard.sleep_until(until), earlier).await;
            if coordinating.progress.get() != Progress::Serving || self.is_stopping() {
                break;
            }
            let now = self.now();
            if coordinating.sleeps_until.get().is_some_and(|until| until <= now.at) {
                let image = self.image();
                let mut effects = coordinating.coordinator.borrow_mut().tick(now);
                let topics = |name: &str| topic_of(&image, name);
                effects.extend(coordinating.coordinator.borrow_mut().tick_shares(now, &topics));
                self.carry_out(&coordinating, effects);
                let next = coordinating.coordinator.borrow().next_deadline();
                coordinating.sleeps_until.set(next);
            }
        }
        coordinating.sleeps_until.set(None);
    }
}

/// A topic's id and how many partitions it has.
fn topic_of(image: &Image, name: &str) -> Option<([u8; 16], i32)> {
    let topic = image.topic(name)?;
    Some((topic.id.0, i32::try_from(topic.partitions.len()).expect("partitions are counted in 32 bits")))
}

/// Waits for one of two.
pub(super) async fn first(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match (a.as_mut().poll(cx), b.as_mut().poll(cx)) {
        (Poll::Pending, Poll::Pending) => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}
