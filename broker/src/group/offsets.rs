//! The offsets a group has committed, and when they are forgotten.

use std::collections::BTreeMap;
use std::ops::Bound;

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to consume.
    pub offset: i64,
    /// The leader epoch of the last record consumed.
    pub leader_epoch: Option<i32>,
    /// What the client keeps beside it.
    pub metadata: String,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub commit_time: i64,
    /// When it is forgotten, where its client said so (OffsetCommit up to version 4).
    pub expire_time: Option<i64>,
}

impl Committed {
    /// Whether it is forgotten at `now`: past its own time if it has one, else `retention_ms` after `base` (Kafka's
    /// `OffsetExpirationConditionImpl`).
    pub fn is_expired(&self, base: i64, now: i64, retention_ms: i64) -> bool {
        match self.expire_time {
            Some(time) => now >= time,
            None => now.saturating_sub(base) >= retention_ms,
        }
    }
}

/// A group's offsets, by topic and partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets(BTreeMap<String, BTreeMap<i32, Committed>>);

impl Offsets {
    /// The offset of one partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.0.get(topic)?.get(&partition)
    }

    /// Keeps an offset.
    pub fn put(&mut self, topic: &str, partition: i32, committed: Committed) {
        match self.0.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, committed),
            None => self.0.entry(topic.to_owned()).or_default().insert(partition, committed),
        };
    }

    /// Forgets an offset.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.0.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.0.remove(topic);
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The topics after this one, in name order; all of them after none.
    pub fn topics_after(
        &self,
        topic: Option<&str>,
    ) -> impl Iterator<Item = (&String, &BTreeMap<i32, Committed>)> {
        let from = topic.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<str, _>((from, Bound::Unbounded))
    }

    /// Every offset, with its topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&String, i32, &Committed)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic, *partition, committed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_forgotten_at_its_own_time_or_after_the_retention() {
        let check = |expire_time, base, now, expected: bool| {
            let committed = Committed {
                offset: 1,
                leader_epoch: None,
                metadata: String::new(),
                commit_time: 0,
                expire_time,
            };
            assert_eq!(committed.is_expired(base, now, 100), expected, "{expire_time:?} {base} {now}");
        };
        check(None, 1000, 1099, false);
        check(None, 1000, 1100, true);
        check(Some(5000), 1000, 4999, false);
        check(Some(5000), 1000, 5000, true);
        check(None, i64::MIN, i64::MAX, true);
    }

    #[test]
    fn a_topic_without_offsets_is_gone() {
        let committed = Committed {
            offset: 1,
            leader_epoch: None,
            metadata: String::new(),
            commit_time: 0,
            expire_time: None,
        };
        let mut offsets = Offsets::default();
        offsets.put("t", 1, committed.clone());
        offsets.put("t", 0, committed);
        assert_eq!(
            offsets.iter().map(|(topic, partition, _)| (topic.as_str(), partition)).collect::<Vec<_>>(),
            [("t", 0), ("t", 1)]
        );
        offsets.remove("t", 0);
        offsets.remove("u", 0);
        assert!(offsets.get("t", 0).is_none() && offsets.get("t", 1).is_some() && !offsets.is_empty());
        offsets.remove("t", 1);
        assert!(offsets.is_empty());
    }
}
