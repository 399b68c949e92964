//! The image: the metadata as a shard sees it. Immutable; a change makes a new one that shares the rest.

use super::record::{PartitionRecord, Record};
use super::scram::{Mechanism, ScramCredential};
use crate::config::Dynamic;
use ringlog_wire::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All committed metadata. Cheap to clone: topics are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Records applied so far; grows with every change.
    pub version: u64,
    /// Kafka's cluster id; empty before the first record.
    pub cluster_id: Arc<str>,
    /// The lowest producer id nobody has.
    pub next_producer_id: i64,
    topics: Arc<BTreeMap<Arc<str>, Arc<Topic>>>,
    names: Arc<BTreeMap<[u8; 16], Arc<str>>>,
    /// Configs set while brokers ran: of one, by its number, and of all.
    broker_configs: Arc<BTreeMap<Option<i32>, BTreeMap<String, String>>>,
    /// Configs set on groups; a group without any is not there.
    group_configs: Arc<BTreeMap<String, BTreeMap<String, String>>>,
    /// Users' SCRAM credentials; a user without any is not there.
    scram: Arc<BTreeMap<String, BTreeMap<Mechanism, ScramCredential>>>,
    /// Topics of which not all partitions are known to have been opened, and the first that is not.
    unopened: Arc<BTreeMap<[u8; 16], usize>>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, never reused.
    pub id: Uuid,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionState>,
    /// Configs set on the topic, by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionState {
    /// Grows by one at each start of the broker.
    pub leader_epoch: i32,
    /// The id of the data directory that holds it.
    pub directory: Uuid,
}

impl Image {
    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topic(self.names.get(&id.0)?)
    }

    /// All topics, in name order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// Topics that are not in another image, or are others or otherwise there, in name order: those of an image that was made from the other
    /// by a change are told by their address alone.
    pub fn unlike(&self, other: &Self) -> Vec<Arc<Topic>> {
        let mut others = other.topics().peekable();
        let is_unlike = |topic: &&Arc<Topic>| {
            while others.next_if(|one| one.name < topic.name).is_some() {}
            !others.peek().is_some_and(|one| Arc::ptr_eq(one, topic))
        };
        self.topics().filter(is_unlike).cloned().collect()
    }

    /// Configs set while they ran for this broker, and for all.
    pub fn dynamic(&self, broker: i32) -> Dynamic {
        let of = |broker: Option<i32>| self.broker_configs.get(&broker).cloned().unwrap_or_default();
        Dynamic { this_broker: of(Some(broker)), all_brokers: of(None) }
    }

    /// Configs set on this group.
    pub fn group_configs(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.group_configs.get(group)
    }

    /// The groups on which configs are set, in name order.
    pub fn groups_with_configs(&self) -> impl Iterator<Item = &str> {
        self.group_configs.keys().map(String::as_str)
    }

    /// A user's SCRAM credentials.
    pub fn scram_credentials(&self, user: &str) -> Option<&BTreeMap<Mechanism, ScramCredential>> {
        self.scram.get(user)
    }

    /// The users that have SCRAM credentials, in name order.
    pub fn scram_users(&self) -> impl Iterator<Item = &str> {
        self.scram.keys().map(String::as_str)
    }

    /// Whether a partition is known to have been opened in an earlier run, so that it has a directory.
    pub fn was_opened(&self, topic: Uuid, index: i32) -> bool {
        let known = self.unopened.get(&topic.0).copied().unwrap_or(usize::MAX);
        usize::try_from(index).is_ok_and(|index| index < known)
    }

    /// Whether that is known of all partitions.
    pub fn all_were_opened(&self) -> bool {
        self.unopened.is_empty()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|topic| topic.partitions.len()).sum()
    }

    /// The image after one more record. A record that does not fit (an unknown topic, a name taken) is an
    /// error: records are checked before they are proposed, so it means a damaged or foreign log.
    pub fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Cluster { cluster_id } => self.cluster_id = cluster_id.as_str().into(),
            Record::Started => self.bump_epochs(),
            Record::Opened => self.unopened = Arc::default(),
            Record::Topic { name, id, partitions, configs } => {
                if self.topics.contains_key(name.as_str()) || self.names.contains_key(&id.0) {
                    return Err(format!("topic {name} ({id}) exists already"));
                }
                let name: Arc<str> = name.as_str().into();
                let partitions = partitions.iter().map(PartitionState::from).collect();
                let topic = Topic { name: name.clone(), id: *id, partitions, configs: configs.clone() };
                Arc::make_mut(&mut self.unopened).insert(id.0, 0);
                Arc::make_mut(&mut self.names).insert(id.0, name.clone());
                Arc::make_mut(&mut self.topics).insert(name, Arc::new(topic));
            }
            Record::Partitions { topic, added } => {
                let partitions = &mut self.topic_mut(*topic)?.partitions;
                let opened = partitions.len();
                partitions.extend(added.iter().map(PartitionState::from));
                Arc::make_mut(&mut self.unopened).entry(topic.0).or_insert(opened);
            }
            Record::RemoveTopic { topic } => {
                let name = Arc::make_mut(&mut self.names)
                    .remove(&topic.0)
                    .ok_or_else(|| format!("there is no topic {topic}"))?;
                Arc::make_mut(&mut self.topics).remove(&name);
                Arc::make_mut(&mut self.unopened).remove(&topic.0);
            }
            Record::TopicConfigs { topic, configs } => change(&mut self.topic_mut(*topic)?.configs, configs),
            Record::BrokerConfigs { broker, configs } => {
                change(Arc::make_mut(&mut self.broker_configs).entry(*broker).or_default(), configs);
            }
            Record::GroupConfigs { group, configs } => {
                let groups = Arc::make_mut(&mut self.group_configs);
                let own = groups.entry(group.clone()).or_default();
                change(own, configs);
                if own.is_empty() {
                    groups.remove(group);
                }
            }
            Record::Scram { user, mechanism, credential } => {
                let users = Arc::make_mut(&mut self.scram);
                let own = users.entry(user.clone()).or_default();
                match credential {
                    Some(credential) => own.insert(*mechanism, credential.clone()),
                    None => own.remove(mechanism),
                };
                if own.is_empty() {
                    users.remove(user);
                }
            }
            Record::ProducerIds { next } => self.next_producer_id = *next,
        }
        self.version += 1;
        Ok(())
    }

    /// The records that make this image from nothing: what a compacted metadata log holds.
    pub fn records(&self) -> Vec<Record> {
        let mut records = vec![
            Record::Cluster { cluster_id: self.cluster_id.to_string() },
            Record::ProducerIds { next: self.next_producer_id },
        ];
        records.extend(self.topic_records());
        records.extend(self.broker_configs.iter().map(|(broker, configs)| Record::BrokerConfigs {
            broker: *broker,
            configs: configs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        }));
        records.extend(self.group_configs.iter().map(|(group, configs)| Record::GroupConfigs {
            group: group.clone(),
            configs: configs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        }));
        records.extend(self.scram.iter().flat_map(|(user, credentials)| {
            credentials.iter().map(|(mechanism, credential)| Record::Scram {
                user: user.clone(),
                mechanism: *mechanism,
                credential: Some(credential.clone()),
            })
        }));
        records
    }

    /// First what has been opened, then that it has been, then the rest.
    fn topic_records(&self) -> Vec<Record> {
        let (mut opened, mut rest) = (Vec::new(), Vec::new());
        for topic in self.topics.values() {
            let mut partitions: Vec<_> = topic.partitions.iter().map(PartitionRecord::from).collect();
            let unopened = self.unopened.get(&topic.id.0).copied();
            let added = partitions.split_off(unopened.filter(|from| *from > 0).unwrap_or(partitions.len()));
            let into = if unopened == Some(0) { &mut rest } else { &mut opened };
            let (name, configs) = (topic.name.to_string(), topic.configs.clone());
            into.push(Record::Topic { name, id: topic.id, partitions, configs });
            if unopened.is_some_and(|from| from > 0) {
                rest.push(Record::Partitions { topic: topic.id, added });
            }
        }
        if !opened.is_empty() {
            opened.push(Record::Opened);
        }
        opened.append(&mut rest);
        opened
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut Topic, String> {
        let name = self.names.get(&id.0).ok_or_else(|| format!("there is no topic {id}"))?;
        let topic = Arc::make_mut(&mut self.topics).get_mut(name).expect("every id's name has a topic");
        Ok(Arc::make_mut(topic))
    }

    fn bump_epochs(&mut self) {
        for topic in Arc::make_mut(&mut self.topics).values_mut() {
            for partition in &mut Arc::make_mut(topic).partitions {
                partition.leader_epoch += 1;
            }
        }
    }
}

fn change(configs: &mut BTreeMap<String, String>, changes: &BTreeMap<String, Option<String>>) {
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}

impl Topic {
    /// The partition with this index.
    pub fn partition(&self, index: i32) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

impl From<&PartitionRecord> for PartitionState {
    fn from(record: &PartitionRecord) -> Self {
        Self { leader_epoch: record.leader_epoch, directory: record.directory }
    }
}

impl From<&PartitionState> for PartitionRecord {
    fn from(state: &PartitionState) -> Self {
        Self { leader_epoch: state.leader_epoch, directory: state.directory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u8, partitions: usize) -> Record {
        let partition = PartitionRecord { leader_epoch: 0, directory: Uuid([9; 16]) };
        Record::Topic {
            name: name.into(),
            id: Uuid([id; 16]),
            partitions: vec![partition; partitions],
            configs: BTreeMap::from([("retention.ms".into(), "1".into())]),
        }
    }

    #[test]
    fn what_a_change_touched_is_unlike_what_was() {
        let before = image(&[topic("b", 1, 1), topic("d", 2, 1), topic("f", 3, 1)]);
        let check = |records: &[Record], new: &[&str], old: &[&str]| {
            let mut after = before.clone();
            records.iter().for_each(|record| after.apply(record).expect("the record fits"));
            let names = |topics: Vec<Arc<Topic>>| -> Vec<String> {
                topics.iter().map(|topic| topic.name.to_string()).collect()
            };
            assert_eq!((names(after.unlike(&before)), names(before.unlike(&after))), {
                let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
                (owned(new), owned(old))
            });
        };
        let remove = |id: u8| Record::RemoveTopic { topic: Uuid([id; 16]) };
        check(&[], &[], &[]);
        check(&[Record::ProducerIds { next: 7 }], &[], &[]);
        check(&[topic("a", 4, 1), topic("e", 5, 1), topic("g", 6, 1)], &["a", "e", "g"], &[]);
        check(&[remove(1), remove(3)], &[], &["b", "f"]);
        check(&[remove(2), topic("d", 7, 1)], &["d"], &["d"]);
        let set = configs(&[("retention.ms", Some("2"))]);
        check(&[Record::TopicConfigs { topic: Uuid([2; 16]), configs: set }], &["d"], &["d"]);
        check(&[Record::Started], &["b", "d", "f"], &["b", "d", "f"]);
        assert_eq!(before.unlike(&Image::default()).len(), 3);
    }

    fn configs(all: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        all.iter().map(|(name, value)| ((*name).into(), value.map(Into::into))).collect()
    }

    fn scram(user: &str, iterations: Option<i32>) -> Record {
        let secret = || crate::cluster::Secret(vec![1, 255]);
        let credential = iterations.map(|iterations| ScramCredential {
            salt: secret(),
            stored_key: secret(),
            server_key: secret(),
            iterations,
        });
        Record::Scram { user: user.into(), mechanism: Mechanism::Sha512, credential }
    }

    fn image(records: &[Record]) -> Image {
        let mut image = Image::default();
        for record in records {
            image.apply(record).expect("the record fits");
        }
        image
    }

    #[test]
    fn each_start_raises_every_leader_epoch_by_one() {
        let before = image(&[Record::Cluster { cluster_id: "c".into() }, topic("a", 1, 2), Record::Started]);
        let epochs = |image: &Image| -> Vec<i32> {
            image.topics().flat_map(|t| t.partitions.iter().map(|p| p.leader_epoch)).collect()
        };
        assert_eq!(epochs(&before), [1, 1]);
        let mut after = before.clone();
        after.apply(&topic("b", 2, 1)).unwrap();
        after.apply(&Record::Started).unwrap();
        assert_eq!(epochs(&after), [2, 2, 1]);
        assert_eq!(epochs(&before), [1, 1], "an image does not change under its readers");
    }

    #[test]
    fn a_compacted_log_gives_the_same_image() {
        let full = image(&[
            Record::Cluster { cluster_id: "c".into() },
            topic("a", 1, 2),
            topic("b", 2, 1),
            Record::Partitions {
                topic: Uuid([2; 16]),
                added: vec![PartitionRecord { leader_epoch: 0, directory: Uuid([8; 16]) }],
            },
            Record::TopicConfigs { topic: Uuid([2; 16]), configs: configs(&[("retention.ms", None)]) },
            Record::BrokerConfigs {
                broker: Some(1),
                configs: configs(&[("a", Some("1")), ("b", Some("2"))]),
            },
            Record::BrokerConfigs { broker: None, configs: configs(&[("a", Some("3"))]) },
            Record::BrokerConfigs { broker: Some(1), configs: configs(&[("a", None)]) },
            Record::GroupConfigs {
                group: "g".into(),
                configs: configs(&[("a", Some("1")), ("b", Some("2"))]),
            },
            Record::GroupConfigs { group: "g".into(), configs: configs(&[("a", None)]) },
            Record::GroupConfigs { group: "h".into(), configs: configs(&[("a", Some("1"))]) },
            Record::GroupConfigs { group: "h".into(), configs: configs(&[("a", None)]) },
            scram("u", Some(5000)),
            scram("v", Some(5000)),
            scram("v", None),
            Record::RemoveTopic { topic: Uuid([1; 16]) },
            Record::Started,
            Record::ProducerIds { next: 1000 },
        ]);
        let dynamic = full.dynamic(1);
        assert_eq!(dynamic.this_broker, BTreeMap::from([("b".into(), "2".into())]));
        assert_eq!(dynamic.all_brokers, BTreeMap::from([("a".into(), "3".into())]));
        assert!(full.dynamic(2).this_broker.is_empty());
        assert_eq!(full.groups_with_configs().collect::<Vec<_>>(), ["g"]);
        assert_eq!(full.group_configs("g"), Some(&BTreeMap::from([("b".into(), "2".into())])));
        assert_eq!(full.scram_users().collect::<Vec<_>>(), ["u"]);
        let mut compacted = image(&full.records());
        compacted.version = full.version;
        assert_eq!(compacted, full);
    }

    #[test]
    fn what_was_opened_is_known_of_each_partition_and_stays_so_in_a_compacted_log() {
        let grown = |id: u8| Record::Partitions {
            topic: Uuid([id; 16]),
            added: vec![PartitionRecord { leader_epoch: 0, directory: Uuid([8; 16]) }],
        };
        let check = |records: &[Record], opened: &[(u8, i32)], unopened: &[(u8, i32)]| {
            let full = image(records);
            let compacted = image(&full.records());
            for image in [&full, &compacted] {
                for (ids, expected) in [(opened, true), (unopened, false)] {
                    for &(id, index) in ids {
                        assert_eq!(image.was_opened(Uuid([id; 16]), index), expected, "{id}-{index}");
                    }
                }
                assert_eq!(image.all_were_opened(), unopened.is_empty());
            }
            assert!(compacted.topics().eq(full.topics()));
        };
        let (a, b) = (topic("a", 1, 2), topic("b", 2, 1));
        check(&[], &[], &[]);
        check(&[a.clone(), grown(1)], &[], &[(1, 0), (1, 2)]);
        check(&[a.clone(), Record::Opened], &[(1, 0), (1, 1)], &[]);
        check(&[b.clone(), Record::Opened, a.clone()], &[(2, 0)], &[(1, 0), (1, 1)]);
        let twice = [a.clone(), Record::Opened, grown(1), grown(1), b.clone()];
        check(&twice, &[(1, 1)], &[(1, 2), (1, 3), (2, 0)]);
        let gone = Record::RemoveTopic { topic: Uuid([2; 16]) };
        check(&[a, Record::Opened, b, gone], &[(1, 0)], &[]);
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let mut image = image(&[topic("a", 1, 1)]);
        assert!(image.apply(&topic("a", 2, 1)).is_err(), "the name is taken");
        assert!(image.apply(&topic("b", 1, 1)).is_err(), "the id is taken");
        assert!(image.apply(&Record::RemoveTopic { topic: Uuid([7; 16]) }).is_err());
    }

    #[test]
    fn a_line_round_trips_and_damage_is_seen() {
        let record = topic("a", 1, 1);
        let line = record.to_line();
        assert_eq!(Record::from_line(line.trim_end()), Ok(record));
        for at in 0..line.len() - 1 {
            let mut damaged = line.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).unwrap();
            assert!(Record::from_line(damaged.trim_end_matches('\n')).is_err(), "byte {at}");
        }
    }
}
