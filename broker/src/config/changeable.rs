//! Which broker configs can be changed while the broker runs (KIP-226), for one broker or for all.
//!
//! Those that logs go by take effect at once, on every topic that has none of its own. Others that Apache Kafka 4.3.1
//! can change and that have no effect here are kept and shown, as they are when a broker is started with them.

use super::broker_keys::{broker_key, listener_key};
use super::kept_keys::is_kept;
use super::topic_keys::TOPIC_KEYS;

/// Whether and for whom a broker config can be changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changeable {
    /// For one broker, and for all.
    ForAll,
    /// For one broker only.
    ForOne,
    /// Only by a new start.
    Not,
    /// There is no such config.
    Unknown,
}

/// Whether this broker config can be changed while the broker runs.
pub fn changeable(name: &str) -> Changeable {
    if broker_key(name).is_some() {
        let is_default = TOPIC_KEYS.iter().any(|topic| topic.broker == Some(name));
        return if is_default || LIVE.contains(&name) { Changeable::ForAll } else { Changeable::Not };
    }
    if listener_key(name).is_some() {
        return Changeable::ForOne;
    }
    let kept = |names: &[&str]| names.binary_search(&name).is_ok();
    if kept(KEPT_FOR_ONE) {
        Changeable::ForOne
    } else if kept(KEPT_FOR_ALL) {
        Changeable::ForAll
    } else if is_kept(name) {
        Changeable::Not
    } else {
        Changeable::Unknown
    }
}

/// Configs of the broker alone that can be changed.
const LIVE: &[&str] = &[
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.max.bytes.per.second",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "producer.id.expiration.ms",
];

/// Configs without effect that Kafka lets be changed for one broker. What holds keys and passwords is not among them.
const KEPT_FOR_ONE: &[&str] = &[
    "principal.builder.class",
    "sasl.enabled.mechanisms",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal.to.local.rules",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.mechanism.inter.broker.protocol",
];

/// Configs without effect that Kafka lets be changed for all brokers too.
const KEPT_FOR_ALL: &[&str] = &[
    "background.threads",
    "follower.fetch.last.tiered.offset.enable",
    "follower.replication.throttled.rate",
    "group.consumer.assignment.interval.ms",
    "group.coordinator.cached.buffer.max.bytes",
    "group.share.assignment.interval.ms",
    "group.streams.assignment.interval.ms",
    "leader.replication.throttled.rate",
    "log.cleaner.io.buffer.size",
    "log.cleaner.threads",
    "metric.reporters",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms",
    "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "share.coordinator.cached.buffer.max.bytes",
    "transaction.partition.verification.enable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_sorted_and_has_no_effect() {
        for names in [KEPT_FOR_ONE, KEPT_FOR_ALL] {
            assert!(names.is_sorted_by(|a, b| a < b));
            assert!(names.iter().all(|name| broker_key(name).is_none()));
        }
        assert!(LIVE.iter().all(|name| broker_key(name).is_some()));
    }

    #[test]
    fn defaults_of_topics_can_be_changed_and_what_is_read_at_the_start_cannot() {
        for (name, expected) in [
            ("log.retention.ms", Changeable::ForAll),
            ("durability", Changeable::ForAll),
            ("producer.id.expiration.ms", Changeable::ForAll),
            ("num.io.threads", Changeable::ForAll),
            ("sasl.kerberos.min.time.before.relogin", Changeable::ForOne),
            ("log.cleaner.backoff.ms", Changeable::ForAll),
            ("log.retention.hours", Changeable::Not),
            ("max.connections", Changeable::ForAll),
            ("listener.name.internal.max.connections", Changeable::ForOne),
            ("listener.name.max.connections", Changeable::Not),
            ("connections.max.idle.ms", Changeable::Not),
            ("listeners", Changeable::Not),
            ("ssl.keystore.password", Changeable::Not),
            ("listener.security.protocol.map", Changeable::Not),
            ("broker.rack", Changeable::Not),
            ("no.such.config", Changeable::Unknown),
        ] {
            assert_eq!(changeable(name), expected, "{name}");
        }
    }
}
