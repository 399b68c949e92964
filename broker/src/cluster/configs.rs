//! Configs changed while the broker runs: of topics, of this broker, of all, of groups. Checked against the image before anything is written.

use super::{Configs, Image, Record, Refusal, check_name};
use crate::config::{
    BrokerConfig, Changeable, Kind, Settings, TopicConfig, broker_key, changeable, group_key, list,
    listener_key, topic_key,
};
use crate::share::OffsetReset;
use ringlog_wire::ErrorCode;
use std::collections::BTreeMap;

/// What has configs, and how they are to change.
#[derive(Debug, Clone)]
pub struct ConfigChange {
    /// What.
    pub of: Configured,
    /// How.
    pub change: Change,
}

/// What has configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Configured {
    /// A topic.
    Topic(String),
    /// This broker.
    ThisBroker,
    /// All brokers.
    AllBrokers,
    /// A group.
    Group(String),
}

/// How configs are to change.
#[derive(Debug, Clone)]
pub enum Change {
    /// These, each in its way, and no others. None is there twice.
    Some(Vec<(String, Operation)>),
    /// These are set and all others reset.
    All(BTreeMap<String, String>),
}

/// What is done to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// It gets this value.
    Set(String),
    /// It goes back to its default.
    Delete,
    /// These words come to its list, if they are not there.
    Append(String),
    /// These words leave its list.
    Subtract(String),
}

/// What the broker runs with by this image: what it was started with, and what was set since.
pub(super) fn settings(image: &Image, config: &BrokerConfig) -> Settings {
    config.settings.with(image.dynamic(config.node_id))
}

/// The record that makes the change, or why not; `None` where there is nothing to change.
pub(super) fn alter(
    image: &Image,
    config: &BrokerConfig,
    change: &ConfigChange,
) -> Result<Option<Record>, Refusal> {
    match &change.of {
        Configured::Topic(name) => alter_topic(image, config, name, &change.change),
        Configured::ThisBroker => alter_broker(image, config, Some(config.node_id), &change.change),
        Configured::AllBrokers => alter_broker(image, config, None, &change.change),
        Configured::Group(name) => alter_group(image, name, &change.change),
    }
}

fn alter_topic(
    image: &Image,
    config: &BrokerConfig,
    name: &str,
    change: &Change,
) -> Result<Option<Record>, Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "Default topic resources are not allowed."));
    }
    let topic = image.topic(name);
    let before = topic.map(|topic| topic.configs.clone()).unwrap_or_default();
    let after = changed(&before, change, |name| topic_key(name).map(|key| (key.kind, key.default)))?;
    check_name(name)?;
    check_topic(&settings(image, config), &after)?;
    let Some(topic) = topic else {
        let message = format!("The topic '{name}' does not exist.");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let configs = difference(&before, &after);
    Ok((!configs.is_empty()).then_some(Record::TopicConfigs { topic: topic.id, configs }))
}

/// Whether a topic may have these configs of its own.
pub(super) fn check_topic(settings: &Settings, own: &Configs) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidConfig, message));
    for (name, value) in own {
        let Some(key) = topic_key(name) else {
            return refuse(format!("Unknown topic config name: {name}"));
        };
        if let Err(refusal) = key.kind.check(value) {
            return refuse(format!("Invalid value {value} for configuration {name}: {refusal}"));
        }
    }
    let effective = |name| TopicConfig::value(settings, own, name).0;
    let lag = |name| effective(name).trim().parse::<i64>().expect("checked by its kind");
    let (least, most) = (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms"));
    if least > most {
        return refuse(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        ));
    }
    if effective("remote.storage.enable").trim().eq_ignore_ascii_case("true") {
        return refuse("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.".into());
    }
    Ok(())
}

fn alter_broker(
    image: &Image,
    config: &BrokerConfig,
    broker: Option<i32>,
    change: &Change,
) -> Result<Option<Record>, Refusal> {
    let dynamic = image.dynamic(config.node_id);
    let before = if broker.is_some() { dynamic.this_broker } else { dynamic.all_brokers };
    let after = changed(&before, change, |name| broker_key(name).map(|key| (key.kind, key.default)))?;
    let configs = difference(&before, &after);
    check_broker(broker, &configs)?;
    // What topics have of their own was checked against other defaults.
    let record = Record::BrokerConfigs { broker, configs };
    let mut changed = image.clone();
    changed.apply(&record).expect("a broker's configs can always be changed");
    let settings = settings(&changed, config);
    let none = Configs::new();
    for own in std::iter::once(&none).chain(image.topics().map(|topic| &topic.configs)) {
        check_topic(&settings, own)
            .map_err(|refusal| Refusal::new(ErrorCode::InvalidRequest, refusal.message))?;
    }
    Ok(match &record {
        Record::BrokerConfigs { configs, .. } if configs.is_empty() => None,
        _ => Some(record),
    })
}

/// Whether these configs of brokers can be set while they run.
fn check_broker(broker: Option<i32>, configs: &BTreeMap<String, Option<String>>) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let set = || configs.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_ref()?)));
    let named = |which: Changeable| -> Vec<&str> {
        set().map(|(name, _)| name).filter(|name| changeable(name) == which).collect()
    };
    let unknown = named(Changeable::Unknown);
    if !unknown.is_empty() {
        return refuse(format!("Unknown broker config names: [{}]", unknown.join(", ")));
    }
    let fixed = named(Changeable::Not);
    if !fixed.is_empty() {
        return refuse(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
    }
    let for_one = named(Changeable::ForOne);
    if broker.is_none() && !for_one.is_empty() {
        return refuse(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
            for_one.join(", ")
        ));
    }
    for (name, value) in set() {
        let key = broker_key(name).or_else(|| listener_key(name));
        if let Some(Err(refusal)) = key.map(|key| key.kind.check(value)) {
            return refuse(format!("Invalid value {value} for configuration {name}: {refusal}"));
        }
    }
    Ok(())
}

fn alter_group(image: &Image, name: &str, change: &Change) -> Result<Option<Record>, Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "Default group resources are not allowed."));
    }
    let before = image.group_configs(name).cloned().unwrap_or_default();
    let after = changed(&before, change, |name| group_key(name).map(|key| (key.kind, key.default)))?;
    check_group(&after)?;
    let configs = difference(&before, &after);
    Ok((!configs.is_empty()).then_some(Record::GroupConfigs { group: name.into(), configs }))
}

/// Whether a group may have these configs.
fn check_group(own: &Configs) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidConfig, message));
    for (name, value) in own {
        let Some(key) = group_key(name) else {
            return refuse(format!("Unknown group config name: {name}"));
        };
        if let Err(refusal) = key.kind.check(value) {
            return refuse(format!("Invalid value {value} for configuration {name}: {refusal}"));
        }
        let is_reset = name == "share.auto.offset.reset";
        if is_reset && OffsetReset::parse(value).is_none() {
            return refuse(format!(
                "Invalid value {value} for configuration {name}: expected earliest, latest or by_duration:<duration>"
            ));
        }
    }
    Ok(())
}

/// The configs after a change; `key` gives type and default of a config.
fn changed(
    before: &Configs,
    change: &Change,
    key: impl Fn(&str) -> Option<(Kind, &'static str)>,
) -> Result<Configs, Refusal> {
    let operations = match change {
        Change::All(configs) => return Ok(configs.clone()),
        Change::Some(operations) => operations,
    };
    let mut after = before.clone();
    for (name, operation) in operations {
        let words = |what: &str| match key(name) {
            Some((Kind::List(_), default)) => Ok(before.get(name).cloned().unwrap_or_else(|| default.into())),
            _ => {
                let message = format!("Can't {what} to key {name} because its type is not LIST.");
                Err(Refusal::new(ErrorCode::InvalidConfig, message))
            }
        };
        let value = match operation {
            Operation::Set(value) => Some(value.clone()),
            Operation::Delete => None,
            Operation::Append(added) => {
                let now = words("APPEND")?;
                let mut all: Vec<&str> = list(&now).collect();
                for word in list(added) {
                    if !all.contains(&word) {
                        all.push(word);
                    }
                }
                Some(all.join(","))
            }
            Operation::Subtract(removed) => {
                let now = words("SUBTRACT")?;
                let removed: Vec<&str> = list(removed).collect();
                Some(list(&now).filter(|word| !removed.contains(word)).collect::<Vec<_>>().join(","))
            }
        };
        match value {
            Some(value) => after.insert(name.clone(), value),
            None => after.remove(name),
        };
    }
    Ok(after)
}

/// What has to be set and reset to come from one to the other.
fn difference(before: &Configs, after: &Configs) -> BTreeMap<String, Option<String>> {
    let set = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let set = set.map(|(name, value)| (name.clone(), Some(value.clone())));
    let reset = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), None));
    set.chain(reset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::PartitionRecord;
    use crate::config::Source;
    use ringlog_wire::Uuid;

    fn config(pairs: &[&str]) -> BrokerConfig {
        let mut settings = Settings::default();
        for pair in pairs {
            settings.set_pair(pair, Source::CommandLine).expect("right");
        }
        BrokerConfig::new(settings).expect("right")
    }

    fn configs(all: &[(&str, &str)]) -> Configs {
        all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    /// An image with the topic `t`, which has these configs.
    fn image(own: &[(&str, &str)]) -> Image {
        let mut image = Image::default();
        let partition = PartitionRecord { leader_epoch: 0, directory: Uuid([9; 16]) };
        let (name, id) = ("t".into(), Uuid([1; 16]));
        let topic = Record::Topic { name, id, partitions: vec![partition], configs: configs(own) };
        image.apply(&topic).expect("the topic fits");
        image
    }

    fn some(operations: &[(&str, Operation)]) -> Change {
        Change::Some(operations.iter().map(|(name, operation)| ((*name).into(), operation.clone())).collect())
    }

    fn set(name: &'static str, value: &str) -> (&'static str, Operation) {
        (name, Operation::Set(value.into()))
    }

    #[test]
    fn a_topics_configs_change_as_kafkas_do() {
        let check = |own: &[(&str, &str)], change: Change, expected: Result<&[(&str, &str)], ErrorCode>| {
            let mut image = image(own);
            let of = Configured::Topic("t".into());
            let made = alter(&image, &config(&[]), &ConfigChange { of, change: change.clone() });
            let after = made.map(|record| {
                if let Some(record) = record {
                    image.apply(&record).expect("the record fits");
                }
                image.topic("t").expect("it is there").configs.clone()
            });
            assert_eq!(after.map_err(|refusal| refusal.code), expected.map(configs), "{own:?} {change:?}");
        };
        let append = |name: &'static str, words: &str| some(&[(name, Operation::Append(words.into()))]);
        let subtract = |name: &'static str, words: &str| some(&[(name, Operation::Subtract(words.into()))]);
        let delete = |name: &'static str| some(&[(name, Operation::Delete)]);
        const POLICY: &str = "cleanup.policy";
        let own = [("flush.ms", "7"), ("retention.ms", "5")];
        check(&own, some(&[set("retention.ms", "6")]), Ok(&[("flush.ms", "7"), ("retention.ms", "6")]));
        check(&own, delete("retention.ms"), Ok(&[("flush.ms", "7")]));
        check(&own, delete("no.such"), Ok(&own));
        check(&own, Change::All(configs(&[("retention.ms", "6")])), Ok(&[("retention.ms", "6")]));
        check(&own, Change::All(Configs::new()), Ok(&[]));
        check(&[], append(POLICY, "compact"), Ok(&[(POLICY, "delete,compact")]));
        check(&[], append(POLICY, "compact,delete,compact"), Ok(&[(POLICY, "delete,compact")]));
        check(&[(POLICY, "compact")], append(POLICY, "delete"), Ok(&[(POLICY, "compact,delete")]));
        check(&[(POLICY, "compact,delete")], subtract(POLICY, "delete,x"), Ok(&[(POLICY, "compact")]));
        check(&[], subtract(POLICY, "delete"), Ok(&[(POLICY, "")]));
        check(&[], some(&[set(POLICY, "x")]), Err(ErrorCode::InvalidConfig));
        check(&[], append("retention.ms", "5"), Err(ErrorCode::InvalidConfig));
        check(&[], append("no.such", "5"), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set("no.such", "5")]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set("retention.ms", "-2")]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set("flush.ms", "1"), set("retention.ms", "x")]), Err(ErrorCode::InvalidConfig));
        let lag = [("max.compaction.lag.ms", "5")];
        check(&lag, some(&[set("min.compaction.lag.ms", "6")]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set("remote.storage.enable", "true")]), Err(ErrorCode::InvalidConfig));
    }

    #[test]
    fn a_groups_configs_change_as_kafkas_do() {
        let check = |own: &[(&str, &str)], change: Change, expected: Result<&[(&str, &str)], ErrorCode>| {
            let mut image = image(&[]);
            for (name, value) in own {
                let configs = BTreeMap::from([((*name).into(), Some((*value).into()))]);
                image.apply(&Record::GroupConfigs { group: "g".into(), configs }).expect("it fits");
            }
            let of = Configured::Group("g".into());
            let made = alter(&image, &config(&[]), &ConfigChange { of, change: change.clone() });
            let after = made.map(|record| {
                if let Some(record) = record {
                    image.apply(&record).expect("the record fits");
                }
                image.group_configs("g").cloned().unwrap_or_default()
            });
            assert_eq!(after.map_err(|refusal| refusal.code), expected.map(configs), "{own:?} {change:?}");
        };
        const TIMEOUT: &str = "consumer.session.timeout.ms";
        const RESET: &str = "share.auto.offset.reset";
        let own = [(TIMEOUT, "50000")];
        check(&[], some(&[set(TIMEOUT, "50000")]), Ok(&own));
        check(&own, some(&[set(TIMEOUT, "60000")]), Ok(&[(TIMEOUT, "60000")]));
        check(&own, some(&[(TIMEOUT, Operation::Delete)]), Ok(&[]));
        check(&own, Change::All(Configs::new()), Ok(&[]));
        check(&[], some(&[set(TIMEOUT, "44999")]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set(TIMEOUT, "x")]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set("retention.ms", "5")]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[(TIMEOUT, Operation::Append("1".into()))]), Err(ErrorCode::InvalidConfig));
        check(&[], some(&[set(RESET, "by_duration:PT1H")]), Ok(&[(RESET, "by_duration:PT1H")]));
        check(&[], some(&[set(RESET, "x")]), Err(ErrorCode::InvalidConfig));
        let change =
            ConfigChange { of: Configured::Group(String::new()), change: some(&[set(TIMEOUT, "50000")]) };
        let refused = alter(&image(&[]), &config(&[]), &change).expect_err("a group has a name");
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn what_is_not_there_is_not_changed() {
        for (name, code) in [
            ("x", ErrorCode::UnknownTopicOrPartition),
            ("a b", ErrorCode::InvalidTopicException),
            ("", ErrorCode::InvalidRequest),
        ] {
            let change =
                ConfigChange { of: Configured::Topic(name.into()), change: some(&[set("flush.ms", "1")]) };
            let refused = alter(&image(&[]), &config(&[]), &change).expect_err(name);
            assert_eq!(refused.code, code, "{name}");
        }
    }

    #[test]
    fn a_brokers_configs_change_as_far_as_they_can() {
        let check = |of: Configured, change: Change, expected: Result<&[(&str, &str)], ErrorCode>| {
            let mut image = image(&[("min.compaction.lag.ms", "6")]);
            let change = ConfigChange { of: of.clone(), change };
            let after = alter(&image, &config(&[]), &change).map(|record| {
                if let Some(record) = record {
                    image.apply(&record).expect("the record fits");
                }
                let dynamic = image.dynamic(1);
                if of == Configured::ThisBroker { dynamic.this_broker } else { dynamic.all_brokers }
            });
            assert_eq!(after.map_err(|refusal| refusal.code), expected.map(configs), "{change:?}");
        };
        let both = [Configured::ThisBroker, Configured::AllBrokers];
        for of in both {
            let retention = [("log.retention.ms", "5")];
            check(of.clone(), some(&[set("log.retention.ms", "5")]), Ok(&retention));
            check(of.clone(), Change::All(configs(&retention)), Ok(&retention));
            let append = some(&[("log.cleanup.policy", Operation::Append("compact".into()))]);
            check(of.clone(), append, Ok(&[("log.cleanup.policy", "delete,compact")]));
            check(of.clone(), some(&[("no.such", Operation::Delete)]), Ok(&[]));
            for (name, value) in [
                ("log.retention.ms", "x"),
                ("num.partitions", "5"),
                ("no.such", "5"),
                ("log.cleaner.max.compaction.lag.ms", "5"),
            ] {
                check(of.clone(), some(&[set(name, value)]), Err(ErrorCode::InvalidRequest));
            }
            let append = some(&[("log.retention.ms", Operation::Append("5".into()))]);
            check(of.clone(), append, Err(ErrorCode::InvalidConfig));
        }
        let kerberos = ("sasl.kerberos.min.time.before.relogin", "5");
        let set = some(&[set(kerberos.0, kerberos.1)]);
        check(Configured::ThisBroker, set.clone(), Ok(&[kerberos]));
        check(Configured::AllBrokers, set, Err(ErrorCode::InvalidRequest));
    }
}
