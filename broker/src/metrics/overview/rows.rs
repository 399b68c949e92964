//! Topics and groups as the page lists them, and one of each with its partitions.

use super::super::Snapshot;
use super::super::lag::{Ages, Lag};
use super::ROWS;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// One topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TopicRow {
    pub(super) name: Arc<str>,
    pub(super) partitions: usize,
    pub(super) offline: usize,
    pub(super) records: i64,
    pub(super) valid_bytes: u64,
    /// Records a second, since the figures before; nothing where there are none.
    pub(super) per_second: Option<f64>,
    /// Sum of the partitions' log ends.
    #[serde(skip)]
    ends: i64,
}

/// All topics, by name, with rates since `before`, and over how many seconds that is.
pub(super) fn topics(shards: &[Snapshot], before: Option<(&[TopicRow], f64)>) -> Vec<TopicRow> {
    let mut topics: BTreeMap<&Arc<str>, TopicRow> = BTreeMap::new();
    for partition in shards.iter().flat_map(|shard| &shard.partitions) {
        let row = topics.entry(&partition.topic).or_insert_with(|| TopicRow {
            name: partition.topic.clone(),
            partitions: 0,
            offline: 0,
            records: 0,
            valid_bytes: 0,
            per_second: None,
            ends: 0,
        });
        row.partitions += 1;
        row.offline += usize::from(partition.offline);
        row.records += partition.log_end - partition.log_start;
        row.valid_bytes += partition.valid_bytes;
        row.ends += partition.log_end;
    }
    let mut topics: Vec<TopicRow> = topics.into_values().collect();
    if let Some((before, seconds)) = before.filter(|(_, seconds)| *seconds > 0.0) {
        for topic in &mut topics {
            // One that is new has had all its records since. One that was made anew under its name begins again.
            let then =
                before.binary_search_by(|row| row.name.cmp(&topic.name)).map_or(0, |at| before[at].ends);
            topic.per_second = Some((topic.ends - then).max(0) as f64 / seconds);
        }
    }
    topics
}

/// A topic's partitions, from one on.
#[derive(Debug, Serialize)]
pub(super) struct TopicDetail {
    name: String,
    all: usize,
    from: usize,
    rows: Vec<PartitionRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    index: i32,
    offline: bool,
    log_start: i64,
    high_watermark: i64,
    log_end: i64,
    valid_bytes: u64,
    segments: usize,
}

impl TopicDetail {
    pub(super) fn of(name: &str, from: usize, shards: &[Snapshot]) -> Self {
        let partitions = shards.iter().flat_map(|shard| &shard.partitions);
        let mut rows: Vec<PartitionRow> = partitions
            .filter(|partition| &*partition.topic == name)
            .map(|partition| PartitionRow {
                index: partition.id.index,
                offline: partition.offline,
                log_start: partition.log_start,
                high_watermark: partition.high_watermark,
                log_end: partition.log_end,
                valid_bytes: partition.valid_bytes,
                segments: partition.segments,
            })
            .collect();
        rows.sort_by_key(|row| row.index);
        Self {
            name: name.to_owned(),
            all: rows.len(),
            from,
            rows: rows.into_iter().skip(from).take(ROWS).collect(),
        }
    }
}

/// One group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupRow {
    pub(super) name: Arc<str>,
    state: &'static str,
    members: usize,
    /// Of all its partitions that are there; nothing where it has committed in none.
    pub(super) lag_records: Option<i64>,
    /// Its part of the lags.
    pub(super) lags: Range<usize>,
}

/// One group as the page is told of it.
#[derive(Debug, Serialize)]
pub(super) struct GroupTold<'a> {
    name: &'a str,
    state: &'static str,
    members: usize,
    partitions: usize,
    lag_records: Option<i64>,
    /// The largest of its partitions that are known.
    lag_seconds: Option<f64>,
    /// Some of them are not known yet.
    at_least: bool,
}

/// All groups, by name.
pub(super) fn groups(shards: &[Snapshot], lags: &[Lag]) -> Vec<GroupRow> {
    // What one group has committed lies together, since one coordinator has it.
    let mut of_groups: HashMap<&str, Range<usize>> = HashMap::new();
    let mut at = 0;
    for of_topic in lags.chunk_by(Lag::is_beside) {
        of_groups.entry(&of_topic[0].group).or_insert(at..at).end = at + of_topic.len();
        at += of_topic.len();
    }
    let rows = shards.iter().flat_map(|shard| &shard.groups.groups).map(|row| {
        let lags_of = of_groups.get(&*row.group).cloned().unwrap_or_default();
        let behind = lags[lags_of.clone()].iter().filter_map(|lag| Some(lag.behind.as_ref()?.records));
        GroupRow {
            name: row.group.clone(),
            state: row.state,
            members: row.members,
            lag_records: behind.fold(None, |sum, records| Some(sum.unwrap_or(0) + records)),
            lags: lags_of,
        }
    });
    let mut rows: Vec<GroupRow> = rows.collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

impl GroupRow {
    pub(super) fn told(&self, lags: &[Lag], ages: &Ages) -> GroupTold<'_> {
        let lags = &lags[self.lags.clone()];
        let seconds = lags.iter().filter_map(|lag| lag.behind.as_ref()).map(|behind| behind.seconds(ages));
        let known =
            seconds.clone().flatten().fold(None, |most: Option<f64>, one| Some(most.unwrap_or(0.0).max(one)));
        GroupTold {
            name: &self.name,
            state: self.state,
            members: self.members,
            partitions: lags.len(),
            lag_records: self.lag_records,
            lag_seconds: known,
            at_least: seconds.clone().any(|one| one.is_none()),
        }
    }
}

/// What a group has committed, from one row on.
#[derive(Debug, Serialize)]
pub(super) struct GroupDetail<'a> {
    name: String,
    all: usize,
    from: usize,
    rows: Vec<LagRow<'a>>,
}

#[derive(Debug, Serialize)]
struct LagRow<'a> {
    topic: &'a str,
    index: i32,
    committed: i64,
    /// Nothing where the partition is not there.
    lag_records: Option<i64>,
    lag_seconds: Option<f64>,
}

impl<'a> GroupDetail<'a> {
    pub(super) fn of(name: &str, from: usize, lags: &'a [Lag], ages: &Ages) -> Self {
        let rows = lags.iter().skip(from).take(ROWS).map(|lag| LagRow {
            topic: &lag.topic,
            index: lag.index,
            committed: lag.committed,
            lag_records: lag.behind.as_ref().map(|behind| behind.records),
            lag_seconds: lag.behind.as_ref().and_then(|behind| behind.seconds(ages)),
        });
        Self { name: name.to_owned(), all: lags.len(), from, rows: rows.collect() }
    }
}
