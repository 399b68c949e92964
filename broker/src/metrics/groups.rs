//! What a scrape tells of consumer groups: their states and members, how far they have come, and their lag in records.

use super::{Snapshot, Text};
use std::collections::BTreeMap;

/// One shard's groups.
#[derive(Debug, Clone, Default)]
pub struct GroupFigures {
    /// Groups, by Kafka's name of their state.
    pub states: BTreeMap<&'static str, u64>,
    /// Members of all groups.
    pub members: u64,
    /// Committed offsets: group, topic, partition, offset.
    pub committed: Vec<(String, String, i32, i64)>,
}

pub(super) fn groups(out: &mut Text, shards: &[Snapshot]) {
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

    let ends: BTreeMap<(&str, i32), i64> = shards
        .iter()
        .flat_map(|shard| &shard.partitions)
        .map(|partition| ((&*partition.topic, partition.index), partition.high_watermark))
        .collect();
    let committed = || shards.iter().flat_map(|shard| &shard.groups.committed);
    let labels = |group: &str, topic: &str, index: i32| {
        format!("{{group=\"{}\",topic=\"{topic}\",partition=\"{index}\"}}", escaped(group))
    };
    out.head("ringlog_group_committed_offset", "gauge", "The offset a group has committed.");
    for (group, topic, index, offset) in committed() {
        out.line(format_args!("ringlog_group_committed_offset{} {offset}", labels(group, topic, *index)));
    }
    out.head("ringlog_group_lag_records", "gauge", "Records between what a group has committed and the end.");
    for (group, topic, index, offset) in committed() {
        // A group that was set past the end lags by nothing.
        let Some(end) = ends.get(&(topic.as_str(), *index)) else { continue };
        let lag = (end - offset).max(0);
        out.line(format_args!("ringlog_group_lag_records{} {lag}", labels(group, topic, *index)));
    }
}

/// A label's value: groups may have any name.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::{PartitionSizes, exposition};
    use super::*;

    #[test]
    fn lag_is_what_lies_between_the_commit_and_the_end() {
        let partition = |index, high_watermark| PartitionSizes {
            topic: "t".into(),
            index,
            log_start: 0,
            log_end: 99,
            high_watermark,
            valid_bytes: 0,
            prepared_bytes: 0,
            segments: 1,
            offline: false,
        };
        let committed = |group: &str, index, offset| (group.to_owned(), "t".to_owned(), index, offset);
        let groups = GroupFigures {
            states: BTreeMap::from([("Empty", 2)]),
            members: 3,
            committed: vec![committed("g", 0, 7), committed("a\"b", 1, 50), committed("g", 2, 1)],
        };
        let here = Snapshot { groups, ..Snapshot::default() };
        let there = Snapshot {
            partitions: vec![partition(0, 10), partition(1, 40)],
            groups: GroupFigures { states: BTreeMap::from([("Empty", 1)]), ..GroupFigures::default() },
            ..Snapshot::default()
        };
        let text = exposition(&[here, there]);
        for line in [
            "ringlog_groups{state=\"Empty\"} 3",
            "ringlog_group_members 3",
            "ringlog_group_committed_offset{group=\"g\",topic=\"t\",partition=\"0\"} 7",
            "ringlog_group_lag_records{group=\"g\",topic=\"t\",partition=\"0\"} 3",
            "ringlog_group_lag_records{group=\"a\\\"b\",topic=\"t\",partition=\"1\"} 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nin\n{text}");
        }
        let gone = "ringlog_group_lag_records{group=\"g\",topic=\"t\",partition=\"2\"}";
        assert!(!text.contains(gone), "a partition that is not there has no end");
    }
}
