//! What a scrape tells of consumer groups: their states and members, how far they have come, and their lag.

use super::lag::{Ages, Lag};
use super::{Snapshot, Text};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One shard's groups.
#[derive(Debug, Clone, Default)]
pub struct GroupFigures {
    /// Groups, by Kafka's name of their state.
    pub states: BTreeMap<&'static str, u64>,
    /// Members of all groups.
    pub members: u64,
    /// What groups have committed.
    pub committed: Vec<CommittedTopic>,
}

/// What one group has committed in one topic.
#[derive(Debug, Clone)]
pub struct CommittedTopic {
    /// The group.
    pub group: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// Partitions, and the offset of the next record to consume in each.
    pub offsets: Vec<(i32, i64)>,
}

pub(super) fn groups(out: &mut Text, shards: &[Snapshot], lags: &[Lag<'_>], ages: &Ages) {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for (state, count) in shards.iter().flat_map(|shard| &shard.groups.states) {
        *states.entry(state).or_default() += count;
    }
    out.head("ringlog_groups", "gauge", "Consumer groups, by state.");
    for (state, count) in states {
        out.line(format_args!("ringlog_groups{{state=\"{state}\"}} {count}"));
    }
    let members = shards.iter().map(|shard| shard.groups.members).sum();
    out.one("ringlog_group_members", "gauge", "Members of all consumer groups.", members);

    let mut rows = |name: &str, help: &str, value: &dyn Fn(&Lag<'_>) -> Option<f64>| {
        out.head(name, "gauge", help);
        for lag in lags {
            let Some(value) = value(lag) else { continue };
            let Lag { topic, index, .. } = lag;
            let group = escaped(lag.group);
            out.line(format_args!(
                "{name}{{group=\"{group}\",topic=\"{topic}\",partition=\"{index}\"}} {value}"
            ));
        }
    };
    rows("ringlog_group_committed_offset", "The offset a group has committed.", &|lag| {
        Some(lag.committed as f64)
    });
    rows("ringlog_group_lag_records", "Records between what a group has committed and the end.", &|lag| {
        lag.behind.as_ref().map(|behind| behind.records as f64)
    });
    rows(
        "ringlog_group_lag_seconds",
        "For how long a group's next record has been there: its age.",
        &|lag| lag.behind.as_ref()?.seconds(ages),
    );
}

/// A label's value: groups may have any name.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::lag::{lags, places};
    use super::super::{PartitionSizes, exposition};
    use super::*;
    use crate::partition::PartitionId;

    #[test]
    fn lag_is_what_lies_between_the_commit_and_the_end() {
        let id = |index| PartitionId { topic: [1; 16], index };
        let partition = |index, high_watermark| PartitionSizes {
            topic: "t".into(),
            id: id(index),
            log_start: 3,
            log_end: 99,
            high_watermark,
            valid_bytes: 0,
            prepared_bytes: 0,
            segments: 1,
            offline: false,
        };
        let committed =
            |group: &str, offsets| CommittedTopic { group: group.into(), topic: "t".into(), offsets };
        let groups = GroupFigures {
            states: BTreeMap::from([("Empty", 2)]),
            members: 3,
            committed: vec![
                committed("g", vec![(0, 7), (2, 1)]),
                committed("a\"b", vec![(1, 50)]),
                committed("old", vec![(0, 1), (1, 39)]),
            ],
        };
        let here = Snapshot { groups, ..Snapshot::default() };
        let there = Snapshot {
            partitions: vec![partition(0, 10), partition(1, 40)],
            groups: GroupFigures { states: BTreeMap::from([("Empty", 1)]), ..GroupFigures::default() },
            ..Snapshot::default()
        };
        let shards = [here, there];
        let lags = lags(&shards);
        // What was deleted has no age: it goes on where the log starts. Nobody asks for what is not there.
        let asked = vec![vec![], vec![(id(0), 3), (id(0), 7), (id(1), 39)]];
        assert_eq!(places(&lags, 2), asked);
        let ages = Ages::from([((id(0), 3), 60_000), ((id(0), 7), 1_250)]);
        let text = exposition(&shards, &lags, &ages);
        for line in [
            "ringlog_groups{state=\"Empty\"} 3",
            "ringlog_group_members 3",
            "ringlog_group_committed_offset{group=\"g\",topic=\"t\",partition=\"0\"} 7",
            "ringlog_group_lag_records{group=\"g\",topic=\"t\",partition=\"0\"} 3",
            "ringlog_group_lag_records{group=\"a\\\"b\",topic=\"t\",partition=\"1\"} 0",
            "ringlog_group_lag_seconds{group=\"g\",topic=\"t\",partition=\"0\"} 1.25",
            "ringlog_group_lag_seconds{group=\"a\\\"b\",topic=\"t\",partition=\"1\"} 0",
            "ringlog_group_lag_seconds{group=\"old\",topic=\"t\",partition=\"0\"} 60",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nin\n{text}");
        }
        for (gone, why) in [
            (
                "ringlog_group_lag_records{group=\"g\",topic=\"t\",partition=\"2\"}",
                "a partition that is not there",
            ),
            (
                "ringlog_group_lag_seconds{group=\"g\",topic=\"t\",partition=\"2\"}",
                "a partition that is not there",
            ),
            ("ringlog_group_lag_seconds{group=\"old\",topic=\"t\",partition=\"1\"}", "one not looked up"),
        ] {
            assert!(!text.contains(gone), "{why} has no lag");
        }
    }
}
