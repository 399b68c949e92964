//! What one topic runs with.

use super::{Settings, list, topic_key};
use std::collections::BTreeMap;

/// One topic's configs, resolved and typed.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// What becomes of old data.
    pub cleanup: CleanupPolicy,
    /// What acks=all waits for, and what consumers may see.
    pub durability: Durability,
    /// Whose time records carry.
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie behind the broker's clock, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// How far ahead, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// The largest batch, in bytes.
    pub message_bytes_max: usize,
    /// Size of a segment, in bytes.
    pub segment_bytes: u64,
    /// Age at which a segment is closed, in milliseconds.
    pub segment_ms: i64,
    /// The most taken off that age, in milliseconds.
    pub segment_jitter_ms: i64,
    /// Size at which a segment's index is full, in bytes.
    pub index_bytes_max: usize,
    /// Bytes of log between entries of its index.
    pub index_interval_bytes: usize,
    /// Records between syncs.
    pub flush_messages: u64,
    /// Milliseconds between syncs.
    pub flush_ms: u64,
    /// Bytes kept of a partition; `None` without limit.
    pub retention_bytes: Option<u64>,
    /// Milliseconds segments are kept; `None` without limit.
    pub retention_ms: Option<i64>,
    /// The dirty share at which a compacted log is cleaned.
    pub cleanable_ratio_min: f64,
    /// How long records stay out of compaction, in milliseconds.
    pub compaction_lag_min_ms: u64,
    /// The longest they do, in milliseconds.
    pub compaction_lag_max_ms: u64,
    /// How long compaction keeps marks of deletion, in milliseconds.
    pub delete_retention_ms: u64,
    /// How long a removed segment's file stays, in milliseconds.
    pub file_delete_delay_ms: u64,
    /// How long an idempotent producer is remembered after its last batch, in milliseconds: the broker's.
    pub producer_expiration_ms: u64,
    /// Whether batches must be kept in zstd, which old consumers cannot read.
    pub zstd_only: bool,
}

/// What becomes of old data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Whole segments are removed past the retention limits.
    pub delete: bool,
    /// The last value of each key is kept.
    pub compact: bool,
}

/// What acks=all waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Stable storage of each in-sync replica.
    Fsync,
    /// A completed write of each in-sync replica.
    Replicated,
}

/// Whose time records carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Their producer's.
    CreateTime,
    /// The broker's at append.
    LogAppendTime,
}

/// Where a topic's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Set on the topic.
    Topic,
    /// Set on the broker, by this name.
    Broker(&'static str),
    /// Nobody set it.
    Default,
}

impl TopicConfig {
    /// What a topic with these configs of its own runs with on a broker with these settings.
    pub fn resolve(settings: &Settings, own: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| Self::value(settings, own, name).0;
        let long = |name: &str| -> i64 {
            text(name).trim().parse().expect("values were checked when they were set")
        };
        let size = |name: &str| usize::try_from(long(name)).expect("sizes are not negative");
        let count = |name: &str| u64::try_from(long(name)).expect("counts are not negative");
        let policy = text("cleanup.policy");
        let policy = |word: &str| list(&policy).any(|named| named == word);
        Self {
            cleanup: CleanupPolicy { delete: policy("delete"), compact: policy("compact") },
            durability: match text("durability").trim() {
                "replicated" => Durability::Replicated,
                _ => Durability::Fsync,
            },
            timestamp_type: match text("message.timestamp.type").trim() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            message_bytes_max: size("max.message.bytes"),
            segment_bytes: count("segment.bytes"),
            segment_ms: long("segment.ms"),
            segment_jitter_ms: long("segment.jitter.ms"),
            index_bytes_max: size("segment.index.bytes"),
            index_interval_bytes: size("index.interval.bytes"),
            flush_messages: count("flush.messages"),
            flush_ms: count("flush.ms"),
            retention_bytes: u64::try_from(long("retention.bytes")).ok(),
            retention_ms: Some(long("retention.ms")).filter(|ms| *ms >= 0),
            cleanable_ratio_min: text("min.cleanable.dirty.ratio")
                .trim()
                .parse()
                .expect("values were checked when they were set"),
            compaction_lag_min_ms: count("min.compaction.lag.ms"),
            compaction_lag_max_ms: count("max.compaction.lag.ms"),
            delete_retention_ms: count("delete.retention.ms"),
            file_delete_delay_ms: count("file.delete.delay.ms"),
            producer_expiration_ms: settings.parse("producer.id.expiration.ms").expect("it has a default"),
            zstd_only: text("compression.type").trim() == "zstd",
        }
    }

    /// One value in force, and where it came from.
    pub fn value(settings: &Settings, own: &BTreeMap<String, String>, name: &str) -> (String, Origin) {
        let key = topic_key(name).expect("asked for a key of the table");
        if let Some(value) = own.get(name) {
            return (value.clone(), Origin::Topic);
        }
        if let Some((value, from)) = broker_default(settings, name, key.broker) {
            return (value, Origin::Broker(from));
        }
        (key.default.to_owned(), Origin::Default)
    }
}

/// Units in which the broker may give a time, best first: name, milliseconds in one.
type Units = &'static [(&'static str, i64)];

const RETENTION: Units =
    &[("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)];
const ROLL: Units = &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)];
const ROLL_JITTER: Units = &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)];

/// The broker configs that give a topic config its default, the strongest first, where there are several.
pub fn broker_names(topic_config: &str) -> Option<impl Iterator<Item = &'static str>> {
    units(topic_config).map(|units| units.iter().map(|(name, _)| *name))
}

fn units(topic_config: &str) -> Option<Units> {
    match topic_config {
        "retention.ms" => Some(RETENTION),
        "segment.ms" => Some(ROLL),
        "segment.jitter.ms" => Some(ROLL_JITTER),
        _ => None,
    }
}

/// The value the broker's settings give a topic config, if any was set.
fn broker_default(
    settings: &Settings,
    name: &str,
    one_to_one: Option<&'static str>,
) -> Option<(String, &'static str)> {
    let Some(units) = units(name) else {
        let broker = one_to_one?;
        return settings.explicit(broker).map(|(value, _)| (value.to_owned(), broker));
    };
    let (broker, unit) = units.iter().find(|(broker, _)| settings.explicit(broker).is_some())?;
    let value: i64 = settings.parse(broker)?;
    // Kafka reads any negative retention as "no limit".
    let millis = if value < 0 { -1 } else { value.saturating_mul(*unit) };
    Some((millis.to_string(), broker))
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    #[test]
    fn a_topic_goes_before_the_broker_and_the_broker_before_the_default() {
        let check = |broker: &[&str], own: &[(&str, &str)], name: &str, value: &str, origin: Origin| {
            let mut settings = Settings::default();
            for pair in broker {
                settings.set_pair(pair, Source::CommandLine).expect("right");
            }
            let own = own.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            assert_eq!(
                TopicConfig::value(&settings, &own, name),
                (value.into(), origin),
                "{broker:?} {own:?}"
            );
            TopicConfig::resolve(&settings, &own)
        };
        check(&[], &[], "retention.ms", "604800000", Origin::Default);
        check(
            &["log.retention.hours=1"],
            &[],
            "retention.ms",
            "3600000",
            Origin::Broker("log.retention.hours"),
        );
        check(
            &["log.retention.hours=1", "log.retention.minutes=1"],
            &[],
            "retention.ms",
            "60000",
            Origin::Broker("log.retention.minutes"),
        );
        let config = check(
            &["log.retention.hours=-1", "durability=replicated"],
            &[("max.message.bytes", "10")],
            "max.message.bytes",
            "10",
            Origin::Topic,
        );
        assert_eq!(config.retention_ms, None);
        assert_eq!(config.durability, Durability::Replicated);
        assert_eq!(config.message_bytes_max, 10);
        assert!(config.cleanup.delete && !config.cleanup.compact);
    }
}
