//! How far groups lag: in records, and for how long what they have not consumed has been there.
//!
//! The lag in seconds is now less the time of the record that comes next: of its batch's first record, so that one header tells it. Where all is
//! consumed it is 0. It is looked up when a scrape asks, by the shard that owns the partition, which remembers it until the group has gone on,
//! and spends no more than [`LOOK_UP_TIME_MAX`] on it: what was not looked up by then is left out, and is the next scrape's.

use super::{PartitionSizes, Snapshot};
use crate::broker::Broker;
use crate::partition::PartitionId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// An offset of a partition.
pub(super) type Place = (PartitionId, i64);

/// The longest that one scrape's look-ups may take on a shard. Between them it does everything else.
const LOOK_UP_TIME_MAX: Duration = Duration::from_secs(1);
/// Look-ups in a row, where memory answers them.
const LOOK_UPS_AT_ONCE: usize = 32;

/// The times that one shard has looked up for the last scrape: in milliseconds, where there is one.
#[derive(Default)]
pub(super) struct Times(HashMap<Place, Option<i64>>);

impl Times {
    /// For how many milliseconds what lies next at each place has been there.
    pub(super) async fn ages(&mut self, broker: &Broker, places: &[Place]) -> Vec<Option<u64>> {
        let shard = broker.shard();
        let deadline = shard.now() + LOOK_UP_TIME_MAX;
        let known = std::mem::take(&mut self.0);
        let mut ages = Vec::with_capacity(places.len());
        for (n, place) in places.iter().enumerate() {
            let time = match known.get(place) {
                Some(time) => Some(*time),
                None if shard.now() < deadline => look_up(broker, *place).await,
                None => None,
            };
            if let Some(time) = time {
                self.0.insert(*place, time);
            }
            let age = |time: i64| u64::try_from(shard.wall_time().0.saturating_sub(time)).unwrap_or(0);
            ages.push(time.flatten().map(age));
            if n % LOOK_UPS_AT_ONCE == LOOK_UPS_AT_ONCE - 1 {
                shard.yield_now().await;
            }
        }
        ages
    }
}

/// The time of what lies next; `None` where that cannot be told now.
async fn look_up(broker: &Broker, (id, offset): Place) -> Option<Option<i64>> {
    let partition = broker.partition(id)?;
    partition.log().time_from(offset).await.ok()
}

/// One partition of a group's.
pub(super) struct Lag {
    pub(super) group: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) index: i32,
    /// What the group has committed.
    pub(super) committed: i64,
    /// What it has not consumed; `None` where the partition is not there.
    pub(super) behind: Option<Behind>,
}

/// What a group has not consumed of a partition.
pub(super) struct Behind {
    pub(super) records: i64,
    /// Where it goes on, and on which shard; `None` where it has consumed all.
    next: Option<(usize, Place)>,
}

/// How far all groups have come, by group, topic and partition as the shards tell them.
pub(super) fn lags(shards: &[Snapshot]) -> Vec<Lag> {
    let ends = Ends::of(shards);
    let committed = || shards.iter().flat_map(|shard| &shard.groups.committed);
    let mut lags = Vec::with_capacity(committed().map(|row| row.offsets.len()).sum());
    for row in committed() {
        let topic = ends.topic(&row.topic);
        for &(index, committed) in &row.offsets {
            let behind = Ends::partition(topic, index).map(|(shard, partition)| {
                // A group that was set past the end lags by nothing.
                let records = (partition.high_watermark - committed).max(0);
                let next = (partition.id, committed.max(partition.log_start));
                Behind { records, next: (next.1 < partition.high_watermark).then_some((shard, next)) }
            });
            lags.push(Lag { group: row.group.clone(), topic: row.topic.clone(), index, committed, behind });
        }
    }
    lags
}

/// All partitions, by topic: a group's are mostly those of few topics.
struct Ends<'a>(HashMap<&'a str, OfTopic<'a>>);

/// By index, with the shard that has it.
type OfTopic<'a> = Vec<Option<(usize, &'a PartitionSizes)>>;

impl<'a> Ends<'a> {
    fn of(shards: &'a [Snapshot]) -> Self {
        let mut ends: HashMap<&str, OfTopic<'_>> = HashMap::new();
        for (shard, snapshot) in shards.iter().enumerate() {
            // A shard tells those of a topic in a row.
            for of_topic in snapshot.partitions.chunk_by(PartitionSizes::is_beside) {
                let known = ends.entry(&of_topic[0].topic).or_default();
                for partition in of_topic {
                    let index = usize::try_from(partition.id.index).expect("partitions count from 0");
                    if known.len() <= index {
                        known.resize(index + 1, None);
                    }
                    known[index] = Some((shard, partition));
                }
            }
        }
        Self(ends)
    }

    fn topic(&self, topic: &str) -> &[Option<(usize, &'a PartitionSizes)>] {
        self.0.get(topic).map(|known| &known[..]).unwrap_or_default()
    }

    fn partition(
        topic: &[Option<(usize, &'a PartitionSizes)>],
        index: i32,
    ) -> Option<(usize, &'a PartitionSizes)> {
        *topic.get(usize::try_from(index).ok()?)?
    }
}

/// What each shard is to look up, each place once.
pub(super) fn places<'a>(lags: impl IntoIterator<Item = &'a Lag>, shards: usize) -> Vec<Vec<Place>> {
    let mut places = vec![Vec::new(); shards];
    for (shard, place) in lags.into_iter().filter_map(|lag| lag.behind.as_ref()?.next) {
        places[shard].push(place);
    }
    for of_shard in &mut places {
        of_shard.sort_unstable();
        of_shard.dedup();
    }
    places
}

/// What the shards have looked up, by place.
pub(super) type Ages = BTreeMap<Place, u64>;

impl Lag {
    /// Whether it is of the same group and topic.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.group, &other.group) && Arc::ptr_eq(&self.topic, &other.topic)
    }
}

impl Behind {
    /// The lag in milliseconds, if it is known.
    pub(super) fn millis(&self, ages: &Ages) -> Option<u64> {
        self.next.map_or(Some(0), |(_, place)| ages.get(&place).copied())
    }

    /// The same in seconds.
    pub(super) fn seconds(&self, ages: &Ages) -> Option<f64> {
        self.millis(ages).map(|millis| Duration::from_millis(millis).as_secs_f64())
    }
}
