//! DescribeLogDirs: the data directories, and how much of them partitions take.

use super::Context;
use crate::broker::PendingAnswer;
use crate::calls::{Answer, Call};
use crate::cluster::Image;
use ringlog_engine::shard::ShardId;
use ringlog_wire::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ringlog_wire::{ByteString, ErrorCode, Uuid};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

pub(super) async fn handle(context: Rc<Context>, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let broker = &context.broker;
    let shards: Vec<PendingAnswer> =
        (0..broker.shards()).map(|shard| broker.ask(ShardId(shard), Call::Sizes)).collect();
    let mut partitions = Partitions {
        image: broker.image(),
        asked: request.topics.as_deref().map(asked),
        by_directory: BTreeMap::new(),
    };
    for shard in shards {
        let Answer::Sizes(sizes) = shard.await else { unreachable!("sizes are answered with sizes") };
        for (id, bytes) in sizes {
            partitions.add(Uuid(id.topic), id.index, bytes);
        }
    }
    let opened = broker.directories();
    let mut results = Vec::new();
    for path in &broker.config().data_dirs {
        let dir = opened.dirs.iter().find(|dir| dir.path == *path);
        let dir = dir.filter(|dir| !broker.is_directory_offline(dir.id));
        let log_dir = absolute(path);
        let described = match dir {
            Some(dir) => {
                broker.shard().io().capacity(dir.dir, path.clone()).await.map(|capacity| (dir, capacity)).ok()
            }
            None => None,
        };
        results.push(match described {
            Some((dir, capacity)) => DescribeLogDirsResult {
                log_dir,
                topics: partitions.of(dir.id),
                total_bytes: signed(capacity.total_bytes),
                usable_bytes: signed(capacity.usable_bytes),
                ..Default::default()
            },
            None => DescribeLogDirsResult {
                log_dir,
                error_code: ErrorCode::KafkaStorageError,
                ..Default::default()
            },
        });
    }
    DescribeLogDirsResponse { results, ..Default::default() }
}

/// Kafka's bytes are signed.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn asked(topics: &[DescribableLogDirTopic]) -> HashSet<(&str, i32)> {
    let mut all = HashSet::new();
    for DescribableLogDirTopic { topic, partitions } in topics {
        all.extend(partitions.iter().map(|index| (topic.as_ref(), *index)));
    }
    all
}

fn absolute(path: &Path) -> ByteString {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.to_string_lossy().into_owned().into()
}

/// The partitions asked for, by the directories they lie in and their topics' names.
struct Partitions<'a> {
    image: Arc<Image>,
    asked: Option<HashSet<(&'a str, i32)>>,
    by_directory: BTreeMap<Uuid, BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>>>,
}

impl Partitions<'_> {
    fn add(&mut self, topic: Uuid, partition_index: i32, bytes: u64) {
        let Some(topic) = self.image.topic_by_id(topic) else { return };
        let Some(state) = topic.partition(partition_index) else { return };
        if self.asked.as_ref().is_some_and(|asked| !asked.contains(&(&*topic.name, partition_index))) {
            return;
        }
        let row = DescribeLogDirsPartition {
            partition_index,
            partition_size: signed(bytes),
            // The only replica is never behind itself.
            offset_lag: 0,
            is_future_key: false,
        };
        let topics = self.by_directory.entry(state.directory).or_default();
        topics.entry(topic.name.clone()).or_default().push(row);
    }

    fn of(&self, directory: Uuid) -> Vec<DescribeLogDirsTopic> {
        let topics = self.by_directory.get(&directory).into_iter().flatten();
        let topic = |(name, partitions): (&Arc<str>, &Vec<DescribeLogDirsPartition>)| {
            let mut partitions = partitions.clone();
            partitions.sort_by_key(|partition| partition.partition_index);
            DescribeLogDirsTopic { name: (&**name).into(), partitions }
        };
        topics.map(topic).collect()
    }
}
