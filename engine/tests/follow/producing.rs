//! What comes to a leader: producers, and one who deletes records.

use crate::batches::Made;
use crate::book::{PLAIN, Sent};
use crate::plan::Deletes;
use crate::replica::Live;
use bytes::{Bytes, BytesMut};
use ringlog_engine::batch::Header;
use ringlog_engine::io::sim::Random;
use ringlog_engine::log::{AppendError, Appended, LeaderAppend, Origin};
use std::rc::Rc;

/// Batches of an idempotent producer that may be on their way.
const IN_FLIGHT_MAX: usize = 5;

impl Live {
    /// All who produce find the new leader.
    pub(crate) fn start_producers(self: Rc<Self>, epoch: i32) {
        let plan = &self.cluster.plan;
        for producer in 0..plan.idempotent {
            let live = self.clone();
            self.shard.spawn(async move { live.produce(epoch, producer).await });
        }
        for _ in 0..plan.plain {
            let live = self.clone();
            self.shard.spawn(async move { live.produce_plain(epoch).await });
        }
        if plan.deletes != Deletes::Never {
            let live = self.clone();
            self.shard.spawn(async move { live.delete(epoch).await });
        }
    }

    async fn produce_plain(&self, epoch: i32) {
        let mut random = Random::new(self.cluster.random.borrow_mut().bits());
        self.find_leader(epoch).await;
        for number in 1.. {
            self.pause(if random.one_in(3) { 1 } else { 8_000 }).await;
            if !self.is_leading(epoch) || self.cluster.over.get() {
                return;
            }
            let made =
                Made { log: PLAIN, number, producer: None, timestamp: self.shard.wall_time().0, len: None };
            let bytes = made.encode(&mut random, false, BytesMut::with_capacity);
            self.append(epoch, (PLAIN, number), &bytes).await;
        }
    }

    async fn produce(&self, epoch: i32, producer: usize) {
        let cluster = &self.cluster;
        let mut random = Random::new(cluster.random.borrow_mut().bits());
        self.find_leader(epoch).await;
        {
            let known = &mut cluster.book.borrow_mut().producers[producer];
            if known.epoch > epoch {
                return;
            }
            known.epoch = epoch;
        }
        // The offsets after the batches sent to this leader and not yet committed.
        let mut ends = Vec::new();
        loop {
            let changed = cluster.changed.next();
            if !self.is_leading(epoch) || cluster.book.borrow().producers[producer].epoch != epoch {
                return;
            }
            while ends.first().is_some_and(|end| *end <= self.high_watermark.get()) {
                ends.remove(0);
                cluster.book.borrow_mut().producers[producer].unacked.pop_front();
            }
            let again = (!ends.is_empty() && random.one_in(6)).then(|| random.index(ends.len()));
            let next = again.unwrap_or(ends.len());
            let Some(sent) = self.unacked(producer, next, &mut random) else {
                if cluster.over.get() && ends.is_empty() {
                    return;
                }
                changed.await;
                continue;
            };
            let Some(end) = self.append(epoch, (producer, sent.number), &sent.bytes).await else { return };
            if next == ends.len() {
                ends.push(end);
            }
            self.pause(if random.one_in(3) { 1 } else { 8_000 }).await;
        }
    }

    /// Who produces hears of a new leader, some time.
    async fn find_leader(&self, epoch: i32) {
        if self.cluster.plan.idle && epoch % 2 == 0 {
            self.pause(400_000).await;
        }
    }

    /// The n-th batch not yet acknowledged; a new one, if there may be one more.
    fn unacked(&self, producer: usize, n: usize, random: &mut Random) -> Option<Sent> {
        let mut book = self.cluster.book.borrow_mut();
        let known = &mut book.producers[producer];
        if n == known.unacked.len() && n < IN_FLIGHT_MAX && !self.cluster.over.get() {
            known.number += 1;
            let made = Made {
                log: producer,
                number: known.number,
                producer: Some((1_000 + producer as i64, known.sequence)),
                timestamp: self.shard.wall_time().0,
                len: None,
            };
            let bytes = made.encode(random, false, BytesMut::with_capacity);
            known.sequence += Header::parse(&bytes).unwrap().record_count;
            known.unacked.push_back(Sent { bytes, number: known.number });
        }
        known.unacked.get(n).cloned()
    }

    /// Appends as the leader. Returns the offset after the batch; `None`: not the leader any more.
    async fn append(&self, epoch: i32, whose: (usize, u64), bytes: &Bytes) -> Option<i64> {
        let appended = loop {
            if !self.is_leading(epoch) {
                return None;
            }
            let as_leader =
                LeaderAppend { epoch, origin: Origin::Client, now: self.shard.wall_time(), alone: true };
            match self.log.append(bytes, as_leader) {
                Ok(appended) => break appended,
                Err(AppendError::Busy) => self.log.room().await,
                Err(error) => panic!("a right batch is refused: {error}"),
            }
        };
        let Appended { base_offset, last_offset, duplicate, .. } = appended;
        let mut chain = self.chain.borrow_mut();
        let mut book = self.cluster.book.borrow_mut();
        if duplicate {
            book.is_there(&chain, base_offset, bytes);
        } else {
            book.appended(&mut chain, whose, bytes, (epoch, base_offset));
        }
        Some(last_offset + 1)
    }

    /// Now and then deletes records from the front.
    async fn delete(&self, epoch: i32) {
        loop {
            let often = self.cluster.plan.deletes == Deletes::Often;
            self.pause(if often { 2_000 } else { 200_000 }).await;
            if !self.is_leading(epoch) || self.cluster.calm.get() {
                return;
            }
            let to = {
                let mut book = self.cluster.book.borrow_mut();
                let most = book.deletable(&self.chain.borrow()).min(self.high_watermark.get());
                let kept = if often && self.cluster.one_in(2) { 1 } else { 40 };
                let to = (most - self.cluster.below(kept) as i64).max(0);
                book.deleted_to = book.deleted_to.max(to);
                to
            };
            self.log.delete_before(to).await.expect("delete");
        }
    }
}
