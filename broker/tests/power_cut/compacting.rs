//! A compacted topic whose configs change all the while: who writes to it, and what must be found in it, then and after any crash.
//!
//! Compaction may take a record away once a later one of its key is there, and nothing else. Marks of deletion are kept for longer than
//! any of these worlds lasts.

use crate::client::Connection;
use crate::consuming::{VERSION, fetch};
use crate::ledger::{Ledger, Target};
use bytes::Bytes;
use ringlog_engine::batch;
use ringlog_engine::io::sim::Random;
use ringlog_engine::records::decode;
use ringlog_wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ringlog_wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use ringlog_wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ringlog_wire::metadata::{MetadataRequest, MetadataRequestTopic};
use ringlog_wire::{ErrorCode, Uuid};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The topic. It is never deleted.
pub(crate) const TOPIC: &str = "table";

/// What may be changed, and to what. None of it says what a reader finds.
const CHANGES: &[(&str, &[&str])] = &[
    ("segment.index.bytes", &["48", "120"]),
    ("index.interval.bytes", &["0", "4096"]),
    ("segment.ms", &["20", "604800000"]),
    ("flush.messages", &["1", "20", "9223372036854775807"]),
    ("min.cleanable.dirty.ratio", &["0.01", "0.5"]),
    ("max.compaction.lag.ms", &["5", "9223372036854775807"]),
    ("file.delete.delay.ms", &["0", "60000"]),
];

/// What is known of the topic. It outlives crashes.
#[derive(Clone, Default)]
pub(crate) struct Table(Rc<RefCell<Book>>);

#[derive(Default)]
struct Book {
    /// Its creation was asked for.
    asked: bool,
    id: Option<Uuid>,
    /// By number, all that was sent: its key, and whether it marks a deletion.
    sent: BTreeMap<u64, (u8, bool)>,
    /// Where records were found, by number: none ever moves.
    places: BTreeMap<u64, i64>,
    /// By key: the newest record that was acknowledged or read. It is there, or a later one is.
    firm: BTreeMap<u8, u64>,
    /// The log does not end before it.
    end: i64,
    configs: BTreeMap<&'static str, Config>,
}

/// One config: what it is, or else one of the changes that were not answered, each with the process it was sent to.
#[derive(Default)]
struct Config {
    now: Option<String>,
    maybe: Vec<(u64, String)>,
}

impl Table {
    /// A new record: its number.
    pub(crate) fn sends(&self, key: u8, deletes: bool) -> u64 {
        let mut book = self.0.borrow_mut();
        let number = book.sent.last_key_value().map_or(0, |(last, _)| last + 1);
        book.sent.insert(number, (key, deletes));
        number
    }

    /// The broker has taken these, the first of them at this offset.
    pub(crate) fn acknowledged(&self, numbers: &[u64], base_offset: i64) {
        let mut book = self.0.borrow_mut();
        for (number, offset) in numbers.iter().zip(base_offset..) {
            book.is_at(*number, offset);
        }
    }

    pub(crate) fn id(&self) -> Option<Uuid> {
        self.0.borrow().id
    }

    /// Creates the topic, unless it is there. `None`: the connection is of no more use.
    pub(crate) async fn create(&self, connection: &mut Connection, ledger: &Ledger) -> Option<Uuid> {
        self.0.borrow_mut().asked = true;
        let configs = [
            ("cleanup.policy", "compact"),
            ("delete.retention.ms", "86400000"),
            ("segment.bytes", "1048576"),
            ("segment.index.bytes", "48"),
            ("index.interval.bytes", "0"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ];
        let configs = configs
            .map(|(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
            .into();
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: 1,
            replication_factor: 1,
            configs,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let response = connection.call(7, &request).await?;
        let id = match response.topics[0].error_code {
            ErrorCode::None => response.topics[0].topic_id,
            ErrorCode::TopicAlreadyExists => look_up(connection).await??,
            other => {
                ledger.failed(connection.life, &format!("creation of {TOPIC}: {other}"));
                return None;
            }
        };
        self.is_there(Some(id));
        Some(id)
    }

    fn is_there(&self, id: Option<Uuid>) {
        let mut book = self.0.borrow_mut();
        let was = book.id;
        assert!(was.is_none() || was == id, "topic {TOPIC} was {was:?}, and is {id:?}");
        assert!(id.is_none() || book.asked, "topic {TOPIC} was never asked for");
        book.id = id;
    }

    /// Changes some config, of the topic or of the one that keeps groups.
    pub(crate) async fn change(
        &self,
        connection: &mut Connection,
        ledger: &Ledger,
        random: &mut Random,
    ) -> Option<()> {
        let (name, values) = CHANGES[random.index(CHANGES.len())];
        let value = values[random.index(values.len())];
        self.0.borrow_mut().configs.entry(name).or_default().maybe.push((connection.life, value.to_owned()));
        let config = AlterableConfig { name: name.into(), config_operation: SET, value: Some(value.into()) };
        let resource = AlterConfigsResource {
            resource_type: TOPIC_TYPE,
            resource_name: TOPIC.into(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let response = connection.call(1, &request).await?;
        match response.responses[0].error_code {
            ErrorCode::None => {
                let mut book = self.0.borrow_mut();
                let known = book.configs.get_mut(name).expect("just put there");
                known.now = Some(value.to_owned());
                // One that went over an older connection to this process may still arrive.
                known.maybe.retain(|(life, _)| *life == ledger.life());
                let _ = ledger.tally(|tally| tally.changes += 1);
            }
            other => ledger.failed(connection.life, &format!("change of {name}: {other}")),
        }
        Some(())
    }

    /// What the configs are said to be is what they were changed to.
    pub(crate) async fn check_configs(&self, connection: &mut Connection, ledger: &Ledger) -> Option<()> {
        let resource = DescribeConfigsResource {
            resource_type: TOPIC_TYPE,
            resource_name: TOPIC.into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let mut response = connection.call(4, &request).await?;
        let result = response.results.remove(0);
        if result.error_code != ErrorCode::None {
            ledger.failed(connection.life, &format!("configs of {TOPIC}: {}", result.error_code));
            return None;
        }
        (connection.life == ledger.life()).then_some(())?;
        let mut book = self.0.borrow_mut();
        for (name, known) in &mut book.configs {
            let found = result.configs.iter().find(|config| config.name == *name).expect("it is listed");
            let found = found.value.as_ref().map(ToString::to_string).unwrap_or_default();
            let may_be = known.now.as_ref() == Some(&found)
                || known.now.is_none()
                || known.maybe.iter().any(|(_, value)| *value == found);
            assert!(may_be, "{name} is {found}, not {:?} or one of {:?}", known.now, known.maybe);
            known.now = Some(found);
            known.maybe.retain(|(life, _)| *life == connection.life);
        }
        Some(())
    }

    /// Reads the topic from its start to its end, and holds it against what is known. `None`: the connection is of no more use.
    pub(crate) async fn check(&self, connection: &mut Connection, ledger: &Ledger) -> Option<()> {
        let id = look_up(connection).await?;
        (connection.life == ledger.life()).then_some(())?;
        self.is_there(id);
        let Some(id) = id else { return Some(()) };
        self.check_configs(connection, ledger).await?;
        let target = Target { topic: id.0, index: 0 };
        let firm = self.0.borrow().firm.clone();
        let mut newest: BTreeMap<u8, u64> = BTreeMap::new();
        let mut position = 0;
        loop {
            let request = fetch(&[target], &BTreeMap::from([(target, position)]), 0, 1 << 20);
            let response = connection.call(VERSION, &request).await?;
            let row = &response.responses[0].partitions[0];
            if row.error_code != ErrorCode::None {
                ledger.failed(connection.life, &format!("a fetch of {TOPIC}: {}", row.error_code));
                return None;
            }
            (connection.life == ledger.life()).then_some(())?;
            let bytes = row.records.bytes().cloned().unwrap_or_default();
            let end = self.note(&bytes, position, &mut newest);
            position = end;
            if end >= row.high_watermark || bytes.is_empty() {
                let end = self.0.borrow().end;
                assert!(
                    row.high_watermark >= end,
                    "{TOPIC} ended at {end}, and ends at {}",
                    row.high_watermark
                );
                break;
            }
        }
        for (key, number) in firm {
            let found = newest.get(&key);
            let old = found.is_none_or(|found| *found < number);
            assert!(!old, "{TOPIC}: of key {key} there was record {number}, and the newest is {found:?}");
        }
        let _ = ledger.tally(|tally| tally.tables += 1);
        Some(())
    }

    /// Records that were read, from this offset on; returns the offset after them.
    fn note(&self, mut bytes: &[u8], mut from: i64, newest: &mut BTreeMap<u8, u64>) -> i64 {
        let mut book = self.0.borrow_mut();
        while let Some(len) = batch::whole_len(bytes) {
            let header = batch::verify(&bytes[..len]).expect("a batch");
            assert!(header.last_offset() >= from, "{TOPIC}: offsets go forward");
            for record in decode(&Bytes::copy_from_slice(&bytes[..len]), 1 << 20).expect("records") {
                let name = &record.headers[0].0;
                let number = u64::from_be_bytes(name[..].try_into().expect("a number"));
                let sent = book.sent.get(&number).copied();
                let found = (record.key.expect("a key")[0], record.value.is_none());
                assert_eq!(sent, Some(found), "{TOPIC}: record {number} at {}", record.offset);
                book.is_at(number, record.offset);
                let before = newest.insert(found.0, number);
                assert!(before.is_none_or(|before| before < number), "{TOPIC}: {before:?} before {number}");
            }
            from = header.next_offset();
            bytes = &bytes[len..];
        }
        from
    }
}

impl Book {
    /// A record was acknowledged or read here.
    fn is_at(&mut self, number: u64, offset: i64) {
        let before = self.places.insert(number, offset);
        assert!(
            before.is_none_or(|before| before == offset),
            "record {number} was at {before:?}, is at {offset}"
        );
        let (key, _) = self.sent[&number];
        let firm = self.firm.entry(key).or_insert(number);
        *firm = number.max(*firm);
        self.end = self.end.max(offset + 1);
    }
}

/// The topic's id, if it is there.
async fn look_up(connection: &mut Connection) -> Option<Option<Uuid>> {
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let response = connection.call(12, &request).await?;
    let topic = &response.topics[0];
    Some((topic.error_code == ErrorCode::None).then_some(topic.topic_id))
}

const TOPIC_TYPE: i8 = 2;
const SET: i8 = 0;
