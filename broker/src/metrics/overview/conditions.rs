//! What is not well, in words.

use super::super::Snapshot;
use super::super::history::Now;
use super::super::scrapes::Stage;
use super::memory;
use ringlog_engine::limits::reserve;
use serde::Serialize;

/// Something that whoever runs the broker should know.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Condition {
    /// Clients are refused something, not only may be soon.
    pub(super) bad: bool,
    pub(super) text: String,
}

/// Less room than this share of a file system, or than three times what logs leave free, is little.
const LITTLE_ROOM: f64 = 0.1;
/// A shard that is awake for more of the time than this has nothing left to give; memory that is used for more neither.
const NEARLY_ALL: f64 = 0.95;

/// What is not well; nothing if all is. What is bad comes first.
pub(super) fn conditions(shards: &[Snapshot], stage: Stage, now: &Now) -> Vec<Condition> {
    let mut found = Vec::new();
    let mut tell = |bad, text| found.push(Condition { bad, text });
    match stage {
        Stage::Starting => tell(false, "The broker is starting: clients cannot connect yet".to_owned()),
        Stage::Stopping => tell(false, "The broker is stopping".to_owned()),
        Stage::Ready => {}
    }
    for directory in shards.iter().flat_map(|shard| &shard.directories) {
        let path = &directory.path;
        // Which are opened is known when clients can connect.
        if directory.offline && stage != Stage::Starting {
            tell(true, format!("Data directory {path} is offline"));
        }
        let Some(capacity) = directory.capacity else { continue };
        let (all, free) = (capacity.total_bytes, capacity.usable_bytes);
        let share = free as f64 / all.max(1) as f64;
        if free <= reserve(all) {
            tell(true, format!("The disk of {path} is full: what would take more room is refused"));
        } else if share < LITTLE_ROOM || free < 3 * reserve(all) {
            tell(false, format!("The disk of {path} has {:.0} % of its room left", (100.0 * share).floor()));
        }
    }
    match offline_partitions(shards) {
        0 => {}
        1 => tell(true, "1 partition is offline".to_owned()),
        n => tell(true, format!("{n} partitions are offline")),
    }
    match shards.iter().map(|shard| shard.damaged).sum::<u64>() {
        0 => {}
        places => tell(false, format!("Stored bytes were found damaged, {places} times since the start")),
    }
    match shards.iter().map(|shard| shard.uncleanable).sum::<usize>() {
        0 => {}
        n => {
            tell(false, format!("{n} compacted partitions are not cleaned any more: damage was met in them"))
        }
    }
    // The cache is to be full.
    for one in memory(shards).iter().filter(|one| one.budget != "cache") {
        if one.used as f64 > NEARLY_ALL * one.limit as f64 {
            tell(false, format!("Memory for {} is used up: clients wait for it", one.budget));
        }
    }
    for (shard, busy) in now.busy.iter().enumerate() {
        if *busy > NEARLY_ALL {
            tell(false, format!("Shard {shard} is busy for {:.0} % of the time", 100.0 * busy));
        }
    }
    found.sort_by_key(|condition| !condition.bad);
    found
}

/// Partitions whose log has failed, or could not be opened.
pub(super) fn offline_partitions(shards: &[Snapshot]) -> usize {
    let failed = |shard: &Snapshot| shard.partitions.iter().filter(|partition| partition.offline).count();
    shards.iter().map(|shard| shard.unopened + failed(shard)).sum()
}
