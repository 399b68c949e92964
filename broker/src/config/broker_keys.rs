//! Every broker config that does something here: name, type, default, what it does.
//!
//! Kafka's names and defaults where Kafka has the config (4.3.1); ringlog's own are marked. Configs that exist in
//! Apache Kafka and have no effect here are in [`super::kept_keys`].

use super::kind::{
    INT, INT_FROM_ONE, INT_FROM_ZERO, Kind, LONG, LONG_FROM_MINUS_ONE, LONG_FROM_ONE, LONG_FROM_ZERO,
};

/// One broker config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrokerKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type and range.
    pub kind: Kind,
    /// The value when nothing sets it; empty where Kafka's default is null.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> BrokerKey {
    BrokerKey { name, kind, default, doc }
}

/// All broker configs with an effect, in name order. The topic configs' fallbacks are among them.
pub const BROKER_KEYS: &[BrokerKey] = &[
    key(
        "advertised.listeners",
        Kind::List(&[]),
        "",
        "The addresses clients are told to connect to, `NAME://host:port` each; by default the listeners' own. Needed in a container or behind another address.",
    ),
    key(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        "Whether a topic that a client asks for by name is created with the defaults.",
    ),
    key("broker.id", INT, "1", "The same as `node.id`."),
    key(
        "cache.bytes",
        LONG_FROM_ZERO,
        "134217728",
        "ringlog's own: the most memory for the newest batches of all partitions, from which consumers at the tail are served, in bytes, over all shards. Where much is written, no more is kept than somebody reads.",
    ),
    key("compression.gzip.level", Kind::Int(-1, 9), "-1", "Default of the topic config of the same name."),
    key("compression.lz4.level", Kind::Int(1, 17), "9", "Default of the topic config of the same name."),
    key(
        "compression.type",
        Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        "Default of the topic config of the same name.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int(-131_072, 22),
        "3",
        "Default of the topic config of the same name.",
    ),
    key(
        "connections.max.handshake.ms",
        LONG,
        "30000",
        "ringlog's own: a connection whose first request has not come whole after this long is closed, in milliseconds; negative for never.",
    ),
    key(
        "connections.max.idle.ms",
        LONG,
        "600000",
        "Connections without a request for this long are closed, in milliseconds; negative for never.",
    ),
    key(
        "cores",
        Kind::Text,
        "",
        "ringlog's own: the cores that get a shard, `0,2-5`; all of them by default.",
    ),
    key("default.replication.factor", INT_FROM_ONE, "1", "Replicas of a topic that does not say how many."),
    key("delete.topic.enable", Kind::Boolean, "true", "Whether topics may be deleted."),
    key(
        "durability",
        Kind::OneOf(&["fsync", "replicated"]),
        "fsync",
        "ringlog's own: default of the topic config of the same name.",
    ),
    key(
        "fetch.max.bytes",
        Kind::Int(1024, i32::MAX as i64),
        "57671680",
        "The most one fetch returns, in bytes.",
    ),
    key(
        "group.initial.rebalance.delay.ms",
        INT_FROM_ZERO,
        "3000",
        "How long a consumer group that was empty waits for more members before its first generation, in milliseconds.",
    ),
    key(
        "group.max.session.timeout.ms",
        INT,
        "1800000",
        "The longest session timeout a group member may ask for, in milliseconds.",
    ),
    key("group.max.size", INT_FROM_ONE, "2147483647", "How many members a consumer group may have."),
    key(
        "group.min.session.timeout.ms",
        INT,
        "6000",
        "The shortest session timeout a group member may ask for, in milliseconds.",
    ),
    key(
        "group.share.delivery.count.limit",
        Kind::Int(2, 10),
        "5",
        "How often a record is delivered to members of a share group before it is given up. Groups may have their own (`share.delivery.count.limit`).",
    ),
    key(
        "group.share.heartbeat.interval.ms",
        Kind::Int(5_000, 15_000),
        "5000",
        "How often members of share groups send heartbeats, in milliseconds.",
    ),
    key(
        "group.share.max.share.sessions",
        INT_FROM_ONE,
        "2000",
        "Share sessions, one for each member that reads, over all shards.",
    ),
    key("group.share.max.size", Kind::Int(1, 1_000), "200", "Members of a share group."),
    key(
        "group.share.partition.max.record.locks",
        Kind::Int(100, 4_000),
        "2000",
        "Records of a partition that are with members of a share group at the same time.",
    ),
    key(
        "group.share.record.lock.duration.ms",
        Kind::Int(15_000, 60_000),
        "30000",
        "How long a member of a share group may keep a record before others get it, in milliseconds.",
    ),
    key(
        "group.share.session.timeout.ms",
        Kind::Int(45_000, 60_000),
        "45000",
        "A member of a share group is gone after this long without a heartbeat, in milliseconds.",
    ),
    key(
        "http.listen",
        Kind::Text,
        "",
        "ringlog's own: the address of the page that shows the broker (`/`), `/metrics`, `/healthz` and `/readyz`; by default the first listener's host and a free port, `none` for no HTTP.",
    ),
    key(
        "io",
        Kind::OneOf(&["auto", "uring", "poll"]),
        "auto",
        "ringlog's own: how shards reach the kernel: `uring`, or `poll` where io_uring is refused; `auto` finds out.",
    ),
    key(
        "journal.bytes",
        LONG_FROM_ZERO,
        "16777216",
        "ringlog's own: what each shard's journal of small batches takes in each data directory, in bytes; 0 for none. It is made when it is first wanted.",
    ),
    key(
        "listeners",
        Kind::List(&[]),
        "PLAINTEXT://127.0.0.1:9092",
        "The addresses to listen on, `NAME://host:port` each. An empty host means every address, port 0 a free one.",
    ),
    key(
        "log.cleaner.backoff.ms",
        LONG_FROM_ZERO,
        "15000",
        "How long a shard's cleaner waits when no compacted log needs it, in milliseconds.",
    ),
    key(
        "log.cleaner.dedupe.buffer.size",
        LONG_FROM_ONE,
        "134217728",
        "Memory for the keys of logs that are being compacted, in bytes, over all shards: 24 for each key. More keys than fit take several rounds.",
    ),
    key("log.cleaner.delete.retention.ms", LONG_FROM_ZERO, "86400000", "Default of `delete.retention.ms`."),
    key("log.cleaner.enable", Kind::Boolean, "true", "Whether compacted topics are compacted."),
    key(
        "log.cleaner.io.buffer.load.factor",
        Kind::Double(0.0, 1.0),
        "0.9",
        "How full the memory for keys gets, as a share of it.",
    ),
    key(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Double(0.0, f64::MAX),
        "1.7976931348623157E308",
        "Bytes that compaction reads and writes a second, at most, over all shards.",
    ),
    key(
        "log.cleaner.max.compaction.lag.ms",
        LONG_FROM_ONE,
        "9223372036854775807",
        "Default of `max.compaction.lag.ms`.",
    ),
    key(
        "log.cleaner.min.cleanable.ratio",
        Kind::Double(0.0, 1.0),
        "0.5",
        "Default of `min.cleanable.dirty.ratio`.",
    ),
    key("log.cleaner.min.compaction.lag.ms", LONG_FROM_ZERO, "0", "Default of `min.compaction.lag.ms`."),
    key("log.cleanup.policy", Kind::List(&["compact", "delete"]), "delete", "Default of `cleanup.policy`."),
    key("log.dir", Kind::Text, "./data", "One data directory; `log.dirs` goes before it."),
    key("log.dirs", Kind::List(&[]), "", "The data directories. Each partition lies in one of them."),
    key("log.flush.interval.messages", LONG_FROM_ONE, "9223372036854775807", "Default of `flush.messages`."),
    key("log.flush.interval.ms", LONG_FROM_ZERO, "9223372036854775807", "Default of `flush.ms`."),
    key("log.index.interval.bytes", INT_FROM_ZERO, "4096", "Default of `index.interval.bytes`."),
    key(
        "log.index.size.max.bytes",
        Kind::Int(4, i32::MAX as i64),
        "10485760",
        "Default of `segment.index.bytes`.",
    ),
    key("log.local.retention.bytes", Kind::Long(-2, i64::MAX), "-2", "Default of `local.retention.bytes`."),
    key("log.local.retention.ms", Kind::Long(-2, i64::MAX), "-2", "Default of `local.retention.ms`."),
    key(
        "log.message.timestamp.after.max.ms",
        LONG_FROM_ZERO,
        "3600000",
        "Default of `message.timestamp.after.max.ms`.",
    ),
    key(
        "log.message.timestamp.before.max.ms",
        LONG_FROM_ZERO,
        "9223372036854775807",
        "Default of `message.timestamp.before.max.ms`.",
    ),
    key(
        "log.message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Default of `message.timestamp.type`.",
    ),
    key("log.preallocate", Kind::Boolean, "false", "Default of `preallocate`."),
    key("log.retention.bytes", LONG, "-1", "Default of `retention.bytes`."),
    key(
        "log.retention.check.interval.ms",
        LONG_FROM_ONE,
        "300000",
        "How often segments past their retention are looked for, in milliseconds.",
    ),
    key("log.retention.hours", INT, "168", "Default of `retention.ms`, in hours."),
    key("log.retention.minutes", INT, "", "Default of `retention.ms`, in minutes; goes before the hours."),
    key(
        "log.retention.ms",
        LONG_FROM_MINUS_ONE,
        "",
        "Default of `retention.ms`; goes before minutes and hours.",
    ),
    key("log.roll.hours", INT_FROM_ONE, "168", "Default of `segment.ms`, in hours."),
    key("log.roll.jitter.hours", INT_FROM_ZERO, "0", "Default of `segment.jitter.ms`, in hours."),
    key("log.roll.jitter.ms", LONG_FROM_ZERO, "", "Default of `segment.jitter.ms`; goes before the hours."),
    key("log.roll.ms", LONG_FROM_ONE, "", "Default of `segment.ms`; goes before the hours."),
    key(
        "log.segment.bytes",
        Kind::Int(1024 * 1024, i32::MAX as i64),
        "1073741824",
        "Default of `segment.bytes`.",
    ),
    key("log.segment.delete.delay.ms", LONG_FROM_ZERO, "60000", "Default of `file.delete.delay.ms`."),
    key(
        "max.connection.creation.rate",
        INT_FROM_ZERO,
        "2147483647",
        "New connections a second; what comes faster waits, past a burst of one second's number. A listener may have its own: `listener.name.NAME.max.connection.creation.rate`.",
    ),
    key(
        "max.connections",
        INT_FROM_ZERO,
        "2147483647",
        "Connections that may be open at a time, but never more than three quarters of the files the process may open; more wait until one is closed. A listener may have its own: `listener.name.NAME.max.connections`.",
    ),
    key(
        "max.connections.per.ip",
        INT_FROM_ZERO,
        "2147483647",
        "Connections that one address may have open at a time; more are closed.",
    ),
    key(
        "max.connections.per.ip.overrides",
        Kind::CountByAddress,
        "",
        "The same for certain addresses: `ADDRESS:COUNT,..`, the addresses as numbers.",
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        INT_FROM_ZERO,
        "1000",
        "Incremental fetch sessions kept, over all shards.",
    ),
    key("message.max.bytes", INT_FROM_ZERO, "1048588", "Default of `max.message.bytes`."),
    key("min.insync.replicas", INT_FROM_ONE, "1", "Default of the topic config of the same name."),
    key("node.id", INT_FROM_ZERO, "1", "This broker's number in its cluster."),
    key("num.partitions", INT_FROM_ONE, "1", "Partitions of a topic that does not say how many."),
    key(
        "offset.metadata.max.bytes",
        INT_FROM_ZERO,
        "4096",
        "The longest text a client may keep beside a committed offset.",
    ),
    key(
        "offsets.commit.timeout.ms",
        INT_FROM_ONE,
        "5000",
        "How long a commit of offsets, or another record of a group, may take to be durable, in milliseconds.",
    ),
    key(
        "offsets.retention.check.interval.ms",
        LONG_FROM_ONE,
        "600000",
        "How often offsets past their retention are looked for, in milliseconds.",
    ),
    key(
        "offsets.retention.minutes",
        INT_FROM_ONE,
        "10080",
        "How long the offsets of a group are kept after its last member has gone, in minutes; of a consumer without a group, after their commit.",
    ),
    key(
        "offsets.topic.num.partitions",
        INT_FROM_ONE,
        "50",
        "Partitions of `__consumer_offsets`, which is created when a group is first looked for.",
    ),
    key(
        "offsets.topic.replication.factor",
        Kind::Short(1, i16::MAX as i64),
        "3",
        "Replicas of `__consumer_offsets`; as many as there are brokers at most.",
    ),
    key(
        "offsets.topic.segment.bytes",
        INT_FROM_ONE,
        "104857600",
        "Segment size of `__consumer_offsets`, in bytes.",
    ),
    key(
        "producer.id.expiration.ms",
        INT_FROM_ONE,
        "86400000",
        "An idempotent producer's sequence is forgotten after this long without a batch, in milliseconds.",
    ),
    key(
        "queued.max.reply.bytes",
        LONG_FROM_ONE,
        "268435456",
        "ringlog's own: memory for replies that wait to be sent, in bytes, over all shards. Beyond it requests that need more wait, and those who do not read theirs are closed.",
    ),
    key(
        "queued.max.request.bytes",
        LONG,
        "-1",
        "Memory for requests that have been received and not answered, in bytes; -1 for 256 MiB over all shards. Beyond it sockets are not read.",
    ),
    key(
        "share.coordinator.snapshot.update.records.per.snapshot",
        Kind::Int(0, 500),
        "500",
        "Updates of a share partition in `__share_group_state` before it is written whole again.",
    ),
    key(
        "share.coordinator.state.topic.num.partitions",
        INT_FROM_ONE,
        "50",
        "Partitions of `__share_group_state`, which is created when a share group is first joined.",
    ),
    key(
        "share.coordinator.state.topic.segment.bytes",
        INT_FROM_ONE,
        "104857600",
        "Segment size of `__share_group_state`, in bytes.",
    ),
    key(
        "share.coordinator.write.timeout.ms",
        INT_FROM_ONE,
        "5000",
        "How long an acknowledgement of records may take to be durable, in milliseconds.",
    ),
    key("socket.request.max.bytes", INT_FROM_ONE, "104857600", "The largest request accepted, in bytes."),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "Default of the topic config of the same name.",
    ),
];

/// The broker config of this name, if it has an effect.
pub fn broker_key(name: &str) -> Option<&'static BrokerKey> {
    BROKER_KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &BROKER_KEYS[at])
}

/// The config that this name sets for one listener: `listener.name.internal.max.connections`.
pub fn listener_key(name: &str) -> Option<&'static BrokerKey> {
    let rest = name.strip_prefix("listener.name.")?;
    let of_listener = |key: &&&str| {
        rest.strip_suffix(**key).is_some_and(|listener| listener.len() > 1 && listener.ends_with('.'))
    };
    LISTENER_KEYS.iter().find(of_listener).and_then(|key| broker_key(key))
}

/// Configs that a listener may have of its own.
const LISTENER_KEYS: &[&str] = &["max.connection.creation.rate", "max.connections"];

#[cfg(test)]
mod tests {
    use super::super::topic_keys::TOPIC_KEYS;
    use super::*;

    #[test]
    fn keys_are_sorted_and_defaults_are_valid() {
        assert!(BROKER_KEYS.is_sorted_by(|a, b| a.name < b.name));
        for key in BROKER_KEYS.iter().filter(|key| !key.default.is_empty()) {
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn every_topic_config_falls_back_to_a_broker_config_of_its_kind() {
        for topic in TOPIC_KEYS {
            let Some(name) = topic.broker else { continue };
            let broker = broker_key(name).unwrap_or_else(|| panic!("{} falls back to {name}", topic.name));
            assert_eq!(broker.kind, topic.kind, "{} and {name}", topic.name);
            let same = broker.default == topic.default || broker.default.is_empty();
            assert!(same, "{} and {name} have one default", topic.name);
        }
    }
}
