//! What a scrape tells of consumer groups: their states and members, how far they have come, and their lag.

use super::Snapshot;
use super::exposition::{Text, escaped};
use super::lag::{Ages, Lag};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One shard's groups.
#[derive(Debug, Clone, Default)]
pub struct GroupFigures {
    /// Who they are.
    pub groups: Vec<GroupRow>,
    /// What groups have committed.
    pub committed: Vec<CommittedTopic>,
}

/// One group.
#[derive(Debug, Clone)]
pub struct GroupRow {
    /// Its name.
    pub group: Arc<str>,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// How many members it has.
    pub members: usize,
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

pub(super) fn groups(out: &mut Text<'_>, shards: &[Snapshot], lags: &[Lag], ages: &Ages) {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    let mut members = 0;
    for row in shards.iter().flat_map(|shard| &shard.groups.groups) {
        *states.entry(row.state).or_default() += 1;
        members += row.members as u64;
    }
    out.head("ringlog_groups", "gauge", "Consumer groups, by state.");
    for (state, count) in states {
        out.line(format_args!("ringlog_groups{{state=\"{state}\"}} {count}"));
    }
    out.one("ringlog_group_members", "gauge", "Members of all consumer groups.", members);

    let name = "ringlog_group_committed_offset";
    rows(out, (name, "The offset a group has committed."), lags, |out, lag| {
        out.row(lag.index, lag.committed);
    });
    let name = "ringlog_group_lag_records";
    let help = "Records between what a group has committed and the end.";
    rows(out, (name, help), lags, |out, lag| {
        if let Some(behind) = &lag.behind {
            out.row(lag.index, behind.records);
        }
    });
    let name = "ringlog_group_lag_seconds";
    let help = "For how long a group's next record has been there: its age.";
    rows(out, (name, help), lags, |out, lag| {
        if let Some(millis) = lag.behind.as_ref().and_then(|behind| behind.millis(ages)) {
            out.row_of_millis(lag.index, millis);
        }
    });
}

fn rows(out: &mut Text<'_>, (name, help): (&str, &str), lags: &[Lag], row: impl Fn(&mut Text<'_>, &Lag)) {
    out.head(name, "gauge", help);
    for of_topic in lags.chunk_by(Lag::is_beside) {
        let (group, topic) = (escaped(&of_topic[0].group), &of_topic[0].topic);
        out.begin_rows(format_args!("{name}{{group=\"{group}\",topic=\"{topic}\""));
        of_topic.iter().for_each(|lag| row(out, lag));
    }
}

#[cfg(test)]
mod tests {
    use super::super::PartitionSizes;
    use super::super::exposition::text_of;
    use super::super::lag::{lags, places};
    use super::*;
    use crate::partition::PartitionId;

    #[test]
    fn lag_is_what_lies_between_the_commit_and_the_end() {
        let id = |index| PartitionId { topic: [1; 16], index };
        let partition = |index, high_watermark| PartitionSizes {
            topic: "t".into(),
            id: id(index),
            directory: ringlog_wire::Uuid([7; 16]),
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
        let row = |group: &str, state, members| GroupRow { group: group.into(), state, members };
        let groups = GroupFigures {
            groups: vec![row("g", "Empty", 0), row("old", "Stable", 3)],
            committed: vec![
                committed("g", vec![(0, 7), (2, 1)]),
                committed("a\"b", vec![(1, 50)]),
                committed("old", vec![(0, 1), (1, 39)]),
            ],
        };
        let here = Snapshot { groups, ..Snapshot::default() };
        let there = Snapshot {
            partitions: vec![partition(0, 10), partition(1, 40)],
            groups: GroupFigures { groups: vec![row("a\"b", "Empty", 0)], committed: vec![] },
            ..Snapshot::default()
        };
        let shards = [here, there];
        let lags = lags(&shards);
        // What was deleted has no age: it goes on where the log starts. Nobody asks for what is not there.
        let asked = vec![vec![], vec![(id(0), 3), (id(0), 7), (id(1), 39)]];
        assert_eq!(places(&lags, 2), asked);
        let ages = Ages::from([((id(0), 3), 60_000), ((id(0), 7), 1_250)]);
        let text = text_of(shards.into(), lags, ages);
        for line in [
            "ringlog_groups{state=\"Empty\"} 2",
            "ringlog_groups{state=\"Stable\"} 1",
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
