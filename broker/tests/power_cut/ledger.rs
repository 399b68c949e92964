//! The checker: what clients sent, what they were told, what they have read; and whether a broker that comes back keeps it.
//!
//! It stands outside: it knows only what went over connections. Two strengths of promise:
//!
//! - *strong*: acknowledged with acks=all, or read by a consumer, where durability=fsync; and whatever a recovered broker
//!   has shown. No crash takes it back.
//! - *weak*: acknowledged otherwise (acks=1, or durability=replicated), or read with durability=replicated. It survives the
//!   death of the process, and a power cut takes it back only from the end of a partition.

use crate::partition::{Found, Partition, Promise};
use bytes::Bytes;
use ringlog_engine::batch::{self, Header};
use ringlog_wire::Uuid;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// The checker's book, shared by all clients. It outlives crashes.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Rc<RefCell<Book>>);

#[derive(Default)]
struct Book {
    /// Which process of the broker lives.
    life: u64,
    /// An operation of its disks fails in this life: partitions may be offline.
    faulty: bool,
    /// Every batch that was ever sent, by its CRC.
    sent: HashMap<u32, Sent>,
    topics: BTreeMap<[u8; 16], Topic>,
    deleted: BTreeSet<[u8; 16]>,
    names: BTreeMap<String, Name>,
    producer_ids: BTreeSet<i64>,
    numbers: u64,
    tally: Tally,
}

/// What has been checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) read: u64,
    /// Batches compared after recoveries.
    pub(crate) recovered: u64,
    /// Strong promises among them.
    pub(crate) promised: u64,
    pub(crate) recoveries: u64,
    pub(crate) cut_in_recovery: u64,
    pub(crate) stops: u64,
    pub(crate) faults: u64,
    /// Lives whose disks were full now and then, and those of them that took records again.
    pub(crate) full: u64,
    pub(crate) emptied: u64,
    /// Commits of offsets that were acknowledged, offsets that were told, generations of groups.
    pub(crate) commits: u64,
    pub(crate) offsets: u64,
    pub(crate) generations: u64,
    /// Changes of configs that were acknowledged, reads of the whole compacted topic, rounds of compaction.
    pub(crate) changes: u64,
    pub(crate) tables: u64,
    pub(crate) rounds: u64,
    /// Partitions that came back, or were read, with less at the front by themselves.
    pub(crate) retained: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.read += other.read;
        self.recovered += other.recovered;
        self.promised += other.promised;
        self.recoveries += other.recoveries;
        self.cut_in_recovery += other.cut_in_recovery;
        self.stops += other.stops;
        self.faults += other.faults;
        self.full += other.full;
        self.emptied += other.emptied;
        self.commits += other.commits;
        self.offsets += other.offsets;
        self.generations += other.generations;
        self.changes += other.changes;
        self.tables += other.tables;
        self.rounds += other.rounds;
        self.retained += other.retained;
    }
}

/// A batch as its producer made it.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) target: Target,
    /// Unique in the world.
    pub(crate) number: u64,
    /// As sent: base offset 0, no leader epoch.
    pub(crate) bytes: Bytes,
    pub(crate) order: Order,
}

/// What order a batch must keep among its like in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Of an idempotent producer: one after the other, by their count.
    Idempotent { producer: i64, count: u64 },
    /// Of a plain producer: in the order in which they went over one connection.
    Plain { connection: u64 },
}

/// A partition of one topic. The topic's id tells it from those that had its name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) topic: [u8; 16],
    pub(crate) index: i32,
}

struct Topic {
    name: String,
    fsync: bool,
    partitions: Vec<Partition>,
}

/// What a topic's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Absent,
    /// Asked for: there, or not.
    Creating(Shape),
    Present(Uuid),
    /// Its deletion was asked for: gone, or not.
    Deleting(Uuid),
}

/// What a topic was created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) partitions: i32,
    pub(crate) fsync: bool,
    /// It lets go of its oldest segments by itself.
    pub(crate) retains: bool,
}

/// How a process of the broker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    PowerCut,
    Killed,
    /// In order: all it held is durable.
    Stopped,
}

impl Ledger {
    // ---- the broker's lives ----

    pub(crate) fn begins(&self, faulty: bool) {
        self.0.borrow_mut().faulty = faulty;
    }

    /// Whether its disks may fail, or be full.
    pub(crate) fn is_faulty(&self) -> bool {
        self.0.borrow().faulty
    }

    pub(crate) fn ended(&self, how: Ended) {
        let mut book = self.0.borrow_mut();
        book.life += 1;
        let faulty = book.faulty;
        for partition in book.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.ended(how);
            // Nobody may have lived to hear of it.
            partition.refused |= faulty;
        }
    }

    pub(crate) fn life(&self) -> u64 {
        self.0.borrow().life
    }

    pub(crate) fn tally(&self, note: impl FnOnce(&mut Tally)) -> Tally {
        let mut book = self.0.borrow_mut();
        note(&mut book.tally);
        book.tally
    }

    /// A refusal that a healthy broker has no reason for.
    pub(crate) fn refused(&self, target: Target, life: u64, what: &str) {
        let mut book = self.0.borrow_mut();
        let present = book.is_present(target.topic);
        assert!(book.faulty || life != book.life || !present, "{target:?} is well, and refused: {what}");
        if let Some(partition) = book.partition(target) {
            // It may have come online between two batches: of a producer that it does not know it takes any sequence, as
            // Apache Kafka does, and the refused batch is out of order then.
            partition.refused = true;
        }
    }

    /// A request about topics was refused, which a healthy broker has no reason for.
    pub(crate) fn failed(&self, life: u64, what: &str) {
        let book = self.0.borrow();
        assert!(book.faulty || life != book.life, "{what}");
    }

    // ---- topics ----

    pub(crate) fn name(&self, name: &str) -> Name {
        self.0.borrow().names.get(name).copied().unwrap_or(Name::Absent)
    }

    pub(crate) fn creation_begins(&self, name: &str, shape: Shape) {
        self.0.borrow_mut().names.insert(name.into(), Name::Creating(shape));
    }

    pub(crate) fn deletion_begins(&self, name: &str, id: Uuid) {
        self.0.borrow_mut().names.insert(name.into(), Name::Deleting(id));
    }

    /// The broker has said that a topic is there.
    pub(crate) fn created(&self, name: &str, id: Uuid) {
        let mut book = self.0.borrow_mut();
        match book.names[name] {
            Name::Creating(shape) => book.topic_is_there(name, id, shape),
            // Told by a process that is gone: the next one was asked since.
            now => assert_eq!(now, Name::Present(id), "topic {name} was created"),
        }
    }

    /// The broker has said that a topic is gone.
    pub(crate) fn deleted(&self, name: &str, id: Uuid) {
        let mut book = self.0.borrow_mut();
        match book.names[name] {
            Name::Deleting(_) => book.topic_is_gone(name, id),
            now => assert_eq!(now, Name::Absent, "topic {name} was deleted"),
        }
    }

    /// The topics that a broker that came back knows of.
    pub(crate) fn check_topics(&self, there: &BTreeMap<String, (Uuid, usize)>) {
        let mut book = self.0.borrow_mut();
        for name in there.keys() {
            assert!(book.names.contains_key(name), "topic {name} was never asked for");
        }
        for (name, was) in book.names.clone() {
            let now = there.get(&name).copied();
            match (was, now) {
                (Name::Absent, None) => {}
                (Name::Absent, Some(_)) => panic!("topic {name} was deleted and is back"),
                (Name::Creating(_), None) => {
                    let _ = book.names.insert(name, Name::Absent);
                }
                (Name::Creating(shape), Some((id, count))) => {
                    assert_eq!(i32::try_from(count), Ok(shape.partitions), "partitions of topic {name}");
                    book.topic_is_there(&name, id, shape);
                }
                (Name::Present(id) | Name::Deleting(id), Some((now, count))) => {
                    assert_eq!(now, id, "the id of topic {name}");
                    assert_eq!(count, book.topics[&id.0].partitions.len(), "partitions of topic {name}");
                    let _ = book.names.insert(name, Name::Present(id));
                }
                (Name::Present(_), None) => panic!("topic {name} was created and is gone"),
                (Name::Deleting(id), None) => book.topic_is_gone(&name, id),
            }
        }
    }

    /// Partitions of topics that are there.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let book = self.0.borrow();
        let present = book.names.values().filter_map(|name| match name {
            Name::Present(id) => Some(id.0),
            _ => None,
        });
        let targets = present.flat_map(|topic| {
            let count = i32::try_from(book.topics[&topic].partitions.len()).unwrap();
            (0..count).map(move |index| Target { topic, index })
        });
        targets.collect()
    }

    /// The name of a topic that is there.
    pub(crate) fn name_of(&self, target: Target) -> Option<String> {
        Some(self.0.borrow().topics.get(&target.topic)?.name.clone())
    }

    pub(crate) fn is_present(&self, target: Target) -> bool {
        self.0.borrow().is_present(target.topic)
    }

    // ---- producers ----

    pub(crate) fn new_number(&self) -> u64 {
        let mut book = self.0.borrow_mut();
        book.numbers += 1;
        book.numbers
    }

    pub(crate) fn new_producer(&self, id: i64) {
        assert!(self.0.borrow_mut().producer_ids.insert(id), "producer id {id} was given twice");
    }

    /// Whether a batch of this one's CRC has been sent.
    pub(crate) fn knows(&self, bytes: &[u8]) -> bool {
        self.0.borrow().sent.contains_key(&Header::parse(bytes).unwrap().crc)
    }

    pub(crate) fn sends(&self, sent: &Sent) {
        let mut book = self.0.borrow_mut();
        let crc = Header::parse(&sent.bytes).unwrap().crc;
        let before = book.sent.insert(crc, sent.clone());
        assert!(before.is_none(), "two batches of one CRC");
        book.tally.sent += 1;
    }

    /// The broker acknowledged a batch at this offset.
    pub(crate) fn acknowledged(&self, life: u64, sent: &Sent, base_offset: i64, acks: i16) {
        let mut book = self.0.borrow_mut();
        let header = Header::parse(&sent.bytes).unwrap();
        book.tally.acknowledged += 1;
        let found = Found {
            base: base_offset,
            next: base_offset + i64::from(header.last_offset_delta) + 1,
            crc: header.crc,
            epoch: None,
        };
        book.learn(life, sent.target, &found, acks == -1);
    }

    /// The broker says that a sequence does not follow, though all before it was acknowledged.
    pub(crate) fn out_of_order(&self, target: Target) {
        let book = self.0.borrow();
        let excused = book.topics.get(&target.topic).is_none_or(|topic| {
            !topic.fsync || topic.partitions[usize::try_from(target.index).unwrap()].refused
        });
        assert!(excused, "{target:?}: the producer's next batch is refused as out of order");
    }

    // ---- consumers ----

    /// A consumer has read these bytes from `from` on. Returns where they end.
    pub(crate) fn read(
        &self,
        life: u64,
        target: Target,
        from: i64,
        bytes: &[u8],
        high_watermark: i64,
    ) -> i64 {
        let mut book = self.0.borrow_mut();
        let mut end = from;
        for found in book.batches(target, bytes) {
            assert!(found.base <= end && end < found.next, "{target:?}: a gap at {end}: {found:?}");
            assert!(found.next <= high_watermark, "{target:?}: {found:?} is past {high_watermark}");
            end = found.next;
            book.tally.read += 1;
            book.learn(life, target, &found, true);
        }
        end
    }

    /// A consumer is told that nothing is at the offset it has come to.
    pub(crate) fn out_of_range(&self, life: u64, target: Target, offset: i64) -> i64 {
        let book = self.0.borrow();
        let Some(topic) = book.topics.get(&target.topic) else { return 0 };
        let partition = &topic.partitions[usize::try_from(target.index).unwrap()];
        let excused = offset < partition.log_start_asked || !topic.fsync || life != book.life || book.faulty;
        assert!(excused, "{target:?}: a consumer has read up to {offset}, and is told that is out of range");
        partition.log_start_told()
    }

    // ---- deleting records ----

    pub(crate) fn deletion_of_records_begins(&self, target: Target, offset: i64) {
        if let Some(partition) = self.0.borrow_mut().partition(target) {
            partition.log_start_asked = partition.log_start_asked.max(offset);
        }
    }

    pub(crate) fn records_deleted(&self, target: Target, offset: i64) {
        if let Some(partition) = self.0.borrow_mut().partition(target) {
            partition.log_start = partition.log_start.max(offset);
        }
    }

    /// Whether records of it may go by themselves.
    pub(crate) fn retains(&self, target: Target) -> bool {
        self.0.borrow_mut().partition(target).is_some_and(|partition| partition.retains)
    }

    /// A healthy broker says that a partition starts here now, further on than before.
    pub(crate) fn starts_at(&self, target: Target, life: u64, offset: i64) {
        let mut book = self.0.borrow_mut();
        let now = life == book.life;
        let Some(partition) = book.partition(target).filter(|_| now) else { return };
        assert!(
            offset <= partition.log_start_asked,
            "{target:?}: starts at {offset}, which nobody asked for"
        );
        partition.log_start = partition.log_start.max(offset);
    }

    // ---- recovery ----

    /// All that a partition of a broker that came back holds.
    pub(crate) fn check_recovered(&self, target: Target, log_start: i64, log_end: i64, bytes: &[u8]) {
        let mut book = self.0.borrow_mut();
        let all = book.batches(target, bytes);
        let sent = all.iter().map(|found| &book.sent[&found.crc]);
        let orders: Vec<(u64, Order)> = sent.map(|sent| (sent.number, sent.order)).collect();
        let topic = book.topics.get_mut(&target.topic).expect("a topic that is there");
        let partition = &mut topic.partitions[usize::try_from(target.index).unwrap()];
        let retained = partition.retains && log_start > partition.log_start;
        let promised = partition.check_recovered(target, log_start, log_end, &all);
        let from_the_first = log_start == 0 && topic.fsync && !partition.refused;
        check_order(target, &orders, from_the_first);
        book.tally.recovered += all.len() as u64;
        book.tally.promised += promised;
        book.tally.retained += u64::from(retained);
    }

    /// The files of a broker that came back and has taken nothing yet: batches of this partition, and zeroes.
    pub(crate) fn check_file(&self, target: Target, path: &str, bytes: &[u8]) {
        let book = self.0.borrow();
        if !book.topics.contains_key(&target.topic) {
            return;
        }
        let mut rest = bytes;
        while let Some(len) = batch::whole_len(rest).filter(|len| batch::verify(&rest[..*len]).is_ok()) {
            book.batches(target, &rest[..len]);
            rest = &rest[len..];
        }
        let old = rest.iter().position(|byte| *byte != 0);
        assert!(old.is_none(), "{path}: old bytes past the end, {} behind the last batch", old.unwrap_or(0));
    }
}

impl Book {
    fn is_present(&self, topic: [u8; 16]) -> bool {
        self.names.values().any(|name| *name == Name::Present(Uuid(topic)))
    }

    fn partition(&mut self, target: Target) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(&target.topic)?;
        topic.partitions.get_mut(usize::try_from(target.index).unwrap())
    }

    fn topic_is_there(&mut self, name: &str, id: Uuid, shape: Shape) {
        assert!(!self.deleted.contains(&id.0), "topic {name} has an id that was deleted");
        let partitions = (0..shape.partitions).map(|_| Partition::new(shape.retains)).collect();
        let before = self.topics.insert(id.0, Topic { name: name.into(), fsync: shape.fsync, partitions });
        assert!(before.is_none(), "topic {name} has another topic's id");
        self.names.insert(name.into(), Name::Present(id));
    }

    fn topic_is_gone(&mut self, name: &str, id: Uuid) {
        self.topics.remove(&id.0);
        self.deleted.insert(id.0);
        self.names.insert(name.into(), Name::Absent);
    }

    /// Somebody was told that a batch lies somewhere. `firm`: acknowledged with acks=all, or read.
    fn learn(&mut self, life: u64, target: Target, found: &Found, firm: bool) {
        let now = self.life == life;
        let Some(topic) = self.topics.get_mut(&target.topic) else { return };
        let strength = if firm && topic.fsync { Promise::Strong } else { Promise::Weak };
        let partition = &mut topic.partitions[usize::try_from(target.index).unwrap()];
        if now {
            partition.learn(target, found, strength);
        } else if strength == Promise::Strong {
            // Told by a process that is gone, and heard only now.
            partition.learn_late(target, found);
        }
    }

    /// Takes bytes apart: whole batches, each sent to this partition, unaltered.
    fn batches(&self, target: Target, bytes: &[u8]) -> Vec<Found> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let len = batch::whole_len(rest).unwrap_or_else(|| panic!("{target:?}: a part of a batch"));
            let header = batch::verify(&rest[..len]).unwrap_or_else(|error| panic!("{target:?}: {error:?}"));
            let Some(sent) = self.sent.get(&header.crc) else {
                panic!("{target:?}: a batch that nobody sent: {header:?}")
            };
            assert_eq!(sent.target, target, "a batch of another partition: {header:?}");
            assert!(rest[STAMPED..len] == sent.bytes[STAMPED..], "{target:?}: an altered batch: {header:?}");
            found.push(Found {
                base: header.base_offset,
                next: header.next_offset(),
                crc: header.crc,
                epoch: Some(header.leader_epoch),
            });
            rest = &rest[len..];
        }
        found
    }
}

/// Nothing twice, nothing out of order, nothing left out between two batches of an idempotent producer.
fn check_order(target: Target, orders: &[(u64, Order)], from_the_first: bool) {
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    let mut numbers: BTreeMap<u64, u64> = BTreeMap::new();
    for (number, order) in orders {
        match order {
            Order::Idempotent { producer, count } => {
                let expected = match counts.insert(*producer, *count) {
                    Some(last) => last + 1,
                    None if from_the_first => 0,
                    None => *count,
                };
                assert_eq!(*count, expected, "{target:?}: the batches of producer {producer}");
            }
            Order::Plain { connection } => {
                let before = numbers.insert(*connection, *number).unwrap_or(0);
                assert!(before < *number, "{target:?}: {before} came before {number} over one connection");
            }
        }
    }
}

/// Base offset, length, leader epoch: a broker writes the first and the last.
const STAMPED: usize = 16;
