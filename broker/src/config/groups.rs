//! What consumer groups go by.

use super::{ConfigError, Settings, number};
use std::time::Duration;

/// Configs of groups and of the topic that keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long a group that was empty waits for more members.
    pub initial_rebalance_delay: Duration,
    /// The session timeouts members may ask for, in milliseconds.
    pub session_timeout_ms: std::ops::RangeInclusive<i32>,
    /// Members of a group.
    pub members_max: usize,
    /// The longest text beside an offset, in characters as Java counts them.
    pub metadata_max: usize,
    /// How long a record may take to be durable.
    pub commit_timeout: Duration,
    /// How long offsets that nobody uses are kept.
    pub offsets_retention: Duration,
    /// How often such offsets are looked for.
    pub cleanup_interval: Duration,
    /// Partitions of the topic, when it is created.
    pub offsets_partitions: i32,
    /// Its replicas.
    pub offsets_replication_factor: i16,
    /// Its segments' size, in bytes.
    pub offsets_segment_bytes: i32,
}

impl GroupConfig {
    pub(super) fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let shortest: i32 = number(settings, "group.min.session.timeout.ms");
        let longest: i32 = number(settings, "group.max.session.timeout.ms");
        if shortest > longest {
            return Err(ConfigError::Conflict(format!(
                "group.min.session.timeout.ms={shortest} is above group.max.session.timeout.ms={longest}"
            )));
        }
        Ok(Self {
            initial_rebalance_delay: Duration::from_millis(number(
                settings,
                "group.initial.rebalance.delay.ms",
            )),
            session_timeout_ms: shortest..=longest,
            members_max: number(settings, "group.max.size"),
            metadata_max: number(settings, "offset.metadata.max.bytes"),
            commit_timeout: Duration::from_millis(number(settings, "offsets.commit.timeout.ms")),
            offsets_retention: Duration::from_secs(60 * number::<u64>(settings, "offsets.retention.minutes")),
            cleanup_interval: Duration::from_millis(number(settings, "offsets.retention.check.interval.ms")),
            offsets_partitions: number(settings, "offsets.topic.num.partitions"),
            offsets_replication_factor: number(settings, "offsets.topic.replication.factor"),
            offsets_segment_bytes: number(settings, "offsets.topic.segment.bytes"),
        })
    }
}
