//! Who keeps the compacted topic: an idempotent producer of few keys, who changes the topic's configs and reads it from its start.

use crate::client::{Connection, Door};
use crate::compacting::Table;
use crate::ledger::Ledger;
use bytes::Bytes;
use ringlog_engine::batch::Codec;
use ringlog_engine::io::sim::Random;
use ringlog_engine::records::Builder;
use ringlog_engine::shard::Shard;
use ringlog_wire::init_producer_id::InitProducerIdRequest;
use ringlog_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ringlog_wire::{ErrorCode, Records, Uuid};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The one who does it. It outlives the broker's processes.
pub(crate) struct Keeper {
    pub(crate) shard: Shard,
    pub(crate) door: Door,
    pub(crate) ledger: Ledger,
    pub(crate) random: Random,
    pub(crate) stopping: Rc<Cell<bool>>,
    pub(crate) table: Table,
}

/// What it keeps over its connections.
#[derive(Default)]
struct Memory {
    producer: Option<(i64, i32)>,
    /// Sent and not acknowledged: the batch, and the numbers of its records.
    unanswered: Option<(Bytes, Vec<u64>)>,
}

impl Keeper {
    /// Goes on until told to stop and all it sent is acknowledged.
    pub(crate) async fn run(mut self) {
        let mut memory = Memory::default();
        while !self.stopping.get() || memory.unanswered.is_some() {
            let Some(mut connection) = self.door.connect().await else { return };
            let _ = self.talk(&mut connection, &mut memory).await;
            connection.close().await;
            self.pause(5_000).await;
        }
    }

    async fn pause(&mut self, micros: u64) {
        self.shard.sleep(Duration::from_micros(1 + self.random.below(micros))).await;
    }

    /// One connection, until it breaks or must be given up.
    async fn talk(&mut self, connection: &mut Connection, memory: &mut Memory) -> Option<()> {
        let topic = match self.table.id() {
            Some(id) => id,
            None => self.table.create(connection, &self.ledger).await?,
        };
        let (producer, mut sequence) = match memory.producer {
            Some(known) => known,
            None => {
                let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
                let response = connection.call(4, &request).await?;
                (response.error_code == ErrorCode::None).then_some(())?;
                self.ledger.new_producer(response.producer_id);
                (response.producer_id, 0)
            }
        };
        memory.producer = Some((producer, sequence));
        while !self.stopping.get() || memory.unanswered.is_some() {
            if memory.unanswered.is_none() {
                let (batch, numbers) = self.make(producer, sequence);
                sequence += i32::try_from(numbers.len()).unwrap();
                memory.producer = Some((producer, sequence));
                memory.unanswered = Some((batch, numbers));
            }
            let (batch, numbers) = memory.unanswered.as_ref().expect("just seen");
            let base_offset = self.send(connection, topic, batch).await?;
            self.table.acknowledged(numbers, base_offset);
            memory.unanswered = None;
            if self.random.one_in(4) {
                self.table.change(connection, &self.ledger, &mut self.random).await?;
            }
            if self.random.one_in(40) {
                self.table.check(connection, &self.ledger).await?;
            }
            self.pause(2_000).await;
        }
        Some(())
    }

    fn make(&mut self, producer: i64, sequence: i32) -> (Bytes, Vec<u64>) {
        let mut builder = Builder::new([Codec::None, Codec::Lz4][self.random.index(2)]);
        builder = builder.producer(producer, 0, sequence);
        let now = self.shard.wall_time().0;
        let mut numbers = Vec::new();
        for _ in 0..self.random.within(1, 4) {
            let keys = [2, 8, 40][self.random.index(3)];
            let (key, deletes) = (u8::try_from(self.random.below(keys)).unwrap(), self.random.one_in(6));
            let number = self.table.sends(key, deletes);
            let most = [20, 3000][self.random.index(2)];
            let value = vec![number as u8; self.random.index(most)];
            let value = (!deletes).then_some(&value[..]);
            builder.push(now, Some(&[key]), value, &[(&number.to_be_bytes(), None)]);
            numbers.push(number);
        }
        (builder.build(), numbers)
    }

    /// Where the broker has put a batch.
    async fn send(&self, connection: &mut Connection, topic: Uuid, batch: &Bytes) -> Option<i64> {
        let data = PartitionProduceData { index: 0, records: Records::Bytes(batch.clone()) };
        let topic = TopicProduceData { topic_id: topic, partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let response = connection.call(13, &request).await?;
        let row = &response.responses[0].partition_responses[0];
        match row.error_code {
            ErrorCode::None => Some(row.base_offset),
            ErrorCode::RequestTimedOut => None,
            other => {
                self.ledger.failed(connection.life, &format!("a batch for the compacted topic: {other}"));
                None
            }
        }
    }
}
