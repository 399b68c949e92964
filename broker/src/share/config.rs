//! What share groups go by: configs of the broker and of a group.

use super::group::GroupLimits;
use super::partition::Limits;
use crate::cluster::{Image, NewTopic};
use crate::config::{Settings, group_key};
use std::time::Duration;

/// What a share group goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    /// Where reading begins in a partition that the group has not read.
    pub reset: OffsetReset,
    /// Whether only records of committed transactions are delivered.
    pub is_committed_only: bool,
    /// How long a member may keep a record.
    pub lock: Duration,
    /// How often a record is delivered.
    pub deliveries_max: i16,
    /// Records of a partition in flight.
    pub locks_max: i64,
    /// Whether members may renew what they have.
    pub may_renew: bool,
    /// After how long without a heartbeat a member is gone.
    pub session: Duration,
    /// How often members send heartbeats, in milliseconds.
    pub heartbeat_ms: i32,
    /// Members of a group.
    pub members_max: usize,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the first record there is.
    Earliest,
    /// With the next record that comes.
    Latest,
    /// With records of this age.
    Age(Duration),
}

impl ShareConfig {
    /// What a group goes by now.
    pub fn of(settings: &Settings, image: &Image, group: &str) -> Self {
        let own = image.group_configs(group);
        let value = |name: &str| -> String {
            let key = group_key(name).expect("a config of groups");
            let from_group = own.and_then(|own| own.get(name)).map(String::as_str);
            let from_broker = || key.broker.and_then(|name| settings.explicit(name)).map(|(value, _)| value);
            from_group.or_else(from_broker).unwrap_or(key.default).trim().to_owned()
        };
        let number = |name: &str| value(name).parse::<i64>().unwrap_or_default();
        let millis = |name: &str| Duration::from_millis(u64::try_from(number(name)).unwrap_or_default());
        Self {
            reset: OffsetReset::parse(&value("share.auto.offset.reset")).unwrap_or(OffsetReset::Latest),
            is_committed_only: value("share.isolation.level") == "read_committed",
            lock: millis("share.record.lock.duration.ms"),
            deliveries_max: i16::try_from(number("share.delivery.count.limit")).unwrap_or(i16::MAX),
            locks_max: number("share.partition.max.record.locks"),
            may_renew: value("share.renew.acknowledge.enable").eq_ignore_ascii_case("true"),
            session: millis("share.session.timeout.ms"),
            heartbeat_ms: i32::try_from(number("share.heartbeat.interval.ms")).unwrap_or(i32::MAX),
            members_max: settings.parse("group.share.max.size").unwrap_or(usize::MAX),
        }
    }
}

impl ShareConfig {
    /// What bounds its members.
    pub fn group_limits(&self) -> GroupLimits {
        GroupLimits { session: self.session, members_max: self.members_max }
    }

    /// What bounds its share partitions.
    pub fn limits(&self) -> Limits {
        Limits { lock: self.lock, deliveries_max: self.deliveries_max, locks_max: self.locks_max }
    }
}

impl OffsetReset {
    /// Reads it as Kafka writes it: `earliest`, `latest`, `by_duration:PT1H`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ => iso_duration(text.strip_prefix("by_duration:")?).map(Self::Age),
        }
    }
}

/// A duration of ISO 8601, of days and smaller (`P1DT2H3M4.5S`).
fn iso_duration(text: &str) -> Option<Duration> {
    let rest = text.strip_prefix('P')?;
    let (days, times) = rest.split_once('T').map_or((rest, ""), |(days, times)| (days, times));
    if days.is_empty() && times.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    let mut add = |text: &str, units: &[(char, f64)]| -> Option<()> {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let number: f64 = rest[..end].parse().ok()?;
            let unit = rest[end..].chars().next()?;
            seconds += number * units.iter().find(|(name, _)| *name == unit)?.1;
            rest = &rest[end + unit.len_utf8()..];
        }
        Some(())
    };
    add(days, &[('D', 86_400.0)])?;
    add(times, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The topic that keeps what has become of records, as it is created when it is first needed.
pub fn state_topic(settings: &Settings) -> NewTopic {
    let set = |name: &str, value: String| (name.to_owned(), Some(value));
    let segment_bytes = settings.get("share.coordinator.state.topic.segment.bytes").to_owned();
    NewTopic {
        name: super::STATE_TOPIC.to_owned(),
        partitions: settings.parse("share.coordinator.state.topic.num.partitions"),
        // There is one broker: more replicas have to wait for more.
        replication_factor: Some(1),
        configs: vec![
            set("cleanup.policy", "delete".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", segment_bytes),
            // Its coordinator deletes what snapshots have made needless.
            set("retention.ms", "-1".to_owned()),
        ],
        ..NewTopic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Record;
    use crate::config::Source;
    use std::collections::BTreeMap;

    #[test]
    fn a_groups_own_configs_go_before_the_brokers() {
        let mut settings = Settings::default();
        let set = |settings: &mut Settings, pair: &str| settings.set_pair(pair, Source::CommandLine);
        set(&mut settings, "group.share.delivery.count.limit=3").expect("right");
        set(&mut settings, "group.share.max.size=7").expect("right");
        let mut image = Image::default();
        let own = [("share.record.lock.duration.ms", "15000"), ("share.auto.offset.reset", "earliest")];
        let configs: BTreeMap<_, _> =
            own.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        image.apply(&Record::GroupConfigs { group: "g".into(), configs }).expect("it fits");
        let config = ShareConfig::of(&settings, &image, "g");
        assert_eq!((config.deliveries_max, config.members_max), (3, 7));
        assert_eq!((config.lock, config.reset), (Duration::from_secs(15), OffsetReset::Earliest));
        let other = ShareConfig::of(&settings, &image, "other");
        assert_eq!((other.lock, other.reset), (Duration::from_secs(30), OffsetReset::Latest));
        assert_eq!((other.locks_max, other.heartbeat_ms, other.may_renew), (2000, 5000, true));
    }

    #[test]
    fn where_reading_begins_is_written_as_in_kafka() {
        let age = |seconds| Some(OffsetReset::Age(Duration::from_secs(seconds)));
        let cases = [
            ("earliest", Some(OffsetReset::Earliest)),
            ("latest", Some(OffsetReset::Latest)),
            ("by_duration:PT1H", age(3600)),
            ("by_duration:P1DT1M1S", age(86_461)),
            ("by_duration:", None),
            ("by_duration:P", None),
            ("by_duration:-PT1H", None),
            ("newest", None),
        ];
        for (text, expected) in cases {
            assert_eq!(OffsetReset::parse(text), expected, "{text}");
        }
    }
}
