//! Producers: what they send, resend and remember, as Kafka's clients do it, and a little worse.

use crate::client::{Connection, Door};
use crate::ledger::{Ledger, Order, Sent, Target};
use bytes::Bytes;
use ringlog_engine::batch::Codec;
use ringlog_engine::io::sim::Random;
use ringlog_engine::records::Builder;
use ringlog_engine::shard::Shard;
use ringlog_wire::init_producer_id::InitProducerIdRequest;
use ringlog_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ringlog_wire::{ErrorCode, Records, Uuid};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// One producer. It outlives the broker's processes.
pub(crate) struct Producer {
    pub(crate) shard: Shard,
    pub(crate) door: Door,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) stopping: Rc<Cell<bool>>,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// acks=all; what was not answered is sent again.
    Idempotent,
    /// Some acks for each connection; what was not answered is given up.
    Plain,
}

/// An idempotent producer's id, and how far it has come in each partition.
struct Identity {
    id: i64,
    /// The next sequence, and how many batches there were.
    next: BTreeMap<Target, (i32, u64)>,
}

/// What a producer keeps over its connections.
#[derive(Default)]
struct Memory {
    identity: Option<Identity>,
    /// Sent and not answered, in order.
    unanswered: VecDeque<Sent>,
}

/// What to do after an answer.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Reconnect,
}

/// Requests on their way at a time, as Kafka's idempotent producers have.
const FLYING_MAX: usize = 5;

impl Producer {
    /// Produces until told to stop and, if it is idempotent, until all it sent is acknowledged.
    pub(crate) async fn run(mut self) {
        let mut memory = Memory::default();
        loop {
            if self.stopping.get() && memory.unanswered.is_empty() {
                return;
            }
            let Some(mut connection) = self.door.connect().await else { return };
            let _ = self.talk(&mut connection, &mut memory).await;
            connection.close().await;
            let pause = [20, 5_000][self.random.index(2)];
            self.pause(pause).await;
        }
    }

    async fn pause(&mut self, micros: u64) {
        self.shard.sleep(Duration::from_micros(1 + self.random.below(micros))).await;
    }

    /// One connection, until it breaks or must be given up.
    async fn talk(&mut self, connection: &mut Connection, memory: &mut Memory) -> Option<()> {
        let acks = match self.kind {
            Kind::Idempotent => -1,
            Kind::Plain => [0, 1, 1, -1][self.random.index(4)],
        };
        if self.kind == Kind::Idempotent && memory.identity.is_none() {
            let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
            let response = connection.call(4, &request).await?;
            if response.error_code != ErrorCode::None {
                return None;
            }
            self.ledger.new_producer(response.producer_id);
            memory.identity = Some(Identity { id: response.producer_id, next: BTreeMap::new() });
        }
        let mut flying: VecDeque<(i32, Sent)> = VecDeque::new();
        for sent in &memory.unanswered {
            flying.push_back((self.send(connection, sent, acks).await?, sent.clone()));
        }
        let hurry = self.random.one_in(2);
        loop {
            let full = flying.len() >= FLYING_MAX;
            let sends = !self.stopping.get() && !full && (flying.is_empty() || !self.random.one_in(3));
            if sends {
                let targets = self.ledger.targets();
                if targets.is_empty() {
                    self.pause(20_000).await;
                    continue;
                }
                let target = targets[self.random.index(targets.len())];
                let sent = self.make(target, connection, memory);
                let twice =
                    self.kind == Kind::Idempotent && flying.len() + 1 < FLYING_MAX && self.random.one_in(6);
                for _ in 0..=usize::from(twice) {
                    let id = self.send(connection, &sent, acks).await?;
                    if acks != 0 {
                        flying.push_back((id, sent.clone()));
                    }
                }
                if acks == 0 || !hurry {
                    self.pause(3_000).await;
                }
            } else if self.kind == Kind::Idempotent && self.random.one_in(100) {
                // It loses patience, and asks again over another connection.
                return None;
            } else if let Some((id, sent)) = flying.pop_front() {
                let response = connection.receive::<ProduceRequest>(VERSION, id).await?;
                let row = &response.responses[0].partition_responses[0];
                if self.answered(connection.life, memory, &sent, row.error_code, row.base_offset, acks)
                    == Then::Reconnect
                {
                    return None;
                }
            } else if self.stopping.get() {
                return Some(());
            }
        }
    }

    async fn send(&self, connection: &mut Connection, sent: &Sent, acks: i16) -> Option<i32> {
        let partition_data = vec![PartitionProduceData {
            index: sent.target.index,
            records: Records::Bytes(sent.bytes.clone()),
        }];
        let topic = TopicProduceData {
            topic_id: Uuid(sent.target.topic),
            partition_data,
            ..TopicProduceData::default()
        };
        let request =
            ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() };
        connection.send(VERSION, &request).await
    }

    /// The next batch for a partition.
    fn make(&mut self, target: Target, connection: &Connection, memory: &mut Memory) -> Sent {
        let number = self.ledger.new_number();
        let records = i32::try_from(self.random.within(1, 6)).unwrap();
        let (identity, order) = match &mut memory.identity {
            Some(identity) => {
                let (sequence, count) = identity.next.entry(target).or_insert((0, 0));
                let was = (identity.id, 0, *sequence);
                let order = Order::Idempotent { producer: identity.id, count: *count };
                *sequence += records;
                *count += 1;
                (Some(was), order)
            }
            None => (None, Order::Plain { connection: connection.serial }),
        };
        // The ledger knows batches by their CRC, which in 100,000 seeds two may share by chance.
        let bytes = loop {
            let bytes = self.batch(number, records, identity);
            if !self.ledger.knows(&bytes) {
                break bytes;
            }
        };
        let sent = Sent { target, number, bytes, order };
        self.ledger.sends(&sent);
        if identity.is_some() {
            memory.unanswered.push_back(sent.clone());
        }
        sent
    }

    fn batch(&mut self, number: u64, records: i32, identity: Option<(i64, i16, i32)>) -> Bytes {
        // Many small ones, some of several blocks, now and then one that the log keeps where it came.
        let most = [20, 100, 100, 1500, 6000][self.random.index(5)];
        let mut large = self.random.one_in(40);
        let mut builder = Builder::new(Codec::None);
        if let Some((id, epoch, sequence)) = identity {
            builder = builder.producer(id, epoch, sequence);
        }
        let timestamp = self.shard.wall_time().0;
        for _ in 0..records {
            let mut value = number.to_be_bytes().to_vec();
            let filler = self.random.bits().to_be_bytes();
            let (least, most) = if std::mem::take(&mut large) { (65_000, 130_000) } else { (8, most) };
            let len = usize::try_from(self.random.within(least, most)).unwrap();
            value.extend(filler.iter().cycle().take(len));
            builder.push(timestamp, None, Some(&value), &[]);
        }
        builder.build()
    }

    fn answered(
        &mut self,
        life: u64,
        memory: &mut Memory,
        sent: &Sent,
        code: ErrorCode,
        base_offset: i64,
        acks: i16,
    ) -> Then {
        let target = sent.target;
        match code {
            ErrorCode::None => {
                self.ledger.acknowledged(life, sent, base_offset, acks);
                memory.unanswered.retain(|other| other.number != sent.number);
                Then::GoOn
            }
            ErrorCode::RequestTimedOut => Then::Reconnect,
            ErrorCode::OutOfOrderSequenceNumber => {
                let mut of_partition = memory.unanswered.iter().filter(|other| other.target == target);
                if of_partition.next().is_some_and(|first| first.number == sent.number) {
                    self.ledger.out_of_order(target);
                    // What it wrote before is lost, and was never promised to last: it begins anew.
                    *memory = Memory::default();
                }
                Then::Reconnect
            }
            other => {
                self.ledger.refused(target, life, &format!("a batch: {other}"));
                if !self.ledger.is_present(target) {
                    // What it has not been told of there is given up; should the topic stay, its sequence would have a gap.
                    *memory = Memory::default();
                }
                Then::Reconnect
            }
        }
    }
}

/// Topics go by their ids.
const VERSION: i16 = 13;
