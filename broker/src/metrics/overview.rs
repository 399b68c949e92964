//! What the page shows, as JSON: the broker's state in words, what happens now and has happened, and as much of topics and groups as is looked at.
//!
//! Partitions are looked through when somebody asks, at most once for each sample of the history, for everybody who asks meanwhile. An
//! answer has no more rows than were asked for, and no more than [`ROWS_MAX`] of a kind.

mod conditions;
mod rows;

use super::directories::Directory;
use super::history::{Columns, History, Now};
use super::lag::{self, Ages, Lag};
use super::process::Process;
use super::scrapes::{Asker, Scrapes};
use super::{MemoryUse, Snapshot};
use conditions::Condition;
use ringlog_engine::limits::reserve;
use rows::{GroupDetail, GroupRow, GroupTold, TopicDetail, TopicRow};
use serde::Serialize;
use std::cmp::Reverse;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the page is told from.
pub struct Overview {
    scrapes: Arc<Scrapes>,
    history: History,
    latest: Mutex<Latest>,
    /// As first read: the kernel tells it from the clock as it stands, and a page takes another number for another process.
    started_seconds: Option<f64>,
}

/// What the page wants to see.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The first point of the history that it does not have.
    since: u64,
    /// Topics whose name has this in it, in this order, and how many of them.
    topics: String,
    order: Order,
    topics_max: usize,
    /// The partitions of this topic, from this one on.
    topic: Option<String>,
    topic_from: usize,
    /// Groups whose name has this in it, and how many of them.
    groups: String,
    groups_max: usize,
    /// What this group has committed, from this row on.
    group: Option<String>,
    group_from: usize,
}

/// By what topics are ordered: the largest first, or by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Rate,
    Size,
    Records,
    Partitions,
    Name,
}

/// The most rows of one kind in an answer.
const ROWS_MAX: usize = 500;
/// The most look-ups of ages for an answer.
const LOOK_UPS_MAX: usize = 1000;
/// As many rows where the page does not say.
const ROWS: usize = 25;

/// What the shards have said last, and when.
#[derive(Default)]
struct Latest {
    /// Points of the history there were.
    at: Option<u64>,
    at_nanos: u64,
    shards: Vec<Snapshot>,
    topics: Vec<TopicRow>,
    groups: Vec<GroupRow>,
    lags: Vec<Lag>,
    ages: Ages,
}

/// The answer.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    node_id: i32,
    cluster_id: &'a str,
    started_seconds: Option<f64>,
    time_millis: i64,
    conditions: Vec<Condition>,
    history: Columns,
    now: Now,
    connections: usize,
    waiting_fetches: usize,
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
    memory: Vec<MemoryUse>,
    disks: Vec<Disk>,
    partitions: usize,
    offline_partitions: usize,
    topics: Listed<&'a TopicRow>,
    topic: Option<TopicDetail>,
    lag_records: i64,
    groups: Listed<GroupTold<'a>>,
    group: Option<GroupDetail<'a>>,
}

/// The first of many.
#[derive(Serialize)]
struct Listed<R> {
    /// How many there are,
    all: usize,
    /// how many of them were looked for,
    matching: usize,
    /// and those that are told.
    rows: Vec<R>,
}

#[derive(Serialize)]
struct Disk {
    path: String,
    offline: bool,
    total_bytes: Option<u64>,
    usable_bytes: Option<u64>,
    reserve_bytes: Option<u64>,
    /// Valid bytes of the logs there.
    valid_bytes: u64,
}

impl Ask {
    /// From names and values; what is not understood is left out.
    pub fn new<'a>(query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut ask = Self {
            since: 0,
            topics: String::new(),
            order: Order::Rate,
            topics_max: ROWS,
            topic: None,
            topic_from: 0,
            groups: String::new(),
            groups_max: ROWS,
            group: None,
            group_from: 0,
        };
        let rows = |value: &str| value.parse().map_or(ROWS, |rows: usize| rows.min(ROWS_MAX));
        for (name, value) in query {
            match name {
                "since" => ask.since = value.parse().unwrap_or(0),
                "topics" => ask.topics = value.to_lowercase(),
                "order" => {
                    ask.order = match value {
                        "size" => Order::Size,
                        "records" => Order::Records,
                        "partitions" => Order::Partitions,
                        "name" => Order::Name,
                        _ => Order::Rate,
                    }
                }
                "topics_max" => ask.topics_max = rows(value),
                "topic" => ask.topic = Some(value.to_owned()),
                "topic_from" => ask.topic_from = value.parse().unwrap_or(0),
                "groups" => ask.groups = value.to_lowercase(),
                "groups_max" => ask.groups_max = rows(value),
                "group" => ask.group = Some(value.to_owned()),
                "group_from" => ask.group_from = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        ask
    }
}

impl Overview {
    /// Of the broker that answers these scrapes.
    pub fn new(scrapes: Arc<Scrapes>) -> Self {
        let started_seconds = Process::now().started_seconds;
        Self { scrapes, history: History::default(), latest: Mutex::default(), started_seconds }
    }

    /// Takes a sample for the history.
    pub fn sample(&self) {
        self.history.note(self.scrapes.vitals().as_deref());
    }

    /// The answer; `None` where a shard does not answer.
    pub fn json(&self, ask: &Ask) -> Option<String> {
        let at = self.history.count()?;
        let mut latest = self.latest.lock().expect("nothing panics while it holds the figures");
        if latest.at != Some(at) {
            latest.renew(self.scrapes.snapshots()?, at);
        }
        let latest = &mut *latest;
        let now = self.history.now();
        let conditions = conditions::conditions(&latest.shards, self.scrapes.stage(), &now);
        let shown = latest.groups_shown(ask);
        latest.look_up(&self.scrapes, &shown.rows)?;
        serde_json::to_string(&self.report(latest, ask, (conditions, now), shown)).ok()
    }

    fn report<'a>(
        &self,
        latest: &'a Latest,
        ask: &Ask,
        (conditions, now): (Vec<Condition>, Now),
        shown: Listed<usize>,
    ) -> Report<'a> {
        let first = latest.shards.first();
        let sum = |of: fn(&Snapshot) -> usize| latest.shards.iter().map(of).sum();
        let process = Process::now();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            node_id: first.map_or(0, |shard| shard.node_id),
            cluster_id: first.map_or("", |shard| &shard.cluster_id),
            started_seconds: self.started_seconds,
            time_millis: first.map_or(0, |shard| shard.vitals.wall_millis),
            conditions,
            history: self.history.columns(ask.since),
            now,
            connections: sum(|shard| shard.vitals.connections),
            waiting_fetches: sum(|shard| shard.vitals.waiting_fetches),
            resident_bytes: process.resident_bytes,
            open_files: process.open_files,
            open_files_max: process.open_files_max,
            memory: memory(&latest.shards),
            disks: disks(&latest.shards),
            partitions: sum(|shard| shard.partitions.len()),
            offline_partitions: conditions::offline_partitions(&latest.shards),
            topics: latest.topics_shown(ask),
            topic: ask.topic.as_ref().map(|name| TopicDetail::of(name, ask.topic_from, &latest.shards)),
            lag_records: latest.groups.iter().filter_map(|group| group.lag_records).sum(),
            groups: Listed {
                rows: shown
                    .rows
                    .iter()
                    .map(|at| latest.groups[*at].told(&latest.lags, &latest.ages))
                    .collect(),
                all: shown.all,
                matching: shown.matching,
            },
            group: ask.group.as_ref().map(|name| latest.group(name, ask.group_from)),
        }
    }
}

impl Latest {
    fn renew(&mut self, shards: Vec<Snapshot>, at: u64) {
        let at_nanos = shards.iter().map(|shard| shard.vitals.at_nanos).max().unwrap_or(0);
        let seconds = Duration::from_nanos(at_nanos.saturating_sub(self.at_nanos)).as_secs_f64();
        let before = self.at.is_some().then_some((&self.topics[..], seconds));
        self.topics = rows::topics(&shards, before);
        self.lags = lag::lags(&shards);
        self.groups = rows::groups(&shards, &self.lags);
        self.ages.clear();
        (self.shards, self.at, self.at_nanos) = (shards, Some(at), at_nanos);
    }

    fn topics_shown(&self, ask: &Ask) -> Listed<&TopicRow> {
        let mut rows: Vec<&TopicRow> =
            self.topics.iter().filter(|topic| topic.name.to_lowercase().contains(&ask.topics)).collect();
        let matching = rows.len();
        // They are by name already, and stay so where they are equal.
        match ask.order {
            Order::Rate => {
                rows.sort_by(|a, b| b.per_second.unwrap_or(0.0).total_cmp(&a.per_second.unwrap_or(0.0)))
            }
            Order::Size => rows.sort_by_key(|topic| Reverse(topic.valid_bytes)),
            Order::Records => rows.sort_by_key(|topic| Reverse(topic.records)),
            Order::Partitions => rows.sort_by_key(|topic| Reverse(topic.partitions)),
            Order::Name => {}
        }
        rows.truncate(ask.topics_max);
        Listed { all: self.topics.len(), matching, rows }
    }

    /// Places in the list of groups: those that lag most come first.
    fn groups_shown(&self, ask: &Ask) -> Listed<usize> {
        let matches = |at: &usize| self.groups[*at].name.to_lowercase().contains(&ask.groups);
        let mut rows: Vec<usize> = (0..self.groups.len()).filter(matches).collect();
        let matching = rows.len();
        rows.sort_by_key(|at| Reverse(self.groups[*at].lag_records));
        rows.truncate(ask.groups_max);
        Listed { all: self.groups.len(), matching, rows }
    }

    /// Has the shards look up how old what these groups have not consumed is, as far as that is not known yet.
    fn look_up(&mut self, scrapes: &Scrapes, groups: &[usize]) -> Option<()> {
        let lags = groups.iter().flat_map(|at| &self.lags[self.groups[*at].lags.clone()]);
        let places = lag::places(lags.take(LOOK_UPS_MAX), self.shards.len());
        if places.iter().flatten().any(|place| !self.ages.contains_key(place)) {
            self.ages = scrapes.ages(places, Asker::Page)?;
        }
        Some(())
    }

    fn group(&self, name: &str, from: usize) -> GroupDetail<'_> {
        let lags = self.groups.iter().find(|group| &*group.name == name).map(|group| group.lags.clone());
        GroupDetail::of(name, from, &self.lags[lags.unwrap_or_default()], &self.ages)
    }
}

fn memory(shards: &[Snapshot]) -> Vec<MemoryUse> {
    let mut sums = shards.first().map(|shard| shard.vitals.memory.to_vec()).unwrap_or_default();
    for shard in shards.iter().skip(1) {
        for (sum, more) in sums.iter_mut().zip(shard.vitals.memory) {
            sum.used += more.used;
            sum.limit += more.limit;
        }
    }
    sums
}

fn disks(shards: &[Snapshot]) -> Vec<Disk> {
    let valid_bytes = |directory: &Directory| {
        let partitions = shards.iter().flat_map(|shard| &shard.partitions);
        let here = partitions.filter(|partition| Some(partition.directory) == directory.id);
        here.map(|partition| partition.valid_bytes).sum()
    };
    let directories = shards.first().map(|shard| &shard.directories[..]).unwrap_or_default();
    let disk = |directory: &Directory| Disk {
        path: directory.path.clone(),
        offline: directory.offline,
        total_bytes: directory.capacity.map(|capacity| capacity.total_bytes),
        usable_bytes: directory.capacity.map(|capacity| capacity.usable_bytes),
        reserve_bytes: directory.capacity.map(|capacity| reserve(capacity.total_bytes)),
        valid_bytes: valid_bytes(directory),
    };
    directories.iter().map(disk).collect()
}

#[cfg(test)]
mod tests;
