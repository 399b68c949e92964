//! What makes a topic acceptable: names, counts, places, configs. Checked against the image before anything is written.

use super::configs::{check_topic, settings};
use super::{
    Configs, DataDirs, Image, MorePartitions, NewTopic, PartitionRecord, Record, Refusal, Topic, TopicRef,
};
use crate::config::BrokerConfig;
use ringlog_wire::{ErrorCode, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest name (Kafka's `Topic.MAX_NAME_LENGTH`).
const NAME_BYTES_MAX: usize = 249;
/// What Kafka keeps its metadata in.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// The most partitions created at once (Kafka's `MAX_PARTITIONS_PER_BATCH`).
const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// The record that creates a topic, or why not. `id` is the id it gets.
pub(super) fn create(
    image: &Image,
    config: &BrokerConfig,
    dirs: &DataDirs,
    new: &NewTopic,
    id: Uuid,
) -> Result<Record, Refusal> {
    check_name(&new.name)?;
    if new.name == METADATA_TOPIC {
        let message = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if image.topic(&new.name).is_some() {
        let message = format!("Topic '{}' already exists.", new.name);
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    check_collision(image, &new.name)?;
    let count = if new.assignments.is_empty() { counted(config, new)? } else { assigned(config, new)? };
    let configs = new_configs(image, config, &new.configs)?;
    Ok(Record::Topic { name: new.name.clone(), id, partitions: place(image, dirs, count)?, configs })
}

/// The record that deletes a topic, and the topic as it was.
pub(super) fn delete(
    image: &Image,
    config: &BrokerConfig,
    topic: &TopicRef,
) -> Result<(Record, Arc<Topic>), Refusal> {
    let topic = match topic {
        TopicRef::Name(name) => image.topic(name).ok_or_else(|| unknown(name))?,
        TopicRef::Id(id) => image.topic_by_id(*id).ok_or_else(|| {
            Refusal::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.")
        })?,
    };
    if !config.delete_topics {
        let message = "Topic deletion is disabled (delete.topic.enable=false).";
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, message));
    }
    Ok((Record::RemoveTopic { topic: topic.id }, topic.clone()))
}

/// The record that adds partitions to a topic.
pub(super) fn grow(
    image: &Image,
    config: &BrokerConfig,
    dirs: &DataDirs,
    more: &MorePartitions,
) -> Result<Record, Refusal> {
    let topic = image.topic(&more.name).ok_or_else(|| unknown(&more.name))?;
    let now = topic.partitions.len();
    let wanted = usize::try_from(more.count).unwrap_or(0);
    if wanted <= now {
        let message = format!("Topic '{}' has {now} partitions: {} are not more.", more.name, more.count);
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    if let Some(assignments) = &more.assignments {
        if assignments.len() != wanted - now {
            let message = format!("{} new partitions, but replicas for {}.", wanted - now, assignments.len());
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        assignments.iter().try_for_each(|replicas| check_replicas(config, replicas))?;
    }
    Ok(Record::Partitions { topic: topic.id, added: place(image, dirs, wanted - now)? })
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("There is no topic '{name}'."))
}

/// Whether a topic may have this name.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::new(ErrorCode::InvalidTopicException, format!("Topic name '{name}' {why}.")))
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => refuse("is empty"),
        "." | ".." => refuse("would be a directory of its own"),
        _ if name.len() > NAME_BYTES_MAX => refuse("is longer than 249 characters"),
        _ if !name.chars().all(legal) => {
            refuse("has other characters than ASCII letters, digits, '.', '_' and '-'")
        }
        _ => Ok(()),
    }
}

/// Metrics names cannot tell '.' from '_', so Kafka refuses two names that differ only there.
fn check_collision(image: &Image, name: &str) -> Result<(), Refusal> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let unified = name.replace('.', "_");
    match image.topics().find(|topic| topic.name.replace('.', "_") == unified) {
        Some(other) => {
            let message = format!("Topic '{name}' collides with existing topic: {}", other.name);
            Err(Refusal::new(ErrorCode::InvalidTopicException, message))
        }
        None => Ok(()),
    }
}

/// How many partitions a topic gets whose places the client leaves to us.
fn counted(config: &BrokerConfig, new: &NewTopic) -> Result<usize, Refusal> {
    let partitions = new.partitions.unwrap_or(config.partitions_default);
    let replicas = new.replication_factor.unwrap_or(config.replication_factor_default);
    if replicas < 1 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if partitions < 1 {
        let message = "Number of partitions must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    if replicas > 1 {
        let message = format!("Replication factor {replicas} needs as many brokers: there is 1.");
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    Ok(usize::try_from(partitions).expect("at least 1"))
}

/// How many partitions a topic gets whose places the client says.
fn assigned(config: &BrokerConfig, new: &NewTopic) -> Result<usize, Refusal> {
    if new.partitions.is_some() || new.replication_factor.is_some() {
        let message = "A topic is created by its counts or by its replicas, not by both.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut indexes: Vec<i32> = new.assignments.iter().map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq(0..i32::try_from(indexes.len()).unwrap_or(i32::MAX)) {
        let message = "Partitions must be numbered from 0 without a gap.";
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    new.assignments.iter().try_for_each(|(_, replicas)| check_replicas(config, replicas))?;
    Ok(indexes.len())
}

fn check_replicas(config: &BrokerConfig, replicas: &[i32]) -> Result<(), Refusal> {
    if replicas == [config.node_id] {
        return Ok(());
    }
    let message = format!("Replicas {replicas:?}: the only broker is {}.", config.node_id);
    Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
}

/// The configs of a new topic, if they are right.
fn new_configs(
    image: &Image,
    config: &BrokerConfig,
    new: &[(String, Option<String>)],
) -> Result<Configs, Refusal> {
    let mut configs = Configs::new();
    for (name, value) in new {
        let Some(value) = value else {
            let message = format!("Null value not supported for topic configs: {name}");
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(name.clone(), value.clone());
    }
    check_topic(&settings(image, config), &configs)?;
    Ok(configs)
}

/// Puts new partitions into the data directories that have the fewest.
fn place(image: &Image, dirs: &DataDirs, count: usize) -> Result<Vec<PartitionRecord>, Refusal> {
    if count > PARTITIONS_PER_REQUEST_MAX {
        let message =
            format!("{count} partitions at once: at most {PARTITIONS_PER_REQUEST_MAX} are created.");
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    if dirs.dirs.is_empty() {
        let message = "Every data directory is offline.";
        return Err(Refusal::new(ErrorCode::KafkaStorageError, message));
    }
    let mut load: BTreeMap<Uuid, usize> = dirs.dirs.iter().map(|dir| (dir.id, 0)).collect();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        if let Some(count) = load.get_mut(&partition.directory) {
            *count += 1;
        }
    }
    let mut placed = Vec::with_capacity(count);
    for _ in 0..count {
        let (directory, load) =
            load.iter_mut().min_by_key(|(_, load)| **load).expect("there is a data directory");
        *load += 1;
        placed.push(PartitionRecord { leader_epoch: 0, directory: *directory });
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::DataDir;
    use crate::config::{Settings, Source};
    use ringlog_engine::io::DirId;

    fn config(pairs: &[&str]) -> BrokerConfig {
        let mut settings = Settings::default();
        for pair in pairs {
            settings.set_pair(pair, Source::CommandLine).expect("right");
        }
        BrokerConfig::new(settings).expect("right")
    }

    fn dirs(count: u8) -> DataDirs {
        let dir =
            |n| DataDir { dir: DirId(u16::from(n)), path: format!("/{n}").into(), id: Uuid([n + 1; 16]) };
        DataDirs {
            dirs: (0..count).map(dir).collect(),
            cluster_id: "c".into(),
            not_removed: Default::default(),
        }
    }

    fn image_with(names: &[&str]) -> Image {
        let mut image = Image::default();
        for (n, name) in names.iter().enumerate() {
            let new = NewTopic { name: (*name).into(), ..NewTopic::default() };
            let id = Uuid([u8::try_from(n).expect("few") + 1; 16]);
            let record = create(&image, &config(&[]), &dirs(1), &new, id).expect(name);
            image.apply(&record).expect(name);
        }
        image
    }

    #[test]
    fn a_topic_is_created_or_refused_with_kafkas_code() {
        let check = |new: NewTopic, expected: Result<usize, ErrorCode>| {
            let image = image_with(&["taken", "a.b"]);
            let got = create(&image, &config(&["num.partitions=3"]), &dirs(1), &new, Uuid([99; 16]));
            let got = got.map(|record| match record {
                Record::Topic { partitions, .. } => partitions.len(),
                other => panic!("{other:?}"),
            });
            assert_eq!(got.map_err(|refusal| refusal.code), expected, "{new:?}");
        };
        let named = |name: &str| NewTopic { name: name.into(), ..NewTopic::default() };
        let counts =
            |partitions, replication_factor| NewTopic { partitions, replication_factor, ..named("t") };
        let assigned = |assignments: &[(i32, &[i32])]| {
            let assignments = assignments.iter().map(|(p, r)| (*p, r.to_vec())).collect();
            NewTopic { assignments, ..named("t") }
        };
        let configured = |name: &str, value: Option<&str>| NewTopic {
            configs: vec![(name.into(), value.map(Into::into))],
            ..named("t")
        };
        check(named("t"), Ok(3));
        check(counts(Some(7), Some(1)), Ok(7));
        check(assigned(&[(1, &[1]), (0, &[1])]), Ok(2));
        check(configured("retention.ms", Some("5")), Ok(3));
        check(named("taken"), Err(ErrorCode::TopicAlreadyExists));
        for name in ["", ".", "..", "ä", "a/b", "a b", &"x".repeat(250), "a_b"] {
            check(named(name), Err(ErrorCode::InvalidTopicException));
        }
        check(counts(Some(0), None), Err(ErrorCode::InvalidPartitions));
        check(counts(Some(-2), None), Err(ErrorCode::InvalidPartitions));
        check(counts(Some(10_001), None), Err(ErrorCode::PolicyViolation));
        check(counts(None, Some(0)), Err(ErrorCode::InvalidReplicationFactor));
        check(counts(None, Some(3)), Err(ErrorCode::InvalidReplicationFactor));
        check(counts(Some(0), Some(0)), Err(ErrorCode::InvalidReplicationFactor));
        check(assigned(&[(0, &[2])]), Err(ErrorCode::InvalidReplicaAssignment));
        check(assigned(&[(1, &[1])]), Err(ErrorCode::InvalidReplicaAssignment));
        check(NewTopic { partitions: Some(1), ..assigned(&[(0, &[1])]) }, Err(ErrorCode::InvalidRequest));
        check(configured("retention.msx", Some("5")), Err(ErrorCode::InvalidConfig));
        check(configured("retention.ms", Some("x")), Err(ErrorCode::InvalidConfig));
        check(configured("retention.ms", None), Err(ErrorCode::InvalidConfig));
        check(configured("max.compaction.lag.ms", Some("5")), Ok(3));
        let lags = [("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")];
        let lags = lags.map(|(name, value)| (name.into(), Some(value.into())));
        check(NewTopic { configs: lags.into(), ..named("t") }, Err(ErrorCode::InvalidConfig));
        check(configured("remote.storage.enable", Some("True")), Err(ErrorCode::InvalidConfig));
        check(configured("remote.storage.enable", Some("false")), Ok(3));
        check(named("__cluster_metadata"), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn partitions_go_to_the_directory_with_the_fewest() {
        let new = NewTopic { name: "t".into(), partitions: Some(5), ..NewTopic::default() };
        let record = create(&Image::default(), &config(&[]), &dirs(2), &new, Uuid([9; 16])).expect("right");
        let Record::Topic { partitions, .. } = record else { panic!("{record:?}") };
        let first = partitions.iter().filter(|partition| partition.directory == Uuid([1; 16])).count();
        assert_eq!((first, partitions.len()), (3, 5));
    }

    #[test]
    fn topics_only_grow() {
        let image = image_with(&["t"]);
        let check =
            |name: &str, count, assignments: Option<&[&[i32]]>, expected: Result<usize, ErrorCode>| {
                let assignments =
                    assignments.map(|all| all.iter().map(|replicas| replicas.to_vec()).collect());
                let more = MorePartitions { name: name.into(), count, assignments };
                let got = grow(&image, &config(&[]), &dirs(1), &more).map(|record| match record {
                    Record::Partitions { added, .. } => added.len(),
                    other => panic!("{other:?}"),
                });
                assert_eq!(got.map_err(|refusal| refusal.code), expected, "{more:?}");
            };
        check("t", 3, None, Ok(2));
        check("t", 2, Some(&[&[1]]), Ok(1));
        check("t", 1, None, Err(ErrorCode::InvalidPartitions));
        check("t", -1, None, Err(ErrorCode::InvalidPartitions));
        check("x", 3, None, Err(ErrorCode::UnknownTopicOrPartition));
        check("t", 3, Some(&[&[1]]), Err(ErrorCode::InvalidReplicaAssignment));
        check("t", 2, Some(&[&[2]]), Err(ErrorCode::InvalidReplicaAssignment));
    }

    #[test]
    fn deletion_can_be_switched_off() {
        let image = image_with(&["t"]);
        let by_name = TopicRef::Name("t".into());
        assert!(delete(&image, &config(&[]), &by_name).is_ok());
        let refused = delete(&image, &config(&["delete.topic.enable=false"]), &by_name).expect_err("off");
        assert_eq!(refused.code, ErrorCode::TopicDeletionDisabled);
        let unknown = delete(&image, &config(&[]), &TopicRef::Id(Uuid([77; 16]))).expect_err("unknown");
        assert_eq!(unknown.code, ErrorCode::UnknownTopicId);
    }
}
