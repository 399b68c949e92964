//! Every config of a group: name, type, default and the broker config it falls back to. Names, types, ranges and defaults are
//! Apache Kafka 4.3.1's (`GroupConfig`). Share groups go by theirs; the others are kept and shown for who sets them.

use super::kind::Kind;

/// One config of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type and range: within what Kafka's broker configs allow where nobody has set those.
    pub kind: Kind,
    /// The value when neither group nor broker sets it.
    pub default: &'static str,
    /// The broker config that gives the default.
    pub broker: Option<&'static str>,
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    broker: Option<&'static str>,
) -> GroupKey {
    GroupKey { name, kind, default, broker }
}

const ASSIGNMENT_INTERVAL: Kind = Kind::Int(0, 15_000);
const HEARTBEAT_INTERVAL: Kind = Kind::Int(5_000, 15_000);
const SESSION_TIMEOUT: Kind = Kind::Int(45_000, 60_000);

/// All configs of groups, in name order.
pub const GROUP_KEYS: &[GroupKey] = &[
    key(
        "consumer.assignment.interval.ms",
        ASSIGNMENT_INTERVAL,
        "1000",
        Some("group.consumer.assignment.interval.ms"),
    ),
    key(
        "consumer.heartbeat.interval.ms",
        HEARTBEAT_INTERVAL,
        "5000",
        Some("group.consumer.heartbeat.interval.ms"),
    ),
    key("consumer.session.timeout.ms", SESSION_TIMEOUT, "45000", Some("group.consumer.session.timeout.ms")),
    key(
        "share.assignment.interval.ms",
        ASSIGNMENT_INTERVAL,
        "1000",
        Some("group.share.assignment.interval.ms"),
    ),
    key("share.auto.offset.reset", Kind::Text, "latest", None),
    key("share.delivery.count.limit", Kind::Int(2, 10), "5", Some("group.share.delivery.count.limit")),
    key("share.heartbeat.interval.ms", HEARTBEAT_INTERVAL, "5000", Some("group.share.heartbeat.interval.ms")),
    key(
        "share.isolation.level",
        Kind::OneOf(&["read_committed", "read_uncommitted"]),
        "read_uncommitted",
        None,
    ),
    key(
        "share.partition.max.record.locks",
        Kind::Int(100, 4_000),
        "2000",
        Some("group.share.partition.max.record.locks"),
    ),
    key(
        "share.record.lock.duration.ms",
        Kind::Int(15_000, 60_000),
        "30000",
        Some("group.share.record.lock.duration.ms"),
    ),
    key("share.renew.acknowledge.enable", Kind::Boolean, "true", None),
    key("share.session.timeout.ms", SESSION_TIMEOUT, "45000", Some("group.share.session.timeout.ms")),
    key(
        "streams.assignment.interval.ms",
        ASSIGNMENT_INTERVAL,
        "1000",
        Some("group.streams.assignment.interval.ms"),
    ),
    key(
        "streams.heartbeat.interval.ms",
        HEARTBEAT_INTERVAL,
        "5000",
        Some("group.streams.heartbeat.interval.ms"),
    ),
    key(
        "streams.initial.rebalance.delay.ms",
        Kind::Int(0, i32::MAX as i64),
        "3000",
        Some("group.streams.initial.rebalance.delay.ms"),
    ),
    key("streams.num.standby.replicas", Kind::Int(0, 2), "0", Some("group.streams.num.standby.replicas")),
    key("streams.session.timeout.ms", SESSION_TIMEOUT, "45000", Some("group.streams.session.timeout.ms")),
];

/// The config of groups with this name.
pub fn group_key(name: &str) -> Option<&'static GroupKey> {
    GROUP_KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &GROUP_KEYS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_config_of_groups_is_found_and_its_default_is_right() {
        for key in GROUP_KEYS {
            assert_eq!(group_key(key.name), Some(key));
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
        }
        assert_eq!(group_key("no.such"), None);
    }
}
