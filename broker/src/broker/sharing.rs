//! Share partitions: beside a partition, on the shard that owns it, what its share groups have made of its records.
//!
//! ```text
//!   connection's shard               owner of the partition                     owner of its state
//!     ShareFetch ──────────────────▶  reads the log, acquires
//!     ShareAcknowledge ────────────▶  pending ── ShareState(write) ──────────▶  appended, durable
//!        ◀── answered ──────────────  done, or as before  ◀──────────────────
//! ```

use super::coordinating::first;
use super::reading::Parking;
use super::{Broker, PendingAnswer};
use crate::calls::{Answer, Call};
use crate::partition::{Partition, PartitionId, Reader, Sought};
use crate::share::{
    Acknowledgement, Acquire, Acquired, Change, OffsetReset, Place, Sessions, ShareConfig, SharePartition,
    StateKey, StateRequest,
};
use bytes::{Bytes, BytesMut};
use ringlog_engine::batch::{self, Header};
use ringlog_engine::io::Instant;
use ringlog_engine::log::{ReadError, ReadLimit, ReadPart};
use ringlog_engine::shard::ShardId;
use ringlog_engine::shard::sync::{Event, Permit, Receiver, oneshot};
use ringlog_wire::ErrorCode;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// The share partitions of this shard.
#[derive(Default)]
pub(super) struct Shares(RefCell<BTreeMap<(PartitionId, String), Rc<Shared>>>);

/// A partition as a share group reads it.
struct Shared {
    partition: Partition,
    group: String,
    /// `None` until what is kept of it has been read.
    machine: RefCell<Option<SharePartition>>,
    /// Tells what is written from what somebody has set since.
    state_epoch: Cell<i32>,
    /// It goes no further: it could not be read, or has gone.
    ended: Cell<Option<ErrorCode>>,
    /// One of the two has changed.
    changed: Event,
    /// Until when a task sleeps before it looks for what is due; `None` without one.
    sleeps_until: Cell<Option<Instant>>,
    /// That task must look earlier.
    earlier: Event,
}

/// What a member reads of one shard's partitions.
#[derive(Debug, Clone)]
pub struct ShareRead {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// The partitions, in order.
    pub partitions: Vec<PartitionId>,
    /// Bytes wanted at most; the first batch comes whatever its size.
    pub bytes_max: usize,
    /// Records wanted at most, but for the rest of a batch.
    pub records_max: i64,
    /// Whether the rest of a batch stays.
    pub is_exact: bool,
    /// How many records an acquired range best has.
    pub batch_size: i64,
}

/// What a member got of a partition.
#[derive(Debug, Clone, Default)]
pub struct ShareFound {
    /// Which records.
    pub acquired: Vec<Acquired>,
    /// Whole batches that hold them.
    pub records: Bytes,
}

/// What a member says of partitions' records.
#[derive(Debug, Clone)]
pub struct ShareAcknowledgements {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// Partitions, and what is said of each.
    pub partitions: Vec<(PartitionId, Vec<Acknowledgement>)>,
}

impl Broker {
    /// What a share group goes by now.
    pub fn share_config(&self, group: &str) -> ShareConfig {
        ShareConfig::of(&self.settings(), &self.image(), group)
    }

    /// Reads for a member of a share group. The ticket is parked where there may be more later.
    pub(super) fn share_fetch(&self, from: ShardId, read: ShareRead, ticket: Option<u64>) -> PendingAnswer {
        if let Some(ticket) = ticket {
            let waiter = self.waiter_for(from, ticket);
            self.0.parked_reads.begin(from, ticket);
            for partition in read.partitions.iter().filter_map(|id| self.partition(*id)) {
                self.0.parked_reads.add(from, ticket, &waiter, &partition);
            }
        }
        let this = self.clone();
        Box::pin(async move {
            let mut results = Vec::with_capacity(read.partitions.len());
            let mut has_some = false;
            for &id in &read.partitions {
                // One partition is enough for one answer: what the others have is for other members, or comes with the next.
                if has_some {
                    results.push(Ok(ShareFound::default()));
                    continue;
                }
                let found = this.share_read(id, &read).await;
                has_some = found.as_ref().is_ok_and(|found| !found.acquired.is_empty());
                results.push(found);
            }
            Answer::ShareFetched(results)
        })
    }

    async fn share_read(&self, id: PartitionId, read: &ShareRead) -> Result<ShareFound, ErrorCode> {
        let shared = self.shared(id, &read.group)?;
        shared.ready().await?;
        let config = self.share_config(&read.group);
        let limits = config.limits();
        loop {
            if let Some(code) = shared.ended.get() {
                return Err(code);
            }
            let from = {
                let mut machine = shared.machine.borrow_mut();
                let machine = machine.as_mut().expect("it is ready");
                machine.log_starts_at(shared.partition.log_start());
                if !machine.has_room(&limits) {
                    return Ok(ShareFound::default());
                }
                machine.next_fetch_offset()
            };
            let up_to = match config.is_committed_only {
                true => shared.partition.last_stable_offset(),
                false => shared.partition.high_watermark(),
            };
            if from >= up_to {
                return Ok(ShareFound::default());
            }
            let limit = ReadLimit { up_to, bytes_max: read.bytes_max, at_least_one: true };
            let parts = match shared.partition.log().read(from, limit).await {
                Ok(read) => read.parts,
                // Its first records were deleted meanwhile.
                Err(ReadError::OutOfRange { .. }) if from < shared.partition.log_start() => continue,
                Err(ReadError::OutOfRange { .. }) => return Err(ErrorCode::OffsetOutOfRange),
                Err(ReadError::Corrupt { .. }) => return Err(ErrorCode::CorruptMessage),
                Err(ReadError::Io { .. }) => return Err(ErrorCode::KafkaStorageError),
            };
            let bytes = joined(parts);
            let batches = batches_of(&bytes);
            if batches.is_empty() {
                return Ok(ShareFound::default());
            }
            let spans: Vec<(i64, i64)> = batches.iter().map(|batch| (batch.first, batch.last)).collect();
            let wanted = Acquire {
                member: &read.member,
                fetched_from: from,
                records_max: read.records_max,
                is_exact: read.is_exact,
                batch_size: read.batch_size,
            };
            let mut machine = shared.machine.borrow_mut();
            let machine = machine.as_mut().expect("it is ready");
            let mut acquired = machine.acquire(self.0.shard.now(), &limits, &wanted, &spans);
            if config.is_committed_only {
                let aborted = aborted(&shared.partition, &batches);
                acquired = machine.archive(&read.member, &aborted, acquired);
            }
            let moved = machine.next_fetch_offset() != from;
            self.keep_share_time(&shared, machine.next_deadline());
            match (acquired.first(), acquired.last()) {
                (Some(first), Some(last)) => {
                    let records = bytes.slice(places(&batches, first.first, last.last));
                    return Ok(ShareFound { acquired, records });
                }
                // Somebody else was quicker.
                _ if moved => {}
                _ => return Ok(ShareFound::default()),
            }
        }
    }

    /// Takes in what a member says of records: answered when that is durable.
    pub(super) fn share_acknowledge(&self, said: ShareAcknowledgements) -> PendingAnswer {
        let config = self.share_config(&said.group);
        let limits = config.limits();
        let now = self.0.shard.now();
        let begun: Vec<_> = said
            .partitions
            .iter()
            .map(|(id, acknowledgements)| {
                let shared = self.0.shares.0.borrow().get(&(*id, said.group.clone())).cloned();
                let shared = shared.ok_or(ErrorCode::UnknownTopicOrPartition)?;
                let mut machine = shared.machine.borrow_mut();
                let machine = machine.as_mut().ok_or(ErrorCode::LeaderNotAvailable)?;
                machine.log_starts_at(shared.partition.log_start());
                let change = machine.acknowledge(now, &limits, &said.member, acknowledgements)?;
                self.keep_share_time(&shared, machine.next_deadline());
                Ok(change.map(|change| self.write_share(&shared, change)))
            })
            .collect();
        Box::pin(async move {
            let mut codes = Vec::with_capacity(begun.len());
            for written in begun {
                codes.push(match written {
                    Ok(Some(written)) => written.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
                    Ok(None) => Ok(()),
                    Err(code) => Err(code),
                });
            }
            Answer::ShareAcknowledged(codes)
        })
    }

    /// A member has gone: what it has of these partitions is free.
    pub(super) fn share_release(
        &self,
        group: &str,
        member: &str,
        partitions: &[PartitionId],
    ) -> PendingAnswer {
        let mut releasing = Vec::new();
        for id in partitions {
            let shared = self.0.shares.0.borrow().get(&(*id, group.to_owned())).cloned();
            let Some(shared) = shared else { continue };
            let change = shared.machine.borrow_mut().as_mut().and_then(|machine| machine.release(member));
            releasing.extend(change.map(|change| self.write_share(&shared, change)));
        }
        Box::pin(async move {
            for written in releasing {
                // What could not be written is free when its time is up.
                let _ = written.await;
            }
            Answer::Done
        })
    }

    /// Tells the owners of partitions that a member has gone.
    pub async fn release_share(&self, group: &str, member: &str, places: &[Place]) {
        let mut owners: BTreeMap<ShardId, Vec<PartitionId>> = BTreeMap::new();
        for (topic, index) in places {
            let id = PartitionId { topic: *topic, index: *index };
            owners.entry(self.owner(id)).or_default().push(id);
        }
        let (group, member) = (group.to_owned(), member.to_owned());
        let asked: Vec<_> = owners
            .into_iter()
            .map(|(owner, partitions)| {
                let call = Call::ShareRelease { group: group.clone(), member: member.clone(), partitions };
                self.ask(owner, call)
            })
            .collect();
        for answer in asked {
            answer.await;
        }
    }

    /// A connection has gone, and with it the sessions that lived with it.
    pub(super) fn share_disconnected(&self, socket: u64) {
        let gone = self.0.share_sessions.borrow_mut().disconnected(socket);
        for (group, member, places) in gone {
            let this = self.clone();
            self.0.changing.set(self.0.changing.get() + 1);
            self.0.shard.spawn(async move {
                this.release_share(&group, &member, &places).await;
                this.0.changing.set(this.0.changing.get() - 1);
                this.0.changed.notify();
            });
        }
    }

    /// Forgets what groups have made of a partition: it has gone, or somebody has set where a group starts.
    pub(super) fn forget_shared(&self, is_gone: impl Fn(PartitionId, &str) -> bool, why: ErrorCode) {
        let gone: Vec<_> =
            self.0.shares.0.borrow_mut().extract_if(.., |(id, group), _| is_gone(*id, group)).collect();
        for (_, shared) in gone {
            shared.end(why);
        }
    }

    fn shared(&self, id: PartitionId, group: &str) -> Result<Rc<Shared>, ErrorCode> {
        let partition = self.partition(id).ok_or_else(|| self.absent(id))?;
        let mut shares = self.0.shares.0.borrow_mut();
        if let Some(shared) = shares.get(&(id, group.to_owned())) {
            return Ok(shared.clone());
        }
        let shared = Rc::new(Shared {
            partition,
            group: group.to_owned(),
            machine: RefCell::default(),
            state_epoch: Cell::new(0),
            ended: Cell::new(None),
            changed: Event::default(),
            sleeps_until: Cell::new(None),
            earlier: Event::default(),
        });
        shares.insert((id, group.to_owned()), shared.clone());
        self.0.shard.spawn(self.clone().load_shared(shared.clone()));
        Ok(shared)
    }

    async fn load_shared(self, shared: Rc<Shared>) {
        match self.read_shared(&shared).await {
            Ok(machine) => {
                *shared.machine.borrow_mut() = Some(machine);
                shared.changed.notify();
            }
            Err(code) => {
                let key = (shared.partition.id(), shared.group.clone());
                let mut shares = self.0.shares.0.borrow_mut();
                if shares.get(&key).is_some_and(|known| Rc::ptr_eq(known, &shared)) {
                    shares.remove(&key);
                }
                drop(shares);
                shared.end(code);
            }
        }
    }

    /// What is kept of a share partition; where a group begins is kept before anything is delivered.
    async fn read_shared(&self, shared: &Shared) -> Result<SharePartition, ErrorCode> {
        self.shares_are_kept().await?;
        let key = shared.key();
        let stored = self.share_state(&key, StateRequest::Read).await?;
        let state_epoch = stored.as_ref().map(|stored| stored.state_epoch);
        if let Some(stored) = stored.filter(|stored| stored.start >= 0) {
            shared.state_epoch.set(stored.state_epoch);
            let marks = shared.partition.log().marks();
            let mut machine = SharePartition::restore(stored.start, &stored.batches, marks.log_end);
            machine.log_starts_at(marks.log_start);
            return Ok(machine);
        }
        let latest = shared.partition.high_watermark();
        let start = match self.share_config(&shared.group).reset {
            OffsetReset::Earliest => shared.partition.log_start(),
            OffsetReset::Latest => latest,
            OffsetReset::Age(age) => {
                let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                let time = self.0.shard.wall_time().0.saturating_sub(age_ms).max(0);
                let found = shared.partition.seek(Sought::Time(time), Reader::Consumer, None).await?;
                found.map_or(latest, |found| found.offset)
            }
        };
        let leader_epoch = shared.partition.leader_epoch();
        let first = StateRequest::Write { state_epoch, leader_epoch, start, batches: Vec::new() };
        let stored = self.share_state(&key, first).await?;
        shared.state_epoch.set(stored.map_or(0, |stored| stored.state_epoch));
        Ok(SharePartition::new(start))
    }

    /// Writes a change, to its end even when nobody waits for it any more.
    fn write_share(&self, shared: &Rc<Shared>, change: Change) -> Receiver<Result<(), ErrorCode>> {
        let (done, written) = oneshot();
        let number = change.number;
        let leader_epoch = shared.partition.leader_epoch();
        let state_epoch = Some(shared.state_epoch.get());
        let request =
            StateRequest::Write { state_epoch, leader_epoch, start: change.start, batches: change.batches };
        let kept = self.share_state(&shared.key(), request);
        let (this, shared) = (self.clone(), shared.clone());
        self.0.changing.set(self.0.changing.get() + 1);
        self.0.shard.spawn(async move {
            let result = kept.await.map(drop);
            this.0.changing.set(this.0.changing.get() - 1);
            this.0.changed.notify();
            if let Some(machine) = shared.machine.borrow_mut().as_mut() {
                machine.written(number, result.is_ok());
                this.keep_share_time(&shared, machine.next_deadline());
            }
            // There may be records for others, or room for more.
            shared.partition.parked().wake_all();
            done.send(result);
        });
        written
    }

    /// Sees to it that a task wakes when a lock ends.
    fn keep_share_time(&self, shared: &Rc<Shared>, next: Option<Instant>) {
        let Some(next) = next else { return };
        match shared.sleeps_until.get() {
            None => {
                shared.sleeps_until.set(Some(next));
                self.0.shard.spawn(self.clone().watch_share(shared.clone()));
            }
            Some(until) if next < until => {
                shared.sleeps_until.set(Some(next));
                shared.earlier.notify();
            }
            Some(_) => {}
        }
    }

    /// Ends locks, for as long as there are any.
    async fn watch_share(self, shared: Rc<Shared>) {
        while let Some(until) = shared.sleeps_until.get() {
            let earlier = shared.earlier.next();
            first(self.0.shard.sleep_until(until), earlier).await;
            if shared.ended.get().is_some() || self.is_stopping() {
                break;
            }
            let now = self.0.shard.now();
            if shared.sleeps_until.get().is_none_or(|until| until > now) {
                continue;
            }
            let limits = self.share_config(&shared.group).limits();
            let mut machine = shared.machine.borrow_mut();
            let Some(machine) = machine.as_mut() else { break };
            let change = machine.tick(now, &limits);
            shared.sleeps_until.set(machine.next_deadline());
            if let Some(change) = change {
                drop(self.write_share(&shared, change));
                shared.partition.parked().wake_all();
            }
        }
        shared.sleeps_until.set(None);
    }
}

/// A fetch over share partitions wherever they lie.
pub struct ShareFetch {
    /// What: partitions in the order in which they get their turn.
    pub read: ShareRead,
    /// How long to wait for records.
    pub wait: Duration,
}

impl Broker {
    /// Reads for a member of a share group, and waits for records if there are none. Results come in the order of the partitions, with the
    /// memory they take until they are sent.
    pub async fn fetch_shared(&self, fetch: &ShareFetch) -> (Vec<Result<ShareFound, ErrorCode>>, Permit) {
        let deadline = self.0.shard.now() + fetch.wait;
        let mut shards: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        let mut turns: Vec<ShardId> = Vec::new();
        for (at, id) in fetch.read.partitions.iter().enumerate() {
            let owner = self.owner(*id);
            let places = shards.entry(owner).or_default();
            if places.is_empty() {
                turns.push(owner);
            }
            places.push(at);
        }
        let mut parking = Parking::new(self);
        loop {
            let may_wait = !self.is_stopping() && self.0.shard.now() < deadline;
            let ticket = may_wait.then(|| parking.renew(&shards));
            let mut memory = self.fetch_memory(fetch.read.bytes_max).await;
            let mut found = vec![Ok(ShareFound::default()); fetch.read.partitions.len()];
            let mut bytes = 0;
            for owner in &turns {
                let places = &shards[owner];
                let read = ShareRead {
                    partitions: places.iter().map(|&at| fetch.read.partitions[at]).collect(),
                    bytes_max: memory.amount(),
                    ..fetch.read.clone()
                };
                let Answer::ShareFetched(results) = self.ask(*owner, Call::ShareFetch { read, ticket }).await
                else {
                    unreachable!("a share fetch is answered with records")
                };
                for (&at, result) in places.iter().zip(results) {
                    bytes += result.as_ref().map_or(0, |result| result.records.len());
                    found[at] = result;
                }
                if bytes > 0 {
                    break;
                }
            }
            let is_news = found.iter().any(|one| one.as_ref().map_or(true, |one| !one.acquired.is_empty()));
            if is_news || !may_wait {
                memory.shrink_to(bytes);
                return (found, memory);
            }
            drop(memory);
            parking.wait(deadline).await;
        }
    }

    /// Says what became of records, to their owners: on its way, in order, when this returns. Codes come in the order of the partitions.
    pub fn acknowledge_shared(
        &self,
        said: ShareAcknowledgements,
    ) -> impl Future<Output = Vec<Result<(), ErrorCode>>> + use<> {
        let ShareAcknowledgements { group, member, partitions } = said;
        let count = partitions.len();
        type Said = Vec<(PartitionId, Vec<Acknowledgement>)>;
        let mut owners: BTreeMap<ShardId, (Vec<usize>, Said)> = BTreeMap::new();
        for (at, (id, said)) in partitions.into_iter().enumerate() {
            let (places, partitions) = owners.entry(self.owner(id)).or_default();
            places.push(at);
            partitions.push((id, said));
        }
        let asked: Vec<_> = owners
            .into_iter()
            .map(|(owner, (places, partitions))| {
                let said = ShareAcknowledgements { group: group.clone(), member: member.clone(), partitions };
                (places, self.ask(owner, Call::ShareAcknowledge(said)))
            })
            .collect();
        async move {
            let mut codes = vec![Ok(()); count];
            for (places, answer) in asked {
                let Answer::ShareAcknowledged(results) = answer.await else {
                    unreachable!("an acknowledgement is answered with codes")
                };
                for (at, result) in places.into_iter().zip(results) {
                    codes[at] = result;
                }
            }
            codes
        }
    }

    /// The share sessions of this shard's connections.
    pub fn share_sessions(&self) -> RefMut<'_, Sessions> {
        self.0.share_sessions.borrow_mut()
    }

    /// Has all shards read anew what is kept of a share group's topics.
    pub async fn reread_shared(&self, group: &str, topics: &[[u8; 16]]) {
        let told: Vec<_> = (0..self.shards())
            .map(|shard| {
                self.ask(
                    ShardId(shard),
                    Call::ShareForget { group: group.to_owned(), topics: topics.to_vec() },
                )
            })
            .collect();
        for answer in told {
            answer.await;
        }
    }
}

impl Shared {
    fn key(&self) -> StateKey {
        let id = self.partition.id();
        StateKey { group: self.group.clone(), topic: id.topic, partition: id.index }
    }

    /// Waits until what is kept of it has been read.
    async fn ready(&self) -> Result<(), ErrorCode> {
        loop {
            if let Some(code) = self.ended.get() {
                return Err(code);
            }
            if self.machine.borrow().is_some() {
                return Ok(());
            }
            self.changed.next().await;
        }
    }

    fn end(&self, why: ErrorCode) {
        self.ended.set(Some(why));
        self.changed.notify();
        self.earlier.notify();
        self.partition.parked().wake_all();
    }
}

/// A batch of what was read.
struct Batch {
    first: i64,
    last: i64,
    /// Where it begins and ends in the bytes.
    place: std::ops::Range<usize>,
    /// Of a transaction: whose.
    producer: Option<i64>,
}

fn joined(parts: Vec<ReadPart>) -> Bytes {
    let mut parts: Vec<Bytes> = parts
        .into_iter()
        .map(|part| match part {
            ReadPart::Bytes(bytes) => bytes,
            ReadPart::File { .. } => unreachable!("bytes were asked for"),
        })
        .collect();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut bytes = BytesMut::new();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.freeze()
}

fn batches_of(bytes: &Bytes) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut at = 0;
    while let Some(len) = batch::whole_len(&bytes[at..]) {
        let Ok(header) = Header::parse(&bytes[at..at + len]) else { break };
        let is_of_transaction = header.is_transactional() && !header.is_control();
        batches.push(Batch {
            first: header.base_offset,
            last: header.last_offset(),
            place: at..at + len,
            producer: is_of_transaction.then_some(header.producer_id),
        });
        at += len;
    }
    batches
}

/// Where batches lie that hold these offsets.
fn places(batches: &[Batch], first: i64, last: i64) -> std::ops::Range<usize> {
    let mut held = batches.iter().filter(|batch| batch.last >= first && batch.first <= last);
    let Some(begin) = held.next() else { return 0..0 };
    let end = held.next_back().unwrap_or(begin);
    begin.place.start..end.place.end
}

/// The batches of transactions that were aborted.
fn aborted(partition: &Partition, batches: &[Batch]) -> Vec<(i64, i64)> {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Vec::new() };
    let aborted = partition.log().aborted_transactions(first.first, last.last + 1);
    let is_aborted = |batch: &&Batch| {
        let of = |one: &ringlog_engine::log::AbortedTransaction| {
            batch.producer == Some(one.producer_id)
                && (one.first_offset..=one.last_offset).contains(&batch.first)
        };
        aborted.iter().any(of)
    };
    batches.iter().filter(is_aborted).map(|batch| (batch.first, batch.last)).collect()
}
