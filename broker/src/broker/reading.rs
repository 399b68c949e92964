//! Reads over several partitions, and fetches parked until one of them has more.
//!
//! ```text
//!   coordinator (the connection's shard)            owner of partitions
//!     Read { reads, ticket } ─────────────────────▶  parks the ticket, reads
//!       found too little: waits  ◀── Woken(ticket) ─  a high watermark moved: the ticket is spent
//!     Read again, under the same ticket ───────────▶  parks it anew, reads
//!     Unpark(ticket) at the end, or when the client has gone
//! ```

use super::{Broker, PendingAnswer};
use crate::calls::{Answer, Call};
use crate::partition::{Found, Partition, PartitionId, Read, Waiter};
use ringlog_engine::io::Instant;
use ringlog_engine::shard::ShardId;
use ringlog_engine::shard::sync::{Credits, Permit};
use ringlog_wire::ErrorCode;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A fetch over partitions wherever they lie.
pub struct Fetch {
    /// What of each partition.
    pub reads: Vec<(PartitionId, Read)>,
    /// Wait until there are this many bytes,
    pub bytes_min: usize,
    /// but not more than these.
    pub bytes_max: usize,
    /// How long to wait.
    pub wait: Duration,
}

/// What was found in one partition.
pub type ReadResult = Result<Found, ErrorCode>;

/// Tickets of coordinators (this shard's and others') parked on this shard's partitions.
#[derive(Default)]
pub(super) struct ParkedReads(RefCell<HashMap<(ShardId, u64), Places>>);

/// Where a ticket is parked: each partition, and its place there.
type Places = Vec<(Partition, u64)>;

impl ParkedReads {
    /// A ticket is about to be parked anew.
    pub(super) fn begin(&self, from: ShardId, ticket: u64) {
        self.remove(from, ticket);
        self.0.borrow_mut().insert((from, ticket), Places::new());
    }

    /// Parks a ticket at one more partition, unless it has been taken out meanwhile.
    pub(super) fn add(&self, from: ShardId, ticket: u64, waiter: &Rc<Waiter>, partition: &Partition) {
        if let Some(places) = self.0.borrow_mut().get_mut(&(from, ticket)) {
            let place = partition.parked().add(waiter.clone());
            places.push((partition.clone(), place));
        }
    }

    /// Takes a ticket out of all partitions it waits for.
    pub(super) fn remove(&self, from: ShardId, ticket: u64) {
        let places = self.0.borrow_mut().remove(&(from, ticket));
        for (partition, place) in places.into_iter().flatten() {
            partition.parked().remove(place);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Broker {
    /// Reads, and waits for more if there is too little. Results come in the order of the reads, with the memory they
    /// take until they are sent.
    pub async fn fetch(&self, fetch: &Fetch) -> (Vec<ReadResult>, Permit) {
        let deadline = self.0.shard.now() + fetch.wait;
        let shards = self.by_owner(&fetch.reads);
        let mut parking = Parking::new(self);
        loop {
            let may_wait = !self.is_stopping() && self.0.shard.now() < deadline;
            let ticket = may_wait.then(|| parking.renew(&shards));
            let turn = self.turn_of_heavy(fetch).await;
            let mut memory = match turn {
                Some(_) => fair_part(&self.0.heavy_fetch_memory, fetch.bytes_max).await,
                None => self.fetch_memory(fetch.bytes_max).await,
            };
            let results = self.read_all(fetch, memory.amount(), &shards, ticket).await;
            drop(turn);
            if !may_wait || is_enough(fetch, &results) {
                memory.shrink_to(results.iter().flatten().map(|found| found.bytes).sum());
                return (results, memory);
            }
            // What was found so far is not held while waiting: others may use the memory.
            drop((results, memory));
            parking.wait(deadline).await;
        }
    }

    /// Memory for the reply to a fetch of few partitions, of up to this many bytes.
    pub(super) async fn fetch_memory(&self, bytes_max: usize) -> Permit {
        fair_part(&self.0.fetch_memory, bytes_max).await
    }

    /// A fetch of many partitions takes as long as hundreds of other requests: few go at a time, each in portions.
    async fn turn_of_heavy(&self, fetch: &Fetch) -> Option<Permit> {
        if fetch.reads.len() < HEAVY_FETCH_PARTITIONS {
            return None;
        }
        Some(self.0.heavy_fetches.take(1).await)
    }

    /// Which of the reads each shard answers.
    fn by_owner(&self, reads: &[(PartitionId, Read)]) -> BTreeMap<ShardId, Vec<usize>> {
        let mut shards: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (at, (partition, _)) in reads.iter().enumerate() {
            shards.entry(self.owner(*partition)).or_default().push(at);
        }
        shards
    }

    /// One round: asks all owners at the same time and puts together what fits.
    async fn read_all(
        &self,
        fetch: &Fetch,
        bytes_max: usize,
        shards: &BTreeMap<ShardId, Vec<usize>>,
        ticket: Option<u64>,
    ) -> Vec<ReadResult> {
        let answers: Vec<(PendingAnswer, &Vec<usize>)> = shards
            .iter()
            .map(|(&owner, places)| {
                let reads = places.iter().map(|&at| fetch.reads[at]).collect();
                (self.ask(owner, Call::Read { reads, bytes_max, ticket }), places)
            })
            .collect();
        let one_shard = answers.len() == 1;
        let mut results: Vec<Option<ReadResult>> = vec![None; fetch.reads.len()];
        for (answer, places) in answers {
            let Answer::Read(found) = answer.await else { unreachable!("a read is answered with a read") };
            for (&at, found) in places.iter().zip(found) {
                results[at] = Some(found);
            }
        }
        let mut results: Vec<ReadResult> =
            results.into_iter().map(|found| found.expect("each read has an owner")).collect();
        if !one_shard {
            drop_excess(&mut results, &fetch.reads, bytes_max);
        }
        results
    }

    /// Answers one shard's reads.
    pub(super) fn read(
        &self,
        from: ShardId,
        reads: Vec<(PartitionId, Read)>,
        bytes_max: usize,
        ticket: Option<u64>,
    ) -> PendingAnswer {
        let waiter = ticket.map(|ticket| {
            self.0.parked_reads.begin(from, ticket);
            (ticket, self.waiter_for(from, ticket))
        });
        let this = self.clone();
        Box::pin(async move {
            let mut left = bytes_max;
            let mut at_least_one = true;
            let mut results = Vec::with_capacity(reads.len());
            let mut portions = this.0.shard.portions();
            for (id, read) in reads {
                portions.next().await;
                let read = Read {
                    bytes_max: read.bytes_max.min(left),
                    at_least_one: read.at_least_one && at_least_one,
                    ..read
                };
                let found = match this.partition(id) {
                    Some(partition) => {
                        // Parked before it is read, so that nothing can come in between unseen.
                        if let Some((ticket, waiter)) = &waiter {
                            this.0.parked_reads.add(from, *ticket, waiter, &partition);
                        }
                        partition.read(read).await
                    }
                    None => Err(this.absent(id)),
                };
                if let Ok(found) = &found {
                    // The first partition with records ignores the limits once, the others do not (KIP-74).
                    at_least_one &= found.bytes == 0;
                    left = left.saturating_sub(found.bytes);
                }
                results.push(found);
            }
            Answer::Read(results)
        })
    }

    /// Whom to fire for a coordinator's ticket.
    pub(super) fn waiter_for(&self, from: ShardId, ticket: u64) -> Rc<Waiter> {
        if from == self.0.shard.id() {
            return self.0.waiters.borrow().get(&ticket).expect("it was put there before asking").clone();
        }
        // It is parked at partitions, which the broker holds.
        let this = Rc::downgrade(&self.0);
        Waiter::for_action(move || {
            if let Some(this) = this.upgrade() {
                Self(this).tell(from, Call::Woken(ticket));
            }
        })
    }
}

/// Of what is left nobody gets more than a part, so that many share what there is, and few that do not read their replies cannot take all of it.
async fn fair_part(memory: &Credits, bytes_max: usize) -> Permit {
    let fair = (memory.left() / 4).max(FETCH_BYTES_LEAST);
    memory.take(bytes_max.min(fair)).await
}

/// From this many partitions on a fetch is heavy: it takes some 100 µs.
const HEAVY_FETCH_PARTITIONS: usize = 100;

/// Heavy fetches of a shard that go at a time: while some wait for the disk or for another shard, others go on.
pub(super) const HEAVY_FETCHES_MAX: usize = 4;

/// A fetch gets room for this many bytes even when memory runs short.
const FETCH_BYTES_LEAST: usize = 64 * 1024;

/// Whether a fetch is to be answered now.
fn is_enough(fetch: &Fetch, results: &[ReadResult]) -> bool {
    let mut bytes = 0;
    for result in results {
        match result {
            // An error, a parting of histories, or a partition near its own limit: waiting adds nothing.
            Err(_) => return true,
            Ok(found) if found.diverging.is_some() || found.is_full => return true,
            Ok(found) => bytes += found.bytes,
        }
    }
    bytes >= fetch.bytes_min
}

/// Several shards have each kept the limits, and each let its first records pass whatever their size. Together only the
/// first of all may.
fn drop_excess(results: &mut [ReadResult], reads: &[(PartitionId, Read)], bytes_max: usize) {
    let mut used = 0;
    for (result, (_, read)) in results.iter_mut().zip(reads) {
        let Ok(found) = result else { continue };
        if used > 0 && (used + found.bytes > bytes_max || found.bytes > read.bytes_max) {
            found.records.clear();
            found.bytes = 0;
        }
        used += found.bytes;
    }
}

/// A fetch's place among those that wait. Dropping it leaves no trace on any shard.
pub(super) struct Parking<'a> {
    broker: &'a Broker,
    ticket: u64,
    waiter: Option<Rc<Waiter>>,
    parked_on: Vec<ShardId>,
}

impl<'a> Parking<'a> {
    pub(super) fn new(broker: &'a Broker) -> Self {
        let ticket = broker.0.next_ticket.get();
        broker.0.next_ticket.set(ticket + 1);
        Self { broker, ticket, waiter: None, parked_on: Vec::new() }
    }

    /// A waiter for the next round.
    pub(super) fn renew(&mut self, shards: &BTreeMap<ShardId, Vec<usize>>) -> u64 {
        let waiter = Waiter::for_task();
        self.broker.0.waiters.borrow_mut().insert(self.ticket, waiter.clone());
        self.waiter = Some(waiter);
        if self.parked_on.is_empty() {
            self.parked_on = shards.keys().copied().collect();
        }
        self.ticket
    }

    /// Waits until the waiter is fired or the time is up.
    pub(super) async fn wait(&self, deadline: Instant) {
        let waiter = self.waiter.as_ref().expect("waits after a round");
        let mut fired = pin!(waiter.fired());
        let mut late = pin!(self.broker.0.shard.sleep_until(deadline));
        poll_fn(|cx| {
            if fired.as_mut().poll(cx).is_ready() || late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Parking<'_> {
    fn drop(&mut self) {
        self.broker.0.waiters.borrow_mut().remove(&self.ticket);
        for &shard in &self.parked_on {
            self.broker.tell(shard, Call::Unpark(self.ticket));
        }
    }
}
