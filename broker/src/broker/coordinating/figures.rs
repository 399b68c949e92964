//! What a scrape is told of groups, looked at in portions: a shard may have tens of thousands of groups, and one group offsets in as many partitions.

use super::{Broker, Progress};
use crate::group::Coordinator;
use crate::metrics::{CommittedTopic, GroupFigures, GroupRow};
use std::sync::Arc;

/// So many groups and offsets are looked at in a row, some tens of microseconds, before the shard's other tasks have their turn. Of one topic
/// all are: that is as many more as it has partitions.
const AT_ONCE: usize = 512;

impl Broker {
    /// What this shard's groups look like to a scrape. They may change meanwhile: each is told as it is when it is looked at.
    pub async fn group_figures(&self) -> GroupFigures {
        let mut figures = GroupFigures::default();
        let mut left = AT_ONCE;
        for coordinating in self.coordinating() {
            let mut walk = Walk::default();
            while coordinating.progress.get() == Progress::Serving
                && !walk.go_on(&coordinating.coordinator.borrow(), &mut left, &mut figures)
            {
                self.shard().yield_now().await;
                left = AT_ONCE;
            }
        }
        figures
    }
}

/// How far one coordinator's groups have been looked at.
#[derive(Default)]
struct Walk {
    /// The group that was begun last,
    group: Option<Arc<str>>,
    /// and the last topic that was taken of it.
    topic: Option<Arc<str>>,
}

impl Walk {
    /// Looks at as much as is left; returns whether that was all there is.
    fn go_on(&mut self, coordinator: &Coordinator, left: &mut usize, figures: &mut GroupFigures) -> bool {
        let first = self.group.clone().unwrap_or_default();
        for (id, group, offsets) in coordinator.groups_from(&first) {
            let begun = self.group.clone().filter(|begun| **begun == **id);
            let id = begun.unwrap_or_else(|| {
                let (id, state) = (Arc::<str>::from(id.as_str()), group.state().name());
                figures.groups.push(GroupRow { group: id.clone(), state, members: group.member_count() });
                (self.group, self.topic) = (Some(id.clone()), None);
                *left = left.saturating_sub(1);
                id
            });
            let after = self.topic.clone();
            for (topic, partitions) in offsets.topics_after(after.as_deref()) {
                if *left == 0 {
                    return false;
                }
                let topic: Arc<str> = topic.as_str().into();
                figures.committed.push(CommittedTopic {
                    group: id.clone(),
                    topic: topic.clone(),
                    offsets: partitions.iter().map(|(index, committed)| (*index, committed.offset)).collect(),
                });
                self.topic = Some(topic);
                *left = left.saturating_sub(partitions.len());
            }
            if *left == 0 {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerConfig, Settings};
    use crate::group::Committed;
    use crate::group::record::GroupRecord;

    fn commit(coordinator: &mut Coordinator, group: &str, topic: &str, partition: i32, value: Option<i64>) {
        let value = value.map(|offset| Committed {
            offset,
            leader_epoch: None,
            metadata: String::new(),
            commit_time: 0,
            expire_time: None,
        });
        coordinator.replay(GroupRecord::Offset {
            group: group.into(),
            topic: topic.into(),
            partition,
            value,
        });
    }

    /// Group `empty` has nothing, `a` something in three topics, `b` in one.
    fn coordinator() -> Coordinator {
        let config = BrokerConfig::new(Settings::default()).unwrap();
        let mut coordinator = Coordinator::new(config.groups);
        for (topic, partitions) in [("one", 1), ("three", 3), ("two", 2)] {
            (0..partitions).for_each(|partition| commit(&mut coordinator, "a", topic, partition, Some(7)));
        }
        commit(&mut coordinator, "b", "one", 0, Some(9));
        commit(&mut coordinator, "empty", "one", 0, Some(9));
        commit(&mut coordinator, "empty", "one", 0, None);
        coordinator
    }

    fn told(figures: &GroupFigures) -> (Vec<&str>, Vec<(&str, &str, usize)>) {
        let committed = figures.committed.iter().map(|row| (&*row.group, &*row.topic, row.offsets.len()));
        (figures.groups.iter().map(|row| &*row.group).collect(), committed.collect())
    }

    #[test]
    fn portions_of_any_size_are_together_all_there_is() {
        let coordinator = coordinator();
        for portion in 1..20 {
            let (mut walk, mut figures, mut portions) = (Walk::default(), GroupFigures::default(), 1);
            while !walk.go_on(&coordinator, &mut portion.clone(), &mut figures) {
                portions += 1;
            }
            let committed = vec![("a", "one", 1), ("a", "three", 3), ("a", "two", 2), ("b", "one", 1)];
            assert_eq!(told(&figures), (vec!["a", "b", "empty"], committed), "in portions of {portion}");
            assert!((portions > 1) == (portion <= 10), "{portions} portions of {portion}");
        }
    }

    #[test]
    fn what_goes_away_between_two_portions_is_passed_over() {
        let mut coordinator = coordinator();
        let (mut walk, mut figures) = (Walk::default(), GroupFigures::default());
        assert!(!walk.go_on(&coordinator, &mut 2, &mut figures));
        assert_eq!(told(&figures), (vec!["a"], vec![("a", "one", 1)]));
        coordinator.replay(GroupRecord::Group { group: "a".into(), value: None });
        for (topic, partitions) in [("one", 1), ("three", 3), ("two", 2)] {
            (0..partitions).for_each(|partition| commit(&mut coordinator, "a", topic, partition, None));
        }
        commit(&mut coordinator, "b", "one", 0, None);
        commit(&mut coordinator, "b", "two", 0, Some(1));
        assert!(walk.go_on(&coordinator, &mut 100, &mut figures));
        assert_eq!(told(&figures), (vec!["a", "b", "empty"], vec![("a", "one", 1), ("b", "two", 1)]));
    }
}
