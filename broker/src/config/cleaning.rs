//! What the cleaner of compacted topics goes by.

use super::{Settings, number};
use std::time::Duration;

/// Configs of the cleaner, of all shards together.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanerConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// How long it waits when nothing needs it.
    pub backoff: Duration,
    /// Memory for keys, in bytes.
    pub map_bytes: usize,
    /// How full that gets.
    pub load_factor: f64,
    /// Bytes read and written a second, at most.
    pub bytes_per_second: f64,
}

impl CleanerConfig {
    /// As the settings say now: they may change while the broker runs.
    pub fn new(settings: &Settings) -> Self {
        Self {
            enabled: number(settings, "log.cleaner.enable"),
            backoff: Duration::from_millis(number(settings, "log.cleaner.backoff.ms")),
            map_bytes: number(settings, "log.cleaner.dedupe.buffer.size"),
            load_factor: number(settings, "log.cleaner.io.buffer.load.factor"),
            bytes_per_second: number(settings, "log.cleaner.io.max.bytes.per.second"),
        }
    }
}
