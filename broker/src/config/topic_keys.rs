//! Every topic config: name, type, default, the broker config it falls back to, and what it does here.
//! Names, types, defaults and fallbacks are Apache Kafka 4.3's (`TopicConfig`, `LogConfig`, `ServerTopicConfigSynonyms`).

use super::kind::{
    INT_FROM_ONE, INT_FROM_ZERO, Kind, LONG, LONG_FROM_MINUS_ONE, LONG_FROM_ONE, LONG_FROM_ZERO,
};

/// One topic config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type and range.
    pub kind: Kind,
    /// The value when neither topic nor broker sets it.
    pub default: &'static str,
    /// The broker config that gives the default, if it is one to one.
    pub broker: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    broker: Option<&'static str>,
    doc: &'static str,
) -> TopicKey {
    TopicKey { name, kind, default, broker, doc }
}

/// What configs that only matter to features ringlog does not have say of themselves.
const KEPT: &str = "Kept and shown for tools that set it; ringlog does not use it.";

/// All topic configs, in name order.
pub const TOPIC_KEYS: &[TopicKey] = &[
    key(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        Some("log.cleanup.policy"),
        "What becomes of old data: `delete` removes whole segments past the retention limits, `compact` keeps the last value of each key.",
    ),
    key(
        "compression.gzip.level",
        Kind::Int(-1, 9),
        "-1",
        Some("compression.gzip.level"),
        "Level for gzip where the broker itself compresses.",
    ),
    key(
        "compression.lz4.level",
        Kind::Int(1, 17),
        "9",
        Some("compression.lz4.level"),
        "Level for lz4 where the broker itself compresses.",
    ),
    key(
        "compression.type",
        Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        Some("compression.type"),
        "The codec batches are kept in. ringlog keeps batches as producers sent them.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int(-131_072, 22),
        "3",
        Some("compression.zstd.level"),
        "Level for zstd where the broker itself compresses.",
    ),
    key(
        "delete.retention.ms",
        LONG_FROM_ZERO,
        "86400000",
        Some("log.cleaner.delete.retention.ms"),
        "How long a compacted topic keeps the mark of a deleted key, in milliseconds.",
    ),
    key(
        "durability",
        Kind::OneOf(&["fsync", "replicated"]),
        "fsync",
        Some("durability"),
        "What acks=all waits for: `fsync`, the data is on stable storage of each in-sync replica; `replicated`, it is written by each in-sync replica, as in Apache Kafka. With `fsync` consumers see only what is on stable storage.",
    ),
    key(
        "file.delete.delay.ms",
        LONG_FROM_ZERO,
        "60000",
        Some("log.segment.delete.delay.ms"),
        "How long the files of a removed segment stay, in milliseconds. Of a log that has begun segments lately as many files with records then stay up to five times as long again, to be written over as those of its next segments.",
    ),
    key(
        "flush.messages",
        LONG_FROM_ONE,
        "9223372036854775807",
        Some("log.flush.interval.messages"),
        "Sync a log each time this many records were appended.",
    ),
    key(
        "flush.ms",
        LONG_FROM_ZERO,
        "9223372036854775807",
        Some("log.flush.interval.ms"),
        "Sync a log at the latest this long after an append, in milliseconds.",
    ),
    key("follower.replication.throttled.replicas", Kind::List(&[]), "", None, KEPT),
    key(
        "index.interval.bytes",
        INT_FROM_ZERO,
        "4096",
        Some("log.index.interval.bytes"),
        "Bytes of log between two entries of its offset index.",
    ),
    key("leader.replication.throttled.replicas", Kind::List(&[]), "", None, KEPT),
    key("local.retention.bytes", Kind::Long(-2, i64::MAX), "-2", Some("log.local.retention.bytes"), KEPT),
    key("local.retention.ms", Kind::Long(-2, i64::MAX), "-2", Some("log.local.retention.ms"), KEPT),
    key(
        "max.compaction.lag.ms",
        LONG_FROM_ONE,
        "9223372036854775807",
        Some("log.cleaner.max.compaction.lag.ms"),
        "The longest a record stays out of compaction, in milliseconds.",
    ),
    key(
        "max.message.bytes",
        INT_FROM_ZERO,
        "1048588",
        Some("message.max.bytes"),
        "The largest record batch accepted, in bytes, after compression.",
    ),
    key(
        "message.timestamp.after.max.ms",
        LONG_FROM_ZERO,
        "3600000",
        Some("log.message.timestamp.after.max.ms"),
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds.",
    ),
    key(
        "message.timestamp.before.max.ms",
        LONG_FROM_ZERO,
        "9223372036854775807",
        Some("log.message.timestamp.before.max.ms"),
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds.",
    ),
    key(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        Some("log.message.timestamp.type"),
        "Whose time a record carries: its producer's or the broker's at append.",
    ),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Double(0.0, 1.0),
        "0.5",
        Some("log.cleaner.min.cleanable.ratio"),
        "The share of uncompacted bytes from which a log is compacted.",
    ),
    key(
        "min.compaction.lag.ms",
        LONG_FROM_ZERO,
        "0",
        Some("log.cleaner.min.compaction.lag.ms"),
        "The shortest a record stays out of compaction, in milliseconds.",
    ),
    key(
        "min.insync.replicas",
        INT_FROM_ONE,
        "1",
        Some("min.insync.replicas"),
        "In-sync replicas that acks=all needs.",
    ),
    key("preallocate", Kind::Boolean, "false", Some("log.preallocate"), KEPT),
    key("remote.log.copy.disable", Kind::Boolean, "false", None, KEPT),
    key("remote.log.delete.on.disable", Kind::Boolean, "false", None, KEPT),
    key("remote.storage.enable", Kind::Boolean, "false", None, KEPT),
    key(
        "retention.bytes",
        LONG,
        "-1",
        Some("log.retention.bytes"),
        "Bytes of a partition from which its oldest segments are removed; -1 for no limit.",
    ),
    key(
        "retention.ms",
        LONG_FROM_MINUS_ONE,
        "604800000",
        Some("log.retention.ms"),
        "Age in milliseconds from which segments are removed; -1 for no limit.",
    ),
    key(
        "segment.bytes",
        Kind::Int(1024 * 1024, i32::MAX as i64),
        "1073741824",
        Some("log.segment.bytes"),
        "The size of a segment file, in bytes.",
    ),
    key(
        "segment.index.bytes",
        Kind::Int(4, i32::MAX as i64),
        "10485760",
        Some("log.index.size.max.bytes"),
        "The size from which a segment's index is full, in bytes.",
    ),
    key(
        "segment.jitter.ms",
        LONG_FROM_ZERO,
        "0",
        Some("log.roll.jitter.ms"),
        "Up to this much is taken off `segment.ms`, so that segments do not all roll at once.",
    ),
    key(
        "segment.ms",
        LONG_FROM_ONE,
        "604800000",
        Some("log.roll.ms"),
        "Age in milliseconds from which a segment is closed for a new one.",
    ),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        Some("unclean.leader.election.enable"),
        KEPT,
    ),
];

/// The topic config of this name.
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &TOPIC_KEYS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_defaults_are_valid() {
        assert!(TOPIC_KEYS.is_sorted_by(|a, b| a.name < b.name));
        for key in TOPIC_KEYS {
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
            assert_eq!(topic_key(key.name), Some(key));
        }
        assert_eq!(topic_key("no.such.config"), None);
    }
}
