//! What the page is told.

use super::super::histogram::Histogram;
use super::super::scrapes::Stage;
use super::super::{CommittedTopic, GroupFigures, PartitionSizes, Vitals};
use super::*;
use crate::partition::PartitionId;
use ringlog_engine::io::Capacity;
use ringlog_wire::Uuid;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn partition(topic: &str, index: i32, log_start: i64, log_end: i64) -> PartitionSizes {
    PartitionSizes {
        topic: topic.into(),
        id: PartitionId { topic: [topic.len() as u8; 16], index },
        directory: Uuid([1; 16]),
        log_start,
        log_end,
        high_watermark: log_end,
        valid_bytes: 100 * (log_end - log_start) as u64,
        prepared_bytes: 0,
        segments: 1,
        offline: false,
    }
}

fn shard(seconds: u64, partitions: Vec<PartitionSizes>) -> Snapshot {
    let vitals = Vitals { at_nanos: seconds * 1_000_000_000, ..Vitals::default() };
    Snapshot { vitals, partitions, ..Snapshot::default() }
}

fn told(latest: &Latest, query: &[(&str, &str)]) -> Value {
    let ask = Ask::new(query.iter().copied());
    let overview = Overview::new(Scrapes::new(0));
    let shown = latest.groups_shown(&ask);
    let report = overview.report(latest, &ask, (Vec::new(), Now::default()), shown);
    serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap()
}

fn names(listed: &Value) -> Vec<&str> {
    listed["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn topics_are_summed_over_shards_and_ordered_as_asked() {
    let mut latest = Latest::default();
    latest.renew(vec![shard(1, vec![partition("Big", 0, 0, 9_000), partition("fast", 0, 5, 10)])], 0);
    let first = told(&latest, &[]);
    assert_eq!(first["topics"]["rows"][0]["per_second"], Value::Null, "there is no rate yet");
    let here = shard(3, vec![partition("Big", 1, 0, 100), partition("fast", 0, 5, 50)]);
    let there = shard(3, vec![partition("Big", 0, 0, 9_000), partition("new", 0, 0, 4)]);
    latest.renew(vec![here, there], 1);
    let all = told(&latest, &[]);
    assert_eq!(names(&all["topics"]), ["Big", "fast", "new"]);
    let expected = json!({
        "name": "Big", "partitions": 2, "offline": 0, "records": 9_100, "valid_bytes": 910_000, "per_second": 50.0
    });
    assert_eq!(all["topics"]["rows"][0], expected);
    for (order, expected) in [
        ("rate", ["Big", "fast", "new"]),
        ("records", ["Big", "fast", "new"]),
        ("name", ["Big", "fast", "new"]),
        ("partitions", ["Big", "fast", "new"]),
        ("size", ["Big", "fast", "new"]),
    ] {
        assert_eq!(names(&told(&latest, &[("order", order)])["topics"]), expected, "{order}");
    }
    latest.renew(vec![shard(5, vec![partition("Big", 0, 0, 9_000), partition("new", 0, 0, 40)])], 2);
    assert_eq!(names(&told(&latest, &[("order", "rate")])["topics"]), ["new", "Big"]);
    assert_eq!(names(&told(&latest, &[("order", "size")])["topics"]), ["Big", "new"]);
    let some = told(&latest, &[("topics", "BIG"), ("topics_max", "0")]);
    assert_eq!((&some["topics"]["matching"], &some["topics"]["all"]), (&json!(1), &json!(2)));
    assert!(names(&some["topics"]).is_empty());
}

#[test]
fn partitions_come_a_page_at_a_time() {
    let mut latest = Latest::default();
    let (odd, even): (Vec<i32>, Vec<i32>) = (0..60).partition(|index| index % 2 == 1);
    let shards = [odd, even].map(|indexes| {
        shard(1, indexes.into_iter().map(|index| partition("t", index, 0, i64::from(index))).collect())
    });
    latest.renew(shards.into(), 0);
    let page = told(&latest, &[("topic", "t"), ("topic_from", "50")])["topic"].clone();
    assert_eq!((&page["all"], page["rows"].as_array().unwrap().len()), (&json!(60), 10));
    assert_eq!((&page["rows"][0]["index"], &page["rows"][0]["log_end"]), (&json!(50), &json!(50)));
    assert_eq!(told(&latest, &[("topic", "t")])["topic"]["rows"].as_array().unwrap().len(), ROWS);
    assert_eq!(told(&latest, &[("topic", "gone")])["topic"]["all"], json!(0));
}

#[test]
fn groups_that_lag_most_come_first() {
    let id = |index| PartitionId { topic: [1; 16], index };
    let committed = |group: &str, offsets| CommittedTopic { group: group.into(), topic: "t".into(), offsets };
    let row = |group: &str, members| super::super::GroupRow { group: group.into(), state: "Stable", members };
    let hostile = "<img src=x onerror=alert(1)>\"\\";
    let groups = GroupFigures {
        groups: vec![row("even", 1), row(hostile, 2), row("idle", 0)],
        committed: vec![committed("even", vec![(0, 10)]), committed(hostile, vec![(0, 4), (1, 1), (9, 1)])],
    };
    let mut latest = Latest::default();
    let shards =
        vec![Snapshot { groups, ..shard(1, vec![partition("t", 0, 0, 10), partition("t", 1, 0, 3)]) }];
    latest.renew(shards, 0);
    latest.ages = Ages::from([((id(0), 4), 2_500)]);
    let all = told(&latest, &[("group", hostile), ("group_from", "1")]);
    assert_eq!(names(&all["groups"]), [hostile, "even", "idle"]);
    let expected = json!({
        "name": hostile, "state": "Stable", "members": 2, "partitions": 3, "lag_records": 8, "lag_seconds": 2.5, "at_least": true
    });
    assert_eq!(all["groups"]["rows"][0], expected);
    assert_eq!(all["groups"]["rows"][1]["lag_seconds"], json!(0.0));
    assert_eq!(all["groups"]["rows"][2]["lag_records"], Value::Null);
    assert_eq!(all["lag_records"], json!(8));
    assert_eq!(all["group"]["rows"][0]["lag_records"], json!(2));
    assert_eq!(
        all["group"]["rows"][1]["lag_records"],
        Value::Null,
        "a partition that is not there has no lag"
    );
}

#[test]
fn what_is_not_well_is_said_and_the_worst_first() {
    let directory = |path: &str, usable: u64| Directory {
        path: path.into(),
        id: Some(Uuid([1; 16])),
        offline: false,
        capacity: Some(Capacity { total_bytes: 100 << 30, usable_bytes: usable }),
    };
    let offline = Directory { id: None, offline: true, capacity: None, ..directory("/dead", 0) };
    let memory = |used| MemoryUse { budget: "requests", used, limit: 100 };
    let failed = PartitionSizes { offline: true, ..partition("t", 0, 0, 1) };
    let told = |snapshot: Snapshot, stage, busy: f64| {
        let mut now = Now::default();
        now.busy = vec![0.1, busy];
        conditions::conditions(&[snapshot, Snapshot::default()], stage, &now)
            .into_iter()
            .map(|one| format!("{}{}", if one.bad { "! " } else { "" }, one.text))
            .collect::<Vec<_>>()
    };
    let well = || {
        let mut snapshot = shard(1, vec![partition("t", 0, 0, 1)]);
        snapshot.directories = vec![directory("/a", 50 << 30)];
        snapshot.vitals.memory =
            [memory(90), memory(0), MemoryUse { budget: "cache", used: 100, limit: 100 }];
        snapshot
    };
    assert!(told(well(), Stage::Ready, 0.9).is_empty());
    assert_eq!(told(well(), Stage::Starting, 0.0), ["The broker is starting: clients cannot connect yet"]);
    assert_eq!(told(well(), Stage::Stopping, 0.0), ["The broker is stopping"]);
    let ill = Snapshot {
        directories: vec![directory("/a", 200 << 20), directory("/b", 9 << 30), offline],
        damaged: 2,
        uncleanable: 1,
        unopened: 1,
        vitals: Vitals {
            memory: [memory(96), memory(0), memory(0)],
            requests: BTreeMap::from([(ringlog_wire::ApiKey::Produce, Histogram::default())]),
            ..Vitals::default()
        },
        ..shard(1, vec![failed])
    };
    let expected = [
        "! The disk of /a is full: what would take more room is refused",
        "! Data directory /dead is offline",
        "! 2 partitions are offline",
        "The disk of /b has 9 % of its room left",
        "Stored bytes were found damaged, 2 times since the start",
        "1 compacted partitions are not cleaned any more: damage was met in them",
        "Memory for requests is used up: clients wait for it",
        "Shard 1 is busy for 97 % of the time",
    ];
    assert_eq!(told(ill, Stage::Ready, 0.97), expected);
}

#[test]
fn a_page_asks_for_what_it_shows() {
    let ask = Ask::new([
        ("since", "7"),
        ("topics", "A b"),
        ("order", "size"),
        ("topics_max", "99999"),
        ("group_from", "-1"),
        ("x", "y"),
    ]);
    assert_eq!((ask.since, &*ask.topics, ask.order, ask.topics_max), (7, "a b", Order::Size, ROWS_MAX));
    assert_eq!((ask.group_from, ask.topic), (0, None));
}
